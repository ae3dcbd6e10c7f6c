//! Opening the SQLite file and bringing its tables up to date.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::errors::{Database, classify, unavailable};
use super::{Pools, SqlRegistry};
use crate::error::Failure;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers of one process at once; more would only wait for the disk.
const READERS: u32 = 4;
/// How long writers of several processes wait for each other.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a free connection of its own process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

impl SqlRegistry {
    /// Opens (and makes, if missing) the file named by `sqlite:PATH` and brings its tables up to date.
    /// `sqlite::memory:` is a registry that is gone when it is dropped.
    ///
    /// # Errors
    /// Says which file, and whether it cannot be opened, is damaged, or was made by a newer build.
    pub async fn open_sqlite(url: &str) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| unavailable(format!("\"{url}\" does not name an SQLite file: {error}")))?;
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let place = if in_memory {
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
                // A memory registry lives as long as its connection; a file's connections need no renewal either.
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let opening = |error: &sqlx::Error| classify(Database::Sqlite, &place, "opening it", error);
        let writer = pool()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| opening(&error))?;
        migrate(&writer, &place).await?;
        let readers = if in_memory {
            writer.clone()
        } else {
            // `query_only` rather than a read-only file handle: a reader must still be able to recover the log of a
            // process that was killed.
            pool()
                .max_connections(READERS)
                .connect_with(options.pragma("query_only", "ON"))
                .await
                .map_err(|error| opening(&error))?
        };
        Ok(Self {
            pools: Pools::Sqlite { readers, writer },
            place: place.into(),
        })
    }
}

async fn migrate(writer: &SqlitePool, place: &str) -> Result<(), Failure> {
    const DOING: &str = "bringing its tables up to date";
    let fail = |error: sqlx::Error| classify(Database::Sqlite, place, DOING, &error);
    // One transaction around all of it: two processes that start on a new file take turns.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
            MigrateError::VersionMissing(version) => unavailable(format!(
                "{place}: its tables have version {version}, which this build does not know; it was made by a newer build. \
                 Use that build, or restore a backup"
            )),
            other => unavailable(format!("{place}, {DOING}: {other}")),
        })?;
    transaction.commit().await.map_err(fail)
}

/// A transaction that writes.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    // A transaction that starts reading and then writes may be refused without waiting; this one waits at its start.
    let begun = writer.begin_with("BEGIN IMMEDIATE").await;
    if !matches!(begun, Err(sqlx::Error::InvalidSavePointStatement)) {
        return begun;
    }
    // SQLite ends a transaction by itself when the disk is full or fails, which the connection does not notice: it believes
    // for ever to be inside. Only a new connection writes again. (A registry in memory has no disk that could fail, and is
    // gone with its connection.)
    if let Ok(connection) = writer.acquire().await {
        connection.close().await.ok();
    }
    writer.begin_with("BEGIN IMMEDIATE").await
}
