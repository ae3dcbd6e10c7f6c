//! Jobs in one process's memory. They are lost with it; the next run of the leader makes them again.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Consumer, DeadLetter, Delivery, Depth, JobError, JobQueue, QueueName, SyncJob};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::QueueSettings;
use crate::trace::TraceContext;
use lane::{Lane, Message};

/// Most dead letters kept; then the oldest makes room.
const DEAD_LETTERS: usize = 1_000;

#[derive(Debug)]
struct State {
    background: Lane,
    interactive: Lane,
    dead: VecDeque<DeadLetter>,
    last_dead_letter: u64,
    closed: bool,
}

impl State {
    fn lane(&mut self, queue: QueueName) -> &mut Lane {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }

    fn bury(&mut self, message: &Message, reason: String) {
        self.last_dead_letter += 1;
        if self.dead.len() >= DEAD_LETTERS {
            self.dead.pop_front();
        }
        self.dead.push_back(DeadLetter {
            id: self.last_dead_letter,
            job: message.job.as_ref().clone(),
            reason,
        });
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a message, a permit or the end may be there. All who wait look again, so no message is overlooked.
    changed: Notify,
    maximum_length: usize,
    delivery_limit: u32,
}

impl Shared {
    fn enter(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole before anything can fail, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of one process. Clones share them.
///
/// A message comes back to the front of its queue when its delivery is requeued or dropped; after
/// `queue.delivery_limit` deliveries it goes to the dead letters instead.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Arc<Shared>);

impl MemoryQueue {
    /// Empty queues.
    #[must_use]
    pub fn new(settings: &QueueSettings) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                background: Lane::default(),
                interactive: Lane::default(),
                dead: VecDeque::new(),
                last_dead_letter: 0,
                closed: false,
            }),
            changed: Notify::new(),
            maximum_length: settings.maximum_length,
            delivery_limit: settings.delivery_limit.max(1),
        }))
    }

    /// Ends every consumer and refuses new jobs. Deliveries that are out can still be settled.
    pub fn close(&self) {
        self.0.enter().closed = true;
        self.0.changed.notify_waiters();
    }

    /// Puts a job in as its bytes came, readable or not.
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
            if state.closed {
                return Err(closed());
            }
            let lane = state.lane(queue);
            if lane.waiting() >= self.0.maximum_length {
                return Err(Failure::new(
                    ErrorClass::Throttled { retry_after: None },
                    Code::QueueFull,
                    format!(
                        "{} jobs wait in the {} queue, which is all it holds (queue.maximum_length)",
                        lane.waiting(),
                        queue.name()
                    ),
                ));
            }
            lane.push(Message {
                job: Arc::new(job),
                trace: trace.clone(),
                deliveries: 0,
            });
        }
        self.0.changed.notify_waiters();
        Ok(())
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
        job.check_users().map_err(|error| {
            Failure::new(
                ErrorClass::ItemPermanent,
                Code::JobRefused,
                format!("job {} of {}: {error}", job.id, job.tenant),
            )
        })?;
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
        Ok(self.0.enter().dead.iter().take(limit).cloned().collect())
    }
}

struct MemoryConsumer {
    shared: Arc<Shared>,
    queue: QueueName,
    id: u64,
}

/// Counts its consumer as waiting while it lives, also when the wait is abandoned.
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
            // Registered before looking: what changes after the look wakes it.
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
    /// Taken when it is settled.
    message: Option<Message>,
}

/// What becomes of a message.
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
        {
            let mut state = self.shared.enter();
            state.lane(self.queue).settled(self.consumer);
            match settlement {
                Settlement::Done => {}
                Settlement::Reject(reason) => state.bury(&message, (*reason).to_owned()),
                Settlement::Return if message.deliveries >= self.shared.delivery_limit => {
                    let reason = format!("delivered {} times and never finished", message.deliveries);
                    state.bury(&message, reason);
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

    fn trace(&self) -> &TraceContext {
        &self.trace
    }

    fn redelivered(&self) -> u32 {
        self.message
            .as_ref()
            .map_or(0, |message| message.deliveries.saturating_sub(1))
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
