//! The counters behind [`QueueMetrics`].

use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Counter;
use crate::queue::QueueMetrics;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) blocked: AtomicBool,
    pub(super) connections_opened: Counter,
    pub(super) connections_failed: Counter,
    pub(super) published: Counter,
    pub(super) refused: Counter,
    pub(super) returned: Counter,
    pub(super) unconfirmed_lost: Counter,
    pub(super) late_settlements: Counter,
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
