//! The leader compares the schedule with the registry and reports users who wait too long.

use jiff::SignedDuration;
use tasksync_common::clock::Clock as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{LocationKey, UserId};
use tasksync_common::registry::{Alert, EnrolmentState, topics::*};
use tasksync_common::schedule::topics::*;
use tasksync_scheduler::DispatchLimits;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE};
use crate::support::{Act, key, tenant_id, user_id};

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

/// A disabled person keeps a place in the order for the next test, and a lost place is added again.
#[tokio::test(start_paused = true)]
async fn a_disabled_person_whom_the_order_lost_is_in_it_again_within_a_minute() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("a", 2).await;
    let disabled = EnrolmentState::Disabled {
        failure: Failure::new(ErrorClass::Refused, Code::ExchangeMailboxMissing, "gone"),
        since: bench.clock.now(),
    };
    bench
        .registry
        .set_enrolment_state(&users[1], &disabled)
        .await
        .unwrap();
    let process = bench.scheduler("one");
    sleep(MINUTE).await;
    bench.order.withdraw(&users[1]).await.unwrap();
    sleep(MINUTE).await;
    assert!(bench.order.status(&users[1]).await.unwrap().is_some());
    process.stop.cancel();
}

/// The alert is raised only if every person of a tenant is missing in the order and one of them was synced before.
#[tokio::test(start_paused = true)]
async fn no_alert_calls_an_order_mended_that_lost_one_person_or_does_not_have_a_new_tenant_yet() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("a", 2).await;
    let stop = bench.worker();
    let process = bench.scheduler("one");
    sleep(MINUTE).await;
    stop.cancel();
    bench.order.withdraw(&users[1]).await.unwrap();
    bench.registry.add("b", &[user_id("ben")], bench.clock.now());
    sleep(MINUTE).await;
    for user in [&users[1], &key("b", "ben")] {
        assert!(bench.order.status(user).await.unwrap().is_some(), "{user}");
    }
    assert_eq!(alerts(&bench).await, []);
    process.stop.cancel();
}

/// Each full check of a person with tasks in an unreadable list confirms the alert about the list.
#[tokio::test(start_paused = true)]
async fn an_alert_about_a_list_ends_when_nobody_confirms_it() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("a", 1).await;
    let kept = SignedDuration::try_from(DispatchLimits::of(&bench.settings).location_alerts_kept).unwrap();
    let now = bench.clock.now();
    let minute = SignedDuration::from_mins(1);
    for (list, since) in [
        ("stale", now - kept - minute),
        ("confirmed", now - kept + minute * 10),
    ] {
        let alert = Alert {
            since,
            tenant: tenant_id("a"),
            user: None,
            location: Some(LocationKey::sharepoint_list(list)),
            failure: Failure::new(ErrorClass::Refused, Code::ListUnreadable, list),
            evidence: None,
        };
        bench.registry.raise_alert(&alert).await.unwrap();
    }
    let process = bench.scheduler("one");
    sleep(MINUTE).await;
    let open = bench.registry.alerts(None, 10).await.unwrap();
    let of_lists: Vec<&str> = open
        .iter()
        .filter(|alert| alert.location.is_some())
        .map(|alert| alert.failure.detail.as_str())
        .collect();
    assert_eq!(of_lists, ["confirmed"]);
    process.stop.cancel();
}

/// One comparison adds at most 5,000 names to digests. The comparisons are 30 seconds apart.
#[tokio::test(start_paused = true)]
async fn names_that_an_earlier_build_saved_are_digested_a_few_thousand_at_a_time() {
    let bench = Bench::new(Act::Idle);
    for tenant in ["a", "b", "c"] {
        bench.enrol(tenant, 1).await;
        bench.registry.set_undigested(tenant, 3_000);
    }
    let process = bench.scheduler("one");
    sleep(MINUTE / 6).await;
    assert_eq!(bench.registry.undigested(), 4_000);
    sleep(MINUTE / 2).await;
    assert_eq!(bench.registry.undigested(), 0);
    process.stop.cancel();
}
