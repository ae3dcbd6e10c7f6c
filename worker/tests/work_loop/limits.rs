//! Each limit is reached once.

use tasksync_common::clock::monotonic;
use tasksync_common::error::Code;
use tasksync_common::queue::{JobQueue as _, QueueName};
use tasksync_common::schedule::topics::*;
use tokio::time::{sleep, sleep_until};

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key, tenant_id};

#[tokio::test(start_paused = true)]
async fn idle_users_are_surveyed_in_groups_and_nothing_else_happens() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 25).await;
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    let sizes: Vec<_> = bench.sync.surveys().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(
        bench.look_ups.all(),
        std::slice::from_ref(&users),
        "once for the whole batch"
    );
    assert!(bench.sync.started().is_empty());
    for user in &users {
        let status = bench.status("contoso", user).await;
        assert!(!status.claimed && status.last_success.is_some(), "{user}");
        assert_eq!(status.history.idle_cycles, 1);
    }
    let counted = bench.metrics_snapshot();
    assert_eq!(
        (counted.users_idle, counted.batches, counted.batches_running),
        (25, 1, 0)
    );
    assert_eq!(bench.stamps.waiting_and_dropped(), (25, 0));
    assert!(bench.open_alerts().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_users_of_a_batch_run_at_once_and_never_more() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 100).await;
    // The syncs have different lengths, so that slots become free one by one while the next group is surveyed.
    for (index, user) in (0..).zip(&users) {
        let takes = SECOND / 10 * (5 + index * 7 % 13);
        bench.sync.set(key("contoso", user.as_str()), Act::Work(takes));
    }
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(bench.sync.running(), (0, 10));
    let started: Vec<_> = bench
        .sync
        .started()
        .into_iter()
        .map(|(key, _)| key.user)
        .collect();
    assert_eq!(started, users, "in the order of the job");
    assert_eq!(bench.metrics_snapshot().users_synced, 100);
}

#[tokio::test(start_paused = true)]
async fn batches_run_side_by_side_up_to_the_permits() {
    let mut bench = Bench::new(Act::Work(SECOND * 10));
    bench.limits.batches_at_once = 3;
    let users = bench.enrol("contoso", 5).await;
    for user in &users {
        bench.send("contoso", std::slice::from_ref(user)).await;
    }
    bench.start();
    sleep(SECOND * 5).await;
    assert_eq!(bench.sync.running(), (3, 3));
    let depth = bench.memory.depth(QueueName::Background).await.unwrap();
    assert_eq!((depth.ready, depth.unacknowledged, depth.wanted), (2, Some(3), 0));
    bench.wait_until_idle().await;
    assert_eq!(bench.sync.running(), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn after_the_budget_no_user_starts_and_the_unreached_lead_the_next_run() {
    let bench = Bench::new(Act::Work(SECOND * 10));
    let users = bench.enrol("contoso", 100).await;
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    let started = bench.sync.started();
    assert_eq!(started.len(), 50);
    let last = started.iter().map(|(_, at)| *at).max().unwrap();
    assert!(last < bench.began + SECOND * 46);
    assert_eq!(bench.sync.ended().len(), 50);
    assert_eq!(
        bench.metrics_snapshot().users_synced,
        50,
        "running users got the rest of their budget"
    );
    assert_eq!(bench.metrics_snapshot().users_released, 50);
    for (index, user) in users.iter().enumerate().skip(50) {
        let status = bench.status("contoso", user).await;
        assert_eq!(
            (status.claimed, status.stamp),
            (false, Bench::stamp(index)),
            "{user}"
        );
        assert_eq!(status.last_attempt, None);
    }
    let now = bench.order.now().await.unwrap();
    let next = bench.order.oldest(&tenant_id("contoso"), now, 50).await.unwrap();
    let next: Vec<_> = next.into_iter().map(|(user, _)| user).collect();
    assert_eq!(next, users[50..]);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_never_ends_is_cut_while_the_claim_holds() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 2).await;
    bench.sync.set(key("contoso", "u000"), Act::Hangs);
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert!(monotonic() < bench.began + bench.limits.claim_lifetime);
    assert!(monotonic() > bench.began + bench.limits.batch_budget + bench.limits.user_budget);
    assert_eq!(bench.sync.running().0, 0, "the future was dropped");
    let cut = bench.status("contoso", &users[0]).await;
    assert_eq!(cut.last_failure.unwrap().code, Code::BudgetExhausted);
    assert_eq!((cut.claimed, cut.history.failures), (false, 1));
    assert_eq!(bench.metrics_snapshot().users_cut, 1);
    assert_eq!(bench.metrics_snapshot().claims_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_user_stops_at_its_budget_and_goes_on_later() {
    let bench = Bench::new(Act::Work(MINUTE * 30));
    let users = bench.enrol("contoso", 1).await;
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    let status = bench.status("contoso", &users[0]).await;
    assert_eq!((status.claimed, status.last_failure), (false, None));
    assert_eq!(status.history.failures, 0);
    assert_eq!(bench.metrics_snapshot().users_cut, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_delivered_for_the_third_time_is_worked_on_one_user_at_a_time() {
    let bench = Bench::new(Act::Work(SECOND));
    let users = bench.enrol("contoso", 12).await;
    bench.send("contoso", &users).await;
    for _ in 0..2 {
        let mut consumer = bench.memory.consume(QueueName::Background, 1).await.unwrap();
        consumer.next().await.unwrap().requeue().await.unwrap();
    }
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(bench.sync.running(), (0, 1));
    assert!(bench.sync.surveys().iter().all(|group| group.len() == 1));
    assert!(bench.look_ups.all().iter().all(|users| users.len() == 1));
    assert_eq!(bench.metrics_snapshot().users_synced, 12);
    assert_eq!(bench.metrics_snapshot().batches_serial, 1);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_at_once_is_opened_again_with_growing_pauses() {
    let bench = Bench::new(Act::Idle);
    bench.queue.set_ends(true);
    bench.start();
    sleep(MINUTE * 10).await;
    // Two consumers, with pauses that double from a quarter of a second up to 15 s: 6 pauses of 16 s in all, then one
    // every 15 s.
    let opened = bench.queue.opened();
    assert!((20..=2 * 48).contains(&opened), "{opened}");
    assert_eq!(
        bench.consumers.check_open().unwrap_err().code,
        Code::QueueUnavailable
    );
    bench.queue.set_ends(false);
    sleep(SECOND * 16).await;
    assert_eq!(bench.consumers.check_open(), Ok(()));
    let users = bench.enrol("contoso", 3).await;
    bench.send("contoso", &users).await;
    bench.wait_until_idle().await;
    assert_eq!(bench.metrics_snapshot().users_idle, 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_or_retries_counts_as_alive() {
    let bench = Bench::new(Act::Idle);
    // An unavailable queue is no reason to restart the worker.
    bench.queue.set_ends(true);
    let running = bench.start();
    sleep(MINUTE * 10).await;
    let stuck = || {
        bench
            .consumers
            .pulses()
            .iter()
            .any(|pulse| pulse.stuck_for().is_some())
    };
    assert!(!stuck());
    bench.queue.set_ends(false);
    sleep(MINUTE * 60).await;
    assert!(!stuck(), "nothing to do for an hour");
    bench.stop.cancel();
    running.await.unwrap();
    sleep(MINUTE * 60).await;
    assert!(!stuck(), "ended gracefully");
    assert!(bench.consumers.check_open().is_err(), "and not open");
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_lets_running_users_end_and_gives_the_others_back() {
    let bench = Bench::new(Act::Work(SECOND * 10));
    let users = bench.enrol("contoso", 40).await;
    bench.send("contoso", &users).await;
    let late = bench.enrol("fabrikam", 1).await;
    let running = bench.start();
    sleep_until(bench.began + SECOND * 15).await;
    bench.stop.cancel();
    sleep(SECOND).await;
    bench.send("fabrikam", &late).await;
    running.await.unwrap();
    assert_eq!(bench.sync.started().len(), 20);
    assert_eq!(bench.metrics_snapshot().users_synced, 20);
    assert_eq!(bench.metrics_snapshot().users_released, 20);
    for (index, user) in users.iter().enumerate().skip(20) {
        let status = bench.status("contoso", user).await;
        assert_eq!((status.claimed, status.stamp), (false, Bench::stamp(index)));
    }
    let depth = bench.memory.depth(QueueName::Background).await.unwrap();
    assert_eq!(
        (depth.ready, depth.unacknowledged),
        (1, Some(0)),
        "nothing new was taken"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_drops_users_that_do_not_end_in_time_and_gives_them_back() {
    let bench = Bench::new(Act::Hangs);
    let users = bench.enrol("contoso", 5).await;
    bench.send("contoso", &users).await;
    let running = bench.start();
    sleep(SECOND * 5).await;
    bench.stop.cancel();
    running.await.unwrap();
    assert!(monotonic() < bench.began + SECOND * 5 + bench.limits.drain + SECOND * 2);
    assert_eq!(bench.sync.running(), (0, 5));
    for (index, user) in users.iter().enumerate() {
        let status = bench.status("contoso", user).await;
        assert_eq!((status.claimed, status.stamp), (false, Bench::stamp(index)));
        assert_eq!(status.history.failures, 0, "the stop is not the user's failure");
    }
}
