//! The state of the worker's two consumers, for readiness and liveness: open or not and why, and a pulse.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::health::Pulse;
use tasksync_common::queue::QueueName;

use super::limits::{SETTLE, WorkLimits};

/// Extra time, on top of a batch's own limits, before a loop that waits for a permit counts as stuck.
const SPARE: Duration = Duration::from_secs(60);

/// The state of both consumers of one process.
#[derive(Debug)]
pub struct Consumers {
    background: Lane,
    interactive: Lane,
}

impl Consumers {
    /// Returns the state before either consumer is open.
    #[must_use]
    pub fn new(limits: &WorkLimits) -> Self {
        // A batch waits for its claim at most for its budget, works and reports while the claim holds, and is
        // settled.
        let longest = limits.batch_budget + limits.claim_lifetime + SETTLE + SPARE;
        Self {
            background: Lane::new(QueueName::Background, Pulse::new("worker background", longest)),
            interactive: Lane::new(QueueName::Interactive, Pulse::new("worker interactive", longest)),
        }
    }

    /// Returns the pulses of the two loops.
    #[must_use]
    pub fn pulses(&self) -> [Pulse; 2] {
        [self.background.pulse.clone(), self.interactive.pulse.clone()]
    }

    /// Checks that both consumers are open.
    ///
    /// # Errors
    /// The failure of the first consumer that is not open.
    pub fn open(&self) -> Result<(), Failure> {
        self.background.state().result.clone()?;
        self.interactive.state().result.clone()
    }

    pub(super) fn lane(&self, queue: QueueName) -> &Lane {
        match queue {
            QueueName::Background => &self.background,
            QueueName::Interactive => &self.interactive,
        }
    }
}

/// One consumer.
#[derive(Debug)]
pub(super) struct Lane {
    queue: QueueName,
    pulse: Pulse,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    result: Result<(), Failure>,
    /// Whether the present outage was logged.
    said: bool,
}

impl Lane {
    fn new(queue: QueueName, pulse: Pulse) -> Self {
        let result = Err(lost(queue, "is not open yet"));
        Self {
            queue,
            pulse,
            state: Mutex::new(State { result, said: false }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the loop is alive.
    pub(super) fn beat(&self) {
        self.pulse.beat();
    }

    /// Records that the loop ended in order.
    pub(super) fn rest(&self) {
        self.pulse.rest();
        self.state().result = Err(lost(self.queue, "was closed"));
    }

    /// Records that the consumer is open.
    pub(super) fn opened(&self) {
        let mut state = self.state();
        if state.said {
            tracing::info!(queue = self.queue.name(), "jobs are taken again");
        }
        *state = State {
            result: Ok(()),
            said: false,
        };
    }

    /// Records that the consumer ended.
    pub(super) fn ended(&self) {
        self.failed(lost(self.queue, "ended"));
    }

    /// Records that the consumer cannot be opened, or ended. Logged once until it is open again.
    pub(super) fn failed(&self, failure: Failure) {
        let mut state = self.state();
        if !state.said {
            tracing::warn!(queue = self.queue.name(), %failure, "no jobs can be taken; trying again");
        }
        *state = State {
            result: Err(failure),
            said: true,
        };
    }
}

fn lost(queue: QueueName, how: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueUnavailable,
        format!("the consumer of the {} queue {how}", queue.name()),
    )
}
