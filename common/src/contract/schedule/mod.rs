//! The suite of the schedule.

pub mod claims;
pub mod freshness;
pub mod leadership;
pub mod order;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{key, tenant_id, user_id};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{TenantId, UserId};
use crate::schedule::{ClaimAnswer, Epoch, FinishedAttempt, History, RenewedUser, Schedule, Token};

/// Longer than any test.
const LONG: Duration = Duration::from_hours(24);

/// Returns a stamp that is a day old, and therefore due, plus this many seconds.
async fn stamp(schedule: &dyn Schedule, seconds: i64) -> Timestamp {
    let hour = SignedDuration::from_hours(24);
    // Whole seconds, so that adapters that count in milliseconds or microseconds keep the stamp.
    let start = Timestamp::from_second(schedule.now().await.unwrap().as_second()).unwrap() - hour;
    start + SignedDuration::from_secs(seconds)
}

async fn enrol(schedule: &dyn Schedule, tenant: &str, user: &str, stamp: Timestamp) {
    assert!(schedule.enrol(&key(tenant, user), stamp, None).await.unwrap());
}

async fn leader(schedule: &dyn Schedule) -> Epoch {
    schedule.lead("leader", LONG).await.unwrap().unwrap()
}

/// Claims users and returns the token and the claimed users.
async fn claim(
    schedule: &dyn Schedule,
    epoch: Epoch,
    tenant: &str,
    users: &[&str],
    lasts: Duration,
) -> (Token, Vec<String>) {
    let users: Vec<UserId> = users.iter().map(|user| user_id(user)).collect();
    match schedule
        .claim(epoch, &tenant_id(tenant), &users, lasts)
        .await
        .unwrap()
    {
        ClaimAnswer::Claimed { token, users } => (
            token,
            users.iter().map(|claimed| claimed.user.to_string()).collect(),
        ),
        ClaimAnswer::StaleEpoch => panic!("the present leader was refused"),
    }
}

/// Renews the claim and returns the users who still hold it.
async fn renew_claim(
    schedule: &dyn Schedule,
    tenant: &TenantId,
    token: Token,
    users: &[UserId],
) -> Vec<RenewedUser> {
    schedule
        .renew(tenant, token, users, LONG)
        .await
        .unwrap()
        .still_claimed
}

/// Returns the names of the tenant's waiting users, oldest first.
async fn waiting_users(schedule: &dyn Schedule, tenant: &str) -> Vec<String> {
    schedule
        .oldest(&tenant_id(tenant), Timestamp::MAX, 1_000)
        .await
        .unwrap()
        .iter()
        .map(|(user, _)| user.to_string())
        .collect()
}

/// Returns a success for each of these users, as their first attempt.
#[must_use]
pub fn successes(users: &[UserId], due_after: Duration) -> Vec<FinishedAttempt> {
    users
        .iter()
        .map(|user| FinishedAttempt {
            user: user.clone(),
            result: Ok(()),
            history: History::default(),
            due_after,
        })
        .collect()
}

fn successful_attempt(user: &str, due_after: Duration) -> FinishedAttempt {
    FinishedAttempt {
        user: user_id(user),
        result: Ok(()),
        history: History {
            idle_cycles: 3,
            failures: 0,
        },
        due_after,
    }
}

fn failed_attempt(user: &str, due_after: Duration) -> FinishedAttempt {
    FinishedAttempt {
        result: Err(Failure::new(
            ErrorClass::Transient,
            Code::ExchangeTimeout,
            "GetFolder: no answer",
        )),
        history: History {
            idle_cycles: 0,
            failures: 2,
        },
        ..successful_attempt(user, due_after)
    }
}
