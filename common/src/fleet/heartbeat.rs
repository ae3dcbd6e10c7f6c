//! A process's side of the exchange: told and asked in turn, sooner when something cannot wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Answer, Fleet, Member, Report};
use crate::error::{Code, ErrorClass, Failure};

/// Two exchanges of one process are at least so far apart, when somebody waits and when it is enough to be told soon.
const SPACING: Duration = Duration::from_millis(20);
const SPACING_SOON: Duration = Duration::from_millis(200);

/// The last exchange and the farewell may take this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// A part of the process that has something to tell or to learn.
pub trait Part: Send + Sync + 'static {
    /// Adds what it has to tell.
    fn tell(&self, report: &mut Report);
    /// Learns the answer to a report.
    fn learn(&self, report: &Report, answer: &Answer);
    /// The report was not answered: what must be told is told again.
    fn unanswered(&self, report: &Report);
    /// The store was silent for longer than what it gave may be used; `workers` processes were known last.
    fn apart(&self, workers: u32);
    /// The process ends: with the last report everything is given back.
    fn end(&self);
}

/// Asks for an exchange before its turn.
#[derive(Debug, Default)]
pub struct Nudge {
    now: Notify,
    soon: Notify,
}

impl Nudge {
    /// Somebody waits for the answer, or others must know.
    pub fn now(&self) {
        self.now.notify_one();
    }

    /// Something changed that others should know within a fraction of a second.
    pub fn soon(&self) {
        self.soon.notify_one();
    }
}

/// Keeps one process in the fleet.
pub struct Heartbeat {
    /// The fleet.
    pub fleet: Arc<dyn Fleet>,
    /// The process as it starts; the parts fill in the rest.
    pub member: Member,
    /// Its parts.
    pub parts: Vec<Arc<dyn Part>>,
    /// An exchange is made this often.
    pub interval: Duration,
    /// After so much silence the process counts as dead.
    pub lifetime: Duration,
    /// Through which its parts ask for an exchange before its turn.
    pub nudge: Arc<Nudge>,
}

impl Heartbeat {
    /// Runs until `stop` is cancelled, which is after the work has ended; gives everything back and says farewell.
    ///
    /// Never fails: a store that does not answer is asked again in the next turn.
    pub async fn run(&self, stop: CancellationToken) {
        let mut number = 0_u64;
        let mut known = 0_u64;
        let mut workers = 1_u32;
        // What was given may be used until a sixth of the lifetime before the store takes it back.
        let usable = self.lifetime - self.lifetime / 6;
        let mut until = Instant::now() + usable;
        let mut apart = false;
        let mut failing = false;
        while !stop.is_cancelled() {
            let sent = Instant::now();
            number += 1;
            let report = self.report(number, known);
            let patience = self.interval.max(self.lifetime / 5);
            let answer = self.exchange(&report, patience).await;
            match answer {
                Ok(answer) => {
                    for part in &self.parts {
                        part.learn(&report, &answer);
                    }
                    known = answer.known;
                    workers = answer.workers.max(1);
                    until = sent + usable;
                    if failing {
                        tracing::info!(workers, "the fleet answers again, limits are shared");
                    }
                    (failing, apart) = (false, false);
                }
                Err(failure) => {
                    for part in &self.parts {
                        part.unanswered(&report);
                    }
                    if !failing {
                        tracing::warn!(%failure, "the fleet does not answer; shares of limits are kept for a while");
                    }
                    failing = true;
                }
            }
            if !apart && Instant::now() >= until {
                apart = true;
                tracing::warn!(
                    workers,
                    "the fleet was silent for too long: every limit is divided by the last known number of workers"
                );
                for part in &self.parts {
                    part.apart(workers);
                }
            }
            let mut next = sent + self.interval;
            if !apart {
                next = next.min(until);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep_until(next.max(sent + SPACING)) => {}
                () = nudged(&self.nudge.now, sent + SPACING) => {}
                () = nudged(&self.nudge.soon, sent + SPACING_SOON) => {}
            }
        }
        self.farewell(number + 1, known).await;
    }

    fn report(&self, number: u64, known: u64) -> Report {
        let mut report = Report {
            number,
            lifetime: self.lifetime,
            member: self.member.clone(),
            servers: Vec::new(),
            circuits: Vec::new(),
            known,
        };
        for part in &self.parts {
            part.tell(&mut report);
        }
        report
    }

    async fn exchange(&self, report: &Report, patience: Duration) -> Result<Answer, Failure> {
        timeout(patience, self.fleet.exchange(report))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorClass::Transient,
                    Code::ScheduleUnavailable,
                    "no answer in time",
                ))
            })
    }

    async fn farewell(&self, number: u64, known: u64) {
        for part in &self.parts {
            part.end();
        }
        let report = self.report(number, known);
        let leave = async {
            self.fleet.exchange(&report).await?;
            self.fleet.leave(&self.member.name).await
        };
        if !matches!(timeout(FAREWELL, leave).await, Ok(Ok(()))) {
            tracing::warn!("the fleet was not told of the end; it notices after the lifetime of a heartbeat");
        }
    }
}

/// Returns when it was notified, but not before `earliest`.
async fn nudged(notify: &Notify, earliest: Instant) {
    notify.notified().await;
    sleep_until(earliest).await;
}
