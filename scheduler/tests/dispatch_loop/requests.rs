//! "Sync now".

use tasksync_common::queue::{QueueName, Reason};
use tasksync_scheduler::{REQUESTS_PER_MINUTE, SyncNowResult};
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key};

#[tokio::test(start_paused = true)]
async fn a_requested_user_is_synced_at_once_although_it_is_not_due_and_others_wait() {
    let mut bench = Bench::new(Act::Work(SECOND * 20));
    bench.settings.worker.batches_at_once = 1;
    let users = bench.enrol("contoso", 400).await;
    let process = bench.scheduler("a");
    bench.worker();
    sleep(MINUTE).await;
    let ana = &users[0];
    let before = bench
        .status(ana)
        .await
        .last_success
        .expect("the oldest was first");
    let requests = process.scheduler.requests();
    assert_eq!(
        requests.sync_now(ana, Reason::Requested).await.unwrap(),
        SyncNowResult::Sent
    );
    sleep(SECOND * 25).await;
    assert!(bench.status(ana).await.last_success.unwrap() > before);
    let interactive = bench.queue.taken();
    let mut interactive = interactive
        .iter()
        .filter(|(queue, _)| *queue == QueueName::Interactive);
    let (_, job) = interactive.next().unwrap();
    assert_eq!((job.users.len(), job.reason), (1, Reason::Requested));
    assert_eq!(
        requests
            .sync_now(&key("contoso", "nobody"), Reason::Requested)
            .await
            .unwrap(),
        SyncNowResult::NotEnrolled
    );
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_asks_too_often_waits_and_others_do_not() {
    let bench = Bench::new(Act::Idle);
    let contoso = bench.enrol("contoso", 50).await;
    let fabrikam = bench.enrol("fabrikam", 1).await;
    let process = bench.scheduler("a");
    sleep(SECOND).await;
    let requests = process.scheduler.requests();
    let mut refused = 0;
    for user in &contoso {
        if let SyncNowResult::TooMany(after) = requests.sync_now(user, Reason::Hint).await.unwrap() {
            assert!(after <= MINUTE / REQUESTS_PER_MINUTE);
            refused += 1;
        }
    }
    assert_eq!(refused, 50 - REQUESTS_PER_MINUTE);
    assert_eq!(process.metrics.requests_refused.get(), u64::from(refused));
    assert_eq!(
        requests.sync_now(&fabrikam[0], Reason::Hint).await.unwrap(),
        SyncNowResult::Sent
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_lead_leaves_the_request_to_the_leader() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 3).await;
    let _first = bench.scheduler("a");
    sleep(SECOND).await;
    let second = bench.scheduler("b");
    bench.worker();
    sleep(SECOND * 10).await;
    let before = bench.status(&users[1]).await.last_success.unwrap();
    let answer = second
        .scheduler
        .requests()
        .sync_now(&users[1], Reason::Requested)
        .await
        .unwrap();
    assert_eq!(answer, SyncNowResult::Due);
    sleep(SECOND * 5).await;
    assert!(bench.status(&users[1]).await.last_success.unwrap() > before);
}

#[tokio::test(start_paused = true)]
async fn a_request_the_queue_does_not_take_leaves_the_user_due() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 1).await;
    let process = bench.scheduler("a");
    sleep(SECOND).await;
    bench.queue.set_refuses(true);
    let answer = process
        .scheduler
        .requests()
        .sync_now(&users[0], Reason::Requested)
        .await
        .unwrap();
    assert_eq!(answer, SyncNowResult::Due);
    assert!(!bench.status(&users[0]).await.claimed);
    bench.queue.set_refuses(false);
    bench.worker();
    sleep(SECOND * 10).await;
    assert!(bench.status(&users[0]).await.last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_requests_all_its_users_leaves_room_for_anothers_request() {
    let bench = Bench::new(Act::Work(SECOND * 30));
    let contoso = bench.enrol("contoso", 20).await;
    let fabrikam = bench.enrol("fabrikam", 1).await;
    bench.worker();
    let process = bench.scheduler("a");
    // Every user was synced once and is not due.
    sleep(MINUTE * 3).await;
    let before = bench.status(&fabrikam[0]).await.last_success.unwrap();
    let requests = process.scheduler.requests();
    let mut sent = 0;
    for user in &contoso {
        match requests.sync_now(user, Reason::Requested).await.unwrap() {
            SyncNowResult::Sent => sent += 1,
            SyncNowResult::Due => {}
            other @ (SyncNowResult::NotEnrolled | SyncNowResult::TooMany(_)) => panic!("{other:?}"),
        }
    }
    // Interactive permits are a quarter of the 16 scheduled ones, and one tenant gets half of these.
    assert_eq!(sent, 2);
    assert_eq!(
        requests.sync_now(&fabrikam[0], Reason::Requested).await.unwrap(),
        SyncNowResult::Sent
    );
    sleep(SECOND * 40).await;
    assert!(bench.status(&fabrikam[0]).await.last_success.unwrap() > before);
    // The requests that were not sent at once are the first of the scheduled ones.
    sleep(MINUTE).await;
    for user in &contoso {
        let status = bench.status(user).await;
        assert!(!status.claimed && status.last_success.unwrap() > before, "{user}");
    }
}
