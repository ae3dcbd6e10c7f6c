//! The leader over a private Redis that loses its data, in real time.

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::monotonic;
use tasksync_common::contract::redis::PrivateRedis;
use tasksync_common::error::Code;
use tasksync_common::redis::Repeat;
use tasksync_common::registry::topics::*;
use tasksync_common::schedule::topics::*;

use crate::redis_rig::{CLAIM, Rig, opted_in_at, wait_until};
use crate::support::key;

const RUN: Duration = Duration::from_millis(200);

#[tokio::test]
async fn an_emptied_redis_is_filled_again_and_no_user_is_sent_before_old_claims_have_expired() {
    let Some(mut server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    wait_until("the first job", async || rig.has_sent("u0")).await;
    for restart in [false, true] {
        let lost = monotonic();
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
        wait_until("all users", async || process.has(0..5).await).await;
        wait_until("a job after the loss", async || sent_after(&rig, moment)).await;
        assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    }
    assert!(process.metrics.users_found.get() >= 15);
    process.stop();
}

#[tokio::test]
async fn a_tenant_that_vanished_is_added_again() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    wait_until("the first job", async || rig.has_sent("u0")).await;
    let lost = monotonic();
    let keys = process.store.keys_of_all_nodes("*{contoso}*").await.unwrap();
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(keys);
    process
        .store
        .command::<i64>("testing", unlink, Repeat::Yes)
        .await
        .unwrap();
    let moment = process.now().await;
    wait_until("all users", async || process.has(0..5).await).await;
    wait_until("a job after the loss", async || sent_after(&rig, moment)).await;
    assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    assert!(
        repair_alert(&rig)
            .await
            .unwrap()
            .contains("gone from the schedule, or set back")
    );
    process.stop();
}

/// Returns the detail of the alert about a mended order.
async fn repair_alert(rig: &Rig) -> Option<String> {
    let alerts = rig.registry.alerts(None, 10).await.unwrap();
    let alert = alerts
        .into_iter()
        .find(|alert| alert.failure.code == Code::OrderMended);
    alert.map(|alert| alert.failure.detail)
}

/// A tenant whose people neither wait nor are claimed gets their places back, and an alert reports it.
#[tokio::test]
async fn a_tenant_that_lost_a_part_is_mended_and_an_alert_says_so() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::new(server.url(), RUN).await;
    let process = rig.start("one");
    wait_until("the first job", async || rig.has_sent("u0")).await;
    // `due`, `batches` and `claimed`.
    let keys = process
        .store
        .keys_of_all_nodes("*{contoso}:[dbc]*")
        .await
        .unwrap();
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(keys);
    process
        .store
        .command::<i64>("testing", unlink, Repeat::Yes)
        .await
        .unwrap();
    wait_until("the alert", async || repair_alert(&rig).await.is_some()).await;
    assert!(
        repair_alert(&rig)
            .await
            .unwrap()
            .contains("a part of it was gone")
    );
    assert!(process.has(0..5).await);
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
    wait_until("the first job", async || rig.has_sent("u0")).await;
    assert!(process.order.withdraw(&key("contoso", "u4")).await.unwrap());
    let stranger = key("contoso", "u9");
    assert!(process.order.enrol(&stranger, opted_in_at(), None).await.unwrap());
    wait_until("all users", async || process.has(0..5).await).await;
    wait_until("the end of the stranger", async || {
        matches!(process.order.status(&stranger).await, Ok(None))
    })
    .await;
    wait_until("the count of those withdrawn", async || {
        process.metrics.users_withdrawn.get() == 1
    })
    .await;
    // A missing digest is made again.
    let meta = process.store.keys_of_all_nodes("*{contoso}:meta").await.unwrap();
    assert_eq!(meta.len(), 1);
    let hash = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&meta[0]).arg(&words[1..]);
        process
            .store
            .command::<i64>("testing", command, Repeat::Yes)
            .await
            .unwrap()
    };
    assert_eq!(hash(&["HDEL", "names"]).await, 1);
    wait_until("the digest", async || hash(&["HEXISTS", "names"]).await == 1).await;
    process.stop();
}

fn sent_after(rig: &Rig, moment: Timestamp) -> bool {
    !rig.tokens_after(moment).is_empty()
}
