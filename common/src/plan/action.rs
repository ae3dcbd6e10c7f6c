//! The actions on a task, and the changes of the state that write to neither side.

use serde::Serialize;

use super::agreed::Agreed;
use super::sides::{Absence, Side};
use crate::model::{FieldSet, SourceKey, Task};
use crate::state::{LetGo, Link, Writing};

/// One write on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Creates the task in the mailbox.
    CreateInMailbox {
        /// The task's key.
        key: SourceKey,
        /// The values at the source.
        task: Task,
        /// Version at the source.
        version: String,
        /// Address of the task for people.
        web_url: String,
        /// The link after the creation, except for the item's id and change key, which the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// Whether the person deleted the copy and it comes back, because the task was edited at the source
        /// since or the person has no right to delete it.
        restored: bool,
        /// Whether the copy comes back because the person has no right to delete the task.
        not_permitted: bool,
    },
    /// Takes the copy out of the sync, because its task is gone from the source.
    RemoveFromMailbox {
        /// The task's key.
        key: SourceKey,
        /// Id of the item.
        item: String,
        /// Version of the item.
        change_key: String,
        /// Why the task is gone.
        absence: Absence,
        /// How the copy is removed.
        removal: Removal,
        /// The copy's values: as read, or as remembered if the copy was not read.
        replaces: Box<ReplacedValues>,
    },
    /// Moves the task at the source to the recycle bin.
    DeleteAtSource {
        /// The task's key.
        key: SourceKey,
        /// The version that may be deleted.
        version: String,
        /// The values, for the journal.
        task: Box<Task>,
    },
    /// Completes the task at the source, because its copy was deleted.
    CompleteAtSource {
        /// The task's key.
        key: SourceKey,
        /// The version that may be changed.
        version: String,
        /// The completed task.
        task: Box<Task>,
        /// The link after the write, except for the version, which the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The source's earlier values.
        replaces: Box<ReplacedValues>,
    },
    /// Sends changed fields to the source.
    UpdateSource {
        /// The task's key.
        key: SourceKey,
        /// The version that may be changed.
        version: String,
        /// The new values.
        task: Box<Task>,
        /// The fields that are sent.
        fields: FieldSet,
        /// Version of the mailbox item that has the new values.
        change_key: String,
        /// Id of that item.
        item: String,
        /// The link after the write, except for the version, which the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The overwritten values of the source.
        replaces: Box<ReplacedValues>,
    },
    /// Writes changed fields into the mailbox.
    UpdateMailbox {
        /// The task's key.
        key: SourceKey,
        /// Id of the item.
        item: String,
        /// The version that may be changed.
        change_key: String,
        /// The new values.
        task: Box<Task>,
        /// The fields that are written.
        fields: FieldSet,
        /// Edits of the mailbox that the next pass sends to the source, because this write leaves them.
        sends_next: FieldSet,
        /// Version of the task that has the new values.
        version: String,
        /// The link after the write, except for the change key, which the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The overwritten values of the mailbox.
        replaces: Box<ReplacedValues>,
    },
    /// Removes an unedited second item with the same key: the result of a write that happened twice.
    RemoveTwin {
        /// The task's key.
        key: SourceKey,
        /// Id of the item.
        item: String,
        /// Version of the item.
        change_key: String,
    },
    /// Takes the key off an edited second item, which becomes the person's own.
    DisownTwin {
        /// The task's key.
        key: SourceKey,
        /// Id of the item.
        item: String,
        /// Version of the item.
        change_key: String,
    },
}

/// How a copy is removed whose task is gone from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It is moved to Deleted Items.
    Delete,
    /// It is completed and becomes the person's own.
    Complete,
    /// It becomes the person's own as it is.
    Leave,
}

/// The values that an action overwrites or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplacedValues {
    /// The values.
    pub values: Task,
    /// Whether the values were remembered instead of read. Of a description only a digest is remembered, so
    /// `values` has none.
    pub remembered: bool,
    /// The origin of the values.
    #[serde(rename = "standing")]
    pub origin: ValueOrigin,
}

impl ReplacedValues {
    /// Returns values that were read.
    #[must_use]
    pub fn from_read(values: &Task, origin: ValueOrigin) -> Self {
        Self {
            values: values.clone(),
            remembered: false,
            origin,
        }
    }

    /// Returns the values that both sides had agreed on, as far as they are remembered.
    #[must_use]
    pub fn from_agreed(agreed: &Agreed) -> Self {
        Self {
            values: agreed.values(),
            remembered: true,
            origin: ValueOrigin::Agreed,
        }
    }
}

/// The origin of values that are overwritten or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueOrigin {
    /// Both sides had agreed on them, and they have not changed since.
    Agreed,
    /// An edit that was never sent to the other side.
    Edited,
    /// An edit of a person with read-only access to the task.
    NotPermitted,
}

/// A change of the state that writes to neither side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Memo {
    /// Saves this link, because both sides agree or a copy was found.
    Remember {
        /// The task's key.
        key: SourceKey,
        /// The link to save.
        link: Box<Link>,
    },
    /// Removes the link and makes no copy again: the copy is gone, and the task stays at the source as it is.
    LetGo {
        /// The task's key.
        key: SourceKey,
        /// The entry that replaces the link.
        let_go: Box<LetGo>,
    },
    /// Removes the link of a task that neither side has any more.
    Forget {
        /// The task's key.
        key: SourceKey,
    },
}

impl Memo {
    /// Returns the key of its task.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        match self {
            Self::Remember { key, .. } | Self::LetGo { key, .. } | Self::Forget { key } => key,
        }
    }
}

impl Action {
    /// Returns the key of its task.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        match self {
            Self::CreateInMailbox { key, .. }
            | Self::RemoveFromMailbox { key, .. }
            | Self::DeleteAtSource { key, .. }
            | Self::CompleteAtSource { key, .. }
            | Self::UpdateSource { key, .. }
            | Self::UpdateMailbox { key, .. }
            | Self::RemoveTwin { key, .. }
            | Self::DisownTwin { key, .. } => key,
        }
    }

    /// Returns the side on which it writes.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::DeleteAtSource { .. } | Self::CompleteAtSource { .. } | Self::UpdateSource { .. } => {
                Side::Source
            }
            Self::CreateInMailbox { .. }
            | Self::RemoveFromMailbox { .. }
            | Self::UpdateMailbox { .. }
            | Self::RemoveTwin { .. }
            | Self::DisownTwin { .. } => Side::Mailbox,
        }
    }

    /// Returns the action's effect on its task, the only distinction that most rules need.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CreateInMailbox { .. } | Self::UpdateSource { .. } | Self::UpdateMailbox { .. } => {
                ActionKind::WritesValues
            }
            Self::RemoveFromMailbox { .. } | Self::DeleteAtSource { .. } | Self::CompleteAtSource { .. } => {
                ActionKind::Deletes
            }
            Self::RemoveTwin { .. } | Self::DisownTwin { .. } => ActionKind::ConcernsTwin,
        }
    }

    /// Returns the side on which it carries out a deletion, if it does.
    #[must_use]
    pub fn deletes_on(&self) -> Option<Side> {
        (self.kind() == ActionKind::Deletes).then(|| self.side())
    }

    /// Returns the record to save before the action begins, if it writes values. `id` is the id of the write;
    /// only writes into the mailbox leave it in the item.
    #[must_use]
    pub fn writing(&self, id: &str) -> Option<Writing> {
        match self {
            Self::UpdateSource { link, .. } | Self::CompleteAtSource { link, .. } => Some(Writing::Source {
                link: (**link).clone(),
            }),
            Self::CreateInMailbox { link, .. } | Self::UpdateMailbox { link, .. } => Some(Writing::Mailbox {
                id: id.to_owned(),
                link: (**link).clone(),
            }),
            Self::RemoveFromMailbox { .. }
            | Self::DeleteAtSource { .. }
            | Self::RemoveTwin { .. }
            | Self::DisownTwin { .. } => None,
        }
    }

    /// Returns the versions at the source and in the mailbox on which the action is based; the link's, where
    /// the action names none.
    #[must_use]
    pub fn based_on(&self, link: Option<&Link>) -> (Option<String>, Option<String>) {
        let (version, change_key) = match self {
            Self::CreateInMailbox { version, .. }
            | Self::DeleteAtSource { version, .. }
            | Self::CompleteAtSource { version, .. } => (Some(version), None),
            Self::UpdateMailbox {
                version, change_key, ..
            }
            | Self::UpdateSource {
                version, change_key, ..
            } => (Some(version), Some(change_key)),
            Self::RemoveFromMailbox { change_key, .. }
            | Self::RemoveTwin { change_key, .. }
            | Self::DisownTwin { change_key, .. } => (None, Some(change_key)),
        };
        (
            version.or(link.map(|link| &link.version)).cloned(),
            change_key.or(link.map(|link| &link.change_key)).cloned(),
        )
    }
}

/// The effect of an action on its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// It writes values to one side.
    WritesValues,
    /// It carries out a deletion on the other side, in the form that the tenant's policy gives it.
    Deletes,
    /// It handles a second item of the task.
    ConcernsTwin,
}
