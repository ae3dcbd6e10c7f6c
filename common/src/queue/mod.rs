//! Work in flight: jobs between the scheduler and the workers.

mod memory;
mod message;
mod open;

use async_trait::async_trait;

pub use memory::MemoryQueue;
pub use message::{JobError, MAXIMUM_USERS, Reason, SyncJob, VERSION, Workload};
pub use open::open_queue;

use crate::error::Failure;
use crate::trace::TraceContext;

/// Which line a job waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// Scheduled work.
    Background,
    /// Work somebody waits for.
    Interactive,
}

impl QueueName {
    /// The name for logs, metrics and errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Interactive => "interactive",
        }
    }
}

/// Messages waiting and being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waiting for a consumer.
    pub ready: u64,
    /// Delivered and not yet acknowledged.
    pub unacknowledged: u64,
    /// Messages consumers would take now: the free permits of those who wait for one.
    pub wanted: u64,
}

/// A job handed to a consumer. It is settled exactly once; dropped unsettled it is delivered again.
#[async_trait]
pub trait Delivery: Send + 'static {
    /// The job, or why its bytes cannot be read.
    fn job(&self) -> &Result<SyncJob, JobError>;
    /// How often it was delivered before: 0 the first time.
    fn redelivered(&self) -> u32;
    /// The trace whoever published it belonged to.
    fn trace(&self) -> &TraceContext;
    /// The work is done and its results are stored.
    async fn acknowledge(self: Box<Self>) -> Result<(), Failure>;
    /// The job can never be worked on: to the dead letters, with the reason.
    async fn reject(self: Box<Self>, reason: &str) -> Result<(), Failure>;
    /// Somebody else should take it, soon. Counts as a delivery, so after `queue.delivery_limit` of them it goes to the
    /// dead letters.
    async fn requeue(self: Box<Self>) -> Result<(), Failure>;
}

/// One consumer. It holds at most as many unsettled deliveries as permits were given to it.
#[async_trait]
pub trait Consumer: Send + 'static {
    /// The next delivery; `None` when the consumer or its connection ended and another must be opened.
    async fn next(&mut self) -> Option<Box<dyn Delivery>>;
}

/// A job that was given up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Number to name it by.
    pub id: u64,
    /// The job, when it can be read.
    pub job: Result<SyncJob, JobError>,
    /// Why.
    pub reason: String,
}

/// The seam to the queue.
#[async_trait]
pub trait JobQueue: Send + Sync + 'static {
    /// Puts a job in and returns when the queue has taken responsibility for it. Fails with class `Throttled` and code
    /// `QueueFull` when too many wait, and with code `JobRefused` when the job names no user or too many.
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure>;
    /// Opens a consumer that holds at most `permits` unsettled deliveries.
    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure>;
    /// What waits and what is being worked on.
    async fn depth(&self, queue: QueueName) -> Result<Depth, Failure>;
    /// At most `limit` dead letters, oldest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure>;
}
