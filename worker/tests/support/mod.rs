//! Shared by the tests of the worker's and the scheduler's loops: a clock that follows the runtime's paused time, a
//! registry in memory, a schedule and a queue that can be made to fail, and a sync with prescribed behaviour.

mod faulty;
mod queue;
mod registry;
mod sync;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::Clock;
use tasksync_common::clock::monotonic;
use tokio::time::Instant;

pub(crate) use faulty::FaultySchedule;
pub(crate) use queue::{FaultyQueue, QueueFaults};
pub(crate) use registry::MemoryRegistry;
pub(crate) use sync::{Act, FakeSync};
pub(crate) use tasksync_common::contract::{key, tenant_id, user_id};

/// A clock that moves with the runtime's time, whether it is paused or not.
pub(crate) struct TokioClock {
    start: Timestamp,
    began: Instant,
}

impl TokioClock {
    pub(crate) fn start() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            start: "2026-11-22T14:00:00Z".parse().unwrap(),
            began: monotonic(),
        })
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }
}
