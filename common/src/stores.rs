//! The stores of one process, as every role of it uses them.

use std::sync::Arc;

use crate::clock::SharedClock;
use crate::fleet::Fleet;
use crate::queue::JobQueue;
use crate::registry::Registry;
use crate::schedule::Schedule;

/// The stores of one process.
#[derive(Clone)]
pub struct Stores {
    /// The order of work.
    pub schedule: Arc<dyn Schedule>,
    /// Jobs in flight.
    pub queue: Arc<dyn JobQueue>,
    /// The truth about tenants and enrolments.
    pub registry: Arc<dyn Registry>,
    /// What all processes share.
    pub fleet: Arc<dyn Fleet>,
    /// The time.
    pub clock: SharedClock,
}
