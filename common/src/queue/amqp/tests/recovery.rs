//! Ended connections are reopened, and nothing of the old ones is carried over.

use super::*;
use crate::error::Code;

#[tokio::test]
async fn a_settlement_after_the_end_of_its_connection_is_dropped_and_counted() {
    let Some(bench) = bench(QueueSettings::default()).await else {
        return;
    };
    let queue = &bench.queue;
    publish(queue, 1).await.unwrap();
    let mut consumer = queue.consume(QueueName::Background, 2).await.unwrap();
    let late = next(&mut consumer).await;
    // The broker lists connections with a delay.
    let closed = async {
        while bench.node.close_connections() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (closed, ended) = tokio::join!(
        tokio::time::timeout(PATIENCE, closed),
        tokio::time::timeout(PATIENCE, consumer.next())
    );
    closed.expect("connections to be closed");
    assert!(ended.expect("the end in time").is_none());
    assert!(consumer.next().await.is_none(), "an ended consumer stays ended");
    let mut second = queue.consume(QueueName::Background, 2).await.unwrap();
    let again = next(&mut second).await;
    assert_eq!((number(&*again), again.redelivery_count()), (1, 1));
    let failure = late.acknowledge().await.unwrap_err();
    assert_eq!(failure.code, Code::QueueUnavailable);
    assert_eq!(queue.metrics().late_settlements, 1);
    // The new channel still works, because the old number was not sent over it. The publisher's connection
    // was closed, too, and may notice only now.
    while publish(queue, 2).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let other = next(&mut second).await;
    assert_eq!(number(&*other), 2);
    again.acknowledge().await.unwrap();
    other.acknowledge().await.unwrap();
    assert_eq!(queue.depth(QueueName::Background).await.unwrap().ready, 0);
}

#[tokio::test]
async fn a_deleted_queue_ends_consumers_and_is_made_again() {
    let Some(bench) = bench(QueueSettings::default()).await else {
        return;
    };
    let queue = &bench.queue;
    let mut consumer = queue.consume(QueueName::Background, 2).await.unwrap();
    bench.node.delete_queue("background");
    let ended = tokio::time::timeout(PATIENCE, consumer.next()).await;
    assert!(ended.expect("the end in time").is_none());
    let failure = publish(queue, 1).await.unwrap_err();
    assert_eq!(failure.code, Code::QueueMissing);
    assert!(failure.detail.contains("tasksync.tasks.background"), "{failure}");
    assert_eq!(queue.metrics().returned, 1);
    publish(queue, 2).await.unwrap();
    let mut consumer = queue.consume(QueueName::Background, 2).await.unwrap();
    assert_eq!(number(&*next(&mut consumer).await), 2);
}

#[tokio::test]
async fn many_publish_at_once_over_one_connection() {
    let Some(bench) = bench(QueueSettings {
        unconfirmed: 7,
        ..QueueSettings::default()
    })
    .await
    else {
        return;
    };
    let queue = &bench.queue;
    let all = futures::future::join_all((0..200).map(|number| publish(queue, number)));
    for published in all.await {
        published.unwrap();
    }
    let metrics = queue.metrics();
    assert_eq!(
        (metrics.published, metrics.unconfirmed, metrics.connections_opened),
        (200, 0, 1)
    );
    let mut consumer = queue.consume(QueueName::Background, 50).await.unwrap();
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let delivery = next(&mut consumer).await;
        assert!(found.insert(number(&*delivery)));
        delivery.acknowledge().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_that_waits_longer_than_its_claim_is_a_dead_letter() {
    let Some(node) = Node::new() else { return };
    let settings = node.settings(QueueSettings::default());
    let queue = AmqpQueue::open(&settings, Duration::from_millis(200))
        .await
        .unwrap();
    publish(&queue, 1).await.unwrap();
    let letters = tokio::time::timeout(PATIENCE, async {
        loop {
            let letters = queue.dead_letters(10).await.unwrap();
            if !letters.is_empty() {
                break letters;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let letters = letters.await.expect("a dead letter in time");
    assert_eq!(letters[0].id, job(1).id.to_string());
    assert_eq!(letters[0].queue, Some(QueueName::Background));
    assert!(letters[0].reason.contains("claim"), "{}", letters[0].reason);
}
