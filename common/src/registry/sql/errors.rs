//! The meaning of the databases' errors, together with the file or database where they happened.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Pools, SqlRegistry, postgres_errors};
use crate::error::{Code, ErrorClass, Failure};

/// Returns the failure of a registry that cannot be used now. It is never permanent, because nothing is wrong
/// with the user.
pub(super) fn unavailable(detail: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::Transient, Code::RegistryUnavailable, detail)
}

/// The database whose codes an error uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    Sqlite,
    Postgres,
}

/// Returns the failure for an error of the database. `place` names the file or database, and `doing` the
/// attempt.
///
/// Class `Conflict` is for [`super::retry_on_conflict`] alone: nothing was changed, and the same call may succeed now.
pub(super) fn classify(database: Database, description: &str, doing: &str, error: &sqlx::Error) -> Failure {
    let reason = match (error, database) {
        (sqlx::Error::PoolClosed, _) => "it was closed because the process is ending".to_owned(),
        (sqlx::Error::PoolTimedOut, Database::Sqlite) => {
            "all connections stayed busy; the disk is too slow or a call hangs".to_owned()
        }
        (sqlx::Error::PoolTimedOut, Database::Postgres) => {
            "no connection within registry.acquire_timeout; the server does not answer or has no connection left, or all \
             registry.connections of this process stayed busy"
                .to_owned()
        }
        (error, Database::Postgres) => postgres_errors::reason(error),
        (sqlx::Error::Database(database), Database::Sqlite) => {
            let code: Option<u32> = database.code().and_then(|code| code.parse().ok());
            format!(
                "{} ({}, SQLite code {})",
                primary_meaning(code),
                database.message(),
                code.map_or_else(|| "unknown".to_owned(), |code| code.to_string())
            )
        }
        (other, Database::Sqlite) => other.to_string(),
    };
    let mut failure = unavailable(format!("{description}, {doing}: {reason}"));
    if is_full(database, error) {
        failure = Failure::new(ErrorClass::Transient, Code::RegistryFull, failure.detail);
    }
    if database == Database::Postgres && postgres_errors::is_conflict(error) {
        failure.class = ErrorClass::Conflict;
    }
    failure
}

/// Returns whether the database has no room: `SQLITE_FULL`, or PostgreSQL's `disk_full`.
fn is_full(database: Database, error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match database {
        Database::Sqlite => {
            code.and_then(|code| code.parse::<u32>().ok())
                .map(|code| code & 0xff)
                == Some(13)
        }
        Database::Postgres => code.as_deref() == Some("53100"),
    }
}

/// Returns the meaning of SQLite's primary result codes (the low byte of the extended ones).
fn primary_meaning(code: Option<u32>) -> &'static str {
    match code.map(|code| code & 0xff) {
        Some(3 | 23) => "access is refused; check the permissions of the file and its folder",
        Some(5) => "another process locked it for too long",
        Some(6) => "one of its tables is locked",
        Some(8) => "it is read-only; check the permissions of the file, its folder and the file system",
        Some(10) => "the disk reports a read or write error",
        Some(11) => "the file is damaged; restore a backup",
        Some(13) => "the disk is full; free disk space",
        Some(14) => "the file cannot be opened; its folder must exist and be writable",
        Some(19) => "a rule of the tables was broken",
        Some(26) => "the file is not an SQLite database",
        _ => "the database refused",
    }
}

/// Compares the applied migrations with those of this build. A backup reads the tables of this build and no
/// others: it could miss a column of a newer one, or look for one that an older one does not have.
pub(super) fn compare_versions(
    description: &str,
    known: &sqlx::migrate::Migrator,
    applied: &[i64],
) -> Result<(), Failure> {
    let newest = |versions: &mut dyn Iterator<Item = i64>| versions.max().unwrap_or(0);
    let known: std::collections::BTreeSet<i64> = known.iter().map(|migration| migration.version).collect();
    let applied: std::collections::BTreeSet<i64> = applied.iter().copied().collect();
    if applied == known {
        return Ok(());
    }
    let reason = if applied.is_empty() {
        "it has no tables of tasksync; registry.url names another database, or a file that was copied without its -wal file"
            .to_owned()
    } else if applied.is_superset(&known) {
        format!(
            "its tables have version {}, and this build knows {}; use the build that runs on it",
            newest(&mut applied.into_iter()),
            newest(&mut known.into_iter())
        )
    } else {
        format!(
            "its tables have version {}, and this build needs {}; use the build that ran on it, or start this build on it once",
            newest(&mut applied.into_iter()),
            newest(&mut known.into_iter())
        )
    };
    Err(unavailable(format!("{description}: {reason}")))
}

impl SqlRegistry {
    pub(super) fn failure(&self, doing: &str, error: &sqlx::Error) -> Failure {
        let database = match self.pools {
            Pools::Sqlite { .. } => Database::Sqlite,
            Pools::Postgres { .. } => Database::Postgres,
        };
        classify(database, &self.database, doing, error)
    }

    /// Does the same as [`Self::failure`], but treats a violated uniqueness as a race that another call won:
    /// when this call runs again, it finds what the other one stored.
    pub(super) fn failure_or_lost_race(&self, doing: &str, error: &sqlx::Error) -> Failure {
        let mut failure = self.failure(doing, error);
        if error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
        {
            failure.class = ErrorClass::Conflict;
        }
        failure
    }

    /// Returns the failure of a call that raced with others which added and removed the same row. When the
    /// call runs again, the row is there or not.
    pub(super) fn lost_race_failure(&self, doing: &str) -> Failure {
        Failure {
            class: ErrorClass::Conflict,
            ..unavailable(format!(
                "{}, {doing}: others changed the same thing at the same time",
                self.database
            ))
        }
    }

    /// Returns the failure for a stored value that no build could have written.
    pub(super) fn damaged_failure(&self, what: &str, error: impl std::fmt::Display) -> Failure {
        unavailable(format!("{}: {what} cannot be read: {error}", self.database))
    }

    /// Returns a stored name, or other text with rules, as its type.
    pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        text: &str,
    ) -> Result<T, Failure> {
        text.parse()
            .map_err(|error| self.damaged_failure(&format!("the name \"{text}\""), error))
    }

    /// Returns a stored document as its type.
    pub(super) fn document<T: DeserializeOwned>(&self, what: &str, text: &str) -> Result<T, Failure> {
        serde_json::from_str(text).map_err(|error| self.damaged_failure(what, error))
    }

    /// Returns a value as the document to store.
    pub(super) fn to_document<T: Serialize>(&self, what: &str, value: &T) -> Result<String, Failure> {
        serde_json::to_string(value)
            .map_err(|error| unavailable(format!("{}: {what} cannot be written: {error}", self.database)))
    }

    /// Returns stored microseconds as a time.
    pub(super) fn time(&self, microseconds: i64) -> Result<Timestamp, Failure> {
        Timestamp::from_microsecond(microseconds)
            .map_err(|error| self.damaged_failure(&format!("the time {microseconds}"), error))
    }

    /// Returns a stored count or version.
    pub(super) fn number(&self, stored: i64) -> Result<u64, Failure> {
        u64::try_from(stored).map_err(|error| self.damaged_failure(&format!("the number {stored}"), error))
    }
}

/// Returns whether a row was refused because a row that it refers to does not exist.
pub(super) fn is_missing_reference(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_mean_what_their_low_byte_means() {
        assert!(primary_meaning(Some(13)).contains("disk is full"));
        assert!(primary_meaning(Some(0x0408)).contains("read-only"));
        assert!(primary_meaning(Some(0x0205)).contains("locked"));
        assert!(primary_meaning(Some(0x010b)).contains("damaged"));
        assert_eq!(primary_meaning(None), "the database refused");
    }
}
