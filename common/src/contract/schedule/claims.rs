//! Claims are taken, renewed, finished, released and reclaimed, and no other way changes them.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    LONG, claim, enrol, failed_attempt, leader, renew_claim, stamp, successful_attempt, waiting_users,
};
use crate::contract::{ScheduleBench, key, tenant_id, user_id};
use crate::error::Code;
use crate::schedule::{ClaimAnswer, ClaimRenewal, History, RenewedUser, Token};

/// Claimed users are out of the order and counted as in flight. They are released with their original stamps.
pub async fn claimed_users_leave_the_order_and_come_back_with_their_stamp(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    for (user, seconds) in [("ana", 1), ("ben", 2), ("cem", 3)] {
        enrol(schedule, "a", user, stamp(schedule, seconds).await).await;
    }
    let before = schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap();
    let epoch = leader(schedule).await;
    let asked = [user_id("ben"), user_id("ana")];
    let answer = schedule
        .claim(epoch, &tenant_id("a"), &asked, LONG)
        .await
        .unwrap();
    let ClaimAnswer::Claimed { token, users } = answer else {
        panic!("the present leader was refused")
    };
    let pairs: Vec<_> = users
        .into_iter()
        .map(|claimed| (claimed.user, claimed.stamp))
        .collect();
    assert_eq!(
        pairs,
        [before[1].clone(), before[0].clone()],
        "in the order asked for"
    );
    assert_eq!(waiting_users(schedule, "a").await, ["cem"]);
    let heads = schedule.heads(9).await.unwrap();
    assert_eq!((heads[0].stamp, heads[0].in_flight), (before[2].1, 2));
    assert!(schedule.status(&key("a", "ana")).await.unwrap().unwrap().claimed);
    let released = schedule.release(&tenant_id("a"), token, &asked).await.unwrap();
    assert_eq!(released, asked);
    assert_eq!(
        schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap(),
        before
    );
    assert_eq!(schedule.heads(9).await.unwrap()[0].in_flight, 0);
}

/// A user who is named twice or is claimed already is left out. Tokens grow.
pub async fn a_user_is_claimed_once_at_a_time(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    for user in ["ana", "ben"] {
        enrol(schedule, "a", user, at).await;
    }
    let epoch = leader(schedule).await;
    let (first, claimed) = claim(schedule, epoch, "a", &["ana", "ana"], LONG).await;
    assert_eq!(claimed, ["ana"]);
    let (second, claimed) = claim(schedule, epoch, "a", &["ana", "ben"], LONG).await;
    assert_eq!(claimed, ["ben"]);
    assert!(second > first);
    let (third, claimed) = claim(schedule, epoch, "a", &["ana", "ben"], LONG).await;
    assert!(claimed.is_empty());
    assert!(third > second);
}

/// A claim takes only users of its tenant that are in the schedule.
pub async fn unknown_and_foreign_users_are_left_out_of_a_claim(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    enrol(schedule, "a", "ana", at).await;
    enrol(schedule, "b", "ben", at).await;
    let epoch = leader(schedule).await;
    let (_, claimed) = claim(schedule, epoch, "a", &["ben", "nobody", "ana"], LONG).await;
    assert_eq!(claimed, ["ana"]);
    assert_eq!(waiting_users(schedule, "b").await, ["ben"]);
    let (_, claimed) = claim(schedule, epoch, "ghost", &["ana"], LONG).await;
    assert!(claimed.is_empty());
    assert_eq!(schedule.status(&key("ghost", "ana")).await.unwrap(), None);
}

/// Renewing, finishing and releasing under another token do not touch the claim.
pub async fn an_old_token_changes_nothing(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    enrol(schedule, "a", "ana", stamp(schedule, 0).await).await;
    let epoch = leader(schedule).await;
    let (old, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    let (a, ana) = (tenant_id("a"), [user_id("ana")]);
    schedule.release(&a, old, &ana).await.unwrap();
    let (new, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    let before = schedule.status(&key("a", "ana")).await.unwrap();
    for wrong in [old, Token(0), Token(new.0 + 1)] {
        assert!(renew_claim(schedule, &a, wrong, &ana).await.is_empty());
        let finish = [successful_attempt("ana", bench.minimum())];
        assert!(schedule.finish(&a, wrong, &finish).await.unwrap().is_empty());
        assert!(schedule.release(&a, wrong, &ana).await.unwrap().is_empty());
        assert_eq!(schedule.status(&key("a", "ana")).await.unwrap(), before);
    }
    assert_eq!(renew_claim(schedule, &a, new, &ana).await.len(), 1);
}

/// An ended claim cannot be ended again. Of a group, those that are still claimed are ended.
pub async fn a_lost_claim_cannot_be_renewed_finished_or_released(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    for user in ["ana", "ben"] {
        enrol(schedule, "a", user, at).await;
    }
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana", "ben"], LONG).await;
    let a = tenant_id("a");
    let first = [successful_attempt("ana", bench.minimum())];
    assert_eq!(
        schedule.finish(&a, token, &first).await.unwrap(),
        [user_id("ana")]
    );
    let stamp_after = schedule.status(&key("a", "ana")).await.unwrap().unwrap().stamp;
    let both = [
        failed_attempt("ana", LONG),
        successful_attempt("ben", bench.minimum()),
        successful_attempt("nobody", LONG),
    ];
    assert_eq!(schedule.finish(&a, token, &both).await.unwrap(), [user_id("ben")]);
    let users = ["ana", "ben", "nobody"].map(user_id);
    assert!(renew_claim(schedule, &a, token, &users).await.is_empty());
    assert!(schedule.release(&a, token, &users).await.unwrap().is_empty());
    let status = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    assert_eq!((status.stamp, status.last_failure), (stamp_after, None));
}

/// The dead worker's users are first in the order again. Its late report changes nothing.
pub async fn expired_claims_are_reclaimed_with_their_stamps_a_few_at_a_time(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let names = ["ana", "ben", "cem", "dora", "eve"];
    for (seconds, user) in names.iter().enumerate() {
        enrol(
            schedule,
            "a",
            user,
            stamp(schedule, i64::try_from(seconds).unwrap()).await,
        )
        .await;
    }
    enrol(schedule, "b", "ana", stamp(schedule, 9).await).await;
    let before = schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap();
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &names[..4], bench.unit()).await;
    claim(schedule, epoch, "a", &names[4..], LONG).await;
    claim(schedule, epoch, "b", &["ana"], bench.unit()).await;
    bench.pass_time(bench.unit() * 2).await;
    assert_eq!(schedule.reclaim(3).await.unwrap().len(), 3);
    assert_eq!(schedule.reclaim(3).await.unwrap().len(), 2);
    assert!(schedule.reclaim(3).await.unwrap().is_empty());
    assert_eq!(
        schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap(),
        before[..4]
    );
    assert_eq!(waiting_users(schedule, "b").await, ["ana"]);
    let a = tenant_id("a");
    let finish = [successful_attempt("ana", LONG)];
    assert!(schedule.finish(&a, token, &finish).await.unwrap().is_empty());
    let users = names.map(user_id);
    assert!(renew_claim(schedule, &a, token, &users).await.is_empty());
    assert!(schedule.release(&a, token, &users).await.unwrap().is_empty());
    assert_eq!(
        schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap(),
        before[..4]
    );
}

/// A renewal extends the whole batch, including users it does not name. The answer has the history of the
/// named ones. The users of a batch expire together, except those that ended before.
pub async fn a_renewed_claim_does_not_expire(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    for user in ["ana", "ben"] {
        enrol(schedule, "a", user, at).await;
    }
    let epoch = leader(schedule).await;
    let a = tenant_id("a");
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    schedule
        .finish(&a, token, &[failed_attempt("ana", Duration::ZERO)])
        .await
        .unwrap();
    let (token, _) = claim(schedule, epoch, "a", &["ana", "ben"], bench.unit()).await;
    let renewed = schedule
        .renew(&a, token, &["ana", "nobody"].map(user_id), bench.unit() * 5)
        .await
        .unwrap();
    let history = History {
        idle_cycles: 0,
        failures: 2,
    };
    assert_eq!(
        renewed,
        ClaimRenewal {
            still_claimed: vec![RenewedUser {
                user: user_id("ana"),
                history,
            }],
            tenant_users: 2,
        }
    );
    bench.pass_time(bench.unit() * 2).await;
    assert!(schedule.reclaim(9).await.unwrap().is_empty());
    assert_eq!(
        schedule.release(&a, token, &[user_id("ana")]).await.unwrap(),
        [user_id("ana")]
    );
    bench.pass_time(bench.unit() * 4).await;
    assert_eq!(schedule.reclaim(9).await.unwrap(), [key("a", "ben")]);
    assert!(
        renew_claim(schedule, &a, token, &["ana", "ben"].map(user_id))
            .await
            .is_empty()
    );
}

/// The old worker's report must neither end the new claim nor move the new stamp.
pub async fn a_withdrawn_user_s_claim_is_void_even_when_enrolled_again(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let at = stamp(schedule, 0).await;
    enrol(schedule, "a", "ana", at).await;
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana"], bench.unit()).await;
    let (a, ana) = (tenant_id("a"), [user_id("ana")]);
    schedule.withdraw(&key("a", "ana")).await.unwrap();
    enrol(schedule, "a", "ana", at).await;
    assert!(renew_claim(schedule, &a, token, &ana).await.is_empty());
    let finish = [successful_attempt("ana", LONG)];
    assert!(schedule.finish(&a, token, &finish).await.unwrap().is_empty());
    bench.pass_time(bench.unit() * 2).await;
    assert!(schedule.reclaim(9).await.unwrap().is_empty());
    let status = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    assert_eq!((status.stamp, status.last_attempt), (at, None));
}

/// Of the users of one batch, one is withdrawn and one is requested. The others keep their claim and their
/// stamps.
pub async fn the_others_of_a_batch_stay_claimed_when_one_of_it_is_withdrawn(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let names = ["ana", "ben", "cem", "dora"];
    for (seconds, user) in (0..).zip(names) {
        enrol(schedule, "a", user, stamp(schedule, seconds).await).await;
    }
    let before = schedule.oldest(&tenant_id("a"), Timestamp::MAX, 9).await.unwrap();
    let epoch = leader(schedule).await;
    let a = tenant_id("a");
    let (token, claimed) = claim(schedule, epoch, "a", &names, LONG).await;
    assert_eq!(claimed, names);
    assert!(schedule.withdraw(&key("a", "ben")).await.unwrap());
    assert!(schedule.make_due(&key("a", "dora")).await.unwrap());
    let status = schedule.status(&key("a", "cem")).await.unwrap().unwrap();
    assert_eq!((status.stamp, status.claimed), (before[2].1, true));
    assert_eq!(schedule.status(&key("a", "ben")).await.unwrap(), None);
    let summary = schedule.summary(Some(&a)).await.unwrap();
    assert_eq!((summary.users, summary.claimed), (3, 3));
    let users = names.map(user_id);
    let renewed = renew_claim(schedule, &a, token, &users).await;
    let renewed: Vec<&str> = renewed.iter().map(|renewed| renewed.user.as_str()).collect();
    assert_eq!(renewed, ["ana", "cem", "dora"]);
    let ended = ["ana", "ben", "dora"].map(|user| successful_attempt(user, LONG));
    assert_eq!(
        schedule.finish(&a, token, &ended).await.unwrap(),
        ["ana", "dora"].map(user_id)
    );
    assert_eq!(
        schedule.release(&a, token, &users).await.unwrap(),
        [user_id("cem")]
    );
    assert_eq!(
        waiting_users(schedule, "a").await,
        ["cem", "dora", "ana"],
        "who was asked for is due at once"
    );
}

/// The new stamp is the end of the attempt, moved so that the user is due after the wait. The success is
/// recorded.
pub async fn a_finished_user_is_due_again_after_the_wait(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    enrol(schedule, "a", "ana", stamp(schedule, 0).await).await;
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    let wait = bench.minimum() + Duration::from_mins(7);
    let before = schedule.now().await.unwrap();
    let finished = schedule
        .finish(&tenant_id("a"), token, &[successful_attempt("ana", wait)])
        .await
        .unwrap();
    let after = schedule.now().await.unwrap();
    assert_eq!(finished, [user_id("ana")]);
    let status = schedule.status(&key("a", "ana")).await.unwrap().unwrap();
    let attempt = status.last_attempt.unwrap();
    assert!((before..=after).contains(&attempt), "{before} {attempt} {after}");
    assert_eq!(status.stamp, attempt + Duration::from_mins(7));
    assert_eq!(status.last_success, Some(attempt));
    assert_eq!(status.history.idle_cycles, 3);
    assert!(!status.claimed);
    assert_eq!(schedule.heads(9).await.unwrap()[0].stamp, status.stamp);
}

/// The attempt determines the order, and the last success is shown. The next success clears the failure.
pub async fn a_failure_keeps_the_last_success(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    let long_ago = stamp(schedule, 0).await;
    let ana = key("a", "ana");
    schedule.enrol(&ana, long_ago, Some(long_ago)).await.unwrap();
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    let a = tenant_id("a");
    schedule
        .finish(&a, token, &[failed_attempt("ana", bench.minimum())])
        .await
        .unwrap();
    let status = schedule.status(&ana).await.unwrap().unwrap();
    assert_eq!(status.last_success, Some(long_ago));
    assert!(status.last_attempt.unwrap() > long_ago && status.stamp > long_ago);
    assert_eq!(status.last_failure.unwrap().code, Code::ExchangeTimeout);
    assert_eq!(status.history.failures, 2);
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    schedule
        .finish(&a, token, &[successful_attempt("ana", bench.minimum())])
        .await
        .unwrap();
    let status = schedule.status(&ana).await.unwrap().unwrap();
    assert!(status.last_failure.is_none() && status.last_success > Some(long_ago));
}

/// The request is not lost, does not disturb the running attempt, and is served once.
pub async fn a_user_made_due_while_claimed_is_due_when_the_attempt_ends(bench: &dyn ScheduleBench) {
    let schedule = &*bench.schedule();
    enrol(schedule, "a", "ana", stamp(schedule, 0).await).await;
    let (a, ana) = (tenant_id("a"), key("a", "ana"));
    let epoch = leader(schedule).await;
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    assert!(schedule.make_due(&ana).await.unwrap());
    assert!(schedule.status(&ana).await.unwrap().unwrap().claimed);
    let finish = [successful_attempt("ana", LONG)];
    assert_eq!(schedule.finish(&a, token, &finish).await.unwrap().len(), 1);
    let now = schedule.now().await.unwrap();
    let status = schedule.status(&ana).await.unwrap().unwrap();
    assert!(status.stamp <= now - bench.minimum(), "due at once: {status:?}");
    let (token, _) = claim(schedule, epoch, "a", &["ana"], LONG).await;
    schedule.finish(&a, token, &finish).await.unwrap();
    let status = schedule.status(&ana).await.unwrap().unwrap();
    assert!(status.stamp > now, "only once: {status:?}");
}
