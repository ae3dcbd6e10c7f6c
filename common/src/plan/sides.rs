//! One task as both sides show it now.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{FieldSet, SourceKey, Task};
use crate::state::{LetGo, Link, Parked, Writing};

/// One of the two sides. For a write or a deletion it is the side that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The source, changed because of the mailbox.
    Source,
    /// The mailbox, changed because of the source.
    Mailbox,
}

/// Why a task is not, or is no longer, among the user's tasks.
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
    /// Returns the reason as the journal shows it.
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
    /// Version of the task (`ETag`).
    pub version: String,
    /// The values.
    pub task: Task,
    /// Time of the last change, by our clock.
    pub modified: Timestamp,
    /// Address of the task for people.
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
    /// Time of the last change, by our clock.
    pub modified: Timestamp,
    /// Time of creation.
    pub created: Timestamp,
    /// Whether the task recurs. Its dates and progress then belong to the person and do not travel.
    pub recurring: bool,
    /// Whether the item is private. Its title and description then belong to the person and do not travel.
    pub private: bool,
    /// Id of the folder the item lies in, if the person moved it out of its location's folder.
    pub other_folder: Option<String>,
    /// Id of tasksync's last write into the item.
    pub write_id: Option<String>,
}

/// The source's side of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSide {
    /// Nothing was reported: the values are those last agreed.
    Unchanged,
    /// The task is present with these values, changed or not.
    Present(Box<SourceValue>),
    /// The task does not exist or is not the user's. Used only after a read by key or a report of the change
    /// feed.
    Absent(Absence),
}

/// The mailbox's side of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxSide {
    /// Nothing was reported: the values are those last agreed. Without a link, there is no item.
    Unchanged,
    /// The item is present with these values, changed or not.
    Present(Box<MailboxValue>),
    /// The item left its folder, and the folder is still the same one: a person deleted the item.
    Gone,
    /// The item lies in the mailbox's archive.
    Archived,
    /// The item's folder is gone or was replaced. This says nothing about the task.
    FolderGone,
}

/// One task on both sides, with what the state remembers of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The task's key.
    pub key: SourceKey,
    /// What was last agreed, if the task is linked.
    pub link: Option<Link>,
    /// Set if the task's copy was let go earlier. Never set together with `link`.
    pub let_go: Option<LetGo>,
    /// A write that was begun and whose result was not saved.
    pub writing: Option<Writing>,
    /// Ids of tasksync's last writes into those items of this task that lie in Deleted Items. Looked for only
    /// if a write into the mailbox was cut off and its item is missing.
    pub deleted_write_ids: Vec<String>,
    /// Whether the values are compared even where both versions are the remembered ones.
    pub deep: bool,
    /// The refusal, if the task is parked and not tried again in this pass.
    pub parked: Option<Parked>,
    /// Fields that the source can hold for this task.
    pub source_holds: FieldSet,
    /// The source's side.
    pub source: SourceSide,
    /// The mailbox's side.
    pub mailbox: MailboxSide,
    /// Further items with the same key: copies made by the person, or the result of a write that happened
    /// twice.
    pub twins: Vec<MailboxValue>,
}
