//! A queue whose consumers can be made to end at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tasksync_common::error::Failure;
use tasksync_common::queue::{
    Consumer, DeadLetter, Delivery, Depth, JobQueue, Letters, MemoryQueue, QueueMetrics, QueueName, SyncJob,
};
use tasksync_common::trace::TraceContext;

pub(crate) struct EndingQueue {
    inner: MemoryQueue,
    ends: AtomicBool,
    opened: AtomicUsize,
}

/// A consumer whose connection is gone.
struct Ended;

#[async_trait]
impl Consumer for Ended {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        None
    }
}

impl EndingQueue {
    pub(crate) fn over(inner: MemoryQueue) -> Arc<Self> {
        Arc::new(Self {
            inner,
            ends: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set_ends(&self, ends: bool) {
        self.ends.store(ends, Ordering::SeqCst);
    }

    /// How often a consumer was opened.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JobQueue for EndingQueue {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        self.inner.publish(queue, job, trace).await
    }
    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if self.ends.load(Ordering::SeqCst) {
            return Ok(Box::new(Ended));
        }
        self.inner.consume(queue, permits).await
    }
    async fn depth(&self, queue: QueueName) -> Result<Depth, Failure> {
        self.inner.depth(queue).await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        self.inner.dead_letters(limit).await
    }
    async fn dead_letter_count(&self) -> Result<u64, Failure> {
        self.inner.dead_letter_count().await
    }
    async fn replay_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        self.inner.replay_dead_letters(which).await
    }
    async fn discard_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        self.inner.discard_dead_letters(which).await
    }
    fn metrics(&self) -> QueueMetrics {
        self.inner.metrics()
    }
}
