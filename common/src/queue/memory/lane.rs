//! One queue: its waiting messages, its unsettled deliveries and its consumers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::queue::{JobError, QueueDepth, SyncJob};
use crate::trace::TraceContext;

#[derive(Debug)]
pub(super) struct Message {
    pub(super) job: Arc<Result<SyncJob, JobError>>,
    pub(super) trace: TraceContext,
    /// Number of deliveries so far.
    pub(super) deliveries: u32,
}

#[derive(Debug)]
struct LaneConsumer {
    permits: usize,
    /// Number of unsettled deliveries.
    unsettled: usize,
    waiting: bool,
}

#[derive(Debug, Default)]
pub(super) struct MessageLane {
    ready: VecDeque<Message>,
    consumers: BTreeMap<u64, LaneConsumer>,
    last_taker: u64,
    unacknowledged: u64,
}

impl MessageLane {
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn push(&mut self, message: Message) {
        self.ready.push_back(message);
    }

    /// Puts a returned message in front. The length limit does not apply, because the message was counted
    /// when it was published, and the consumers' permits bound the number of unsettled deliveries.
    pub(super) fn push_front(&mut self, message: Message) {
        self.ready.push_front(message);
    }

    /// Adds a consumer and returns its number.
    pub(super) fn open(&mut self, permits: usize) -> u64 {
        self.last_taker += 1;
        self.consumers.insert(
            self.last_taker,
            LaneConsumer {
                permits,
                unsettled: 0,
                waiting: false,
            },
        );
        self.last_taker
    }

    pub(super) fn close(&mut self, id: u64) {
        self.consumers.remove(&id);
    }

    pub(super) fn set_waiting(&mut self, id: u64, waiting: bool) {
        if let Some(taker) = self.consumers.get_mut(&id) {
            taker.waiting = waiting;
        }
    }

    /// Returns the oldest message, if this consumer has a free permit for it.
    pub(super) fn take(&mut self, id: u64) -> Option<Message> {
        let taker = self
            .consumers
            .get_mut(&id)
            .filter(|taker| taker.unsettled < taker.permits)?;
        let mut message = self.ready.pop_front()?;
        taker.unsettled += 1;
        self.unacknowledged += 1;
        message.deliveries = message.deliveries.saturating_add(1);
        Some(message)
    }

    /// Records that a delivery of this consumer was settled; the consumer may be gone.
    pub(super) fn record_settled(&mut self, id: u64) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if let Some(taker) = self.consumers.get_mut(&id) {
            taker.unsettled = taker.unsettled.saturating_sub(1);
        }
    }

    pub(super) fn depth(&self) -> QueueDepth {
        QueueDepth {
            ready: self.ready.len() as u64,
            unacknowledged: Some(self.unacknowledged),
            wanted: self
                .consumers
                .values()
                .filter(|taker| taker.waiting)
                .map(|taker| taker.permits.saturating_sub(taker.unsettled) as u64)
                .sum(),
        }
    }
}
