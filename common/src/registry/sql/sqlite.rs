//! Opens the SQLite file and brings its tables up to date.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::errors::{Database, classify, unavailable};
use super::{Pools, SqlRegistry};
use crate::error::Failure;
use crate::permissions::{Audience, make_private_file, open_to_others};

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
        let in_memory = is_in_memory(url);
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
        if let Some(file) = sqlite_file(url) {
            keep_private(&file);
        }
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

fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

/// Returns the file that `sqlite:PATH` names; `None` for a registry in memory or a URL that names none.
pub(super) fn sqlite_file(url: &str) -> Option<PathBuf> {
    if is_in_memory(url) {
        return None;
    }
    let options = SqliteConnectOptions::from_str(url).ok()?;
    let file = options.get_filename();
    (!file.as_os_str().is_empty()).then(|| file.to_path_buf())
}

/// Returns why the URL names no file, as the rest of a sentence.
pub(in crate::registry) fn sqlite_url_refusal(url: &str) -> Option<String> {
    (!is_in_memory(url) && sqlite_file(url).is_none()).then(|| "does not name a file".to_owned())
}

/// Returns why the folder of the URL's file cannot be used, as the rest of a sentence.
pub(in crate::registry) fn sqlite_folder_refusal(url: &str) -> Option<String> {
    let file = sqlite_file(url)?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("cannot be used: {} is not a folder", folder.display())),
        Err(error) => Some(format!(
            "cannot be used: the folder {} is not there ({error}); create it, owned by the user of tasksync",
            folder.display()
        )),
    }
}

/// Makes a missing file for its owner alone. SQLite gives the files beside it the same permissions. Reports those of an
/// earlier build, which made files that all users of the machine could read.
fn keep_private(file: &Path) {
    // If it cannot be made, opening it says why.
    make_private_file(file).ok();
    for ending in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        if let Some(warning) = open_to_others(Path::new(&name), Audience::Owner) {
            tracing::warn!("the registry holds people's tasks, and {warning}");
        }
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
