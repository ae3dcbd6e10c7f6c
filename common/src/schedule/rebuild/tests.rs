use crate::registry::topics::*;
use crate::schedule::topics::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::error::{Code, ErrorClass};
use crate::model::MailboxAddress;
use crate::registry::{Enrolment, EnrolmentState, SqlRegistry, Tenant};
use crate::schedule::{FailureStreak, MemorySchedule, UserStatus};

const MINIMUM: Duration = Duration::from_mins(5);
const OPT_IN: &str = "2026-11-22T12:00:00Z";

fn key(tenant: &str, user: &str) -> UserKey {
    UserKey::new(tenant.parse().unwrap(), user.parse().unwrap())
}

fn tenant(name: &str, enabled: bool) -> Tenant {
    toml::from_str(&format!(
        r#"
        id = "{name}"
        display_name = "{name}"
        enabled = {enabled}
        [source]
        kind = "sharepoint"
        sites = ["https://sp.example/sites/{name}"]
        credentials = {{ kind = "basic", user = "svc", password = "env:A" }}
        [mailbox]
        kind = "ews"
        url = "https://mail.example/EWS/Exchange.asmx"
        credentials = {{ kind = "basic", user = "svc", password = "env:A" }}
        "#
    ))
    .unwrap()
}

async fn enrol(registry: &SqlRegistry, tenant: &str, user: &str) {
    let mailbox: MailboxAddress = format!("{user}@{tenant}.example").parse().unwrap();
    let enrolment = Enrolment {
        key: key(tenant, user),
        source_login: user.to_owned(),
        mailbox,
        time_zone: None,
        opted_in_at: OPT_IN.parse().unwrap(),
        state: EnrolmentState::Enabled,
    };
    registry.enrol(&enrolment).await.unwrap();
}

fn disabled() -> EnrolmentState {
    EnrolmentState::Disabled {
        failure: Failure::new(ErrorClass::Refused, Code::ExchangeMailboxMissing, "gone"),
        since: OPT_IN.parse().unwrap(),
    }
}

/// Returns stores in which tenant `a` has many users, `b` has Ana only, and `off` is disabled. Zoe of `a` is
/// disabled, and Ben of `a` was synced.
async fn stores() -> (SqlRegistry, MemorySchedule, Arc<ManualClock>) {
    let registry = SqlRegistry::open_sqlite("sqlite::memory:").await.unwrap();
    for (name, enabled) in [("a", true), ("b", true), ("off", false)] {
        registry.put_tenant(&tenant(name, enabled)).await.unwrap();
        enrol(&registry, name, "ana").await;
    }
    for n in 0..600 {
        enrol(&registry, "a", &format!("u{n:03}")).await;
    }
    enrol(&registry, "a", "ben").await;
    enrol(&registry, "a", "zoe").await;
    registry
        .set_enrolment_state(&key("a", "zoe"), &disabled())
        .await
        .unwrap();
    let saved = SavedStamp {
        user: "ben".parse().unwrap(),
        stamp: "2026-11-22T13:30:00Z".parse().unwrap(),
        last_success: Some("2026-11-22T13:29:00Z".parse().unwrap()),
        failing: None,
    };
    registry
        .save_stamps(&"a".parse().unwrap(), &[saved])
        .await
        .unwrap();
    let clock = ManualClock::at("2026-11-22T14:00:00Z".parse().unwrap());
    let schedule = MemorySchedule::new(clock.clone(), Duration::from_mins(5));
    (registry, schedule, clock)
}

#[tokio::test]
async fn the_order_is_made_again_with_saved_stamps_and_without_ties() {
    let (registry, schedule, _) = stores().await;
    let rebuilt = rebuild(&registry, &schedule, MINIMUM).await.unwrap();
    assert_eq!((rebuilt.tenants, rebuilt.added), (2, 604));
    assert_eq!(schedule.status(&key("off", "ana")).await.unwrap(), None);
    let ben = schedule.status(&key("a", "ben")).await.unwrap().unwrap();
    assert_eq!(ben.stamp, "2026-11-22T13:30:00Z".parse().unwrap());
    assert_eq!(ben.last_success, Some("2026-11-22T13:29:00Z".parse().unwrap()));
    let a = "a".parse().unwrap();
    let users = schedule.oldest(&a, Timestamp::MAX, 1_000).await.unwrap();
    let stamps: BTreeSet<Timestamp> = users.iter().map(|(_, stamp)| *stamp).collect();
    assert_eq!(
        stamps.len(),
        users.len(),
        "no two users of a tenant have one stamp"
    );
    // A user who was never synced is due since the opt-in.
    let opt_in = OPT_IN.parse::<Timestamp>().unwrap() - MINIMUM;
    for (user, stamp) in &users[..601] {
        assert!(
            *stamp <= opt_in && *stamp > opt_in - Duration::from_secs(11),
            "{user}: {stamp}"
        );
    }
    // The other tenant's only user is not behind all of them, although all opted in at the same moment.
    let heads = schedule.heads(9).await.unwrap();
    let ana = heads.iter().find(|head| head.tenant.as_str() == "b").unwrap();
    assert!(ana.stamp < users[600].1);
    // Disabled users are tested in turn, and a success is a recovery.
    let zoe = schedule.status(&key("a", "zoe")).await.unwrap().unwrap();
    assert_eq!(zoe.history.failures, 10);
    assert_eq!(
        zoe.last_failure.map(|failure| failure.code),
        Some(Code::ExchangeMailboxMissing)
    );
    let again = rebuild(&registry, &schedule, MINIMUM).await.unwrap();
    assert_eq!(again.added, 0);
    assert_eq!(schedule.oldest(&a, Timestamp::MAX, 1_000).await.unwrap(), users);
}

#[tokio::test]
async fn the_tenant_search_adds_missing_users_and_withdraws_those_who_left() {
    let (registry, schedule, _) = stores().await;
    rebuild(&registry, &schedule, MINIMUM).await.unwrap();
    let untouched = schedule.status(&key("a", "ben")).await.unwrap();
    // Users and a tenant left, arrived, were disabled and removed without notice to the schedule.
    registry.withdraw(&key("a", "u007")).await.unwrap();
    enrol(&registry, "a", "new").await;
    registry
        .set_enrolment_state(&key("a", "u008"), &disabled())
        .await
        .unwrap();
    registry.remove_tenant(&"b".parse().unwrap()).await.unwrap();
    let done = reconcile(&registry, &schedule, MINIMUM).await.unwrap();
    assert_eq!((done.added, done.withdrawn), (1, 2));
    for (user, present) in [
        (key("a", "u007"), false),
        (key("b", "ana"), false),
        (key("a", "new"), true),
        (key("a", "u008"), true),
    ] {
        assert_eq!(schedule.status(&user).await.unwrap().is_some(), present, "{user}");
    }
    assert_eq!(schedule.status(&key("a", "ben")).await.unwrap(), untouched);
    assert_eq!(
        reconcile(&registry, &schedule, MINIMUM).await.unwrap(),
        RebuildSummary {
            tenants: 1,
            added: 0,
            withdrawn: 0,
        }
    );
    registry.put_tenant(&tenant("a", false)).await.unwrap();
    assert_eq!(
        reconcile(&registry, &schedule, MINIMUM).await.unwrap().withdrawn,
        603
    );
    registry.put_tenant(&tenant("a", true)).await.unwrap();
    assert_eq!(reconcile(&registry, &schedule, MINIMUM).await.unwrap().added, 603);
}

/// A user who never succeeded continues with the stored failures, and a restart does not lose them.
#[tokio::test]
async fn failures_in_a_row_and_their_reason_survive_a_rebuild() {
    let (registry, _, clock) = stores().await;
    let failure = Failure::new(ErrorClass::Transient, Code::ExchangeTimeout, "no answer");
    let saved = SavedStamp {
        user: "u007".parse().unwrap(),
        stamp: "2026-11-22T13:40:00Z".parse().unwrap(),
        last_success: None,
        failing: Some(FailureStreak {
            since: "2026-11-22T12:05:00Z".parse().unwrap(),
            attempts: 4,
            failure: failure.clone(),
        }),
    };
    let a = "a".parse().unwrap();
    registry
        .save_stamps(&a, std::slice::from_ref(&saved))
        .await
        .unwrap();
    let who = key("a", "u007");
    let expected = |status: UserStatus| {
        assert_eq!(status.history.failures, 4);
        assert_eq!(status.last_failure, Some(failure.clone()));
        assert_eq!((status.stamp, status.last_success), (saved.stamp, None));
    };
    let waiting = MemorySchedule::new(clock.clone(), MINIMUM);
    rebuild(&registry, &waiting, MINIMUM).await.unwrap();
    expected(waiting.status(&who).await.unwrap().unwrap());
    // The same if the places were lost and are claimed for a while.
    let claimed = MemorySchedule::new(clock, MINIMUM);
    let lifetime = Duration::from_mins(1);
    reconcile_tenant(&registry, &claimed, &a, 0, lifetime, MINIMUM)
        .await
        .unwrap();
    let status = claimed.status(&who).await.unwrap().unwrap();
    assert!(status.claimed);
    expected(status);
}
