//! The store's side of an exchange as plain values, for a fleet in memory. It does the same as the Redis
//! script.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::{
    CircuitUpdate, FleetAnswer, FleetReport, MAXIMUM_CHANGES, MAXIMUM_CIRCUITS, MAXIMUM_MEMBERS, Member,
    OpenCircuit, PauseReport, ServerAnswer, ServerName, ServerPause, ServerReport,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::TenantId;

#[derive(Debug)]
struct MemberEntry {
    member: Member,
    number: u64,
    reported: u64,
    expires: u64,
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    in_use: u32,
    demand: u32,
    expires: u64,
}

#[derive(Debug, Default)]
struct ServerEntry {
    holdings: BTreeMap<String, Holding>,
    paused_until: u64,
    /// Beginning and reason of the last pause; `None` before the first pause and after an operator ended one.
    note: Option<PauseNote>,
    /// When the server's pauses were last ended, and until when this is remembered: as long as a process may
    /// still report one of them.
    ended: u64,
    ended_kept_until: u64,
}

/// When a pause began, the tenant whose request received it, and the server's answer.
#[derive(Debug)]
struct PauseNote {
    since: u64,
    tenant: Option<TenantId>,
    why: String,
}

impl ServerEntry {
    /// Takes a reported pause, unless it began before the server's pauses were last ended, or ends before the
    /// known one.
    fn pause(&mut self, now: u64, report: &PauseReport) {
        let since = now.saturating_sub(report.ago_ms);
        let until = now.saturating_add(report.left_ms);
        if since <= self.ended || until <= self.paused_until {
            return;
        }
        let goes_on = self.note.as_ref().filter(|_| self.paused_until > now);
        self.note = Some(PauseNote {
            since: goes_on.map_or(since, |note| note.since),
            tenant: report.tenant.clone(),
            why: report.why.clone(),
        });
        self.paused_until = until;
    }
}

#[derive(Debug)]
struct CircuitEntry {
    version: u64,
    /// The failure, the number of failures, the time of opening, and the end.
    open: Option<(Failure, u32, u64, u64)>,
}

impl CircuitEntry {
    fn update(&self, now: u64, version: u64, tenant: &TenantId) -> CircuitUpdate {
        let circuit = self
            .open
            .as_ref()
            .map(|(failure, failures, opened, until)| OpenCircuit {
                failure: failure.clone(),
                failures: *failures,
                opened_ago_ms: now.saturating_sub(*opened),
                left_ms: until.saturating_sub(now),
            });
        CircuitUpdate {
            tenant: tenant.clone(),
            version,
            circuit,
        }
    }
}

/// The data of a fleet. Times are in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    members: BTreeMap<String, MemberEntry>,
    servers: HashMap<String, ServerEntry>,
    circuits: HashMap<TenantId, CircuitEntry>,
    changes: BTreeMap<u64, TenantId>,
    version: u64,
    probes: HashMap<TenantId, u64>,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Ledger {
    fn remove_expired(&mut self, now: u64) {
        self.members.retain(|_, alive| alive.expires > now);
        self.servers.retain(|_, server| {
            server.holdings.retain(|_, holding| holding.expires > now);
            !server.holdings.is_empty() || server.paused_until > now || server.ended_kept_until > now
        });
        self.probes.retain(|_, until| *until > now);
    }

    pub(super) fn exchange(&mut self, now: u64, report: &FleetReport) -> Result<FleetAnswer, Failure> {
        self.remove_expired(now);
        let name = &report.member.name;
        if self
            .members
            .get(name)
            .is_some_and(|alive| alive.number >= report.number)
        {
            return Err(late_report_failure(report));
        }
        if !self.members.contains_key(name) && self.members.len() >= MAXIMUM_MEMBERS {
            return Err(fleet_full_failure());
        }
        let expires = now.saturating_add(milliseconds(report.lifetime));
        let alive = MemberEntry {
            member: report.member.clone(),
            number: report.number,
            reported: now,
            expires,
        };
        self.members.insert(name.clone(), alive);
        let servers = report
            .servers
            .iter()
            .map(|server| self.assign_share(now, expires, name, server))
            .collect();
        let (circuits, circuits_version) = self.update_circuits(now, report);
        let workers = self.members.values().filter(|alive| alive.member.role.works());
        Ok(FleetAnswer {
            now_ms: now,
            workers: u32::try_from(workers.count()).unwrap_or(u32::MAX),
            servers,
            circuits,
            circuits_version,
        })
    }

    fn assign_share(&mut self, now: u64, expires: u64, name: &str, report: &ServerReport) -> ServerAnswer {
        let server = self.servers.entry(report.name.clone()).or_default();
        if let Some(pause) = &report.pause {
            server.pause(now, pause);
        }
        server.holdings.remove(name);
        let others = server
            .holdings
            .values()
            .fold(0_u32, |sum, holding| sum.saturating_add(holding.in_use));
        let share = report.wants.min(report.limit.saturating_sub(others));
        let in_use = report.holds.max(share);
        if in_use > 0 || report.demand > 0 {
            let holding = Holding {
                in_use,
                demand: report.demand,
                expires,
            };
            server.holdings.insert(name.to_owned(), holding);
        }
        let mut demands = Vec::new();
        let mut position = None;
        for (other, holding) in &server.holdings {
            if holding.demand > 0 {
                if other == name {
                    position = u32::try_from(demands.len()).ok();
                }
                demands.push(holding.demand);
            }
        }
        ServerAnswer {
            share,
            demands,
            place: position,
            pause_ms: server.paused_until.saturating_sub(now),
        }
    }

    fn update_circuits(&mut self, now: u64, report: &FleetReport) -> (Vec<CircuitUpdate>, u64) {
        for reported in &report.circuits {
            let present = self.circuits.get(&reported.tenant).map(|circuit| circuit.version);
            if present.is_some_and(|version| version != reported.base) {
                continue;
            }
            if let Some(version) = present {
                self.changes.remove(&version);
            }
            self.version += 1;
            self.changes.insert(self.version, reported.tenant.clone());
            let open = reported.circuit.as_ref().map(|open| {
                let opened = now.saturating_sub(open.opened_ago_ms);
                let until = now.saturating_add(open.left_ms);
                (open.failure.clone(), open.failures, opened, until)
            });
            let version = self.version;
            self.circuits
                .insert(reported.tenant.clone(), CircuitEntry { version, open });
        }
        while self.changes.len() > MAXIMUM_CIRCUITS {
            if let Some((_, tenant)) = self.changes.pop_first() {
                self.circuits.remove(&tenant);
            }
        }
        let base_version = if report.circuits_version > self.version {
            0
        } else {
            report.circuits_version
        };
        let updates: Vec<CircuitUpdate> = self
            .changes
            .range(base_version.saturating_add(1)..)
            .take(MAXIMUM_CHANGES)
            .filter_map(|(version, tenant)| {
                let circuit = self.circuits.get(tenant)?;
                Some(circuit.update(now, *version, tenant))
            })
            .collect();
        let answered_version = match updates.last() {
            Some(last) if updates.len() >= MAXIMUM_CHANGES => last.version,
            Some(_) | None => self.version,
        };
        (updates, answered_version)
    }

    pub(super) fn probe(&mut self, now: u64, tenant: &TenantId, lasts: Duration) -> bool {
        self.remove_expired(now);
        if self.probes.contains_key(tenant) || self.probes.len() >= MAXIMUM_CIRCUITS {
            return false;
        }
        self.probes
            .insert(tenant.clone(), now.saturating_add(milliseconds(lasts)));
        true
    }

    pub(super) fn members(&mut self, now: u64) -> Vec<Member> {
        self.remove_expired(now);
        let members = self.members.values().map(|alive| Member {
            silent_ms: now.saturating_sub(alive.reported),
            ..alive.member.clone()
        });
        members.collect()
    }

    pub(super) fn open_circuits(&self, now: u64, limit: usize) -> Vec<CircuitUpdate> {
        self.changes
            .iter()
            .rev()
            .filter_map(|(version, tenant)| {
                let circuit = self.circuits.get(tenant)?;
                circuit.open.as_ref()?;
                Some(circuit.update(now, *version, tenant))
            })
            .take(limit)
            .collect()
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
pub(super) fn late_report_failure(report: &FleetReport) -> Failure {
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
pub(super) fn fleet_full_failure() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ScheduleUnavailable,
        format!("{MAXIMUM_MEMBERS} processes share this schedule already"),
    )
}
