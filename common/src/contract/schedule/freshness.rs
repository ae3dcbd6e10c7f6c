//! Summaries.

use jiff::SignedDuration;

use super::{LONG, claim, enrol, failed_attempt, leader, stamp, successful_attempt};
use crate::contract::{ScheduleBench, key, tenant_id};
use crate::schedule::Summary;

/// Waiting users whose stamps are old enough are due. An unknown tenant has an empty summary.
pub async fn a_summary_counts_all_users_or_those_of_one_tenant(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    assert_eq!(schedule.summary(None).await.unwrap(), Summary::default());
    let future = schedule.now().await.unwrap() + SignedDuration::from_hours(1);
    for (user, seconds) in [("ana", 0), ("ben", 10), ("cem", 20)] {
        enrol(schedule, "a", user, stamp(schedule, seconds).await).await;
    }
    enrol(schedule, "a", "dora", future).await;
    enrol(schedule, "b", "ana", future).await;
    let epoch = leader(schedule).await;
    claim(schedule, epoch, "a", &["ana"], LONG).await;
    let count = |summary: Summary| (summary.tenants, summary.users, summary.due, summary.claimed);
    let all = schedule.summary(None).await.unwrap();
    assert!(all.oldest_due_seconds.unwrap() > 0);
    assert_eq!(all.oldest_success_seconds, None);
    assert_eq!(count(all), (2, 5, 2, 1));
    let of = |tenant| {
        let schedule = bench.schedule();
        async move { schedule.summary(Some(&tenant_id(tenant))).await.unwrap() }
    };
    assert_eq!(count(of("a").await), (1, 4, 2, 1));
    let b = of("b").await;
    assert_eq!(b.oldest_due_seconds, None);
    assert_eq!(count(b), (1, 1, 0, 0));
    assert_eq!(of("ghost").await, Summary::default());
    assert!(schedule.make_due(&key("b", "ana")).await.unwrap());
    assert_eq!(count(of("b").await), (1, 1, 1, 0));
    schedule.withdraw(&key("a", "ben")).await.unwrap();
    assert_eq!(count(schedule.summary(None).await.unwrap()), (2, 4, 2, 1));
}

/// A requested user is ahead of others, but waits since the request only, or since the user was due before it.
pub async fn a_request_makes_no_wait_older(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let now = schedule.now().await.unwrap();
    enrol(schedule, "a", "ana", now).await;
    enrol(
        schedule,
        "b",
        "ben",
        now - bench.minimum() - SignedDuration::from_secs(1_000),
    )
    .await;
    let oldest = |tenant: Option<&'static str>| {
        let schedule = bench.schedule();
        async move {
            let tenant = tenant.map(tenant_id);
            schedule
                .summary(tenant.as_ref())
                .await
                .unwrap()
                .oldest_due_seconds
        }
    };
    for _ in 0..3 {
        assert!(schedule.make_due(&key("a", "ana")).await.unwrap());
        assert!(schedule.make_due(&key("b", "ben")).await.unwrap());
    }
    let (of_ana, of_ben) = (oldest(Some("a")).await.unwrap(), oldest(None).await.unwrap());
    assert!(of_ana < 60, "{of_ana}");
    assert!((1_000..1_060).contains(&of_ben), "{of_ben}");
    let ana = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    assert!(ana.stamp < ana.waits_from(), "{ana:?}");
    // Requested while an attempt runs: the wait begins when the attempt ends.
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    let claimed = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    assert_eq!(claimed.waits_from(), ana.waits_from());
    assert!(schedule.make_due(&key("a", "ana")).await.unwrap());
    let finish = [successful_attempt("ana", LONG)];
    schedule.finish(&tenant_id("a"), token, &finish).await.unwrap();
    let again = oldest(Some("a")).await.unwrap();
    assert!(again < 60, "{again}");
    // A later attempt without a request leaves nothing of it.
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    schedule.finish(&tenant_id("a"), token, &finish).await.unwrap();
    let ana = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    assert_eq!(ana.requested, None);
}

/// An interval lasts from one attempt to the next, whatever their results. The oldest success ages.
pub async fn intervals_and_ages_follow_the_attempts(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let day_ago = stamp(schedule, 0).await;
    schedule
        .enrol(&key("a", "ana"), day_ago, Some(day_ago))
        .await
        .unwrap();
    enrol(schedule, "a", "ben", day_ago).await;
    let summary = schedule.summary(None).await.unwrap();
    let age = summary.oldest_success_seconds.unwrap();
    assert!((86_400..87_400).contains(&age), "{age}");
    assert_eq!(summary.interval_p50_seconds, None);
    let epoch = leader(schedule).await;
    for attempt in 0..2 {
        let (token, _) = claim(schedule, epoch, "a", &["ana", "ben"], LONG).await;
        let results = [
            successful_attempt("ana", bench.minimum()),
            failed_attempt("ben", bench.minimum()),
        ];
        let finished = schedule.finish(&tenant_id("a"), token, &results).await.unwrap();
        assert_eq!(finished.len(), 2);
        let summary = schedule.summary(None).await.unwrap();
        assert_eq!(summary.interval_p99_seconds.is_some(), attempt == 1);
        assert_eq!(summary.attempts, 2 * (attempt + 1));
        assert!(summary.oldest_success_seconds.unwrap() < age);
        bench.pass_time(bench.unit()).await;
    }
    let summary = schedule.summary(Some(&tenant_id("a"))).await.unwrap();
    assert!(summary.interval_p50_seconds.unwrap() >= bench.unit().as_secs());
    assert!(summary.interval_p50_seconds <= summary.interval_p99_seconds);
}
