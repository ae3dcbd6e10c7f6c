//! The baseline: the least that any system of this kind can do over the same servers. 100 users move from one sorted
//! set to another, a job with their names is published and confirmed, then taken, the users move back with a new
//! stamp, and the job is acknowledged. There are no tenants, no tokens, no histories, no order among tenants and no
//! leader.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;
use tasksync_common::queue::{Reason, SyncJob, VERSION, Workload};
use tasksync_common::schedule::Token;
use uuid::Uuid;

use crate::text;

const BATCH: usize = 100;
/// Most batches in flight.
const AT_ONCE: u16 = 64;

/// Connections and names of the baseline.
pub(crate) struct Bare {
    redis: MultiplexedConnection,
    publisher: Channel,
    taker: Channel,
    /// Held so that they stay open.
    _connections: [Connection; 2],
    due: String,
    claimed: String,
    queue: String,
    users: usize,
}

impl Bare {
    /// Connects, and adds this many users to the set.
    ///
    /// # Errors
    /// A server does not answer.
    pub(crate) async fn open(redis: &str, amqp: &str, prefix: &str, users: usize) -> Result<Self, String> {
        let client = redis::Client::open(redis).map_err(text)?;
        let mut redis = client.get_multiplexed_async_connection().await.map_err(text)?;
        let connect = || Connection::connect(amqp, ConnectionProperties::default());
        let (one, other) = (connect().await.map_err(text)?, connect().await.map_err(text)?);
        let publisher = one.create_channel().await.map_err(text)?;
        publisher
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(text)?;
        let taker = other.create_channel().await.map_err(text)?;
        taker
            .basic_qos(AT_ONCE, BasicQosOptions::default())
            .await
            .map_err(text)?;
        let queue = format!("{prefix}.bare");
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        publisher
            .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments)
            .await
            .map_err(text)?;
        let due = format!("{prefix}:bare:due");
        for first in (0..users).step_by(1_000) {
            let mut add = redis::cmd("ZADD");
            add.arg(&due);
            for number in first..users.min(first + 1_000) {
                add.arg(number).arg(format!("user{number:06}@contoso.example"));
            }
            let _: i64 = add.query_async(&mut redis).await.map_err(text)?;
        }
        Ok(Self {
            redis,
            publisher,
            taker,
            _connections: [one, other],
            due,
            claimed: format!("{prefix}:bare:claimed"),
            queue,
            users,
        })
    }

    /// Moves every user once. Returns the number of users.
    ///
    /// # Errors
    /// A server does not answer.
    pub(crate) async fn run(&self) -> Result<u64, String> {
        let batches = self.users / BATCH;
        let consumer = self
            .taker
            .basic_consume(
                self.queue.as_str().into(),
                "bare".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(text)?;
        let send = futures::stream::iter(0..batches)
            .map(|number| self.send(number))
            .buffer_unordered(usize::from(AT_ONCE))
            .try_for_each(|()| async { Ok(()) });
        let take = consumer
            .take(batches)
            .map(|delivery| self.finish(delivery))
            .buffer_unordered(usize::from(AT_ONCE))
            .try_fold(0, |sum, users| async move { Ok(sum + users) });
        let ((), users) = tokio::try_join!(send, take)?;
        self.taker
            .basic_cancel("bare".into(), lapin::options::BasicCancelOptions::default())
            .await
            .map_err(text)?;
        Ok(users)
    }

    async fn send(&self, number: usize) -> Result<(), String> {
        let mut redis = self.redis.clone();
        let oldest: Vec<(String, f64)> = redis::cmd("ZPOPMIN")
            .arg(&self.due)
            .arg(BATCH)
            .query_async(&mut redis)
            .await
            .map_err(text)?;
        let mut claim = redis::cmd("ZADD");
        claim.arg(&self.claimed);
        for (user, stamp) in &oldest {
            claim.arg(*stamp).arg(user);
        }
        let _: i64 = claim.query_async(&mut redis).await.map_err(text)?;
        let job = SyncJob {
            version: VERSION,
            id: Uuid::from_u128(number as u128),
            tenant: "contoso".parse().map_err(text)?,
            workload: Workload::Tasks,
            reason: Reason::Scheduled,
            token: Token(1),
            users: oldest
                .iter()
                .map(|(user, _)| user.parse().map_err(text))
                .collect::<Result<_, String>>()?,
            issued_at: Timestamp::UNIX_EPOCH,
        };
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let body = job.encode().map_err(text)?;
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = self
            .publisher
            .basic_publish("".into(), self.queue.as_str().into(), options, &body, properties)
            .await
            .map_err(text)?;
        let confirmation = sent.await.map_err(text)?;
        if confirmation == lapin::Confirmation::Ack(None) {
            Ok(())
        } else {
            Err(format!("a job was not confirmed: {confirmation:?}"))
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a baseline that shares nothing with the clock it is compared to"
    )]
    async fn finish(&self, delivery: lapin::Result<lapin::message::Delivery>) -> Result<u64, String> {
        let delivery = delivery.map_err(text)?;
        let job = SyncJob::decode(&delivery.data).map_err(text)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(text)?
            .as_micros();
        let mut finish = redis::pipe();
        let remove = finish.cmd("ZREM").arg(&self.claimed);
        for user in &job.users {
            remove.arg(user.as_str());
        }
        let add = finish.ignore().cmd("ZADD").arg(&self.due);
        for (index, user) in job.users.iter().enumerate() {
            add.arg((now + index as u128).to_string()).arg(user.as_str());
        }
        let (added,): (u64,) = finish.query_async(&mut self.redis.clone()).await.map_err(text)?;
        delivery.ack(BasicAckOptions::default()).await.map_err(text)?;
        Ok(added)
    }

    /// Removes its queue. Its keys have the run's prefix and are removed with all others.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(crate) async fn close(self) -> Result<(), String> {
        self.publisher
            .queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .map(drop)
            .map_err(text)
    }
}
