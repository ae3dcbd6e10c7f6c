//! The leader over a private Redis that loses its data, in real time.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tasksync_common::contract::redis::PrivateRedis;
use tasksync_common::redis::Repeat;
use tasksync_common::schedule::topics::*;

use crate::redis_rig::{CLAIM, Rig, opted_in_at, until};
use crate::support::key;

const RUN: Duration = Duration::from_millis(200);

#[tokio::test]
async fn an_emptied_redis_is_filled_again_and_nobody_is_sent_before_old_claims_have_run_out() {
    let Some(mut server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    until("the first job", async || rig.has_sent("u0")).await;
    for restart in [false, true] {
        let lost = Instant::now();
        if restart {
            server.down();
            server.up();
        } else {
            let flush = redis::cmd("FLUSHALL");
            process
                .store
                .command::<()>("testing", flush, Repeat::Yes)
                .await
                .unwrap();
        }
        let moment = process.now().await;
        until("everybody", async || process.has(0..5).await).await;
        until("a job after the loss", async || sent_after(&rig, moment)).await;
        assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    }
    assert!(process.metrics.users_found.get() >= 15);
    process.stop();
}

#[tokio::test]
async fn a_tenant_that_vanished_is_put_in_again() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    until("the first job", async || rig.has_sent("u0")).await;
    let lost = Instant::now();
    let keys = process.store.keys_of_all_nodes("*{contoso}*").await.unwrap();
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(keys);
    process
        .store
        .command::<i64>("testing", unlink, Repeat::Yes)
        .await
        .unwrap();
    let moment = process.now().await;
    until("everybody", async || process.has(0..5).await).await;
    until("a job after the loss", async || sent_after(&rig, moment)).await;
    assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    process.stop();
}

/// The schedule lacks one user and has another one that should not be there: the number is right, but the names are
/// not.
#[tokio::test]
async fn one_missing_and_one_too_many_are_found_by_their_names() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    until("the first job", async || rig.has_sent("u0")).await;
    assert!(process.order.withdraw(&key("contoso", "u4")).await.unwrap());
    let stranger = key("contoso", "u9");
    assert!(process.order.enrol(&stranger, opted_in_at(), None).await.unwrap());
    until("everybody", async || process.has(0..5).await).await;
    until("the end of the stranger", async || {
        matches!(process.order.status(&stranger).await, Ok(None))
    })
    .await;
    process.stop();
}

fn sent_after(rig: &Rig, moment: Timestamp) -> bool {
    !rig.tokens_after(moment).is_empty()
}
