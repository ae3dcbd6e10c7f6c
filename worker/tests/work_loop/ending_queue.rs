//! A queue whose consumers can be made to end at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tasksync_common::queue::{Consumer, Delivery};

use crate::support::{FaultyQueue, QueueFaults};

pub(crate) type EndingQueue = FaultyQueue<Endings>;

#[derive(Default)]
pub(crate) struct Endings {
    ends: AtomicBool,
    opened: AtomicUsize,
}

/// A consumer whose connection is lost.
struct Ended;

#[async_trait]
impl Consumer for Ended {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        None
    }
}

impl Endings {
    pub(crate) fn set_ends(&self, ends: bool) {
        self.ends.store(ends, Ordering::SeqCst);
    }

    /// Returns how often a consumer was opened.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl QueueFaults for Endings {
    fn consume(&self) -> Option<Box<dyn Consumer>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.ends
            .load(Ordering::SeqCst)
            .then(|| Box::new(Ended) as Box<dyn Consumer>)
    }
}
