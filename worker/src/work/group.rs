//! Groups of users that are surveyed together.

use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId};

use super::{Survey, UserSync};

/// A survey's answers, one per user.
pub(super) type SurveyAnswers<W> = Vec<Result<Survey<W>, Failure>>;

/// Users that are surveyed together.
pub(super) enum SurveyGroup<K> {
    /// Users that were looked up with the whole batch.
    Known(Vec<(UserId, K)>),
    /// One user, to be looked up alone.
    Alone(UserId),
}

impl<K> SurveyGroup<K> {
    /// Returns the users, in order.
    pub(super) fn users(&self) -> Vec<UserId> {
        match self {
            Self::Known(users) => users.iter().map(|(user, _)| user.clone()).collect(),
            Self::Alone(user) => vec![user.clone()],
        }
    }

    /// Surveys the group. Returns one answer per user, in order.
    pub(super) async fn survey<S: UserSync<LookedUp = K>>(
        self,
        sync: &S,
        tenant: &TenantId,
    ) -> SurveyAnswers<S::Work> {
        match self {
            Self::Known(users) => sync.survey(tenant, users).await,
            Self::Alone(user) => {
                let mut answers = sync.look_up(tenant, std::slice::from_ref(&user)).await;
                match answers.pop() {
                    Some(Ok(looked_up)) => sync.survey(tenant, vec![(user, looked_up)]).await,
                    Some(Err(failure)) => vec![Err(failure)],
                    None => Vec::new(),
                }
            }
        }
    }
}
