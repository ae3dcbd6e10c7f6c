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
    Consumer, DeadLetter, Delivery, Depth, JobError, JobQueue, Letters, QueueMetrics, QueueName, SyncJob,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::QueueSettings;
use crate::trace::TraceContext;
use lane::{Lane, Message};

/// A dead letter.
#[derive(Debug)]
struct Buried {
    id: String,
    queue: QueueName,
    message: Message,
    reason: String,
}

#[derive(Debug)]
struct State {
    background: Lane,
    interactive: Lane,
    dead: VecDeque<Buried>,
    /// Last number given to a dead letter that is not a readable job.
    last_unreadable: u64,
    closed: bool,
}

impl State {
    fn lane(&mut self, queue: QueueName) -> &mut Lane {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }

    /// Adds a dead letter. If there are `maximum` of them already, the oldest is dropped.
    fn bury(&mut self, queue: QueueName, message: Message, reason: &str, maximum: usize) {
        let id = match message.job.as_ref() {
            Ok(job) => job.id.to_string(),
            Err(_) => {
                self.last_unreadable += 1;
                format!("unreadable-{}", self.last_unreadable)
            }
        };
        while self.dead.len() >= maximum.max(1) {
            self.dead.pop_front();
        }
        self.dead.push_back(Buried {
            id,
            queue,
            message,
            reason: bounded_reason(reason),
        });
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a message or a permit may be available, or after the end. All waiting consumers check
    /// again, so no message is overlooked.
    changed: Notify,
    maximum_length: usize,
    delivery_limit: u32,
    maximum_dead_letters: usize,
}

impl Shared {
    fn enter(&self) -> MutexGuard<'_, State> {
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
pub struct MemoryQueue(Arc<Shared>);

impl MemoryQueue {
    /// Returns empty queues.
    #[must_use]
    pub fn new(settings: &QueueSettings) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                background: Lane::default(),
                interactive: Lane::default(),
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
        self.0.enter().closed = true;
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
            let mut state = self.0.enter();
            self.0.has_room(&mut state, queue)?;
            state.lane(queue).push(Message {
                job: Arc::new(job),
                trace: trace.clone(),
                deliveries: 0,
            });
        }
        self.0.changed.notify_waiters();
        Ok(())
    }
}

impl Shared {
    fn has_room(&self, state: &mut State, queue: QueueName) -> Result<(), Failure> {
        if state.closed {
            return Err(closed());
        }
        let waiting = state.lane(queue).waiting();
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

fn closed() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueUnavailable,
        "the queue is closed because the process is ending",
    )
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        job.check_users().map_err(|error| job.refused(&error))?;
        self.put(queue, Ok(job.clone()), trace)
    }

    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        let mut state = self.0.enter();
        if state.closed {
            return Err(closed());
        }
        let id = state.lane(queue).open(permits);
        Ok(Box::new(MemoryConsumer {
            shared: self.0.clone(),
            queue,
            id,
        }))
    }

    async fn depth(&self, queue: QueueName) -> Result<Depth, Failure> {
        Ok(self.0.enter().lane(queue).depth())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        let state = self.0.enter();
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
        Ok(self.0.enter().dead.len() as u64)
    }

    async fn replay_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        let mut replayed = 0;
        {
            let mut state = self.0.enter();
            let mut kept = VecDeque::new();
            let mut full = None;
            while let Some(mut buried) = state.dead.pop_front() {
                if full.is_none() && which.include(&buried.id, replayed) {
                    match self.0.has_room(&mut state, buried.queue) {
                        Ok(()) => {
                            buried.message.deliveries = 0;
                            state.lane(buried.queue).push(buried.message);
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

    async fn discard_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        let mut discarded = 0;
        self.0.enter().dead.retain(|buried| {
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
    shared: Arc<Shared>,
    queue: QueueName,
    id: u64,
}

/// Marks its consumer as waiting while it lives, even if the wait is abandoned.
struct Waiting<'a>(&'a MemoryConsumer);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let MemoryConsumer { shared, queue, id } = self.0;
        shared.enter().lane(*queue).set_waiting(*id, false);
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        let waiting = Waiting(self);
        loop {
            // Registered before the check, so that a change after the check wakes it.
            let changed = self.shared.changed.notified();
            {
                let mut state = self.shared.enter();
                if state.closed {
                    return None;
                }
                let lane = state.lane(self.queue);
                lane.set_waiting(self.id, true);
                if let Some(message) = lane.take(self.id) {
                    drop(state);
                    drop(waiting);
                    return Some(Box::new(MemoryDelivery {
                        shared: self.shared.clone(),
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
        self.shared.enter().lane(self.queue).close(self.id);
    }
}

struct MemoryDelivery {
    shared: Arc<Shared>,
    queue: QueueName,
    consumer: u64,
    job: Arc<Result<SyncJob, JobError>>,
    trace: TraceContext,
    /// `None` after the delivery was settled.
    message: Option<Message>,
}

/// How a delivery is settled.
enum Settlement<'a> {
    Done,
    Reject(&'a str),
    Return,
}

impl MemoryDelivery {
    fn settle(&mut self, settlement: &Settlement<'_>) {
        let Some(message) = self.message.take() else {
            return;
        };
        let maximum = self.shared.maximum_dead_letters;
        {
            let mut state = self.shared.enter();
            state.lane(self.queue).settled(self.consumer);
            match settlement {
                Settlement::Done => {}
                Settlement::Reject(reason) => state.bury(self.queue, message, reason, maximum),
                Settlement::Return if message.deliveries >= self.shared.delivery_limit => {
                    let reason = format!("delivered {} times and never finished", message.deliveries);
                    state.bury(self.queue, message, &reason, maximum);
                }
                Settlement::Return => state.lane(self.queue).push_front(message),
            }
        }
        self.shared.changed.notify_waiters();
    }
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn job(&self) -> &Result<SyncJob, JobError> {
        &self.job
    }

    fn redelivered(&self) -> u32 {
        self.message
            .as_ref()
            .map_or(0, |message| message.deliveries.saturating_sub(1))
    }

    fn trace(&self) -> &TraceContext {
        &self.trace
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), Failure> {
        self.settle(&Settlement::Done);
        Ok(())
    }

    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), Failure> {
        self.settle(&Settlement::Reject(reason));
        Ok(())
    }

    async fn requeue(mut self: Box<Self>) -> Result<(), Failure> {
        self.settle(&Settlement::Return);
        Ok(())
    }
}

impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        self.settle(&Settlement::Return);
    }
}
