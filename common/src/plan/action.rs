//! What can be done about a task, and what can be remembered of it.

use serde::Serialize;

use super::agreed::Agreed;
use super::sides::{Absence, Side};
use crate::model::{FieldSet, SourceKey, Task};
use crate::state::{LetGo, Link, Writing};

/// One write, on one side.
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
        /// The person deleted the copy, and it comes back: the task was changed at the source since, or the person has no
        /// right to delete it.
        restored: bool,
        /// The copy comes back because the person has no right to delete the task.
        not_permitted: bool,
    },
    /// Take the mailbox copy out of the sync, because its task went.
    RemoveFromMailbox {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
        /// Why.
        absence: Absence,
        /// What becomes of the copy.
        removal: Removal,
        /// The copy's values: as read, or as remembered where the copy was not read.
        replaces: Box<Replaced>,
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
    /// Complete the task at the source, because its copy was deleted.
    CompleteAtSource {
        /// The task.
        key: SourceKey,
        /// Version that may be changed.
        version: String,
        /// The completed task.
        task: Box<Task>,
        /// What is remembered once it is completed, under the version the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The source's values before.
        replaces: Box<Replaced>,
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
        /// The source's values that are overwritten.
        replaces: Box<Replaced>,
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
        /// Edits of the mailbox that the next pass sends to the source, because this write leaves them.
        sends_next: FieldSet,
        /// Version at the source they came from.
        version: String,
        /// What is remembered once it is written, under the change key the write answers.
        #[serde(skip)]
        link: Box<Link>,
        /// The mailbox's values that are overwritten.
        replaces: Box<Replaced>,
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

/// What becomes of a copy whose task went from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It goes to the deleted items.
    Delete,
    /// It is completed and becomes the person's own.
    Complete,
    /// It becomes the person's own as it is.
    Leave,
}

/// The values that an action overwrites or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The values.
    pub values: Task,
    /// The values were remembered and not read. Of a description only a digest is remembered, so `values` has none.
    pub remembered: bool,
    /// How they came about.
    pub standing: Standing,
}

impl Replaced {
    /// Returns values that were read.
    #[must_use]
    pub fn read(values: &Task, standing: Standing) -> Self {
        Self {
            values: values.clone(),
            remembered: false,
            standing,
        }
    }

    /// Returns values that both sides had agreed on, as far as they are remembered.
    #[must_use]
    pub fn remembered(agreed: &Agreed) -> Self {
        Self {
            values: agreed.values(),
            remembered: true,
            standing: Standing::Agreed,
        }
    }
}

/// How values that are overwritten or deleted came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Both sides had agreed on them, and they did not change since.
    Agreed,
    /// An edit that the other side never had.
    Edited,
    /// An edit of a person who may only read the task.
    NotPermitted,
}

/// Something to remember. Nothing is written on either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Memo {
    /// Both sides agree, or a copy was found: save this link.
    Remember {
        /// The task.
        key: SourceKey,
        /// The link to save.
        link: Box<Link>,
    },
    /// The copy is gone and the task stays at the source as it is: remove the link, and make no copy again.
    LetGo {
        /// The task.
        key: SourceKey,
        /// What is remembered instead.
        let_go: Box<LetGo>,
    },
    /// Neither side has the task any more: remove its link.
    Forget {
        /// The task.
        key: SourceKey,
    },
}

impl Memo {
    /// Returns the task it is about.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        match self {
            Self::Remember { key, .. } | Self::LetGo { key, .. } | Self::Forget { key } => key,
        }
    }
}

impl Action {
    /// Returns the task it is about.
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

    /// Returns what it does with the task: the only distinction that most rules need.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::CreateInMailbox { .. } | Self::UpdateSource { .. } | Self::UpdateMailbox { .. } => {
                Kind::WritesValues
            }
            Self::RemoveFromMailbox { .. } | Self::DeleteAtSource { .. } | Self::CompleteAtSource { .. } => {
                Kind::Deletes
            }
            Self::RemoveTwin { .. } | Self::DisownTwin { .. } => Kind::ConcernsTwin,
        }
    }

    /// Returns the side to which it carries a deletion, if it does.
    #[must_use]
    pub fn deletes_on(&self) -> Option<Side> {
        (self.kind() == Kind::Deletes).then(|| self.side())
    }

    /// Returns the record that is saved before the action begins, if it writes values. `id` is the write's; only writes
    /// into the mailbox leave it there.
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

    /// Returns the versions at the source and in the mailbox on which the action is based; where it names none, the
    /// link's.
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

/// What an action does with its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It writes values into one side.
    WritesValues,
    /// It carries a deletion over to the other side, in whatever form the tenant's policy gives to it.
    Deletes,
    /// It deals with a second item of the task.
    ConcernsTwin,
}
