//! A user's saved sync state: links, cursors and last agreed values in one versioned MessagePack blob, and
//! the small fingerprint that the idle check reads instead.

mod fingerprint;
mod link;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::fingerprint::{Fingerprint, IdleCheck};
pub use self::link::{FailingWrite, LetGo, LetGoReason, Link, Parked, Writing};
use crate::error::Failure;
use crate::model::{FieldSet, LocationKey, SourceKey};

/// Largest number of foreign markers that are recorded for one mailbox.
const MOST_FOREIGN: usize = 50;

/// Version of the format that this build writes.
pub const VERSION: u16 = 1;

/// Cheap signs of a change in a mailbox folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signs {
    /// Time of the latest commit in the folder, in microseconds since 1970.
    pub latest_commit_us: i64,
    /// Number of deletions so far.
    pub deletions: i64,
    /// Digest of the id of the parent folder; 0 if the server does not report it. A folder that is moved to
    /// Deleted Items keeps its id and its other signs.
    #[serde(default)]
    pub parent: u64,
}

/// A location of the user's tasks and its folder in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationState {
    /// The name that was given to the folder.
    pub name: String,
    /// Whether `name` was read from the folder when it was found again; a number may have been added to it.
    #[serde(default, rename = "found", skip_serializing_if = "std::ops::Not::not")]
    pub name_read_from_folder: bool,
    /// Fields that the location's tasks can hold.
    pub holds: FieldSet,
    /// Id of the folder.
    pub folder: String,
    /// The cursor of the folder's changes; `None` before the first complete reading.
    pub cursor: Option<String>,
    /// The folder's signs, read before that reading.
    pub signs: Option<Signs>,
}

/// The state of one user between two syncs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncState {
    /// The cursor of the source's changes; `None` before the first complete listing.
    pub source_cursor: Option<String>,
    /// When that cursor was stored.
    pub source_cursor_at: Option<Timestamp>,
    /// The person's identity at the source, in the source's own form; `None` before a listing reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Time of the last full comparison.
    pub full_check_at: Option<Timestamp>,
    /// Locations with their folders.
    pub locations: BTreeMap<LocationKey, LocationState>,
    /// Links of the tasks that are on both sides.
    pub links: BTreeMap<SourceKey, Link>,
    /// Unfinished tasks: the next pass looks at them on both sides, whatever the cursors say.
    pub pending: BTreeSet<SourceKey>,
    /// The failures because of which tasks are pending, where there is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<SourceKey, Failure>,
    /// Pending tasks whose writes keep failing. A build that does not know this field counts nothing and
    /// retries them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<SourceKey, FailingWrite>,
    /// Lists and sites that could not be read. Their tasks stay as they are; the next full check reads them
    /// again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<LocationKey, Failure>,
    /// Lists whose dates are neither read nor written, with the reason. All other fields of their tasks are
    /// synced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub without_dates: BTreeMap<LocationKey, Failure>,
    /// Linked items that their folder's listing no longer shows. This is the first of the answers that must
    /// agree before a task counts as deleted in the mailbox.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_folder: BTreeSet<SourceKey>,
    /// Linked tasks that the source's feed or listing no longer shows. This is the first of the answers that
    /// must agree before a copy is removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_source: BTreeSet<SourceKey>,
    /// Markers in the mailbox that have another owner: the key in the marker, and the owner as text. The
    /// items and folders that bear them are left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub foreign: BTreeMap<String, String>,
    /// Tasks whose deletion the guard holds back. Like pending tasks, they are looked at in every pass.
    pub held: BTreeSet<SourceKey>,
    /// Writes that were begun and whose results were not saved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub writing: BTreeMap<SourceKey, Writing>,
    /// Tasks that were refused, with the refusal.
    pub parked: BTreeMap<SourceKey, Parked>,
    /// Tasks that stay at the source without a copy. A build that does not know this field recreates the
    /// copies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub let_go: BTreeMap<SourceKey, LetGo>,
    /// Tasks whose copy was made after the cursor of its folder. A folder never reports an item that was
    /// created and deleted between two cursors, so the deletion of such a copy would not be reported until
    /// the next reading of the folder shows the copy.
    #[serde(default, rename = "fresh", skip_serializing_if = "BTreeSet::is_empty")]
    pub unconfirmed_copies: BTreeSet<SourceKey>,
}

/// Why stored bytes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes are not a state, or they are damaged.
    #[error("the saved sync state cannot be read: {0}")]
    Unreadable(String),
    /// A newer build wrote the state.
    #[error("the saved sync state has version {found}; this build reads up to {VERSION}")]
    NewerVersion {
        /// The version that was found.
        found: u16,
    },
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    rmp_serde::to_vec_named(&(VERSION, value)).map_err(|error| StateError::Unreadable(error.to_string()))
}

fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, StateError> {
    match rmp_serde::from_slice::<(u16, T)>(bytes) {
        Ok((found, value)) if found <= VERSION => Ok(value),
        Ok((found, _)) => Err(StateError::NewerVersion { found }),
        // The version comes first, so a newer format can be distinguished from damaged bytes.
        Err(error) => match rmp_serde::from_slice::<(u16, serde::de::IgnoredAny)>(bytes) {
            Ok((found, _)) if found > VERSION => Err(StateError::NewerVersion { found }),
            _ => Err(StateError::Unreadable(error.to_string())),
        },
    }
}

impl SyncState {
    /// Returns the state in its stored form.
    ///
    /// # Errors
    /// A value cannot be written; this does not happen with the values of this type.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        encode(self)
    }

    /// Returns the state from its stored form.
    ///
    /// # Errors
    /// The reason why the bytes cannot be used; the caller then compares everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        decode(bytes)
    }

    /// Returns the state's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut linked: BTreeMap<LocationKey, Vec<i64>> = BTreeMap::new();
        for key in self.links.keys() {
            if let Some(id) = key.item_id() {
                linked.entry(key.location()).or_default().push(id);
            }
        }
        Fingerprint {
            source_cursor: self.source_cursor.clone(),
            source_cursor_at: self.source_cursor_at,
            identity: self.identity.clone(),
            full_check_at: self.full_check_at,
            folders: self
                .locations
                .values()
                .map(|location_state| (location_state.folder.clone(), location_state.signs))
                .collect(),
            linked: linked.into_iter().collect(),
            unfinished: !self.pending.is_empty()
                || !self.held.is_empty()
                || self.writing.keys().any(|key| !self.parked.contains_key(key))
                || self
                    .links
                    .iter()
                    .any(|(key, link)| link.is_unsettled() && !self.parked.contains_key(key))
                || self.moved_copies().next().is_some(),
        }
    }

    /// Returns the links of the items that lie in this folder, which is the folder of `location`.
    pub fn links_in<'a>(
        &'a self,
        location: &'a LocationKey,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a SourceKey, &'a Link)> {
        self.links
            .iter()
            .filter(move |(key, link)| match &link.other_folder {
                Some(elsewhere) => elsewhere == folder,
                None => key.location() == *location,
            })
    }

    /// Removes a folder that is gone. The person did not delete the items in it, so their links are marked
    /// until each copy is recreated.
    pub fn forget_folder(&mut self, location: &LocationKey) {
        let Some(location_state) = self.locations.remove(location) else {
            return;
        };
        let lost: BTreeSet<SourceKey> = self
            .links_in(location, &location_state.folder)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &lost {
            if let Some(link) = self.links.get_mut(key) {
                link.lose_folder();
            }
        }
    }

    /// Returns the tasks whose items the person moved into a folder of their own, where no sign shows
    /// changes.
    pub fn moved_copies(&self) -> impl Iterator<Item = &SourceKey> {
        self.links
            .iter()
            .filter(|(_, link)| self.is_moved(link))
            .map(|(key, _)| key)
    }

    fn is_moved(&self, link: &Link) -> bool {
        link.other_folder
            .as_deref()
            .is_some_and(|folder| self.location_of_folder(folder).is_none())
    }

    /// Returns whether a copy of this task will be made unless one is found.
    #[must_use]
    pub fn lacks_copy(&self, key: &SourceKey) -> bool {
        !self.links.contains_key(key) && !self.let_go.contains_key(key)
    }

    /// Returns the task whose copy has this id.
    #[must_use]
    pub fn linked_to(&self, item: &str) -> Option<&SourceKey> {
        self.links
            .iter()
            .find(|(_, link)| link.item == item)
            .map(|(key, _)| key)
    }

    /// Records a marker with another owner, up to 50 per mailbox.
    pub fn record_foreign_marker(&mut self, key: &str, owner: &str) {
        if self.foreign.len() < MOST_FOREIGN || self.foreign.contains_key(key) {
            self.foreign.insert(key.to_owned(), owner.to_owned());
        }
    }

    /// Returns the location whose folder has this id.
    #[must_use]
    pub fn location_of_folder(&self, folder: &str) -> Option<&LocationKey> {
        self.locations
            .iter()
            .find(|(_, location_state)| location_state.folder == folder)
            .map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Agreed, Progress};

    fn link(item: &str, elsewhere: Option<&str>) -> Link {
        Link {
            version: "1".to_owned(),
            ..Link::unagreed(item, "ck", elsewhere.map(str::to_owned))
        }
    }

    fn state() -> SyncState {
        let (a, b) = (
            LocationKey::sharepoint_list("a"),
            LocationKey::sharepoint_list("b"),
        );
        let location_state = |folder: &str| LocationState {
            name: folder.to_owned(),
            name_read_from_folder: false,
            holds: FieldSet::ALL,
            folder: folder.to_owned(),
            cursor: Some("1".to_owned()),
            signs: None,
        };
        SyncState {
            locations: BTreeMap::from([
                (a.clone(), location_state("folder a")),
                (b.clone(), location_state("folder b")),
            ]),
            links: BTreeMap::from([
                (a.task(1), link("at home", None)),
                (a.task(2), link("moved", Some("folder b"))),
                (b.task(3), link("in b", None)),
            ]),
            ..SyncState::default()
        }
    }

    #[test]
    fn the_idle_check_reads_what_the_fingerprint_holds() {
        let fingerprint = Fingerprint {
            source_cursor: Some("cursor".to_owned()),
            source_cursor_at: Some(Timestamp::UNIX_EPOCH),
            identity: Some("ana".to_owned()),
            full_check_at: None,
            ..state().fingerprint()
        };
        let bytes = fingerprint.encode().unwrap();
        let check = IdleCheck::decode(&bytes).unwrap();
        assert_eq!(check.source_cursor, fingerprint.source_cursor.as_deref());
        assert_eq!(check.source_cursor_at, fingerprint.source_cursor_at);
        assert_eq!(check.identity, fingerprint.identity.as_deref());
        assert_eq!(check.full_check_at, fingerprint.full_check_at);
        assert_eq!(check.unfinished, fingerprint.unfinished);
        let folders = fingerprint
            .folders
            .iter()
            .map(|(id, signs)| (id.as_str(), *signs));
        assert_eq!(check.folders, folders.collect::<Vec<_>>());
        let newer = rmp_serde::to_vec_named(&(VERSION + 1, &fingerprint)).unwrap();
        assert_eq!(
            IdleCheck::decode(&newer),
            Err(StateError::NewerVersion { found: VERSION + 1 })
        );
    }

    #[test]
    fn what_lay_in_a_folder_is_lost_with_it_and_nothing_else() {
        let (a, b) = (
            LocationKey::sharepoint_list("a"),
            LocationKey::sharepoint_list("b"),
        );
        let lost = |location: &LocationKey| {
            let mut state = state();
            state.forget_folder(location);
            assert!(!state.locations.contains_key(location));
            let lost = state.links.iter().filter(|(_, link)| link.has_lost_its_folder());
            lost.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(lost(&a), [a.task(1)]);
        assert_eq!(lost(&b), [a.task(2), b.task(3)]);
    }

    #[test]
    fn a_user_with_an_open_end_is_never_idle() {
        let mut open = [state(), state(), state(), state(), state()];
        assert!(!state().fingerprint().unfinished);
        let key = LocationKey::sharepoint_list("a").task(1);
        open[0].pending.insert(key.clone());
        open[1].held.insert(key.clone());
        open[2]
            .links
            .insert(key.clone(), Link::unagreed("item", "ck", None));
        open[3].forget_folder(&key.location());
        let link = link("item", None);
        open[4].writing.insert(key, Writing::Source { link });
        assert!(open.iter().all(|state| state.fingerprint().unfinished));
    }

    #[test]
    fn links_of_an_earlier_build_are_read() {
        #[derive(Serialize)]
        struct Earlier {
            item: &'static str,
            change_key: &'static str,
            version: &'static str,
            agreed: Agreed,
            source_progress: Progress,
            removing: bool,
        }
        let bytes = rmp_serde::to_vec_named(&Earlier {
            item: "item",
            change_key: "ck",
            version: "1",
            agreed: Agreed::default(),
            source_progress: Progress::default(),
            removing: false,
        });
        let read: Link = rmp_serde::from_slice(&bytes.unwrap()).unwrap();
        assert_eq!(read, link("item", None));
    }
}
