//! A user's saved sync state: links, cursors and last agreed values, in one versioned MessagePack blob; and the small
//! fingerprint the idle check needs instead of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::model::{FieldSet, LocationKey, SourceKey};
use crate::plan::{Agreed, Progress};

/// Version written by this build.
pub const VERSION: u16 = 1;

/// Cheap signs that a mailbox folder changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signs {
    /// Latest commit in the folder, in microseconds since 1970.
    pub latest_commit_us: i64,
    /// Deletions so far.
    pub deletions: i64,
}

/// A location of the user's tasks and its folder in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationState {
    /// Name the folder was given.
    pub name: String,
    /// Fields the location's tasks can hold.
    pub holds: FieldSet,
    /// Id of the folder.
    pub folder: String,
    /// How far the folder's changes were read; `None` before the first complete reading.
    pub cursor: Option<String>,
    /// The folder's signs before that reading.
    pub signs: Option<Signs>,
}

/// One task on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Id of the mailbox item.
    pub item: String,
    /// Version of the mailbox item that was last agreed.
    pub change_key: String,
    /// Version at the source that was last agreed.
    pub version: String,
    /// The values both sides agreed on.
    pub agreed: Agreed,
    /// Status and percent as the source holds them, which need not fit each other there.
    pub source_progress: Progress,
    /// tasksync is about to remove the mailbox copy itself: its absence says nothing about the person's wishes.
    pub removing: bool,
}

/// A task whose own write was refused: left alone until it changes on either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Version at the source when it was refused.
    pub version: Option<String>,
    /// Version in the mailbox when it was refused.
    pub change_key: Option<String>,
    /// Why.
    pub failure: Failure,
}

/// Everything that is remembered about one user between two syncs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncState {
    /// How far the source's changes were read; `None` before the first complete listing.
    pub source_cursor: Option<String>,
    /// When that position was stored.
    pub source_cursor_at: Option<Timestamp>,
    /// When everything was last compared.
    pub full_check_at: Option<Timestamp>,
    /// Locations with their folders.
    pub locations: BTreeMap<LocationKey, LocationState>,
    /// Tasks that are on both sides.
    pub links: BTreeMap<SourceKey, Link>,
    /// Tasks to look at again on both sides, whatever the cursors say: work that was not finished.
    pub pending: BTreeSet<SourceKey>,
    /// Tasks whose deletion the guard holds back; looked at again like pending ones.
    pub held: BTreeSet<SourceKey>,
    /// Tasks that were refused.
    pub parked: BTreeMap<SourceKey, Parked>,
}

/// What the idle check needs: small, and readable without the state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// As in [`SyncState`].
    pub source_cursor: Option<String>,
    /// As in [`SyncState`].
    pub source_cursor_at: Option<Timestamp>,
    /// As in [`SyncState`].
    pub full_check_at: Option<Timestamp>,
    /// Folders with their signs.
    pub folders: Vec<(String, Option<Signs>)>,
    /// Ids of linked tasks, by location.
    pub linked: Vec<(LocationKey, Vec<i64>)>,
    /// Something is pending or held: never idle.
    pub unfinished: bool,
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
    /// The state as bytes.
    ///
    /// # Errors
    /// When a value cannot be written; does not happen with values this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        encode(self)
    }

    /// The state from bytes.
    ///
    /// # Errors
    /// Says why the bytes cannot be used; the caller then compares everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        decode(bytes)
    }

    /// The state's fingerprint.
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
            full_check_at: self.full_check_at,
            folders: self
                .locations
                .values()
                .map(|place| (place.folder.clone(), place.signs))
                .collect(),
            linked: linked.into_iter().collect(),
            unfinished: !self.pending.is_empty() || !self.held.is_empty(),
        }
    }

    /// The location whose folder has this id.
    #[must_use]
    pub fn location_of_folder(&self, folder: &str) -> Option<&LocationKey> {
        self.locations
            .iter()
            .find(|(_, place)| place.folder == folder)
            .map(|(key, _)| key)
    }
}

impl Fingerprint {
    /// The fingerprint as bytes.
    ///
    /// # Errors
    /// When a value cannot be written; does not happen with values this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        encode(self)
    }

    /// The fingerprint from bytes.
    ///
    /// # Errors
    /// Says why the bytes cannot be used; the user is then not idle.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        decode(bytes)
    }

    /// Keys of the linked tasks.
    pub fn linked_keys(&self) -> impl Iterator<Item = SourceKey> {
        self.linked
            .iter()
            .flat_map(|(location, ids)| ids.iter().map(|&id| location.task(id)))
    }
}
