//! The stores of one process.

use std::sync::Arc;

use crate::clock::SharedClock;
use crate::fleet::Fleet;
use crate::queue::JobQueue;
use crate::registry::Registry;
use crate::schedule::Schedule;

/// The stores and the clock that every role of one process uses.
#[derive(Clone)]
pub struct Stores {
    /// The schedule: which user is synced next.
    pub schedule: Arc<dyn Schedule>,
    /// Jobs in flight.
    pub queue: Arc<dyn JobQueue>,
    /// Tenants, enrolments, states, journal and alerts.
    pub registry: Arc<dyn Registry>,
    /// What processes share while they work: heartbeats, limits, pauses and circuits.
    pub fleet: Arc<dyn Fleet>,
    /// The clock.
    pub clock: SharedClock,
}
