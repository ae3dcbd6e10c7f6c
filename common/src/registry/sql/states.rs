//! Sync states, saved by compare-and-set.

use sqlx::{QueryBuilder, SqliteConnection};

use super::errors::is_missing_reference;
use super::{SqliteRegistry, USERS_PER_STATEMENT, push_users};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::registry::{Saved, StoredState};

const FINGERPRINTS: &str =
    "SELECT user_id, version, fingerprint FROM sync_states WHERE present = 1 AND tenant = ";
const ONE: &str = "SELECT version, fingerprint, state FROM sync_states \
    WHERE tenant = $1 AND user_id = $2 AND present = 1";
/// Compare and set in one statement: the row is made only for an enrolled user with nothing expected, and changed only
/// when the stored version (0 for a forgotten state) is the expected one. No row comes back otherwise.
const SAVE: &str = "INSERT INTO sync_states (tenant, user_id, version, present, fingerprint, state) \
    SELECT e.tenant, e.user_id, 1, 1, $4, $5 FROM enrolments e \
    WHERE e.tenant = $1 AND e.user_id = $2 AND ($3 = 0 OR EXISTS \
        (SELECT 1 FROM sync_states s WHERE s.tenant = e.tenant AND s.user_id = e.user_id)) \
    ON CONFLICT (tenant, user_id) DO UPDATE SET \
        version = sync_states.version + 1, present = 1, \
        fingerprint = excluded.fingerprint, state = excluded.state \
    WHERE CASE sync_states.present WHEN 1 THEN sync_states.version ELSE 0 END = $3 \
    RETURNING version";
const FORGET: &str = "UPDATE sync_states SET present = 0, fingerprint = $3, state = $3 \
    WHERE tenant = $1 AND user_id = $2 AND present = 1";

/// Forgets a user's state inside a transaction; the number of states forgotten.
pub(super) async fn forget(connection: &mut SqliteConnection, user: &UserKey) -> Result<u64, sqlx::Error> {
    const EMPTY: &[u8] = &[];
    Ok(sqlx::query(FORGET)
        .bind(user.tenant.as_str())
        .bind(user.user.as_str())
        .bind(EMPTY)
        .execute(connection)
        .await?
        .rows_affected())
}

impl SqliteRegistry {
    pub(super) async fn do_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, StoredState)>, Failure> {
        let doing = format!("reading fingerprints of {tenant}");
        let mut found = Vec::with_capacity(users.len());
        let mut connection = self.read(&doing).await?;
        for users in users.chunks(USERS_PER_STATEMENT) {
            let mut query = QueryBuilder::new(FINGERPRINTS);
            query.push_bind(tenant.as_str().to_owned());
            push_users(&mut query, users);
            let rows: Vec<(String, i64, Vec<u8>)> = query
                .build_query_as()
                .persistent(false)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            for (user, version, fingerprint) in rows {
                found.push((
                    self.name(&user)?,
                    StoredState {
                        version: self.number(version)?,
                        fingerprint,
                        blob: Vec::new(),
                    },
                ));
            }
        }
        Ok(found)
    }

    pub(super) async fn do_sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        let doing = format!("reading the sync state of {user}");
        let mut connection = self.read(&doing).await?;
        let row: Option<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(ONE)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        row.map(|(version, fingerprint, blob)| {
            Ok(StoredState {
                version: self.number(version)?,
                fingerprint,
                blob,
            })
        })
        .transpose()
    }

    pub(super) async fn do_save_sync_state(
        &self,
        user: &UserKey,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<Saved, Failure> {
        let doing = format!("saving the sync state of {user}");
        let Ok(expected) = i64::try_from(expected) else {
            // No stored version is that large.
            return Ok(Saved::VersionConflict);
        };
        let mut transaction = self.write(&doing).await?;
        let stored: Result<Option<i64>, sqlx::Error> = sqlx::query_scalar(SAVE)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .bind(expected)
            .bind(fingerprint)
            .bind(blob)
            .fetch_optional(&mut *transaction)
            .await;
        match stored {
            Ok(Some(version)) => {
                self.commit(&doing, transaction).await?;
                Ok(Saved::Stored(self.number(version)?))
            }
            Ok(None) => Ok(Saved::VersionConflict),
            // Withdrawn by somebody between the statement's parts; only a database with several writers can do that.
            Err(error) if is_missing_reference(&error) => Ok(Saved::VersionConflict),
            Err(error) => Err(self.failure(&doing, &error)),
        }
    }

    pub(super) async fn do_forget_sync_state(&self, user: &UserKey) -> Result<bool, Failure> {
        let doing = format!("forgetting the sync state of {user}");
        let mut transaction = self.write(&doing).await?;
        let forgotten = forget(&mut transaction, user)
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        self.commit(&doing, transaction).await?;
        Ok(forgotten > 0)
    }
}
