//! The contract on one server, behind Sentinels and on a cluster, and faults that only a shared store has.

use std::sync::Arc;

use jiff::Timestamp;

use super::keys::{CLAIM, ENROL, WITHDRAW_TENANT};
use super::wire::score;
use super::*;
use crate::contract::redis::{CLUSTER, PrivateRedis, SENTINEL, SINGLE, own_prefix, remove_prefix, url_in};
use crate::contract::schedule::successes;
use crate::contract::{ScheduleBench, key, tenant_id, user_id};
use crate::error::{Code, ErrorClass};
use crate::model::UserKey;
use crate::schedule::{
    ClaimAnswer, Claims, Epoch, FinishedAttempt, Freshness, History, Leadership, Order, SavedStamp, Schedule,
    Token, digest_of, digest_of_all,
};

const MINIMUM: Duration = Duration::from_mins(5);
const LONG: Duration = Duration::from_hours(1);

/// A schedule under a prefix of its own.
struct Bench {
    url: String,
    prefix: String,
    schedule: Arc<RedisSchedule>,
}

impl Bench {
    fn at(url: String) -> Self {
        let prefix = own_prefix();
        let schedule = Self::open(&url, &prefix);
        Self {
            url,
            prefix,
            schedule,
        }
    }

    fn open(url: &str, prefix: &str) -> Arc<RedisSchedule> {
        let store = RedisStore::new("schedule.url", url, RedisOptions::default()).unwrap();
        Arc::new(RedisSchedule::new(store, prefix, MINIMUM))
    }

    /// Returns another process's view of the same schedule.
    fn other(&self) -> Arc<RedisSchedule> {
        Self::open(&self.url, &self.prefix)
    }
}

#[async_trait]
impl ScheduleBench for Bench {
    fn schedule(&self) -> Arc<dyn Schedule> {
        self.schedule.clone()
    }
    fn minimum(&self) -> Duration {
        MINIMUM
    }
    fn unit(&self) -> Duration {
        Duration::from_millis(200)
    }
    async fn pass_time(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
    async fn end(&self) {
        remove_prefix(&self.url, &self.prefix).await;
    }
}

fn bench_at(variable: &str) -> Option<Bench> {
    url_in(variable).map(Bench::at)
}

mod loss;

mod on_one_server {
    use super::*;
    crate::schedule_contract!(if available std::future::ready(bench_at(SINGLE)));
}

mod behind_sentinels {
    use super::*;
    crate::schedule_contract!(if available std::future::ready(bench_at(SENTINEL)));
}

mod on_a_cluster {
    use super::*;
    crate::schedule_contract!(if available std::future::ready(bench_at(CLUSTER)));
}

/// Enrols users `u0`, `u1`, … of a tenant with stamps a second apart, the oldest a day old.
async fn enrol(schedule: &RedisSchedule, tenant: &str, users: std::ops::Range<i64>) {
    let start = schedule.now().await.unwrap() - jiff::SignedDuration::from_hours(24);
    for user in users {
        let stamp = start + jiff::SignedDuration::from_secs(user);
        assert!(
            schedule
                .enrol(&key(tenant, &format!("u{user}")), stamp, None)
                .await
                .unwrap()
        );
    }
}

async fn leader(schedule: &RedisSchedule) -> Epoch {
    schedule.lead("leader", LONG).await.unwrap().unwrap()
}

async fn claim(
    schedule: &RedisSchedule,
    epoch: Epoch,
    tenant: &str,
    users: &[UserId],
    lasts: Duration,
) -> Token {
    match schedule
        .claim(epoch, &tenant_id(tenant), users, lasts)
        .await
        .unwrap()
    {
        ClaimAnswer::Claimed {
            token,
            users: claimed,
        } => {
            assert_eq!(claimed.len(), users.len());
            token
        }
        ClaimAnswer::StaleEpoch => panic!("the present leader was refused"),
    }
}

/// Makes a change like a process that ended before it could update the index. Returns the report.
async fn change_without_push(
    schedule: &RedisSchedule,
    tenant: &str,
    script: &'static LazyScript,
    args: &[Vec<u8>],
) -> RawTenantReport {
    let keys = schedule.keys.tenant(&tenant_id(tenant));
    let answer: Vec<redis::Value> = schedule
        .store
        .script("testing", script, &keys, args, Repeat::No)
        .await
        .unwrap();
    redis::from_redis_value(answer[1].clone()).unwrap()
}

async fn forget(schedule: &RedisSchedule, tenant: &str) {
    let mut command = redis::cmd("DEL");
    command.arg(schedule.keys.tenant(&tenant_id(tenant)));
    schedule
        .store
        .command::<i64>("testing", command, Repeat::Yes)
        .await
        .unwrap();
}

async fn flush(schedule: &RedisSchedule) {
    schedule
        .store
        .command::<()>("testing", redis::cmd("FLUSHALL"), Repeat::Yes)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_change_that_never_reached_the_index_is_found_by_the_inspection() {
    for variable in [SINGLE, CLUSTER] {
        let Some(bench) = bench_at(variable) else {
            return;
        };
        let schedule = &bench.schedule;
        enrol(schedule, "a", 5..7).await;
        enrol(schedule, "b", 3..4).await;
        assert_eq!(schedule.heads(9).await.unwrap()[0].tenant, tenant_id("b"));
        // The head of `a` in the index is too young now, so its oldest user is not seen.
        let old = score(schedule.now().await.unwrap()) - 2 * 24 * 3_600 * 1_000_000;
        change_without_push(
            schedule,
            "a",
            &ENROL,
            &[
                arg(0),
                arg("old"),
                arg(old),
                Vec::new(),
                arg(0),
                Vec::new(),
                arg(0),
            ],
        )
        .await;
        assert_eq!(schedule.heads(9).await.unwrap()[0].tenant, tenant_id("b"));
        let leader_process = bench.other();
        let inspected = leader_process.inspect(1_000, LONG).await.unwrap();
        assert_eq!((inspected.repaired, inspected.lost), (1, Vec::new()));
        let head = schedule.heads(9).await.unwrap()[0].clone();
        assert_eq!((head.tenant, score(head.stamp)), (tenant_id("a"), old));
        assert_eq!(schedule.summary(None).await.unwrap().users, 4);
        // A claim that the index does not know of: its end is learned, and the user is released.
        let epoch = leader(schedule).await;
        change_without_push(schedule, "b", &CLAIM, &[arg(epoch.0), arg(1_000), arg("u3")]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(leader_process.reclaim(9).await.unwrap().is_empty());
        assert_eq!(leader_process.inspect(1_000, LONG).await.unwrap().repaired, 1);
        assert_eq!(leader_process.reclaim(9).await.unwrap(), [key("b", "u3")]);
        assert_in_step(&leader_process).await;
        bench.end().await;
    }
}

#[tokio::test]
async fn a_tenant_the_index_does_not_know_is_found_when_its_users_are_enrolled_again() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    let stamp = score(schedule.now().await.unwrap()) - 1;
    change_without_push(
        schedule,
        "a",
        &ENROL,
        &[
            arg(0),
            arg("ana"),
            arg(stamp),
            Vec::new(),
            arg(0),
            Vec::new(),
            arg(0),
        ],
    )
    .await;
    assert!(schedule.heads(9).await.unwrap().is_empty() && schedule.is_empty().await.unwrap());
    assert!(
        !schedule
            .enrol(&key("a", "ana"), Timestamp::MAX, None)
            .await
            .unwrap()
    );
    assert_eq!(score(schedule.heads(9).await.unwrap()[0].stamp), stamp);
    bench.end().await;
}

#[tokio::test]
async fn a_report_that_was_overtaken_changes_nothing() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    enrol(schedule, "a", 5..6).await;
    let late = change_without_push(schedule, "a", &keys::REPORT, &[arg(1)]).await;
    enrol(schedule, "a", 1..2).await;
    let heads = schedule.heads(9).await.unwrap();
    // The process slept between the two calls.
    bench
        .other()
        .index
        .push(&tenant_id("a"), late.into(), false, &[7])
        .await;
    assert_eq!(schedule.heads(9).await.unwrap(), heads);
    let summary = schedule.summary(None).await.unwrap();
    assert_eq!((summary.users, summary.interval_p50_seconds), (2, None));
    bench.end().await;
}

#[tokio::test]
async fn a_tenant_that_vanished_or_was_set_back_is_named() {
    let Some(bench) = bench_at(CLUSTER) else {
        return;
    };
    let schedule = &bench.schedule;
    for tenant in ["a", "b", "c"] {
        enrol(schedule, tenant, 0..3).await;
    }
    let leader_process = bench.other();
    assert_in_step(&leader_process).await;
    // A node of the cluster came back empty.
    forget(schedule, "b").await;
    // Calls in the meantime do not hide the loss.
    assert!(!schedule.withdraw(&key("b", "u0")).await.unwrap());
    assert_eq!(schedule.withdraw_tenant(&tenant_id("b")).await.unwrap(), 0);
    let inspected = leader_process.inspect(1_000, LONG).await.unwrap();
    assert_eq!(inspected.lost, [tenant_id("b")]);
    assert_eq!(schedule.summary(None).await.unwrap().users, 6);
    assert_eq!(schedule.heads(9).await.unwrap().len(), 2);
    enrol(schedule, "b", 0..3).await;
    assert_eq!(schedule.heads(9).await.unwrap().len(), 3);
    // A replica without the last changes took over: the tenant's number is lower than the one in the index.
    let mut command = redis::cmd("HSET");
    command
        .arg(schedule.keys.tenant(&tenant_id("c"))[4].clone())
        .arg("number")
        .arg(1);
    schedule
        .store
        .command::<i64>("testing", command, Repeat::Yes)
        .await
        .unwrap();
    assert_eq!(
        leader_process.inspect(1_000, LONG).await.unwrap().lost,
        [tenant_id("c")]
    );
    assert_in_step(&leader_process).await;
    bench.end().await;
}

/// Asserts that an inspection finds nothing to mend.
async fn assert_in_step(schedule: &RedisSchedule) {
    let inspected = schedule.inspect(1_000, LONG).await.unwrap();
    let consistent = inspected.consistent.clone();
    let nothing = InspectionResult {
        consistent,
        ..InspectionResult::default()
    };
    assert_eq!(inspected, nothing);
}

#[tokio::test]
async fn a_withdrawal_on_its_way_is_no_loss() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..3).await;
    let report = change_without_push(schedule, "a", &WITHDRAW_TENANT, &[]).await;
    let tenant = tenant_id("a");
    let arrives = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        schedule.index.push(&tenant, report.into(), false, &[]).await;
    };
    let other = bench.other();
    let (inspected, ()) = tokio::join!(other.inspect(1_000, LONG), arrives);
    assert_eq!(inspected.unwrap().lost, []);
    assert!(schedule.is_empty().await.unwrap());
    bench.end().await;
}

#[tokio::test]
async fn on_a_cluster_a_tenant_refuses_an_epoch_older_than_it_has_seen() {
    type ClaimReply = (Option<(i64, Vec<Option<f64>>)>, RawTenantReport);
    let Some(bench) = bench_at(CLUSTER) else {
        return;
    };
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let old = leader(schedule).await;
    schedule.resign("leader").await.unwrap();
    let new = schedule.lead("other", LONG).await.unwrap().unwrap();
    claim(schedule, new, "a", &[user_id("u0")], LONG).await;
    // The old leader read the lease before it was taken over, and claims only now.
    let keys = schedule.keys.tenant(&tenant_id("a"));
    let args = [arg(old.0), arg(1_000_000), arg("u1")];
    let (answer, report): ClaimReply = schedule
        .store
        .script("testing", &CLAIM, &keys, &args, Repeat::No)
        .await
        .unwrap();
    assert_eq!((answer, report.4), (None, 1));
    bench.end().await;
}

#[tokio::test]
async fn long_lists_are_taken_whole_and_small_tenants_stay_small() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    let stamp = schedule.now().await.unwrap() - jiff::SignedDuration::from_hours(1);
    let users: Vec<UserId> = (0..9_000)
        .map(|user| user_id(&format!("user{user:05}@contoso.example")))
        .collect();
    for part in users.chunks(500) {
        let calls = part.iter().enumerate().map(|(index, user)| {
            let key = UserKey::new(tenant_id("large"), user.clone());
            let at = stamp + jiff::SignedDuration::from_micros(i64::try_from(index).unwrap());
            async move { schedule.enrol(&key, at, None).await.unwrap() }
        });
        futures::future::join_all(calls).await;
    }
    let epoch = leader(schedule).await;
    let token = claim(schedule, epoch, "large", &users, LONG).await;
    let large = tenant_id("large");
    assert_eq!(
        schedule
            .renew(&large, token, &users, LONG)
            .await
            .unwrap()
            .still_claimed
            .len(),
        users.len()
    );
    let (first, second) = users.split_at(4_500);
    let results = successes(first, MINIMUM);
    assert_eq!(schedule.finish(&large, token, &results).await.unwrap(), first);
    assert_eq!(schedule.release(&large, token, second).await.unwrap(), second);
    // The stamps of one report differ: equal ones are slow to keep in order.
    let stamps: std::collections::BTreeSet<_> = schedule
        .oldest(&large, Timestamp::MAX, 9_000)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, at)| at)
        .collect();
    assert!(stamps.len() > 4_500, "{}", stamps.len());

    enrol(schedule, "small", 0..100).await;
    for name in ["due", "status"] {
        let key = format!("{}:{{small}}:{name}", bench.prefix);
        let mut command = redis::cmd("OBJECT");
        command.arg("ENCODING").arg(key);
        let encoding: String = schedule
            .store
            .command("testing", command, Repeat::Yes)
            .await
            .unwrap();
        assert_eq!(encoding, "listpack", "{name}");
    }
    bench.end().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_tenant_without_users() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let epoch = leader(schedule).await;
    claim(schedule, epoch, "a", &[user_id("u0")], LONG).await;
    for user in ["u0", "u1"] {
        assert!(schedule.withdraw(&key("a", user)).await.unwrap());
    }
    assert!(!schedule.make_due(&key("a", "u0")).await.unwrap());
    let left = schedule
        .store
        .keys_of_all_nodes(&format!("{}:{{a}}*", bench.prefix))
        .await
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
    let summary = schedule.summary(None).await.unwrap();
    assert_eq!((summary.tenants, summary.users, summary.claimed), (0, 0, 0));
    bench.end().await;
}

#[tokio::test]
async fn the_settings_open_it_and_a_refused_login_says_so() {
    let Some(server) = PrivateRedis::start(&["--requirepass", "geheim"]) else {
        return;
    };
    let settings = |login: &str| ScheduleSettings {
        url: format!("redis://{login}127.0.0.1:{}/2", server.port()),
        ..ScheduleSettings::default()
    };
    RedisSchedule::open(&settings(":geheim@")).await.unwrap();
    let failure = RedisSchedule::open(&settings(":falsch@")).await.unwrap_err();
    assert!(
        failure.detail.contains("correct the URL") && !failure.detail.contains("falsch"),
        "{failure}"
    );
}
