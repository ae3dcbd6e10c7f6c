//! Counters of the requests to a simulated Exchange and their effects.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The operations that the server implements.
pub(crate) const OPERATIONS: &[&str] = &[
    "GetFolder",
    "FindFolder",
    "CreateFolder",
    "UpdateFolder",
    "DeleteFolder",
    "SyncFolderHierarchy",
    "SyncFolderItems",
    "GetItem",
    "FindItem",
    "CreateItem",
    "UpdateItem",
    "DeleteItem",
    "ResolveNames",
];

/// Counters since the start.
#[derive(Debug, Default)]
pub struct ExchangeStats {
    operations: [AtomicU64; OPERATIONS.len()],
    total: AtomicU64,
    writes: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
    peak_in_flight_per_mailbox: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatsSnapshot {
    /// All requests.
    pub total: u64,
    /// Requests by operation. Operations that were never called are included with 0.
    pub operations: BTreeMap<&'static str, u64>,
    /// Folders and items created, changed or deleted by requests. Actions of people in Outlook do not count.
    pub writes: u64,
    /// Requests refused because of their credentials.
    pub refused: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Largest number of requests in flight at once.
    pub peak_in_flight: u64,
    /// Largest number of requests in flight at once for one mailbox.
    pub peak_in_flight_per_mailbox: u64,
}

impl StatsSnapshot {
    /// Returns the number of requests of one operation.
    #[must_use]
    pub fn of(&self, operation: &str) -> u64 {
        self.operations.get(operation).copied().unwrap_or(0)
    }
}

impl ExchangeStats {
    /// Returns the current counters.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            total: read(&self.total),
            operations: OPERATIONS
                .iter()
                .zip(&self.operations)
                .map(|(name, count)| (*name, read(count)))
                .collect(),
            writes: read(&self.writes),
            refused: read(&self.refused),
            faults: read(&self.faults),
            peak_in_flight: read(&self.peak_in_flight),
            peak_in_flight_per_mailbox: read(&self.peak_in_flight_per_mailbox),
        }
    }

    pub(crate) fn count_request(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_operation(&self, name: &str) {
        let mut counters = OPERATIONS.iter().zip(&self.operations);
        if let Some((_, counter)) = counters.find(|(known, _)| **known == name) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_writes(&self, writes: u64) {
        self.writes.fetch_add(writes, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn enter_mailbox(&self, in_flight: &AtomicU64) {
        let now = in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight_per_mailbox.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
