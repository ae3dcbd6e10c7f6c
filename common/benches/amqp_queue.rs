//! Jobs per second through tasksync's queue at RabbitMQ, compared with the bare client.
//!
//! Both give the same guarantees and run in alternating rounds: a quorum queue with the same limits, lifetime
//! and dead lettering; persistent and mandatory messages, confirmed in a window and acknowledged one by one.
//!
//! `TASKSYNC_TEST_AMQP_URL=amqp://… cargo bench -p tasksync-common --bench amqp_queue`

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints its result"
)]

use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tasksync_common::clock::monotonic;
use tasksync_common::queue::{
    JobQueue, QueueName, Reason, SyncJob, VERSION, Workload, definitions, open_queue,
};
use tasksync_common::random::unique_id;
use tasksync_common::schedule::Token;
use tasksync_common::settings::QueueSettings;
use tasksync_common::trace::TraceContext;
use uuid::Uuid;

/// A debug build only rehearses, as the gate does: everything runs once and small, and the figures mean
/// nothing.
const REHEARSAL: bool = cfg!(debug_assertions);
const JOBS: u32 = if REHEARSAL { 50 } else { 5_000 };
const ROUNDS: usize = if REHEARSAL { 1 } else { 5 };
const WINDOW: usize = 100;
const PREFETCH: u16 = 100;
/// Longest wait of a job in the queue.
const LIFETIME: Duration = Duration::from_hours(1);

fn job(number: u32) -> SyncJob {
    SyncJob {
        version: VERSION,
        id: Uuid::from_u128(u128::from(number)),
        tenant: "contoso".parse().unwrap(),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token: Token(1),
        users: (0..100)
            .map(|user| format!("user-{user}").parse().unwrap())
            .collect(),
        issued_at: Timestamp::from_second(1_795_000_000).unwrap(),
    }
}

async fn measure_tasksync(queue: &dyn JobQueue, jobs: &[SyncJob]) -> Duration {
    let mut consumer = queue
        .consume(QueueName::Background, usize::from(PREFETCH))
        .await
        .unwrap();
    let trace = TraceContext::default();
    let begin = monotonic();
    let publish = stream::iter(jobs)
        .map(|job| queue.publish(QueueName::Background, job, &trace))
        .buffer_unordered(WINDOW)
        .for_each(|published| async { published.unwrap() });
    let take = async {
        for _ in jobs {
            let delivery = consumer.next().await.unwrap();
            assert!(delivery.job().is_ok());
            delivery.acknowledge().await.unwrap();
        }
    };
    tokio::join!(publish, take);
    begin.elapsed()
}

async fn bare(publisher: &Channel, taker: &Channel, queue: &str, jobs: &[SyncJob]) -> Duration {
    let mut consumer = taker
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let begin = monotonic();
    let publish = stream::iter(jobs)
        .map(|job| async move {
            // Work that both must do; without it, the client would transport nothing.
            let body = job.encode().unwrap();
            let properties = BasicProperties::default().with_delivery_mode(2);
            let sent = publisher.basic_publish("".into(), queue.into(), options, &body, properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack());
        })
        .buffer_unordered(WINDOW)
        .for_each(|()| async {});
    let take = async {
        for _ in jobs {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert!(SyncJob::decode(&delivery.data).is_ok());
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    };
    tokio::join!(publish, take);
    let elapsed = begin.elapsed();
    // At this point tasksync's consumer has ended, too.
    taker
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    elapsed
}

/// Returns the arguments with which tasksync declares its queue.
fn arguments(settings: &QueueSettings) -> FieldTable {
    let all = definitions(settings, LIFETIME, "/");
    let name = format!("{}.tasks.background", settings.name_prefix);
    let queues = all["queues"].as_array().unwrap();
    let queue = queues.iter().find(|queue| queue["name"] == name).unwrap();
    let mut table = FieldTable::default();
    for (name, value) in queue["arguments"].as_object().unwrap() {
        let value = if let Value::String(text) = value {
            AMQPValue::LongString(text.as_str().into())
        } else {
            AMQPValue::LongLongInt(value.as_i64().unwrap())
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let Some(url) = std::env::var_os("TASKSYNC_TEST_AMQP_URL").and_then(|url| url.into_string().ok()) else {
        println!("skipped: set TASKSYNC_TEST_AMQP_URL to a RabbitMQ broker");
        return;
    };
    let prefix = format!("bench-{}", unique_id());
    let settings = QueueSettings {
        url: url.clone(),
        name_prefix: prefix.clone(),
        ..QueueSettings::default()
    };
    let queue = open_queue(&settings, LIFETIME).await.unwrap();
    let connect = || Connection::connect(&url, ConnectionProperties::default());
    let (one, other) = (connect().await.unwrap(), connect().await.unwrap());
    let publisher = one.create_channel().await.unwrap();
    publisher
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let taker = other.create_channel().await.unwrap();
    taker
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .unwrap();
    let name = format!("{prefix}.bare");
    publisher
        .queue_declare(
            name.as_str().into(),
            QueueDeclareOptions::durable(),
            arguments(&settings),
        )
        .await
        .unwrap();
    let jobs: Vec<SyncJob> = (0..JOBS).map(job).collect();
    let (mut our_rates, mut bare_rates) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let our = f64::from(JOBS) / measure_tasksync(&*queue, &jobs).await.as_secs_f64();
        let bare = f64::from(JOBS) / bare(&publisher, &taker, &name, &jobs).await.as_secs_f64();
        // The first round warms up both.
        if round > 0 {
            our_rates.push(our);
            bare_rates.push(bare);
        }
    }
    let (our, bare) = (median(our_rates), median(bare_rates));
    println!(
        "{JOBS} jobs of 100 users, window {WINDOW}, {ROUNDS} rounds: ours {our:.0} jobs/s, bare client {bare:.0} jobs/s, ratio {:.2} (aim: at least 0.80)",
        our / bare
    );
    for queue in ["bare", "tasks.background", "tasks.interactive", "tasks.dead"] {
        let name = format!("{prefix}.{queue}");
        publisher
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }
}
