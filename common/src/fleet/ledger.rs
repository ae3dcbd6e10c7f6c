//! The store's side of an exchange as plain values, for a fleet in memory. It does the same as the Redis
//! script.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::{
    Answer, CircuitLearned, MAXIMUM_CHANGES, MAXIMUM_CIRCUITS, MAXIMUM_MEMBERS, Member, OpenCircuit,
    PauseTold, Report, ServerAsk, ServerGiven, ServerName, ServerPause,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::TenantId;

#[derive(Debug)]
struct Alive {
    member: Member,
    number: u64,
    expires: u64,
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    held: u32,
    demand: u32,
    expires: u64,
}

#[derive(Debug, Default)]
struct Server {
    holdings: BTreeMap<String, Holding>,
    paused_until: u64,
    /// Beginning and reason of the last pause; `None` before the first pause and after an operator ended one.
    note: Option<Note>,
    /// When the server's pauses were last ended, and until when this is remembered: as long as a process may
    /// still report one of them.
    ended: u64,
    ended_kept_until: u64,
}

/// When a pause began, the tenant whose request received it, and the server's answer.
#[derive(Debug)]
struct Note {
    since: u64,
    tenant: Option<TenantId>,
    why: String,
}

impl Server {
    /// Takes a reported pause, unless it began before the server's pauses were last ended, or ends before the
    /// known one.
    fn pause(&mut self, now: u64, told: &PauseTold) {
        let since = now.saturating_sub(told.ago_ms);
        let until = now.saturating_add(told.left_ms);
        if since <= self.ended || until <= self.paused_until {
            return;
        }
        let goes_on = self.note.as_ref().filter(|_| self.paused_until > now);
        self.note = Some(Note {
            since: goes_on.map_or(since, |note| note.since),
            tenant: told.tenant.clone(),
            why: told.why.clone(),
        });
        self.paused_until = until;
    }
}

#[derive(Debug)]
struct Circuit {
    version: u64,
    /// The failure, the number of failures, the time of opening, and the end.
    open: Option<(Failure, u32, u64, u64)>,
}

/// The data of a fleet. Times are in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    members: BTreeMap<String, Alive>,
    servers: HashMap<String, Server>,
    circuits: HashMap<TenantId, Circuit>,
    changes: BTreeMap<u64, TenantId>,
    version: u64,
    probes: HashMap<TenantId, u64>,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Ledger {
    fn bury(&mut self, now: u64) {
        self.members.retain(|_, alive| alive.expires > now);
        self.servers.retain(|_, server| {
            server.holdings.retain(|_, holding| holding.expires > now);
            !server.holdings.is_empty() || server.paused_until > now || server.ended_kept_until > now
        });
        self.probes.retain(|_, until| *until > now);
    }

    pub(super) fn exchange(&mut self, now: u64, report: &Report) -> Result<Answer, Failure> {
        self.bury(now);
        let name = &report.member.name;
        if self
            .members
            .get(name)
            .is_some_and(|alive| alive.number >= report.number)
        {
            return Err(late(report));
        }
        if !self.members.contains_key(name) && self.members.len() >= MAXIMUM_MEMBERS {
            return Err(crowded());
        }
        let expires = now.saturating_add(milliseconds(report.lifetime));
        let alive = Alive {
            member: report.member.clone(),
            number: report.number,
            expires,
        };
        self.members.insert(name.clone(), alive);
        let servers = report
            .servers
            .iter()
            .map(|ask| self.share(now, expires, name, ask))
            .collect();
        let (circuits, known) = self.change(now, report);
        let workers = self.members.values().filter(|alive| alive.member.role.works());
        Ok(Answer {
            now_ms: now,
            workers: u32::try_from(workers.count()).unwrap_or(u32::MAX),
            servers,
            circuits,
            known,
        })
    }

    fn share(&mut self, now: u64, expires: u64, name: &str, ask: &ServerAsk) -> ServerGiven {
        let server = self.servers.entry(ask.name.clone()).or_default();
        if let Some(told) = &ask.pause {
            server.pause(now, told);
        }
        server.holdings.remove(name);
        let others = server
            .holdings
            .values()
            .fold(0_u32, |sum, holding| sum.saturating_add(holding.held));
        let share = ask.wants.min(ask.limit.saturating_sub(others));
        let held = ask.holds.max(share);
        if held > 0 || ask.demand > 0 {
            let holding = Holding {
                held,
                demand: ask.demand,
                expires,
            };
            server.holdings.insert(name.to_owned(), holding);
        }
        let mut demands = Vec::new();
        let mut place = None;
        for (other, holding) in &server.holdings {
            if holding.demand > 0 {
                if other == name {
                    place = u32::try_from(demands.len()).ok();
                }
                demands.push(holding.demand);
            }
        }
        ServerGiven {
            share,
            demands,
            place,
            pause_ms: server.paused_until.saturating_sub(now),
        }
    }

    fn change(&mut self, now: u64, report: &Report) -> (Vec<CircuitLearned>, u64) {
        for told in &report.circuits {
            let present = self.circuits.get(&told.tenant).map(|circuit| circuit.version);
            if present.is_some_and(|version| version != told.base) {
                continue;
            }
            if let Some(version) = present {
                self.changes.remove(&version);
            }
            self.version += 1;
            self.changes.insert(self.version, told.tenant.clone());
            let open = told.circuit.as_ref().map(|open| {
                let opened = now.saturating_sub(open.opened_ago_ms);
                let until = now.saturating_add(open.left_ms);
                (open.failure.clone(), open.failures, opened, until)
            });
            let version = self.version;
            self.circuits
                .insert(told.tenant.clone(), Circuit { version, open });
        }
        while self.changes.len() > MAXIMUM_CIRCUITS {
            if let Some((_, tenant)) = self.changes.pop_first() {
                self.circuits.remove(&tenant);
            }
        }
        let known = if report.known > self.version {
            0
        } else {
            report.known
        };
        let learned: Vec<CircuitLearned> =
            self.changes
                .range(known.saturating_add(1)..)
                .take(MAXIMUM_CHANGES)
                .filter_map(|(version, tenant)| {
                    let circuit = self.circuits.get(tenant)?;
                    Some(CircuitLearned {
                        tenant: tenant.clone(),
                        version: *version,
                        circuit: circuit.open.as_ref().map(|(failure, failures, opened, until)| {
                            OpenCircuit {
                                failure: failure.clone(),
                                failures: *failures,
                                opened_ago_ms: now.saturating_sub(*opened),
                                left_ms: until.saturating_sub(now),
                            }
                        }),
                    })
                })
                .collect();
        let known = match learned.last() {
            Some(last) if learned.len() >= MAXIMUM_CHANGES => last.version,
            Some(_) | None => self.version,
        };
        (learned, known)
    }

    pub(super) fn probe(&mut self, now: u64, tenant: &TenantId, lasts: Duration) -> bool {
        self.bury(now);
        if self.probes.contains_key(tenant) || self.probes.len() >= MAXIMUM_CIRCUITS {
            return false;
        }
        self.probes
            .insert(tenant.clone(), now.saturating_add(milliseconds(lasts)));
        true
    }

    pub(super) fn members(&mut self, now: u64) -> Vec<Member> {
        self.bury(now);
        self.members.values().map(|alive| alive.member.clone()).collect()
    }

    pub(super) fn pauses(&self, now: u64, servers: &[ServerName]) -> Vec<Option<ServerPause>> {
        servers
            .iter()
            .map(|name| {
                let server = self.servers.get(&name.to_string())?;
                let note = server.note.as_ref();
                (server.paused_until > now).then(|| ServerPause {
                    since: note.map(|note| timestamp(note.since)),
                    until: timestamp(server.paused_until),
                    tenant: note.and_then(|note| note.tenant.clone()),
                    why: note.map(|note| note.why.clone()),
                })
            })
            .collect()
    }

    pub(super) fn end_pauses(&mut self, now: u64, servers: &[ServerName]) -> usize {
        let mut ended = 0;
        for name in servers {
            if let Some(server) = self.servers.get_mut(&name.to_string())
                && server.paused_until > now
            {
                server.ended_kept_until = server.ended_kept_until.max(server.paused_until);
                server.ended = now;
                server.paused_until = 0;
                server.note = None;
                ended += 1;
            }
        }
        ended
    }

    pub(super) fn leave(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// Returns the names of the processes that hold a share, for tests.
    #[cfg(test)]
    pub(super) fn holders(&self) -> std::collections::BTreeSet<String> {
        self.servers
            .values()
            .flat_map(|server| server.holdings.keys().cloned())
            .collect()
    }
}

/// Returns a time of the store as a timestamp.
pub(super) fn timestamp(milliseconds: u64) -> Timestamp {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Returns the failure of a report that arrived after a later one of the same process.
pub(super) fn late(report: &Report) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ScheduleUnavailable,
        format!(
            "report {} of {} arrived after a later one",
            report.number, report.member.name
        ),
    )
}

/// Returns the failure of a process for which the fleet has no room.
pub(super) fn crowded() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ScheduleUnavailable,
        format!("{MAXIMUM_MEMBERS} processes share this schedule already"),
    )
}
