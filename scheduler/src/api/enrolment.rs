//! What an opt-in or "sync now" changes in the schedule, and why an opt-in was refused.

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::{Enrolment, EnrolmentResult};
use tasksync_common::schedule::SavedStamp;

use super::ServiceParts;
use super::error::ApiCode;

/// Returns why the registry refused an enrolment, as the API answers it.
pub(super) fn refusal(enrolment: &Enrolment, answer: &EnrolmentResult) -> Option<(ApiCode, String)> {
    match answer {
        EnrolmentResult::Added | EnrolmentResult::Updated => None,
        EnrolmentResult::MailboxTaken(other) => Some((
            ApiCode::MailboxTaken,
            format!("{} belongs to {other}", enrolment.mailbox),
        )),
        EnrolmentResult::LoginTaken(other) => Some((
            ApiCode::LoginTaken,
            format!("\"{}\" is the sign-in name of {other}", enrolment.source_login),
        )),
    }
}

/// Makes a user due at once. Adds the user to the schedule if it is not there.
pub(super) async fn make_due(parts: &ServiceParts, key: &UserKey) -> Result<(), Failure> {
    if parts.schedule.make_due(key).await? {
        return Ok(());
    }
    enrol(parts, &key.tenant, std::slice::from_ref(&key.user)).await
}

/// Adds users to the schedule, due at once, in the order of the list. Users already in the schedule keep their place.
pub(super) async fn enrol(parts: &ServiceParts, tenant: &TenantId, users: &[UserId]) -> Result<(), Failure> {
    if users.is_empty() {
        return Ok(());
    }
    let now = parts.schedule.now().await?;
    let minimum = parts.settings.schedule.minimum_time_between_user_syncs;
    let due = SignedDuration::try_from(minimum)
        .ok()
        .and_then(|minimum| now.checked_sub(minimum).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    // The last user is due now and each one before it one microsecond longer: equal stamps double the cost of an
    // index.
    let stamp = |at: usize| {
        let behind = i64::try_from(users.len() - 1 - at).unwrap_or(0);
        due.checked_sub(SignedDuration::from_micros(behind))
            .unwrap_or(due)
    };
    let stamped: Vec<SavedStamp> = users
        .iter()
        .enumerate()
        .map(|(at, user)| SavedStamp::new(user.clone(), stamp(at), None))
        .collect();
    parts.schedule.enrol_many(tenant, &stamped).await?;
    Ok(())
}
