//! The source side of the sync: what the sync pass needs from the place where tasks are kept, whatever its
//! protocol.

pub mod sharepoint;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::Failure;
use tasksync_common::facts::{PersonLookup, SiteCheck};
use tasksync_common::model::{FieldSet, LocationKey, SourceKey, Task};
pub use tasksync_common::plan::Absence;

/// A list or other place that holds tasks of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its key.
    pub key: LocationKey,
    /// Name for the folder in the mailbox, for example `Projects - Tasks`.
    pub name: String,
    /// The address that people can open.
    pub web_url: String,
    /// The fields that its tasks can hold.
    pub holds: FieldSet,
    /// Why its dates are neither read nor written; `None` if they are, or if it has no dates.
    pub without_dates: Option<Failure>,
}

/// A task at its source, assigned to the user and visible to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceItem {
    /// Its key.
    pub key: SourceKey,
    /// Opaque version (the `ETag`).
    pub version: String,
    /// Its values; fields that the location cannot hold have their defaults.
    pub task: Task,
    /// The last change by any user, by the server's clock; whole seconds.
    pub modified: Timestamp,
    /// The address that people can open.
    pub web_url: String,
    /// Whether the user may edit it.
    pub writable: bool,
}

/// The abilities of a source that tasksync depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// Whether [`Source::update`] compares the task's version and fails with class `Conflict`. Otherwise the
    /// pass reads the task just before it writes.
    pub conditional_writes: bool,
    /// The precision of the times of changes.
    pub time_precision: SignedDuration,
}

/// A task as the source shows it to the user now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskPresence {
    /// It exists and is the user's.
    Present(Box<SourceItem>),
    /// It does not exist, or is not the user's.
    Absent(Absence),
    /// Its values, or whether it is the user's, cannot be read now; nothing is known about it.
    Unreadable(Failure),
}

/// A list or site that could not be read. Its tasks stay as they are, and the cursor does not cover its
/// changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadLocation {
    /// The location. For a site, the key is a prefix of the keys of all its locations.
    pub key: LocationKey,
    /// The reason.
    pub failure: Failure,
}

/// What changed for a user since a cursor, or everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceChanges {
    /// The tasks that changed, each once; with `complete`, every task of the user.
    pub tasks: Vec<(SourceKey, TaskPresence)>,
    /// The locations of the tasks that are present, and locations that were renamed.
    pub locations: Vec<Location>,
    /// Locations that could not be read.
    pub unread: Vec<UnreadLocation>,
    /// The cursor from which the next sync reads.
    pub cursor: String,
    /// Whether this is everything: a complete listing of which every page was read.
    pub complete: bool,
    /// The person's identity at the source, in a form of the source's own. It is saved with the person's
    /// state and returned in [`Person`], so that another process need not ask for it. `None` if there is
    /// nothing new to save.
    pub identity: Option<String>,
}

/// A person at the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Person {
    /// Sign-in name.
    pub login: String,
    /// The identity that the source reported earlier, see [`SourceChanges::identity`].
    pub identity: Option<String>,
}

impl Person {
    /// Returns a person about whom the source has reported nothing yet.
    pub fn new(login: impl Into<String>) -> Self {
        Self {
            login: login.into(),
            identity: None,
        }
    }
}

/// The changes to write into a task: only `fields` of `task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChanges {
    /// The values.
    pub task: Task,
    /// The fields to write; the others stay as they are.
    pub fields: FieldSet,
}

/// A task after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTask {
    /// Its new version.
    pub version: String,
}

/// The connection to the source of one tenant. One object serves every user of the tenant in this process and
/// shares among them what it reads.
///
/// Failures carry their class. A write whose answer was lost fails with `OutcomeUnknown`.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Returns what this source can do.
    fn capabilities(&self) -> SourceCapabilities;
    /// Returns the server's clock minus ours, as last measured; `None` if it was never measured.
    fn clock_offset(&self) -> Option<SignedDuration>;
    /// Returns when this object last searched every place of the tenant for locations with success; `None` if it never
    /// did, or need not.
    fn last_discovery(&self) -> Option<Timestamp> {
        None
    }
    /// Reads the shared change feed forward from the oldest of these cursors, once for a whole batch of
    /// users.
    async fn refresh(&self, cursors: &[&str]) -> Result<(), Failure>;
    /// Returns what [`Self::changes`] would return to every user with this cursor, if the feeds report
    /// nothing since. Returns `None` if the changes must be read for each person.
    async fn unchanged_since(&self, cursor: &str) -> Option<SourceChanges> {
        let _ = cursor;
        None
    }
    /// Returns what changed for the person since `cursor`. `linked` are the keys whose tasks are in the
    /// mailbox now; only these are reported as absent. Fails with class `CursorInvalid` if the cursor is too
    /// old.
    async fn changes(
        &self,
        person: &Person,
        cursor: &str,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SourceChanges, Failure>;
    /// Returns every task of the person; fails rather than return a part.
    async fn everything(&self, person: &Person) -> Result<SourceChanges, Failure>;
    /// Returns these tasks as the source shows them to the person now, in the order of `keys`.
    async fn tasks(
        &self,
        person: &Person,
        keys: &[SourceKey],
    ) -> Result<Vec<(SourceKey, TaskPresence)>, Failure>;
    /// Returns a location that the source knows; `None` if it does not exist, or no longer.
    async fn location(&self, key: &LocationKey) -> Result<Option<Location>, Failure>;
    /// Writes fields of a task if its version is still `version`; fails with class `Conflict` otherwise.
    /// Returns a version only with proof that the write happened; fails with `OutcomeUnknown` without it.
    async fn update(
        &self,
        key: &SourceKey,
        version: &str,
        changes: &TaskChanges,
    ) -> Result<WrittenTask, Failure>;
    /// Moves a task to the recycle bin if its version is still `version` (read just before, because
    /// SharePoint has no conditional recycle). A task that no longer exists is a success.
    async fn delete(&self, key: &SourceKey, version: &str) -> Result<(), Failure>;
    /// Checks whether every site answers and what the service account may do; for the doctor.
    async fn check(&self) -> Vec<SiteCheck>;
    /// Checks that the source knows the person; for opt-in and the doctor. With [`PersonLookup::Read`] a person whom
    /// the source has not met yet counts as unknown.
    async fn check_person(&self, person: &Person, lookup: PersonLookup) -> Result<(), Failure>;
}
