//! The end of a user's disablement.

use super::{EnrolmentState, Registry};
use crate::error::Failure;
use crate::model::UserKey;

/// Enables a user who is disabled and ends the alert about it; `false` when the user is not disabled or not enrolled.
///
/// # Errors
/// The registry's own. The user is still disabled then, so that the call can be made again.
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
