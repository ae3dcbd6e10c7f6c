//! Jobs in the memory of one process. They are lost with it; the leader's next run makes them again.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::dead_letter::bounded_reason;
use super::{
    Consumer, DeadLetter, DeadLetterSelection, Delivery, JobError, JobQueue, QueueDepth, QueueMetrics,
    QueueName, SyncJob,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::QueueSettings;
use crate::trace::TraceContext;
use lane::{Message, MessageLane};

/// A dead letter.
#[derive(Debug)]
struct MemoryDeadLetter {
    id: String,
    queue: QueueName,
    message: Message,
    reason: String,
}

#[derive(Debug)]
struct BrokerState {
    background: MessageLane,
    interactive: MessageLane,
    dead: VecDeque<MemoryDeadLetter>,
    /// Last number given to a dead letter that is not a readable job.
    last_unreadable: u64,
    closed: bool,
}

impl BrokerState {
    fn lane_mut(&mut self, queue: QueueName) -> &mut MessageLane {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }

    /// Adds a dead letter. If there are `maximum` of them already, the oldest is dropped.
    fn add_dead_letter(&mut self, queue: QueueName, message: Message, reason: &str, maximum: usize) {
        let id = if let Ok(job) = message.job.as_ref() {
            job.id.to_string()
        } else {
            self.last_unreadable += 1;
            format!("unreadable-{}", self.last_unreadable)
        };
        while self.dead.len() >= maximum.max(1) {
            self.dead.pop_front();
        }
        self.dead.push_back(MemoryDeadLetter {
            id,
            queue,
            message,
            reason: bounded_reason(reason),
        });
    }
}

#[derive(Debug)]
struct MemoryBroker {
    state: Mutex<BrokerState>,
    /// Notified when a message or a permit may be available, or after the end. All waiting consumers check
    /// again, so no message is overlooked.
    changed: Notify,
    maximum_length: usize,
    delivery_limit: u32,
    maximum_dead_letters: usize,
}

impl MemoryBroker {
    fn lock(&self) -> MutexGuard<'_, BrokerState> {
        // Every change leaves the state consistent before anything can panic, so a poisoned lock is safe to
        // use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of one process. Clones share them.
///
/// A message returns to the front of its queue when its delivery is requeued or dropped. After
/// `queue.delivery_limit` deliveries it goes to the dead letters instead.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Arc<MemoryBroker>);

impl MemoryQueue {
    /// Returns empty queues.
    #[must_use]
    pub fn new(settings: &QueueSettings) -> Self {
        Self(Arc::new(MemoryBroker {
            state: Mutex::new(BrokerState {
                background: MessageLane::default(),
                interactive: MessageLane::default(),
                dead: VecDeque::new(),
                last_unreadable: 0,
                closed: false,
            }),
            changed: Notify::new(),
            maximum_length: settings.maximum_length,
            delivery_limit: settings.delivery_limit.max(1),
            maximum_dead_letters: settings.maximum_dead_letters,
        }))
    }

    /// Ends every consumer and refuses new jobs. Unsettled deliveries can still be settled.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.changed.notify_waiters();
    }

    /// Publishes bytes as they are, readable or not.
    ///
    /// # Errors
    /// The queue is full or closed.
    pub fn publish_bytes(&self, queue: QueueName, bytes: &[u8]) -> Result<(), Failure> {
        self.put(queue, SyncJob::decode(bytes), &TraceContext::default())
    }

    fn put(
        &self,
        queue: QueueName,
        job: Result<SyncJob, JobError>,
        trace: &TraceContext,
    ) -> Result<(), Failure> {
        {
            let mut state = self.0.lock();
            self.0.has_room(&mut state, queue)?;
            state.lane_mut(queue).push(Message {
                job: Arc::new(job),
                trace: trace.clone(),
                deliveries: 0,
            });
        }
        self.0.changed.notify_waiters();
        Ok(())
    }
}

impl MemoryBroker {
    fn has_room(&self, state: &mut BrokerState, queue: QueueName) -> Result<(), Failure> {
        if state.closed {
            return Err(closed_failure());
        }
        let waiting = state.lane_mut(queue).waiting();
        if waiting < self.maximum_length {
            return Ok(());
        }
        Err(Failure::new(
            ErrorClass::Throttled { retry_after: None },
            Code::QueueFull,
            format!(
                "{waiting} jobs wait in the {} queue, which is full (queue.maximum_length)",
                queue.name()
            ),
        ))
    }
}

fn closed_failure() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueUnavailable,
        "the queue is closed because the process is ending",
    )
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        job.check_users().map_err(|error| job.encoding_failure(&error))?;
        self.put(queue, Ok(job.clone()), trace)
    }

    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(closed_failure());
        }
        let id = state.lane_mut(queue).open(permits);
        Ok(Box::new(MemoryConsumer {
            broker: self.0.clone(),
            queue,
            id,
        }))
    }

    async fn depth(&self, queue: QueueName) -> Result<QueueDepth, Failure> {
        Ok(self.0.lock().lane_mut(queue).depth())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        let state = self.0.lock();
        let letters = state.dead.iter().take(limit);
        Ok(letters
            .map(|buried| DeadLetter {
                id: buried.id.clone(),
                job: buried.message.job.as_ref().clone(),
                reason: buried.reason.clone(),
                queue: Some(buried.queue),
            })
            .collect())
    }

    async fn dead_letter_count(&self) -> Result<u64, Failure> {
        Ok(self.0.lock().dead.len() as u64)
    }

    async fn replay_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        let mut replayed = 0;
        {
            let mut state = self.0.lock();
            let mut kept = VecDeque::new();
            let mut full = None;
            while let Some(mut buried) = state.dead.pop_front() {
                if full.is_none() && which.include(&buried.id, replayed) {
                    match self.0.has_room(&mut state, buried.queue) {
                        Ok(()) => {
                            buried.message.deliveries = 0;
                            state.lane_mut(buried.queue).push(buried.message);
                            replayed += 1;
                            continue;
                        }
                        Err(failure) => full = Some(failure),
                    }
                }
                kept.push_back(buried);
            }
            state.dead = kept;
            drop(state);
            self.0.changed.notify_waiters();
            match full {
                None => Ok(replayed),
                Some(failure) => Err(failure.within(format!("after {replayed} dead letters were replayed"))),
            }
        }
    }

    async fn discard_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        let mut discarded = 0;
        self.0.lock().dead.retain(|buried| {
            let goes = which.include(&buried.id, discarded);
            discarded += u64::from(goes);
            !goes
        });
        Ok(discarded)
    }

    fn metrics(&self) -> QueueMetrics {
        QueueMetrics::default()
    }
}

struct MemoryConsumer {
    broker: Arc<MemoryBroker>,
    queue: QueueName,
    id: u64,
}

/// Marks its consumer as waiting while it lives, even if the wait is abandoned.
struct WaitingGuard<'a>(&'a MemoryConsumer);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        let MemoryConsumer { broker, queue, id } = self.0;
        broker.lock().lane_mut(*queue).set_waiting(*id, false);
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        let waiting = WaitingGuard(self);
        loop {
            // Registered before the check, so that a change after the check wakes it.
            let changed = self.broker.changed.notified();
            {
                let mut state = self.broker.lock();
                if state.closed {
                    return None;
                }
                let lane = state.lane_mut(self.queue);
                lane.set_waiting(self.id, true);
                if let Some(message) = lane.take(self.id) {
                    drop(state);
                    drop(waiting);
                    return Some(Box::new(MemoryDelivery {
                        broker: self.broker.clone(),
                        queue: self.queue,
                        consumer: self.id,
                        job: message.job.clone(),
                        trace: message.trace.clone(),
                        message: Some(message),
                    }));
                }
            }
            changed.await;
        }
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.broker.lock().lane_mut(self.queue).close(self.id);
    }
}

struct MemoryDelivery {
    broker: Arc<MemoryBroker>,
    queue: QueueName,
    consumer: u64,
    job: Arc<Result<SyncJob, JobError>>,
    trace: TraceContext,
    /// `None` after the delivery was settled.
    message: Option<Message>,
}

/// How a delivery is settled.
enum SettlementKind<'a> {
    Done,
    Reject(&'a str),
    Return,
}

impl MemoryDelivery {
    fn settle(&mut self, settlement: &SettlementKind<'_>) {
        let Some(message) = self.message.take() else {
            return;
        };
        let maximum = self.broker.maximum_dead_letters;
        {
            let mut state = self.broker.lock();
            state.lane_mut(self.queue).record_settled(self.consumer);
            match settlement {
                SettlementKind::Done => {}
                SettlementKind::Reject(reason) => state.add_dead_letter(self.queue, message, reason, maximum),
                SettlementKind::Return if message.deliveries >= self.broker.delivery_limit => {
                    let reason = format!("delivered {} times and never finished", message.deliveries);
                    state.add_dead_letter(self.queue, message, &reason, maximum);
                }
                SettlementKind::Return => state.lane_mut(self.queue).push_front(message),
            }
        }
        self.broker.changed.notify_waiters();
    }
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn job(&self) -> &Result<SyncJob, JobError> {
        &self.job
    }

    fn redelivery_count(&self) -> u32 {
        self.message
            .as_ref()
            .map_or(0, |message| message.deliveries.saturating_sub(1))
    }

    fn trace(&self) -> &TraceContext {
        &self.trace
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), Failure> {
        self.settle(&SettlementKind::Done);
        Ok(())
    }

    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), Failure> {
        self.settle(&SettlementKind::Reject(reason));
        Ok(())
    }

    async fn requeue(mut self: Box<Self>) -> Result<(), Failure> {
        self.settle(&SettlementKind::Return);
        Ok(())
    }
}

impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        self.settle(&SettlementKind::Return);
    }
}
