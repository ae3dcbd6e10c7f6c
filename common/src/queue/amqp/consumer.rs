//! Taking jobs. Each consumer has its own connection, which its deliveries keep open until the last one is
//! settled.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::Acker;
use lapin::BasicProperties;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::amqp_connection::{AmqpConnection, BrokerContext, ConnectionPurpose};
use super::publisher::Publisher;
use super::{errors, message};
use crate::error::Failure;
use crate::queue::{Consumer, Delivery, JobError, SyncJob};
use crate::trace::TraceContext;

/// Longest wait for deliveries that the broker sent ahead to a consumer that ended.
const SENT_AHEAD: Duration = Duration::from_secs(5);

/// Returns a job to the queue; the broker counts it as a delivery.
const RETURN: BasicNackOptions = BasicNackOptions {
    multiple: false,
    requeue: true,
};

pub(super) struct AmqpConsumer {
    core: Arc<BrokerContext>,
    publisher: Arc<Publisher>,
    queue: String,
    connection: Arc<AmqpConnection>,
    /// `None` after the consumer has ended.
    stream: Option<lapin::Consumer>,
}

impl AmqpConsumer {
    pub(super) async fn open(
        core: &Arc<BrokerContext>,
        publisher: &Arc<Publisher>,
        queue: &str,
        permits: usize,
    ) -> Result<Self, Failure> {
        let connection = core.connect(ConnectionPurpose::Consume).await?;
        let prefetch = u16::try_from(permits.max(1)).unwrap_or(u16::MAX);
        let doing = format!("consuming from queue {queue}");
        core.answer(
            &doing,
            connection.channel.basic_qos(prefetch, BasicQosOptions::default()),
        )
        .await
        .inspect_err(|_| connection.retire())?;
        let stream = connection.channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let stream = core
            .answer(&doing, stream)
            .await
            .inspect_err(|_| connection.retire())?;
        Ok(Self {
            core: Arc::clone(core),
            publisher: Arc::clone(publisher),
            queue: queue.to_owned(),
            connection,
            stream: Some(stream),
        })
    }
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn next(&mut self) -> Option<Box<dyn Delivery>> {
        let stream = self.stream.as_mut()?;
        match stream.next().await {
            Some(Ok(delivery)) => {
                let lapin::message::Delivery {
                    properties,
                    data,
                    acker,
                    redelivered,
                    ..
                } = delivery;
                Some(Box::new(AmqpDelivery {
                    job: SyncJob::decode(&data),
                    trace: message::trace(&properties),
                    redelivered: message::redelivery_count(&properties, redelivered),
                    body: data,
                    properties,
                    settlement: Some(AmqpSettlement {
                        core: Arc::clone(&self.core),
                        connection: Arc::clone(&self.connection),
                        acker,
                    }),
                    publisher: Arc::clone(&self.publisher),
                    queue: self.queue.clone(),
                }))
            }
            ended => {
                if let Some(Err(error)) = ended {
                    tracing::debug!(queue = %self.queue, %error, "a consumer ended");
                }
                self.stream = None;
                None
            }
        }
    }
}

impl Drop for AmqpConsumer {
    fn drop(&mut self) {
        let (Some(mut stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) else {
            return;
        };
        let (core, connection) = (Arc::clone(&self.core), Arc::clone(&self.connection));
        // The broker sends nothing more, and deliveries sent ahead go back. Deliveries in use keep the
        // connection open.
        runtime.spawn(async move {
            let cancel = connection
                .channel
                .basic_cancel(stream.tag(), BasicCancelOptions::default());
            if core.answer("cancelling a consumer", cancel).await.is_err() {
                return;
            }
            while let Ok(Some(Ok(delivery))) = timeout(SENT_AHEAD, stream.next()).await {
                let back = core.answer("returning a job", delivery.acker.nack(RETURN));
                if back.await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Settles one delivery, over the channel on which it came.
struct AmqpSettlement {
    core: Arc<BrokerContext>,
    connection: Arc<AmqpConnection>,
    acker: Acker,
}

impl AmqpSettlement {
    async fn acknowledge(self) -> Result<(), Failure> {
        let settled = self.acker.ack(BasicAckOptions::default());
        self.settle("acknowledging a job", settled).await
    }

    async fn give_back(self) -> Result<(), Failure> {
        let settled = self.acker.nack(RETURN);
        self.settle("returning a job", settled).await
    }

    /// Settles the delivery. After the end of its epoch it sends nothing: on another channel the delivery's
    /// number would mean another job.
    async fn settle(
        &self,
        doing: &str,
        settled: impl Future<Output = lapin::Result<bool>>,
    ) -> Result<(), Failure> {
        if self.connection.is_alive() {
            match self.core.answer(doing, settled).await {
                Ok(true) => return Ok(()),
                Err(failure) if self.connection.is_alive() => return Err(failure),
                Ok(false) | Err(_) => {}
            }
        }
        self.core.counters.late_settlements.add_one();
        Err(errors::unavailable(format!(
            "{doing}: the job's connection ended, so the job is delivered again"
        )))
    }
}

struct AmqpDelivery {
    job: Result<SyncJob, JobError>,
    trace: TraceContext,
    redelivered: u32,
    body: Vec<u8>,
    properties: BasicProperties,
    publisher: Arc<Publisher>,
    /// The broker's name of the delivery's queue.
    queue: String,
    /// `None` after the delivery was settled.
    settlement: Option<AmqpSettlement>,
}

#[async_trait]
impl Delivery for AmqpDelivery {
    fn job(&self) -> &Result<SyncJob, JobError> {
        &self.job
    }

    fn redelivery_count(&self) -> u32 {
        self.redelivered
    }

    fn trace(&self) -> &TraceContext {
        &self.trace
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<(), Failure> {
        match self.settlement.take() {
            Some(settlement) => settlement.acknowledge().await,
            None => Ok(()),
        }
    }

    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), Failure> {
        let Some(settlement) = &self.settlement else {
            return Ok(());
        };
        // First added to the dead letters, then removed from the queue. In between the job is in both, never
        // in neither. The broker's own rejection would lose the reason. If adding fails, dropping the
        // delivery gives the job back.
        let dead = settlement.core.topology.dead().to_owned();
        let letter = message::rejected_properties(&self.properties, &self.queue, reason);
        self.publisher.send(&dead, &self.body, letter).await?;
        match self.settlement.take() {
            Some(settlement) => settlement.acknowledge().await,
            None => Ok(()),
        }
    }

    async fn requeue(mut self: Box<Self>) -> Result<(), Failure> {
        match self.settlement.take() {
            Some(settlement) => settlement.give_back().await,
            None => Ok(()),
        }
    }
}

impl Drop for AmqpDelivery {
    fn drop(&mut self) {
        let Some(settlement) = self.settlement.take() else {
            return;
        };
        // Without a runtime the process is ending, and the end of the connection gives the job back.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(failure) = settlement.give_back().await {
                    tracing::debug!(%failure, "a job could not be returned; the end of its connection returns it");
                }
            });
        }
    }
}
