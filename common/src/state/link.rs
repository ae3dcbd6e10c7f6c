//! What the state holds about one task: its copy, a write that was begun, a copy that was let go, a refusal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::model::FieldSet;
use crate::plan::{Agreed, Progress};

/// A task that is linked with an item in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Id of the mailbox item; empty if the item's folder is gone and the item was not recreated yet. (By its
    /// old id the item can still be read in Deleted Items.)
    pub item: String,
    /// Version of the mailbox item at the last agreement.
    pub change_key: String,
    /// Version at the source at the last agreement.
    pub version: String,
    /// The values both sides agreed on.
    pub agreed: Agreed,
    /// Status and percent as the source holds them; there they need not fit together.
    pub source_progress: Progress,
    /// Whether tasksync is about to remove the copy itself. The copy's absence then does not mean that the
    /// person deleted it.
    pub removing: bool,
    /// Fields that belong to the person because the item is private or recurring; they are not written into
    /// the item.
    #[serde(default, rename = "own")]
    pub personal_fields: FieldSet,
    /// Id of the folder the item lies in, if the person moved it out of its location's folder.
    #[serde(default, rename = "elsewhere")]
    pub other_folder: Option<String>,
    /// Whether the mailbox has edits that still have to be sent, although its version is the remembered one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsent: bool,
    /// Those of the unsent fields that were also edited at the source; there the source's values lose.
    #[serde(default, skip_serializing_if = "FieldSet::is_empty")]
    pub disputed: FieldSet,
    /// Fields that the mailbox did not keep although it answered their write with success. `agreed` has the
    /// values it shows instead; they are not a person's edit.
    #[serde(default, skip_serializing_if = "FieldSet::is_empty")]
    pub not_kept: FieldSet,
    /// When a sync first found the task completed on both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
}

/// A write, recorded before it begins. If the process ends before it has saved the result, this stops the
/// next sync from mistaking tasksync's own write for a person's edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writing {
    /// A write to the source. It was done if the task shows the intended values.
    Source {
        /// The link once the write is done, except for the version that the write gives to the task.
        link: Link,
    },
    /// A write into the mailbox, perhaps of a new item. It was done if the item bears this id; any other
    /// difference is then the person's edit.
    Mailbox {
        /// Id that the write puts into the item together with the values. No other write uses it.
        id: String,
        /// The link once the write is done, except for the item's version and the id of a new item.
        link: Link,
    },
}

impl Link {
    /// Returns the link of a copy that was found and on which the sides have not agreed yet.
    #[must_use]
    pub fn unagreed(item: &str, change_key: &str, other_folder: Option<String>) -> Self {
        Self {
            item: item.to_owned(),
            change_key: change_key.to_owned(),
            version: String::new(),
            agreed: Agreed::default(),
            source_progress: Progress::default(),
            removing: false,
            personal_fields: FieldSet::EMPTY,
            other_folder,
            unsent: false,
            disputed: FieldSet::EMPTY,
            not_kept: FieldSet::EMPTY,
            completed_at: None,
        }
    }

    /// Returns whether both sides must be read, whatever they report as changed.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.removing || self.unsent || !self.is_agreed() || self.has_lost_its_folder()
    }

    /// Marks the item's folder as gone: the item's id and place are unknown from now on.
    pub fn lose_folder(&mut self) {
        self.item.clear();
        self.other_folder = None;
    }

    /// Returns whether the item's folder is gone and the item was not recreated yet.
    #[must_use]
    pub fn has_lost_its_folder(&self) -> bool {
        self.item.is_empty()
    }

    /// Returns whether both sides ever agreed. If not, the link only records where the copy is.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        !self.version.is_empty()
    }
}

/// A task that stays at the source without a copy. None is made until the task changes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// The last link.
    pub link: Link,
    /// Why no copy is made.
    pub why: LetGoReason,
}

/// Why a task keeps no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetGoReason {
    /// The copy was archived, with the mailbox's archive or because the task was completed long ago.
    Archived,
    /// The copy was deleted, and the tenant's policy completed the task.
    Completed,
    /// The copy was deleted, and the tenant's policy ignores that.
    Ignored,
}

/// A task whose own write was refused. It is left alone until it changes on either side, or until the next
/// full check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Version at the source when it was refused.
    pub version: Option<String>,
    /// Version in the mailbox when it was refused.
    pub change_key: Option<String>,
    /// The refusal.
    pub failure: Failure,
}

impl Parked {
    /// Returns whether both refusals happened at the same versions on both sides.
    #[must_use]
    pub fn is_of_same_versions(&self, other: &Self) -> bool {
        (&self.version, &self.change_key) == (&other.version, &other.change_key)
    }
}

/// A pending task whose write failed, perhaps because of the task itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingWrite {
    /// Number of passes in which it failed, at the same versions and with the same failure.
    pub passes: u32,
    /// The entry that `parked` gets if the task is refused.
    pub refusal: Parked,
}
