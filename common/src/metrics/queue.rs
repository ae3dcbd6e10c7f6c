//! Metrics that the queue's adapter counts itself.

use std::sync::Arc;

use super::{MetricRow, Metrics, catalogue};
use crate::queue::JobQueue;

/// Rows of one metric are adjacent.
const TABLE: &[MetricRow<Arc<dyn JobQueue>>] = &[
    (&catalogue::QUEUE_BLOCKED, &[], |queue| {
        u64::from(queue.metrics().blocked)
    }),
    (&catalogue::QUEUE_UNCONFIRMED, &[], |queue| {
        queue.metrics().unconfirmed
    }),
    (&catalogue::QUEUE_CONNECTIONS, &["opened"], |queue| {
        queue.metrics().connections_opened
    }),
    (&catalogue::QUEUE_CONNECTIONS, &["failed"], |queue| {
        queue.metrics().connections_failed
    }),
    (&catalogue::QUEUE_PUBLISHED, &["confirmed"], |queue| {
        queue.metrics().published
    }),
    (&catalogue::QUEUE_PUBLISHED, &["refused"], |queue| {
        queue.metrics().refused
    }),
    (&catalogue::QUEUE_PUBLISHED, &["returned"], |queue| {
        queue.metrics().returned
    }),
    (&catalogue::QUEUE_PUBLISHED, &["unconfirmed"], |queue| {
        queue.metrics().unconfirmed_lost
    }),
    (&catalogue::QUEUE_LATE_SETTLEMENTS, &[], |queue| {
        queue.metrics().late_settlements
    }),
];

impl Metrics {
    /// Registers the metrics of what happens between this process and its queue.
    pub fn observe_queue(&self, queue: &Arc<dyn JobQueue>) {
        self.observe_all(&Arc::new(Arc::clone(queue)), TABLE);
    }
}
