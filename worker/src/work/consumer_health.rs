//! The state of the worker's two consumers, for readiness and liveness: open or not and why, and a pulse.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::health::Pulse;
use tasksync_common::queue::QueueName;

use super::limits::{SETTLE, WorkLimits};

/// Extra time, on top of a batch's own limits, before a loop that waits for a permit counts as stuck.
const SPARE: Duration = Duration::from_mins(1);

/// The state of both consumers of one process.
#[derive(Debug)]
pub struct Consumers {
    background: ConsumerState,
    interactive: ConsumerState,
}

impl Consumers {
    /// Returns the state before either consumer is open.
    #[must_use]
    pub fn new(limits: &WorkLimits) -> Self {
        // A batch waits for its claim at most for its budget, works and reports while the claim holds, and is
        // settled.
        let longest = limits.batch_budget + limits.claim_lifetime + SETTLE + SPARE;
        Self {
            background: ConsumerState::new(QueueName::Background, Pulse::new("worker background", longest)),
            interactive: ConsumerState::new(
                QueueName::Interactive,
                Pulse::new("worker interactive", longest),
            ),
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
    pub fn check_open(&self) -> Result<(), Failure> {
        self.background.state().result.clone()?;
        self.interactive.state().result.clone()
    }

    pub(super) fn state_of(&self, queue: QueueName) -> &ConsumerState {
        match queue {
            QueueName::Background => &self.background,
            QueueName::Interactive => &self.interactive,
        }
    }
}

/// One consumer.
#[derive(Debug)]
pub(super) struct ConsumerState {
    queue: QueueName,
    pulse: Pulse,
    state: Mutex<Availability>,
}

#[derive(Debug)]
struct Availability {
    result: Result<(), Failure>,
    /// Whether the present outage was logged.
    outage_logged: bool,
}

impl ConsumerState {
    fn new(queue: QueueName, pulse: Pulse) -> Self {
        let result = Err(unavailable(queue, "is not open yet"));
        Self {
            queue,
            pulse,
            state: Mutex::new(Availability {
                result,
                outage_logged: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Availability> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the loop is alive.
    pub(super) fn beat(&self) {
        self.pulse.beat();
    }

    /// Records that the loop ended in order.
    pub(super) fn rest(&self) {
        self.pulse.mark_ended();
        self.state().result = Err(unavailable(self.queue, "was closed"));
    }

    /// Records that the consumer is open.
    pub(super) fn record_open(&self) {
        let mut state = self.state();
        if state.outage_logged {
            tracing::info!(queue = self.queue.name(), "jobs are taken again");
        }
        *state = Availability {
            result: Ok(()),
            outage_logged: false,
        };
    }

    /// Records that the consumer ended.
    pub(super) fn record_end(&self) {
        self.record_failure(unavailable(self.queue, "ended"));
    }

    /// Records that the consumer cannot be opened, or ended. Logged once until it is open again.
    pub(super) fn record_failure(&self, failure: Failure) {
        let mut state = self.state();
        if !state.outage_logged {
            tracing::warn!(queue = self.queue.name(), %failure, "no jobs can be taken; trying again");
        }
        *state = Availability {
            result: Err(failure),
            outage_logged: true,
        };
    }
}

fn unavailable(queue: QueueName, how: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueUnavailable,
        format!("the consumer of the {} queue {how}", queue.name()),
    )
}
