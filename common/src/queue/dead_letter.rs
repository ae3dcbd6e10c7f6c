//! Jobs that were given up on.

use super::{JobError, QueueName, SyncJob};

/// Longest reason kept, in characters; the rest is cut off.
const MAXIMUM_REASON: usize = 500;

/// A job that was given up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it is named by, the same in every listing: the job's id, or the message's own name when it is no job.
    pub id: String,
    /// The job, when it can be read.
    pub job: Result<SyncJob, JobError>,
    /// Why.
    pub reason: String,
    /// The queue it came from; `None` when it did not come from one of ours.
    pub queue: Option<QueueName>,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// Every copy of the one with this id.
    Id(String),
    /// The oldest, at most so many.
    Oldest(usize),
}

impl Letters {
    /// Returns whether this letter is meant when `taken` were taken already.
    #[must_use]
    pub(super) fn include(&self, id: &str, taken: u64) -> bool {
        match self {
            Self::Id(wanted) => wanted == id,
            Self::Oldest(limit) => taken < *limit as u64,
        }
    }
}

/// Returns a reason that fits into a header and a line.
pub(super) fn bounded_reason(reason: &str) -> String {
    reason.chars().take(MAXIMUM_REASON).collect()
}
