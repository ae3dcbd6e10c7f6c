//! A user's saved sync state: links, cursors and last agreed values, in one versioned MessagePack blob; and the small
//! fingerprint the idle check needs instead of it.

mod fingerprint;
mod link;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::fingerprint::{Fingerprint, IdleCheck};
pub use self::link::{Failing, LetGo, LetGoReason, Link, Parked, Writing};
use crate::error::Failure;
use crate::model::{FieldSet, LocationKey, SourceKey};

/// Most foreign markers that are noted of one mailbox.
const MOST_FOREIGN: usize = 50;

/// Version written by this build.
pub const VERSION: u16 = 1;

/// Cheap signs that a mailbox folder changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signs {
    /// Latest commit in the folder, in microseconds since 1970.
    pub latest_commit_us: i64,
    /// Deletions so far.
    pub deletions: i64,
    /// Digest of the id of the folder above; 0 when the server does not tell it. A folder that is moved to the deleted
    /// items keeps its id and its other signs.
    #[serde(default)]
    pub parent: u64,
}

/// A location of the user's tasks and its folder in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationState {
    /// Name the folder was given.
    pub name: String,
    /// The name is the one the folder showed when it was found again: a number may have been added to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// Fields the location's tasks can hold.
    pub holds: FieldSet,
    /// Id of the folder.
    pub folder: String,
    /// How far the folder's changes were read; `None` before the first complete reading.
    pub cursor: Option<String>,
    /// The folder's signs before that reading.
    pub signs: Option<Signs>,
}

/// Everything that is remembered about one user between two syncs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncState {
    /// How far the source's changes were read; `None` before the first complete listing.
    pub source_cursor: Option<String>,
    /// When that position was stored.
    pub source_cursor_at: Option<Timestamp>,
    /// Who the person is at the source, in the source's own form; `None` before a listing told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// When everything was last compared.
    pub full_check_at: Option<Timestamp>,
    /// Locations with their folders.
    pub locations: BTreeMap<LocationKey, LocationState>,
    /// Tasks that are on both sides.
    pub links: BTreeMap<SourceKey, Link>,
    /// Tasks to look at again on both sides, whatever the cursors say: work that was not finished.
    pub pending: BTreeSet<SourceKey>,
    /// Why pending tasks are pending, where a failure is the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<SourceKey, Failure>,
    /// Pending tasks whose writes keep failing. A build that does not know this list counts nothing and tries them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<SourceKey, Failing>,
    /// Lists and sites that could not be read. Their tasks stay as they are; they are read again at the next full check.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<LocationKey, Failure>,
    /// Lists whose dates are neither read nor written, with the reason. Everything else of their tasks is synced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub without_dates: BTreeMap<LocationKey, Failure>,
    /// Linked items that their folder's listing no longer shows: the first of the answers that must agree before a task
    /// counts as deleted in the mailbox.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_folder: BTreeSet<SourceKey>,
    /// Linked tasks that the source's feed or listing no longer shows: the first of the answers that must agree before a
    /// copy is removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_source: BTreeSet<SourceKey>,
    /// Markers in the mailbox that belong to somebody else, by the key they name, with their owner as text. What bears them
    /// is left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub foreign: BTreeMap<String, String>,
    /// Tasks whose deletion the guard holds back; looked at again like pending ones.
    pub held: BTreeSet<SourceKey>,
    /// Writes that were begun, and of whose ends nothing was saved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub writing: BTreeMap<SourceKey, Writing>,
    /// Tasks that were refused.
    pub parked: BTreeMap<SourceKey, Parked>,
    /// Tasks whose copy is gone and that stay at the source. A build that does not know this list makes their copies again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub let_go: BTreeMap<SourceKey, LetGo>,
    /// Tasks whose mailbox copy was made after the position in its folder: until the next reading of the folder shows the
    /// copy, its deletion would not be reported, because an item that comes and goes between two positions never is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fresh: BTreeSet<SourceKey>,
}

/// Why stored bytes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not a state, or damaged.
    #[error("the saved sync state cannot be read: {0}")]
    Unreadable(String),
    /// Written by a newer build.
    #[error("the saved sync state has version {found}; this build reads up to {VERSION}")]
    NewerVersion {
        /// Version found.
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
        // The version stands first, so that a newer form is told from a damaged one.
        Err(error) => match rmp_serde::from_slice::<(u16, serde::de::IgnoredAny)>(bytes) {
            Ok((found, _)) if found > VERSION => Err(StateError::NewerVersion { found }),
            _ => Err(StateError::Unreadable(error.to_string())),
        },
    }
}

impl SyncState {
    /// Returns the state as bytes.
    ///
    /// # Errors
    /// When a value cannot be written; does not happen with values this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        encode(self)
    }

    /// Returns the state from bytes.
    ///
    /// # Errors
    /// Says why the bytes cannot be used; the caller then compares everything.
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
                .map(|place| (place.folder.clone(), place.signs))
                .collect(),
            linked: linked.into_iter().collect(),
            unfinished: !self.pending.is_empty()
                || !self.held.is_empty()
                || self.writing.keys().any(|key| !self.parked.contains_key(key))
                || self
                    .links
                    .iter()
                    .any(|(key, link)| link.is_unsettled() && !self.parked.contains_key(key))
                || self.outside().next().is_some(),
        }
    }

    /// Links whose items lie in this folder, which is the location's.
    pub fn links_in<'a>(
        &'a self,
        location: &'a LocationKey,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a SourceKey, &'a Link)> {
        self.links
            .iter()
            .filter(move |(key, link)| match &link.elsewhere {
                Some(elsewhere) => elsewhere == folder,
                None => key.location() == *location,
            })
    }

    /// Forgets a folder that is gone. The person did not delete the items in it, so their links are marked until each copy is
    /// made again.
    pub fn forget_folder(&mut self, location: &LocationKey) {
        let Some(place) = self.locations.remove(location) else {
            return;
        };
        let lost: BTreeSet<SourceKey> = self
            .links_in(location, &place.folder)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &lost {
            if let Some(link) = self.links.get_mut(key) {
                link.lose_folder();
            }
        }
    }

    /// Tasks whose item the person moved into a folder that is none of ours, where no sign tells of changes.
    pub fn outside(&self) -> impl Iterator<Item = &SourceKey> {
        self.links
            .iter()
            .filter(|(_, link)| self.is_outside(link))
            .map(|(key, _)| key)
    }

    fn is_outside(&self, link: &Link) -> bool {
        link.elsewhere
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

    /// Notes a marker of somebody else, of at most 50.
    pub fn note_foreign(&mut self, key: &str, owner: &str) {
        if self.foreign.len() < MOST_FOREIGN || self.foreign.contains_key(key) {
            self.foreign.insert(key.to_owned(), owner.to_owned());
        }
    }

    /// Returns the location whose folder has this id.
    #[must_use]
    pub fn location_of_folder(&self, folder: &str) -> Option<&LocationKey> {
        self.locations
            .iter()
            .find(|(_, place)| place.folder == folder)
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
            ..Link::found(item, "ck", elsewhere.map(str::to_owned))
        }
    }

    fn state() -> SyncState {
        let (a, b) = (
            LocationKey::sharepoint_list("a"),
            LocationKey::sharepoint_list("b"),
        );
        let place = |folder: &str| LocationState {
            name: folder.to_owned(),
            found: false,
            holds: FieldSet::ALL,
            folder: folder.to_owned(),
            cursor: Some("1".to_owned()),
            signs: None,
        };
        SyncState {
            locations: BTreeMap::from([(a.clone(), place("folder a")), (b.clone(), place("folder b"))]),
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
        open[2].links.insert(key.clone(), Link::found("item", "ck", None));
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
