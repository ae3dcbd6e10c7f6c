//! Enrolments.

use std::collections::BTreeSet;

use super::connection::{Sql, SqlConnection, about_users};
use super::errors::is_missing_reference;
use super::{SqlRegistry, sql_limit};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{MailboxAddress, TenantId, UserId, UserKey};
use crate::registry::sql::retry_on_conflict;
use crate::registry::{Enrolment, EnrolmentCounts, EnrolmentResult, EnrolmentState, EnrolmentStore};
use crate::schedule::digest_of;
use async_trait::async_trait;

/// Locks the tenant, so that two enrolments with one sign-in name see each other. On SQLite writers take turns anyway.
const LOCK_TENANT: Sql = Sql {
    sqlite: "SELECT id FROM tenants WHERE id = $1",
    postgres: "SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
};
/// The users who have the mailbox, or the sign-in name in this tenant. The names are compared by the expression of the
/// index `enrolments_login`.
pub(super) const OWNERS: Sql = Sql {
    sqlite: "SELECT 'mailbox', tenant, user_id FROM enrolments WHERE mailbox = $1 \
        UNION ALL SELECT 'login', tenant, user_id FROM enrolments WHERE tenant = $2 AND \
            trim(replace(lower(source_login), rtrim(lower(source_login), replace(lower(source_login), '|', '')), '')) = \
            trim(replace(lower($3), rtrim(lower($3), replace(lower($3), '|', '')), ''))",
    postgres: "SELECT 'mailbox', tenant, user_id FROM enrolments WHERE mailbox = $1 \
        UNION ALL SELECT 'login', tenant, user_id FROM enrolments WHERE tenant = $2 AND \
            trim(lower(regexp_replace(source_login COLLATE \"C\", '^.*\\|', ''))) = \
            trim(lower(regexp_replace(CAST($3 AS TEXT) COLLATE \"C\", '^.*\\|', '')))",
};
const MAILBOX: &str = "SELECT mailbox FROM enrolments WHERE tenant = $1 AND user_id = $2";
const ADD: &str = "INSERT INTO enrolments \
    (tenant, user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure, name_digest) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// The update also locks the row until the end of the transaction, so that the mailbox that is read next does
/// not change.
const UPDATE: &str =
    "UPDATE enrolments SET source_login = $3, time_zone = $4 WHERE tenant = $1 AND user_id = $2";
const MOVE: &str = "UPDATE enrolments SET mailbox = $3 WHERE tenant = $1 AND user_id = $2";
const WITHDRAW: &str = "DELETE FROM enrolments WHERE tenant = $1 AND user_id = $2";
const THESE: Sql = about_users!(
    "SELECT user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure FROM enrolments \
    WHERE tenant = $1 AND user_id",
    " ORDER BY user_id"
);
const PAGE: &str = "SELECT user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure FROM enrolments \
    WHERE tenant = $1 AND user_id > $2 ORDER BY user_id LIMIT $3";
const SET_STATE: &str =
    "UPDATE enrolments SET disabled_since = $3, failure = $4 WHERE tenant = $1 AND user_id = $2";
const COUNT: &str = "SELECT COUNT(*), COUNT(disabled_since) FROM enrolments WHERE tenant = $1";
const COUNT_ALL: &str = "SELECT COUNT(*), COUNT(disabled_since) FROM enrolments";

const UNDIGESTED: &str = "SELECT user_id FROM enrolments WHERE tenant = $1 AND name_digest IS NULL LIMIT $2";
const DIGEST: &str = "UPDATE enrolments SET name_digest = $3 WHERE tenant = $1 AND user_id = $2";

/// Returns a user's contribution to the digest of the tenant's names, as its column holds it.
pub(super) fn digest_column(user: &UserId) -> i64 {
    i64::try_from(digest_of(user)).unwrap_or(0)
}

pub(super) type EnrolmentRow = (
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<String>,
);

#[async_trait]
impl EnrolmentStore for SqlRegistry {
    async fn enrol(&self, enrolment: &Enrolment) -> Result<EnrolmentResult, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("enrolling {}", enrolment.key);
            let mut transaction = self.transaction(&doing).await?;
            self.lock_tenant(&mut transaction, &doing, &enrolment.key.tenant)
                .await?;
            let answer = self.enrol_within(&mut transaction, &doing, enrolment).await?;
            match answer {
                EnrolmentResult::MailboxTaken(_) | EnrolmentResult::LoginTaken(_) => {
                    self.rollback(&doing, transaction).await?;
                }
                EnrolmentResult::Added | EnrolmentResult::Updated => {
                    self.commit(&doing, transaction).await?;
                }
            }
            Ok(answer)
        })
        .await
    }

    async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<EnrolmentResult>, Failure> {
        retry_on_conflict(|| async {
            let mut answers = Vec::with_capacity(enrolments.len());
            if enrolments.is_empty() {
                return Ok(answers);
            }
            let doing = format!("enrolling {} users", enrolments.len());
            let mut transaction = self.transaction(&doing).await?;
            // In order of name, so that two calls never wait for each other.
            let tenants: BTreeSet<_> = enrolments.iter().map(|enrolment| &enrolment.key.tenant).collect();
            for tenant in tenants {
                self.lock_tenant(&mut transaction, &doing, tenant).await?;
            }
            for enrolment in enrolments {
                answers.push(self.enrol_within(&mut transaction, &doing, enrolment).await?);
            }
            self.commit(&doing, transaction).await?;
            Ok(answers)
        })
        .await
    }

    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            self.change_one(&format!("withdrawing {user}"), WITHDRAW, user)
                .await
        })
        .await
    }

    async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure> {
        let one = std::slice::from_ref(&user.user);
        Ok(self.enrolments_of(&user.tenant, one).await?.pop())
    }

    async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        const DOING: &str = "counting enrolments";
        let mut connection = self.read(DOING).await?;
        let query = match tenant {
            Some(tenant) => connection.query(COUNT).bind(tenant.as_str()),
            None => connection.query(COUNT_ALL),
        };
        let (all, disabled): (i64, i64) = query
            .fetch_one()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        Ok(EnrolmentCounts {
            enabled: u64::try_from(all - disabled).unwrap_or(0),
            disabled: u64::try_from(disabled).unwrap_or(0),
        })
    }

    async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        let doing = format!("reading enrolments of {tenant}");
        let rows: Vec<EnrolmentRow> = self.select_users(&doing, THESE, tenant, users).await?;
        rows.into_iter()
            .map(|row| self.enrolment_from(tenant, row))
            .collect()
    }

    async fn enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        let doing = format!("listing enrolments of {tenant}");
        let rows: Vec<EnrolmentRow> = self.page_of_users(&doing, PAGE, tenant, after, limit).await?;
        rows.into_iter()
            .map(|row| self.enrolment_from(tenant, row))
            .collect()
    }

    async fn digest_names(&self, tenant: &TenantId, limit: u32) -> Result<u64, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("digesting names of {tenant}");
            let mut transaction = self.transaction(&doing).await?;
            let users: Vec<(String,)> = transaction
                .query(UNDIGESTED)
                .bind(tenant.as_str())
                .bind(sql_limit(limit))
                .fetch_all()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            for (user,) in &users {
                transaction
                    .query(DIGEST)
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .bind(digest_column(&self.name(user)?))
                    .execute()
                    .await
                    .map_err(|error| self.failure_or_lost_race(&doing, &error))?;
            }
            self.commit(&doing, transaction).await?;
            Ok(u64::try_from(users.len()).unwrap_or(u64::MAX))
        })
        .await
    }

    async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("changing the state of {user}");
            let (since, failure) = self.state_columns(state)?;
            let mut transaction = self.single(&doing).await?;
            let changed = transaction
                .query(SET_STATE)
                .bind(user.tenant.as_str())
                .bind(user.user.as_str())
                .bind(since)
                .bind(failure)
                .execute()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            self.commit(&doing, transaction).await?;
            Ok(changed > 0)
        })
        .await
    }
}

impl SqlRegistry {
    /// Makes other enrolments of the tenant wait until the end of the transaction. An unknown tenant is no error here.
    async fn lock_tenant(
        &self,
        transaction: &mut SqlConnection,
        doing: &str,
        tenant: &TenantId,
    ) -> Result<(), Failure> {
        let _locked: Option<(String,)> = transaction
            .query(LOCK_TENANT)
            .bind(tenant.as_str())
            .fetch_optional()
            .await
            .map_err(|error| self.failure_or_lost_race(doing, &error))?;
        Ok(())
    }

    /// Enrols a user inside a transaction. A refused enrolment changes nothing.
    async fn enrol_within(
        &self,
        transaction: &mut SqlConnection,
        doing: &str,
        enrolment: &Enrolment,
    ) -> Result<EnrolmentResult, Failure> {
        let key = &enrolment.key;
        let fail = |error: sqlx::Error| self.failure_or_lost_race(doing, &error);
        let owners: Vec<(String, String, String)> = transaction
            .query(OWNERS)
            .bind(enrolment.mailbox.as_str())
            .bind(key.tenant.as_str())
            .bind(enrolment.source_login.as_str())
            .fetch_all()
            .await
            .map_err(fail)?;
        let mut login_owner = None;
        for (of, tenant, user) in owners {
            let owner = UserKey::new(self.name(&tenant)?, self.name(&user)?);
            if owner == *key {
                continue;
            }
            if of == "mailbox" {
                return Ok(EnrolmentResult::MailboxTaken(owner));
            }
            login_owner = Some(owner);
        }
        if let Some(owner) = login_owner {
            return Ok(EnrolmentResult::LoginTaken(owner));
        }
        let updated_rows = transaction
            .query(UPDATE)
            .bind(key.tenant.as_str())
            .bind(key.user.as_str())
            .bind(&enrolment.source_login)
            .bind(&enrolment.time_zone)
            .execute()
            .await
            .map_err(fail)?;
        if updated_rows > 0 {
            self.move_to(transaction, key, &enrolment.mailbox)
                .await
                .map_err(fail)?;
            return Ok(EnrolmentResult::Updated);
        }
        self.add(transaction, doing, enrolment).await?;
        Ok(EnrolmentResult::Added)
    }

    /// Gives an enrolled user another mailbox, unless it is the present one.
    async fn move_to(
        &self,
        transaction: &mut SqlConnection,
        key: &UserKey,
        mailbox: &MailboxAddress,
    ) -> Result<(), sqlx::Error> {
        let (before,): (String,) = transaction
            .query(MAILBOX)
            .bind(key.tenant.as_str())
            .bind(key.user.as_str())
            .fetch_one()
            .await?;
        if before == mailbox.as_str() {
            return Ok(());
        }
        transaction
            .query(MOVE)
            .bind(key.tenant.as_str())
            .bind(key.user.as_str())
            .bind(mailbox.as_str())
            .execute()
            .await?;
        // Cursors and links belong to the old mailbox; compared with the new one they would look like
        // deletions.
        super::states::forget(transaction, key).await?;
        Ok(())
    }

    async fn add(
        &self,
        transaction: &mut SqlConnection,
        doing: &str,
        enrolment: &Enrolment,
    ) -> Result<(), Failure> {
        let key = &enrolment.key;
        let (since, failure) = self.state_columns(&enrolment.state)?;
        transaction
            .query(ADD)
            .bind(key.tenant.as_str())
            .bind(key.user.as_str())
            .bind(&enrolment.source_login)
            .bind(enrolment.mailbox.as_str())
            .bind(&enrolment.time_zone)
            .bind(enrolment.opted_in_at.as_microsecond())
            .bind(since)
            .bind(failure)
            .bind(digest_column(&key.user))
            .execute()
            .await
            .map_err(|error| {
                if is_missing_reference(&error) {
                    Failure::new(
                        ErrorClass::Gone,
                        Code::TenantUnknown,
                        format!("{key} cannot be enrolled: there is no tenant {}", key.tenant),
                    )
                } else {
                    self.failure_or_lost_race(doing, &error)
                }
            })?;
        Ok(())
    }

    /// Runs a statement about one user and returns whether it changed a row.
    pub(super) async fn change_one(
        &self,
        doing: &str,
        statement: &'static str,
        user: &UserKey,
    ) -> Result<bool, Failure> {
        let mut transaction = self.single(doing).await?;
        let changed = transaction
            .query(statement)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .execute()
            .await
            .map_err(|error| self.failure(doing, &error))?;
        self.commit(doing, transaction).await?;
        Ok(changed > 0)
    }

    fn state_columns(&self, state: &EnrolmentState) -> Result<(Option<i64>, Option<String>), Failure> {
        match state {
            EnrolmentState::Enabled => Ok((None, None)),
            EnrolmentState::Disabled { failure, since } => Ok((
                Some(since.as_microsecond()),
                Some(self.to_document("the reason", failure)?),
            )),
        }
    }

    pub(super) fn enrolment_from(&self, tenant: &TenantId, row: EnrolmentRow) -> Result<Enrolment, Failure> {
        let (user, source_login, mailbox, time_zone, opted_in_at, since, failure) = row;
        let state = match (since, failure) {
            (Some(since), Some(failure)) => EnrolmentState::Disabled {
                failure: self.document(&format!("the reason of {tenant}/{user}"), &failure)?,
                since: self.time(since)?,
            },
            // The table allows both columns or neither.
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
