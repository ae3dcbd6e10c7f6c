//! Enabling disabled users.

use super::{EnrolmentState, Registry};
use crate::error::Failure;
use crate::model::UserKey;

/// Enables a disabled user and ends the alert about it. Returns `false` if the user is not disabled or not enrolled.
///
/// # Errors
/// The failure of the registry. The user is still disabled then, so the call can be repeated.
pub async fn enable(registry: &dyn Registry, user: &UserKey) -> Result<bool, Failure> {
    let state = registry.enrolment(user).await?.map(|enrolment| enrolment.state);
    let Some(EnrolmentState::Disabled { failure, .. }) = state else {
        return Ok(false);
    };
    // The alert first: if the second call fails, the enrolment still says that there is something to end.
    registry
        .end_alert(&user.tenant, Some(&user.user), failure.code)
        .await?;
    registry.set_enrolment_state(user, &EnrolmentState::Enabled).await
}
