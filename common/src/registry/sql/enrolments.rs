//! Enrolments, and the permission to delete much once.

use sqlx::QueryBuilder;

use super::errors::is_missing_reference;
use super::{SqliteRegistry, USERS_PER_STATEMENT, push_users, sql_limit};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{TenantId, UserId, UserKey};
use crate::registry::{Enrolled, Enrolment, EnrolmentCounts, EnrolmentState, StoredState};

const OWNER: &str = "SELECT tenant, user_id FROM enrolments WHERE mailbox = $1";
const MAILBOX: &str = "SELECT mailbox FROM enrolments WHERE tenant = $1 AND user_id = $2";
const ADD: &str = "INSERT INTO enrolments \
    (tenant, user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const UPDATE: &str = "UPDATE enrolments SET source_login = $3, mailbox = $4, time_zone = $5 \
    WHERE tenant = $1 AND user_id = $2";
const WITHDRAW: &str = "DELETE FROM enrolments WHERE tenant = $1 AND user_id = $2";
const COLUMNS: &str =
    "SELECT user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure FROM enrolments";
/// One statement for any number of users, so that it is prepared once per connection: a survey asks it for every ten
/// users.
const WITH_FINGERPRINTS: &str = "SELECT e.user_id, e.source_login, e.mailbox, e.time_zone, e.opted_in_at, \
        e.disabled_since, e.failure, s.version, s.fingerprint \
    FROM enrolments e LEFT JOIN sync_states s ON s.tenant = e.tenant AND s.user_id = e.user_id AND s.present = 1 \
    WHERE e.tenant = $1 AND e.user_id IN (SELECT value FROM json_each($2)) ORDER BY e.user_id";
const PAGE: &str = "SELECT user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure FROM enrolments \
    WHERE tenant = $1 AND user_id > $2 ORDER BY user_id LIMIT $3";
const SET_STATE: &str =
    "UPDATE enrolments SET disabled_since = $3, failure = $4 WHERE tenant = $1 AND user_id = $2";
const COUNT: &str = "SELECT COUNT(*), COUNT(disabled_since) FROM enrolments WHERE tenant = $1";
const COUNT_ALL: &str = "SELECT COUNT(*), COUNT(disabled_since) FROM enrolments";
const ALLOW: &str = "UPDATE enrolments SET deletion_permit = 1 WHERE tenant = $1 AND user_id = $2";
const TAKE: &str = "UPDATE enrolments SET deletion_permit = 0 \
    WHERE tenant = $1 AND user_id = $2 AND deletion_permit = 1";

type Row = (
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<String>,
);

/// The columns of [`WITH_FINGERPRINTS`].
#[derive(sqlx::FromRow)]
struct RowWithFingerprint {
    user_id: String,
    source_login: String,
    mailbox: String,
    time_zone: Option<String>,
    opted_in_at: i64,
    disabled_since: Option<i64>,
    failure: Option<String>,
    version: Option<i64>,
    fingerprint: Option<Vec<u8>>,
}

impl SqliteRegistry {
    pub(super) async fn do_enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure> {
        let key = &enrolment.key;
        let doing = format!("enrolling {key}");
        let fail = |error: sqlx::Error| self.failure(&doing, &error);
        let (since, failure) = self.state_columns(&enrolment.state)?;
        let mut transaction = self.write(&doing).await?;
        let owner: Option<(String, String)> = sqlx::query_as(OWNER)
            .bind(enrolment.mailbox.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(fail)?;
        if let Some((tenant, user)) = owner {
            let owner = UserKey::new(self.name(&tenant)?, self.name(&user)?);
            if owner != *key {
                return Ok(Enrolled::MailboxTaken(owner));
            }
        }
        let mailbox: Option<String> = sqlx::query_scalar(MAILBOX)
            .bind(key.tenant.as_str())
            .bind(key.user.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(fail)?;
        let answer = if let Some(mailbox) = mailbox {
            sqlx::query(UPDATE)
                .bind(key.tenant.as_str())
                .bind(key.user.as_str())
                .bind(&enrolment.source_login)
                .bind(enrolment.mailbox.as_str())
                .bind(&enrolment.time_zone)
                .execute(&mut *transaction)
                .await
                .map_err(fail)?;
            if mailbox != enrolment.mailbox.as_str() {
                // Cursors and links are the old mailbox's; seen against the new one they would read as deletions.
                super::states::forget(&mut transaction, key).await.map_err(fail)?;
            }
            Enrolled::Updated
        } else {
            sqlx::query(ADD)
                .bind(key.tenant.as_str())
                .bind(key.user.as_str())
                .bind(&enrolment.source_login)
                .bind(enrolment.mailbox.as_str())
                .bind(&enrolment.time_zone)
                .bind(enrolment.opted_in_at.as_microsecond())
                .bind(since)
                .bind(failure)
                .execute(&mut *transaction)
                .await
                .map_err(|error| {
                    if is_missing_reference(&error) {
                        Failure::new(
                            ErrorClass::Gone,
                            Code::TenantUnknown,
                            format!("{key} cannot be enrolled: there is no tenant {}", key.tenant),
                        )
                    } else {
                        fail(error)
                    }
                })?;
            Enrolled::Added
        };
        self.commit(&doing, transaction).await?;
        Ok(answer)
    }

    pub(super) async fn do_withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.change_one(&format!("withdrawing {user}"), WITHDRAW, user)
            .await
    }

    pub(super) async fn do_enrolment_counts(
        &self,
        tenant: Option<&TenantId>,
    ) -> Result<EnrolmentCounts, Failure> {
        const DOING: &str = "counting enrolments";
        let mut connection = self.read(DOING).await?;
        let query = match tenant {
            Some(tenant) => sqlx::query_as(COUNT).bind(tenant.as_str()),
            None => sqlx::query_as(COUNT_ALL),
        };
        let (all, disabled): (i64, i64) = query
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        Ok(EnrolmentCounts {
            enabled: u64::try_from(all - disabled).unwrap_or(0),
            disabled: u64::try_from(disabled).unwrap_or(0),
        })
    }

    pub(super) async fn do_enrolments_of(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Enrolment>, Failure> {
        let doing = format!("reading enrolments of {tenant}");
        let mut found = Vec::with_capacity(users.len());
        let mut connection = self.read(&doing).await?;
        for users in users.chunks(USERS_PER_STATEMENT) {
            let mut query = QueryBuilder::new(COLUMNS);
            query
                .push(" WHERE tenant = ")
                .push_bind(tenant.as_str().to_owned());
            push_users(&mut query, users);
            query.push(" ORDER BY user_id");
            let rows: Vec<Row> = query
                .build_query_as()
                .persistent(false)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            for row in rows {
                found.push(self.enrolment_from(tenant, row)?);
            }
        }
        Ok(found)
    }

    pub(super) async fn do_enrolments_with_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        let doing = format!("reading enrolments and fingerprints of {tenant}");
        let mut found = Vec::with_capacity(users.len());
        let mut connection = self.read(&doing).await?;
        for users in users.chunks(USERS_PER_STATEMENT) {
            let rows: Vec<RowWithFingerprint> = sqlx::query_as(WITH_FINGERPRINTS)
                .bind(tenant.as_str())
                .bind(self.written("the users", &users)?)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            for row in rows {
                let stored = match (row.version, row.fingerprint) {
                    (Some(version), Some(fingerprint)) => Some(StoredState {
                        version: self.number(version)?,
                        fingerprint,
                        blob: Vec::new(),
                    }),
                    // The table allows both or neither.
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
                found.push((self.enrolment_from(tenant, row)?, stored));
            }
        }
        Ok(found)
    }

    pub(super) async fn do_enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        let doing = format!("listing enrolments of {tenant}");
        let mut connection = self.read(&doing).await?;
        let rows: Vec<Row> = sqlx::query_as(PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or("", UserId::as_str))
            .bind(sql_limit(limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        rows.into_iter()
            .map(|row| self.enrolment_from(tenant, row))
            .collect()
    }

    pub(super) async fn do_set_enrolment_state(
        &self,
        user: &UserKey,
        state: &EnrolmentState,
    ) -> Result<bool, Failure> {
        let doing = format!("changing the state of {user}");
        let (since, failure) = self.state_columns(state)?;
        let mut transaction = self.write(&doing).await?;
        let changed = sqlx::query(SET_STATE)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .bind(since)
            .bind(failure)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failure(&doing, &error))?
            .rows_affected();
        self.commit(&doing, transaction).await?;
        Ok(changed > 0)
    }

    pub(super) async fn do_allow_deletions(&self, user: &UserKey) -> Result<bool, Failure> {
        self.change_one(&format!("letting deletions of {user} pass"), ALLOW, user)
            .await
    }

    pub(super) async fn do_take_deletion_permit(&self, user: &UserKey) -> Result<bool, Failure> {
        self.change_one(&format!("taking the deletion permit of {user}"), TAKE, user)
            .await
    }

    /// Runs a statement about one user; `true` when it changed a row.
    async fn change_one(
        &self,
        doing: &str,
        statement: &'static str,
        user: &UserKey,
    ) -> Result<bool, Failure> {
        let mut transaction = self.write(doing).await?;
        let changed = sqlx::query(statement)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failure(doing, &error))?
            .rows_affected();
        self.commit(doing, transaction).await?;
        Ok(changed > 0)
    }

    fn state_columns(&self, state: &EnrolmentState) -> Result<(Option<i64>, Option<String>), Failure> {
        match state {
            EnrolmentState::Enabled => Ok((None, None)),
            EnrolmentState::Disabled { failure, since } => Ok((
                Some(since.as_microsecond()),
                Some(self.written("the reason", failure)?),
            )),
        }
    }

    fn enrolment_from(&self, tenant: &TenantId, row: Row) -> Result<Enrolment, Failure> {
        let (user, source_login, mailbox, time_zone, opted_in_at, since, failure) = row;
        let state = match (since, failure) {
            (Some(since), Some(failure)) => EnrolmentState::Disabled {
                failure: self.document(&format!("the reason of {tenant}/{user}"), &failure)?,
                since: self.time(since)?,
            },
            // The table allows both or neither.
            _ => EnrolmentState::Enabled,
        };
        Ok(Enrolment {
            key: UserKey::new(tenant.clone(), self.name(&user)?),
            source_login,
            mailbox: self.name(&mailbox)?,
            time_zone,
            opted_in_at: self.time(opted_in_at)?,
            state,
        })
    }
}
