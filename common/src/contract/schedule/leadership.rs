//! The leadership.

use super::{LONG, claim, enrol, stamp, successful_attempt, waiting_users};
use crate::contract::{ScheduleBench, tenant_id, user_id};
use crate::schedule::{ClaimAnswer, Epoch};

/// The holder renews the lease with the same epoch, others are refused, and the lease is free after its end.
pub async fn one_leads_until_the_lease_ends(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    assert_eq!(schedule.leader().await.unwrap(), None);
    let first = schedule.lead("one", LONG).await.unwrap().unwrap();
    assert_eq!(schedule.lead("other", LONG).await.unwrap(), None);
    assert_eq!(schedule.leader().await.unwrap().as_deref(), Some("one"));
    // A renewal sets the end of the lease; it does not add to it.
    assert_eq!(schedule.lead("one", bench.unit()).await.unwrap(), Some(first));
    bench.pass_time(bench.unit() * 2).await;
    assert_eq!(schedule.leader().await.unwrap(), None);
    let second = schedule.lead("other", LONG).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(schedule.lead("one", LONG).await.unwrap(), None);
}

/// Only the holder can resign.
pub async fn after_a_resignation_the_next_leader_has_a_newer_epoch(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let first = schedule.lead("one", LONG).await.unwrap().unwrap();
    schedule.resign("other").await.unwrap();
    assert_eq!(schedule.lead("other", LONG).await.unwrap(), None);
    schedule.resign("one").await.unwrap();
    assert_eq!(schedule.leader().await.unwrap(), None);
    let second = schedule.lead("other", LONG).await.unwrap().unwrap();
    assert!(second > first);
    schedule.resign("one").await.unwrap();
    assert_eq!(schedule.lead("one", LONG).await.unwrap(), None);
}

/// A leader whose lease has expired claims no users, and neither does an epoch that was never given.
pub async fn a_stale_epoch_claims_nothing(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    enrol(schedule, "a", "ana", stamp(schedule, 0).await).await;
    let old = schedule.lead("one", bench.unit()).await.unwrap().unwrap();
    bench.pass_time(bench.unit() * 2).await;
    let new = schedule.lead("other", LONG).await.unwrap().unwrap();
    let ana = [user_id("ana")];
    for stale in [old, Epoch(0), Epoch(new.0 + 1)] {
        assert_eq!(
            schedule.claim(stale, &tenant_id("a"), &ana, LONG).await.unwrap(),
            ClaimAnswer::StaleEpoch
        );
    }
    assert_eq!(waiting_users(schedule, "a").await, ["ana"]);
    let (token, claimed) = claim(schedule, new, "a", &["ana"], LONG).await;
    assert_eq!(claimed, ["ana"]);
    // Work that is running when the leader changes is finished under its token.
    schedule.resign("other").await.unwrap();
    schedule.lead("third", LONG).await.unwrap().unwrap();
    let finish = [successful_attempt("ana", bench.minimum())];
    assert_eq!(
        schedule.finish(&tenant_id("a"), token, &finish).await.unwrap(),
        ana
    );
}
