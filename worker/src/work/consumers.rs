//! The worker's two consumers as others see them: open or not and why, and a sign of life.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::health::Pulse;
use tasksync_common::queue::QueueName;

use super::limits::{SETTLE, WorkLimits};

/// Beyond everything a batch may take by its limits, a free permit is waited for so long before the loop counts as stuck.
const SPARE: Duration = Duration::from_secs(60);

/// State of the consumers of one process; shared with whoever reports on it.
#[derive(Debug)]
pub struct Consumers {
    background: Lane,
    interactive: Lane,
}

impl Consumers {
    /// Both not yet open.
    #[must_use]
    pub fn new(limits: &WorkLimits) -> Self {
        // A batch waits at most its budget for its claim, works and reports while the claim holds, and is settled.
        let longest = limits.batch_budget + limits.claim_lifetime + SETTLE + SPARE;
        Self {
            background: Lane::new(QueueName::Background, Pulse::new("worker background", longest)),
            interactive: Lane::new(QueueName::Interactive, Pulse::new("worker interactive", longest)),
        }
    }

    /// The loops' signs of life.
    #[must_use]
    pub fn pulses(&self) -> [Pulse; 2] {
        [self.background.pulse.clone(), self.interactive.pulse.clone()]
    }

    /// Whether both consumers are open.
    ///
    /// # Errors
    /// Why the first one that is not open is not.
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
    /// Whether the present outage was said.
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

    /// The loop is here.
    pub(super) fn beat(&self) {
        self.pulse.beat();
    }

    /// The loop ended in order.
    pub(super) fn rest(&self) {
        self.pulse.rest();
        self.state().result = Err(lost(self.queue, "was closed"));
    }

    /// The consumer is open.
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

    /// The consumer ended.
    pub(super) fn ended(&self) {
        self.failed(lost(self.queue, "ended"));
    }

    /// The consumer cannot be opened, or ended; said once until it is open again.
    pub(super) fn failed(&self, failure: Failure) {
        let mut state = self.state();
        if !state.said {
            tracing::warn!(queue = self.queue.name(), %failure, "no jobs can be taken, trying again");
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
