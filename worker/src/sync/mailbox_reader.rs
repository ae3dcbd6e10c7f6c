//! Reading one user's mailbox: which folders and items are read, and in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::state::{LocationState, Signs, SyncState};
use tokio::time::Instant;

use super::in_time;
use super::mailbox_reading::MailboxReading;
use super::markers::{MarkerOwnership, ownership_of};
use super::source_reader::SourceReading;
use crate::mailbox::{FolderId, ItemChange, Mailbox, MailboxItem, Owner, ProbeRequest, Probed};

/// Pages of changes read from one folder in one pass; at 512 items a page, half a million items.
const MAXIMUM_PAGES: usize = 1_000;
/// Bytes of item ids and versions accepted for one folder's changes, enough for about 80,000 items of
/// Exchange.
const LISTING_BYTES: usize = 16 * 1024 * 1024;

/// Reads one mailbox.
pub(super) struct MailboxReader<'a> {
    pub(super) mailbox: &'a dyn Mailbox,
    pub(super) owner: &'a Owner,
    pub(super) state: &'a mut SyncState,
    pub(super) source: &'a SourceReading,
    /// Signs of folders, read before the folders themselves.
    pub(super) signs: BTreeMap<String, Option<Signs>>,
    /// Whether every folder is listed from the start.
    pub(super) full: bool,
    /// Linked tasks whose values are read even though their versions did not change.
    pub(super) deep: BTreeSet<SourceKey>,
    pub(super) deadline: Instant,
    pub(super) reading: MailboxReading,
}

/// The items present in a folder with their versions, the ids that left it, and the new cursor.
pub(super) type FolderChanges = (BTreeMap<String, String>, BTreeSet<String>, String);

impl MailboxReader<'_> {
    /// Returns the mailbox's side. `folder_gone` is true if the survey found a folder missing.
    pub(super) async fn read(mut self, folder_gone: bool) -> Result<MailboxReading, Failure> {
        self.probe_unknown().await?;
        let look_for_folders = self.full || folder_gone || self.has_moved_folder();
        // A pending task may have a folder whose creation was not saved because the pass was interrupted.
        let unknown_folder = self
            .source
            .present()
            .chain(&self.state.pending)
            .any(|key| !self.state.locations.contains_key(&key.location()));
        if look_for_folders || unknown_folder {
            self.find_folders().await?;
        }
        self.probe_unknown().await?;
        for (location, mut stored) in self.state.locations.clone() {
            in_time(self.deadline)?;
            let current_signs = self.signs.get(&stored.folder).copied().flatten();
            let unmoved = current_signs.is_some() && current_signs == stored.signs && stored.cursor.is_some();
            if unmoved && !look_for_folders && !self.must_be_listed(&location) {
                continue;
            }
            if self.full || self.must_be_listed(&location) {
                stored.cursor = None;
            }
            self.read_folder(&location, &stored, current_signs).await?;
        }
        if self.reading.is_doubtful() {
            // List our folders again: an interrupted pass may have left one that is not in the state.
            self.find_folders().await?;
            self.reread_folders().await?;
        }
        self.read_by_id().await?;
        in_time(self.deadline)?;
        self.find_moved().await?;
        if self.reading.folder_vanished {
            self.mark_missing_as_lost();
        }
        self.confirm_gone().await?;
        self.find_deleted().await?;
        Ok(self.reading)
    }

    /// Returns whether the folder must be listed from the start to find the copy of a pending task without a
    /// link, because the mailbox cannot be searched by key.
    fn must_be_listed(&self, location: &LocationKey) -> bool {
        let unlinked = |key: &SourceKey| key.location() == *location && !self.state.links.contains_key(key);
        !self.mailbox.capabilities().search_by_key && self.state.pending.iter().any(unlinked)
    }

    /// Returns whether tasks of this location lack a copy and the mailbox cannot be searched by key.
    fn only_a_listing_finds_copies(&self, location: &LocationKey) -> bool {
        !self.mailbox.capabilities().search_by_key && !self.lacking_copies(location).is_empty()
    }

    /// Returns the tasks of this location whose copies will be made unless they are found.
    pub(super) fn lacking_copies(&self, location: &LocationKey) -> Vec<SourceKey> {
        self.source
            .present()
            .filter(|key| key.location() == *location && self.state.lacks_copy(key))
            .cloned()
            .collect()
    }

    /// Marks the links of copies that are missing everywhere: a folder vanished in this pass, and they may
    /// have been moved into it.
    fn mark_missing_as_lost(&mut self) {
        let (items, links) = (&self.reading.items, &mut self.state.links);
        self.reading.missing_from_folder.retain(|key| {
            let met = items.contains_key(key);
            if !met && let Some(link) = links.get_mut(key) {
                link.lose_folder();
            }
            met
        });
    }

    /// Returns whether a folder has another parent than before. It may be in the deleted items, where it
    /// keeps its id.
    fn has_moved_folder(&self) -> bool {
        self.state.locations.values().any(|stored| {
            let current_signs = self.signs.get(&stored.folder).copied().flatten();
            matches!((current_signs, stored.signs), (Some(current_signs), Some(before)) if current_signs.parent != before.parent)
        })
    }

    /// Reads what changed in the folders since they were read in this pass.
    async fn reread_folders(&mut self) -> Result<(), Failure> {
        for (location, mut stored) in self.state.locations.clone() {
            in_time(self.deadline)?;
            let mut before = self.signs.get(&stored.folder).copied().flatten();
            if let Some((cursor, signs)) = self.reading.reached.get(&location) {
                stored.cursor = Some(cursor.clone());
                before = *signs;
            }
            self.read_folder(&location, &stored, before).await?;
        }
        Ok(())
    }

    /// Reads the signs of folders that the survey did not probe. Signs are read before the folder, so that a
    /// change in between is noticed in the next pass.
    async fn probe_unknown(&mut self) -> Result<(), Failure> {
        if !self.mailbox.capabilities().signs {
            return Ok(());
        }
        let folders: Vec<FolderId> = self
            .state
            .locations
            .values()
            .filter(|stored| !self.signs.contains_key(&stored.folder))
            .map(|stored| FolderId(stored.folder.clone()))
            .collect();
        if folders.is_empty() {
            return Ok(());
        }
        let request = ProbeRequest {
            mailbox: self.owner.mailbox.clone(),
            folders: folders.clone(),
        };
        let Some(answer) = self.mailbox.probe(&[request]).await.pop() else {
            return Ok(());
        };
        for (folder, probed) in folders.into_iter().zip(answer?) {
            let now = match probed {
                Probed::Signs(now) => Some(now),
                Probed::Gone | Probed::Unknown => None,
            };
            self.signs.insert(folder.0, now);
        }
        Ok(())
    }

    async fn read_folder(
        &mut self,
        location: &LocationKey,
        stored: &LocationState,
        signs: Option<Signs>,
    ) -> Result<(), Failure> {
        let folder = FolderId(stored.folder.clone());
        let mut complete = stored.cursor.is_none();
        let mut changes = self.all_changes(&folder, stored.cursor.clone()).await;
        if matches!(&changes, Err(failure) if failure.class == ErrorClass::CursorInvalid) {
            complete = true;
            changes = self.all_changes(&folder, None).await;
        }
        let (mut present, gone, cursor) = match changes {
            Ok(changes) => changes,
            Err(failure) if failure.class == ErrorClass::Gone => {
                return self.folder_refused(location, &folder, failure).await;
            }
            Err(failure) => return Err(failure),
        };
        let only_listed = complete && self.only_a_listing_finds_copies(location);
        if only_listed {
            // One listing may leave out a copy, which would then be made a second time.
            let (again, _, _) = self.all_changes(&folder, None).await?;
            present.extend(again);
        }
        self.reading.drop_gone(&gone);
        let listed = present.keys().map(|id| (id.clone(), stored.folder.clone()));
        self.reading.folder_of_item.extend(listed);
        let linked: HashMap<&str, (&SourceKey, &str)> = self
            .state
            .links
            .iter()
            .map(|(key, link)| (link.item.as_str(), (key, link.change_key.as_str())))
            .collect();
        let left: Vec<SourceKey> = gone
            .iter()
            .filter_map(|id| linked.get(id.as_str()))
            .map(|(key, _)| (*key).clone())
            .collect();
        let seen: Vec<SourceKey> = present
            .keys()
            .filter_map(|id| linked.get(id.as_str()))
            .map(|(key, _)| (*key).clone())
            .collect();
        let unread: Vec<String> = present
            .iter()
            .filter(|(id, change_key)| {
                linked
                    .get(id.as_str())
                    .is_none_or(|(key, agreed)| agreed != change_key || self.deep.contains(*key))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for key in &seen {
            self.state.left_folder.remove(key);
            self.reading.missing_from_folder.remove(key);
        }
        self.state.left_folder.extend(left.iter().cloned());
        self.reading.missing_from_folder.extend(left);
        self.read_items(&unread).await?;
        if only_listed {
            self.confirm_vanished(location, &unread).await?;
        }
        if complete {
            self.missing_from_listing(location, &folder, &present).await?;
        } else {
            self.fresh_in_listing(location, &present).await?;
        }
        let fresh = self
            .state
            .unconfirmed_copies
            .iter()
            .filter(|key| key.location() == *location);
        self.reading.confirmed.extend(fresh.cloned());
        self.reading.reached.insert(location.clone(), (cursor, signs));
        Ok(())
    }

    /// Handles a folder that a request called missing: it is forgotten only if a read of its id agrees.
    async fn folder_refused(
        &mut self,
        location: &LocationKey,
        folder: &FolderId,
        failure: Failure,
    ) -> Result<(), Failure> {
        let gone = self.confirm_folders_gone(std::slice::from_ref(folder)).await?;
        if gone.contains(&folder.0) {
            // The folder vanished between the probe and this read.
            self.state.forget_folder(location);
            self.reading.drop_folder(&folder.0);
            return Ok(());
        }
        Err(Failure::new(
            ErrorClass::Transient,
            Code::AnswersDisagree,
            format!(
                "a read of a folder's id finds it, and a reading of its changes does not: {}",
                failure.detail
            ),
        ))
    }

    /// Returns every change of a folder since the cursor.
    pub(super) async fn all_changes(
        &self,
        folder: &FolderId,
        mut cursor: Option<String>,
    ) -> Result<FolderChanges, Failure> {
        let (mut present, mut gone) = (BTreeMap::new(), BTreeSet::new());
        let mut bytes = 0_usize;
        for _ in 0..MAXIMUM_PAGES {
            let page = self
                .mailbox
                .changes(self.owner, folder, cursor.as_deref())
                .await?;
            for change in page.changes {
                bytes = bytes.saturating_add(change.bytes());
                match change {
                    ItemChange::Present(item) => {
                        gone.remove(&item.id);
                        present.insert(item.id, item.change_key);
                    }
                    ItemChange::Gone { id } => {
                        present.remove(&id);
                        gone.insert(id);
                    }
                }
            }
            if page.last {
                return Ok((present, gone, page.cursor));
            }
            if bytes > LISTING_BYTES {
                return Err(Failure::new(
                    ErrorClass::Transient,
                    Code::BudgetExhausted,
                    format!(
                        "the changes of a folder of {} have more than {LISTING_BYTES} bytes of ids",
                        self.owner.mailbox
                    ),
                ));
            }
            if cursor.as_ref() == Some(&page.cursor) {
                break;
            }
            cursor = Some(page.cursor);
        }
        Err(Failure::new(
            ErrorClass::Transient,
            Code::AnswersDisagree,
            format!("the changes of a folder of {} do not end", self.owner.mailbox),
        ))
    }

    /// Reads by id the linked items that a complete listing of their folder does not show.
    async fn missing_from_listing(
        &mut self,
        location: &LocationKey,
        folder: &FolderId,
        present: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let missing: Vec<(SourceKey, String)> = self
            .state
            .links_in(location, &folder.0)
            .filter(|(_, link)| !link.has_lost_its_folder() && !present.contains_key(&link.item))
            .map(|(key, link)| (key.clone(), link.item.clone()))
            .collect();
        let ids: Vec<String> = missing.iter().map(|(_, item)| item.clone()).collect();
        self.state
            .left_folder
            .extend(missing.into_iter().map(|(key, _)| key));
        self.read_items(&ids).await
    }

    /// Reads by id the fresh copies that their folder's changes do not show: they may have been deleted
    /// already.
    async fn fresh_in_listing(
        &mut self,
        location: &LocationKey,
        present: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let missing: Vec<String> = self
            .state
            .unconfirmed_copies
            .iter()
            .filter(|key| key.location() == *location && !self.reading.missing_from_folder.contains(*key))
            .filter_map(|key| self.state.links.get(key))
            .filter(|link| !present.contains_key(&link.item))
            .map(|link| link.item.clone())
            .collect();
        self.read_items(&missing).await
    }

    /// Reads by id: pending, held and unsettled tasks always; parked tasks in a full check or if the source
    /// reports them; and tasks for which a second item appeared, to see whether the linked one still exists.
    async fn read_by_id(&mut self) -> Result<(), Failure> {
        let (state, reading) = (&*self.state, &self.reading);
        let wanted = |key: &SourceKey| {
            state.pending.contains(key)
                || state.held.contains(key)
                || (state.parked.contains_key(key) && (self.full || self.source.tasks.contains_key(key)))
                || reading.items.contains_key(key)
        };
        let ids: Vec<String> = state
            .links
            .iter()
            .filter(|(key, link)| wanted(key) || link.is_unsettled())
            .filter(|(key, link)| !link.has_lost_its_folder() && !reading.missing_from_folder.contains(*key))
            .filter(|(key, link)| {
                !reading
                    .items
                    .get(*key)
                    .is_some_and(|items| items.iter().any(|item| item.item.id == link.item))
            })
            .map(|(_, link)| link.item.clone())
            .collect();
        self.read_items(&ids).await
    }

    /// Reads items and groups them by their task. Items without our marker, and those of another owner, are
    /// ignored.
    pub(super) async fn read_items(&mut self, ids: &[String]) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let linked: HashMap<String, SourceKey> = self
            .state
            .links
            .iter()
            .map(|(key, link)| (link.item.clone(), key.clone()))
            .collect();
        // If an item is read twice in one pass, the later values count.
        let again: HashSet<&String> = ids.iter().collect();
        self.reading.drop_items(|id| again.contains(id));
        let answers = self.mailbox.items(self.owner, ids).await?;
        for (id, answer) in ids.iter().zip(answers) {
            let link = linked.get(id);
            match (answer, link) {
                (Ok(item), link) => self.sort_item(item, link),
                (Err(failure), Some(key)) if failure.class == ErrorClass::Gone => {
                    self.reading.missing_from_folder.insert(key.clone());
                }
                (Err(failure), None) if failure.class == ErrorClass::Gone => {
                    self.reading.vanished.insert(id.clone());
                    if let Some(key) = self.reading.key_of_item.get(id).cloned() {
                        self.record_undecided(
                            &key,
                            "the search by key finds an item that a read by its id does not",
                        );
                    }
                }
                (Err(failure), link) if failure.stops() == Stops::Part => {
                    // One damaged item must not stop the others. Its task is pending until the item can be
                    // read.
                    let key = link.or_else(|| self.reading.key_of_item.get(id));
                    tracing::warn!(mailbox = %self.owner.mailbox, task = key.map_or("", SourceKey::as_str),
                        code = %failure.code, detail = %failure.detail, "mailbox item cannot be read");
                    if let Some(key) = key.cloned() {
                        self.reading.undecided.insert(key, failure);
                    }
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(())
    }

    fn sort_item(&mut self, item: MailboxItem, link: Option<&SourceKey>) {
        match (
            item.marker
                .as_ref()
                .map(|marker| (marker, ownership_of(marker, self.owner))),
            link,
        ) {
            // A linked item keeps its task even if another program removed the property.
            (None, Some(key)) => self.reading.add_item(key.clone(), item),
            (None, None) => {}
            (Some((marker, MarkerOwnership::OwnMarker | MarkerOwnership::Unnamed)), link) => {
                let key = marker.key.clone();
                // The item is linked to one task and bears the key of another: the answer to the write that
                // linked it belonged to another request.
                if let Some(wrong) = link.filter(|wrong| **wrong != key)
                    && let Some(link) = self.state.links.get_mut(wrong)
                {
                    link.lose_folder();
                }
                self.reading.add_item(key, item);
            }
            (Some((marker, MarkerOwnership::Foreign(owner))), link) => {
                self.state.record_foreign_marker(marker.key.as_str(), &owner);
                if let Some(key) = link.cloned() {
                    self.record_undecided(&key, "the item bears the marker of another owner");
                }
            }
        }
    }
}
