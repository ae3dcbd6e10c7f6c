//! The registry in an SQL database: one SQLite file, or PostgreSQL. Statements are constants at the top of
//! each topic's file, in the dialect that both share; `connection` knows both databases.

mod alerts;
mod backup;
mod connection;
mod connection_cache;
mod enrolments;
mod errors;
mod installation;
mod journal;
mod marks;
mod occupancy;
mod permits;
mod postgres;
mod postgres_connection;
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

use sqlx::SqlitePool;

pub use self::backup::{FilledFrom, RegistryContents, RegistryFilling, RegistrySnapshot};
pub use self::occupancy::{Occupancy, RegistrySharing, occupy};
pub(super) use self::postgres::{postgres_file_refusal, postgres_url_refusal};
pub use self::sqlite::{sqlite_file, sqlite_url};
pub(super) use self::sqlite::{sqlite_folder_refusal, sqlite_url_refusal};

use self::connection::{Readable, Sql, SqlConnection};
use self::connection_cache::ConnectionCache;
use self::postgres_connection::PostgresConnection;
use crate::error::{ErrorClass, Failure};
use crate::model::{TenantId, UserId, UserKey};

/// Largest number of users in one statement; longer lists need several.
const USERS_PER_STATEMENT: usize = 500;
/// Largest number of rows written by one statement; longer lists are written by several, in one transaction.
const ROWS_PER_STATEMENT: usize = 1_000;
/// Largest number of attempts for a call that fails only because others changed the same rows at the same
/// time.
const ATTEMPTS: u32 = 3;

/// The registry in one SQLite file, for one machine, or in a PostgreSQL database, for many.
///
/// *SQLite*: several processes may open the same file. Writers take turns (one connection per process,
/// `BEGIN IMMEDIATE`, waiting up to five seconds for each other); readers never wait for writers. Every
/// commit is on disk before its method returns (`synchronous = FULL`). Otherwise a sync state could come back
/// older than the writes it records, and the next sync would take tasksync's own writes for edits of people.
///
/// *PostgreSQL*: isolation is `READ COMMITTED`, and every statement that decides also locks the rows on which
/// it decides. For the same reason as above, a standby that is promoted must have all commits
/// (`synchronous_commit` on, the default).
#[derive(Debug, Clone)]
pub struct SqlRegistry {
    pools: Pools,
    /// The file or database as text for errors, without a password.
    database: Arc<str>,
}

#[derive(Debug, Clone)]
enum Pools {
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres {
        cache: ConnectionCache,
        /// Time limit of one statement, including the round trip.
        limit: Duration,
    },
}

/// What is done about the tables when a registry is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tables {
    /// They are created, or changed to the form of this build.
    BroughtUpToDate,
    /// They must have the form of this build already.
    AsTheyAre,
}

impl SqlRegistry {
    /// Returns what `statement` selects about these users of a tenant, whatever their number.
    async fn select_users<T: Readable>(
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

    /// Returns a page of what `statement` selects about a tenant's users, in order of name.
    async fn page_of_users<T: Readable>(
        &self,
        doing: &str,
        statement: &'static str,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<T>, Failure> {
        self.read(doing)
            .await?
            .query(statement)
            .bind(tenant.as_str())
            .bind(after.map_or("", UserId::as_str))
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(doing, &error))
    }

    /// Returns the row that a statement reads of one user.
    async fn row_of_user<T: Readable>(
        &self,
        doing: &str,
        statement: &'static str,
        user: &UserKey,
    ) -> Result<Option<T>, Failure> {
        self.read(doing)
            .await?
            .query(statement)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .fetch_optional()
            .await
            .map_err(|error| self.failure(doing, &error))
    }

    /// Returns a connection for reading.
    async fn read(&self, doing: &str) -> Result<SqlConnection, Failure> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => readers.acquire().await.map(SqlConnection::SqliteReader),
            Pools::Postgres { cache, limit } => PostgresConnection::acquire(cache, *limit)
                .await
                .map(SqlConnection::Postgres),
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Returns a connection for one writing statement, which [`Self::commit`] ends. PostgreSQL needs no
    /// transaction around it, which saves two round trips.
    async fn single(&self, doing: &str) -> Result<SqlConnection, Failure> {
        match &self.pools {
            Pools::Sqlite { .. } => self.transaction(doing).await,
            Pools::Postgres { .. } => self.read(doing).await,
        }
    }

    /// Returns a transaction for several statements. If it is dropped without [`Self::commit`], it changes
    /// nothing.
    async fn transaction(&self, doing: &str) -> Result<SqlConnection, Failure> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => sqlite::begin(writer).await.map(SqlConnection::SqliteTransaction),
            Pools::Postgres { cache, limit } => match PostgresConnection::acquire(cache, *limit).await {
                Ok(mut connection) => connection
                    .begin()
                    .await
                    .map(|()| SqlConnection::Postgres(connection)),
                Err(error) => Err(error),
            },
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Returns a transaction that sees the registry as it is now, whatever others change meanwhile. `limit` is
    /// for each statement. It may stay open between two statements for any time.
    async fn reading_transaction(&self, doing: &str, limit: Duration) -> Result<SqlConnection, Failure> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => readers.begin().await.map(SqlConnection::SqliteTransaction),
            Pools::Postgres { cache, .. } => match PostgresConnection::acquire(cache, limit).await {
                Ok(mut connection) => connection
                    .begin_snapshot()
                    .await
                    .map(|()| SqlConnection::Postgres(connection)),
                Err(error) => Err(error),
            },
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Returns a writing transaction that may stay open between two statements for any time. `limit` is for
    /// each statement.
    async fn long_transaction(&self, doing: &str, limit: Duration) -> Result<SqlConnection, Failure> {
        match &self.pools {
            Pools::Sqlite { .. } => return self.transaction(doing).await,
            Pools::Postgres { cache, .. } => match PostgresConnection::acquire(cache, limit).await {
                Ok(mut connection) => connection
                    .begin_long()
                    .await
                    .map(|()| SqlConnection::Postgres(connection)),
                Err(error) => Err(error),
            },
        }
        .map_err(|error| self.failure(doing, &error))
    }

    async fn commit(&self, doing: &str, connection: SqlConnection) -> Result<(), Failure> {
        match connection {
            SqlConnection::SqliteReader(_) => Ok(()),
            SqlConnection::SqliteTransaction(transaction) => transaction.commit().await,
            SqlConnection::Postgres(connection) => connection.commit().await,
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Rolls a transaction back. Dropping it has the same effect, but costs PostgreSQL the connection.
    async fn rollback(&self, doing: &str, connection: SqlConnection) -> Result<(), Failure> {
        match connection {
            SqlConnection::SqliteReader(_) => Ok(()),
            SqlConnection::SqliteTransaction(transaction) => transaction.rollback().await,
            SqlConnection::Postgres(connection) => connection.rollback().await,
        }
        .map_err(|error| self.failure(doing, &error))
    }

    /// Closes the connections; later calls fail.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres { cache, .. } => cache.close().await,
        }
    }
}

/// Runs a call that changes everything or nothing. Runs it again if it collided with others on the same rows
/// ([`ErrorClass::Conflict`]).
async fn retry_on_conflict<T, F>(mut call: impl FnMut() -> F + Send) -> Result<T, Failure>
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

/// Returns a limit as a parameter of SQL.
fn sql_limit(limit: u32) -> i64 {
    i64::from(limit)
}
