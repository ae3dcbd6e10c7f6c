//! Finding the folder of each location in the mailbox.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{FieldSet, LocationKey};
use tasksync_common::state::LocationState;

use super::mailbox_reader::MailboxReader;
use super::markers::{MarkerOwnership, other_installation, ownership_of};
use crate::mailbox::{Folder, FolderId};

impl MailboxReader<'_> {
    /// Lists our folders: adopts folders of locations by their markers, and forgets folders that are
    /// confirmed gone.
    pub(super) async fn find_folders(&mut self) -> Result<(), Failure> {
        let listed = self.listed_folders().await?;
        self.reading.task_folders = Some(listed.iter().map(|folder| folder.id.clone()).collect());
        let ids: BTreeSet<&str> = listed.iter().map(|folder| folder.id.0.as_str()).collect();
        let missing: Vec<(LocationKey, String)> = self
            .state
            .locations
            .iter()
            .filter(|(_, stored)| !ids.contains(stored.folder.as_str()))
            .map(|(location, stored)| (location.clone(), stored.folder.clone()))
            .collect();
        let asked: Vec<FolderId> = missing
            .iter()
            .map(|(_, folder)| FolderId(folder.clone()))
            .collect();
        let gone = self.confirm_folders_gone(&asked).await?;
        for (location, folder) in missing {
            if gone.contains(&folder) {
                self.state.forget_folder(&location);
                self.reading.drop_folder(&folder);
            }
        }
        for (location, (folder, name)) in self.marked_folders_by_location(listed)? {
            let holds = self
                .source
                .locations
                .get(&location)
                .map_or(FieldSet::ALL, |described| described.holds);
            self.state.locations.entry(location).or_insert(LocationState {
                name,
                name_read_from_folder: true,
                holds,
                folder,
                cursor: None,
                signs: None,
            });
        }
        Ok(())
    }

    /// Returns every task folder. If a copy may have to be made, lists the folders twice and returns the
    /// union: a folder that one answer leaves out would hide the copies in it, and each would be made a
    /// second time.
    async fn listed_folders(&self) -> Result<Vec<Folder>, Failure> {
        let mut listed = self.mailbox.folders(self.owner).await?;
        if self.has_unlinked() {
            for folder in self.mailbox.folders(self.owner).await? {
                if listed.iter().all(|other| other.id != folder.id) {
                    listed.push(folder);
                }
            }
        }
        Ok(listed)
    }

    /// Returns whether a task of the source has no link; its copy is made unless one is found.
    fn has_unlinked(&self) -> bool {
        let mut present = self.source.present();
        present.any(|key| self.state.lacks_copy(key))
    }

    /// Returns the id and name of the folder with our marker for each location.
    ///
    /// # Errors
    /// `MailboxOfAnotherInstallation` for a folder of another installation: two installations would take each
    /// other's copies for the person's deletions.
    fn marked_folders_by_location(
        &mut self,
        listed: Vec<Folder>,
    ) -> Result<BTreeMap<LocationKey, (String, String)>, Failure> {
        let mut found: BTreeMap<LocationKey, (String, String)> = BTreeMap::new();
        self.reading.unnamed_folders.clear();
        for folder in listed {
            let Some(marker) = folder.marker else { continue };
            if let Some(other) = other_installation(&marker, self.owner) {
                return Err(Failure::new(
                    ErrorClass::Refused,
                    Code::MailboxOfAnotherInstallation,
                    format!(
                        "the folder \"{}\" of {} was made by installation {other} of tasksync; this one is {}",
                        folder.name.chars().take(80).collect::<String>(),
                        self.owner.mailbox,
                        self.owner.marker.installation
                    ),
                ));
            }
            match ownership_of(&marker, self.owner) {
                MarkerOwnership::Foreign(owner) => {
                    self.state.record_foreign_marker(marker.key.as_str(), &owner);
                    continue;
                }
                MarkerOwnership::Unnamed => self.reading.unnamed_folders.push(folder.id.clone()),
                MarkerOwnership::OwnMarker => {}
            }
            // If two folders bear one marker, the same one is chosen every time.
            let candidate = (folder.id.0, folder.name);
            found
                .entry(marker.key)
                .and_modify(|kept| *kept = candidate.clone().min(kept.clone()))
                .or_insert(candidate);
        }
        Ok(found)
    }
}
