//! What a pass read from a mailbox. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::Failure;
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::state::{Signs, SyncState};

use crate::mailbox::{FolderId, ItemRef, MailboxItem};
use crate::source::TaskPresence;

/// The mailbox's side, filled step by step while it is read.
#[derive(Default)]
pub(super) struct MailboxReading {
    /// Items with our marker that were read, by task.
    pub(super) items: BTreeMap<SourceKey, Vec<MailboxItem>>,
    /// Linked items that are no longer in their folder.
    pub(super) missing_from_folder: BTreeSet<SourceKey>,
    /// Of the `gone` ones, those whose items are in the mailbox's archive.
    pub(super) archived: BTreeSet<SourceKey>,
    /// Tasks whose copy cannot be read, or about which two answers disagree.
    pub(super) undecided: BTreeMap<SourceKey, Failure>,
    /// Write ids found on items in the deleted items, by task, if they were looked for.
    pub(super) deleted: BTreeMap<SourceKey, Vec<String>>,
    /// Whether a folder is gone.
    pub(super) folder_vanished: bool,
    /// The folder of each listed item, by item id.
    pub(super) folder_of_item: BTreeMap<String, String>,
    /// Linked items that the search by key found under their linked id.
    pub(super) found_linked: BTreeSet<SourceKey>,
    /// Items without a link that were listed or found by the search, and that a read by their id did not
    /// find.
    pub(super) vanished: BTreeSet<String>,
    /// The keys of the items that the search found, by item id.
    pub(super) key_of_item: BTreeMap<String, SourceKey>,
    /// The ids in each folder that was listed from the start as evidence, by folder.
    pub(super) listings: BTreeMap<String, BTreeSet<String>>,
    /// Fresh copies that their folder showed, or that were looked up by id.
    pub(super) confirmed: BTreeSet<SourceKey>,
    /// Every task folder of the mailbox, once they were listed.
    pub(super) task_folders: Option<Vec<FolderId>>,
    /// Folders of ours whose markers name no owner yet.
    pub(super) unnamed_folders: Vec<FolderId>,
    /// Items of ours whose markers name no owner yet, by task.
    pub(super) unnamed_items: BTreeMap<SourceKey, ItemRef>,
    /// The new cursor and the signs of each folder that was read.
    pub(super) reached: BTreeMap<LocationKey, (String, Option<Signs>)>,
}

impl MailboxReading {
    /// Returns the tasks that were found or are gone.
    pub(super) fn keys(&self) -> impl Iterator<Item = &SourceKey> {
        self.items.keys().chain(&self.missing_from_folder)
    }

    /// Returns the tasks to look up at the source: every copy whose values were read, and every copy that is
    /// missing here. The answer also says whether the person may edit the task.
    pub(super) fn questions_for_source(
        &self,
        state: &SyncState,
        source_tasks: &BTreeMap<SourceKey, TaskPresence>,
    ) -> BTreeSet<SourceKey> {
        self.items
            .keys()
            .chain(&self.missing_from_folder)
            .chain(lost_with_their_folder(state))
            .filter(|key| !source_tasks.contains_key(*key))
            .cloned()
            .collect()
    }

    /// Returns whether a linked item left its folder and was not found in another one, or one task has two
    /// items. Either may come from a move while the folders were read one after the other.
    pub(super) fn is_doubtful(&self) -> bool {
        let missed = self
            .missing_from_folder
            .iter()
            .any(|key| !self.items.contains_key(key));
        missed || self.items.values().any(|items| items.len() > 1)
    }

    /// Adds an item that was read.
    pub(super) fn add_item(&mut self, key: SourceKey, item: MailboxItem) {
        self.undecided.remove(&key);
        self.items.entry(key).or_default().push(item);
    }

    /// Drops items that are no longer in the folder in which they were read.
    pub(super) fn drop_gone(&mut self, gone: &BTreeSet<String>) {
        for id in gone {
            self.folder_of_item.remove(id);
        }
        self.drop_items(|id| gone.contains(id));
    }

    /// Drops the items that were read in a folder that has since vanished.
    pub(super) fn drop_folder(&mut self, folder: &str) {
        self.folder_vanished = true;
        let folder_of_item = std::mem::take(&mut self.folder_of_item);
        self.drop_items(|id| {
            folder_of_item
                .get(id)
                .is_some_and(|item_folder| item_folder == folder)
        });
        self.folder_of_item = folder_of_item;
    }

    pub(super) fn drop_items(&mut self, dropped: impl Fn(&String) -> bool) {
        for items in self.items.values_mut() {
            items.retain(|item| !dropped(&item.item.id));
        }
        self.items.retain(|_, items| !items.is_empty());
    }
}

/// Returns the tasks whose linked item was in a folder that is gone.
pub(super) fn lost_with_their_folder(state: &SyncState) -> impl Iterator<Item = &SourceKey> {
    state
        .links
        .iter()
        .filter(|(_, link)| link.has_lost_its_folder())
        .map(|(key, _)| key)
}
