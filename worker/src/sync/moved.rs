//! Searching by key for items that the person moved to another folder, before they count as gone.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::{ErrorClass, Failure, Stops};
use tasksync_common::model::SourceKey;

use super::mailbox_reader::MailboxReader;
use super::mailbox_reading::lost_with_their_folder;
use super::markers::{MarkerOwnership, ownership_of};
use crate::mailbox::{FolderId, MarkedItem};

/// Stands for the mailbox's own task folder in a link's `other_folder`; no real id is this short.
const TASKS_FOLDER: &str = "tasks";

impl MailboxReader<'_> {
    /// Searches every task folder for items whose place is unknown: items reported as gone, items moved
    /// earlier, and copies of unlinked tasks (of pending ones; in a full check, of all). The search does not
    /// cover the deleted items.
    pub(super) async fn find_moved(&mut self) -> Result<(), Failure> {
        let missing = self.tasks_to_search();
        if (missing.is_empty() && !self.full) || !self.mailbox.capabilities().search_by_key {
            return Ok(());
        }
        let folders = self.task_folders().await?;
        let mut found: BTreeMap<SourceKey, Vec<MarkedItem>> = BTreeMap::new();
        let listed = match self.marked_items(&folders, &missing).await {
            Ok(listed) => listed,
            // For tasks without a link the listing of their folder is enough; nothing is deleted because of
            // it.
            Err(failure)
                if !self.full
                    && failure.class == ErrorClass::Refused
                    && failure.stops() != Stops::Tenant
                    && !missing.iter().any(|key| self.state.links.contains_key(key)) =>
            {
                tracing::info!(mailbox = %self.owner.mailbox, code = %failure.code, detail = %failure.detail,
                    "the task folders cannot be searched; copies that lie elsewhere are not found");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        for item in listed {
            match ownership_of(&item.marker, self.owner) {
                MarkerOwnership::Foreign(owner) => {
                    self.state.record_foreign_marker(item.marker.key.as_str(), &owner);
                    continue;
                }
                MarkerOwnership::Unnamed => {
                    let unnamed = &mut self.reading.unnamed_items;
                    unnamed.insert(item.marker.key.clone(), item.item.clone());
                }
                MarkerOwnership::OwnMarker => {}
            }
            let folder = item
                .folder
                .as_ref()
                .map_or(TASKS_FOLDER, |folder| folder.0.as_str());
            self.reading
                .folder_of_item
                .insert(item.item.id.clone(), folder.to_owned());
            let key = item.marker.key.clone();
            self.reading.key_of_item.insert(item.item.id.clone(), key.clone());
            found.entry(key).or_default().push(item);
        }
        let mut unread = Vec::new();
        for key in missing {
            let items = found.remove(&key).unwrap_or_default();
            unread.extend(self.record_search_result(&key, &items, &folders));
        }
        if self.full {
            // Second items of linked tasks, wherever they are, and the linked items beside them. An item that was
            // moved after its folder was read looks like a second one and is the only one.
            for (key, items) in &found {
                let second = self.second_items(key, items);
                if !second.is_empty() {
                    unread.extend(self.linked_item(key));
                }
                unread.extend(second);
            }
        }
        self.read_items(&unread).await
    }

    /// Returns the items with our marker in these folders. If the mailbox has folders of ours and a task has
    /// no link, searches twice and returns the union: a copy that one answer leaves out would be made a
    /// second time.
    async fn marked_items(
        &self,
        folders: &[FolderId],
        missing: &BTreeSet<SourceKey>,
    ) -> Result<Vec<MarkedItem>, Failure> {
        let mut listed = self.mailbox.list_marked(self.owner, folders).await?;
        let unlinked = missing.iter().any(|key| self.state.lacks_copy(key));
        if unlinked && !self.state.locations.is_empty() {
            for item in self.mailbox.list_marked(self.owner, folders).await? {
                if listed.iter().all(|other| other.item.id != item.item.id) {
                    listed.push(item);
                }
            }
        }
        Ok(listed)
    }

    /// Returns every task folder of the mailbox. They are listed once in a pass.
    pub(super) async fn task_folders(&mut self) -> Result<Vec<FolderId>, Failure> {
        if let Some(folders) = &self.reading.task_folders {
            return Ok(folders.clone());
        }
        let listed = self.mailbox.folders(self.owner).await?;
        let folders: Vec<FolderId> = listed.into_iter().map(|folder| folder.id).collect();
        self.reading.task_folders = Some(folders.clone());
        Ok(folders)
    }

    /// Returns the ids of a task's items that are neither linked nor read already.
    fn second_items(&self, key: &SourceKey, items: &[MarkedItem]) -> Vec<String> {
        let linked = self.state.links.get(key).map(|link| link.item.as_str());
        items
            .iter()
            .map(|item| item.item.id.as_str())
            .filter(|id| Some(*id) != linked && !self.is_read(key, id))
            .map(str::to_owned)
            .collect()
    }

    /// Returns the id of a task's linked item, if it was not read in this pass.
    fn linked_item(&self, key: &SourceKey) -> Option<String> {
        let link = self
            .state
            .links
            .get(key)
            .filter(|link| !link.has_lost_its_folder())?;
        (!self.is_read(key, &link.item)).then(|| link.item.clone())
    }

    /// Returns whether this item of a task was read in this pass.
    fn is_read(&self, key: &SourceKey, id: &str) -> bool {
        let read = self.reading.items.get(key);
        read.is_some_and(|items| items.iter().any(|item| item.item.id == id))
    }

    /// Returns the tasks whose items have to be searched for.
    fn tasks_to_search(&self) -> BTreeSet<SourceKey> {
        let mut missing: BTreeSet<SourceKey> = self
            .reading
            .missing_from_folder
            .iter()
            .chain(lost_with_their_folder(self.state))
            .filter(|key| !self.reading.items.contains_key(*key))
            .chain(self.state.moved_copies())
            .cloned()
            .collect();
        // After a loss of state, a moved item would otherwise be created a second time; so would one that
        // could not be read.
        let unlinked = self.source.present().filter(|key| {
            (self.full || self.state.pending.contains(*key))
                && !self.state.links.contains_key(*key)
                && !self.reading.items.contains_key(*key)
        });
        missing.extend(unlinked.cloned());
        missing
    }

    /// Records what the search found for one task. Returns the ids to read.
    fn record_search_result(
        &mut self,
        key: &SourceKey,
        items: &[MarkedItem],
        folders: &[FolderId],
    ) -> Vec<String> {
        let (state, reading) = (&mut *self.state, &mut self.reading);
        let Some(link) = state.links.get_mut(key) else {
            return items.iter().map(|item| item.item.id.clone()).collect();
        };
        if let Some(item) = items.iter().find(|item| item.item.id == link.item) {
            reading.found_linked.insert(key.clone());
            // If it was missed, it is read once more: the search contradicts the answer that missed it.
            let missed = reading.missing_from_folder.remove(key);
            let changed = missed || item.item.change_key != link.change_key;
            let linked = changed.then(|| item.item.id.clone());
            return linked.into_iter().chain(self.second_items(key, items)).collect();
        }
        // That a folder vanished does not mean that the person deleted the tasks in it.
        let folder_went = link
            .other_folder
            .as_ref()
            .is_some_and(|folder| folder != TASKS_FOLDER && !folders.iter().any(|other| other.0 == *folder));
        if folder_went {
            link.lose_folder();
        } else if !link.has_lost_its_folder() {
            reading.missing_from_folder.insert(key.clone());
        }
        items.iter().map(|item| item.item.id.clone()).collect()
    }
}
