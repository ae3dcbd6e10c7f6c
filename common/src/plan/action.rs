//! What can be done about a task.

use serde::Serialize;

use super::sides::Absence;
use crate::model::{FieldSet, SourceKey, Task};
use crate::state::{Link, Writing};

/// One thing to do, or to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Create the task in the mailbox.
    CreateInMailbox {
        /// The task.
        key: SourceKey,
        /// Its values at the source.
        task: Task,
        /// Version at the source.
        version: String,
        /// Address people can open.
        web_url: String,
        /// What is remembered once it is created, under the id and the change key the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The person had deleted it, but it was changed at the source since: it comes back.
        restored: bool,
    },
    /// Move the mailbox copy to the deleted items.
    RemoveFromMailbox {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
        /// Why.
        absence: Absence,
        /// The copy's values, when the person had changed them.
        edited: Option<Box<Task>>,
    },
    /// Put the task at the source into the recycle bin.
    DeleteAtSource {
        /// The task.
        key: SourceKey,
        /// Version that may be deleted.
        version: String,
        /// Its values, for the journal.
        task: Box<Task>,
    },
    /// Send changed fields to the source.
    UpdateSource {
        /// The task.
        key: SourceKey,
        /// Version that may be changed.
        version: String,
        /// New values.
        task: Box<Task>,
        /// Which of them are sent.
        fields: FieldSet,
        /// Version of the mailbox item they came from.
        change_key: String,
        /// Id of that item.
        item: String,
        /// What is remembered once it is written, under the version the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The source's values that lose, in a conflict.
        lost: Option<Box<Task>>,
    },
    /// Write changed fields into the mailbox.
    UpdateMailbox {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Version that may be changed.
        change_key: String,
        /// New values.
        task: Box<Task>,
        /// Which of them are written.
        fields: FieldSet,
        /// Version at the source they came from.
        version: String,
        /// What is remembered once it is written, under the change key the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The mailbox's values that lose, in a conflict.
        lost: Option<Box<Task>>,
    },
    /// Both sides agree: remember it.
    Remember {
        /// The task.
        key: SourceKey,
        /// What is remembered from now on.
        link: Box<Link>,
    },
    /// Neither side has it any more: forget it.
    Forget {
        /// The task.
        key: SourceKey,
    },
    /// An untouched second item of ours with the same key: a write that happened twice.
    RemoveTwin {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
    },
    /// A changed copy: take our key off, it is the person's own.
    DisownTwin {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
    },
}

impl Action {
    /// The task it is about.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        match self {
            Self::CreateInMailbox { key, .. }
            | Self::RemoveFromMailbox { key, .. }
            | Self::DeleteAtSource { key, .. }
            | Self::UpdateSource { key, .. }
            | Self::UpdateMailbox { key, .. }
            | Self::Remember { key, .. }
            | Self::Forget { key }
            | Self::RemoveTwin { key, .. }
            | Self::DisownTwin { key, .. } => key,
        }
    }

    /// What is saved before the action is begun, if it writes values; `id` is the write's, if it goes into the mailbox.
    #[must_use]
    pub fn writing(&self, id: &str) -> Option<Writing> {
        match self {
            Self::UpdateSource { link, .. } => Some(Writing::Source {
                link: (**link).clone(),
            }),
            Self::CreateInMailbox { link, .. } | Self::UpdateMailbox { link, .. } => Some(Writing::Mailbox {
                id: id.to_owned(),
                link: (**link).clone(),
            }),
            Self::RemoveFromMailbox { .. }
            | Self::DeleteAtSource { .. }
            | Self::Remember { .. }
            | Self::Forget { .. }
            | Self::RemoveTwin { .. }
            | Self::DisownTwin { .. } => None,
        }
    }
}
