//! The source side: what the sync pass needs of the place where tasks live, whatever its protocol.

pub mod sharepoint;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::Failure;
use tasksync_common::facts::SiteCheck;
use tasksync_common::model::{FieldSet, LocationKey, SourceKey, Task};
pub use tasksync_common::plan::Absence;

/// A place that holds tasks of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its key.
    pub key: LocationKey,
    /// Name for the folder in the mailbox, for example `Projects - Tasks`.
    pub name: String,
    /// Address people can open.
    pub web_url: String,
    /// Which fields its tasks can hold.
    pub holds: FieldSet,
    /// Why its dates are neither read nor written; `None` where they are, and where it has none.
    pub without_dates: Option<Failure>,
}

/// A task at its source, assigned to the user and visible to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceItem {
    /// Its key.
    pub key: SourceKey,
    /// Opaque version (the ETag).
    pub version: String,
    /// Its values; fields the location cannot hold stay at their default.
    pub task: Task,
    /// Last change by anybody, by the server's clock; whole seconds.
    pub modified: Timestamp,
    /// Address people can open.
    pub web_url: String,
    /// Whether the user may edit it.
    pub writable: bool,
}

/// What a source can do for tasksync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// [`Source::update`] compares the task's version and fails with class `Conflict`. Without it the pass reads the
    /// task just before it writes.
    pub conditional_writes: bool,
    /// Times of changes are exact to this duration.
    pub time_precision: SignedDuration,
}

/// A task as the source shows it to the user now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Present(Box<SourceItem>),
    /// It is not the user's, or not there.
    Absent(Absence),
    /// Its values, or whether it is the user's, cannot be read now; nothing is known of it.
    Unreadable(Failure),
}

/// A list or site that could not be read. Its tasks stay as they are, and the cursor does not cover its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadLocation {
    /// The location; the key of a site's every location begins with it.
    pub key: LocationKey,
    /// Why.
    pub failure: Failure,
}

/// What changed for a user since a cursor, or everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceChanges {
    /// Tasks that changed, each once; with `complete`, every task of the user.
    pub tasks: Vec<(SourceKey, Presence)>,
    /// The locations of the tasks that are present, and those that were renamed.
    pub locations: Vec<Location>,
    /// Locations that could not be read.
    pub unread: Vec<UnreadLocation>,
    /// Where the next sync begins.
    pub cursor: String,
    /// Whether this is everything: a complete listing whose every page was read.
    pub complete: bool,
    /// Who the person is at the source, in a form of its own. It is kept with the person's state and given back in [`Person`], so
    /// that another process need not ask again. `None` where there is nothing new to keep.
    pub identity: Option<String>,
}

/// A person at the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Person {
    /// Sign-in name.
    pub login: String,
    /// What the source told of the person before, see [`SourceChanges::identity`].
    pub identity: Option<String>,
}

impl Person {
    /// Returns a person of whom the source told nothing yet.
    pub fn new(login: impl Into<String>) -> Self {
        Self {
            login: login.into(),
            identity: None,
        }
    }
}

/// What is written into a task: only `fields` of `task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChanges {
    /// The values.
    pub task: Task,
    /// Which of them are written; others stay as they are.
    pub fields: FieldSet,
}

/// A task after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its new version.
    pub version: String,
}

/// The seam to the source of one tenant. One object serves every user of the tenant in this process and shares what it
/// reads among them.
///
/// Failures carry their class; a write whose answer was lost fails with `OutcomeUnknown`.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What this source can do.
    fn capabilities(&self) -> SourceCapabilities;
    /// The server's clock minus ours, as last measured; `None` when it was never measured.
    fn clock_offset(&self) -> Option<SignedDuration>;
    /// Reads the shared change feed forward from the oldest of these cursors, once for a whole batch of users.
    async fn refresh(&self, cursors: &[&str]) -> Result<(), Failure>;
    /// Returns what [`Self::changes`] would tell everybody with this cursor, if the feeds have nothing since; `None` when each
    /// person has to be asked about.
    async fn silent_since(&self, cursor: &str) -> Option<SourceChanges> {
        let _ = cursor;
        None
    }
    /// What changed for the person since `cursor`. `linked` are the keys whose tasks are in the mailbox now: only
    /// those are told as absent. Fails with class `CursorInvalid` when the cursor is too old.
    async fn changes(
        &self,
        person: &Person,
        cursor: &str,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SourceChanges, Failure>;
    /// Every task of the person; fails rather than return a part.
    async fn everything(&self, person: &Person) -> Result<SourceChanges, Failure>;
    /// These tasks as the source shows them to the person now, in the order asked for.
    async fn tasks(&self, person: &Person, keys: &[SourceKey])
    -> Result<Vec<(SourceKey, Presence)>, Failure>;
    /// A location the source knows; `None` when there is none (any more).
    async fn location(&self, key: &LocationKey) -> Result<Option<Location>, Failure>;
    /// Writes fields of a task if its version is still `version`; fails with class `Conflict` otherwise. Returns a
    /// version only with proof that the write happened; fails with `OutcomeUnknown` without it.
    async fn update(&self, key: &SourceKey, version: &str, changes: &TaskChanges)
    -> Result<Written, Failure>;
    /// Puts a task into the recycle bin if its version is still `version` (read just before; the product has no
    /// conditional recycle). A task that is gone already is a success.
    async fn delete(&self, key: &SourceKey, version: &str) -> Result<(), Failure>;
    /// Asks every site whether it answers and what the service account may do; for the doctor.
    async fn check(&self) -> Vec<SiteCheck>;
    /// Asks whether the source knows the person; for opt-in and the doctor.
    async fn check_person(&self, person: &Person) -> Result<(), Failure>;
}
