//! Whether a process is ready and lives: what it needs, and the signs of life of its loops.
//!
//! Whoever watches the process asks without a token, so answers about the stores are kept for a second: asking often
//! costs the stores nothing.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Code, ErrorClass, Failure};
use crate::queue::{JobQueue, QueueName};
use crate::registry::Registry;
use crate::schedule::Schedule;

/// What does not answer within this time is missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers hold this long.
const LIFETIME: Duration = Duration::from_secs(1);

/// Something the process needs and does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is: `registry`, `schedule`, `queue`, …
    pub what: &'static str,
    /// Why; `None` when there is nothing wrong with it (the process is stopping).
    pub why: Option<Failure>,
}

/// What was asked, and how it answered.
type Answers = Vec<(&'static str, Result<(), Failure>)>;
type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// How it is known whether one thing is there.
enum Need {
    /// Whoever works with it said so.
    Told(Result<(), Failure>),
    /// It is asked; the code stands for "no answer".
    Asked(Code, Ask),
}

struct Inner {
    /// In the order they were named first.
    needs: Mutex<Vec<(&'static str, Need)>>,
    pulses: Mutex<Vec<Pulse>>,
    stopping: CancellationToken,
    /// What was asked last, and the answers.
    last: tokio::sync::Mutex<Option<(Instant, Answers)>>,
}

/// What one process needs to be ready, and its signs of life. Clones share it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// Returns a process that needs nothing yet; from the moment `stopping` is cancelled it is not ready.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            needs: Mutex::default(),
            pulses: Mutex::default(),
            stopping,
            last: tokio::sync::Mutex::default(),
        }))
    }

    /// Says whether something needed is there.
    pub fn tell(&self, what: &'static str, state: Result<(), Failure>) {
        self.put(what, Need::Told(state));
    }

    /// Asks for something needed from now on, whenever somebody wants to know. `code` stands for no answer within 5
    /// seconds.
    pub fn ask<F>(&self, what: &'static str, code: Code, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.put(what, Need::Asked(code, Arc::new(move || ask().boxed())));
    }

    /// Asks the three stores from now on, as `registry`, `schedule` and `queue`.
    pub fn ask_stores(
        &self,
        registry: Arc<dyn Registry>,
        schedule: Arc<dyn Schedule>,
        queue: Arc<dyn JobQueue>,
    ) {
        self.ask("registry", Code::RegistryUnavailable, move || {
            let registry = Arc::clone(&registry);
            async move { registry.check_writable().await }
        });
        self.ask("schedule", Code::ScheduleUnavailable, move || {
            let schedule = Arc::clone(&schedule);
            async move { schedule.check_writable().await }
        });
        self.ask("queue", Code::QueueUnavailable, move || {
            let queue = Arc::clone(&queue);
            async move { queue.depth(QueueName::Background).await.map(drop) }
        });
    }

    fn put(&self, what: &'static str, need: Need) {
        let mut needs = held(&self.0.needs);
        match needs.iter_mut().find(|(name, _)| *name == what) {
            Some((_, known)) => *known = need,
            None => needs.push((what, need)),
        }
    }

    /// Watches a loop's signs of life.
    pub fn watch(&self, pulse: Pulse) {
        held(&self.0.pulses).push(pulse);
    }

    /// Returns what is missing now; empty when the process is ready.
    pub async fn missing(&self) -> Vec<Missing> {
        let mut last = self.0.last.lock().await;
        let asked = match &*last {
            Some((at, answers)) if at.elapsed() < LIFETIME && self.covered_by(answers) => answers.clone(),
            _ => {
                let answers = self.asked().await;
                *last = Some((Instant::now(), answers.clone()));
                answers
            }
        };
        drop(last);
        let needs = held(&self.0.needs);
        let mut missing: Vec<Missing> = needs
            .iter()
            .filter_map(|(what, need)| {
                let state = match need {
                    Need::Told(state) => Some(state),
                    // Not in the answers only if it was named during the asking; the next look asks it.
                    Need::Asked(..) => asked
                        .iter()
                        .find(|(name, _)| name == what)
                        .map(|(_, state)| state),
                };
                let why = state?.as_ref().err()?.clone();
                Some(Missing { what, why: Some(why) })
            })
            .collect();
        if self.0.stopping.is_cancelled() {
            missing.push(Missing {
                what: "the service is stopping",
                why: None,
            });
        }
        missing
    }

    /// Returns whether everything that is asked was asked.
    fn covered_by(&self, answers: &[(&'static str, Result<(), Failure>)]) -> bool {
        held(&self.0.needs).iter().all(|(what, need)| match need {
            Need::Told(_) => true,
            Need::Asked(..) => answers.iter().any(|(name, _)| name == what),
        })
    }

    async fn asked(&self) -> Answers {
        let asks: Vec<_> = held(&self.0.needs)
            .iter()
            .filter_map(|(what, need)| match need {
                Need::Asked(code, ask) => Some((*what, *code, Arc::clone(ask))),
                Need::Told(_) => None,
            })
            .collect();
        join_all(asks.into_iter().map(|(what, code, ask)| async move {
            let answer = timeout(PATIENCE, ask()).await.unwrap_or_else(|_| {
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

    /// Loops that gave no sign of life for longer than they may, and for how long; empty when the process lives.
    #[must_use]
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        held(&self.0.pulses)
            .iter()
            .filter_map(|pulse| Some((pulse.name, pulse.stuck_for()?)))
            .collect()
    }
}

/// The sign of life of one loop. Clones share it. A loop that has not begun or has ended is never stuck.
#[derive(Debug, Clone)]
pub struct Pulse {
    name: &'static str,
    limit: Duration,
    base: Instant,
    /// Milliseconds from `base` to the last beat, plus 1; 0 at rest.
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// At rest. Once the loop beats, a pause longer than `limit` means that it is stuck.
    #[must_use]
    pub fn new(name: &'static str, limit: Duration) -> Self {
        Self {
            name,
            limit,
            base: Instant::now(),
            last: Arc::default(),
        }
    }

    /// The loop is here.
    pub fn beat(&self) {
        let now = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(now + 1, Ordering::Relaxed);
    }

    /// The loop has ended in order.
    pub fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Returns how long the loop has given no sign, if that is longer than it may.
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
        assert_eq!(health.missing().await, []);
        health.tell("registry", Err(down("db:5432 refuses connections")));
        health.ask("queue", Code::QueueUnavailable, std::future::pending);
        let missing = health.missing().await;
        assert_eq!(missing[0].what, "registry");
        assert_eq!(missing[0].why, Some(down("db:5432 refuses connections")));
        let silent = missing[1].why.as_ref().unwrap();
        assert_eq!((missing[1].what, silent.code), ("queue", Code::QueueUnavailable));
        health.tell("registry", Ok(()));
        health.tell("queue", Ok(()));
        assert_eq!(health.missing().await, []);
        stopping.cancel();
        assert_eq!(health.missing().await[0].what, "the service is stopping");
    }

    #[tokio::test(start_paused = true)]
    async fn stores_are_asked_once_a_second_at_most() {
        let health = Health::new(CancellationToken::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        health.ask("queue", Code::QueueUnavailable, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        for _ in 0..5 {
            assert_eq!(health.missing().await, []);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(LIFETIME).await;
        health.missing().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_stuck_and_one_at_rest_is_not() {
        let health = Health::new(CancellationToken::new());
        let pulse = Pulse::new("dispatch", Duration::from_secs(60));
        health.watch(pulse.clone());
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(health.stuck(), [], "not begun");
        pulse.beat();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(health.stuck(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.stuck(), [("dispatch", Duration::from_secs(61))]);
        pulse.rest();
        assert_eq!(health.stuck(), []);
    }
}
