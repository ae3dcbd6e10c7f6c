//! The numbers behind [`QueueMetrics`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::queue::QueueMetrics;

/// One number that is only added to and read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) blocked: AtomicBool,
    pub(super) connections_opened: Count,
    pub(super) connections_failed: Count,
    pub(super) published: Count,
    pub(super) refused: Count,
    pub(super) returned: Count,
    pub(super) unconfirmed_lost: Count,
    pub(super) late_settlements: Count,
}

impl Counters {
    pub(super) fn read(&self, unconfirmed: u64) -> QueueMetrics {
        QueueMetrics {
            blocked: self.blocked.load(Ordering::Relaxed),
            unconfirmed,
            connections_opened: self.connections_opened.get(),
            connections_failed: self.connections_failed.get(),
            published: self.published.get(),
            refused: self.refused.get(),
            returned: self.returned.get(),
            unconfirmed_lost: self.unconfirmed_lost.get(),
            late_settlements: self.late_settlements.get(),
        }
    }
}
