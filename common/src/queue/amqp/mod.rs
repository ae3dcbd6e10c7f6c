//! Jobs on RabbitMQ quorum queues.
//!
//! - `address`, `dial`, `link`: the broker's address, one connection, and a connection with its channel as
//!   one *epoch*. Epochs are never repaired: when one ends, another is opened.
//! - `tls`: the trusted authorities, and the meaning of failed handshakes.
//! - `topology`: the queues. `message`: a job as a message. `errors`: the meaning of errors.
//! - `publisher`, `consumer`, `letters`: the operations.
//!
//! There are three kinds of connections: one publishes jobs, each consumer has its own, and one is for
//! questions. A broker with an alarm stops reading from connections that publish; the others go on.

mod address;
mod amqp_connection;
mod consumer;
mod counters;
mod dead_letters;
mod dial;
mod errors;
mod message;
mod publisher;
#[cfg(test)]
mod tests;
mod tls;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

pub(super) use address::url_refusal;
pub use topology::definitions;

use super::{
    Consumer, DeadLetter, DeadLetterSelection, JobQueue, PERMITS_ASSUMED, QueueDepth, QueueName, SyncJob,
};
use super::{QueueMetrics, open::read_authorities};
use crate::error::Failure;
use crate::random::unique_id;
use crate::settings::QueueSettings;
use crate::trace::TraceContext;
use address::AmqpAddress;
use amqp_connection::{BrokerContext, ConnectionPurpose, ReconnectingConnection};
use consumer::AmqpConsumer;
use dead_letters::AmqpDeadLetters;
use dial::Dialer;
use publisher::Publisher;
use topology::Topology;

/// The queues at a RabbitMQ broker. A connection that ended is reopened by the next call.
#[derive(Debug)]
pub struct AmqpQueue {
    core: Arc<BrokerContext>,
    publisher: Arc<Publisher>,
    /// For questions; an alarm never blocks it.
    inspecting: ReconnectingConnection,
    letters: AmqpDeadLetters,
}

impl AmqpQueue {
    /// Connects, and declares the queues or verifies that they exist. A job waits at most for
    /// `claim_lifetime`, the lifetime of its claim.
    ///
    /// # Errors
    /// The URL or the authorities cannot be used (`SettingsWrong`), the broker cannot be reached now (class
    /// `Transient`), refuses access (`QueueAccessRefused`), or has other queues (`QueueMissing`,
    /// `QueueMismatch`). No failure contains the password.
    pub async fn open(settings: &QueueSettings, claim_lifetime: Duration) -> Result<Self, Failure> {
        let address = AmqpAddress::parse(&settings.url)?;
        // A random start, so that not all processes begin with the first host.
        let first = unique_id().as_u128() % address.hosts.len().max(1) as u128;
        let authorities = read_authorities(settings)?;
        let dialer = Dialer {
            tls: if address.tls {
                Some(tls::connector(authorities)?)
            } else {
                None
            },
            address,
            connect_timeout: settings.connect_timeout,
            heartbeat: settings.heartbeat,
        };
        let core = Arc::new(BrokerContext::new(
            dialer,
            Topology::new(settings, claim_lifetime),
            settings.request_timeout,
            usize::try_from(first).unwrap_or(0),
        ));
        let publisher = Arc::new(Publisher::new(Arc::clone(&core), settings.unconfirmed));
        publisher.open().await?;
        Ok(Self {
            inspecting: ReconnectingConnection::new(Arc::clone(&core), ConnectionPurpose::Inspect),
            letters: AmqpDeadLetters::new(Arc::clone(&core)),
            publisher,
            core,
        })
    }
}

#[async_trait]
impl JobQueue for AmqpQueue {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        let body = job.encode().map_err(|error| job.encoding_failure(&error))?;
        let name = self.core.topology.name(queue);
        self.publisher
            .send(name, &body, message::properties(job, trace))
            .await
    }

    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        let name = self.core.topology.name(queue);
        let consumer = AmqpConsumer::open(&self.core, &self.publisher, name, permits).await?;
        Ok(Box::new(consumer))
    }

    async fn depth(&self, queue: QueueName) -> Result<QueueDepth, Failure> {
        let name = self.core.topology.name(queue);
        let connection = self.inspecting.get().await?;
        let inspection = connection.channel.queue_declare(
            name.into(),
            QueueDeclareOptions::durable().passive(),
            FieldTable::default(),
        );
        let answer = self
            .core
            .answer(&format!("inspecting queue {name}"), inspection)
            .await
            .inspect_err(|_| connection.retire())?;
        Ok(QueueDepth {
            ready: u64::from(answer.message_count()),
            unacknowledged: None,
            wanted: u64::from(answer.consumer_count()).saturating_mul(PERMITS_ASSUMED),
        })
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        self.letters.list(&self.inspecting, limit).await
    }

    async fn dead_letter_count(&self) -> Result<u64, Failure> {
        let connection = self.inspecting.get().await?;
        dead_letters::count_dead_letters(&self.core, &connection.channel)
            .await
            .inspect_err(|_| connection.retire())
    }

    async fn replay_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        self.letters
            .replay(&self.inspecting, &self.publisher, which)
            .await
    }

    async fn discard_dead_letters(&self, which: &DeadLetterSelection) -> Result<u64, Failure> {
        self.letters.discard(&self.inspecting, which).await
    }

    fn metrics(&self) -> QueueMetrics {
        self.core.counters.read(self.publisher.unconfirmed())
    }
}
