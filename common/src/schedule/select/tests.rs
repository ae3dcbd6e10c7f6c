use crate::schedule::topics::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::model::UserKey;
use crate::schedule::{ClaimAnswer, MemorySchedule};

const MINIMUM: u64 = 300;

fn limits() -> SelectionLimits {
    SelectionLimits {
        minimum: Duration::from_secs(MINIMUM),
        tenants: 50,
        users_per_batch: 100,
        users: 1_000,
        tenant_in_flight: 0,
        batches: BatchLimit::default(),
    }
}

fn now() -> Timestamp {
    "2026-11-22T14:00:00Z".parse().unwrap()
}

/// Returns a stamp that is this many seconds old.
fn old(seconds: u64) -> Timestamp {
    now() - Duration::from_secs(seconds)
}

fn key(tenant: &str, user: &str) -> UserKey {
    UserKey::new(tenant.parse().unwrap(), user.parse().unwrap())
}

/// Returns a schedule with these users, by tenant and age; those in `claimed` are in flight.
async fn population(users: &[(String, String, u64)], claimed: &[(String, String)]) -> MemorySchedule {
    let schedule = MemorySchedule::new(ManualClock::at(now()), Duration::from_secs(MINIMUM));
    for (tenant, user, age) in users {
        schedule.enrol(&key(tenant, user), old(*age), None).await.unwrap();
    }
    let epoch = schedule
        .lead("test", Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();
    for (tenant, user) in claimed {
        let answer = schedule
            .claim(
                epoch,
                &tenant.parse().unwrap(),
                &[user.parse().unwrap()],
                Duration::from_mins(1),
            )
            .await
            .unwrap();
        assert!(matches!(answer, ClaimAnswer::Claimed { .. }));
    }
    schedule
}

fn rows(rows: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    rows.iter()
        .map(|(tenant, user, age)| ((*tenant).to_owned(), (*user).to_owned(), *age))
        .collect()
}

fn names(selected: &SelectionResult) -> Vec<String> {
    selected
        .batches
        .iter()
        .map(|batch| {
            let users: Vec<&str> = batch.users.iter().map(UserId::as_str).collect();
            format!("{}:{}", batch.tenant, users.join("+"))
        })
        .collect()
}

#[tokio::test]
async fn the_oldest_go_first_whatever_the_tenant_and_travel_with_their_own() {
    let schedule = population(
        &rows(&[
            ("a", "a1", 900),
            ("a", "a2", 400),
            ("a", "a3", 100),
            ("b", "b1", 800),
            ("b", "b2", 700),
            ("c", "c1", 299),
        ]),
        &[],
    )
    .await;
    let selected = select(&schedule, limits(), now()).await.unwrap();
    assert_eq!(names(&selected), ["a:a1+a2", "b:b1+b2"]);
    assert_eq!(selected.end, SelectionEnd::NoOtherUserDue);
    let selected = select(&schedule, SelectionLimits { users: 3, ..limits() }, now())
        .await
        .unwrap();
    assert_eq!(names(&selected), ["a:a1", "b:b1+b2"]);
    assert_eq!(selected.end, SelectionEnd::Capacity);
}

#[tokio::test]
async fn a_tenant_too_many_ends_the_run_rather_than_being_passed_over() {
    let schedule = population(
        &rows(&[
            ("a", "a1", 900),
            ("a", "a2", 400),
            ("b", "b1", 800),
            ("c", "c1", 700),
        ]),
        &[],
    )
    .await;
    let two = SelectionLimits {
        tenants: 2,
        ..limits()
    };
    let selected = select(&schedule, two, now()).await.unwrap();
    assert_eq!(names(&selected), ["a:a1", "b:b1"]);
    assert_eq!(selected.end, SelectionEnd::Tenants);
}

#[tokio::test]
async fn tenants_at_their_cap_do_not_hide_those_behind_them() {
    let mut users = Vec::new();
    let mut claimed = Vec::new();
    for tenant in 0..20 {
        users.push((format!("t{tenant:02}"), "busy".to_owned(), 2_000));
        users.push((format!("t{tenant:02}"), "waits".to_owned(), 1_000));
        claimed.push((format!("t{tenant:02}"), "busy".to_owned()));
    }
    users.push(("z".to_owned(), "free".to_owned(), 400));
    let schedule = population(&users, &claimed).await;
    let capped = SelectionLimits {
        tenants: 2,
        tenant_in_flight: 1,
        ..limits()
    };
    let selected = select(&schedule, capped, now()).await.unwrap();
    assert_eq!(names(&selected), ["z:free"]);
}

#[tokio::test]
async fn a_tenant_with_more_users_than_a_batch_makes_several() {
    let users: Vec<_> = (0..250)
        .map(|n| ("a".to_owned(), format!("u{n:03}"), 1_000 - n))
        .collect();
    let schedule = population(&users, &[]).await;
    let selected = select(&schedule, limits(), now()).await.unwrap();
    let sizes: Vec<usize> = selected.batches.iter().map(|batch| batch.users.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert!(selected.batches.is_sorted_by_key(|batch| batch.oldest));
}

#[test]
fn a_list_that_never_grows_ends_the_selection() {
    let head = Head {
        tenant: "a".parse().unwrap(),
        stamp: old(900),
        in_flight: 0,
    };
    let mut selection = Selection::new(
        SelectionLimits {
            users_per_batch: 1,
            ..limits()
        },
        now(),
        vec![head],
    );
    let mut questions = 0;
    while let Some(need) = selection.next_query() {
        questions += 1;
        assert!(questions < 10, "asks without end");
        let same = vec![("a1".parse().unwrap(), old(900)); need.limit];
        selection.add_users(&need, same);
    }
    assert_eq!(selection.into_selected().users(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_user_left_out_is_older_than_one_chosen(
        ages in proptest::collection::btree_map(("[a-h]", "[a-z]{1,2}"), 0_u64..2_000, 0..120),
        claim_every in 1_usize..8,
        tenants in 1_usize..9,
        users_per_batch in 1_usize..12,
        users in 0_usize..130,
        tenant_in_flight in 0_u64..12,
        most_batches in 0_usize..5,
        running in proptest::collection::hash_map("[a-h]", 0_usize..5, 0..8),
    ) {
        let limits = SelectionLimits {
            minimum: Duration::from_secs(MINIMUM),
            tenants,
            users_per_batch,
            users,
            tenant_in_flight,
            batches: BatchLimit {
                most: most_batches,
                in_flight: running.iter().map(|(tenant, batches)| (tenant.parse().unwrap(), *batches)).collect(),
            },
        };
        let all: Vec<_> = ages
            .iter()
            .map(|((tenant, user), age)| (tenant.clone(), user.clone(), *age))
            .collect();
        let claimed: Vec<_> = if claim_every == 1 {
            Vec::new()
        } else {
            all.iter().step_by(claim_every).map(|(t, u, _)| (t.clone(), u.clone())).collect()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let selected = runtime.block_on(async {
            let schedule = Arc::new(population(&all, &claimed).await);
            select(schedule.as_ref(), limits, now()).await.unwrap()
        });

        let mut in_flight: BTreeMap<&str, u64> = BTreeMap::new();
        for (tenant, _) in &claimed {
            *in_flight.entry(tenant).or_default() += 1;
        }
        let mut chosen = BTreeSet::new();
        let mut of_tenant: BTreeMap<&str, u64> = BTreeMap::new();
        for batch in &selected.batches {
            prop_assert!((1..=users_per_batch).contains(&batch.users.len()));
            *of_tenant.entry(batch.tenant.as_str()).or_default() += batch.users.len() as u64;
            for user in &batch.users {
                prop_assert!(chosen.insert((batch.tenant.as_str(), user.as_str())), "chosen twice");
            }
        }
        prop_assert!(selected.batches.is_sorted_by_key(|batch| batch.oldest));
        prop_assert!(chosen.len() <= users);
        prop_assert!(of_tenant.len() <= tenants);
        let most_users = |tenant: &str| {
            let running = running.get(tenant).copied().unwrap_or(0);
            (most_batches.saturating_sub(running) * users_per_batch) as u64
        };
        let at_cap = |tenant: &str| {
            let taken = of_tenant.get(tenant).copied().unwrap_or(0);
            (tenant_in_flight > 0
                && in_flight.get(tenant).copied().unwrap_or(0) + taken >= tenant_in_flight)
                || (running.contains_key(tenant) && taken >= most_users(tenant))
        };
        for tenant in of_tenant.keys() {
            let batches = selected.batches.iter().filter(|batch| batch.tenant.as_str() == *tenant).count();
            prop_assert!(running.get(*tenant).is_none_or(|running| batches + running <= most_batches));
        }
        for (tenant, count) in &of_tenant {
            let sum = in_flight.get(tenant).copied().unwrap_or(0) + count;
            prop_assert!(tenant_in_flight == 0 || sum <= tenant_in_flight);
        }
        let age = |tenant: &str, user: &str| ages[&(tenant.to_owned(), user.to_owned())];
        let youngest = chosen.iter().map(|(tenant, user)| age(tenant, user)).min();
        let mut left_out = 0;
        for (tenant, user, age) in &all {
            let waits = !claimed.contains(&(tenant.clone(), user.clone()));
            if chosen.contains(&(tenant.as_str(), user.as_str())) {
                prop_assert!(waits && *age >= MINIMUM);
            } else if waits && *age >= MINIMUM && !at_cap(tenant) {
                left_out += 1;
                prop_assert!(youngest.is_none_or(|youngest| *age <= youngest), "{tenant}/{user} was passed over");
            }
        }
        match selected.end {
            SelectionEnd::NoOtherUserDue => prop_assert_eq!(left_out, 0),
            SelectionEnd::Capacity => prop_assert_eq!(chosen.len(), users),
            SelectionEnd::Tenants => prop_assert!(left_out > 0),
        }
    }
}
