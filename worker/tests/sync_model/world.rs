//! Both sides in memory, as a person and the servers see them.

mod acts;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use tasksync_common::model::{Field, FieldSet, LocationKey, Percent, SourceKey, Status, Task};
use tasksync_common::plan::Policy;
use tasksync_common::state::SyncState;

use tasksync_worker::mailbox::{MarkedFor, Marker};

pub(crate) use self::acts::{Act, Edit, MoveTarget};
use crate::faults::Faults;
use crate::oracle::Oracle;

/// A task at the source.
#[derive(Debug, Clone)]
pub(crate) struct SourceTask {
    pub(crate) task: Task,
    pub(crate) version: u64,
    /// In seconds.
    pub(crate) modified: i64,
    pub(crate) assigned: bool,
    /// Whether the person may edit it.
    pub(crate) writable: bool,
}

/// An item in the mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) key: Option<SourceKey>,
    pub(crate) folder: u32,
    pub(crate) task: Task,
    pub(crate) change_key: u64,
    /// In milliseconds.
    pub(crate) modified: i64,
    pub(crate) created: i64,
    pub(crate) private: bool,
    /// The id of tasksync's last write.
    pub(crate) write_id: Option<String>,
}

/// The mailbox's default task folder.
pub(crate) const OWN_FOLDER: u32 = 0;

/// Converts an id to its number. A text that is not a number gives `u32::MAX`, which no object has.
pub(crate) fn id(text: &str) -> u32 {
    text.parse().unwrap_or(u32::MAX)
}

/// The state of the whole model.
pub(crate) struct World {
    /// True time in milliseconds.
    pub(crate) now: i64,
    /// The error of the mailbox's clock that remains after correction, in milliseconds.
    pub(crate) skew: i64,
    /// The tenant's policy.
    pub(crate) policy: Policy,
    /// Tasks that the person could not edit when the sync began.
    pub(crate) read_only: BTreeSet<SourceKey>,
    pub(crate) source: BTreeMap<SourceKey, SourceTask>,
    pub(crate) source_log: Vec<SourceKey>,
    /// Our existing folders with their markers.
    pub(crate) folders: BTreeMap<u32, LocationKey>,
    pub(crate) items: BTreeMap<u32, Item>,
    /// Whether the source compares the version of what it writes.
    pub(crate) source_compares: bool,
    /// Whether the server lists the contents of Deleted Items.
    pub(crate) lists_deleted_items: bool,
    /// Owners in the markers of folders and items, if the markers name one.
    pub(crate) owners: BTreeMap<u32, MarkedFor>,
    /// Items of deleted folders. They can still be read by their ids.
    pub(crate) binned: BTreeMap<u32, Item>,
    /// Keys and last write ids of the items in Deleted Items.
    pub(crate) deleted: Vec<(SourceKey, String)>,
    /// Keys of the items in the archive.
    pub(crate) archive: BTreeSet<SourceKey>,
    /// The owner in the markers of the items in the archive.
    pub(crate) archive_owner: MarkedFor,
    pub(crate) mailbox_log: Vec<(u32, u32)>,
    pub(crate) counter: u32,
    pub(crate) saved: Option<SyncState>,
    /// Version of the saved state.
    pub(crate) version: u64,
    /// Whether a read lied or something could not be read.
    pub(crate) deceived: bool,
    /// Number of writes of all syncs.
    pub(crate) all_writes: u32,
    /// Number of pages of changes that a fault invented.
    pub(crate) pages: u32,
    /// The faults of the current sync.
    pub(crate) faults: Faults,
    pub(crate) oracle: Oracle,
}

/// Returns one of two locations: one supports every field, the other only a few.
pub(crate) fn location(number: usize) -> LocationKey {
    LocationKey::sharepoint_list(if number.is_multiple_of(2) { "a" } else { "b" })
}

pub(crate) fn holds(location: &LocationKey) -> FieldSet {
    if *location == self::location(0) {
        FieldSet::ALL.without(Field::Categories)
    } else {
        FieldSet::of(&[Field::Title, Field::Due, Field::Progress])
    }
}

fn date(day: Option<i8>) -> Option<Date> {
    day.map(|day| Date::new(2026, 3, day.clamp(1, 28)).unwrap())
}

/// Returns the number in a title.
pub(crate) fn number_of(task: &Task) -> u32 {
    task.title[1..].parse().unwrap()
}

impl World {
    pub(crate) fn new(skew: i64) -> Self {
        Self {
            now: 1_000_000,
            skew,
            policy: Policy::default(),
            read_only: BTreeSet::new(),
            source: BTreeMap::new(),
            source_log: Vec::new(),
            folders: BTreeMap::new(),
            items: BTreeMap::new(),
            source_compares: true,
            lists_deleted_items: true,
            owners: BTreeMap::new(),
            binned: BTreeMap::new(),
            deleted: Vec::new(),
            archive: BTreeSet::new(),
            archive_owner: MarkedFor::Unnamed,
            mailbox_log: Vec::new(),
            counter: 0,
            saved: None,
            version: 0,
            deceived: false,
            pages: 0,
            all_writes: 0,
            faults: Faults::default(),
            oracle: Oracle::default(),
        }
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    fn new_title(&mut self) -> String {
        format!("t{}", self.next())
    }

    /// Returns the marker of a folder or an item.
    pub(crate) fn marker<T>(&self, number: u32, key: T) -> Marker<T> {
        let marked_for = self.owners.get(&number).cloned();
        Marker {
            key,
            marked_for: marked_for.unwrap_or(MarkedFor::Unnamed),
        }
    }

    /// Returns our live items: those with a key and no other owner, in a folder of ours or in the mailbox's default
    /// task folder.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (u32, &SourceKey, &Item)> {
        self.items.iter().filter_map(|(id, item)| {
            let key = item.key.as_ref()?;
            let here = item.folder == OWN_FOLDER || self.folders.contains_key(&item.folder);
            (here && !self.owners.contains_key(id)).then_some((*id, key, item))
        })
    }

    /// Returns whether the person has a private item with this number in its title, even in a deleted folder.
    pub(crate) fn has_own_item(&self, title: u32) -> bool {
        let is_own_item = |item: &Item| item.key.is_none() && number_of(&item.task) == title;
        self.items.values().chain(self.binned.values()).any(is_own_item)
    }

    pub(crate) fn copies_of(&self, key: &SourceKey) -> Vec<(u32, &Item)> {
        self.copies()
            .filter(|(_, other, _)| *other == key)
            .map(|(id, _, item)| (id, item))
            .collect()
    }

    fn nth_task(&self, number: usize) -> Option<SourceKey> {
        let keys: Vec<&SourceKey> = self.source.keys().collect();
        keys.get(number % keys.len().max(1)).map(|key| (*key).clone())
    }

    fn nth_copy(&self, number: usize) -> Option<(u32, SourceKey)> {
        let copies: Vec<(u32, SourceKey)> = self.copies().map(|(id, key, _)| (id, key.clone())).collect();
        copies.get(number % copies.len().max(1)).cloned()
    }

    fn folder_of(&self, location: &LocationKey) -> Option<u32> {
        let found = self.folders.iter().find(|(_, marker)| *marker == location);
        found.map(|(id, _)| *id)
    }

    /// Records a write of a task at the source. Returns its new version.
    pub(crate) fn touch_task(&mut self, key: &SourceKey) -> u64 {
        let now = self.now;
        let task = self.source.get_mut(key).unwrap();
        task.version += 1;
        task.modified = now.div_euclid(1000);
        self.source_log.push(key.clone());
        task.version
    }

    /// Records a write of an item in the mailbox. Returns its new change key.
    pub(crate) fn touch_item(&mut self, id: u32) -> u64 {
        let change_key = u64::from(self.next());
        let modified = self.now + self.skew;
        if let Some(item) = self.items.get_mut(&id) {
            item.change_key = change_key;
            item.modified = modified;
            self.mailbox_log.push((item.folder, id));
        } else if let Some(item) = self.binned.get_mut(&id) {
            item.change_key = change_key;
        }
        change_key
    }

    pub(crate) fn add_item(&mut self, item: Item) -> u32 {
        let id = self.next();
        self.items.insert(id, item);
        id
    }

    pub(crate) fn remove_item(&mut self, id: u32) -> Option<Item> {
        let item = self.items.remove(&id)?;
        self.mailbox_log.push((item.folder, id));
        Some(item)
    }

    /// Moves an item to Deleted Items.
    pub(crate) fn delete_item(&mut self, id: u32) -> Option<Item> {
        let item = self.remove_item(id)?;
        self.deleted.extend(item.key.clone().zip(item.write_id.clone()));
        Some(item)
    }

    /// Adds a new task of the person.
    pub(crate) fn new_task(&mut self, key: &SourceKey, title: &str) -> Task {
        let task = Task {
            title: title.to_owned(),
            ..Task::default()
        };
        let new = SourceTask {
            task: task.clone(),
            version: 0,
            modified: 0,
            assigned: true,
            writable: true,
        };
        self.source.insert(key.clone(), new);
        self.touch_task(key);
        task
    }

    /// Begins a sync with these faults.
    pub(crate) fn begin_sync(&mut self, faults: Faults) {
        self.faults = faults;
        let read_only = self.source.iter().filter(|(_, task)| !task.writable);
        self.read_only = read_only.map(|(key, _)| key.clone()).collect();
    }

    /// Writes fields of an item for tasksync, as a mailbox server does. Returns the new change key.
    pub(crate) fn write_item(&mut self, id: u32, task: &Task, fields: FieldSet, write_id: &str) -> u64 {
        let found = self.items.get_mut(&id).or_else(|| self.binned.get_mut(&id));
        let item = found.unwrap();
        apply_fields(&mut item.task, task, fields);
        item.write_id = Some(write_id.to_owned());
        self.touch_item(id)
    }
}

/// Applies written fields as a mailbox server does.
pub(crate) fn apply_fields(item: &mut Task, task: &Task, fields: FieldSet) {
    for field in fields.iter() {
        match field {
            Field::Start => set_start(item, task.start),
            Field::Due => set_due(
                item,
                if fields.contains(Field::Start) {
                    task.due.max(task.start)
                } else {
                    task.due
                },
            ),
            Field::Progress => set_progress(item, task.status, task.percent),
            Field::Title
            | Field::Body
            | Field::Importance
            | Field::ActualWork
            | Field::TotalWork
            | Field::Categories => item.take(task, FieldSet::of(&[field])),
        }
    }
}

fn set_start(item: &mut Task, start: Option<Date>) {
    item.start = start;
    item.due = item.due.max(start);
}

fn set_due(item: &mut Task, due: Option<Date>) {
    item.due = due.or(item.start);
    if item.start > item.due {
        item.start = item.due;
    }
}

/// Mailboxes keep status and percentage consistent.
fn set_progress(item: &mut Task, status: Status, percent: Percent) {
    let one = Percent::from_percent(1.0);
    (item.status, item.percent) = match (status, percent) {
        (Status::Completed, _) | (_, Percent::DONE) => (Status::Completed, Percent::DONE),
        (Status::WaitingOnOthers | Status::Deferred, percent) => (status, percent),
        (Status::NotStarted, Percent::ZERO) => (status, percent),
        (Status::InProgress, Percent::ZERO) => (status, one),
        (Status::NotStarted | Status::InProgress, percent) => (Status::InProgress, percent),
    };
}
