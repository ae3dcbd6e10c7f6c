//! Sync states as the build before markers had owners reads and writes them, for tests of an upgrade.
//!
//! The types are copies of that build's types; types with the same form in both builds are those of this
//! build. That build wrote the files in `data`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{FieldSet, LocationKey, SourceKey};
use crate::plan::{Agreed, Progress};
use crate::state::Signs;

/// A state that the earlier build wrote, with every field filled.
pub const STATE: &[u8] = include_bytes!("data/earlier-state.msgpack");
/// The fingerprint of [`STATE`], which the earlier build wrote.
pub const FINGERPRINT: &[u8] = include_bytes!("data/earlier-fingerprint.msgpack");

const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct LocationState {
    name: String,
    holds: FieldSet,
    folder: String,
    cursor: Option<String>,
    signs: Option<Signs>,
}

#[derive(Serialize, Deserialize)]
struct Link {
    item: String,
    change_key: String,
    version: String,
    agreed: Agreed,
    source_progress: Progress,
    removing: bool,
    #[serde(default)]
    own: FieldSet,
    #[serde(default)]
    elsewhere: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Writing {
    Source { link: Link },
    Mailbox { id: String, link: Link },
}

#[derive(Serialize, Deserialize)]
enum Class {
    Transient,
    Throttled { retry_after: Option<Duration> },
    Conflict,
    Gone,
    ItemPermanent,
    MailboxPermanent,
    TenantPermanent,
    CursorInvalid,
    OutcomeUnknown,
}

/// The codes of the earlier build. It refuses a document with any other code.
const CODES: &str = "exchange-unreachable exchange-timeout exchange-busy exchange-sign-in-refused exchange-forbidden \
    exchange-impersonation-denied exchange-mailbox-missing exchange-mailbox-denied exchange-mailbox-unavailable \
    exchange-mailbox-full exchange-item-refused exchange-item-gone exchange-conflict exchange-folder-gone \
    exchange-sync-state-invalid exchange-bad-answer exchange-answer-too-large exchange-outcome-unknown exchange-error \
    sharepoint-unreachable sharepoint-timeout sharepoint-busy sharepoint-sign-in-refused sharepoint-denied \
    sharepoint-site-missing sharepoint-list-gone sharepoint-item-gone sharepoint-item-refused sharepoint-conflict \
    sharepoint-token-expired sharepoint-user-unknown sharepoint-bad-answer sharepoint-answer-too-large \
    sharepoint-outcome-unknown sharepoint-error token-refused token-unreachable secret-unavailable address-refused \
    registry-unavailable registry-occupied schedule-unavailable redis-unavailable queue-unavailable queue-full \
    queue-access-refused queue-missing queue-mismatch job-refused settings-wrong state-conflict state-unreadable guard-held \
    time-zone-unknown user-unknown tenant-unknown claim-lost budget-exhausted internal-panic";

#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct Code(String);

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0
    }
}

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if CODES.split_whitespace().any(|code| code == text) {
            Ok(Self(text))
        } else {
            Err(format!("unknown variant `{text}`"))
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Failure {
    class: Class,
    code: Code,
    detail: String,
}

#[derive(Serialize, Deserialize)]
struct Parked {
    version: Option<String>,
    change_key: Option<String>,
    failure: Failure,
}

#[derive(Serialize, Deserialize)]
struct SyncState {
    source_cursor: Option<String>,
    source_cursor_at: Option<Timestamp>,
    full_check_at: Option<Timestamp>,
    locations: BTreeMap<LocationKey, LocationState>,
    links: BTreeMap<SourceKey, Link>,
    pending: BTreeSet<SourceKey>,
    held: BTreeSet<SourceKey>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    writing: BTreeMap<SourceKey, Writing>,
    parked: BTreeMap<SourceKey, Parked>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    fresh: BTreeSet<SourceKey>,
}

#[derive(Serialize, Deserialize)]
struct Fingerprint {
    source_cursor: Option<String>,
    source_cursor_at: Option<Timestamp>,
    full_check_at: Option<Timestamp>,
    folders: Vec<(String, Option<Signs>)>,
    linked: Vec<(LocationKey, Vec<i64>)>,
    unfinished: bool,
}

fn through<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (version, value): (u16, T) = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
    if version > VERSION {
        return Err(format!("version {version}"));
    }
    rmp_serde::to_vec_named(&(version, value)).map_err(|error| error.to_string())
}

/// Returns the bytes of a state as the earlier build saves them after it has read `bytes`.
///
/// # Errors
/// The reason why the earlier build cannot read them.
pub fn state(bytes: &[u8]) -> Result<Vec<u8>, String> {
    through::<SyncState>(bytes)
}

/// Returns the bytes of a fingerprint as the earlier build saves them after it has read `bytes`.
///
/// # Errors
/// The reason why the earlier build cannot read them.
pub fn fingerprint(bytes: &[u8]) -> Result<Vec<u8>, String> {
    through::<Fingerprint>(bytes)
}

/// Checks that the earlier build can read a failure of the registry, a JSON document.
///
/// # Errors
/// The reason why it cannot.
pub fn failure(document: &str) -> Result<(), String> {
    serde_json::from_str::<Failure>(document)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;
    use crate::state;

    #[test]
    fn a_state_of_the_earlier_build_is_read_whole() {
        let plan = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000001");
        let other = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000002");
        let read = state::SyncState::decode(STATE).unwrap();
        assert_eq!(read.source_cursor.as_deref(), Some("sp1|cursor"));
        assert_eq!(read.locations[&other].name, "Other (2)");
        assert_eq!(read.locations[&plan].signs.unwrap().parent, 77);
        assert_eq!(read.links.len(), 5);
        assert!(read.links[&plan.task(2)].has_lost_its_folder());
        assert_eq!(
            read.links[&plan.task(3)].other_folder.as_deref(),
            Some("a-folder-of-the-person")
        );
        assert!(read.links[&other.task(4)].removing);
        assert!(!read.links[&other.task(5)].is_agreed());
        assert_eq!(read.writing.len(), 2);
        assert_eq!(
            (read.pending.len(), read.held.len(), read.unconfirmed_copies.len()),
            (2, 1, 1)
        );
        let refused = &read.parked[&plan.task(6)].failure;
        assert_eq!(
            (refused.class, refused.scope),
            (error::ErrorClass::Refused, error::Scope::Item)
        );
        let full = &read.parked[&plan.task(7)].failure;
        assert_eq!(
            (full.class, full.scope),
            (error::ErrorClass::Refused, error::Scope::Mailbox)
        );
        assert_eq!(
            state::Fingerprint::decode(FINGERPRINT).unwrap(),
            read.fingerprint()
        );
        let check = state::IdleCheck::decode(FINGERPRINT).unwrap();
        assert_eq!(check.source_cursor, read.source_cursor.as_deref());
    }

    #[test]
    fn the_earlier_build_reads_what_this_one_saves_and_loses_only_what_it_does_not_know() {
        // The types above are those of the earlier build, because they produce its bytes.
        assert_eq!(super::state(STATE).unwrap(), STATE);
        assert_eq!(fingerprint(FINGERPRINT).unwrap(), FINGERPRINT);
        let plain = state::SyncState::decode(STATE).unwrap();
        let mut full = plain.clone();
        let key = plain.links.keys().next().unwrap().clone();
        let other = error::Failure::new(
            error::ErrorClass::Transient,
            error::Code::AnswersDisagree,
            "one answer",
        );
        full.reasons.insert(key.clone(), other.clone());
        full.unread.insert(key.location(), other.clone());
        let failing = state::FailingWrite {
            passes: 2,
            refusal: state::Parked {
                version: None,
                change_key: None,
                failure: other,
            },
        };
        full.failing.insert(key.clone(), failing);
        full.left_folder.insert(key.clone());
        full.left_source.insert(key.clone());
        full.record_foreign_marker("key", "somebody");
        full.links.get_mut(&key).unwrap().unsent = true;
        full.locations
            .values_mut()
            .for_each(|location_state| location_state.name_read_from_folder = true);
        let refused = key.location().task(6);
        full.parked.get_mut(&refused).unwrap().failure.code = error::Code::ExchangeForeignAnswer;
        let seen = super::state(&full.encode().unwrap()).unwrap();
        let mut expected = plain;
        expected.parked.get_mut(&refused).unwrap().failure.code = error::Code::ExchangeBadAnswer;
        assert_eq!(state::SyncState::decode(&seen).unwrap(), expected);
        let prints = fingerprint(&full.fingerprint().encode().unwrap());
        assert!(prints.is_ok(), "{prints:?}");
        let unknown: Vec<_> = error::Code::ALL
            .iter()
            .map(|code| error::Failure::new(error::ErrorClass::Refused, *code, "x"))
            .filter_map(|document| failure(&serde_json::to_string(&document).unwrap()).err())
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
