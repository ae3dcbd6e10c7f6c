//! A fleet in the memory of one process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::ledger::Ledger;
use super::{CircuitUpdate, Fleet, FleetAnswer, FleetReport, Member, ServerName, ServerPause};
use crate::clock::SharedClock;
use crate::error::Failure;
use crate::model::TenantId;

/// What the parts of one process share. Clones share it.
#[derive(Clone)]
pub struct MemoryFleet {
    clock: SharedClock,
    ledger: Arc<Mutex<Ledger>>,
    shares_limits: bool,
}

impl MemoryFleet {
    /// Returns the fleet of a process that is alone, so that it has every limit to itself.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            ledger: Arc::default(),
            shares_limits: false,
        }
    }

    /// Returns a fleet whose members share limits although they run in one process.
    #[cfg(any(test, feature = "contract-tests"))]
    #[must_use]
    pub fn with_shared_limits(clock: SharedClock) -> Self {
        Self {
            shares_limits: true,
            ..Self::new(clock)
        }
    }

    /// Drops all data, like a store that is restarted empty.
    #[cfg(any(test, feature = "contract-tests"))]
    pub fn lose_everything(&self) {
        *self.ledger() = Ledger::default();
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Consistent after every change, so a poisoned lock is safe to use.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0)
    }
}

#[async_trait]
impl Fleet for MemoryFleet {
    fn is_shared(&self) -> bool {
        self.shares_limits
    }

    async fn exchange(&self, report: &FleetReport) -> Result<FleetAnswer, Failure> {
        self.ledger().exchange(self.now(), report)
    }

    async fn probe(&self, tenant: &TenantId, lasts: Duration) -> Result<bool, Failure> {
        Ok(self.ledger().probe(self.now(), tenant, lasts))
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        Ok(self.ledger().members(self.now()))
    }

    async fn circuits(&self, limit: usize) -> Result<Vec<CircuitUpdate>, Failure> {
        Ok(self.ledger().open_circuits(self.now(), limit))
    }

    async fn pauses(&self, servers: &[ServerName]) -> Result<Vec<Option<ServerPause>>, Failure> {
        Ok(self.ledger().pauses(self.now(), servers))
    }

    async fn end_pauses(&self, servers: &[ServerName]) -> Result<usize, Failure> {
        Ok(self.ledger().end_pauses(self.now(), servers))
    }

    async fn leave(&self, name: &str) -> Result<(), Failure> {
        self.ledger().leave(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
