//! The registry in an SQL database. Statements stand as constants at the top of each topic's file, in the dialect that
//! SQLite and PostgreSQL share.

mod alerts;
mod connect;
mod enrolments;
mod errors;
mod journal;
mod marks;
mod stamps;
mod states;
mod tenants;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::{
    Alert, Enrolled, Enrolment, EnrolmentCounts, EnrolmentState, JournalEntry, Registry, Saved, SavedStamp,
    StoredState, Tenant,
};
use crate::error::{Code, Failure};
use crate::model::{TenantId, UserId, UserKey};
use crate::schedule::Mark;

/// Most users named in one statement; longer lists are asked for in several.
const USERS_PER_STATEMENT: usize = 500;

/// The registry in one SQLite file, for one machine.
///
/// Several processes may open the same file. Writers take turns (one connection per process, `BEGIN IMMEDIATE`, waiting
/// up to five seconds for each other); readers never wait for writers. Every commit is on the disk before its method
/// returns (`synchronous = FULL`): a sync state that comes back older than the writes it stands for would make the next
/// sync look at tasksync's own writes as if people had made them.
#[derive(Debug, Clone)]
pub struct SqliteRegistry {
    readers: SqlitePool,
    writer: SqlitePool,
    /// The file in words, for errors.
    place: std::sync::Arc<str>,
}

impl SqliteRegistry {
    /// A connection that reads.
    async fn read(&self, doing: &str) -> Result<PoolConnection<Sqlite>, Failure> {
        self.readers
            .acquire()
            .await
            .map_err(|error| self.failure(doing, &error))
    }

    /// A transaction that writes; dropped without [`Self::commit`] it changes nothing.
    async fn write(&self, doing: &str) -> Result<Transaction<'static, Sqlite>, Failure> {
        // A transaction that starts reading and then writes may be refused without waiting; this one waits at its start.
        let mut begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        if matches!(begun, Err(sqlx::Error::InvalidSavePointStatement)) {
            // SQLite ends a transaction by itself when the disk is full or fails, which the connection does not notice:
            // it believes for ever to be inside. Only a new connection writes again. (A registry in memory has no disk
            // that could fail, and is gone with its connection.)
            if let Ok(connection) = self.writer.acquire().await {
                connection.close().await.ok();
            }
            begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        }
        begun.map_err(|error| self.failure(doing, &error))
    }

    async fn commit(&self, doing: &str, transaction: Transaction<'static, Sqlite>) -> Result<(), Failure> {
        transaction
            .commit()
            .await
            .map_err(|error| self.failure(doing, &error))
    }

    /// Closes the connections; calls that come later fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// `IN` lists for users are written by hand because SQLite has no array parameters.
fn push_users(query: &mut sqlx::QueryBuilder<Sqlite>, users: &[UserId]) {
    query.push(" AND user_id IN (");
    let mut list = query.separated(", ");
    for user in users {
        list.push_bind(user.as_str().to_owned());
    }
    query.push(")");
}

/// A limit as SQL has it.
fn sql_limit(limit: u32) -> i64 {
    i64::from(limit)
}

#[async_trait]
impl Registry for SqliteRegistry {
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        self.do_put_tenant(tenant).await
    }
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.do_tenant(id).await
    }
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        self.do_tenants(after, limit).await
    }
    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        self.do_remove_tenant(id).await
    }
    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        self.do_active_tenants(after, limit).await
    }

    async fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure> {
        self.do_enrol(enrolment).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.do_withdraw(user).await
    }
    async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure> {
        Ok(self
            .do_enrolments_of(&user.tenant, std::slice::from_ref(&user.user))
            .await?
            .pop())
    }
    async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        self.do_enrolments_of(tenant, users).await
    }
    async fn enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        self.do_enrolments(tenant, after, limit).await
    }
    async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        self.do_enrolment_counts(tenant).await
    }
    async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure> {
        self.do_set_enrolment_state(user, state).await
    }

    async fn fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, StoredState)>, Failure> {
        self.do_fingerprints(tenant, users).await
    }
    async fn enrolments_with_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        self.do_enrolments_with_fingerprints(tenant, users).await
    }
    async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        self.do_sync_state(user).await
    }
    async fn save_sync_state(
        &self,
        user: &UserKey,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<Saved, Failure> {
        self.do_save_sync_state(user, expected, fingerprint, blob).await
    }
    async fn forget_sync_state(&self, user: &UserKey) -> Result<bool, Failure> {
        self.do_forget_sync_state(user).await
    }

    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        self.do_save_stamps(tenant, stamps).await
    }
    async fn stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        self.do_stamps(tenant, after, limit).await
    }

    async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        self.do_journal(entries).await
    }
    async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure> {
        self.do_journal_of(user, limit).await
    }
    async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        self.do_prune_journal(before, limit).await
    }

    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        self.do_raise_alert(alert).await
    }
    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        self.do_end_alert(tenant, user, code).await
    }
    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        self.do_alerts(tenant, limit).await
    }

    async fn allow_deletions(&self, user: &UserKey) -> Result<bool, Failure> {
        self.do_allow_deletions(user).await
    }
    async fn take_deletion_permit(&self, user: &UserKey) -> Result<bool, Failure> {
        self.do_take_deletion_permit(user).await
    }

    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        self.do_mark().await
    }
    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        self.do_save_mark(mark).await
    }

    async fn check_writable(&self) -> Result<(), Failure> {
        self.do_check_writable().await
    }
}
