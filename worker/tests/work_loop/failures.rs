//! Stores that fail, lost claims, and unreadable jobs.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::queue::{JobQueue as _, QueueName};
use tasksync_common::schedule::topics::*;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key, tenant_id};

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_goes_to_the_dead_letters_with_the_reason() {
    let bench = Bench::new(Act::Idle);
    bench
        .memory
        .publish_bytes(QueueName::Background, b"hello")
        .unwrap();
    let users = bench.enrol("contoso", 1).await;
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    let dead = bench.memory.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("not a sync job"), "{}", dead[0].reason);
    assert_eq!(
        (
            bench.metrics_snapshot().batches_unreadable,
            bench.metrics_snapshot().users_idle
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn users_whose_claim_is_gone_before_the_start_are_skipped() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 3).await;
    let token = bench.send("contoso", &users).await;
    bench
        .order
        .release(&tenant_id("contoso"), token, &users[..2])
        .await
        .unwrap();
    bench.start();
    bench.wait_until_idle().await;
    let asked: Vec<_> = bench.sync.surveys().concat();
    assert_eq!(asked, [key("contoso", "u002")]);
    assert_eq!(bench.metrics_snapshot().claims_lost, 2);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_lost_during_the_work_makes_the_report_change_nothing() {
    let bench = Bench::new(Act::Work(SECOND * 20));
    let users = bench.enrol("contoso", 2).await;
    let token = bench.send("contoso", &users).await;
    bench.start();
    sleep(SECOND * 5).await;
    bench
        .order
        .release(&tenant_id("contoso"), token, &users[..1])
        .await
        .unwrap();
    bench.wait_until_idle().await;
    let lost = bench.status("contoso", &users[0]).await;
    assert_eq!((lost.stamp, lost.last_attempt), (Bench::stamp(0), None));
    assert!(bench.status("contoso", &users[1]).await.last_success.is_some());
    assert_eq!(bench.metrics_snapshot().claims_lost, 1);
    assert_eq!(
        bench.stamps.waiting_and_dropped(),
        (1, 0),
        "only the finished user's stamp is saved"
    );
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_does_not_answer_for_a_while_costs_nothing_but_time() {
    let bench = Bench::new(Act::Work(SECOND));
    let users = bench.enrol("contoso", 3).await;
    bench.send("contoso", &users).await;
    bench.schedule.set_down(true);
    bench.start();
    sleep(SECOND * 20).await;
    assert!(
        bench.sync.started().is_empty(),
        "no user is synced without a claim"
    );
    bench.schedule.set_down(false);
    sleep(SECOND * 6).await;
    bench.schedule.set_down(true);
    sleep(SECOND * 20).await;
    bench.schedule.set_down(false);
    bench.wait_until_idle().await;
    assert_eq!(bench.sync.started().len(), 3);
    assert_eq!(bench.metrics_snapshot().batches_requeued, 0);
    for user in &users {
        assert!(bench.status("contoso", user).await.last_success.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_acknowledged_only_after_its_results_are_stored() {
    let bench = Bench::new(Act::Work(SECOND * 3));
    let users = bench.enrol("contoso", 3).await;
    bench.send("contoso", &users).await;
    bench.start();
    sleep(SECOND).await;
    bench.schedule.set_down(true);
    // This is longer than the claim: the results are discarded, and the job goes back to the queue.
    sleep(SECOND * 130).await;
    assert_eq!(bench.metrics_snapshot().batches_requeued, 1);
    assert_eq!(bench.metrics_snapshot().reports_failed, 1);
    let depth = bench.memory.depth(QueueName::Background).await.unwrap();
    assert_eq!(
        depth.ready + depth.unacknowledged.unwrap(),
        1,
        "the job is not lost"
    );
    bench.order.reclaim(10).await.unwrap();
    bench.schedule.set_down(false);
    bench.wait_until_idle().await;
    for (index, user) in users.iter().enumerate() {
        let status = bench.status("contoso", user).await;
        assert_eq!(
            (status.claimed, status.stamp),
            (false, Bench::stamp(index)),
            "nothing was reported"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_does_not_wait_for_a_schedule_that_is_down() {
    let bench = Bench::new(Act::Work(SECOND * 30));
    let users = bench.enrol("contoso", 3).await;
    bench.send("contoso", &users).await;
    let running = bench.start();
    sleep(SECOND).await;
    bench.schedule.set_down(true);
    bench.stop.cancel();
    running.await.unwrap();
    // 30 s until the users end, and a little more: far below the grace period.
    assert!(bench.began.elapsed() < SECOND * 60);
    let depth = bench.memory.depth(QueueName::Background).await.unwrap();
    assert_eq!(
        (depth.ready, depth.unacknowledged),
        (1, Some(0)),
        "the job is not lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_look_up_panics_fails_alone() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 12).await;
    bench.look_ups.panic_at(users[3].clone());
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(bench.look_ups.all().len(), 1 + 12);
    let broken = bench.status("contoso", &users[3]).await;
    assert_eq!(broken.last_failure.unwrap().code, Code::Panic);
    let counted = bench.metrics_snapshot();
    assert_eq!((counted.users_idle, counted.users_failed), (11, 1));
}

#[tokio::test(start_paused = true)]
async fn when_no_user_can_be_looked_up_no_user_is_surveyed_or_blamed() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 25).await;
    let down = Failure::new(
        ErrorClass::Transient,
        Code::RegistryUnavailable,
        "no connection within 5 s",
    );
    bench.look_ups.fail(Some(down.clone()));
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(bench.look_ups.all().len(), 1);
    assert!(bench.sync.surveys().is_empty());
    for user in &users {
        let status = bench.status("contoso", user).await;
        assert!(!status.claimed);
        assert_eq!(
            (status.last_failure, status.history.failures),
            (Some(down.clone()), 0)
        );
    }
    bench.look_ups.fail(None);
    sleep(MINUTE * 6).await;
    bench.send("contoso", &users).await;
    bench.wait_until_idle().await;
    assert_eq!(bench.metrics_snapshot().users_idle, 25);
}

/// The service account is refused for several users in a row. This is the server's failure, and no user is disabled.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_several_people_is_one_circuit_and_each_persons_text_names_that_person_only() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 10).await;
    for user in &users {
        let refused = Failure::new(
            ErrorClass::Refused,
            Code::ExchangeMailboxDenied,
            format!("{user}@contoso.example: GetFolder: ErrorAccessDenied"),
        );
        bench
            .sync
            .set(key("contoso", user.as_str()), Act::SurveyFails(refused));
    }
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(
        (
            bench.metrics_snapshot().users_disabled,
            bench.metrics_snapshot().circuits_opened
        ),
        (0, 1)
    );
    let alerts = bench.open_alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].user, None);
    for user in &users {
        let status = bench.status("contoso", user).await;
        let text = status.last_failure.unwrap().detail;
        let named = |other: &&tasksync_common::model::UserId| *other != user && text.contains(other.as_str());
        assert_eq!(users.iter().find(named), None, "{user}: {text}");
    }
}
