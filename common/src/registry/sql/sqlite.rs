//! Opens the SQLite file and brings its tables up to date.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::errors::{Database, classify, unavailable};
use super::{Pools, SqlRegistry};
use crate::error::Failure;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Number of simultaneous readers of one process; more would only wait for the disk.
const READERS: u32 = 4;
/// How long writers of different processes wait for each other.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a free connection of its process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

impl SqlRegistry {
    /// Opens the file named by `sqlite:PATH`, creates it if it is missing, and brings its tables up to date.
    /// `sqlite::memory:` is a registry that lives until it is dropped.
    ///
    /// # Errors
    /// Names the file, and whether it cannot be opened, is damaged, or belongs to a newer build.
    pub async fn open_sqlite(url: &str) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| unavailable(format!("\"{url}\" does not name an SQLite file: {error}")))?;
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let description = if in_memory {
            "registry in memory".to_owned()
        } else {
            format!("registry file {}", options.get_filename().display())
        };
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // A registry in memory lives as long as its connection, and connections to a file need no
                // renewal.
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let opening = |error: &sqlx::Error| classify(Database::Sqlite, &description, "opening it", error);
        let writer = pool()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| opening(&error))?;
        migrate(&writer, &description).await?;
        let readers = if in_memory {
            writer.clone()
        } else {
            // `query_only` instead of a read-only file handle, because a reader must be able to recover the
            // log of a killed process.
            pool()
                .max_connections(READERS)
                .connect_with(options.pragma("query_only", "ON"))
                .await
                .map_err(|error| opening(&error))?
        };
        Ok(Self {
            pools: Pools::Sqlite { readers, writer },
            database: description.into(),
        })
    }
}

async fn migrate(writer: &SqlitePool, description: &str) -> Result<(), Failure> {
    const DOING: &str = "bringing its tables up to date";
    let fail = |error: sqlx::Error| classify(Database::Sqlite, description, DOING, &error);
    // One transaction for all migrations: two processes that start on a new file take turns.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| {
            if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
                fail(error)
            } else if let MigrateError::VersionMissing(version) = error {
                unavailable(format!(
                    "{description}: its tables have version {version}, which this build does not know; a newer build created it. \
                     Use that build, or restore a backup"
                ))
            } else {
                unavailable(format!("{description}, {DOING}: {error}"))
            }
        })?;
    transaction.commit().await.map_err(fail)
}

/// Begins a transaction that writes.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    // A transaction that reads first and then writes may be refused without waiting; this one waits at its
    // start.
    let begun = writer.begin_with("BEGIN IMMEDIATE").await;
    if !matches!(begun, Err(sqlx::Error::InvalidSavePointStatement)) {
        return begun;
    }
    // SQLite itself ends a transaction when the disk is full or fails, and the connection does not notice: it
    // stays inside the transaction for ever. Only a new connection can write again. (A registry in memory has
    // no disk that could fail, and would be lost with its connection.)
    if let Ok(connection) = writer.acquire().await {
        connection.close().await.ok();
    }
    writer.begin_with("BEGIN IMMEDIATE").await
}
