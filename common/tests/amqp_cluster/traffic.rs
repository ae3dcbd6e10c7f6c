//! Jobs in flight while nodes come and go: one task publishes without end, one consumes without end, and both
//! keep records.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tasksync_common::contract::queue::job;
use tasksync_common::error::Failure;
use tasksync_common::queue::{JobQueue, QueueName};
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_common::trace::TraceContext;

use super::fixture::in_time;

const QUEUE: QueueName = QueueName::Background;

/// Pause between two jobs, because the broker's machine has other work.
const PAUSE: Duration = Duration::from_millis(10);

/// How often a waiting consumer checks whether the traffic has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Default)]
struct TrafficRecord {
    next: AtomicU64,
    confirmed: Mutex<BTreeSet<u64>>,
    delivered: Mutex<BTreeSet<u64>>,
    /// The failures of jobs that were not confirmed.
    failures: Mutex<Vec<Failure>>,
    /// Number of consumers opened.
    epochs: AtomicU64,
    publishing_stopped: AtomicBool,
    taking_stopped: AtomicBool,
}

pub(crate) struct Traffic {
    queue: Arc<dyn JobQueue>,
    book: Arc<TrafficRecord>,
    publishing: AbortOnDropHandle<()>,
    taking: AbortOnDropHandle<()>,
}

impl TrafficRecord {
    fn is_taking(&self) -> bool {
        !self.taking_stopped.load(Ordering::Relaxed)
    }

    async fn publish(&self, queue: &dyn JobQueue) -> Result<u64, Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let published = queue
            .publish(QUEUE, &job(number.into()), &TraceContext::default())
            .await;
        match &published {
            Ok(()) => drop(self.confirmed.lock().unwrap().insert(number)),
            Err(failure) => self.failures.lock().unwrap().push(failure.clone()),
        }
        published.map(|()| number)
    }

    async fn take(&self, queue: &dyn JobQueue) {
        while self.is_taking() {
            let Ok(mut consumer) = queue.consume(QUEUE, 20).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            self.epochs.fetch_add(1, Ordering::Relaxed);
            while self.is_taking() {
                match tokio::time::timeout(POLL_INTERVAL, consumer.next()).await {
                    Err(_) => {}
                    Ok(None) => break,
                    Ok(Some(delivery)) => {
                        let number = delivery.job().as_ref().unwrap().id.as_u128();
                        self.delivered.lock().unwrap().insert(number.try_into().unwrap());
                        // If the acknowledgement does not reach the broker, the job is delivered again.
                        delivery.acknowledge().await.ok();
                    }
                }
            }
        }
    }
}

impl Traffic {
    pub(crate) fn start(queue: &Arc<dyn JobQueue>) -> Self {
        let book = Arc::new(TrafficRecord::default());
        let (publishing, taking) = (
            (Arc::clone(queue), Arc::clone(&book)),
            (Arc::clone(queue), Arc::clone(&book)),
        );
        let publishing = spawn(async move {
            let (queue, book) = publishing;
            while !book.publishing_stopped.load(Ordering::Relaxed) {
                book.publish(&*queue).await.ok();
                tokio::time::sleep(PAUSE).await;
            }
        });
        let taking = spawn(async move {
            let (queue, book) = taking;
            book.take(&*queue).await;
        });
        Self {
            queue: Arc::clone(queue),
            book,
            publishing,
            taking,
        }
    }

    /// Waits until a job that is first published now has been confirmed, and returns its number.
    pub(crate) async fn wait_for_confirmation(&self, after: &str) -> u64 {
        in_time(&format!("a job to be confirmed after {after}"), async || {
            self.book
                .publish(&*self.queue)
                .await
                .map_err(|failure| failure.to_string())
        })
        .await
    }

    /// Waits until a job that is first published now has been confirmed and delivered.
    pub(crate) async fn wait_for_delivery(&self, after: &str) {
        let number = self.wait_for_confirmation(after).await;
        in_time(&format!("a job to be delivered after {after}"), async || {
            let delivered = self.book.delivered.lock().unwrap().contains(&number);
            delivered
                .then_some(())
                .ok_or_else(|| format!("job {number} is not delivered"))
        })
        .await;
    }

    /// Returns the number of consumers opened so far.
    pub(crate) fn epochs(&self) -> u64 {
        self.book.epochs.load(Ordering::Relaxed)
    }

    /// Publishes until a job fails, and returns the failure.
    pub(crate) async fn failure(&self, because: &str) -> Failure {
        in_time(&format!("a failure because {because}"), async || {
            match self.book.publish(&*self.queue).await {
                Ok(number) => Err(format!("job {number} was confirmed")),
                Err(failure) => Ok(failure),
            }
        })
        .await
    }

    /// Stops publishing, waits until every confirmed job has been delivered, and returns their number.
    pub(crate) async fn end(self) -> usize {
        self.book.publishing_stopped.store(true, Ordering::Relaxed);
        self.publishing.await.unwrap();
        in_time("everything confirmed to be delivered", async || {
            let confirmed = self.book.confirmed.lock().unwrap();
            let delivered = self.book.delivered.lock().unwrap();
            let lost: Vec<&u64> = confirmed.difference(&delivered).collect();
            if lost.is_empty() {
                Ok(())
            } else {
                Err(format!("{} of {}: {lost:?}", lost.len(), confirmed.len()))
            }
        })
        .await;
        self.book.taking_stopped.store(true, Ordering::Relaxed);
        self.taking.await.unwrap();
        self.book.confirmed.lock().unwrap().len()
    }
}
