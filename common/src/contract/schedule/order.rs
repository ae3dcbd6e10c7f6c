//! The users in the schedule, and their order.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{LONG, claim, enrol, leader, renew_claim, stamp, successful_attempt, waiting_users};
use crate::contract::{ScheduleBench, key, tenant_id, user_id};
use crate::schedule::{Head, History, SavedStamp, UserStatus};

/// Users are ordered by stamp, ties by name, and tenants by their oldest user. The limit and the youngest
/// stamp are respected.
pub async fn users_and_tenants_come_oldest_first(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let base = stamp(schedule, 0).await;
    let at = |seconds| base + SignedDuration::from_secs(seconds);
    for (tenant, user, seconds) in [
        ("b", "ben", 5),
        ("a", "cem", 30),
        ("a", "ana", 30),
        ("a", "dora", 10),
        ("c", "eve", 10),
    ] {
        enrol(schedule, tenant, user, at(seconds)).await;
    }
    assert_eq!(waiting_users(schedule, "a").await, ["dora", "ana", "cem"]);
    let a = tenant_id("a");
    assert_eq!(
        schedule.oldest(&a, at(10), 10).await.unwrap(),
        [(user_id("dora"), at(10))]
    );
    assert_eq!(schedule.oldest(&a, at(30), 2).await.unwrap().len(), 2);
    assert!(schedule.oldest(&a, at(9), 10).await.unwrap().is_empty());
    assert!(
        schedule
            .oldest(&tenant_id("ghost"), at(99), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let head = |tenant, seconds| Head {
        tenant: tenant_id(tenant),
        stamp: at(seconds),
        in_flight: 0,
    };
    let expected = [head("b", 5), head("a", 10), head("c", 10)];
    assert_eq!(schedule.heads(10).await.unwrap(), expected);
    assert_eq!(schedule.heads(2).await.unwrap(), expected[..2]);
}

/// Enrolling again moves neither a waiting nor a claimed user.
pub async fn enrolling_again_changes_nothing(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let (old, new) = (stamp(schedule, 0).await, stamp(schedule, 60).await);
    let ana = key("a", "ana");
    assert!(schedule.enrol(&ana, old, Some(old)).await.unwrap());
    assert!(!schedule.enrol(&ana, new, Some(new)).await.unwrap());
    let status = UserStatus {
        stamp: old,
        requested: None,
        claimed: false,
        last_attempt: None,
        last_success: Some(old),
        last_failure: None,
        history: History::default(),
    };
    assert_eq!(schedule.status(&ana).await.unwrap(), Some(status.clone()));
    let epoch = leader(schedule).await;
    claim(schedule, epoch, "a", &["ana"], LONG).await;
    assert!(!schedule.enrol(&ana, new, None).await.unwrap());
    let claimed = UserStatus {
        claimed: true,
        ..status
    };
    assert_eq!(schedule.status(&ana).await.unwrap(), Some(claimed));
    assert!(waiting_users(schedule, "a").await.is_empty());
}

/// Users who are in the schedule already, waiting or claimed, are not moved. A name that occurs twice counts
/// once.
pub async fn many_are_enrolled_as_each_alone_would_be(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let base = stamp(schedule, 0).await;
    let at = |seconds| base + SignedDuration::from_secs(seconds);
    let saved = |user: &str, seconds, last_success| SavedStamp {
        user: user_id(user),
        stamp: at(seconds),
        last_success,
        failing: None,
    };
    let a = tenant_id("a");
    assert_eq!(schedule.enrol_many(&a, &[]).await.unwrap(), 0);
    assert!(schedule.is_empty().await.unwrap());
    enrol(schedule, "a", "ana", at(20)).await;
    enrol(schedule, "a", "ben", at(0)).await;
    let epoch = leader(schedule).await;
    claim(schedule, epoch, "a", &["ben"], LONG).await;
    // More users than an adapter may send at once.
    let mut many: Vec<SavedStamp> = (100..1_300)
        .map(|number| saved(&format!("u{number:04}"), number, None))
        .collect();
    many.extend([
        saved("ana", 5, None),
        saved("ben", 5, None),
        saved("cem", 10, Some(at(3))),
        saved("cem", 11, None),
    ]);
    assert_eq!(schedule.enrol_many(&a, &many).await.unwrap(), 1_201);
    assert_eq!(schedule.enrol_many(&a, &many).await.unwrap(), 0);
    assert_eq!(waiting_users(schedule, "a").await[..3], ["cem", "ana", "u0100"]);
    let cem = schedule.status(&key("a", "cem")).await.unwrap().unwrap();
    assert_eq!((cem.stamp, cem.last_success), (at(10), Some(at(3))));
    assert_eq!(schedule.heads(2).await.unwrap()[0].stamp, at(10));
    assert_eq!(schedule.summary(None).await.unwrap().users, 1_203);
}

/// Changes of one user do not affect the other.
pub async fn the_same_name_in_two_tenants_is_two_users(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    enrol(schedule, "a", "ana", at).await;
    enrol(schedule, "b", "ana", at).await;
    let epoch = leader(schedule).await;
    let (token, claimed) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    assert_eq!(claimed, ["ana"]);
    assert_eq!(waiting_users(schedule, "b").await, ["ana"]);
    let b = tenant_id("b");
    let ana = [user_id("ana")];
    assert!(renew_claim(schedule, &b, token, &ana).await.is_empty());
    assert!(schedule.release(&b, token, &ana).await.unwrap().is_empty());
    let finish = [successful_attempt("ana", bench.minimum())];
    assert!(schedule.finish(&b, token, &finish).await.unwrap().is_empty());
    assert_eq!(
        schedule
            .status(&key("b", "ana"))
            .await
            .unwrap()
            .unwrap()
            .last_attempt,
        None
    );
    assert!(schedule.withdraw(&key("b", "ana")).await.unwrap());
    assert!(schedule.status(&key("a", "ana")).await.unwrap().unwrap().claimed);
    assert_eq!(
        schedule.finish(&tenant_id("a"), token, &finish).await.unwrap(),
        [user_id("ana")]
    );
}

/// Claimed and waiting users are withdrawn. The number of a tenant's users is returned; unknown users are not
/// in the schedule.
pub async fn withdrawn_users_and_tenants_are_gone(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    for user in ["ana", "ben", "cem"] {
        enrol(schedule, "a", user, at).await;
        enrol(schedule, "b", user, at).await;
    }
    let epoch = leader(schedule).await;
    claim(schedule, epoch, "a", &["ana", "ben"], LONG).await;
    assert!(schedule.withdraw(&key("a", "ana")).await.unwrap());
    assert!(schedule.withdraw(&key("a", "cem")).await.unwrap());
    assert!(!schedule.withdraw(&key("a", "cem")).await.unwrap());
    assert!(!schedule.withdraw(&key("ghost", "ana")).await.unwrap());
    assert_eq!(schedule.status(&key("a", "ana")).await.unwrap(), None);
    let tenants: Vec<_> = schedule.heads(10).await.unwrap();
    assert_eq!(tenants.len(), 1, "all users of a are claimed: {tenants:?}");
    assert_eq!(schedule.withdraw_tenant(&tenant_id("a")).await.unwrap(), 1);
    assert_eq!(schedule.withdraw_tenant(&tenant_id("a")).await.unwrap(), 0);
    assert_eq!(schedule.withdraw_tenant(&tenant_id("b")).await.unwrap(), 3);
    assert!(schedule.heads(10).await.unwrap().is_empty());
    let summary = schedule.summary(None).await.unwrap();
    assert_eq!((summary.tenants, summary.users, summary.claimed), (0, 0, 0));
}

/// A requested user goes ahead of all users whose stamps are younger than an hour. A user with an older stamp
/// keeps it.
pub async fn a_user_made_due_goes_ahead_but_not_behind(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let now = schedule.now().await.unwrap();
    let minutes = SignedDuration::from_mins;
    enrol(schedule, "a", "ana", now + minutes(10)).await;
    enrol(schedule, "a", "ben", now - minutes(59)).await;
    enrol(schedule, "a", "old", now - minutes(600)).await;
    for user in ["ana", "old"] {
        assert!(schedule.make_due(&key("a", user)).await.unwrap());
    }
    assert_eq!(waiting_users(schedule, "a").await, ["old", "ana", "ben"]);
    assert!(!schedule.make_due(&key("a", "nobody")).await.unwrap());
    assert!(!schedule.make_due(&key("ghost", "ana")).await.unwrap());
}

/// A walk returns every tenant, and every user of a tenant, in pages.
pub async fn a_walk_names_every_user_claimed_or_not(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    for tenant in ["a", "b", "c", "d", "e"] {
        for user in 0..7 {
            enrol(schedule, tenant, &format!("{tenant}{user}"), at).await;
        }
    }
    let epoch = leader(schedule).await;
    let all: Vec<String> = (0..7).map(|user| format!("a{user}")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    claim(schedule, epoch, "a", &names, LONG).await;

    let mut tenants = BTreeSet::new();
    let mut after = None;
    loop {
        let page = schedule.tenants(after.as_ref(), 2).await.unwrap();
        tenants.extend(page.names.iter().map(ToString::to_string));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(tenants.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    let mut users = BTreeSet::new();
    loop {
        let page = schedule.users(&tenant_id("a"), after.as_ref(), 3).await.unwrap();
        users.extend(page.names.iter().map(ToString::to_string));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(users.into_iter().collect::<Vec<_>>(), all);
    let ghost = schedule.users(&tenant_id("ghost"), None, 3).await.unwrap();
    assert!(ghost.names.is_empty() && ghost.next.is_none());
}
