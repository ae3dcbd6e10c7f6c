//! Confirming that a missing copy was deleted: every answer must agree.

use std::collections::BTreeSet;

use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::{LocationKey, SourceKey};

use super::mailbox_reader::MailboxReader;
use super::markers::{MarkerOwnership, ownership_of};
use crate::mailbox::{FolderId, FolderPresence, Whereabouts};

impl MailboxReader<'_> {
    /// Confirms for every missing copy that its folder's listing does not show it, that two searches by key
    /// did not find it, and that a read by its id says "not found" or "in the deleted items". A copy is
    /// undecided if one answer says otherwise or cannot be read.
    pub(super) async fn confirm_gone(&mut self) -> Result<(), Failure> {
        let missing: Vec<(SourceKey, String)> = self
            .reading
            .missing_from_folder
            .iter()
            .filter(|key| !self.reading.items.contains_key(*key))
            .filter_map(|key| Some((key.clone(), self.state.links.get(key)?.item.clone())))
            .collect();
        let mut confirmed = Vec::new();
        for (key, item) in missing {
            if self.reading.found_linked.contains(&key) {
                self.record_undecided(&key, "the search by key finds it, and a read by its id does not");
            } else if self.reading.folder_of_item.contains_key(&item)
                || self.still_listed(&key, &item).await?
            {
                self.record_undecided(&key, "its folder lists it, and a read by its id does not find it");
            } else {
                confirmed.push((key, item));
            }
        }
        if confirmed.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = confirmed.iter().map(|(_, item)| item.clone()).collect();
        let answers = self.mailbox.whereabouts(self.owner, &ids).await?;
        let mut answers = answers.into_iter();
        for (key, _) in confirmed {
            match answers.next() {
                Some(Ok(Whereabouts::NotFound | Whereabouts::Deleted)) => {}
                Some(Ok(Whereabouts::In(_))) => {
                    self.record_undecided(
                        &key,
                        "it lies in a folder that is neither listed nor below the deleted items",
                    );
                }
                Some(Err(failure)) => {
                    self.reading.missing_from_folder.remove(&key);
                    self.reading.undecided.insert(key, failure);
                }
                None => self.record_undecided(&key, "a read by its id was not answered"),
            }
        }
        self.search_again().await?;
        self.check_archive().await
    }

    /// Records which missing copies the mailbox moved to its archive: they were not deleted. Where the archive
    /// cannot be read, the copies are undecided.
    async fn check_archive(&mut self) -> Result<(), Failure> {
        let gone = self.missing_everywhere();
        if gone.is_empty() || !self.mailbox.capabilities().archive {
            return Ok(());
        }
        match self.mailbox.list_archived(self.owner).await {
            Ok(items) => {
                let archived =
                    items
                        .into_iter()
                        .filter(|item| match ownership_of(&item.marker, self.owner) {
                            MarkerOwnership::OwnMarker | MarkerOwnership::Unnamed => {
                                gone.contains(&item.marker.key)
                            }
                            MarkerOwnership::Foreign(_) => false,
                        });
                self.reading.archived.extend(archived.map(|item| item.marker.key));
                Ok(())
            }
            Err(failure) if failure.stops() == Stops::Part => {
                for key in gone {
                    self.reading.missing_from_folder.remove(&key);
                    self.reading.undecided.insert(key, failure.clone());
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the linked items that are gone and for which no other item was found.
    fn missing_everywhere(&self) -> BTreeSet<SourceKey> {
        let (gone, items) = (&self.reading.missing_from_folder, &self.reading.items);
        gone.iter()
            .filter(|key| !items.contains_key(*key))
            .cloned()
            .collect()
    }

    /// Searches by key a second time. A copy that the person moved has a new id and left its folder, so only
    /// the search distinguishes it from a deleted one. With two searches, one answer that leaves something
    /// out deletes nothing.
    async fn search_again(&mut self) -> Result<(), Failure> {
        let gone = self.missing_everywhere();
        if gone.is_empty() || !self.mailbox.capabilities().search_by_key {
            return Ok(());
        }
        let folders = self.task_folders().await?;
        for item in self.mailbox.list_marked(self.owner, &folders).await? {
            let is_ours = !matches!(
                ownership_of(&item.marker, self.owner),
                MarkerOwnership::Foreign(_)
            );
            if is_ours && gone.contains(&item.marker.key) {
                self.record_undecided(
                    &item.marker.key,
                    "a second search by key finds it, and the first one did not",
                );
            }
        }
        Ok(())
    }

    /// Returns whether the item's folder lists it: `false` if the folder reported earlier that the item left;
    /// otherwise the folder is listed from the start.
    async fn still_listed(&mut self, key: &SourceKey, item: &str) -> Result<bool, Failure> {
        if self.state.left_folder.contains(key) {
            return Ok(false);
        }
        let home = self.state.locations.get(&key.location());
        let elsewhere = self
            .state
            .links
            .get(key)
            .and_then(|link| link.other_folder.clone());
        let Some(folder) = elsewhere.or_else(|| home.map(|stored| stored.folder.clone())) else {
            return Ok(false);
        };
        // In a folder that the person made, the search by key is the listing.
        if self.state.location_of_folder(&folder).is_none() {
            self.state.left_folder.insert(key.clone());
            return Ok(false);
        }
        if !self.reading.listings.contains_key(&folder) {
            let listed = match self.all_changes(&FolderId(folder.clone()), None).await {
                Ok((present, _, _)) => present.into_keys().collect::<BTreeSet<_>>(),
                Err(failure) if failure.class == ErrorClass::Gone => BTreeSet::new(),
                Err(failure) => return Err(failure),
            };
            self.reading.listings.insert(folder.clone(), listed);
        }
        let listed = self
            .reading
            .listings
            .get(&folder)
            .is_some_and(|listed| listed.contains(item));
        if !listed {
            self.state.left_folder.insert(key.clone());
        }
        Ok(listed)
    }

    /// Asks again for listed items that a read by their ids did not find. Such items have no link, so it is
    /// unknown which tasks they are copies of: if one still exists, no copy of this location is made in this
    /// pass.
    pub(super) async fn confirm_vanished(
        &mut self,
        location: &LocationKey,
        listed: &[String],
    ) -> Result<(), Failure> {
        let vanished = |id: &&String| self.reading.vanished.contains(*id);
        let ids: Vec<String> = listed.iter().filter(vanished).cloned().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let answers = self.mailbox.whereabouts(self.owner, &ids).await?;
        let all_gone = answers
            .iter()
            .all(|answer| matches!(answer, Ok(Whereabouts::NotFound | Whereabouts::Deleted)));
        if !all_gone || answers.len() != ids.len() {
            for key in self.lacking_copies(location) {
                self.record_undecided(
                    &key,
                    "an item that may be its copy is listed, and a read by its id does not find it",
                );
            }
        }
        Ok(())
    }

    /// Records that nothing is decided about this task in this pass.
    pub(super) fn record_undecided(&mut self, key: &SourceKey, reason: &str) {
        self.reading.missing_from_folder.remove(key);
        self.state.left_folder.remove(key);
        let failure = Failure::new(
            ErrorClass::Transient,
            Code::AnswersDisagree,
            format!("the copy of {key}: {reason}"),
        );
        self.reading.undecided.insert(key.clone(), failure);
    }

    /// Returns which of these folders a read by their ids confirms as gone. They are folders that the listing
    /// does not show, or that a request called missing.
    pub(super) async fn confirm_folders_gone(
        &self,
        folders: &[FolderId],
    ) -> Result<BTreeSet<String>, Failure> {
        if folders.is_empty() {
            return Ok(BTreeSet::new());
        }
        let answers = self.mailbox.folders_exist(self.owner, folders).await?;
        let mut gone = BTreeSet::new();
        for (folder, answer) in folders.iter().zip(answers) {
            match answer? {
                FolderPresence::NotFound | FolderPresence::Deleted => {
                    gone.insert(folder.0.clone());
                }
                FolderPresence::Exists => {}
            }
        }
        Ok(gone)
    }
}
