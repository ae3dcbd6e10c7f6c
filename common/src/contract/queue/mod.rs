//! The suite of the queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{QueueBench, tenant_id, user_id};
use crate::error::{Code, ErrorClass};
use crate::queue::{
    Consumer, DeadLetterSelection, Delivery, JobError, JobQueue, QueueName, Reason, SyncJob, VERSION,
    Workload,
};
use crate::schedule::Token;
use crate::settings::QueueSettings;
use crate::tasks::spawn;
use crate::trace::TraceContext;

use QueueName::{Background, Interactive};

/// Every wait of the suite fails after this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns settings for the queue under test, with little room and few deliveries. The adapter sets the URL
/// itself.
#[must_use]
pub fn settings() -> QueueSettings {
    QueueSettings {
        maximum_length: 8,
        delivery_limit: 3,
        ..QueueSettings::default()
    }
}

/// Returns a job with this number as its id.
#[must_use]
pub fn job(number: u128) -> SyncJob {
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

/// Returns the next delivery of an open consumer.
pub async fn next(consumer: &mut Box<dyn Consumer>) -> Box<dyn Delivery> {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time")
        .expect("an open consumer")
}

/// Returns the number of the delivered job.
pub fn number(delivery: &dyn Delivery) -> u128 {
    delivery.job().as_ref().unwrap().id.as_u128()
}

/// Waits until the queue has these numbers of waiting and unsettled jobs. The bench counts the unsettled ones
/// if the queue does not report them.
async fn wait_for_depth(bench: &dyn QueueBench, name: QueueName, ready: u64, unacknowledged: u64) {
    let queue = bench.queue();
    let mut last = (0, 0);
    for _ in 0..200 {
        let depth = queue.depth(name).await.unwrap();
        let out = match depth.unacknowledged {
            Some(out) => out,
            None => bench.unacknowledged(name).await,
        };
        last = (depth.ready, out);
        if last == (ready, unacknowledged) {
            return;
        }
        tokio::time::sleep(PATIENCE / 200).await;
    }
    panic!("{ready} ready and {unacknowledged} unacknowledged expected, found {last:?}");
}

/// Waits until the queue has this number of dead letters.
async fn wait_for_dead_letters(queue: &dyn JobQueue, count: usize) {
    let mut last = 0;
    for _ in 0..200 {
        last = queue.dead_letter_count().await.unwrap();
        if last == count as u64 {
            return;
        }
        tokio::time::sleep(PATIENCE / 200).await;
    }
    panic!("{count} dead letters expected, found {last}");
}

/// Returns whether no delivery arrives within 50 ms. If the broker is slow it may wrongly return true, but
/// never wrongly false.
async fn nothing_comes(consumer: &mut Box<dyn Consumer>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), consumer.next())
        .await
        .is_err()
}

/// A job arrives as it was published. After the acknowledgement nothing is left of it.
pub async fn a_job_is_delivered_once_and_gone_when_acknowledged(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let empty = queue.depth(Background).await.unwrap();
    assert_eq!((empty.ready, empty.wanted), (0, 0));
    queue
        .publish(Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    wait_for_depth(bench, Background, 1, 0).await;
    let mut consumer = queue.consume(Background, 5).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.job(), &Ok(job(1)));
    assert_eq!(delivery.redelivery_count(), 0);
    wait_for_depth(bench, Background, 0, 1).await;
    delivery.acknowledge().await.unwrap();
    wait_for_depth(bench, Background, 0, 0).await;
    assert!(nothing_comes(&mut consumer).await);
    assert!(queue.dead_letters(10).await.unwrap().is_empty());
}

/// Jobs are delivered first in, first out. Work that a person waits for does not wait behind scheduled work.
pub async fn jobs_come_in_order_and_the_two_queues_are_apart(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..5).await;
    publish(&*queue, Interactive, 100..102).await;
    wait_for_depth(bench, Background, 5, 0).await;
    wait_for_depth(bench, Interactive, 2, 0).await;
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

/// A consumer that waits before the job exists receives it, even after an earlier wait was given up.
pub async fn a_consumer_waits_for_a_job(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    assert!(nothing_comes(&mut consumer).await);
    let waits = spawn(async move {
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
    wait_for_depth(bench, Background, 0, 0).await;
}

/// A settled delivery makes room for the next one; the remaining jobs go to other consumers.
pub async fn a_consumer_holds_no_more_than_its_permits(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..4).await;
    let mut consumer = queue.consume(Background, 2).await.unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    assert!(nothing_comes(&mut consumer).await);
    wait_for_depth(bench, Background, 2, 2).await;
    let mut other = queue.consume(Background, 1).await.unwrap();
    let third = next(&mut other).await;
    first.acknowledge().await.unwrap();
    let fourth = next(&mut consumer).await;
    let found: BTreeSet<u128> = [&second, &third, &fourth].map(|d| number(&**d)).into();
    assert_eq!(found, BTreeSet::from([1, 2, 3]));
    for delivery in [second, third, fourth] {
        delivery.acknowledge().await.unwrap();
    }
    wait_for_depth(bench, Background, 0, 0).await;
}

/// Every job is delivered once, although two consumers take jobs while others are published.
pub async fn two_consumers_share_the_jobs(bench: &dyn QueueBench) {
    const JOBS: usize = 60;
    let queue = bench.queue();
    let (report, mut reports) = tokio::sync::mpsc::channel(JOBS);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut consumer = queue.consume(Background, 2).await.unwrap();
        let report = report.clone();
        workers.push(spawn(async move {
            while let Some(delivery) = consumer.next().await {
                let found = number(&*delivery);
                delivery.acknowledge().await.unwrap();
                report.send(found).await.unwrap();
            }
        }));
    }
    let publisher: Arc<dyn JobQueue> = queue.clone();
    let publishing = spawn(async move {
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
    wait_for_depth(bench, Background, 0, 0).await;
    for worker in workers {
        worker.abort();
    }
}

/// The job goes to the same consumer or another, with its count of deliveries, and never before it was let
/// go.
pub async fn what_is_dropped_or_requeued_is_delivered_again(bench: &dyn QueueBench) {
    let queue = bench.queue();
    queue
        .publish(Background, &job(1), &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((number(&*again), again.redelivery_count()), (1, 1));
    let mut other = queue.consume(Background, 1).await.unwrap();
    assert!(nothing_comes(&mut other).await);
    drop(consumer);
    again.requeue().await.unwrap();
    let third = next(&mut other).await;
    assert_eq!(number(&*third), 1);
    assert!(third.redelivery_count() >= 1);
    third.acknowledge().await.unwrap();
    wait_for_depth(bench, Background, 0, 0).await;
}

/// A job that every worker fails to finish is not delivered for ever.
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
        // Brokers may or may not count the first delivery; more than one delivery beyond the limit is wrong
        // in either case.
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
    wait_for_depth(bench, Background, 0, 0).await;
}

/// Dead letters are listed oldest first, up to the limit, each with its own id. The other jobs go on.
pub async fn a_rejected_job_is_a_dead_letter_with_its_reason(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..2).await;
    publish(&*queue, Interactive, 2..3).await;
    for (name, jobs) in [(Background, 2), (Interactive, 1)] {
        let mut consumer = queue.consume(name, 1).await.unwrap();
        for _ in 0..jobs {
            let delivery = next(&mut consumer).await;
            let reason = format!("tenant gone, job {}", number(&*delivery));
            delivery.reject(&reason).await.unwrap();
            let number = usize::try_from(number_of(&reason)).unwrap();
            wait_for_dead_letters(&*queue, number + 1).await;
        }
    }
    let letters = queue.dead_letters(10).await.unwrap();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["tenant gone, job 0", "tenant gone, job 1", "tenant gone, job 2"]
    );
    let queues: Vec<_> = letters.iter().map(|letter| letter.queue).collect();
    assert_eq!(queues, [Some(Background), Some(Background), Some(Interactive)]);
    let ids: BTreeSet<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(queue.dead_letters(1).await.unwrap(), letters[..1]);
    assert_eq!(
        queue.dead_letters(10).await.unwrap(),
        letters,
        "looking changes neither order nor ids"
    );
    wait_for_depth(bench, Background, 0, 0).await;
}

fn number_of(reason: &str) -> u64 {
    reason.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The worker sees why the bytes cannot be used, and can move them to the dead letters.
pub async fn bytes_that_are_no_job_are_delivered_as_such(bench: &dyn QueueBench) {
    let queue = bench.queue();
    bench.publish_bytes(Background, b"hello").await;
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert!(matches!(delivery.job(), Err(JobError::Unreadable(_))));
    delivery.reject("not a sync job").await.unwrap();
    wait_for_dead_letters(&*queue, 1).await;
    let letters = queue.dead_letters(10).await.unwrap();
    assert!(matches!(letters[0].job, Err(JobError::Unreadable(_))));
    assert_eq!(letters[0].reason, "not a sync job");
    let id = letters[0].id.clone();
    assert_eq!(queue.dead_letters(10).await.unwrap()[0].id, id);
    assert_eq!(
        queue
            .discard_dead_letters(&DeadLetterSelection::Id(id))
            .await
            .unwrap(),
        1,
        "it can be named"
    );
    wait_for_dead_letters(&*queue, 0).await;
}

/// The trace travels with the job. A job published without a trace has none.
pub async fn a_job_carries_its_trace(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let trace = TraceContext::from_headers(
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Some("tasksync=1"),
    );
    queue.publish(Background, &job(1), &trace).await.unwrap();
    publish(&*queue, Background, 2..3).await;
    let mut consumer = queue.consume(Background, 2).await.unwrap();
    let first = next(&mut consumer).await;
    assert_eq!(first.trace(), &trace);
    let second = next(&mut consumer).await;
    assert!(second.trace().is_empty());
    second.acknowledge().await.unwrap();
    first.reject("for the trace's sake").await.unwrap();
    wait_for_dead_letters(&*queue, 1).await;
    assert_eq!(
        queue
            .replay_dead_letters(&DeadLetterSelection::Oldest(1))
            .await
            .unwrap(),
        1
    );
    let again = next(&mut consumer).await;
    assert_eq!(again.trace(), &trace);
    again.acknowledge().await.unwrap();
}

/// A worker that stops drops its consumer first and settles its deliveries afterwards.
pub async fn deliveries_are_settled_after_their_consumer_is_gone(bench: &dyn QueueBench) {
    let queue = bench.queue();
    publish(&*queue, Background, 0..3).await;
    let mut consumer = queue.consume(Background, 3).await.unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    // The broker may have sent the third job ahead; it must go back.
    drop(consumer);
    wait_for_depth(bench, Background, 1, 2).await;
    first.acknowledge().await.unwrap();
    second.requeue().await.unwrap();
    wait_for_depth(bench, Background, 2, 0).await;
    let mut other = queue.consume(Background, 3).await.unwrap();
    let found: BTreeSet<u128> = [number(&*next(&mut other).await), number(&*next(&mut other).await)].into();
    assert_eq!(found, BTreeSet::from([1, 2]));
}

async fn reject_jobs(queue: &dyn JobQueue, name: QueueName, numbers: std::ops::Range<u128>, already: usize) {
    let mut consumer = queue.consume(name, 1).await.unwrap();
    for (count, number) in numbers.enumerate() {
        publish(queue, name, number..number + 1).await;
        next(&mut consumer).await.reject("because").await.unwrap();
        wait_for_dead_letters(queue, already + count + 1).await;
    }
}

/// They are selected by id, or as the oldest. Each returns to its own queue with a new count of deliveries.
pub async fn dead_letters_are_replayed_to_where_they_came_from(bench: &dyn QueueBench) {
    let queue = bench.queue();
    reject_jobs(&*queue, Background, 0..3, 0).await;
    reject_jobs(&*queue, Interactive, 3..5, 3).await;
    let id = |number: u128| DeadLetterSelection::Id(Uuid::from_u128(number).to_string());
    assert_eq!(queue.replay_dead_letters(&id(77)).await.unwrap(), 0);
    assert_eq!(queue.replay_dead_letters(&id(4)).await.unwrap(), 1);
    let mut interactive = queue.consume(Interactive, 1).await.unwrap();
    let delivery = next(&mut interactive).await;
    assert_eq!((number(&*delivery), delivery.redelivery_count()), (4, 0));
    delivery.acknowledge().await.unwrap();
    assert_eq!(
        queue
            .replay_dead_letters(&DeadLetterSelection::Oldest(2))
            .await
            .unwrap(),
        2
    );
    let mut background = queue.consume(Background, 1).await.unwrap();
    for expected in 0..2 {
        let delivery = next(&mut background).await;
        assert_eq!((number(&*delivery), delivery.redelivery_count()), (expected, 0));
        delivery.acknowledge().await.unwrap();
    }
    let left = queue.dead_letters(10).await.unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|letter| letter.job.as_ref().unwrap().id.as_u128())
        .collect();
    assert_eq!(left, [2, 3]);
    // A waiting consumer would be sent jobs ahead, so no consumer is left.
    drop((interactive, background));
    assert_eq!(
        queue
            .replay_dead_letters(&DeadLetterSelection::Oldest(100))
            .await
            .unwrap(),
        2
    );
    wait_for_dead_letters(&*queue, 0).await;
    wait_for_depth(bench, Background, 1, 0).await;
}

/// A letter for which there is no room stays a dead letter.
pub async fn a_replay_into_a_full_queue_loses_nothing(bench: &dyn QueueBench) {
    let queue = bench.queue();
    reject_jobs(&*queue, Background, 0..2, 0).await;
    let mut put_in = 100;
    while queue
        .publish(Background, &job(put_in), &TraceContext::default())
        .await
        .is_ok()
    {
        put_in += 1;
        assert!(put_in < 200, "the queue has no limit");
    }
    let failure = queue
        .replay_dead_letters(&DeadLetterSelection::Oldest(2))
        .await
        .unwrap_err();
    assert_eq!(failure.code, Code::QueueFull);
    wait_for_dead_letters(&*queue, 2).await;
    let mut consumer = queue.consume(Background, 1).await.unwrap();
    for expected in 100..put_in {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&*delivery), expected);
        delivery.acknowledge().await.unwrap();
    }
    wait_for_depth(bench, Background, 0, 0).await;
    assert_eq!(
        queue
            .replay_dead_letters(&DeadLetterSelection::Oldest(2))
            .await
            .unwrap(),
        2
    );
}

/// They are selected by id, or as the oldest. No consumer receives them again.
pub async fn dead_letters_are_discarded(bench: &dyn QueueBench) {
    let queue = bench.queue();
    reject_jobs(&*queue, Background, 0..4, 0).await;
    let id = DeadLetterSelection::Id(Uuid::from_u128(2).to_string());
    assert_eq!(queue.discard_dead_letters(&id).await.unwrap(), 1);
    assert_eq!(queue.discard_dead_letters(&id).await.unwrap(), 0);
    assert_eq!(
        queue
            .discard_dead_letters(&DeadLetterSelection::Oldest(1))
            .await
            .unwrap(),
        1
    );
    let left = queue.dead_letters(10).await.unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|letter| letter.job.as_ref().unwrap().id.as_u128())
        .collect();
    assert_eq!(left, [1, 3]);
    wait_for_depth(bench, Background, 0, 0).await;
}

/// The publisher gets a failure, and no job is lost or overwritten.
pub async fn a_full_queue_refuses_and_takes_again_when_there_is_room(bench: &dyn QueueBench) {
    let queue = bench.queue();
    let capacity = settings().maximum_length as u128;
    publish(&*queue, Background, 0..capacity).await;
    wait_for_depth(bench, Background, settings().maximum_length as u64, 0).await;
    // A broker may accept a few more jobs before it notices the limit, but not any number.
    let mut published = capacity;
    let failure = loop {
        match queue
            .publish(Background, &job(published), &TraceContext::default())
            .await
        {
            Ok(()) => published += 1,
            Err(failure) => break failure,
        }
        assert!(published < capacity * 10, "the queue has no limit");
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
    wait_for_depth(bench, Background, 0, 0).await;
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

/// A job with no user or too many is not published.
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
    wait_for_depth(bench, Background, 0, 0).await;
}
