//! The queue's suite.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{QueueBench, tenant_id, user_id};
use crate::error::{Code, ErrorClass};
use crate::queue::{
    Consumer, Delivery, Depth, JobError, JobQueue, QueueName, Reason, SyncJob, VERSION, Workload,
};
use crate::schedule::Token;
use crate::settings::QueueSettings;
use crate::trace::TraceContext;

use QueueName::{Background, Interactive};

/// Every wait of the suite ends after this, as a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings of the queue under test (the URL is the adapter's own matter): little room, few deliveries.
#[must_use]
pub fn settings() -> QueueSettings {
    QueueSettings {
        maximum_length: 8,
        delivery_limit: 3,
        ..QueueSettings::default()
    }
}

fn job(number: u128) -> SyncJob {
    SyncJob {
        version: VERSION,
        id: Uuid::from_u128(number),
        tenant: tenant_id("contoso"),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token: Token(7),
        users: vec![user_id("ana"), user_id("ben")],
        issued_at: Timestamp::from_second(1_795_000_000).unwrap(),
    }
}

async fn publish(queue: &dyn JobQueue, name: QueueName, numbers: std::ops::Range<u128>) {
    for number in numbers {
        queue
            .publish(name, &job(number), &TraceContext::default())
            .await
            .unwrap();
    }
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Box<dyn Delivery> {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time")
        .expect("an open consumer")
}

fn number(delivery: &dyn Delivery) -> u128 {
    delivery.job().as_ref().unwrap().id.as_u128()
}

/// Waits until the depth (without `wanted`, which a broker may not know at once) is as expected.
async fn settles(queue: &dyn JobQueue, name: QueueName, ready: u64, unacknowledged: u64) {
    let mut last = Depth::default();
    for _ in 0..200 {
        last = queue.depth(name).await.unwrap();
        if (last.ready, last.unacknowledged) == (ready, unacknowledged) {
            return;
        }
        tokio::time::sleep(PATIENCE / 200).await;
    }
    panic!("{ready} ready and {unacknowledged} unacknowledged expected, found {last:?}");
}

/// `true` when nothing comes for a moment. Can only be wrongly satisfied, never wrongly fail.
async fn nothing_comes(consumer: &mut Box<dyn Consumer>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), consumer.next())
        .await
        .is_err()
}

/// As it was published; after the acknowledgement nothing is left.
pub async fn a_job_is_delivered_once_and_gone_when_acknowledged(bench: &dyn QueueBench) {
    let queue = bench.queue();
    assert_eq!(queue.depth(Background).await.unwrap(), Depth::default());
    queue
        .publish(Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    settles(&*queue, Background, 1, 0).await;
    let mut consumer = queue.consume(Background, 5).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.job(), &Ok(job(1)));
    assert_eq!(delivery.redelivered(), 0);
    settles(&*queue, Background, 0, 1).await;
    delivery.acknowledge().await.unwrap();
    settles(&*queue, Background, 0, 0).await;
    assert!(nothing_comes(&mut consumer).await);
    assert!(queue.dead_letters(10).await.unwrap().is_empty());
}

/// First in, first out, and what somebody waits for does not wait behind what is scheduled.
pub async fn jobs_come_in_order_and_the_two_queues_are_apart(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..5).await;
    publish(&*queue, Interactive, 100..102).await;
    settles(&*queue, Background, 5, 0).await;
    settles(&*queue, Interactive, 2, 0).await;
    let mut interactive = queue.consume(Interactive, 5).await.unwrap();
    for expected in 100..102 {
        let delivery = next(&mut interactive).await;
        assert_eq!(number(&*delivery), expected);
        delivery.acknowledge().await.unwrap();
    }
    let mut background = queue.consume(Background, 1).await.unwrap();
    for expected in 0..5 {
        let delivery = next(&mut background).await;
        assert_eq!(number(&*delivery), expected);
        delivery.acknowledge().await.unwrap();
    }
    assert!(nothing_comes(&mut interactive).await);
}

/// Who waits before the job is there gets it; also after a wait that was given up.
pub async fn a_consumer_waits_for_a_job(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    assert!(nothing_comes(&mut consumer).await);
    let waits = tokio::spawn(async move {
        let delivery = next(&mut consumer).await;
        let found = number(&*delivery);
        delivery.acknowledge().await.unwrap();
        found
    });
    tokio::task::yield_now().await;
    queue
        .publish(Background, &job(9), &TraceContext::default())
        .await
        .unwrap();
    assert_eq!(waits.await.unwrap(), 9);
    settles(&*queue, Background, 0, 0).await;
}

/// A settled delivery makes room for the next; the others stay for other consumers.
pub async fn a_consumer_holds_no_more_than_its_permits(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..4).await;
    let mut consumer = queue.consume(Background, 2).await.unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    assert!(nothing_comes(&mut consumer).await);
    settles(&*queue, Background, 2, 2).await;
    let mut other = queue.consume(Background, 1).await.unwrap();
    let third = next(&mut other).await;
    first.acknowledge().await.unwrap();
    let fourth = next(&mut consumer).await;
    let found: BTreeSet<u128> = [&second, &third, &fourth].map(|d| number(&**d)).into();
    assert_eq!(found, BTreeSet::from([1, 2, 3]));
    for delivery in [second, third, fourth] {
        delivery.acknowledge().await.unwrap();
    }
    settles(&*queue, Background, 0, 0).await;
}

/// Every job is worked on once, although two take at the same time while jobs are being put in.
pub async fn two_consumers_share_the_jobs(bench: &dyn QueueBench) {
    const JOBS: usize = 60;
    let queue = bench.queue();
    let (report, mut reports) = tokio::sync::mpsc::channel(JOBS);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut consumer = queue.consume(Background, 2).await.unwrap();
        let report = report.clone();
        workers.push(tokio::spawn(async move {
            while let Some(delivery) = consumer.next().await {
                let found = number(&*delivery);
                delivery.acknowledge().await.unwrap();
                report.send(found).await.unwrap();
            }
        }));
    }
    let publisher: Arc<dyn JobQueue> = queue.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..JOBS as u128 {
            loop {
                match publisher
                    .publish(Background, &job(number), &TraceContext::default())
                    .await
                {
                    Ok(()) => break,
                    Err(failure) if failure.code == Code::QueueFull => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(failure) => panic!("{failure}"),
                }
            }
        }
    });
    let mut found = BTreeSet::new();
    for _ in 0..JOBS {
        let number = tokio::time::timeout(PATIENCE, reports.recv())
            .await
            .expect("every job in time")
            .unwrap();
        assert!(found.insert(number), "job {number} was worked on twice");
    }
    publishing.await.unwrap();
    settles(&*queue, Background, 0, 0).await;
    for worker in workers {
        worker.abort();
    }
}

/// By the same consumer or another, counted, and never before it was let go.
pub async fn what_is_dropped_or_requeued_is_delivered_again(bench: &dyn QueueBench) {
    let queue = bench.queue();
    queue
        .publish(Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((number(&*again), again.redelivered()), (1, 1));
    let mut other = queue.consume(Background, 1).await.unwrap();
    assert!(nothing_comes(&mut other).await);
    drop(consumer);
    again.requeue().await.unwrap();
    let third = next(&mut other).await;
    assert_eq!(number(&*third), 1);
    assert!(third.redelivered() >= 1);
    third.acknowledge().await.unwrap();
    settles(&*queue, Background, 0, 0).await;
}

/// A job that ends every worker does not go round for ever.
pub async fn a_job_never_finished_ends_in_the_dead_letters(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    queue
        .publish(Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let mut deliveries = 0;
    let letters = loop {
        let letters = queue.dead_letters(10).await.unwrap();
        if !letters.is_empty() {
            break letters;
        }
        // Brokers count the first delivery or do not; more than one beyond the limit is wrong in either case.
        if let Ok(delivery) = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await {
            deliveries += 1;
            assert!(
                deliveries <= settings().delivery_limit + 1,
                "delivered without end"
            );
            drop(delivery);
        }
    };
    assert!(deliveries >= settings().delivery_limit);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].job, Ok(job(1)));
    assert!(!letters[0].reason.is_empty());
    settles(&*queue, Background, 0, 0).await;
}

/// Oldest first, each with a number of its own, as many as asked for; the others go on.
pub async fn a_rejected_job_is_a_dead_letter_with_its_reason(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..2).await;
    publish(&*queue, Interactive, 2..3).await;
    for name in [Background, Interactive] {
        let mut consumer = queue.consume(name, 1).await.unwrap();
        while queue.depth(name).await.unwrap().ready > 0 {
            let delivery = next(&mut consumer).await;
            let reason = format!("tenant gone, job {}", number(&*delivery));
            delivery.reject(&reason).await.unwrap();
            let wanted = usize::try_from(number_of(&reason)).unwrap() + 1;
            for _ in 0..200 {
                if queue.dead_letters(10).await.unwrap().len() >= wanted {
                    break;
                }
                tokio::time::sleep(PATIENCE / 200).await;
            }
        }
    }
    let letters = queue.dead_letters(10).await.unwrap();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["tenant gone, job 0", "tenant gone, job 1", "tenant gone, job 2"]
    );
    let ids: BTreeSet<u64> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(queue.dead_letters(1).await.unwrap(), letters[..1]);
    settles(&*queue, Background, 0, 0).await;
}

fn number_of(reason: &str) -> u64 {
    reason.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The worker sees why they cannot be used, and can give them to the dead letters.
pub async fn bytes_that_are_no_job_are_delivered_as_such(bench: &dyn QueueBench) {
    let queue = bench.queue();
    bench.publish_bytes(Background, b"hello").await;
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert!(matches!(delivery.job(), Err(JobError::Unreadable(_))));
    delivery.reject("not a sync job").await.unwrap();
    for _ in 0..200 {
        if let [letter] = queue.dead_letters(10).await.unwrap().as_slice() {
            assert!(matches!(letter.job, Err(JobError::Unreadable(_))));
            assert_eq!(letter.reason, "not a sync job");
            return;
        }
        tokio::time::sleep(PATIENCE / 200).await;
    }
    panic!("no dead letter");
}

/// The publisher is told and nothing is lost or overwritten.
pub async fn a_full_queue_refuses_and_takes_again_when_there_is_room(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let room = settings().maximum_length as u128;
    publish(&*queue, Background, 0..room).await;
    settles(&*queue, Background, settings().maximum_length as u64, 0).await;
    // A broker may let a few more in before it notices; it must not do so without end.
    let mut published = room;
    let failure = loop {
        match queue
            .publish(Background, &job(published), &TraceContext::default())
            .await
        {
            Ok(()) => published += 1,
            Err(failure) => break failure,
        }
        assert!(published < room * 10, "the queue has no limit");
    };
    assert_eq!(failure.code, Code::QueueFull);
    assert!(
        matches!(
            failure.class,
            ErrorClass::Throttled { .. } | ErrorClass::Transient
        ),
        "{failure:?}"
    );
    queue
        .publish(Interactive, &job(500), &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    for expected in 0..published {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&*delivery), expected);
        delivery.acknowledge().await.unwrap();
    }
    settles(&*queue, Background, 0, 0).await;
    queue
        .publish(Background, &job(900), &TraceContext::default())
        .await
        .unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(
        number(&*delivery),
        900,
        "the refused job was not let in after all"
    );
    delivery.acknowledge().await.unwrap();
}

/// No user, or too many: nothing is put in.
pub async fn a_job_that_breaks_the_rules_is_refused(bench: &dyn QueueBench) {
    let queue = bench.queue();
    for users in [0, 101] {
        let wrong = SyncJob {
            users: vec![user_id("ana"); users],
            ..job(1)
        };
        let failure = queue
            .publish(Background, &wrong, &TraceContext::default())
            .await
            .unwrap_err();
        assert_eq!(failure.code, Code::JobRefused);
    }
    settles(&*queue, Background, 0, 0).await;
}
