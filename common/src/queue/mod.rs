//! Jobs in flight between the scheduler and the workers.

mod amqp;
mod dead_letter;
mod memory;
mod message;
mod metrics;
mod open;

use async_trait::async_trait;

pub use amqp::{AmqpQueue, definitions};
pub use dead_letter::{DeadLetter, DeadLetterSelection};
pub use memory::MemoryQueue;
pub use message::{JobError, MAXIMUM_USERS, Reason, SyncJob, VERSION, Workload};
pub use metrics::QueueMetrics;
pub use open::open_queue;
pub(crate) use open::{SUPPORTED_URLS, url_refusal};

use crate::error::Failure;
use crate::metrics::record::Store;
use crate::seam::seam;
use crate::trace::TraceContext;

/// The queue of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// Scheduled work.
    Background,
    /// Work that a person waits for.
    Interactive,
}

impl QueueName {
    /// Both queues.
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

/// Number of permits that a consumer is assumed to have if the queue reports only the number of consumers. It
/// is the default of `worker.batches_at_once`.
pub const PERMITS_ASSUMED: u64 = 16;

/// Numbers of jobs that wait, that are being worked on, and that consumers could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Jobs waiting for a consumer.
    pub ready: u64,
    /// Jobs delivered and not yet settled; `None` if the queue does not report it (RabbitMQ does not, over
    /// AMQP).
    pub unacknowledged: Option<u64>,
    /// Jobs that consumers would take now: the free permits of the waiting ones. RabbitMQ reports only the
    /// number of consumers, so its answer is an upper bound: that number times [`PERMITS_ASSUMED`].
    pub wanted: u64,
}

/// A job delivered to a consumer. It is settled exactly once; if it is dropped unsettled, it is delivered
/// again.
#[async_trait]
pub trait Delivery: Send + 'static {
    /// Returns the job, or why its bytes cannot be read.
    fn job(&self) -> &Result<SyncJob, JobError>;
    /// Returns how often the job was delivered before; 0 at the first delivery.
    fn redelivery_count(&self) -> u32;
    /// Returns the trace of the publisher.
    fn trace(&self) -> &TraceContext;
    /// Settles the delivery because the work is done and its results are stored.
    async fn acknowledge(self: Box<Self>) -> Result<(), Failure>;
    /// Moves the job to the dead letters with this reason, because it can never be worked on.
    async fn reject(self: Box<Self>, reason: &str) -> Result<(), Failure>;
    /// Returns the job to the queue for another worker. The delivery counts, and after `queue.delivery_limit`
    /// of them the job goes to the dead letters.
    async fn requeue(self: Box<Self>) -> Result<(), Failure>;
}

/// A consumer of one queue. It holds at most as many unsettled deliveries as it has permits.
#[async_trait]
pub trait Consumer: Send + 'static {
    /// Returns the next delivery; `None` if the consumer or its connection ended and another one must be
    /// opened.
    async fn next(&mut self) -> Option<Box<dyn Delivery>>;
}

seam! {
    Store::Queue,
    /// The seam to the queue.
    pub trait JobQueue {
        /// Publishes a job. Returns when the queue has taken responsibility for it. Fails with class
        /// `Throttled` and code `QueueFull` if too many jobs wait, and with code `JobRefused` if the job
        /// names no user or too many. After a failure with class `OutcomeUnknown` the job may be in the
        /// queue.
        async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure>;
        /// Opens a consumer that holds at most `permits` unsettled deliveries.
        async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure>;
        /// Returns how many jobs wait and are being worked on.
        async fn depth(&self, queue: QueueName) -> Result<QueueDepth, Failure>;
        /// Returns at most `limit` dead letters, oldest first. A broker delivers them to the process that
        /// lists them, so a simultaneous listing by another process may see fewer.
        async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure>;
        /// Returns the number of dead letters.
        async fn dead_letter_count(&self) -> Result<u64, Failure>;
        /// Puts dead letters back into their queues and returns how many. Each one leaves the dead letters
        /// only after the queue has taken it, so it may be delivered twice but is never lost. Stops at the
        /// first one that cannot be put back; the failure names how many were replayed before.
        async fn replay_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure>;
        /// Removes dead letters for good and returns how many.
        async fn discard_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure>;
    }
    cached {
        /// Returns counts of what happened between this process and the queue; all zero for a queue in this
        /// process.
        fn metrics(&self) -> QueueMetrics;
    }
}
