//! One task as both sides show it now.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{FieldSet, SourceKey, Task};
use crate::state::{LetGo, Link, Parked, Writing};

/// One of the two sides: where something is written or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At the source, because of the mailbox.
    Source,
    /// In the mailbox, because of the source.
    Mailbox,
}

/// Why a task is not (or no longer) the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Absence {
    /// It was deleted.
    Deleted,
    /// It is not assigned to the user.
    NotAssigned,
    /// The user may not see it.
    NoAccess,
    /// Its whole location is gone.
    LocationGone,
}

impl Absence {
    /// Returns the reason in the journal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted at the source",
            Self::NotAssigned => "no longer assigned to the person",
            Self::NoAccess => "the person may no longer see it",
            Self::LocationGone => "its list is gone",
        }
    }
}

/// A task's values at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceValue {
    /// Version (ETag).
    pub version: String,
    /// The values.
    pub task: Task,
    /// Last change, by our clock.
    pub modified: Timestamp,
    /// Address people can open.
    pub web_url: String,
    /// Whether the person may edit it.
    pub writable: bool,
}

/// A task's values in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxValue {
    /// Id of the item.
    pub id: String,
    /// Version of the item.
    pub change_key: String,
    /// The values.
    pub task: Task,
    /// Last change, by our clock.
    pub modified: Timestamp,
    /// When it was created.
    pub created: Timestamp,
    /// A recurring task: its dates and progress are the person's own.
    pub recurring: bool,
    /// Private: its title and description are the person's own.
    pub private: bool,
    /// The folder it lies in, if that is not its location's: the person moved it there.
    pub elsewhere: Option<String>,
    /// The id of tasksync's last write into it.
    pub write_id: Option<String>,
}

/// The source's side of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSide {
    /// Nothing was reported: as last agreed.
    Unchanged,
    /// It is there with these values, changed or not.
    Present(Box<SourceValue>),
    /// It is not the user's, or not there. Only said when it was asked for by key, or told by the change feed.
    Absent(Absence),
}

/// The mailbox's side of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxSide {
    /// Nothing was reported: as last agreed. Without a link: there is no item.
    Unchanged,
    /// It is there with these values, changed or not.
    Present(Box<MailboxValue>),
    /// The item is not in its folder any more, and the folder is the one it was in: somebody deleted it.
    Gone,
    /// The item lies in the mailbox's archive.
    Archived,
    /// The folder it lay in is gone or new: says nothing about the task.
    FolderGone,
}

/// One task on both sides, with what is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The task.
    pub key: SourceKey,
    /// What was agreed, if it is linked.
    pub link: Option<Link>,
    /// Set if its copy was let go earlier. Never together with a link.
    pub let_go: Option<LetGo>,
    /// A write that was begun, and of whose end nothing was saved.
    pub writing: Option<Writing>,
    /// Ids of tasksync's last writes into items of this task that lie in the deleted items. Looked for only if a write into the
    /// mailbox was cut off and the item is not where it should be.
    pub deleted: Vec<String>,
    /// The values are compared even where both versions are as remembered.
    pub deep: bool,
    /// The refusal it met, if it is parked and not tried again in this pass.
    pub parked: Option<Parked>,
    /// Fields the source can hold for this task.
    pub source_holds: FieldSet,
    /// The source's side.
    pub source: SourceSide,
    /// The mailbox's side.
    pub mailbox: MailboxSide,
    /// Further items that carry the same key: copies made by the person, or a write that happened twice.
    pub twins: Vec<MailboxValue>,
}
