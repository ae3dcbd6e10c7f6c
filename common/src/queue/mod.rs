//! Work in flight: jobs between the scheduler and the workers.

mod amqp;
mod dead_letter;
mod memory;
mod message;
mod metrics;
mod open;

use async_trait::async_trait;

pub use amqp::{AmqpQueue, definitions};
pub use dead_letter::{DeadLetter, Letters};
pub use memory::MemoryQueue;
pub use message::{JobError, MAXIMUM_USERS, Reason, SyncJob, VERSION, Workload};
pub use metrics::QueueMetrics;
pub use open::open_queue;

use crate::error::Failure;
use crate::metrics::record::Store;
use crate::seam::seam;
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
    /// Both.
    pub const ALL: [Self; 2] = [Self::Background, Self::Interactive];

    /// Returns the name for logs, metrics and errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Interactive => "interactive",
        }
    }
}

/// Permits a consumer is taken to have when the queue tells only the number of consumers: the default of
/// `worker.batches_at_once`.
pub const PERMITS_ASSUMED: u64 = 16;

/// Messages waiting and being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waiting for a consumer.
    pub ready: u64,
    /// Delivered and not yet acknowledged; `None` when the queue does not tell (RabbitMQ does not, over AMQP).
    pub unacknowledged: Option<u64>,
    /// Messages consumers would take now: the free permits of those who wait for one. RabbitMQ tells only how many
    /// consumers there are, so its answer is an upper bound: so many times [`PERMITS_ASSUMED`].
    pub wanted: u64,
}

/// A job handed to a consumer. It is settled exactly once; dropped unsettled it is delivered again.
#[async_trait]
pub trait Delivery: Send + 'static {
    /// Returns the job, or why its bytes cannot be read.
    fn job(&self) -> &Result<SyncJob, JobError>;
    /// Returns how often it was delivered before: 0 the first time.
    fn redelivered(&self) -> u32;
    /// Returns the trace whoever published it belonged to.
    fn trace(&self) -> &TraceContext;
    /// Returns the work is done and its results are stored.
    async fn acknowledge(self: Box<Self>) -> Result<(), Failure>;
    /// Returns the job can never be worked on: to the dead letters, with the reason.
    async fn reject(self: Box<Self>, reason: &str) -> Result<(), Failure>;
    /// Somebody else should take it, soon. Counts as a delivery, so after `queue.delivery_limit` of them it goes to the
    /// dead letters.
    async fn requeue(self: Box<Self>) -> Result<(), Failure>;
}

/// One consumer. It holds at most as many unsettled deliveries as permits were given to it.
#[async_trait]
pub trait Consumer: Send + 'static {
    /// Returns the next delivery; `None` when the consumer or its connection ended and another must be opened.
    async fn next(&mut self) -> Option<Box<dyn Delivery>>;
}

seam! {
    Store::Queue,
    /// The seam to the queue.
    pub trait JobQueue {
        /// Puts a job in and returns when the queue has taken responsibility for it. Fails with class `Throttled` and code
        /// `QueueFull` when too many wait, and with code `JobRefused` when the job names no user or too many. With class
        /// `OutcomeUnknown` the job may have been put in all the same.
        async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure>;
        /// Opens a consumer that holds at most `permits` unsettled deliveries.
        async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure>;
        /// Returns what waits and what is being worked on.
        async fn depth(&self, queue: QueueName) -> Result<Depth, Failure>;
        /// At most `limit` dead letters, oldest first. A broker lends them out while it lists them: who lists at the same
        /// moment in another process may see fewer.
        async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure>;
        /// Returns how many dead letters there are.
        async fn dead_letter_count(&self) -> Result<u64, Failure>;
        /// Puts dead letters back into the queue they came from; how many. Each leaves the dead letters only after the queue
        /// took it, so it may come twice, but is never lost. Fails when the first one cannot be put back, or later with the
        /// number in the failure.
        async fn replay_dead_letters(&self, which: &Letters) -> Result<u64, Failure>;
        /// Removes dead letters for good; how many.
        async fn discard_dead_letters(&self, which: &Letters) -> Result<u64, Failure>;
    }
    told {
        /// Returns what happened between this process and the queue; all zero for a queue in this process.
        fn metrics(&self) -> QueueMetrics;
    }
}
