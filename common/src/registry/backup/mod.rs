//! The form of a backup file: the whole registry as JSON lines. Pure; `registry::sql` reads and fills the
//! tables.
//!
//! The first line is the header: format, build, installation, time, and how many records of each kind follow.
//! Each further line is one record, an object with one member that names its kind. The last line has the
//! number of lines before it and their SHA-256 digest, so a file that was cut off or changed is refused.
//!
//! Rules for later builds:
//!
//! - A build reads its own format and all earlier ones, and refuses a later one.
//! - A record of an unknown kind is refused, unless the header lists the kind as skippable. Skipped records
//!   are counted and reported.
//! - An unknown member of a known record is refused. So a new member is left out of the line while it has its
//!   default, and a member that a reader must not overlook raises the format.
//!
//! Secrets are references (`env:NAME`, `file:/path`) here as in the registry.

mod error;
mod read;
mod record;
mod write;

pub use error::BackupError;
pub use read::BackupReader;
pub use record::{
    AlertRecord, BACKUP_FORMAT, BackupHeader, BackupRecord, DisabledRecord, JournalRecord,
    LocationAlertRecord, PersonRecord, RecordCounts, StampRecord, StateContent, StateRecord,
};
pub use write::{BackupSummary, BackupWriter};

#[cfg(test)]
mod tests;
