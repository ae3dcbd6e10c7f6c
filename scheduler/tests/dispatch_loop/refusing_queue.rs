//! A queue that can be made to refuse jobs, and that remembers those it took.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::queue::{
    Consumer, DeadLetter, Depth, JobQueue, Letters, MemoryQueue, QueueMetrics, QueueName, SyncJob,
};
use tasksync_common::trace::TraceContext;

pub(crate) struct RefusingQueue {
    inner: MemoryQueue,
    refuses: AtomicBool,
    taken: Mutex<Vec<(QueueName, SyncJob)>>,
}

impl RefusingQueue {
    pub(crate) fn over(inner: MemoryQueue) -> Arc<Self> {
        Arc::new(Self {
            inner,
            refuses: AtomicBool::new(false),
            taken: Mutex::default(),
        })
    }

    pub(crate) fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// The jobs taken, in order.
    pub(crate) fn taken(&self) -> Vec<(QueueName, SyncJob)> {
        self.taken.lock().unwrap().clone()
    }
}

#[async_trait]
impl JobQueue for RefusingQueue {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::QueueUnavailable,
                "made to fail",
            ));
        }
        self.inner.publish(queue, job, trace).await?;
        self.taken.lock().unwrap().push((queue, job.clone()));
        Ok(())
    }
    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
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
