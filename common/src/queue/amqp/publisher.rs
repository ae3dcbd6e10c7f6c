//! Publishes messages: confirmed, mandatory, persistent; many at once over one channel.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::errors;
use super::link::{Core, Lasting, Link, Purpose};
use crate::error::{Code, ErrorClass, Failure};

#[derive(Debug)]
pub(super) struct Publisher {
    core: Arc<Core>,
    link: Lasting,
    window: Semaphore,
    size: usize,
}

impl Publisher {
    pub(super) fn new(core: Arc<Core>, size: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            link: Lasting::new(Arc::clone(&core), Purpose::Publish),
            core,
            window: Semaphore::new(size),
            size,
        }
    }

    /// Returns the number of messages whose confirmation is awaited.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.size.saturating_sub(self.window.available_permits()) as u64
    }

    /// Opens the connection if there is none.
    pub(super) async fn open(&self) -> Result<(), Failure> {
        self.link.get().await.map(drop)
    }

    /// Puts a message into a queue. Returns when the broker has confirmed that a majority of its nodes have
    /// it on disk.
    pub(super) async fn send(
        &self,
        queue: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), Failure> {
        let patience = self.core.request_timeout;
        let Ok(Ok(_place)) = tokio::time::timeout(patience, self.window.acquire()).await else {
            return Err(errors::unavailable(format!(
                "{} jobs await confirmation, and none was confirmed within {} ms",
                self.size,
                patience.as_millis()
            )));
        };
        let link = self.link.get().await?;
        if let Some(reason) = link.alarm() {
            return Err(errors::blocked(&reason));
        }
        let sent = self.confirmed(&link, queue, body, properties).await;
        match &sent {
            Ok(()) => self.core.counters.published.add_one(),
            Err(failure) => match failure.code {
                Code::QueueFull => self.core.counters.refused.add_one(),
                // The next connection declares the queue again.
                Code::QueueMissing => {
                    self.core.counters.returned.add_one();
                    link.retire();
                }
                _ if link.alarm().is_some() => {}
                _ => {
                    self.core.counters.unconfirmed_lost.add_one();
                    link.retire();
                }
            },
        }
        sent
    }

    async fn confirmed(
        &self,
        link: &Link,
        queue: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), Failure> {
        let patience = self.core.request_timeout;
        let doing = || format!("publishing to queue {queue}");
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let confirmation = async {
            let publish = link
                .channel
                .basic_publish("".into(), queue.into(), options, body, properties);
            publish.await?.await
        };
        tokio::select! {
            // A confirmation that has arrived counts, even if an alarm came with it.
            biased;
            confirmation = timeout_at(Instant::now() + patience, confirmation) => match confirmation {
                Ok(Ok(Confirmation::Ack(None))) => Ok(()),
                Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => {
                    Err(errors::unroutable(queue))
                }
                Ok(Ok(Confirmation::Nack(None))) => Err(self.refused(link, queue).await),
                Ok(Ok(Confirmation::NotRequested)) => Err(errors::unknown(errors::unavailable(format!(
                    "{}: the broker does not confirm", doing()
                )))),
                Ok(Err(error)) => Err(errors::unknown(errors::failure(&error, &doing()))),
                Err(_) => Err(errors::unknown(errors::timed_out(&doing(), patience))),
            },
            reason = link.alarmed() => Err(errors::unknown(errors::blocked(&reason))),
        }
    }

    /// Returns the failure of a job that the broker refused. Either the queue is full, or the channel knows
    /// no node that could take the job; then it refuses every further one, too, even after the queue has a
    /// new leader.
    async fn refused(&self, link: &Link, queue: &str) -> Failure {
        let look = link.channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::durable().passive(),
            FieldTable::default(),
        );
        let looked = self.core.answer(&format!("inspecting queue {queue}"), look).await;
        let maximum = self.core.topology.maximum_length();
        match looked {
            Err(failure) => failure,
            // A full queue refuses until a fifth of it is free.
            Ok(found) if u64::from(found.message_count()) >= maximum.div_ceil(2) => Failure::new(
                ErrorClass::Throttled { retry_after: None },
                Code::QueueFull,
                format!("the broker refused a job: queue {queue} is full (queue.maximum_length)"),
            ),
            Ok(found) => errors::unavailable(format!(
                "the broker refused a job although queue {queue} holds {} of {maximum}: a node of the cluster is down, or \
                 its dead letters cannot be moved",
                found.message_count()
            )),
        }
    }
}
