//! Which process leads, and what a process that lost the leadership may still do.

use tasksync_common::clock::monotonic;
use tasksync_common::schedule::topics::*;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::Act;

#[tokio::test(start_paused = true)]
async fn one_leads_and_a_stopped_leader_is_followed_at_once() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 5).await;
    bench.worker();
    let first = bench.scheduler("a");
    sleep(SECOND).await;
    let second = bench.scheduler("b");
    sleep(MINUTE * 5).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(first.metrics.leaderships.get(), 1, "renewed, not taken anew");
    first.stop.cancel();
    first.task.await.unwrap();
    sleep(SECOND * 2).await;
    assert!(second.leads());
    let before = bench.work.snapshot().users_idle;
    sleep(MINUTE * 10).await;
    assert!(bench.work.snapshot().users_idle > before);
    second.stop.cancel();
    second.task.await.unwrap();
    assert!(bench.order.lead("c", SECOND).await.unwrap().is_some(), "given up");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_gives_up_before_another_can_lead() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 5).await;
    bench.worker();
    let first = bench.scheduler("a");
    sleep(SECOND).await;
    let second = bench.scheduler("b");
    sleep(SECOND * 20).await;
    // One failed renewal does not end the leadership.
    first.schedule.set_down(true);
    sleep(SECOND * 6).await;
    first.schedule.set_down(false);
    sleep(SECOND * 20).await;
    assert!(first.leads());
    assert_eq!(first.metrics.leaderships.get(), 1);
    // Now cut off for good.
    first.schedule.set_down(true);
    let cut = monotonic();
    while !second.leads() {
        assert!(
            cut.elapsed() < bench.settings.schedule.leader_lifetime * 5 / 4,
            "failover takes too long"
        );
        sleep(SECOND / 10).await;
        assert!(!(first.leads() && second.leads()), "two leaders");
    }
    assert!(!first.leads());
    // When it is back, it does not take the leadership from the other process.
    first.schedule.set_down(false);
    sleep(MINUTE).await;
    assert!(!first.leads() && second.leads());
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_an_old_epoch_claims_no_user() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("contoso", 5).await;
    let process = bench.scheduler("a");
    sleep(SECOND).await;
    // Another process leads, and this one has not noticed yet, as after a pause of the whole machine.
    bench.order.resign("a").await.unwrap();
    bench.order.lead("b", MINUTE * 60).await.unwrap().unwrap();
    bench.worker();
    sleep(SECOND * 3).await;
    assert!(bench.queue.taken().is_empty());
    assert_eq!(
        process.metrics.stale_epochs.get(),
        1,
        "refused once, then it waits"
    );
    sleep(SECOND * 10).await;
    assert!(!process.leads());
    bench.order.resign("b").await.unwrap();
    sleep(SECOND * 10).await;
    assert!(process.leads());
    assert_eq!(bench.work.snapshot().users_idle, 5);
}
