//! A queue that can be set to refuse jobs, and that remembers those it took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::queue::{QueueName, SyncJob};

use crate::support::{FaultyQueue, QueueFaults};

pub(crate) type RefusingQueue = FaultyQueue<Refusals>;

#[derive(Default)]
pub(crate) struct Refusals {
    refuses: AtomicBool,
    taken: Mutex<Vec<(QueueName, SyncJob)>>,
}

impl Refusals {
    pub(crate) fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Returns the jobs taken, in order.
    pub(crate) fn taken(&self) -> Vec<(QueueName, SyncJob)> {
        self.taken.lock().unwrap().clone()
    }
}

impl QueueFaults for Refusals {
    fn before_publish(&self) -> Result<(), Failure> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::QueueUnavailable,
                "made to fail",
            ));
        }
        Ok(())
    }

    fn after_publish(&self, queue: QueueName, job: &SyncJob) {
        self.taken.lock().unwrap().push((queue, job.clone()));
    }
}
