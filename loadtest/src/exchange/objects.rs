//! The objects of a mailbox: folders, tasks, and tombstones.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::properties::Properties;
use super::tasks::{TaskDates, TaskProgress};
use crate::sim::vec_map::VecMap;

/// Numbers of the folders that every mailbox has.
pub(crate) const ROOT: u64 = 1;
pub(crate) const TOP: u64 = 2;
pub(crate) const TASKS: u64 = 4;
pub(crate) const DELETED_ITEMS: u64 = 5;
pub(crate) const ARCHIVE_ROOT: u64 = 14;
pub(crate) const ARCHIVE_TOP: u64 = 15;

/// The body of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) html: bool,
    pub(crate) text: String,
}

/// A task item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) folder: u64,
    /// Change number of its arrival in the folder.
    pub(crate) arrival: u64,
    /// Change number of the last change.
    pub(crate) change: u64,
    /// Change number of the last change of each property, by URI.
    pub(crate) field_changes: VecMap<Box<str>, u64>,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) modified_by: String,
    pub(crate) change_count: i32,
    pub(crate) class: Cow<'static, str>,
    pub(crate) subject: Option<String>,
    pub(crate) sensitivity: Cow<'static, str>,
    pub(crate) body: Option<Body>,
    pub(crate) categories: Vec<String>,
    pub(crate) importance: Cow<'static, str>,
    pub(crate) in_reply_to: Option<String>,
    pub(crate) reminder_due: Option<Timestamp>,
    pub(crate) reminder_is_set: bool,
    pub(crate) reminder_minutes: i32,
    pub(crate) culture: Option<String>,
    pub(crate) actual_work: Option<i32>,
    pub(crate) total_work: Option<i32>,
    pub(crate) billing: Option<String>,
    pub(crate) mileage: Option<String>,
    pub(crate) companies: Vec<String>,
    pub(crate) contacts: Vec<String>,
    pub(crate) progress: TaskProgress,
    pub(crate) dates: TaskDates,
    pub(crate) is_recurring: bool,
    pub(crate) properties: Properties,
}

impl Item {
    /// Returns a task with the default values.
    pub(crate) fn new(now: Timestamp, owner: &str) -> Self {
        Self {
            number: 0,
            folder: 0,
            arrival: 0,
            change: 0,
            field_changes: VecMap::new(),
            created: now,
            modified: now,
            modified_by: owner.to_owned(),
            change_count: 0,
            class: Cow::Borrowed("IPM.Task"),
            subject: None,
            sensitivity: Cow::Borrowed("Normal"),
            body: None,
            categories: Vec::new(),
            importance: Cow::Borrowed("Normal"),
            in_reply_to: None,
            reminder_due: None,
            reminder_is_set: false,
            reminder_minutes: 0,
            culture: None,
            actual_work: None,
            total_work: None,
            billing: None,
            mileage: None,
            companies: Vec::new(),
            contacts: Vec::new(),
            progress: TaskProgress::default(),
            dates: TaskDates::default(),
            is_recurring: false,
            properties: Properties::new(),
        }
    }
}

/// The record of an item that left a folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tombstone {
    pub(crate) change: u64,
    pub(crate) item: u64,
    pub(crate) arrival: u64,
}

/// The position of a folder in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderParent {
    /// Below no other folder; this is the root.
    Nowhere,
    /// Below this folder.
    Under(u64),
    /// Deleted.
    Gone,
}

/// A folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) number: u64,
    pub(crate) distinguished: Option<&'static str>,
    pub(crate) class: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) properties: Properties,
    /// Change number of the last change of the folder itself.
    pub(crate) change: u64,
    /// Every place that it had, with the change number from which it had it.
    pub(crate) parents: Vec<(u64, FolderParent)>,
    pub(crate) items: BTreeSet<u64>,
    /// Change number of the last change of its contents.
    pub(crate) contents_change: u64,
    pub(crate) tombstones: Vec<Tombstone>,
    /// Tombstones up to this change number were dropped.
    pub(crate) forgotten: u64,
    /// Time of the last commit in the folder.
    pub(crate) committed: Timestamp,
    /// Number of deletions so far.
    pub(crate) deletions: i32,
}

impl Folder {
    /// Returns its current place.
    pub(crate) fn parent(&self) -> FolderParent {
        self.parents
            .last()
            .map_or(FolderParent::Gone, |(_, parent)| *parent)
    }

    /// Returns its place at a change number; `Gone` before it was created.
    pub(crate) fn parent_at(&self, change: u64) -> FolderParent {
        self.parents
            .iter()
            .rev()
            .find(|(since, _)| *since <= change)
            .map_or(FolderParent::Gone, |(_, parent)| *parent)
    }

    /// Returns whether it may contain tasks.
    pub(crate) fn holds_tasks(&self) -> bool {
        self.class == "IPF.Task" || self.class.starts_with("IPF.Task.") || self.number == DELETED_ITEMS
    }
}
