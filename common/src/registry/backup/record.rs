//! The lines of a backup file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Failure;
use crate::model::{InstallationId, LocationKey, MailboxAddress, SourceKey, TenantId, UserId};
use crate::registry::{DeletionPermit, JournalKind, Tenant};
use crate::schedule::FailureStreak;

/// The format that this build writes, and the newest one that it reads.
pub const BACKUP_FORMAT: u64 = 1;

/// Number of records of each kind, by the kind's name.
pub type RecordCounts = BTreeMap<String, u64>;

/// The first line of a backup file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHeader {
    /// The format of the file; see [`BACKUP_FORMAT`].
    pub format: u64,
    /// The version of the build that wrote it.
    pub build: String,
    /// The installation whose registry it is.
    pub installation: InstallationId,
    /// When the registry had this content.
    pub made_at: Timestamp,
    /// Whether the registry was given up with this file (`tasksync export --move`), so that whatever is made
    /// from the file continues the installation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// Number of records that follow.
    pub records: RecordCounts,
    /// Kinds that a build may skip if it does not know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skippable: Vec<String>,
}

/// One record of a backup file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupRecord {
    /// A tenant.
    Tenant(Box<Tenant>),
    /// A person with everything about that person.
    Person(Box<PersonRecord>),
    /// An open alert about a tenant or person.
    Alert(Box<AlertRecord>),
    /// An open alert about a list or site.
    LocationAlert(Box<LocationAlertRecord>),
    /// An entry of the journal.
    Journal(Box<JournalRecord>),
}

impl BackupRecord {
    /// The names of all kinds, in the order of the file.
    pub const KINDS: [&'static str; 5] = ["tenant", "person", "alert", "location_alert", "journal"];

    /// Returns the name of the record's kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Person(_) => "person",
            Self::Alert(_) => "alert",
            Self::LocationAlert(_) => "location_alert",
            Self::Journal(_) => "journal",
        }
    }

    /// Returns the record as a copy of a living installation keeps it, or `None` if a copy does not have it.
    ///
    /// Tenants are disabled, so that the copy syncs no mailbox before an operator enables a tenant. Sync states
    /// are dropped, because they lead to folders and items that bear the original's id: without them the first
    /// sync looks at the markers and leaves the mailbox alone. Alerts and permits are about the original's
    /// syncs.
    #[must_use]
    pub fn for_copy(self) -> Option<Self> {
        match self {
            Self::Tenant(mut tenant) => {
                tenant.enabled = false;
                Some(Self::Tenant(tenant))
            }
            Self::Person(mut person) => {
                person.permit = None;
                if let Some(state) = &mut person.state {
                    state.content = None;
                }
                if let Some(stamp) = &mut person.stamp {
                    stamp.failing = None;
                }
                Some(Self::Person(person))
            }
            Self::Alert(_) | Self::LocationAlert(_) => None,
            Self::Journal(entry) => Some(Self::Journal(entry)),
        }
    }
}

/// A person who opted in, with permit, stamp and sync state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonRecord {
    /// The tenant.
    pub tenant: TenantId,
    /// The person's name in it.
    pub user: UserId,
    /// The sign-in name at the source.
    pub source_login: String,
    /// The mailbox.
    pub mailbox: MailboxAddress,
    /// The mailbox owner's time zone, if it is not the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// When the person opted in.
    pub opted_in_at: Timestamp,
    /// Why and since when the person is not synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<DisabledRecord>,
    /// The permission for one plan of held deletions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<DeletionPermit>,
    /// The place in the order of work; `None` before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<StampRecord>,
    /// The sync state; `None` if none was ever stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateRecord>,
}

/// Why and since when a person is not synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisabledRecord {
    /// Since when.
    pub since: Timestamp,
    /// The failure that disabled the person.
    pub failure: Failure,
}

/// The results of a person's attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StampRecord {
    /// The stamp (see `schedule`).
    pub stamp: Timestamp,
    /// End of the last successful sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// The failures in a row since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailureStreak>,
}

/// A person's sync state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRecord {
    /// The version that saving compares.
    pub version: u64,
    /// The state; `None` if it was dropped and only the version is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<StateContent>,
}

/// The bytes of a sync state, in Base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateContent {
    /// The part that the idle check needs.
    #[serde(with = "base64_bytes")]
    pub fingerprint: Vec<u8>,
    /// The whole state.
    #[serde(with = "base64_bytes")]
    pub state: Vec<u8>,
}

/// An open alert about a tenant or person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRecord {
    /// When it was first raised.
    pub since: Timestamp,
    /// The tenant.
    pub tenant: TenantId,
    /// The person, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The code under which it is open.
    pub code: String,
    /// The failure.
    pub failure: Failure,
    /// The plan or other evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Value>,
}

/// An open alert about a list or site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocationAlertRecord {
    /// When it was first raised.
    pub since: Timestamp,
    /// When it was last raised again.
    pub confirmed: Timestamp,
    /// The tenant.
    pub tenant: TenantId,
    /// The list or site.
    pub location: LocationKey,
    /// The failure.
    pub failure: Failure,
}

/// An entry of the journal. Its tenant and person may have left since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRecord {
    /// When it happened.
    pub at: Timestamp,
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
    /// The task.
    pub task: SourceKey,
    /// What happened.
    pub kind: JournalKind,
    /// The values before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The values after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Bytes as Base64 text.
mod base64_bytes {
    use std::borrow::Cow;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD
            .decode(text.as_bytes())
            .map_err(serde::de::Error::custom)
    }
}
