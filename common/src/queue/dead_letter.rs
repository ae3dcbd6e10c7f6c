//! Jobs that were given up.

use super::{JobError, QueueName, SyncJob};

/// Longest reason that is kept, in characters; the rest is cut off.
const MAXIMUM_REASON: usize = 500;

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id, the same in every listing: the job's id, or the message's own id if it is not a readable job.
    pub id: String,
    /// The job, or why it cannot be read.
    pub job: Result<SyncJob, JobError>,
    /// Why it was given up.
    pub reason: String,
    /// The queue it came from; `None` if that is not one of tasksync's queues.
    pub queue: Option<QueueName>,
}

/// A selection of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSelection {
    /// Every letter with this id.
    Id(String),
    /// The oldest letters, at most this many.
    Oldest(usize),
}

impl DeadLetterSelection {
    /// Returns whether a letter belongs to the selection after `taken` letters were selected.
    #[must_use]
    pub(super) fn include(&self, id: &str, taken: u64) -> bool {
        match self {
            Self::Id(wanted) => wanted == id,
            Self::Oldest(limit) => taken < *limit as u64,
        }
    }
}

/// Returns the reason, cut to a length that fits into a header and a line.
pub(super) fn bounded_reason(reason: &str) -> String {
    reason.chars().take(MAXIMUM_REASON).collect()
}
