//! The registry: tenants, enrolments, sync states, journal and alerts. No other store is authoritative for
//! them.

pub mod backup;
mod credentials;
mod journal;
mod open;
mod recovery;
mod sql;
mod tenant;
mod transfer;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use credentials::{ChannelBinding, Credentials, CredentialsError, KDC_PORT, KdcAddress, KdcAddressError};
pub use journal::{JournalEntry, JournalKind};
pub(crate) use open::{SUPPORTED_URLS, url_file_refusal, url_refusal};
pub use open::{open_for_backup, open_registry, open_to_fill};
pub use recovery::enable;
pub use sql::{
    FilledFrom, Occupancy, RegistryContents, RegistryFilling, RegistrySharing, RegistrySnapshot, SqlRegistry,
    occupy, sqlite_file, sqlite_url,
};
pub use tenant::{
    Access, MailboxConnection, SecretRef, SecretRefError, SharePointConnection, SourceConnection, Tenant,
    TestPerson,
};
pub use transfer::{RestoreAs, TransferError, fill_from_backup, write_backup};

use crate::error::{Code, Failure};
use crate::metrics::record::Store;
use crate::model::{InstallationId, LocationKey, MailboxAddress, TenantId, UserId, UserKey};
use crate::schedule::{Mark, SavedStamp, TenantUsers};
use crate::seam::seam;

/// Whether a user is synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EnrolmentState {
    /// The user is synced in turn.
    Enabled,
    /// The user is not synced until a person acts or the next automatic test succeeds.
    Disabled {
        /// The failure that disabled the user.
        failure: Failure,
        /// When the user was disabled.
        since: Timestamp,
    },
}

/// A user who opted in, and the one mailbox of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The user.
    pub key: UserKey,
    /// The person's sign-in name at the source, for SharePoint for example `i:0#.w|contoso\ana`. It belongs to at most
    /// one user of the tenant, except for users whom earlier builds enrolled.
    pub source_login: String,
    /// The mailbox. It belongs to at most one user of the whole installation.
    pub mailbox: MailboxAddress,
    /// The mailbox owner's time zone, as an IANA or Windows name; `None` uses the tenant's.
    pub time_zone: Option<String>,
    /// When the person opted in.
    pub opted_in_at: Timestamp,
    /// Whether the user is synced.
    pub state: EnrolmentState,
}

/// A saved sync state: an opaque blob, a small fingerprint for the idle check, and the version that saving
/// compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Grows by one with every save, even over a dropped state, so that no version ever stands for two
    /// states. 0 is never stored.
    pub version: u64,
    /// The part that the idle check needs (see `state::Fingerprint`).
    pub fingerprint: Vec<u8>,
    /// The whole state (see `state::SyncState`); empty if only fingerprints were read.
    pub blob: Vec<u8>,
}

/// A condition that a person should look at. At most one alert per user and code is open, and one per list or
/// site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// When it was first raised.
    pub since: Timestamp,
    /// The tenant.
    pub tenant: TenantId,
    /// The user, if it concerns one user.
    pub user: Option<UserId>,
    /// The list or site, if it concerns one. The alert then belongs to the tenant, however many users meet
    /// it.
    pub location: Option<LocationKey>,
    /// The failure.
    pub failure: Failure,
    /// The plan or other evidence, as JSON.
    pub evidence: Option<serde_json::Value>,
}

/// Which open alerts are meant: those that meet every condition that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// About this user. Alerts about the tenant itself or about a list are then left out.
    pub user: Option<UserId>,
    /// With this code.
    pub code: Option<Code>,
    /// First raised at this time or later.
    pub since: Option<Timestamp>,
}

/// Where a list of alerts continues. Only the registry that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertCursor(pub String);

/// A part of a list of alerts, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// Where the list continues; `None` at its end.
    pub next: Option<AlertCursor>,
}

/// Number of tenants in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantCounts {
    /// All tenants, with or without users.
    pub tenants: u64,
    /// Those that are enabled.
    pub enabled: u64,
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentResult {
    /// The user was not enrolled before.
    Added,
    /// The user was enrolled already; source name, mailbox and zone were updated.
    Updated,
    /// The mailbox belongs to another user; nothing was changed.
    MailboxTaken(UserKey),
    /// The sign-in name belongs to another user of the tenant; nothing was changed.
    LoginTaken(UserKey),
}

/// Numbers of enrolled users, of one tenant or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EnrolmentCounts {
    /// Users who are synced in turn.
    pub enabled: u64,
    /// Users who are not synced until a person acts or the next automatic test succeeds.
    pub disabled: u64,
}

/// Permission to carry out one plan of held deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionPermit {
    /// The name of the plan, as [`crate::plan::held_digest`] returns it.
    pub plan: String,
    /// The permit expires at this time.
    pub until: Timestamp,
}

/// Users of one tenant who have not been synced for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateUsers {
    /// The tenant.
    pub tenant: TenantId,
    /// Number of these users.
    pub users: u64,
    /// The oldest last success among them; for users who were never synced, the opt-in counts.
    pub oldest: Timestamp,
}

/// The answer to a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveResult {
    /// The state was stored under this new version.
    Stored(u64),
    /// Another worker stored first, or the user opted out or changed the mailbox. Nothing was changed.
    VersionConflict,
}

/// The seam to the registry: all topics together. Every method names the tenant, so a call without a tenant
/// cannot be expressed.
///
/// All methods fail with class `Transient` and code `RegistryUnavailable` if the database does not answer,
/// and never change anything in part.
pub trait Registry:
    InstallationStore
    + TenantStore
    + EnrolmentStore
    + StateStore
    + StampStore
    + Journal
    + Alerts
    + DeletionPermits
    + MarkStore
    + BackupRecords
    + WriteProbe
{
}
impl<T> Registry for T where
    T: InstallationStore
        + TenantStore
        + EnrolmentStore
        + StateStore
        + StampStore
        + Journal
        + Alerts
        + DeletionPermits
        + MarkStore
        + BackupRecords
        + WriteProbe
        + ?Sized
{
}

seam! {
    Store::Registry,
    /// The id of the installation.
    pub trait InstallationStore {
        /// Returns the id of the installation that this registry belongs to. The very first call creates it.
        async fn installation(&self) -> Result<InstallationId, Failure>;
        /// Replaces the id, for a registry that was restored empty: markers in mailboxes name the id of the
        /// lost registry.
        async fn set_installation(&self, id: InstallationId) -> Result<(), Failure>;
    }
}

seam! {
    Store::Registry,
    /// Tenants.
    pub trait TenantStore {
        /// Adds a tenant, or replaces connections and settings of an existing one. Returns whether it was
        /// added.
        async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure>;
        /// Returns a tenant.
        async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure>;
        /// Returns at most `limit` tenants with names after `after`, in order of name.
        async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure>;
        /// Returns how many tenants there are.
        async fn tenant_counts(&self) -> Result<TenantCounts, Failure>;
        /// Removes a tenant with its enrolments, states, stamps and alerts; the journal stays. Returns
        /// whether it existed.
        async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure>;
        /// Returns at most `limit` enabled tenants after `after` that have enrolled users, with these users,
        /// in order of name.
        async fn active_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, TenantUsers)>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Users who opted in.
    pub trait EnrolmentStore {
        /// Enrols a user. A mailbox belongs to one user of the installation, and a sign-in name to one user of the
        /// tenant. Names are compared without the provider (`i:0#.w|`) and the case of ASCII letters. If the user is
        /// enrolled already with another mailbox, the sync state is dropped. Fails with code `TenantUnknown` if the
        /// tenant does not exist.
        async fn enrol(&self, enrolment: &Enrolment) -> Result<EnrolmentResult, Failure>;
        /// Enrols many users, each as [`Self::enrol`] does, and returns the answers in the same order. A
        /// database does it in one transaction. After a failure any of them may be enrolled.
        async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<EnrolmentResult>, Failure>;
        /// Ends an enrolment and removes its sync state, stamps and open alerts. Returns whether it existed.
        async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure>;
        /// Returns the enrolment of a user.
        async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure>;
        /// Returns the enrolments of these users of one tenant; users without one are left out.
        async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure>;
        /// Returns at most `limit` enrolments of a tenant with user names after `after`, in order of name.
        async fn enrolments(&self, tenant: &TenantId, after: Option<&UserId>, limit: u32) -> Result<Vec<Enrolment>, Failure>;
        /// Returns the numbers of enabled and disabled users, of one tenant or of all.
        async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure>;
        /// Fills in the contributions to the digest of the tenant's names that earlier builds left out, for
        /// at most `limit` users. Returns how many it filled in.
        async fn digest_names(&self, tenant: &TenantId, limit: u32) -> Result<u64, Failure>;
        /// Enables or disables an enrolment. Returns whether it exists.
        async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Sync states.
    pub trait StateStore {
        /// Returns the enrolments of these users, as [`EnrolmentStore::enrolments_of`] does, each with its
        /// fingerprint if a state is stored; blobs stay empty. A survey begins with it, and a database
        /// answers it in one query.
        async fn enrolments_with_fingerprints(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure>;
        /// Returns an enrolment with its whole state, as both were at one moment, so that a state is never
        /// taken for that of another mailbox. A sync begins with it.
        async fn enrolment_with_state(&self, user: &UserKey) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure>;
        /// Returns a user's whole state.
        async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure>;
        /// Saves a state if the stored version is `expected` (0: none is stored) and the user is still
        /// enrolled as in `of`: opted in at the same time, with the same mailbox. Other changes of the
        /// enrolment do not matter.
        async fn save_sync_state(&self, of: &Enrolment, expected: u64, fingerprint: &[u8], blob: &[u8]) -> Result<SaveResult, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Stamps, saved late and in batches.
    pub trait StampStore {
        /// Saves stamps of users of one tenant at once and skips users who are no longer enrolled. A missing
        /// `last_success` keeps the stored one, and a user who failed before keeps the beginning of the
        /// failures.
        async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure>;
        /// Returns at most `limit` saved stamps of a tenant's users after `after`; disabled users have
        /// [`SavedStamp::disabled`]. Users who were never synced are due since the opt-in.
        async fn stamps(&self, tenant: &TenantId, after: Option<&UserId>, limit: u32) -> Result<Vec<SavedStamp>, Failure>;
        /// Returns at most `limit` tenants with users who were last synced before `before`, and the number of
        /// these users, in order of name. Disabled users and tenants are left out.
        async fn late(&self, before: Timestamp, limit: u32) -> Result<Vec<LateUsers>, Failure>;
        /// Returns the oldest last success of the users who are synced, of one tenant or of all; for users
        /// who were never synced, the opt-in counts. Returns `None` if no user is synced.
        async fn oldest_success(&self, tenant: Option<&TenantId>) -> Result<Option<Timestamp>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// The journal: values that syncs overwrote, deleted or restored.
    pub trait Journal {
        /// Appends journal entries.
        async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure>;
        /// Returns a user's newest journal entries, newest first.
        async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure>;
        /// Drops at most `limit` journal entries older than `before` and returns how many.
        async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Open alerts.
    pub trait Alerts {
        /// Raises an alert, or updates the evidence of the open one with the same tenant, user and code.
        /// Returns whether it is new. Fails with class `Gone` if the tenant or user is not in the registry.
        async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure>;
        /// Ends the open alert with this code of a user, or of the tenant itself without a user. Returns how
        /// many ended.
        async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure>;
        /// Ends a tenant's open alert about this list or site. Returns whether there was one.
        async fn end_location_alert(&self, tenant: &TenantId, location: &LocationKey) -> Result<bool, Failure>;
        /// Ends open alerts about lists and sites that were not raised again since `before`. Returns how many
        /// ended.
        async fn end_stale_location_alerts(&self, before: Timestamp) -> Result<u64, Failure>;
        /// Returns open alerts, oldest first, of one tenant or of all.
        async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure>;
        /// Returns at most `limit` open alerts that meet the filter, oldest first, after `after`. A cursor that
        /// was made elsewhere starts over.
        async fn find_alerts(&self, filter: &AlertFilter, after: Option<&AlertCursor>, limit: u32) -> Result<AlertPage, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Permits for held deletions.
    pub trait DeletionPermits {
        /// Lets the permit's plan pass the guard once, and replaces an earlier permit. Returns whether the
        /// user is enrolled.
        async fn allow_deletions(&self, user: &UserKey, permit: &DeletionPermit) -> Result<bool, Failure>;
        /// Takes the permit for this plan if there is one that has not expired. Returns `true` exactly once
        /// per [`Self::allow_deletions`]. A permit for another plan stays.
        async fn take_deletion_permit(&self, user: &UserKey, plan: &str, now: Timestamp) -> Result<bool, Failure>;
        /// Returns the last permit that was given and not taken, expired or not; `None` also if the user is not
        /// enrolled.
        async fn deletion_permit(&self, user: &UserKey) -> Result<Option<DeletionPermit>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// The mark of the schedule.
    pub trait MarkStore {
        /// Returns the mark that was last left in the schedule; see [`crate::schedule::MarkUpdate`].
        async fn mark(&self) -> Result<Option<Mark>, Failure>;
        /// Stores the mark that was left in the schedule.
        async fn save_mark(&self, mark: &Mark) -> Result<(), Failure>;
    }
}

seam! {
    Store::Registry,
    /// What the registry remembers about its backups and moves, and its completeness in its own file.
    pub trait BackupRecords {
        /// Returns when the last backup was made whose content this registry had; `None` if none was made.
        async fn last_backup(&self) -> Result<Option<Timestamp>, Failure>;
        /// Stores that a complete backup of the content at this time exists.
        async fn record_backup(&self, at: Timestamp) -> Result<(), Failure>;
        /// Returns when the installation moved from here to another registry. No process may then work with
        /// this one.
        async fn moved_away(&self) -> Result<Option<Timestamp>, Failure>;
        /// Stores when the installation moved away, or with `None` that it did not.
        async fn set_moved_away(&self, at: Option<Timestamp>) -> Result<(), Failure>;
        /// Writes what an SQLite registry has in its log into the file, so that the file alone is complete until
        /// the next change. Other databases have no such log. Fails if another process is reading the file.
        async fn checkpoint(&self) -> Result<(), Failure>;
    }
}

seam! {
    Store::Registry,
    /// Whether the registry can be written.
    pub trait WriteProbe {
        /// Checks that the registry can be written, and leaves nothing behind.
        async fn check_writable(&self) -> Result<(), Failure>;
    }
}

/// The traits of the topics without their names, for `use topics::*` where methods of a concrete registry are
/// called.
pub mod topics {
    pub use super::{
        Alerts as _, BackupRecords as _, DeletionPermits as _, EnrolmentStore as _, InstallationStore as _,
        Journal as _, MarkStore as _, StampStore as _, StateStore as _, TenantStore as _, WriteProbe as _,
    };
}
