//! What a tenant wants done where the two sides disagree.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Who wins when both sides were edited between two syncs. What loses goes to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictPolicy {
    /// The later edit wins the whole task.
    #[default]
    LatestTask,
    /// Edits of different fields both stand. The later edit wins a field that both sides changed.
    Merge,
    /// The source wins the whole task.
    SourceWins,
    /// The mailbox wins the whole task.
    MailboxWins,
}

/// What a deletion on one side does on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionPolicy {
    /// The task is deleted on the other side, too.
    #[default]
    Propagate,
    /// The task is completed on the other side.
    Complete,
    /// Nothing happens on the other side.
    Ignore,
}

/// A tenant's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For edits on both sides.
    pub conflicts: ConflictPolicy,
    /// For tasks that a person deleted in the mailbox.
    pub mailbox_deletions: DeletionPolicy,
    /// For tasks that went from the source.
    pub source_deletions: DeletionPolicy,
    /// A task that was completed longer ago than this, and is missing in the mailbox, was archived and not deleted.
    pub archived_after: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            conflicts: ConflictPolicy::default(),
            mailbox_deletions: DeletionPolicy::default(),
            source_deletions: DeletionPolicy::default(),
            archived_after: SignedDuration::from_hours(30 * 24),
        }
    }
}
