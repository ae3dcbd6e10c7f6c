use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::contract::QueueBench;
use crate::contract::queue::settings;
use crate::model::TenantId;
use crate::queue::{Reason, VERSION, Workload};
use crate::schedule::Token;
use crate::tasks::spawn;

struct Bench(Arc<MemoryQueue>);

#[async_trait]
impl QueueBench for Bench {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.0.clone()
    }
    async fn publish_bytes(&self, queue: QueueName, bytes: &[u8]) {
        self.0.publish_bytes(queue, bytes).unwrap();
    }
    async fn unacknowledged(&self, _: QueueName) -> u64 {
        unreachable!("this queue tells it itself")
    }
}

fn bench() -> Bench {
    Bench(Arc::new(MemoryQueue::new(&settings())))
}

mod contract {
    crate::queue_contract!(std::future::ready(Some(super::bench())));
}

fn job(number: u128) -> SyncJob {
    SyncJob {
        version: VERSION,
        id: uuid::Uuid::from_u128(number),
        tenant: "contoso".parse::<TenantId>().unwrap(),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token: Token(1),
        users: vec!["ana".parse().unwrap()],
        issued_at: "2026-11-22T14:00:00Z".parse().unwrap(),
    }
}

fn queue() -> MemoryQueue {
    MemoryQueue::new(&QueueSettings::default())
}

fn number(delivery: &dyn Delivery) -> u128 {
    delivery.job().as_ref().unwrap().id.as_u128()
}

/// Polls once, like an executor, and returns whether the future is ready.
async fn polled_once<F: Future + Unpin>(future: &mut F) -> bool {
    futures::poll!(future).is_ready()
}

#[tokio::test]
async fn what_comes_back_goes_to_the_front() {
    let queue = queue();
    for n in 0..3 {
        queue
            .publish(QueueName::Background, &job(n), &TraceContext::default())
            .await
            .unwrap();
    }
    let mut consumer = queue.consume(QueueName::Background, 2).await.unwrap();
    let first = consumer.next().await.unwrap();
    let second = consumer.next().await.unwrap();
    second.requeue().await.unwrap();
    drop(first);
    for expected in [0, 1, 2] {
        let delivery = consumer.next().await.unwrap();
        assert_eq!(number(&*delivery), expected);
        delivery.acknowledge().await.unwrap();
    }
}

#[tokio::test]
async fn wanted_are_the_free_permits_of_waiting_consumers() {
    let queue = queue();
    let wanted = || async { queue.depth(QueueName::Background).await.unwrap().wanted };
    let mut one = queue.consume(QueueName::Background, 3).await.unwrap();
    let mut other = queue.consume(QueueName::Background, 2).await.unwrap();
    assert_eq!(wanted().await, 0, "nobody waits yet");
    queue
        .publish(QueueName::Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let delivery = one.next().await.unwrap();
    assert_eq!(wanted().await, 0, "one is busy, the other has not asked");
    {
        let mut waits = one.next();
        assert!(!polled_once(&mut waits).await);
        assert_eq!(wanted().await, 2, "three permits, one in use");
        let mut also = other.next();
        assert!(!polled_once(&mut also).await);
        assert_eq!(wanted().await, 4);
        delivery.acknowledge().await.unwrap();
        assert_eq!(wanted().await, 5);
    }
    assert_eq!(wanted().await, 0, "both gave up waiting");
    assert_eq!(
        queue.depth(QueueName::Interactive).await.unwrap(),
        QueueDepth {
            ready: 0,
            unacknowledged: Some(0),
            wanted: 0
        }
    );
}

#[tokio::test]
async fn closing_ends_consumers_and_lets_deliveries_be_settled() {
    let queue = queue();
    queue
        .publish(QueueName::Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(QueueName::Background, 2).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    {
        let mut waits = consumer.next();
        assert!(!polled_once(&mut waits).await);
        queue.close();
        assert!(waits.await.is_none());
    }
    assert!(consumer.next().await.is_none());
    delivery.acknowledge().await.unwrap();
    let refused = queue
        .publish(QueueName::Background, &job(2), &TraceContext::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::QueueUnavailable);
    assert!(queue.consume(QueueName::Background, 1).await.is_err());
}

#[tokio::test]
async fn a_panicking_worker_gives_its_job_back() {
    let queue = queue();
    queue
        .publish(QueueName::Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(QueueName::Background, 1).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    let worker = spawn(async move {
        assert!(delivery.redelivery_count() > 0, "this worker is broken");
    });
    assert!(worker.await.unwrap_err().is_panic());
    let again = consumer.next().await.unwrap();
    assert_eq!((number(&*again), again.redelivery_count()), (1, 1));
}

#[tokio::test]
async fn dead_letters_have_a_limit() {
    let queue = MemoryQueue::new(&QueueSettings {
        maximum_dead_letters: 10,
        ..QueueSettings::default()
    });
    let mut consumer = queue.consume(QueueName::Background, 1).await.unwrap();
    for n in 0..15 {
        queue
            .publish(QueueName::Background, &job(n), &TraceContext::default())
            .await
            .unwrap();
        consumer.next().await.unwrap().reject("no").await.unwrap();
    }
    let letters = queue.dead_letters(usize::MAX).await.unwrap();
    assert_eq!(letters.len(), 10);
    assert_eq!(
        letters[0].id,
        uuid::Uuid::from_u128(5).to_string(),
        "the oldest made room"
    );
}
