//! Whether a process is ready and alive: the stores it needs, and the heartbeats of its loops.
//!
//! Probes ask without a token, so answers about the stores are cached for a second: frequent probes cost the
//! stores nothing.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::error::{Code, ErrorClass, Failure};
use crate::queue::{JobQueue, QueueName};
use crate::registry::Registry;
use crate::schedule::Schedule;

/// Timeout of a store's answer; later it counts as missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long answers are cached.
const LIFETIME: Duration = Duration::from_secs(1);

/// Something the process needs and does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetRequirement {
    /// Its name: `registry`, `schedule`, `queue`, …
    pub what: &'static str,
    /// The failure; `None` when nothing is wrong with it (the process is stopping).
    pub why: Option<Failure>,
}

/// The names of what was asked, each with its answer.
type ProbeResults = Vec<(&'static str, Result<(), Failure>)>;
type ProbeFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// How the process learns whether one needed thing is available.
enum Requirement {
    /// The part of the process that works with it reports its state.
    Reported(Result<(), Failure>),
    /// It is asked; the code is used when there is no answer.
    Probed(Code, ProbeFn),
}

struct Inner {
    /// In the order of their first mention.
    requirements: Mutex<Vec<(&'static str, Requirement)>>,
    pulses: Mutex<Vec<Pulse>>,
    stopping: CancellationToken,
    /// The last answers and when they were asked for.
    last: tokio::sync::Mutex<Option<(Instant, ProbeResults)>>,
}

/// What one process needs to be ready, and the heartbeats of its loops. Clones share it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// Returns the health of a process that needs nothing yet. From the moment `stopping` is cancelled it is
    /// not ready.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            requirements: Mutex::default(),
            pulses: Mutex::default(),
            stopping,
            last: tokio::sync::Mutex::default(),
        }))
    }

    /// Records whether something the process needs is available.
    pub fn set(&self, what: &'static str, state: Result<(), Failure>) {
        self.set_requirement(what, Requirement::Reported(state));
    }

    /// Has something the process needs asked whenever a probe wants to know. `code` is reported if there is
    /// no answer within 5 seconds.
    pub fn add_probe<F>(&self, what: &'static str, code: Code, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.set_requirement(what, Requirement::Probed(code, Arc::new(move || ask().boxed())));
    }

    /// Has the three stores asked from now on, as `registry`, `schedule` and `queue`.
    pub fn add_store_probes(
        &self,
        registry: Arc<dyn Registry>,
        schedule: Arc<dyn Schedule>,
        queue: Arc<dyn JobQueue>,
    ) {
        self.add_probe("registry", Code::RegistryUnavailable, move || {
            let registry = Arc::clone(&registry);
            async move { registry.check_writable().await }
        });
        self.add_probe("schedule", Code::ScheduleUnavailable, move || {
            let schedule = Arc::clone(&schedule);
            async move { schedule.check_writable().await }
        });
        self.add_probe("queue", Code::QueueUnavailable, move || {
            let queue = Arc::clone(&queue);
            async move { queue.depth(QueueName::Background).await.map(drop) }
        });
    }

    fn set_requirement(&self, what: &'static str, requirement: Requirement) {
        let mut requirements = lock(&self.0.requirements);
        match requirements.iter_mut().find(|(name, _)| *name == what) {
            Some((_, existing)) => *existing = requirement,
            None => requirements.push((what, requirement)),
        }
    }

    /// Adds a loop's pulse to those that [`Self::stuck`] checks.
    pub fn watch(&self, pulse: Pulse) {
        lock(&self.0.pulses).push(pulse);
    }

    /// Returns the needs that are not met now; empty if the process is ready.
    pub async fn unmet_requirements(&self) -> Vec<UnmetRequirement> {
        let mut last = self.0.last.lock().await;
        let results = match &*last {
            Some((at, answers)) if at.elapsed() < LIFETIME && self.is_covered_by(answers) => answers.clone(),
            _ => {
                let answers = self.probe_all().await;
                *last = Some((monotonic(), answers.clone()));
                answers
            }
        };
        drop(last);
        let requirements = lock(&self.0.requirements);
        let mut unmet: Vec<UnmetRequirement> = requirements
            .iter()
            .filter_map(|(what, requirement)| {
                let state = match requirement {
                    Requirement::Reported(state) => Some(state),
                    // Absent from the answers only if it was registered while they were collected; the next
                    // probe asks it.
                    Requirement::Probed(..) => results
                        .iter()
                        .find(|(name, _)| name == what)
                        .map(|(_, state)| state),
                };
                let why = state?.as_ref().err()?.clone();
                Some(UnmetRequirement { what, why: Some(why) })
            })
            .collect();
        if self.0.stopping.is_cancelled() {
            unmet.push(UnmetRequirement {
                what: "the service is stopping",
                why: None,
            });
        }
        unmet
    }

    /// Returns whether `answers` covers everything that has to be asked.
    fn is_covered_by(&self, answers: &[(&'static str, Result<(), Failure>)]) -> bool {
        lock(&self.0.requirements)
            .iter()
            .all(|(what, requirement)| match requirement {
                Requirement::Reported(_) => true,
                Requirement::Probed(..) => answers.iter().any(|(name, _)| name == what),
            })
    }

    async fn probe_all(&self) -> ProbeResults {
        let probes: Vec<_> = lock(&self.0.requirements)
            .iter()
            .filter_map(|(what, requirement)| match requirement {
                Requirement::Probed(code, probe) => Some((*what, *code, Arc::clone(probe))),
                Requirement::Reported(_) => None,
            })
            .collect();
        join_all(probes.into_iter().map(|(what, code, probe)| async move {
            let answer = timeout(PATIENCE, probe()).await.unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorClass::Transient,
                    code,
                    format!("no answer within {} s", PATIENCE.as_secs()),
                ))
            });
            (what, answer)
        }))
        .await
    }

    /// Returns the loops that have not beaten within their limits, and for how long; empty if the process is
    /// alive.
    #[must_use]
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        lock(&self.0.pulses)
            .iter()
            .filter_map(|pulse| Some((pulse.name, pulse.stuck_for()?)))
            .collect()
    }
}

/// The heartbeat of one loop. Clones share it. A loop that has not begun or has ended is never stuck.
#[derive(Debug, Clone)]
pub struct Pulse {
    name: &'static str,
    limit: Duration,
    base: Instant,
    /// Milliseconds from `base` to the last beat, plus 1; 0 while the loop is not running.
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// Returns a pulse that is not running. Once the loop beats, a gap longer than `limit` means that it is
    /// stuck.
    #[must_use]
    pub fn new(name: &'static str, limit: Duration) -> Self {
        Self {
            name,
            limit,
            base: monotonic(),
            last: Arc::default(),
        }
    }

    /// Records that the loop is running.
    pub fn beat(&self) {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(now + 1, Ordering::Relaxed);
    }

    /// Records that the loop has ended in order.
    pub fn mark_ended(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Returns how long the loop has not beaten, if that is longer than its limit.
    #[must_use]
    pub fn stuck_for(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        let silent = self.base.elapsed().saturating_sub(Duration::from_millis(last));
        (silent > self.limit).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn down(detail: &str) -> Failure {
        Failure::new(ErrorClass::Transient, Code::RegistryUnavailable, detail)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_named_with_its_reason() {
        let stopping = CancellationToken::new();
        let health = Health::new(stopping.clone());
        assert_eq!(health.unmet_requirements().await, []);
        health.set("registry", Err(down("db:5432 refuses connections")));
        health.add_probe("queue", Code::QueueUnavailable, std::future::pending);
        let missing = health.unmet_requirements().await;
        assert_eq!(missing[0].what, "registry");
        assert_eq!(missing[0].why, Some(down("db:5432 refuses connections")));
        let silent = missing[1].why.as_ref().unwrap();
        assert_eq!((missing[1].what, silent.code), ("queue", Code::QueueUnavailable));
        health.set("registry", Ok(()));
        health.set("queue", Ok(()));
        assert_eq!(health.unmet_requirements().await, []);
        stopping.cancel();
        assert_eq!(
            health.unmet_requirements().await[0].what,
            "the service is stopping"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stores_are_asked_once_a_second_at_most() {
        let health = Health::new(CancellationToken::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        health.add_probe("queue", Code::QueueUnavailable, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        for _ in 0..5 {
            assert_eq!(health.unmet_requirements().await, []);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(LIFETIME).await;
        health.unmet_requirements().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_stuck_and_one_at_rest_is_not() {
        let health = Health::new(CancellationToken::new());
        let pulse = Pulse::new("dispatch", Duration::from_mins(1));
        health.watch(pulse.clone());
        tokio::time::advance(Duration::from_mins(10)).await;
        assert_eq!(health.stuck(), [], "not begun");
        pulse.beat();
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(health.stuck(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.stuck(), [("dispatch", Duration::from_secs(61))]);
        pulse.mark_ended();
        assert_eq!(health.stuck(), []);
    }
}
