//! What a pass found in a mailbox. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::Failure;
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::state::{Signs, SyncState};

use crate::mailbox::{FolderId, ItemRef, MailboxItem};
use crate::source::Presence;

/// The mailbox's side as far as it was read.
#[derive(Default)]
pub(super) struct MailboxReading {
    /// Items with our key that were read, by key.
    pub(super) items: BTreeMap<SourceKey, Vec<MailboxItem>>,
    /// Linked items that are not in their folder any more.
    pub(super) gone: BTreeSet<SourceKey>,
    /// Of these, those whose items lie in the mailbox's archive.
    pub(super) archived: BTreeSet<SourceKey>,
    /// Tasks whose copy cannot be read, or about which two answers contradict each other.
    pub(super) undecided: BTreeMap<SourceKey, Failure>,
    /// Ids of tasksync's last writes into items that lie in the deleted items, by key, when they were looked for.
    pub(super) deleted: BTreeMap<SourceKey, Vec<String>>,
    /// A folder is gone.
    pub(super) folder_vanished: bool,
    /// Folders of the items that were listed, by the items' ids.
    pub(super) places: BTreeMap<String, String>,
    /// Linked items that the search by key found where it is their own id.
    pub(super) found: BTreeSet<SourceKey>,
    /// Items without a link that were listed or found, and that a read by their id did not find.
    pub(super) vanished: BTreeSet<String>,
    /// The keys of items that the search found, by the items' ids.
    pub(super) expected: BTreeMap<String, SourceKey>,
    /// Ids in folders that were listed from the start for evidence, by folder.
    pub(super) listings: BTreeMap<String, BTreeSet<String>>,
    /// Fresh copies that were shown by their folder, or were looked for by id.
    pub(super) confirmed: BTreeSet<SourceKey>,
    /// Every task folder of the mailbox, when they were listed.
    pub(super) task_folders: Option<Vec<FolderId>>,
    /// Folders of ours whose markers name no owner yet.
    pub(super) unnamed_folders: Vec<FolderId>,
    /// Items of ours whose markers name no owner yet, by their tasks.
    pub(super) unnamed_items: BTreeMap<SourceKey, ItemRef>,
    /// How far each folder was read.
    pub(super) reached: BTreeMap<LocationKey, (String, Option<Signs>)>,
}

impl MailboxReading {
    /// Tasks something is known of.
    pub(super) fn keys(&self) -> impl Iterator<Item = &SourceKey> {
        self.items.keys().chain(&self.gone)
    }

    /// Tasks the source has to be asked about: every copy that was read and is not what was agreed, and whatever is missing
    /// here. The answer also says whether the person may edit the task.
    pub(super) fn questions_for_source(
        &self,
        state: &SyncState,
        known: &BTreeMap<SourceKey, Presence>,
    ) -> BTreeSet<SourceKey> {
        self.items
            .keys()
            .chain(&self.gone)
            .chain(lost_with_their_folder(state))
            .filter(|key| !known.contains_key(*key))
            .cloned()
            .collect()
    }

    /// Whether a linked item left its folder and was not met in another one, or one task was met twice: either may
    /// come from a move while the folders were read one after the other.
    pub(super) fn is_doubtful(&self) -> bool {
        let missed = self.gone.iter().any(|key| !self.items.contains_key(key));
        missed || self.items.values().any(|items| items.len() > 1)
    }

    /// Takes over an item that was read.
    pub(super) fn take(&mut self, key: SourceKey, item: MailboxItem) {
        self.undecided.remove(&key);
        self.items.entry(key).or_default().push(item);
    }

    /// Items that are not in the folder any more in which they were read.
    pub(super) fn drop_gone(&mut self, gone: &BTreeSet<String>) {
        for id in gone {
            self.places.remove(id);
        }
        self.drop_items(|id| gone.contains(id));
    }

    /// Items that were read in a folder that went since.
    pub(super) fn drop_folder(&mut self, folder: &str) {
        self.folder_vanished = true;
        let places = std::mem::take(&mut self.places);
        self.drop_items(|id| places.get(id).is_some_and(|place| place == folder));
        self.places = places;
    }

    pub(super) fn drop_items(&mut self, dropped: impl Fn(&String) -> bool) {
        for items in self.items.values_mut() {
            items.retain(|item| !dropped(&item.item.id));
        }
        self.items.retain(|_, items| !items.is_empty());
    }
}

/// Linked items whose folder is gone.
pub(super) fn lost_with_their_folder(state: &SyncState) -> impl Iterator<Item = &SourceKey> {
    state
        .links
        .iter()
        .filter(|(_, link)| link.has_lost_its_folder())
        .map(|(key, _)| key)
}
