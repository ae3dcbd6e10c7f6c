//! The part of a state that the idle check needs: small, and readable without the state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Signs, StateError, decode, encode};
use crate::model::{LocationKey, SourceKey};

/// The part of a state that the idle check needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// As in [`SyncState`](super::SyncState).
    pub source_cursor: Option<String>,
    /// As in [`SyncState`](super::SyncState).
    pub source_cursor_at: Option<Timestamp>,
    /// As in [`SyncState`](super::SyncState).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// As in [`SyncState`](super::SyncState).
    pub full_check_at: Option<Timestamp>,
    /// Ids of the folders, with their signs.
    pub folders: Vec<(String, Option<Signs>)>,
    /// Ids of linked tasks by location.
    pub linked: Vec<(LocationKey, Vec<i64>)>,
    /// Whether something is pending, held or unsettled, or lies in a folder whose signs are not watched. Such
    /// a user is never idle.
    pub unfinished: bool,
}

/// What the idle check reads of a stored [`Fingerprint`], borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IdleCheck<'a> {
    /// As in [`Fingerprint`].
    #[serde(borrow)]
    pub source_cursor: Option<&'a str>,
    /// As in [`Fingerprint`].
    pub source_cursor_at: Option<Timestamp>,
    /// As in [`Fingerprint`].
    #[serde(borrow, default)]
    pub identity: Option<&'a str>,
    /// As in [`Fingerprint`].
    pub full_check_at: Option<Timestamp>,
    /// As in [`Fingerprint`].
    #[serde(borrow)]
    pub folders: Vec<(&'a str, Option<Signs>)>,
    /// As in [`Fingerprint`].
    pub unfinished: bool,
}

impl<'a> IdleCheck<'a> {
    /// Reads a stored fingerprint and skips the ids of linked tasks, of which there may be many.
    ///
    /// # Errors
    /// The reason why the bytes cannot be used; the user is then not idle.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, StateError> {
        decode(bytes)
    }
}

impl Fingerprint {
    /// Returns the fingerprint in its stored form.
    ///
    /// # Errors
    /// A value cannot be written; this does not happen with the values of this type.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        encode(self)
    }

    /// Returns the fingerprint from its stored form.
    ///
    /// # Errors
    /// The reason why the bytes cannot be used; the user is then not idle.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        decode(bytes)
    }

    /// Returns the keys of the linked tasks.
    pub fn linked_keys(&self) -> impl Iterator<Item = SourceKey> {
        self.linked
            .iter()
            .flat_map(|(location, ids)| ids.iter().map(|&id| location.task(id)))
    }
}
