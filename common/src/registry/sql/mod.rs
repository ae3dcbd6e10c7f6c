//! The registry in an SQL database: one SQLite file, or PostgreSQL. Statements stand as constants at the top of each
//! topic's file, in the dialect both share; `connection` is where the two meet.

mod alerts;
mod connection;
mod enrolments;
mod errors;
mod installation;
mod journal;
mod link;
mod links;
mod marks;
mod occupancy;
mod postgres;
mod postgres_errors;
mod probe;
mod sqlite;
mod stamps;
mod states;
mod tenants;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqlitePool;

pub use self::occupancy::{Company, Occupancy, occupy};

use self::connection::{Connection, Readable, Sql};
use self::link::Link;
use self::links::Links;
use super::{
    Alert, Enrolled, Enrolment, EnrolmentCounts, EnrolmentState, JournalEntry, Registry, Saved, StoredState,
    Tenant,
};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{InstallationId, TenantId, UserId, UserKey};
use crate::schedule::Mark;
use crate::schedule::SavedStamp;

/// Most users named in one statement; longer lists are asked for in several.
const USERS_PER_STATEMENT: usize = 500;
/// Most rows written by one statement; longer lists are written by several, in one transaction.
const ROWS_PER_STATEMENT: usize = 1_000;
/// A call that failed only because others changed the same rows at the same time is tried this often altogether.
const ATTEMPTS: u32 = 3;

/// The registry in one SQLite file, for one machine, or in a PostgreSQL database, for many.
///
/// *SQLite*: several processes may open the same file. Writers take turns (one connection per process, `BEGIN IMMEDIATE`,
/// waiting up to five seconds for each other); readers never wait for writers. Every commit is on the disk before its
/// method returns (`synchronous = FULL`): a sync state that comes back older than the writes it stands for would make the
/// next sync look at tasksync's own writes as if people had made them.
///
/// *PostgreSQL*: isolation is `READ COMMITTED`, and every statement that decides also locks what it decides about. A
/// standby that is promoted must have all commits (`synchronous_commit` on, which is the default), for the same reason.
#[derive(Debug, Clone)]
pub struct SqlRegistry {
    pools: Pools,
    /// The file or database in words, for errors; holds no password.
    place: Arc<str>,
}

#[derive(Debug, Clone)]
enum Pools {
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres {
        links: Links,
        /// How long one statement may take, the way there and back included.
        limit: Duration,
    },
}

impl SqlRegistry {
    /// What `statement` says about these users of a tenant, whatever their number.
    async fn about<T: Readable>(
        &self,
        doing: &str,
        statement: Sql,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<T>, Failure> {
        let mut found = Vec::with_capacity(users.len());
        let mut connection = self.read(doing).await?;
        for users in users.chunks(USERS_PER_STATEMENT) {
            let rows = connection
                .query(statement)
                .bind(tenant.as_str())
                .bind_users(users)
                .fetch_all()
                .await
                .map_err(|error| self.failure(doing, &error))?;
            found.extend::<Vec<T>>(rows);
        }
        Ok(found)
    }

    /// A connection that reads.
    async fn read(&self, doing: &str) -> Result<Connection, Failure> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => readers.acquire().await.map(Connection::SqliteReader),
            Pools::Postgres { links, limit } => Link::acquire(links, *limit).await.map(Connection::Postgres),
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// A connection for one writing statement, ended by [`Self::commit`]. PostgreSQL needs no transaction around it, which
    /// saves two round trips.
    async fn single(&self, doing: &str) -> Result<Connection, Failure> {
        match &self.pools {
            Pools::Sqlite { .. } => self.transaction(doing).await,
            Pools::Postgres { .. } => self.read(doing).await,
        }
    }

    /// A transaction for several statements; dropped without [`Self::commit`] it changes nothing.
    async fn transaction(&self, doing: &str) -> Result<Connection, Failure> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => sqlite::begin(writer).await.map(Connection::SqliteWriter),
            Pools::Postgres { links, limit } => match Link::acquire(links, *limit).await {
                Ok(mut link) => link.begin().await.map(|()| Connection::Postgres(link)),
                Err(error) => Err(error),
            },
        }
        .map_err(|error| self.failure(doing, &error))
    }

    async fn commit(&self, doing: &str, connection: Connection) -> Result<(), Failure> {
        match connection {
            Connection::SqliteReader(_) => Ok(()),
            Connection::SqliteWriter(transaction) => transaction.commit().await,
            Connection::Postgres(link) => link.commit().await,
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Takes a transaction back. Dropping it does so too, but costs PostgreSQL the connection.
    async fn rollback(&self, doing: &str, connection: Connection) -> Result<(), Failure> {
        match connection {
            Connection::SqliteReader(_) => Ok(()),
            Connection::SqliteWriter(transaction) => transaction.rollback().await,
            Connection::Postgres(link) => link.rollback().await,
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Closes the connections; calls that come later fail.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres { links, .. } => links.close().await,
        }
    }
}

/// Runs a call that changes things all or nothing, again when it met others at the same rows ([`ErrorClass::Conflict`]).
async fn again<T, F>(mut call: impl FnMut() -> F + Send) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send,
{
    let mut attempt = 1;
    loop {
        match call().await {
            Err(failure) if failure.class == ErrorClass::Conflict && attempt < ATTEMPTS => attempt += 1,
            Err(failure) if failure.class == ErrorClass::Conflict => {
                return Err(Failure {
                    class: ErrorClass::Transient,
                    ..failure
                });
            }
            answer => return answer,
        }
    }
}

/// A limit as SQL has it.
fn sql_limit(limit: u32) -> i64 {
    i64::from(limit)
}

#[async_trait]
impl Registry for SqlRegistry {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        self.do_installation().await
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        again(|| self.do_put_tenant(tenant)).await
    }
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.do_tenant(id).await
    }
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        self.do_tenants(after, limit).await
    }
    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        again(|| self.do_remove_tenant(id)).await
    }
    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        self.do_active_tenants(after, limit).await
    }

    async fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure> {
        again(|| self.do_enrol(enrolment)).await
    }
    async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<Enrolled>, Failure> {
        again(|| self.do_enrol_many(enrolments)).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        again(|| self.do_withdraw(user)).await
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
        again(|| self.do_set_enrolment_state(user, state)).await
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
    async fn enrolment_with_state(
        &self,
        user: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        self.do_enrolment_with_state(user).await
    }
    async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        self.do_sync_state(user).await
    }
    async fn save_sync_state(
        &self,
        of: &Enrolment,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<Saved, Failure> {
        again(|| self.do_save_sync_state(of, expected, fingerprint, blob)).await
    }
    async fn forget_sync_state(&self, user: &UserKey) -> Result<bool, Failure> {
        again(|| self.do_forget_sync_state(user)).await
    }

    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        again(|| self.do_save_stamps(tenant, stamps)).await
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
        again(|| self.do_journal(entries)).await
    }
    async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure> {
        self.do_journal_of(user, limit).await
    }
    async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        again(|| self.do_prune_journal(before, limit)).await
    }

    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        again(|| self.do_raise_alert(alert)).await
    }
    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        again(|| self.do_end_alert(tenant, user, code)).await
    }
    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        self.do_alerts(tenant, limit).await
    }

    async fn allow_deletions(&self, user: &UserKey) -> Result<bool, Failure> {
        again(|| self.do_allow_deletions(user)).await
    }
    async fn take_deletion_permit(&self, user: &UserKey) -> Result<bool, Failure> {
        again(|| self.do_take_deletion_permit(user)).await
    }

    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        self.do_mark().await
    }
    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        again(|| self.do_save_mark(mark)).await
    }

    async fn check_writable(&self) -> Result<(), Failure> {
        again(|| self.do_check_writable()).await
    }
}
