//! What the leader sends, when, and what happens when it cannot send.

use std::time::Duration;

use tasksync_common::queue::{JobQueue as _, QueueName};
use tasksync_common::schedule::ClaimAnswer;
use tasksync_common::schedule::topics::*;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key, tenant_id};

#[tokio::test(start_paused = true)]
async fn without_workers_nothing_is_sent_and_no_user_is_claimed() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 10).await;
    let process = bench.scheduler("a");
    sleep(MINUTE * 3).await;
    assert!(process.leads());
    assert!(bench.queue.taken().is_empty());
    assert_eq!(bench.order.summary(None).await.unwrap().claimed, 0);
    assert_eq!(process.metrics.runs.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_sent_than_workers_would_take_and_no_job_is_too_large() {
    let mut bench = Bench::new(Act::Idle);
    bench.settings.schedule.users_per_batch = 20;
    bench.enrol("contoso", 100).await;
    let _consumer = bench.queue.consume(QueueName::Background, 3).await.unwrap();
    let mut taking = bench.queue.consume(QueueName::Background, 3).await.unwrap();
    let _process = bench.scheduler("a");
    // One of the two consumers waits for jobs. The job it gets is not settled, so that it first wants two more and
    // later none.
    let first = taking.next().await.unwrap();
    sleep(SECOND * 5).await;
    let depth = bench.queue.depth(QueueName::Background).await.unwrap();
    assert_eq!((depth.ready, depth.unacknowledged), (2, Some(1)));
    let jobs = bench.queue.taken();
    assert_eq!(jobs.len(), 3);
    assert!(jobs.iter().all(|(_, job)| job.users.len() == 20));
    assert_eq!(
        first.job().as_ref().unwrap().users[0],
        key("contoso", "u000").user
    );
}

#[tokio::test(start_paused = true)]
async fn workers_that_are_fast_do_not_wait_for_the_next_look_and_the_queue_stays_short() {
    let mut bench = Bench::new(Act::Idle);
    bench.settings.worker.batches_at_once = 2;
    bench.settings.schedule.users_per_batch = 10;
    let users = bench.enrol("contoso", 2_000).await;
    bench.scheduler("a");
    bench.worker();
    let mut longest = 0;
    // With two batches per look, it would take 100 looks, one a second.
    for _ in 0..40 {
        sleep(SECOND).await;
        longest = longest.max(bench.queue.depth(QueueName::Background).await.unwrap().ready);
    }
    let jobs = bench.queue.taken().len();
    assert!((200..=220).contains(&jobs), "{jobs} jobs for 200 times ten users");
    for user in &users {
        assert!(bench.status(user).await.last_success.is_some(), "{user}");
    }
    assert!(longest <= 20, "{longest} jobs waited");
}

#[tokio::test(start_paused = true)]
async fn users_of_many_tenants_who_are_due_one_by_one_do_not_wait_for_a_look_each() {
    let mut bench = Bench::new(Act::Idle);
    bench.settings.schedule.tenants_per_run = 5;
    let mut users = Vec::new();
    for tenant in 0..300 {
        users.extend(bench.enrol(&format!("tenant-{tenant:03}"), 1).await);
    }
    bench.scheduler("a");
    bench.worker();
    // With five tenants per look, it would take a minute.
    sleep(SECOND * 20).await;
    for user in &users {
        assert!(bench.status(user).await.last_success.is_some(), "{user}");
    }
    assert_eq!(bench.queue.taken().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_without_users_costs_no_message_and_a_classic_timer_job_sends_once_per_run() {
    let mut bench = Bench::new(Act::Idle);
    bench.settings.schedule.top_up_interval = Duration::ZERO;
    bench
        .registry
        .add("empty", &[], "2026-11-22T12:00:00Z".parse().unwrap());
    bench.enrol("contoso", 150).await;
    let process = bench.scheduler("a");
    bench.worker();
    sleep(SECOND * 59).await;
    let jobs = bench.queue.taken();
    assert_eq!(jobs.len(), 2, "100 users and 50 users, at once");
    assert!(jobs.iter().all(|(_, job)| job.tenant == tenant_id("contoso")));
    assert_eq!(
        (process.metrics.runs.get(), process.metrics.top_ups.get()),
        (1, 0)
    );
    assert!(
        bench
            .sync
            .surveys()
            .concat()
            .iter()
            .all(|user| user.tenant == tenant_id("contoso"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_not_taken_gives_its_users_back_at_once() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 30).await;
    bench.queue.set_refuses(true);
    let process = bench.scheduler("a");
    bench.worker();
    let before = bench.status(&users[0]).await.stamp;
    sleep(SECOND * 30).await;
    let failures = process.metrics.publish_failures.get();
    assert!(
        (2..=30).contains(&failures),
        "tried again, with pauses: {failures}"
    );
    for user in &users {
        assert!(!bench.status(user).await.claimed, "{user}");
    }
    assert_eq!(bench.status(&users[0]).await.stamp, before);
    bench.queue.set_refuses(false);
    sleep(SECOND * 30).await;
    for user in &users {
        assert!(bench.status(user).await.last_success.is_some(), "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_jobs_on_their_way_together_none_that_is_not_taken_keeps_its_users() {
    let bench = Bench::new(Act::Idle);
    let mut users = Vec::new();
    for tenant in 0..40 {
        users.extend(bench.enrol(&format!("tenant-{tenant:02}"), 2).await);
    }
    bench.queue.set_refuses(true);
    let process = bench.scheduler("a");
    bench.worker();
    sleep(SECOND * 30).await;
    assert!(process.metrics.publish_failures.get() >= 2);
    for user in &users {
        assert!(!bench.status(user).await.claimed, "{user}");
    }
    bench.queue.set_refuses(false);
    sleep(SECOND * 60).await;
    for user in &users {
        assert!(bench.status(user).await.last_success.is_some(), "{user}");
    }
    let taken = bench.queue.taken();
    let synced: usize = taken.iter().map(|(_, job)| job.users.len()).sum();
    assert_eq!(synced, users.len(), "every user once");
}

#[tokio::test(start_paused = true)]
async fn users_of_a_disabled_tenant_are_not_synced_from_the_next_run_on() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 20).await;
    bench.enrol("fabrikam", 20).await;
    let process = bench.scheduler("a");
    bench.worker();
    sleep(MINUTE * 10).await;
    bench.set_enabled("contoso", false).await;
    sleep(MINUTE).await;
    let before = bench.sync.surveys().len();
    sleep(MINUTE * 30).await;
    let surveyed = bench.sync.surveys()[before..].concat();
    assert!(surveyed.iter().all(|user| user.tenant == tenant_id("fabrikam")));
    assert!(!surveyed.is_empty());
    assert_eq!(process.metrics.users_withdrawn.get(), 20);
    bench.set_enabled("contoso", true).await;
    sleep(MINUTE * 32).await;
    assert_eq!(
        bench
            .order
            .summary(Some(&tenant_id("contoso")))
            .await
            .unwrap()
            .users,
        20
    );
}

#[tokio::test(start_paused = true)]
async fn claims_of_a_worker_that_died_expire_and_their_users_are_synced() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 3).await;
    let process = bench.scheduler("a");
    sleep(SECOND).await;
    let epoch = process.scheduler.leading_epoch().borrow().unwrap();
    let names: Vec<_> = users.iter().map(|user| user.user.clone()).collect();
    let tenant = tenant_id("contoso");
    let claim = bench.order.claim(epoch, &tenant, &names, MINUTE * 2);
    assert!(matches!(claim.await.unwrap(), ClaimAnswer::Claimed { users, .. } if users.len() == 3));
    bench.worker();
    sleep(SECOND * 90).await;
    assert!(bench.sync.surveys().is_empty());
    sleep(SECOND * 120).await;
    assert_eq!(process.metrics.users_reclaimed.get(), 3);
    assert_eq!(bench.work.snapshot().users_idle, 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_schedule_is_rebuilt_and_no_user_is_sent_before_old_claims_have_expired() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 30).await;
    bench.order.withdraw_tenant(&tenant_id("contoso")).await.unwrap();
    let process = bench.scheduler("a");
    bench.worker();
    sleep(bench.settings.schedule.claim_lifetime.saturating_sub(SECOND)).await;
    assert_eq!(process.metrics.users_found.get(), 30);
    assert!(bench.queue.taken().is_empty());
    sleep(MINUTE).await;
    for user in &users {
        assert!(bench.status(user).await.last_success.is_some(), "{user}");
    }
    // Lost while this process leads: the next run finds it.
    bench.order.withdraw_tenant(&tenant_id("contoso")).await.unwrap();
    sleep(MINUTE + SECOND * 5).await;
    assert_eq!(bench.order.summary(None).await.unwrap().users, 30);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_stops_dispatch_and_nothing_else() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 5).await;
    bench.registry.set_down(true);
    let process = bench.scheduler("a");
    bench.worker();
    sleep(MINUTE).await;
    assert!(process.leads());
    assert!(bench.queue.taken().is_empty());
    bench.registry.set_down(false);
    sleep(MINUTE).await;
    assert_eq!(bench.work.snapshot().users_idle, 5);
}

#[tokio::test(start_paused = true)]
async fn idle_users_of_a_tenant_who_began_one_by_one_come_to_share_their_jobs() {
    let bench = Bench::new(Act::Idle);
    for tenant in 0..20 {
        bench
            .enrol_scattered(&format!("tenant-{tenant:02}"), 40, MINUTE * 12)
            .await;
    }
    bench.scheduler("a");
    bench.worker();
    let made = async |time| {
        let before = bench.queue.taken().len();
        sleep(time).await;
        let jobs = &bench.queue.taken()[before..];
        let users: usize = jobs.iter().map(|(_, job)| job.users.len()).sum();
        (users, jobs.len())
    };
    let (users, jobs) = made(MINUTE * 5).await;
    assert!(users < jobs * 2, "{users} users in {jobs} jobs at first");
    sleep(MINUTE * 60).await;
    // Every user has five turns, twelve minutes apart.
    let (users, jobs) = made(MINUTE * 60).await;
    assert!((3_900..=4_100).contains(&users), "{users} users");
    assert!(users > jobs * 20, "{users} users in {jobs} jobs");
}
