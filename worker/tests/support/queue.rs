//! A queue whose publish and consume calls can be made to fail.

use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::error::Failure;
use tasksync_common::queue::{
    Consumer, DeadLetter, DeadLetterSelection, JobQueue, MemoryQueue, QueueDepth, QueueMetrics, QueueName,
    SyncJob,
};
use tasksync_common::trace::TraceContext;

/// The faults of a queue.
pub(crate) trait QueueFaults: Send + Sync + 'static {
    /// Runs before a job is published. An error is returned to the caller, and the job is not published.
    fn before_publish(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Runs after a job is published.
    fn after_publish(&self, queue: QueueName, job: &SyncJob) {
        let _ = (queue, job);
    }

    /// Runs when a consumer is opened. A returned consumer replaces the queue's own.
    fn consume(&self) -> Option<Box<dyn Consumer>> {
        None
    }
}

/// A queue in memory with faults.
pub(crate) struct FaultyQueue<F> {
    inner: MemoryQueue,
    faults: F,
}

impl<F: QueueFaults + Default> FaultyQueue<F> {
    pub(crate) fn over(inner: MemoryQueue) -> Arc<Self> {
        let faults = F::default();
        Arc::new(Self { inner, faults })
    }
}

impl<F> Deref for FaultyQueue<F> {
    type Target = F;
    fn deref(&self) -> &F {
        &self.faults
    }
}

#[async_trait]
impl<F: QueueFaults> JobQueue for FaultyQueue<F> {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        self.faults.before_publish()?;
        self.inner.publish(queue, job, trace).await?;
        self.faults.after_publish(queue, job);
        Ok(())
    }
    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        match self.faults.consume() {
            Some(consumer) => Ok(consumer),
            None => self.inner.consume(queue, permits).await,
        }
    }
    async fn depth(&self, queue: QueueName) -> Result<QueueDepth, Failure> {
        self.inner.depth(queue).await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        self.inner.dead_letters(limit).await
    }
    async fn dead_letter_count(&self) -> Result<u64, Failure> {
        self.inner.dead_letter_count().await
    }
    async fn replay_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        self.inner.replay_dead_letters(which).await
    }
    async fn discard_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        self.inner.discard_dead_letters(which).await
    }
    fn metrics(&self) -> QueueMetrics {
        self.inner.metrics()
    }
}
