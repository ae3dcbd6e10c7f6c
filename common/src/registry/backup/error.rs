//! Why a backup file cannot be written or read.

use super::record::BACKUP_FORMAT;

/// Why a backup file cannot be written or read. The text says what to do; the caller names the file.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refuses to write.
    #[error("it cannot be written: {0}")]
    Unwritable(std::io::Error),
    /// The operating system refuses to read.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// A record has no JSON form.
    #[error("a record of kind {kind} cannot be written: {error}")]
    Unwritten {
        /// The kind of the record.
        kind: &'static str,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The first line is not a header.
    #[error(
        "it does not begin with the header of a backup; name a file that `tasksync backup` or `tasksync export` wrote"
    )]
    NotABackup,
    /// The format is newer than this build.
    #[error(
        "it has format {format} of build {build}, and this build reads formats up to {BACKUP_FORMAT}; use build {build} or a newer one"
    )]
    LaterFormat {
        /// The format in the header.
        format: u64,
        /// The build that wrote it.
        build: String,
    },
    /// A line holds a kind that this build does not know and may not skip.
    #[error(
        "line {line} is a record of kind \"{kind}\", which this build does not know; use the build that wrote the file or a newer one"
    )]
    UnknownKind {
        /// The line, from 1.
        line: u64,
        /// The kind.
        kind: String,
    },
    /// A line cannot be read as what it claims to be.
    #[error("line {line} cannot be read: {reason}; the file was changed, or a newer build wrote it")]
    Wrong {
        /// The line, from 1.
        line: u64,
        /// What is wrong, with the column.
        reason: String,
    },
    /// A line is longer than any record.
    #[error("line {line} is longer than {limit} bytes; this is not a backup of tasksync, or it is damaged")]
    LongLine {
        /// The line, from 1.
        line: u64,
        /// The longest line that is read, in bytes.
        limit: usize,
    },
    /// The last line is missing.
    #[error("it ends within or after line {lines}, before its last line: it was cut off. Use another backup")]
    CutOff {
        /// Number of complete lines.
        lines: u64,
    },
    /// The lines are not those that were written.
    #[error("its digest does not match its lines: it was changed or damaged. Use another backup")]
    Altered,
    /// A kind has more or fewer records than the header says.
    #[error(
        "its header names {announced} records of kind \"{kind}\", and it has {present}. Use another backup"
    )]
    Miscounted {
        /// The kind.
        kind: String,
        /// Number in the header.
        announced: u64,
        /// Number of lines.
        present: u64,
    },
    /// Something follows the last line.
    #[error("something follows its last line (line {line}); it may be two files in one. Use another backup")]
    AfterEnd {
        /// The last line, from 1.
        line: u64,
    },
}
