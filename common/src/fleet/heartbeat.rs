//! A process's side of the exchange: it reports and learns at a fixed interval, and earlier if something
//! cannot wait.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Fleet, FleetAnswer, FleetReport, Member};
use crate::clock::{SharedClock, monotonic};
use crate::error::{Code, ErrorClass, Failure};

/// Shortest time between two exchanges of one process after [`Nudge::now`], and after [`Nudge::soon`].
const SPACING: Duration = Duration::from_millis(20);
const SPACING_SOON: Duration = Duration::from_millis(200);

/// Timeout of the last exchange together with leaving the fleet.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A part of the process that has something to report or to learn.
pub trait FleetParticipant: Send + Sync + 'static {
    /// Adds what the part has to report.
    fn add_to_report(&self, report: &mut FleetReport);
    /// Takes the answer to a report.
    fn apply_answer(&self, report: &FleetReport, answer: &FleetAnswer);
    /// Handles a report without an answer: what must not be lost is reported again.
    fn on_no_answer(&self, report: &FleetReport);
    /// Handles a silence of the store that is longer than its shares may be used; `workers` is the last known
    /// number of processes that take jobs.
    fn on_store_lost(&self, workers: u32);
    /// Ends the part with the process: the last report gives all shares back.
    fn end(&self);
}

/// Requests an exchange before the interval is over.
#[derive(Debug, Default)]
pub struct Nudge {
    now: Notify,
    soon: Notify,
}

impl Nudge {
    /// Requests an exchange now, because a task waits for the answer or other processes must know.
    pub fn now(&self) {
        self.now.notify_one();
    }

    /// Requests an exchange within a fraction of a second, so that other processes learn of a change.
    pub fn soon(&self) {
        self.soon.notify_one();
    }
}

/// The task that keeps one process in the fleet.
pub struct Heartbeat {
    /// The fleet.
    pub fleet: Arc<dyn Fleet>,
    /// The process as it starts; the parts fill in the rest.
    pub member: Member,
    /// This machine's clock, which is compared with the store's.
    pub clock: SharedClock,
    /// Its parts.
    pub participants: Vec<Arc<dyn FleetParticipant>>,
    /// Time between two exchanges.
    pub interval: Duration,
    /// A process that is silent for this long counts as dead.
    pub lifetime: Duration,
    /// With it, parts request an exchange before the interval is over.
    pub nudge: Arc<Nudge>,
}

impl Heartbeat {
    /// Runs until `stop` is cancelled, which happens after the work has ended. Then it gives all shares back
    /// and leaves the fleet.
    ///
    /// It never fails: if the store does not answer, the next exchange tries again.
    pub async fn run(&self, stop: CancellationToken) {
        let mut number = 0_u64;
        let mut circuits_version = 0_u64;
        let mut workers = 1_u32;
        // Shares may be used until a sixth of the lifetime before the store takes them back.
        let usable = self.lifetime.saturating_sub(self.lifetime / 6);
        let mut until = monotonic() + usable;
        let mut store_lost = false;
        let mut failing = false;
        let mut clock_offset_ms = None;
        while !stop.is_cancelled() {
            let sent = monotonic();
            number += 1;
            let mut report = self.report(number, circuits_version);
            report.member.clock_offset_ms = clock_offset_ms;
            let local_before = self.clock.now();
            let answer_timeout = self.interval.max(self.lifetime / 5);
            let answer = self.exchange(&report, answer_timeout).await;
            match answer {
                Ok(answer) => {
                    for participant in &self.participants {
                        participant.apply_answer(&report, &answer);
                    }
                    clock_offset_ms = clock_offset(local_before, self.clock.now(), answer.now_ms);
                    circuits_version = answer.circuits_version;
                    workers = answer.workers.max(1);
                    until = sent + usable;
                    if failing {
                        tracing::info!(workers, "the fleet's store answers again; limits are shared");
                    }
                    (failing, store_lost) = (false, false);
                }
                Err(failure) => {
                    for participant in &self.participants {
                        participant.on_no_answer(&report);
                    }
                    if !failing {
                        tracing::warn!(%failure, "the fleet's store does not answer; shares of limits are kept for the lifetime of a heartbeat");
                    }
                    failing = true;
                }
            }
            if !store_lost && monotonic() >= until {
                store_lost = true;
                tracing::warn!(
                    workers,
                    "the fleet's store was silent for too long; every limit is divided by the last known number of workers"
                );
                for participant in &self.participants {
                    participant.on_store_lost(workers);
                }
            }
            let mut next = sent + self.interval;
            if !store_lost {
                next = next.min(until);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep_until(next.max(sent + SPACING)) => {}
                () = wait_for_nudge(&self.nudge.now, sent + SPACING) => {}
                () = wait_for_nudge(&self.nudge.soon, sent + SPACING_SOON) => {}
            }
        }
        self.leave_fleet(number + 1, circuits_version).await;
    }

    fn report(&self, number: u64, circuits_version: u64) -> FleetReport {
        let mut report = FleetReport {
            number,
            lifetime: self.lifetime,
            member: Member {
                lifetime_ms: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
                ..self.member.clone()
            },
            servers: Vec::new(),
            circuits: Vec::new(),
            circuits_version,
        };
        for participant in &self.participants {
            participant.add_to_report(&mut report);
        }
        report
    }

    async fn exchange(&self, report: &FleetReport, answer_timeout: Duration) -> Result<FleetAnswer, Failure> {
        timeout(answer_timeout, self.fleet.exchange(report))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorClass::Transient,
                    Code::ScheduleUnavailable,
                    "no answer in time",
                ))
            })
    }

    async fn leave_fleet(&self, number: u64, circuits_version: u64) {
        for participant in &self.participants {
            participant.end();
        }
        let report = self.report(number, circuits_version);
        let leave = async {
            self.fleet.exchange(&report).await?;
            self.fleet.leave(&self.member.name).await
        };
        if !matches!(timeout(LEAVE_TIMEOUT, leave).await, Ok(Ok(()))) {
            tracing::warn!(
                "this process could not leave the fleet; its shares are free after the lifetime of a heartbeat"
            );
        }
    }
}

/// Returns how far the local clock is ahead of the store's, in milliseconds. The store read its clock between `before`
/// and `after`, so the middle of both is compared.
fn clock_offset(before: Timestamp, after: Timestamp, store_ms: u64) -> Option<i64> {
    let middle = before.as_millisecond().midpoint(after.as_millisecond());
    i64::try_from(store_ms)
        .ok()
        .map(|store| middle.saturating_sub(store))
}

/// Waits for a notification, and at least until `earliest`.
async fn wait_for_nudge(notify: &Notify, earliest: Instant) {
    notify.notified().await;
    sleep_until(earliest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_store_s_in_the_middle_of_an_exchange() {
        let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
        assert_eq!(clock_offset(at(1_000), at(1_200), 1_100), Some(0));
        assert_eq!(clock_offset(at(601_000), at(601_000), 1_000), Some(600_000));
        assert_eq!(clock_offset(at(1_000), at(1_000), 61_000), Some(-60_000));
    }
}
