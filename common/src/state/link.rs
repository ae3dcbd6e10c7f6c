//! What is remembered of one task: its copy, a write that was begun, a copy that was let go, a refusal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::model::FieldSet;
use crate::plan::{Agreed, Progress};

/// One task on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Id of the mailbox item; empty when its folder went and it was not made again yet. (By its old id it can still be
    /// read in the deleted items.)
    pub item: String,
    /// Version of the mailbox item that was last agreed.
    pub change_key: String,
    /// Version at the source that was last agreed.
    pub version: String,
    /// The values both sides agreed on.
    pub agreed: Agreed,
    /// Status and percent as the source holds them, which need not fit each other there.
    pub source_progress: Progress,
    /// tasksync is about to remove the mailbox copy itself: its absence says nothing about the person's wishes.
    pub removing: bool,
    /// Fields that are the person's own in this item, private or recurring as it is: not written there.
    #[serde(default)]
    pub own: FieldSet,
    /// Id of the folder the item lies in, if the person moved it out of its location's.
    #[serde(default)]
    pub elsewhere: Option<String>,
    /// The mailbox has edits that are still to be sent, although its version is the remembered one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsent: bool,
    /// Fields of these edits that were edited at the source, too: the source's values lose.
    #[serde(default, skip_serializing_if = "FieldSet::is_empty")]
    pub disputed: FieldSet,
    /// Fields that the mailbox did not keep, although it answered their write with a success: `agreed` has what it shows instead,
    /// which is not a person's edit.
    #[serde(default, skip_serializing_if = "FieldSet::is_empty")]
    pub not_kept: FieldSet,
    /// When a sync first found the task completed on both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
}

/// Recorded before a write begins. If the process ends before it has saved the result, this stops the next sync from mistaking
/// tasksync's own write for a person's edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writing {
    /// At the source: done when the task shows what was meant.
    Source {
        /// What holds once it is done, but for the version it gives to the task.
        link: Link,
    },
    /// Into the mailbox, perhaps a new item: done when the item bears this id, and then whatever else it shows is the person's.
    Mailbox {
        /// Written into the item with the values; of no other write.
        id: String,
        /// What holds once it is done, but for the item's version, and the id of a new item.
        link: Link,
    },
}

impl Link {
    /// Returns a copy that was found and is not brought into agreement yet.
    #[must_use]
    pub fn found(item: &str, change_key: &str, elsewhere: Option<String>) -> Self {
        Self {
            item: item.to_owned(),
            change_key: change_key.to_owned(),
            version: String::new(),
            agreed: Agreed::default(),
            source_progress: Progress::default(),
            removing: false,
            own: FieldSet::EMPTY,
            elsewhere,
            unsent: false,
            disputed: FieldSet::EMPTY,
            not_kept: FieldSet::EMPTY,
            completed_at: None,
        }
    }

    /// Returns whether both sides are to be looked at whatever is reported.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.removing || self.unsent || !self.is_agreed() || self.has_lost_its_folder()
    }

    /// The item's folder went: nothing is known of the item any more.
    pub fn lose_folder(&mut self) {
        self.item.clear();
        self.elsewhere = None;
    }

    /// Returns whether the item's folder went and the item was not made again yet.
    #[must_use]
    pub fn has_lost_its_folder(&self) -> bool {
        self.item.is_empty()
    }

    /// Returns whether both sides ever agreed; if not, the link only tells where the copy is.
    #[must_use]
    pub fn is_agreed(&self) -> bool {
        !self.version.is_empty()
    }
}

/// A task whose copy is gone and that stays at the source: no copy is made until the task changes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// What was remembered of both sides last.
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

/// A task whose own write was refused: left alone until it changes on either side, or until the next full check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Version at the source when it was refused.
    pub version: Option<String>,
    /// Version in the mailbox when it was refused.
    pub change_key: Option<String>,
    /// Why.
    pub failure: Failure,
}

impl Parked {
    /// Returns whether both were refused at the same versions on both sides.
    #[must_use]
    pub fn is_of_same_versions(&self, other: &Self) -> bool {
        (&self.version, &self.change_key) == (&other.version, &other.change_key)
    }
}

/// A pending task whose write failed for a reason that may be its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// In how many passes it failed, at the same versions and with the same failure.
    pub passes: u32,
    /// The entry in `parked` that the task gets when it is refused.
    pub refusal: Parked,
}
