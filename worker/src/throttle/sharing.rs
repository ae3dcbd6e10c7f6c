//! Limits of servers that all workers share: what a process reports to the fleet, and what it learns from the
//! answer.
//!
//! A server that no request called yet has no share. The first request asks for one at once and waits for the
//! answer, one call to the store. Later requests use the share. See [`tasksync_common::fleet`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::fleet::{
    FleetAnswer, FleetParticipant, FleetReport, MAXIMUM_SERVERS, MAXIMUM_THROTTLED, Nudge, ServerAnswer,
    ServerReport, TURN_MS, ThrottledServer, shares,
};
use tokio::time::Instant;

use super::servers::{ServerLimits, Servers};

/// Grace period after losing, or regaining, contact with the fleet store: processes release or report their
/// permits before others take a share.
const CAUTIOUS: Duration = Duration::from_secs(5);

/// How this process shares limits with others.
pub(super) struct Sharing {
    /// Triggers an exchange with the store.
    pub(super) nudge: Arc<Nudge>,
    /// The last known number of workers while the store does not answer; 0 while it answers.
    workers_without_store: AtomicU32,
    /// Which processes get a permit, if there are more processes than permits.
    turn: AtomicU64,
    /// Until this time the process neither wants nor takes more than its present share: others may still hold
    /// permits that they have to release or report.
    cautious_until: Mutex<Option<Instant>>,
    /// Set at the end: no permits are wanted any more.
    ending: std::sync::atomic::AtomicBool,
}

impl Sharing {
    pub(super) fn new(nudge: Arc<Nudge>) -> Self {
        Self {
            nudge,
            workers_without_store: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            cautious_until: Mutex::new(None),
            ending: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Returns whether others may hold permits that the store does not know of.
    fn is_cautious(&self) -> bool {
        let until = *self.cautious_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.workers_without_store.load(Ordering::Acquire) > 0
            || until.is_some_and(|until| monotonic() < until)
    }

    fn be_cautious(&self) {
        let until = monotonic() + CAUTIOUS;
        *self.cautious_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Returns the small share, if the store does not answer and others had the time to release their
    /// permits.
    fn small_share(&self, limit: u32) -> Option<u32> {
        let until = *self.cautious_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| monotonic() < until) {
            return None;
        }
        match self.workers_without_store.load(Ordering::Acquire) {
            0 => None,
            workers => Some(small_share(limit, workers)),
        }
    }

    /// Returns the share of a server that was not called yet.
    pub(super) fn first_share(&self, limit: u32) -> u32 {
        self.small_share(limit).unwrap_or(0)
    }
}

/// Returns the share that a process takes while the store does not answer.
fn small_share(limit: u32, workers: u32) -> u32 {
    (limit / workers.max(1)).max(1)
}

/// The demands of all processes for one server, as the store last answered, and this process's place among
/// them.
#[derive(Debug, Default)]
pub(super) struct Demands(Mutex<Option<(Vec<u32>, u32)>>);

impl Demands {
    fn adopt(&self, server_answer: &ServerAnswer) {
        let demands_and_place = server_answer
            .place
            .map(|place| (server_answer.demands.clone(), place));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = demands_and_place;
    }

    /// Returns the share to ask for with this demand.
    fn wanted_share(&self, limit: u32, demand: u32, turn: u64) -> u32 {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((demands, position)) = table.as_ref() else {
            return demand.min(limit);
        };
        let position = usize::try_from(*position).unwrap_or(usize::MAX);
        let mut demands = demands.clone();
        match demands.get_mut(position) {
            Some(own_demand) => *own_demand = demand,
            None => return demand.min(limit),
        }
        shares(limit, &demands, turn).get(position).copied().unwrap_or(0)
    }
}

/// Returns half as much again as the demand, plus one, so that a little more demand needs no exchange.
fn with_headroom(demand: u32, limit: u32) -> u32 {
    if demand == 0 {
        return 0;
    }
    demand.saturating_add(demand / 2).saturating_add(1).min(limit)
}

impl ServerLimits {
    fn share_request(&self, name: &str, sharing: &Sharing) -> Option<ServerReport> {
        let limit = self.limit();
        let demand = if sharing.ending.load(Ordering::Acquire) {
            0
        } else {
            with_headroom(self.allowance().take_demand(), limit)
        };
        let wants = self
            .demands()
            .wanted_share(limit, demand, sharing.turn.load(Ordering::Acquire));
        let wants = if sharing.is_cautious() {
            wants.min(self.allowance().share())
        } else {
            wants
        };
        // Release what is no longer wanted before it is reported.
        if wants < self.allowance().share() {
            self.allowance().set_share(wants);
        }
        let holds = self.allowance().holds();
        let pause = self.pause_to_report();
        // A paused server is reported even without demand, because an operator may have ended its pause.
        let must_report = holds > 0 || demand > 0 || self.is_paused() || self.was_reported();
        self.set_reported(holds > 0 || demand > 0);
        must_report.then(|| ServerReport {
            name: name.to_owned(),
            limit,
            holds,
            wants,
            demand,
            pause,
        })
    }

    fn adopt_share(&self, server_answer: &ServerAnswer) {
        self.demands().adopt(server_answer);
        self.allowance().set_share(server_answer.share);
    }

    /// Returns the report about the server from a process whose limits are its own: only its pause, which the
    /// operator can see and end.
    fn pause_request(&self, name: String) -> Option<ServerReport> {
        let pause = self.pause_to_report();
        self.is_paused().then(|| ServerReport {
            name,
            limit: self.limit(),
            holds: 0,
            wants: 0,
            demand: 0,
            pause,
        })
    }
}

impl Servers {
    /// Returns the servers that asked this process for pauses within the last day, those that asked most often first.
    fn throttled_last_day(&self) -> Vec<ThrottledServer> {
        let mut throttled: Vec<ThrottledServer> = self
            .all()
            .into_iter()
            .filter_map(|(name, server)| {
                let (times, last_at) = server.throttled_last_day()?;
                Some(ThrottledServer { name, times, last_at })
            })
            .collect();
        throttled.sort_by_key(|server| std::cmp::Reverse(server.times));
        throttled.truncate(MAXIMUM_THROTTLED);
        throttled
    }
}

impl FleetParticipant for Servers {
    fn add_to_report(&self, report: &mut FleetReport) {
        report.member.throttled = self.throttled_last_day();
        let Some(sharing) = self.sharing() else {
            let free_slots = MAXIMUM_SERVERS.saturating_sub(report.servers.len());
            let paused = self
                .all()
                .into_iter()
                .filter_map(|(name, server)| server.pause_request(name));
            report.servers.extend(paused.take(free_slots));
            return;
        };
        for (name, server) in self.all() {
            if report.servers.len() >= MAXIMUM_SERVERS {
                // A server that is not reported must hold nothing: it gets no share before there is room.
                server.allowance().set_share(0);
                continue;
            }
            report.servers.extend(server.share_request(&name, sharing));
        }
    }

    fn apply_answer(&self, report: &FleetReport, answer: &FleetAnswer) {
        for (reported, server_answer) in report.servers.iter().zip(&answer.servers) {
            if let Some(server) = self.find(&reported.name) {
                server.adopt_pause(Duration::from_millis(server_answer.pause_ms));
            }
        }
        let Some(sharing) = self.sharing() else { return };
        if sharing.workers_without_store.swap(0, Ordering::AcqRel) > 0 {
            sharing.be_cautious();
        }
        sharing.turn.store(answer.now_ms / TURN_MS, Ordering::Release);
        for (reported, server_answer) in report.servers.iter().zip(&answer.servers) {
            if let Some(server) = self.find(&reported.name) {
                server.adopt_share(server_answer);
            }
        }
    }

    fn on_no_answer(&self, report: &FleetReport) {
        let Some(sharing) = self.sharing() else { return };
        for (_, server) in self.all() {
            if let Some(share) = sharing.small_share(server.limit()) {
                server.allowance().set_share(share);
            }
        }
        for reported in &report.servers {
            if let Some(server) = self.find(&reported.name) {
                server.set_reported(true);
            }
        }
    }

    fn on_store_lost(&self, workers: u32) {
        let Some(sharing) = self.sharing() else { return };
        sharing.be_cautious();
        sharing
            .workers_without_store
            .store(workers.max(1), Ordering::Release);
        for (_, server) in self.all() {
            let allowance = server.allowance();
            allowance.set_share(small_share(server.limit(), workers).min(allowance.share()));
        }
    }

    fn end(&self) {
        if let Some(sharing) = self.sharing() {
            sharing.ending.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
