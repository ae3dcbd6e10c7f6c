//! The registry: the truth about tenants, enrolments, sync states, journal and alerts.

mod journal;
mod open;
mod recovery;
mod sql;
mod tenant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use journal::{JournalEntry, JournalKind};
pub use open::open_registry;
pub use recovery::enable;
pub use sql::{Company, Occupancy, SqlRegistry, occupy};
pub use tenant::{
    Access, Credentials, MailboxConnection, SecretRef, SecretRefError, SharePointConnection,
    SourceConnection, Tenant,
};

use crate::error::{Code, Failure};
use crate::metrics::record::Store;
use crate::model::{InstallationId, LocationKey, MailboxAddress, TenantId, UserId, UserKey};
use crate::schedule::{Mark, Members, SavedStamp};
use crate::seam::seam;

/// Whether a user is synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EnrolmentState {
    /// Synced in turn.
    Enabled,
    /// Not synced until somebody acts or the next automatic test succeeds.
    Disabled {
        /// What made it so.
        failure: Failure,
        /// Since when.
        since: Timestamp,
    },
}

/// A person who opted in, and the one mailbox they map to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The user.
    pub key: UserKey,
    /// The person's sign-in name at the source, for SharePoint for example `i:0#.w|contoso\ana`.
    pub source_login: String,
    /// The mailbox; belongs to at most one user of the whole installation.
    pub mailbox: MailboxAddress,
    /// The mailbox owner's time zone, as an IANA or Windows name; `None` uses the tenant's.
    pub time_zone: Option<String>,
    /// When the person opted in.
    pub opted_in_at: Timestamp,
    /// Whether it is synced.
    pub state: EnrolmentState,
}

/// A saved sync state: an opaque blob, a small fingerprint for the idle check, and the version to compare on saving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Grows by one with every save, over a forgotten state too, so that no version ever means two states; 0 is never
    /// stored.
    pub version: u64,
    /// What the idle check needs, small (see `state::Fingerprint`).
    pub fingerprint: Vec<u8>,
    /// The whole state (see `state::SyncState`); left empty when only fingerprints were asked for.
    pub blob: Vec<u8>,
}

/// Something a person should look at; at most one open alert per user and code, and one per list or site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// First time it was raised.
    pub since: Timestamp,
    /// Whom it concerns: the tenant, and the user when it is one user's.
    pub tenant: TenantId,
    /// The user, when it is one user's.
    pub user: Option<UserId>,
    /// The list or site, when it is about one; then it is the tenant's, however many people it concerns.
    pub location: Option<LocationKey>,
    /// What it is.
    pub failure: Failure,
    /// The plan or other evidence, as JSON.
    pub evidence: Option<serde_json::Value>,
}

/// Answer to a request to enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// A new enrolment.
    Added,
    /// The same user was enrolled already; source name, mailbox and zone were brought up to date.
    Updated,
    /// The mailbox belongs to another user; nothing was changed.
    MailboxTaken(UserKey),
}

/// How many users of a tenant, or of all, are enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EnrolmentCounts {
    /// Synced in turn.
    pub enabled: u64,
    /// Not synced until somebody acts or the next automatic test succeeds.
    pub disabled: u64,
}

/// Permission to carry out one plan of held deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionPermit {
    /// The plan, by [`crate::plan::held_digest`].
    pub plan: String,
    /// From this moment on the permit is void.
    pub until: Timestamp,
}

/// People of one tenant who have not been synced for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The tenant.
    pub tenant: TenantId,
    /// How many they are.
    pub users: u64,
    /// The oldest last success among them; of people never synced, the opt-in counts.
    pub oldest: Timestamp,
}

/// Answer to a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Stored under this new version.
    Stored(u64),
    /// Somebody else stored first, or the user opted out or changed the mailbox; nothing was changed.
    VersionConflict,
}

/// The registry's seam: all topics together. Every method names the tenant; a forgotten tenant cannot be expressed.
///
/// All methods fail with class `Transient` and code `RegistryUnavailable` when the database does not answer, and never
/// change anything in part.
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
        + WriteProbe
        + ?Sized
{
}

seam! {
    Store::Registry,
    /// The id of the installation.
    pub trait InstallationStore {
        /// Returns the id of the installation that this registry belongs to. The first call ever makes it.
        async fn installation(&self) -> Result<InstallationId, Failure>;
        /// Replaces the id, for a registry that was restored empty: markers in mailboxes name the id of the lost one.
        async fn set_installation(&self, id: InstallationId) -> Result<(), Failure>;
    }
}

seam! {
    Store::Registry,
    /// Tenants.
    pub trait TenantStore {
        /// Adds a tenant, or replaces the connections and settings of an existing one. `true` when it was added.
        async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure>;
        /// One tenant.
        async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure>;
        /// At most `limit` tenants with names after `after`, in order of name.
        async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure>;
        /// Removes a tenant with its enrolments, states, stamps and alerts; the journal stays. `false` when there was none.
        async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure>;
        /// Enabled tenants with at least one enrolled user, with their users, in order of name; at most `limit` after `after`.
        async fn active_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Members)>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Who opted in.
    pub trait EnrolmentStore {
        /// Enrols a user; one mailbox belongs to one user of the installation. Enrolled again with another mailbox, the sync
        /// state is forgotten. Fails with code `TenantUnknown` when there is no such tenant.
        async fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure>;
        /// Enrols many users, each as [`Self::enrol`] does; the answers come in the same order. A database does it in one
        /// transaction. After a failure any of them may be enrolled.
        async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<Enrolled>, Failure>;
        /// Ends an enrolment and forgets its sync state, stamps and open alerts. `false` when there was none.
        async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure>;
        /// One enrolment.
        async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure>;
        /// The enrolments of these users of one tenant; users without one are left out.
        async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure>;
        /// At most `limit` enrolments of a tenant with user names after `after`, in order of name.
        async fn enrolments(&self, tenant: &TenantId, after: Option<&UserId>, limit: u32) -> Result<Vec<Enrolment>, Failure>;
        /// How many users are enabled and disabled, of one tenant or of all.
        async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure>;
        /// Makes the missing parts of at most `limit` users in the digest of the tenant's names, which earlier builds leave out; the
        /// number made.
        async fn digest_names(&self, tenant: &TenantId, limit: u32) -> Result<u64, Failure>;
        /// Enables or disables an enrolment. `false` when there is none.
        async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Sync states.
    pub trait StateStore {
        /// What a survey begins with: the enrolments of these users, each with its fingerprint if a state is stored, as
        /// [`EnrolmentStore::enrolments_of`] gives them; blobs stay empty. A database answers it in one query.
        async fn enrolments_with_fingerprints(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure>;
        /// What a sync begins with: the enrolment and its whole state as they were at one moment, so that a state is never
        /// taken for another mailbox's.
        async fn enrolment_with_state(&self, user: &UserKey) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure>;
        /// A user's whole state.
        async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure>;
        /// Saves a state when the stored version is `expected` (0: none is stored) and the user is still enrolled as in `of`:
        /// opted in at the same moment, with the same mailbox. What else changed in the enrolment does not matter.
        async fn save_sync_state(&self, of: &Enrolment, expected: u64, fingerprint: &[u8], blob: &[u8]) -> Result<Saved, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Order stamps, saved lazily.
    pub trait StampStore {
        /// Saves order stamps of one tenant's users in one go; users no longer enrolled are skipped. A missing
        /// `last_success` keeps the stored one, and who was failing before keeps the time since when.
        async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure>;
        /// At most `limit` saved stamps of a tenant's users after `after`, as [`SavedStamp::disabled`] for those who are disabled;
        /// users never synced are due since opt-in.
        async fn stamps(&self, tenant: &TenantId, after: Option<&UserId>, limit: u32) -> Result<Vec<SavedStamp>, Failure>;
        /// Returns the tenants of whose people some were last synced before `before`, with their number; at most `limit`, in
        /// order of name. Disabled people and tenants are left out.
        async fn late(&self, before: Timestamp, limit: u32) -> Result<Vec<Late>, Failure>;
        /// Returns the oldest last success of the people who are synced, of one tenant or of all; of people never synced, the
        /// opt-in counts. `None` when nobody is synced.
        async fn oldest_success(&self, tenant: Option<&TenantId>) -> Result<Option<Timestamp>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// What was overwritten, deleted or decided.
    pub trait Journal {
        /// Appends journal entries.
        async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure>;
        /// The newest journal entries of a user, newest first.
        async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure>;
        /// Drops journal entries older than `before`; the number dropped, at most `limit` at once.
        async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Open alerts.
    pub trait Alerts {
        /// Raises an alert, or refreshes the evidence of the open one of the same tenant, user and code. `true` when new.
        /// Fails with class `Gone` when the tenant or user is not in the registry.
        async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure>;
        /// Ends the open alert with this code of a user, or of the tenant itself when no user is given; the number ended.
        async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure>;
        /// Ends the open alert of a tenant about this list or site. `false` when there was none.
        async fn end_location_alert(&self, tenant: &TenantId, location: &LocationKey) -> Result<bool, Failure>;
        /// Ends open alerts about lists and sites that nobody raised again since `before`; the number ended.
        async fn end_stale_location_alerts(&self, before: Timestamp) -> Result<u64, Failure>;
        /// Open alerts, oldest first, of one tenant or of all.
        async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Permits for held deletions.
    pub trait DeletionPermits {
        /// Lets the plan that the permit names pass the guard, once; an earlier permit is replaced. `false` when the user is
        /// not enrolled.
        async fn allow_deletions(&self, user: &UserKey, permit: &DeletionPermit) -> Result<bool, Failure>;
        /// Takes the permit for this plan, if there is one that has not expired: `true` exactly once per
        /// [`Self::allow_deletions`]. A permit for another plan stays.
        async fn take_deletion_permit(&self, user: &UserKey, plan: &str, now: Timestamp) -> Result<bool, Failure>;
        /// The permit that was given last and not taken, expired or not; `None` also when the user is not enrolled.
        async fn deletion_permit(&self, user: &UserKey) -> Result<Option<DeletionPermit>, Failure>;
    }
}

seam! {
    Store::Registry,
    /// Marks of other stores.
    pub trait MarkStore {
        /// The mark last left in the order of work, see [`crate::schedule::Marked`].
        async fn mark(&self) -> Result<Option<Mark>, Failure>;
        /// Remembers the mark left in the order of work.
        async fn save_mark(&self, mark: &Mark) -> Result<(), Failure>;
    }
}

seam! {
    Store::Registry,
    /// Whether the registry can be written.
    pub trait WriteProbe {
        /// Checks that the registry can be written, without leaving anything behind.
        async fn check_writable(&self) -> Result<(), Failure>;
    }
}

/// The topics' traits without their names, for `use topics::*` where a registry's own type is called.
pub mod topics {
    pub use super::{
        Alerts as _, DeletionPermits as _, EnrolmentStore as _, InstallationStore as _, Journal as _,
        MarkStore as _, StampStore as _, StateStore as _, TenantStore as _, WriteProbe as _,
    };
}
