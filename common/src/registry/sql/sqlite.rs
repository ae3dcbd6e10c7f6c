//! Opens the SQLite file and brings its tables up to date.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::errors::{Database, classify, compare_versions, unavailable};
use super::{Pools, SqlRegistry, Tables};
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
        Self::open_sqlite_with(url, Tables::BroughtUpToDate).await
    }

    /// Does the same as [`Self::open_sqlite`]. With [`Tables::AsTheyAre`] it creates and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open_sqlite`]; also if the file or its tables are missing or of another build.
    pub(in crate::registry) async fn open_sqlite_with(url: &str, tables: Tables) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| unavailable(format!("\"{url}\" does not name an SQLite file: {error}")))?;
        let in_memory = is_in_memory(url);
        let description = if in_memory {
            "registry in memory".to_owned()
        } else {
            format!("registry file {}", options.get_filename().display())
        };
        let used_before =
            !in_memory && std::fs::metadata(options.get_filename()).is_ok_and(|facts| facts.len() > 0);
        let options = options
            .create_if_missing(tables == Tables::BroughtUpToDate)
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
        if let Some(file) = sqlite_file(url).filter(|_| tables == Tables::BroughtUpToDate) {
            keep_private(&file);
        }
        let writer = pool()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| opening(&error))?;
        match tables {
            Tables::BroughtUpToDate => migrate(&writer, &description, used_before).await?,
            Tables::AsTheyAre => check_tables(&writer, &description).await?,
        }
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

/// Returns the URL of the registry in this file, `sqlite:PATH`. Signs that mean something else in a URL are encoded.
#[must_use]
pub fn sqlite_url(file: &Path) -> String {
    let mut url = "sqlite:".to_owned();
    for sign in file.to_string_lossy().chars() {
        match sign {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            _ => url.push(sign),
        }
    }
    url
}

/// Returns the file that `sqlite:PATH` names; `None` for a registry in memory, in another database, or a URL that names
/// no file.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    if !url.starts_with("sqlite:") || is_in_memory(url) {
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

/// Returns the versions of the migrations that made the tables; none if there are no tables.
async fn applied_versions(connection: &mut SqliteConnection) -> Result<Vec<i64>, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
        .fetch_all(connection)
        .await
}

/// Checks that the tables have the form of this build.
async fn check_tables(writer: &SqlitePool, description: &str) -> Result<(), Failure> {
    const DOING: &str = "reading the form of its tables";
    let fail = |error: sqlx::Error| classify(Database::Sqlite, description, DOING, &error);
    let mut connection = writer.acquire().await.map_err(fail)?;
    let applied = applied_versions(&mut connection).await.map_err(fail)?;
    compare_versions(description, &MIGRATIONS, &applied)
}

/// Migrates the tables. `used_before` tells whether the file had content before it was opened.
async fn migrate(writer: &SqlitePool, description: &str, used_before: bool) -> Result<(), Failure> {
    const DOING: &str = "bringing its tables up to date";
    let fail = |error: sqlx::Error| classify(Database::Sqlite, description, DOING, &error);
    // One transaction for all migrations: two processes that start on a new file take turns.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
    if used_before && applied_versions(&mut transaction).await.map_err(fail)?.is_empty() {
        tracing::warn!(
            place = description,
            "the registry file existed and has no tables: it may be a copy that was made without its -wal file. The service \
             starts with an empty registry; if people were opted in, stop it and restore a backup (tasksync restore FILE)"
        );
    }
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
