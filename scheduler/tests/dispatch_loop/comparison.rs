//! The leader compares the schedule with the registry and reports users who wait too long.

use jiff::SignedDuration;
use tasksync_common::clock::Clock as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserId;
use tasksync_common::registry::{Alert, topics::*};
use tasksync_common::schedule::topics::*;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE};
use crate::support::{Act, tenant_id, user_id};

async fn alerts(bench: &Bench) -> Vec<(String, Code)> {
    let alerts = bench.registry.alerts(None, 100).await.unwrap();
    alerts
        .into_iter()
        .map(|alert| (alert.tenant.to_string(), alert.failure.code))
        .collect()
}

/// Each tenant has one alert, whatever the schedule says. There is none where the open circuit gives the reason. The
/// alert ends by itself.
#[tokio::test(start_paused = true)]
async fn people_who_were_never_synced_raise_one_alert_for_their_tenant() {
    let bench = Bench::new(Act::Idle);
    let users: Vec<UserId> = ["ana", "ben"].map(user_id).to_vec();
    for tenant in ["a", "b"] {
        bench.registry.add(tenant, &users, bench.clock.now());
    }
    let circuit = Alert {
        since: bench.clock.now(),
        tenant: tenant_id("b"),
        user: None,
        location: None,
        failure: Failure::new(ErrorClass::Transient, Code::ExchangeUnreachable, "refused"),
        evidence: None,
    };
    bench.registry.raise_alert(&circuit).await.unwrap();
    let process = bench.scheduler("one");
    sleep(MINUTE * 29).await;
    assert_eq!(
        alerts(&bench).await,
        [("b".to_owned(), Code::ExchangeUnreachable)]
    );
    sleep(MINUTE * 2).await;
    let late = ("a".to_owned(), Code::SyncsLate);
    assert_eq!(
        alerts(&bench).await,
        [("b".to_owned(), Code::ExchangeUnreachable), late.clone()]
    );
    let stop = bench.worker();
    sleep(MINUTE * 2).await;
    assert!(!alerts(&bench).await.contains(&late));
    stop.cancel();
    process.stop.cancel();
}

/// A user that the schedule lost is in it again within a minute, long before the next search of all tenants.
#[tokio::test(start_paused = true)]
async fn a_tenant_with_fewer_people_than_the_registry_is_filled_within_a_minute() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("a", 3).await;
    let process = bench.scheduler("one");
    sleep(MINUTE).await;
    bench.order.withdraw(&users[1]).await.unwrap();
    sleep(MINUTE).await;
    assert!(bench.order.status(&users[1]).await.unwrap().is_some());
    process.stop.cancel();
}

/// When a whole tenant is gone from the schedule, workers may still hold its users, so none is sent before a claim's
/// lifetime has passed.
#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_gone_comes_back_claimed_and_an_alert_says_so() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("a", 2).await;
    bench.enrol("b", 1).await;
    let stop = bench.worker();
    let process = bench.scheduler("one");
    sleep(MINUTE).await;
    stop.cancel();
    sleep(MINUTE).await;
    let gone = bench.clock.now();
    bench.order.withdraw_tenant(&tenant_id("a")).await.unwrap();
    sleep(MINUTE).await;
    let summary = bench.order.summary(Some(&tenant_id("a"))).await.unwrap();
    assert_eq!((summary.users, summary.claimed), (2, 2));
    assert!(
        alerts(&bench)
            .await
            .contains(&("a".to_owned(), Code::OrderMended))
    );
    let sent = |bench: &Bench| {
        let taken = bench.queue.taken();
        taken
            .iter()
            .filter(|(_, job)| job.tenant == tenant_id("a"))
            .count()
    };
    let before = sent(&bench);
    let lifetime = SignedDuration::try_from(bench.settings.schedule.claim_lifetime).unwrap();
    let stop = bench.worker();
    while sent(&bench) == before {
        sleep(MINUTE / 60).await;
        assert!(bench.clock.now().duration_since(gone) < SignedDuration::from_mins(20));
    }
    assert!(bench.clock.now().duration_since(gone) >= lifetime);
    stop.cancel();
    process.stop.cancel();
}
