//! A broker that is killed, paused and short of memory while jobs go through it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod broker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tasksync_common::contract::queue::{job, number};
use tasksync_common::error::{Code, Failure};
use tasksync_common::queue::{Consumer, JobQueue, QueueName, open_queue};
use tasksync_common::settings::QueueSettings;
use tasksync_common::tasks::spawn;
use tasksync_common::trace::TraceContext;

use broker::Broker;

/// Every wait fails after this time.
const PATIENCE: Duration = Duration::from_mins(2);
const CLAIM: Duration = Duration::from_hours(1);
const QUEUE: QueueName = QueueName::Background;

async fn publish(queue: &dyn JobQueue, number: u128) -> Result<(), Failure> {
    queue.publish(QUEUE, &job(number), &TraceContext::default()).await
}

/// Publishes the job again until the broker takes it.
async fn publish_at_last(queue: &dyn JobQueue, number: u128) {
    let published = async {
        while publish(queue, number).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published)
        .await
        .expect("the broker to take jobs again");
}

async fn consume(queue: &dyn JobQueue) -> Box<dyn Consumer> {
    let opened = async {
        loop {
            match queue.consume(QUEUE, 10).await {
                Ok(consumer) => return consumer,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened)
        .await
        .expect("a consumer in time")
}

/// Takes jobs until all of these have arrived. It opens a new consumer whenever one ends.
async fn take_all(queue: &dyn JobQueue, mut wanted: BTreeSet<u128>) {
    let taken = async {
        let mut consumer = consume(queue).await;
        while !wanted.is_empty() {
            match consumer.next().await {
                Some(delivery) => {
                    let found = number(&*delivery);
                    if delivery.acknowledge().await.is_ok() {
                        wanted.remove(&found);
                    }
                }
                None => consumer = consume(queue).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .expect("every confirmed job");
}

async fn open(broker: &Broker) -> Arc<dyn JobQueue> {
    let settings = QueueSettings {
        url: broker.url(),
        request_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        heartbeat: Duration::from_secs(2),
        ..QueueSettings::default()
    };
    let opened = async {
        loop {
            match open_queue(&settings, CLAIM).await {
                Ok(queue) => return queue,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("the queue")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_kill_pause_and_alarm() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let queue = open(&broker).await;

    // Killed while jobs wait, are unsettled, and are being published.
    let mut confirmed: BTreeSet<u128> = BTreeSet::new();
    for number in 0..50 {
        publish(&*queue, number).await.unwrap();
        confirmed.insert(number);
    }
    let mut consumer = consume(&*queue).await;
    let delivery = consumer.next().await.unwrap();
    let publishing = {
        let queue = Arc::clone(&queue);
        spawn(async move {
            let mut confirmed = Vec::new();
            for number in 50.. {
                match publish(&*queue, number).await {
                    Ok(()) => confirmed.push(number),
                    Err(_) => break,
                }
            }
            confirmed
        })
        .detach()
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.kill();
    let ended = async { while consumer.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the consumer's end");
    confirmed.extend(tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap());
    let failure = publish(&*queue, 9_000).await.unwrap_err();
    assert_eq!(failure.code, Code::QueueUnavailable, "{failure}");
    broker.boot().await;
    assert!(
        delivery.acknowledge().await.is_err(),
        "its connection is gone, so it comes again"
    );
    assert_eq!(queue.metrics().late_settlements, 1);
    publish_at_last(&*queue, 10_000).await;
    confirmed.insert(10_000);
    take_all(&*queue, confirmed).await;

    // Paused: publishing fails in time, the consumer notices, and both go on afterwards.
    let mut consumer = consume(&*queue).await;
    broker.pause();
    let published = tokio::time::timeout(PATIENCE, publish(&*queue, 11_000)).await;
    let failure = published
        .expect("an end of the wait")
        .expect_err("a paused broker confirmed");
    assert_eq!(failure.code, Code::QueueUnavailable, "{failure}");
    let ended = async { while consumer.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the silence to be noticed");
    broker.resume();
    publish_at_last(&*queue, 11_001).await;
    take_all(&*queue, BTreeSet::from([11_001])).await;

    // Short of memory: publishing fails and says so, and consuming goes on.
    publish_at_last(&*queue, 12_000).await;
    let mut consumer = consume(&*queue).await;
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    let refused = async {
        for number in 12_001.. {
            if let Err(failure) = publish(&*queue, number).await
                && failure.detail.contains("alarm")
            {
                return number;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        0
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the alarm to be told");
    assert!(queue.metrics().blocked);
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await;
    let delivery = delivery.expect("a delivery in spite of the alarm").unwrap();
    delivery.acknowledge().await.unwrap();
    queue.depth(QUEUE).await.expect("questions are answered");
    broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    drop(consumer);
    publish_at_last(&*queue, 13_000).await;
    assert!(!queue.metrics().blocked);
    take_all(&*queue, BTreeSet::from([13_000])).await;
}
