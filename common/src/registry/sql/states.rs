//! Sync states, saved by compare-and-set.

use super::SqlRegistry;
use super::connection::{Sql, SqlConnection, about_users};
use super::errors::is_missing_reference;
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::registry::StateStore;
use crate::registry::sql::retry_on_conflict;
use crate::registry::{Enrolment, SaveResult, StoredState};
use async_trait::async_trait;

/// A worker runs it once for all users of a batch.
const WITH_FINGERPRINTS: Sql = about_users!(
    "SELECT e.user_id, e.source_login, e.mailbox, e.time_zone, e.opted_in_at, \
        e.disabled_since, e.failure, s.version, s.fingerprint \
    FROM enrolments e LEFT JOIN sync_states s ON s.tenant = e.tenant AND s.user_id = e.user_id AND s.present = TRUE \
    WHERE e.tenant = $1 AND e.user_id",
    " ORDER BY e.user_id"
);
/// One statement, so that enrolment and state belong together.
const WITH_STATE: &str = "SELECT e.user_id, e.source_login, e.mailbox, e.time_zone, e.opted_in_at, \
        e.disabled_since, e.failure, s.version, s.fingerprint, s.state \
    FROM enrolments e LEFT JOIN sync_states s ON s.tenant = e.tenant AND s.user_id = e.user_id AND s.present = TRUE \
    WHERE e.tenant = $1 AND e.user_id = $2";
const ONE: &str = "SELECT version, fingerprint, state FROM sync_states \
    WHERE tenant = $1 AND user_id = $2 AND present = TRUE";
/// Saves the first state of an enrolled user, over none or over a dropped one. It returns no row in other
/// cases, and none if the user opted in anew or with another mailbox since.
///
/// A state that does not exist yet cannot be locked against a change of the mailbox, so on PostgreSQL the
/// enrolment is locked. The statement waits for a running change and then sees it; a later change finds the
/// state and drops it.
macro_rules! save_first {
    ($lock:literal) => {
        concat!(
            "INSERT INTO sync_states (tenant, user_id, version, present, fingerprint, state) \
            SELECT e.tenant, e.user_id, 1, TRUE, $3, $4 FROM enrolments e \
            WHERE e.tenant = $1 AND e.user_id = $2 AND e.mailbox = $5 AND e.opted_in_at = $6 ",
            $lock,
            " ON CONFLICT (tenant, user_id) DO UPDATE SET version = sync_states.version + 1, present = TRUE, \
            fingerprint = excluded.fingerprint, state = excluded.state \
            WHERE sync_states.present = FALSE RETURNING version"
        )
    };
}
const SAVE_FIRST: Sql = Sql {
    sqlite: save_first!(""),
    postgres: save_first!("FOR SHARE OF e"),
};
/// Compares and sets in one statement. A state's row is removed with the enrolment, so a user with a state is
/// enrolled. A change of the mailbox drops the state in the same transaction. The time of the opt-in is
/// compared, too, because versions begin anew with each opt-in.
const SAVE_NEXT: &str = "UPDATE sync_states SET version = version + 1, fingerprint = $3, state = $4 \
    WHERE tenant = $1 AND user_id = $2 AND present = TRUE AND version = $7 AND EXISTS (\
        SELECT 1 FROM enrolments e WHERE e.tenant = $1 AND e.user_id = $2 AND e.mailbox = $5 AND e.opted_in_at = $6) \
    RETURNING version";
const FORGET: &str = "UPDATE sync_states SET present = FALSE, fingerprint = $3, state = $3 \
    WHERE tenant = $1 AND user_id = $2 AND present = TRUE";

/// The columns of [`WITH_FINGERPRINTS`] and [`WITH_STATE`].
#[derive(sqlx::FromRow)]
struct RowWithState {
    user_id: String,
    source_login: String,
    mailbox: String,
    time_zone: Option<String>,
    opted_in_at: i64,
    disabled_since: Option<i64>,
    failure: Option<String>,
    version: Option<i64>,
    fingerprint: Option<Vec<u8>>,
    #[sqlx(default)]
    state: Option<Vec<u8>>,
}

/// Drops a user's state inside a transaction and returns the number of dropped states.
pub(super) async fn forget(connection: &mut SqlConnection, user: &UserKey) -> Result<u64, sqlx::Error> {
    const EMPTY: &[u8] = &[];
    connection
        .query(FORGET)
        .bind(user.tenant.as_str())
        .bind(user.user.as_str())
        .bind(EMPTY)
        .execute()
        .await
}

#[async_trait]
impl StateStore for SqlRegistry {
    async fn enrolments_with_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        let doing = format!("reading enrolments and fingerprints of {tenant}");
        let rows: Vec<RowWithState> = self
            .select_users(&doing, WITH_FINGERPRINTS, tenant, users)
            .await?;
        rows.into_iter()
            .map(|row| self.enrolment_and_state_from(tenant, row))
            .collect()
    }

    async fn enrolment_with_state(
        &self,
        user: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        let doing = format!("reading the enrolment and sync state of {user}");
        let row: Option<RowWithState> = self.row_of_user(&doing, WITH_STATE, user).await?;
        row.map(|row| self.enrolment_and_state_from(&user.tenant, row))
            .transpose()
    }

    async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        let doing = format!("reading the sync state of {user}");
        let row: Option<(i64, Vec<u8>, Vec<u8>)> = self.row_of_user(&doing, ONE, user).await?;
        row.map(|(version, fingerprint, blob)| {
            Ok(StoredState {
                version: self.number(version)?,
                fingerprint,
                blob,
            })
        })
        .transpose()
    }

    async fn save_sync_state(
        &self,
        of: &Enrolment,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<SaveResult, Failure> {
        retry_on_conflict(|| async {
            let user = &of.key;
            let doing = format!("saving the sync state of {user}");
            let Ok(expected) = i64::try_from(expected) else {
                // No stored version is that large.
                return Ok(SaveResult::VersionConflict);
            };
            let mut connection = self.single(&doing).await?;
            let (statement, over) = match expected {
                0 => (SAVE_FIRST, None),
                over => (Sql::from(SAVE_NEXT), Some(over)),
            };
            let mut query = connection
                .query(statement)
                .bind(user.tenant.as_str())
                .bind(user.user.as_str())
                .bind(fingerprint)
                .bind(blob)
                .bind(of.mailbox.as_str())
                .bind(of.opted_in_at.as_microsecond());
            if let Some(over) = over {
                query = query.bind(over);
            }
            let stored: Result<Option<(i64,)>, sqlx::Error> = query.fetch_optional().await;
            match stored {
                Ok(Some((version,))) => {
                    self.commit(&doing, connection).await?;
                    Ok(SaveResult::Stored(self.number(version)?))
                }
                Ok(None) => Ok(SaveResult::VersionConflict),
                // The user was withdrawn while the statement ran; only a database with several writers allows
                // that.
                Err(error) if is_missing_reference(&error) => Ok(SaveResult::VersionConflict),
                Err(error) => Err(self.failure(&doing, &error)),
            }
        })
        .await
    }
}

impl SqlRegistry {
    fn enrolment_and_state_from(
        &self,
        tenant: &TenantId,
        row: RowWithState,
    ) -> Result<(Enrolment, Option<StoredState>), Failure> {
        let stored = match (row.version, row.fingerprint) {
            (Some(version), Some(fingerprint)) => Some(StoredState {
                version: self.number(version)?,
                fingerprint,
                blob: row.state.unwrap_or_default(),
            }),
            // The table allows both columns or neither.
            _ => None,
        };
        let row = (
            row.user_id,
            row.source_login,
            row.mailbox,
            row.time_zone,
            row.opted_in_at,
            row.disabled_since,
            row.failure,
        );
        Ok((self.enrolment_from(tenant, row)?, stored))
    }
}
