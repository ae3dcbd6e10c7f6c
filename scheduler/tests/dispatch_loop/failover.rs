//! The schedule and its leader over a Redis whose Sentinels promote the replica, in real time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::contract::redis::own_prefix;
use tasksync_common::redis::{RedisOptions, RedisStore, Repeat};
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{ClaimAnswer, RedisSchedule};
use tasksync_loadtest::services::{
    Binaries, Persistence, Redis, RedisSentinel, ServiceFolder, started_or_skipped,
};

use crate::redis_rig::{CLAIM, Process, Rig, opted_in_at, wait_until};
use crate::support::{key, tenant_id, user_id};

const LONG: Duration = Duration::from_hours(1);

/// Starts a Redis with Sentinels for one test. `None` (skipped) if Redis is not installed, unless it is required.
async fn set() -> Option<RedisSentinel> {
    let folder = Arc::new(ServiceFolder::new(None, Binaries::default()).unwrap());
    started_or_skipped(RedisSentinel::start(&folder, Persistence::EverySecond).await)
}

/// Returns a connection to this node, whatever its role.
fn at(node: &Redis) -> RedisStore {
    RedisStore::new("test", &node.url(), RedisOptions::default()).unwrap()
}

async fn ask(node: &RedisStore, words: &[&str]) -> redis::Value {
    let (name, arguments) = words.split_first().unwrap();
    let mut command = redis::cmd(name);
    command.arg(arguments);
    node.command("testing", command, Repeat::Yes).await.unwrap()
}

async fn is_primary(node: &RedisStore) -> bool {
    let redis::Value::Array(role) = ask(node, &["ROLE"]).await else {
        panic!("no role")
    };
    let role: String = redis::from_redis_value(role.into_iter().next().unwrap()).unwrap();
    role == "master"
}

/// Waits until the replica has everything the primary has.
async fn wait_until_replicated(primary: &RedisStore) {
    wait_until("the replica's copy", async || {
        let copies = ask(primary, &["WAIT", "1", "1000"]).await;
        redis::from_redis_value::<i64>(copies).unwrap() == 1
    })
    .await;
}

/// Cuts the replica off for good: nothing that the primary writes from now on reaches it.
async fn cut_off(primary: &RedisStore, replica: &Redis) {
    replica.pause();
    ask(primary, &["CLIENT", "KILL", "TYPE", "replica"]).await;
}

/// Cuts the replica off once the first job was sent. Then opts in the `new` users and waits until the first of them
/// (user 5) is claimed. The replica has neither. Returns a moment in between.
async fn claim_without_the_replica(
    rig: &Rig,
    process: &Process,
    [primary, replica]: &[Redis; 2],
    new: Range<u32>,
) -> Timestamp {
    wait_until("the first job", async || rig.has_sent("u0")).await;
    let primary = at(primary);
    wait_until_replicated(&primary).await;
    cut_off(&primary, replica).await;
    let cut = process.now().await;
    rig.opt_in(new);
    let user = key("contoso", "u5");
    process.order.enrol(&user, opted_in_at(), None).await.unwrap();
    wait_until("a claim that will be lost", async || rig.has_sent("u5")).await;
    cut
}

/// Kills the primary, resumes the replica and waits until it is promoted. Returns a moment just before the promotion,
/// by the replica's clock.
async fn fail_over(primary: &Redis, replica: &Redis) -> Timestamp {
    primary.kill();
    replica.resume();
    let replica = at(replica);
    let mut before = time(&replica).await;
    wait_until("the promotion", async || {
        let asked = time(&replica).await;
        let promoted = is_primary(&replica).await;
        if !promoted {
            before = asked;
        }
        promoted
    })
    .await;
    before
}

async fn time(node: &RedisStore) -> Timestamp {
    let (seconds, microseconds): (i64, i64) = redis::from_redis_value(ask(node, &["TIME"]).await).unwrap();
    Timestamp::from_microsecond(seconds * 1_000_000 + microseconds).unwrap()
}

/// Checks that no job was sent until a claim lost at `moment` must have expired. Waits for the first job after that.
async fn no_user_is_sent_for_a_claims_lifetime(rig: &Rig, moment: Timestamp) {
    wait_until("a job after the failover", async || {
        !rig.tokens_after(moment).is_empty()
    })
    .await;
    let first = rig.tokens_after(moment).into_iter().min().unwrap();
    let earliest = moment + SignedDuration::try_from(CLAIM).unwrap();
    let earliest = u64::try_from(earliest.as_microsecond()).unwrap();
    assert!(
        first >= earliest,
        "sent {} ms too early",
        earliest.saturating_sub(first) / 1_000
    );
}

#[tokio::test]
async fn the_schedule_comes_back_on_the_promoted_replica_with_the_claims_it_had() {
    let Some(set) = set().await else { return };
    let [first, second] = set.nodes();
    let prefix = own_prefix();
    let open = || {
        let store = RedisStore::new("test", &set.url(), RedisOptions::default()).unwrap();
        (
            store.clone(),
            RedisSchedule::new(store, &prefix, Duration::from_mins(5)),
        )
    };
    let (store, order) = open();
    for user in ["ana", "bea"] {
        order.enrol(&key("a", user), opted_in_at(), None).await.unwrap();
    }
    let epoch = order.lead("leader", LONG).await.unwrap().unwrap();
    let mark = order.mark().await.unwrap().unwrap().after;
    let tenant = tenant_id("a");
    let ana = [user_id("ana")];
    let Ok(ClaimAnswer::Claimed { token, users }) = order.claim(epoch, &tenant, &ana, LONG).await else {
        panic!("not claimed")
    };
    assert_eq!(users.len(), 1);
    wait_until_replicated(&at(first)).await;

    // The first Sentinel hangs, too, as if the primary's machine had died with it.
    set.sentinels()[0].pause();
    fail_over(first, second).await;
    // The same process goes on without any intervention.
    wait_until("the order", async || order.now().await.is_ok()).await;
    assert_eq!(
        order
            .renew(&tenant, token, &ana, LONG)
            .await
            .unwrap()
            .still_claimed
            .len(),
        1
    );
    assert_eq!(order.lead("leader", LONG).await.unwrap(), Some(epoch));
    assert_eq!(order.lead("other", LONG).await.unwrap(), None);
    let marked = order.mark().await.unwrap().unwrap();
    assert!(!marked.shows_loss(Some(&mark)), "nothing was lost");
    let Ok(ClaimAnswer::Claimed { users, .. }) = order
        .claim(epoch, &tenant, &[user_id("ana"), user_id("bea")], LONG)
        .await
    else {
        panic!("not claimed")
    };
    assert_eq!(users.len(), 1, "Ana is claimed already");
    set.sentinels()[0].resume();

    // The old primary comes back and acts as a primary until a Sentinel demotes it.
    first.restart().await.unwrap();
    let old = at(first);
    let (fresh_store, fresh) = open();
    wait_until("a fresh process", async || fresh.now().await.is_ok()).await;
    let mut written = 0;
    wait_until("the old primary's demotion", async || {
        written += 1;
        for (name, store) in [("old", &store), ("fresh", &fresh_store)] {
            let mut set = redis::cmd("SET");
            set.arg(format!("{prefix}:{name}:{written}")).arg("x");
            store.command::<()>("testing", set, Repeat::Yes).await.unwrap();
        }
        // This order matters: once it is a replica, it has everything by replication.
        let has = ask(&old, &["KEYS", &format!("{prefix}:*:{written}")]).await;
        let has: Vec<String> = redis::from_redis_value(has).unwrap();
        let primary = is_primary(&old).await;
        assert!(!primary || has.is_empty(), "written to the old primary: {has:?}");
        !primary
    })
    .await;
    set.wait_until_whole().await.unwrap();
}

#[tokio::test]
async fn a_failover_that_lost_claims_is_detected_and_no_user_is_sent_before_they_have_expired() {
    let Some(set) = set().await else { return };
    let [first, second] = set.nodes();
    let rig = Rig::new(set.url(), Duration::from_millis(200)).await;
    let process = rig.start("one");
    let cut = claim_without_the_replica(&rig, &process, set.nodes(), 5..10).await;
    wait_until("more of them", async || rig.tokens_after(cut).len() > 1).await;

    let before = fail_over(first, second).await;
    no_user_is_sent_for_a_claims_lifetime(&rig, before).await;
    wait_until("all users", async || process.has(0..10).await).await;
    process.stop();
}

#[tokio::test]
async fn a_leader_that_takes_over_after_the_failover_detects_its_predecessors_claims() {
    let Some(set) = set().await else { return };
    let [first, second] = set.nodes();
    // One run at the start. The looks in between send all later users.
    let rig = Rig::new(set.url(), LONG).await;
    let process = rig.start("one");
    claim_without_the_replica(&rig, &process, set.nodes(), 5..6).await;

    // The leader's machine was also that of the primary.
    process.kill().await;
    let next = rig.start("two");
    let before = fail_over(first, second).await;
    no_user_is_sent_for_a_claims_lifetime(&rig, before).await;
    wait_until("all users", async || next.has(0..6).await).await;
    next.stop();
}
