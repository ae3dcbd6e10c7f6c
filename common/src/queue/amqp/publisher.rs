//! Publishes messages: confirmed, mandatory, persistent; many at once over one channel.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::amqp_connection::{AmqpConnection, BrokerContext, ConnectionPurpose, ReconnectingConnection};
use super::errors;
use crate::clock::monotonic;
use crate::error::{Code, ErrorClass, Failure};

#[derive(Debug)]
pub(super) struct Publisher {
    core: Arc<BrokerContext>,
    connection: ReconnectingConnection,
    window: Semaphore,
    size: usize,
}

impl Publisher {
    pub(super) fn new(core: Arc<BrokerContext>, size: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connection: ReconnectingConnection::new(Arc::clone(&core), ConnectionPurpose::Publish),
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
        self.connection.get().await.map(drop)
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
        let connection = self.connection.get().await?;
        if let Some(reason) = connection.alarm() {
            return Err(errors::blocked_failure(&reason));
        }
        let sent = self.publish_confirmed(&connection, queue, body, properties).await;
        let counters = &self.core.counters;
        match sent.as_ref().map_err(|failure| failure.code) {
            Ok(()) => counters.published.add_one(),
            Err(Code::QueueFull) => counters.refused.add_one(),
            // The next connection declares the queue again.
            Err(Code::QueueMissing) => {
                counters.returned.add_one();
                connection.retire();
            }
            Err(_) if connection.alarm().is_some() => {}
            Err(_) => {
                counters.unconfirmed_lost.add_one();
                connection.retire();
            }
        }
        sent
    }

    async fn publish_confirmed(
        &self,
        connection: &AmqpConnection,
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
            let publish =
                connection
                    .channel
                    .basic_publish("".into(), queue.into(), options, body, properties);
            publish.await?.await
        };
        tokio::select! {
            // A confirmation that has arrived counts, even if an alarm came with it.
            biased;
            confirmation = timeout_at(monotonic() + patience, confirmation) => match confirmation {
                Ok(Ok(Confirmation::Ack(None))) => Ok(()),
                Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => {
                    Err(errors::unroutable_failure(queue))
                }
                Ok(Ok(Confirmation::Nack(None))) => Err(self.refusal_failure(connection, queue).await),
                Ok(Ok(Confirmation::NotRequested)) => Err(errors::with_unknown_outcome(errors::unavailable(format!(
                    "{}: the broker does not confirm", doing()
                )))),
                Ok(Err(error)) => Err(errors::with_unknown_outcome(errors::failure(&error, &doing()))),
                Err(_) => Err(errors::with_unknown_outcome(errors::timed_out(&doing(), patience))),
            },
            reason = connection.wait_until_blocked() => Err(errors::with_unknown_outcome(errors::blocked_failure(&reason))),
        }
    }

    /// Returns the failure of a job that the broker refused. Either the queue is full, or the channel knows
    /// no node that could take the job; then it refuses every further one, too, even after the queue has a
    /// new leader.
    async fn refusal_failure(&self, connection: &AmqpConnection, queue: &str) -> Failure {
        let inspection = connection.channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::durable().passive(),
            FieldTable::default(),
        );
        let inspected = self
            .core
            .answer(&format!("inspecting queue {queue}"), inspection)
            .await;
        let maximum = self.core.topology.maximum_length();
        match inspected {
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
