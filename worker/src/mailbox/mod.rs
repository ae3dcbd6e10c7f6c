//! The mailbox side: what the sync pass needs of a mailbox server, whatever its protocol.

pub mod ews;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tasksync_common::error::Failure;
use tasksync_common::facts::MailboxFacts;
use tasksync_common::model::{FieldSet, LocationKey, MailboxAddress, MarkerOwner, SourceKey, Task};
pub use tasksync_common::state::Signs;

/// A mailbox and the zone its owner's dates are meant in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The mailbox.
    pub mailbox: MailboxAddress,
    /// The owner's time zone.
    pub zone: TimeZone,
    /// Whom markers in this mailbox name as their owner.
    pub marker: MarkerOwner,
}

/// Opaque, case-sensitive id of a folder; stable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FolderId(pub String);

/// An item and its version: `id` changes when the item is moved, `change_key` with every change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemRef {
    /// Opaque, case-sensitive.
    pub id: String,
    /// Opaque version.
    pub change_key: String,
}

/// What a mailbox server can do for tasksync. The pass has a right behaviour for each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent ability of a server"
)]
pub struct MailboxCapabilities {
    /// Fields an item can hold.
    pub fields: FieldSet,
    /// [`Mailbox::update`] compares the item's version and fails with class `Conflict`. Without it the pass reads the
    /// item just before it writes.
    pub conditional_writes: bool,
    /// [`Mailbox::probe`] can answer [`Probed::Signs`]. Without it every pass reads the changes of every folder.
    pub signs: bool,
    /// [`Mailbox::ours`] searches by our key. Without it a copy counts as gone only by the listing and a read by id.
    pub search_by_key: bool,
    /// [`Mailbox::deleted`] and [`Whereabouts::Deleted`] tell what lies in the deleted items.
    pub deleted_items: bool,
    /// [`Mailbox::archived`] searches an archive mailbox.
    pub archive: bool,
    /// Times of changes are exact to this duration.
    pub time_precision: SignedDuration,
}

impl MailboxCapabilities {
    /// Of a server that can do everything, with times exact to a second.
    pub const ALL: Self = Self {
        fields: FieldSet::ALL,
        conditional_writes: true,
        signs: true,
        search_by_key: true,
        deleted_items: true,
        archive: true,
        time_precision: SignedDuration::from_secs(1),
    };
}

/// Whom a marker in a mailbox names as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkedFor {
    /// Nobody: an earlier build wrote the marker.
    Unnamed,
    /// This installation, tenant and person.
    Owner(MarkerOwner),
    /// A text that names no owner. The marker is treated as a foreign one.
    Unreadable(String),
}

/// A marker of tasksync on an item or a folder: what it stands for, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker<T> {
    /// The task's or the location's key.
    pub key: T,
    /// Whose marker it is.
    pub marked_for: MarkedFor,
}

impl<T> Marker<T> {
    /// Returns a marker that names no owner, as earlier builds wrote it.
    pub fn unnamed(key: T) -> Self {
        Self {
            key,
            marked_for: MarkedFor::Unnamed,
        }
    }

    /// Whether the marker is `owner`'s, or of an earlier build, which named nobody.
    pub fn may_be_of(&self, owner: &MarkerOwner) -> bool {
        match &self.marked_for {
            MarkedFor::Unnamed => true,
            MarkedFor::Owner(named) => named == owner,
            MarkedFor::Unreadable(_) => false,
        }
    }
}

/// Where an item lies, by a read of its id: independent of any listing and of any search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// The server has no item of this id.
    NotFound,
    /// In the deleted items or in a folder below them.
    Deleted,
    /// In this folder, which is not below the deleted items.
    In(FolderId),
}

/// Whether a folder exists, by a read of its id: independent of the listing of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderPresence {
    /// It exists outside the deleted items.
    Exists,
    /// It lies in the deleted items or in a folder below them.
    Deleted,
    /// The server has no folder of this id.
    NotFound,
}

/// A task folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its id.
    pub id: FolderId,
    /// Name people see.
    pub name: String,
    /// Our marker: which location it stands for; `None` for the person's own folders.
    pub marker: Option<Marker<LocationKey>>,
    /// Signs of the folder when it was listed, if the server gives them.
    pub signs: Option<Signs>,
}

/// What a probe of one folder says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Its present signs.
    Signs(Signs),
    /// The folder is not there any more.
    Gone,
    /// The server does not give the signs for this folder or mailbox: read the changes instead.
    Unknown,
}

impl Probed {
    /// The folder's signs, where the server gave them.
    #[must_use]
    pub fn signs(&self) -> Option<Signs> {
        match self {
            Self::Signs(signs) => Some(*signs),
            Self::Gone | Self::Unknown => None,
        }
    }
}

/// Folders of one mailbox to be probed.
#[derive(Debug, Clone)]
pub struct ProbeRequest {
    /// The mailbox.
    pub mailbox: MailboxAddress,
    /// Its folders.
    pub folders: Vec<FolderId>,
}

/// A task in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxItem {
    /// Id and version.
    pub item: ItemRef,
    /// Our marker: which task it is a copy of; `None` for the person's own items.
    pub marker: Option<Marker<SourceKey>>,
    /// The folder it lies in; `None` where the server did not tell.
    pub folder: Option<FolderId>,
    /// Its values; what EWS cannot tell stays at its default.
    pub task: Task,
    /// Last change by anybody, by the server's clock.
    pub modified: Timestamp,
    /// When it was created, by the server's clock.
    pub created: Timestamp,
    /// A recurring task: read, never written.
    pub recurring: bool,
    /// Private or confidential: its body and title edits are the person's own and never travel to the source.
    pub private: bool,
    /// The id of tasksync's last write into it.
    pub write_id: Option<String>,
}

/// An item of ours that lies in the deleted items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedItem {
    /// Our marker.
    pub marker: Marker<SourceKey>,
    /// The id of tasksync's last write into it.
    pub write_id: String,
}

/// An item that carries a key of ours, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedItem {
    /// Id and version.
    pub item: ItemRef,
    /// Our marker.
    pub marker: Marker<SourceKey>,
    /// Its folder; `None` for the mailbox's own task folder.
    pub folder: Option<FolderId>,
}

/// One change of a folder since a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemChange {
    /// Created or updated; read it with [`Mailbox::items`].
    Present(ItemRef),
    /// No longer in this folder.
    Gone {
        /// The id it had.
        id: String,
    },
}

impl ItemChange {
    /// Bytes of its id and version.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Present(item) => item.id.len() + item.change_key.len(),
            Self::Gone { id } => id.len(),
        }
    }
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes.
    pub changes: Vec<ItemChange>,
    /// Where the next page or the next sync begins.
    pub cursor: String,
    /// Whether nothing more follows now.
    pub last: bool,
}

/// A task to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewItem<'a> {
    /// Our key.
    pub key: &'a SourceKey,
    /// The values.
    pub task: &'a Task,
    /// Address of the task's page at the source.
    pub web_link: Option<&'a str>,
    /// Stays with the item, so that it tells later whether this write was the last one.
    pub write_id: &'a str,
}

/// What is written into an item: only `fields` of `task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemChanges {
    /// The values.
    pub task: Task,
    /// Which of them are written; others stay as they are.
    pub fields: FieldSet,
    /// Stays with the item, so that it tells later whether this write was the last one.
    pub write_id: String,
}

/// The seam to a mailbox server of one tenant.
///
/// Failures carry their class; a write whose answer was lost fails with `OutcomeUnknown`.
#[async_trait]
pub trait Mailbox: Send + Sync + 'static {
    /// What this server can do.
    fn capabilities(&self) -> MailboxCapabilities;
    /// The task as this server shows it after it was written, in an item that had this start before. What the source's
    /// tasks are compared with.
    fn canonical(&self, task: &Task, own_start: Option<Date>) -> Task;
    /// The server's clock minus ours, as last measured; `None` when it was never measured.
    fn clock_offset(&self) -> Option<SignedDuration>;
    /// An item that was written at `ours` by our clock bears the time `server`: where no answer tells the server's time, this is
    /// how its clock is known.
    fn learn_clock(&self, server: Timestamp, ours: Timestamp);
    /// Probes folders of many mailboxes in as few requests as the access mode allows. The answers stand in the order
    /// of the requests, the folders' in their order.
    async fn probe(&self, requests: &[ProbeRequest]) -> Vec<Result<Vec<Probed>, Failure>>;
    /// Every task folder of the mailbox outside the deleted items, wherever it lies; complete. The mailbox's own task
    /// folder need not be among them.
    async fn folders(&self, owner: &Owner) -> Result<Vec<Folder>, Failure>;
    /// Creates a task folder with our marker. If the name is taken by another folder, a number is added.
    async fn create_folder(
        &self,
        owner: &Owner,
        name: &str,
        location: &LocationKey,
    ) -> Result<FolderId, Failure>;
    /// Renames a folder.
    async fn rename_folder(&self, owner: &Owner, folder: &FolderId, name: &str) -> Result<(), Failure>;
    /// Whether these folders exist, read by their ids, in the order asked for.
    async fn folders_exist(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<FolderPresence, Failure>>, Failure>;
    /// Writes the owner into the markers of these folders, in their order.
    async fn complete_folder_markers(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<(), Failure>>, Failure>;
    /// One page of changes of a folder; without a cursor, of everything in it.
    async fn changes(
        &self,
        owner: &Owner,
        folder: &FolderId,
        cursor: Option<&str>,
    ) -> Result<ChangePage, Failure>;
    /// Reads whole items, in the order asked for; each may fail by itself (`Gone` when it is not there any more).
    async fn items(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<MailboxItem, Failure>>, Failure>;
    /// Items that carry this key in any of these folders, oldest first.
    async fn find(
        &self,
        owner: &Owner,
        folders: &[FolderId],
        key: &SourceKey,
    ) -> Result<Vec<ItemRef>, Failure>;
    /// Every item that carries a key of ours in any of these folders or in the mailbox's own task folder, oldest first.
    /// Complete: what is missing here is in none of them.
    async fn ours(&self, owner: &Owner, folders: &[FolderId]) -> Result<Vec<PlacedItem>, Failure>;
    /// Where these items lie, read by their ids, in the order asked for.
    async fn whereabouts(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, Failure>;
    /// Every item that carries a key of ours in the person's archive mailbox; empty where there is none.
    async fn archived(&self, owner: &Owner) -> Result<Vec<PlacedItem>, Failure>;
    /// Writes the owner into the markers of these items, in their order; returns their new versions.
    async fn complete_item_markers(
        &self,
        owner: &Owner,
        items: &[ItemRef],
    ) -> Result<Vec<Result<ItemRef, Failure>>, Failure>;
    /// Every item that carries a key of ours in the mailbox's deleted items.
    async fn deleted(&self, owner: &Owner) -> Result<Vec<DeletedItem>, Failure>;
    /// Creates a task with our key.
    async fn create(&self, owner: &Owner, folder: &FolderId, item: &NewItem<'_>) -> Result<ItemRef, Failure>;
    /// Writes fields of an item if its version is still `item.change_key`; fails with class `Conflict` otherwise.
    async fn update(&self, owner: &Owner, item: &ItemRef, changes: &ItemChanges) -> Result<ItemRef, Failure>;
    /// Takes our key off an item, so that it is the person's own.
    async fn disown(&self, owner: &Owner, item: &ItemRef) -> Result<ItemRef, Failure>;
    /// Moves an item to the deleted items. An item that is gone already is a success.
    async fn delete(&self, owner: &Owner, item: &ItemRef) -> Result<(), Failure>;
    /// Asks the server who it is and whether tasksync may use this mailbox; for the doctor.
    async fn check(&self, owner: &Owner) -> Result<MailboxFacts, Failure>;
}
