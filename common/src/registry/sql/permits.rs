//! Permits for deletions that the guard holds back.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{SqlRegistry, retry_on_conflict};
use crate::error::Failure;
use crate::model::UserKey;
use crate::registry::{DeletionPermit, DeletionPermits};

const ALLOW: &str =
    "UPDATE enrolments SET permit_plan = $3, permit_until = $4 WHERE tenant = $1 AND user_id = $2";
/// One statement decides and takes, so a permit is taken at most once.
const TAKE: &str = "UPDATE enrolments SET permit_plan = NULL, permit_until = NULL \
    WHERE tenant = $1 AND user_id = $2 AND permit_plan = $3 AND permit_until > $4";
const GIVEN: &str = "SELECT permit_plan, permit_until FROM enrolments \
    WHERE tenant = $1 AND user_id = $2 AND permit_plan IS NOT NULL AND permit_until IS NOT NULL";

#[async_trait]
impl DeletionPermits for SqlRegistry {
    async fn allow_deletions(&self, user: &UserKey, permit: &DeletionPermit) -> Result<bool, Failure> {
        let doing = format!("permitting held deletions of {user}");
        retry_on_conflict(|| self.change_permit(&doing, ALLOW, user, &permit.plan, permit.until)).await
    }

    async fn take_deletion_permit(
        &self,
        user: &UserKey,
        plan: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let doing = format!("taking the deletion permit of {user}");
        retry_on_conflict(|| self.change_permit(&doing, TAKE, user, plan, now)).await
    }

    async fn deletion_permit(&self, user: &UserKey) -> Result<Option<DeletionPermit>, Failure> {
        let doing = format!("reading the deletion permit of {user}");
        let row: Option<(String, i64)> = self.row_of_user(&doing, GIVEN, user).await?;
        row.map(|(plan, until)| {
            Ok(DeletionPermit {
                plan,
                until: self.time(until)?,
            })
        })
        .transpose()
    }
}

impl SqlRegistry {
    /// Runs a statement about one user's permit and returns whether it changed a row.
    async fn change_permit(
        &self,
        doing: &str,
        statement: &'static str,
        user: &UserKey,
        plan: &str,
        time: Timestamp,
    ) -> Result<bool, Failure> {
        let mut connection = self.single(doing).await?;
        let changed = connection
            .query(statement)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .bind(plan)
            .bind(time.as_microsecond())
            .execute()
            .await
            .map_err(|error| self.failure(doing, &error))?;
        self.commit(doing, connection).await?;
        Ok(changed > 0)
    }
}
