//! What the scheduler keeps its state in.

use std::sync::Arc;

use tasksync_common::clock::SharedClock;
use tasksync_common::fleet::Fleet;
use tasksync_common::queue::JobQueue;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::Schedule;

/// The stores the scheduler works with.
#[derive(Clone)]
pub struct Stores {
    /// The order of work.
    pub schedule: Arc<dyn Schedule>,
    /// Where jobs go.
    pub queue: Arc<dyn JobQueue>,
    /// The truth about tenants and enrolments.
    pub registry: Arc<dyn Registry>,
    /// What all processes share.
    pub fleet: Arc<dyn Fleet>,
    /// The time.
    pub clock: SharedClock,
}
