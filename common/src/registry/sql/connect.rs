//! Opening the file, bringing its tables up to date, and checking that it can be written.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::SqliteRegistry;
use super::errors::unavailable;
use crate::error::Failure;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Readers of one process at once; more would only wait for the disk.
const READERS: u32 = 4;
/// How long writers of several processes wait for each other.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a free connection of its own process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

const PROBE: &str = "INSERT INTO write_probe (id) VALUES (1) ON CONFLICT (id) DO NOTHING";
const UNPROBE: &str = "DELETE FROM write_probe";

impl SqliteRegistry {
    /// Opens (and makes, if missing) the file named by `sqlite:PATH` and brings its tables up to date.
    /// `sqlite::memory:` is a registry that is gone when it is dropped.
    ///
    /// # Errors
    /// Says which file, and whether it cannot be opened, is damaged, or was made by a newer build.
    pub async fn open(url: &str) -> Result<Self, Failure> {
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
        let opening = |error: &sqlx::Error| super::errors::classify(&place, "opening it", error);
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
            readers,
            writer,
            place: place.into(),
        })
    }

    pub(super) async fn do_check_writable(&self) -> Result<(), Failure> {
        const DOING: &str = "checking that it can be written";
        let fail = |error: sqlx::Error| self.failure(DOING, &error);
        let mut transaction = self.write(DOING).await?;
        // Committed, not rolled back: what is rolled back never reaches the disk, so a full disk would go unseen.
        sqlx::query(PROBE)
            .execute(&mut *transaction)
            .await
            .map_err(fail)?;
        sqlx::query(UNPROBE)
            .execute(&mut *transaction)
            .await
            .map_err(fail)?;
        self.commit(DOING, transaction).await
    }
}

async fn migrate(writer: &sqlx::SqlitePool, place: &str) -> Result<(), Failure> {
    const DOING: &str = "bringing its tables up to date";
    let fail = |error: sqlx::Error| super::errors::classify(place, DOING, &error);
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
