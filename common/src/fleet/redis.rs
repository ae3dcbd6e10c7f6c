//! A fleet in Redis. Every exchange is one script and uses Redis' clock. All keys have one hash tag, so they
//! are on one node of a cluster. The tag has an underscore, which no tenant's name contains.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::ledger::{fleet_full_failure, late_report_failure, timestamp};
use super::{
    CircuitUpdate, Fleet, FleetAnswer, FleetReport, MAXIMUM_CHANGES, MAXIMUM_CIRCUITS, MAXIMUM_MEMBERS,
    MAXIMUM_SERVERS, Member, OpenCircuit, PauseReport, ServerAnswer, ServerName, ServerPause, ServerReport,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::TenantId;
use crate::redis::{LazyScript, RedisStore, Repeat};

static EXCHANGE: LazyScript = LazyScript::new(include_str!("exchange.lua"));

static MEMBERS: LazyScript = LazyScript::new(
    "local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local members = {}
local alive = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES')
for place = 1, #alive, 2 do
  local member = redis.call('HGET', KEYS[1], alive[place])
  if member then
    table.insert(members, { member, tonumber(alive[place + 1]) - tonumber(now) })
  end
end
return members",
);

// KEYS: circuits and changes, as for the exchange. ARGV: most circuits returned.
static CIRCUITS: LazyScript = LazyScript::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open, most, page = {}, tonumber(ARGV[1]), 500
for first = 0, redis.call('ZCARD', KEYS[2]) - 1, page do
  for _, tenant in ipairs(redis.call('ZREVRANGE', KEYS[2], first, first + page - 1)) do
    local packed = redis.call('HGET', KEYS[1], tenant)
    local circuit = packed and cmsgpack.unpack(packed) or {}
    if circuit.failure and #open < most then
      table.insert(open, {
        tenant = tenant,
        version = circuit.version,
        open = {
          failure = circuit.failure,
          failures = circuit.failures,
          opened_ago_ms = math.max(0, now - circuit.opened),
          left_ms = math.max(0, circuit.ends - now),
        },
      })
    end
  end
end
return cmsgpack.pack(open)",
);

// KEYS of both scripts: for each server its hash and the hash about its pause.
static PAUSES: LazyScript = LazyScript::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pauses = {}
for place = 1, #KEYS, 2 do
  local ends = tonumber(redis.call('HGET', KEYS[place], 'pause') or '0')
  local pause = { paused = ends > now, ends = ends }
  if pause.paused then
    local known = redis.call('HMGET', KEYS[place + 1], 'since', 'tenant', 'why')
    pause.since = tonumber(known[1] or '0')
    pause.tenant = known[2] or nil
    pause.why = known[3] or nil
  end
  table.insert(pauses, pause)
end
return cmsgpack.pack(pauses)",
);

static END_PAUSES: LazyScript = LazyScript::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for place = 1, #KEYS, 2 do
  local ends = tonumber(redis.call('HGET', KEYS[place], 'pause') or '0')
  if ends > now then
    local note = KEYS[place + 1]
    redis.call('HDEL', KEYS[place], 'pause')
    redis.call('HDEL', note, 'since', 'tenant', 'why')
    redis.call('HSET', note, 'ended', string.format('%.0f', now))
    redis.call('PEXPIRE', note, string.format('%.0f', math.max(redis.call('PTTL', note), ends - now)))
    count = count + 1
  end
end
return count",
);

static LEAVE: LazyScript = LazyScript::new(
    "redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return redis.call('SREM', KEYS[4], ARGV[1])",
);

/// What processes share, in Redis. Clones share the connection.
#[derive(Debug, Clone)]
pub struct RedisFleet {
    store: RedisStore,
    prefix: String,
}

/// The report as the script reads it.
#[derive(Serialize)]
struct WireReport<'a> {
    name: &'a str,
    number: u64,
    lifetime_ms: u64,
    works: bool,
    servers: Vec<WireServer>,
    circuits: Vec<WireCircuitReport<'a>>,
    known: u64,
    maximum_members: usize,
    maximum_circuits: usize,
    maximum_changes: usize,
}

/// A server of the report; its name is in its key.
#[derive(Serialize)]
struct WireServer {
    limit: u32,
    holds: u32,
    wants: u32,
    demand: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause: Option<PauseReport>,
}

#[derive(Serialize)]
struct WireCircuitReport<'a> {
    tenant: &'a TenantId,
    base: u64,
    open: Option<WireOpenCircuit>,
}

/// The failure is JSON text, which the script does not read.
#[derive(Serialize, Deserialize)]
struct WireOpenCircuit {
    failure: String,
    failures: u32,
    opened_ago_ms: u64,
    left_ms: u64,
}

#[derive(Deserialize)]
struct WireCircuitUpdate {
    tenant: TenantId,
    version: u64,
    #[serde(default)]
    open: Option<WireOpenCircuit>,
}

/// A pause as the script answers it.
#[derive(Deserialize)]
struct WirePause {
    paused: bool,
    ends: u64,
    /// 0 if it is not known.
    #[serde(default)]
    since: u64,
    #[serde(default)]
    tenant: Option<TenantId>,
    #[serde(default)]
    why: Option<String>,
}

impl WirePause {
    fn into_server_pause(self) -> Option<ServerPause> {
        self.paused.then(|| ServerPause {
            since: (self.since > 0).then(|| timestamp(self.since)),
            until: timestamp(self.ends),
            tenant: self.tenant,
            why: self.why,
        })
    }
}

/// The answer of the script.
#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
enum WireAnswer {
    #[serde(rename = "told")]
    Accepted {
        now_ms: u64,
        workers: u32,
        servers: Vec<ServerAnswer>,
        circuits: Vec<WireCircuitUpdate>,
        known: u64,
    },
    Late,
    Crowded,
}

fn milliseconds(duration: Duration) -> u64 {
    // Longer times are cut to a year; larger numbers would lose digits in Lua.
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(366 * 24 * 3600 * 1000)
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::RedisUnavailable,
        format!("what processes share in Redis cannot be read or written: {error}"),
    )
}

impl RedisFleet {
    /// Returns a fleet whose keys begin with `prefix`, which must not contain braces.
    #[must_use]
    pub fn new(store: RedisStore, prefix: &str) -> Self {
        Self {
            store,
            prefix: prefix.to_owned(),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{{_fleet}}:{name}", self.prefix)
    }

    fn member_keys(&self) -> Vec<String> {
        ["members", "alive", "numbers", "works"]
            .iter()
            .map(|name| self.key(name))
            .collect()
    }

    fn server_key(&self, name: &str) -> String {
        self.key(&format!("server:{name}"))
    }

    fn pause_key(&self, name: &str) -> String {
        self.key(&format!("pause:{name}"))
    }

    /// Returns the keys for the scripts about pauses.
    fn pause_keys(&self, servers: &[ServerName]) -> Vec<String> {
        servers
            .iter()
            .map(ToString::to_string)
            .flat_map(|name| [self.server_key(&name), self.pause_key(&name)])
            .collect()
    }

    fn wire_report<'a>(report: &'a FleetReport, servers: &[ServerReport]) -> Result<WireReport<'a>, Failure> {
        let circuits = report.circuits.iter().take(MAXIMUM_CHANGES).map(|reported| {
            let open = reported.circuit.as_ref().map(|open| {
                Ok(WireOpenCircuit {
                    failure: serde_json::to_string(&open.failure).map_err(unreadable)?,
                    failures: open.failures,
                    opened_ago_ms: open.opened_ago_ms.min(milliseconds(Duration::MAX)),
                    left_ms: open.left_ms.min(milliseconds(Duration::MAX)),
                })
            });
            Ok(WireCircuitReport {
                tenant: &reported.tenant,
                base: reported.base,
                open: open.transpose()?,
            })
        });
        Ok(WireReport {
            name: &report.member.name,
            number: report.number,
            lifetime_ms: milliseconds(report.lifetime),
            works: report.member.role.works(),
            servers: servers
                .iter()
                .map(|server| WireServer {
                    limit: server.limit,
                    holds: server.holds,
                    wants: server.wants,
                    demand: server.demand,
                    pause: server.pause.as_ref().map(|pause| PauseReport {
                        left_ms: pause.left_ms.min(milliseconds(Duration::MAX)),
                        ago_ms: pause.ago_ms.min(milliseconds(Duration::MAX)),
                        ..pause.clone()
                    }),
                })
                .collect(),
            circuits: circuits.collect::<Result<_, Failure>>()?,
            known: report.circuits_version,
            maximum_members: MAXIMUM_MEMBERS,
            maximum_circuits: MAXIMUM_CIRCUITS,
            maximum_changes: MAXIMUM_CHANGES,
        })
    }
}

fn circuit_update(update: WireCircuitUpdate) -> Result<CircuitUpdate, Failure> {
    let circuit = update.open.map(|open| {
        Ok::<_, Failure>(OpenCircuit {
            failure: serde_json::from_str(&open.failure).map_err(unreadable)?,
            failures: open.failures,
            opened_ago_ms: open.opened_ago_ms,
            left_ms: open.left_ms,
        })
    });
    Ok(CircuitUpdate {
        tenant: update.tenant,
        version: update.version,
        circuit: circuit.transpose()?,
    })
}

#[async_trait]
impl Fleet for RedisFleet {
    fn is_shared(&self) -> bool {
        true
    }

    async fn exchange(&self, report: &FleetReport) -> Result<FleetAnswer, Failure> {
        let servers = report.servers.get(..MAXIMUM_SERVERS).unwrap_or(&report.servers);
        let encoded_report =
            rmp_serde::to_vec_named(&Self::wire_report(report, servers)?).map_err(unreadable)?;
        let member = rmp_serde::to_vec_named(&report.member).map_err(unreadable)?;
        let mut keys = self.member_keys();
        keys.extend([self.key("circuits"), self.key("changes")]);
        keys.extend(servers.iter().map(|server| self.server_key(&server.name)));
        keys.extend(servers.iter().map(|server| self.pause_key(&server.name)));
        // A repetition would be answered with "late".
        let bytes: Vec<u8> = self
            .store
            .script(
                "reporting to the fleet",
                &EXCHANGE,
                &keys,
                &[encoded_report, member],
                Repeat::No,
            )
            .await?;
        match rmp_serde::from_slice(&bytes).map_err(unreadable)? {
            WireAnswer::Late => Err(late_report_failure(report)),
            WireAnswer::Crowded => Err(fleet_full_failure()),
            WireAnswer::Accepted {
                now_ms,
                workers,
                servers,
                circuits,
                known,
            } => Ok(FleetAnswer {
                now_ms,
                workers,
                servers,
                // A circuit that another build wrote and this one cannot read is skipped.
                circuits: circuits
                    .into_iter()
                    .filter_map(|update| circuit_update(update).ok())
                    .collect(),
                circuits_version: known,
            }),
        }
    }

    async fn probe(&self, tenant: &TenantId, lasts: Duration) -> Result<bool, Failure> {
        let mut command = redis::cmd("SET");
        command
            .arg(self.key(&format!("probe:{tenant}")))
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(milliseconds(lasts).max(1));
        let set: Option<String> = self
            .store
            .command("taking the right to probe", command, Repeat::No)
            .await?;
        Ok(set.is_some())
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        let members: Vec<(Vec<u8>, i64)> = self
            .store
            .script(
                "reading the members of the fleet",
                &MEMBERS,
                &self.member_keys(),
                &[],
                Repeat::Yes,
            )
            .await?;
        // A member that another build wrote and this one cannot read is skipped.
        let mut members: Vec<Member> = members
            .iter()
            .filter_map(|(bytes, left_ms)| {
                let member: Member = rmp_serde::from_slice(bytes).ok()?;
                let left_ms = u64::try_from(*left_ms).unwrap_or(0);
                Some(Member {
                    silent_ms: member.lifetime_ms.saturating_sub(left_ms),
                    ..member
                })
            })
            .collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(members)
    }

    async fn circuits(&self, limit: usize) -> Result<Vec<CircuitUpdate>, Failure> {
        let keys = [self.key("circuits"), self.key("changes")];
        let limit = limit.to_string().into_bytes();
        let bytes: Vec<u8> = self
            .store
            .script(
                "reading the open circuits",
                &CIRCUITS,
                &keys,
                &[limit],
                Repeat::Yes,
            )
            .await?;
        let circuits: Vec<WireCircuitUpdate> = rmp_serde::from_slice(&bytes).map_err(unreadable)?;
        // A circuit that another build wrote and this one cannot read is skipped.
        Ok(circuits
            .into_iter()
            .filter_map(|update| circuit_update(update).ok())
            .collect())
    }

    async fn pauses(&self, servers: &[ServerName]) -> Result<Vec<Option<ServerPause>>, Failure> {
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.pause_keys(servers);
        let bytes: Vec<u8> = self
            .store
            .script("asking for pauses", &PAUSES, &keys, &[], Repeat::Yes)
            .await?;
        let pauses: Vec<WirePause> = rmp_serde::from_slice(&bytes).map_err(unreadable)?;
        Ok(pauses.into_iter().map(WirePause::into_server_pause).collect())
    }

    async fn end_pauses(&self, servers: &[ServerName]) -> Result<usize, Failure> {
        if servers.is_empty() {
            return Ok(0);
        }
        let keys = self.pause_keys(servers);
        self.store
            .script("ending pauses", &END_PAUSES, &keys, &[], Repeat::Yes)
            .await
    }

    async fn leave(&self, name: &str) -> Result<(), Failure> {
        let arguments = [name.as_bytes().to_vec()];
        self.store
            .script::<i64>(
                "leaving the fleet",
                &LEAVE,
                &self.member_keys(),
                &arguments,
                Repeat::Yes,
            )
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
