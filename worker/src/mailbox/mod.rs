//! The mailbox side of the sync: what the sync pass needs from a mailbox server, whatever its protocol.

pub mod ews;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tasksync_common::error::Failure;
use tasksync_common::facts::{MailboxFacts, MailboxKind};
use tasksync_common::model::{FieldSet, LocationKey, MailboxAddress, MarkerOwner, SourceKey, Task};
pub use tasksync_common::state::Signs;

/// A mailbox, its owner's time zone, and the owner that its markers name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The mailbox.
    pub mailbox: MailboxAddress,
    /// The owner's time zone.
    pub zone: TimeZone,
    /// The owner that markers in this mailbox name.
    pub marker: MarkerOwner,
}

/// A folder's id: opaque, case-sensitive and stable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FolderId(pub String);

/// An item and its version. `id` changes if the item is moved, `change_key` with every change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemRef {
    /// The id: opaque and case-sensitive.
    pub id: String,
    /// Opaque version.
    pub change_key: String,
}

/// The abilities of a mailbox server that tasksync depends on. The pass handles each combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent ability of a server"
)]
pub struct MailboxCapabilities {
    /// The fields that an item can hold.
    pub fields: FieldSet,
    /// Whether [`Mailbox::update`] compares the item's version and fails with class `Conflict`. Otherwise the
    /// pass reads the item just before it writes.
    pub conditional_writes: bool,
    /// Whether [`Mailbox::probe`] can answer [`Probed::Signs`]. Otherwise every pass reads the changes of
    /// every folder.
    pub signs: bool,
    /// Whether [`Mailbox::list_marked`] searches by our key. Otherwise a copy counts as gone by the listing and a
    /// read by id only.
    pub search_by_key: bool,
    /// Whether [`Mailbox::list_deleted`] and [`Whereabouts::Deleted`] report what is in the deleted items.
    pub deleted_items: bool,
    /// Whether [`Mailbox::list_archived`] searches an archive mailbox.
    pub archive: bool,
    /// The precision of the times of changes.
    pub time_precision: SignedDuration,
}

impl MailboxCapabilities {
    /// The capabilities of a server that can do everything, with times exact to a second.
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

/// The owner that a marker in a mailbox names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkedFor {
    /// None: an earlier build wrote the marker.
    Unnamed,
    /// This installation, tenant and person.
    Owner(MarkerOwner),
    /// A text that names no owner. The marker counts as foreign.
    Unreadable(String),
}

/// A marker of tasksync on an item or a folder: its key and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker<T> {
    /// The task's or the location's key.
    pub key: T,
    /// The owner it names.
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

    /// Returns whether the marker names `owner`, or no owner as in earlier builds.
    pub fn may_be_of(&self, owner: &MarkerOwner) -> bool {
        match &self.marked_for {
            MarkedFor::Unnamed => true,
            MarkedFor::Owner(named) => named == owner,
            MarkedFor::Unreadable(_) => false,
        }
    }
}

/// The place of an item, by a read of its id: independent of any listing and of any search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// The server has no item with this id.
    NotFound,
    /// The item is in the deleted items or in a folder below them.
    Deleted,
    /// The item is in this folder, which is not below the deleted items.
    In(FolderId),
}

/// Whether a folder exists, by a read of its id: independent of the listing of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderPresence {
    /// It exists outside the deleted items.
    Exists,
    /// It is in the deleted items or in a folder below them.
    Deleted,
    /// The server has no folder with this id.
    NotFound,
}

/// A task folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its id.
    pub id: FolderId,
    /// The name that people see.
    pub name: String,
    /// Our marker with the location of the folder; `None` for the person's own folders.
    pub marker: Option<Marker<LocationKey>>,
    /// Signs of the folder when it was listed, if the server gives them.
    pub signs: Option<Signs>,
}

/// The result of probing one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Its present signs.
    Signs(Signs),
    /// The folder no longer exists.
    Gone,
    /// The server does not report the signs of this folder or mailbox; the changes must be read instead.
    Unknown,
}

impl Probed {
    /// Returns the folder's signs, if the server reported them.
    #[must_use]
    pub fn signs(&self) -> Option<Signs> {
        match self {
            Self::Signs(signs) => Some(*signs),
            Self::Gone | Self::Unknown => None,
        }
    }
}

/// The folders of one mailbox that have to be probed.
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
    /// Our marker with the task of the copy; `None` for the person's own items.
    pub marker: Option<Marker<SourceKey>>,
    /// Its folder; `None` if the server did not report it.
    pub folder: Option<FolderId>,
    /// Its values; fields that the server cannot report have their defaults.
    pub task: Task,
    /// The last change by any user, by the server's clock.
    pub modified: Timestamp,
    /// When it was created, by the server's clock.
    pub created: Timestamp,
    /// Whether it is a recurring task, which is read and never written.
    pub recurring: bool,
    /// Whether it is private or confidential. Edits of its body and title are the person's own and are never
    /// written to the source.
    pub private: bool,
    /// The id of tasksync's last write into it.
    pub write_id: Option<String>,
}

/// An item of ours in the deleted items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedItem {
    /// Our marker.
    pub marker: Marker<SourceKey>,
    /// The id of tasksync's last write into it.
    pub write_id: String,
}

/// An item with a key of ours, and its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedItem {
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
    /// The item was created or updated; [`Mailbox::items`] reads it.
    Present(ItemRef),
    /// The item is no longer in this folder.
    Gone {
        /// The item's id.
        id: String,
    },
}

impl ItemChange {
    /// Returns the bytes of its id and version.
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
    /// The cursor from which the next page, or the next sync, reads.
    pub cursor: String,
    /// Whether no more changes follow now.
    pub last: bool,
}

/// A task to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewItem<'a> {
    /// Our key.
    pub key: &'a SourceKey,
    /// The values.
    pub task: &'a Task,
    /// The address of the task's page at the source.
    pub web_link: Option<&'a str>,
    /// An id that stays on the item and shows later whether this write was the last one.
    pub write_id: &'a str,
}

/// The changes to write into an item: only `fields` of `task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemChanges {
    /// The values.
    pub task: Task,
    /// The fields to write; the others stay as they are.
    pub fields: FieldSet,
    /// An id that stays on the item and shows later whether this write was the last one.
    pub write_id: String,
}

/// The connection to the mailbox server of one tenant.
///
/// Failures carry their class. A write whose answer was lost fails with `OutcomeUnknown`.
#[async_trait]
pub trait Mailbox: Send + Sync + 'static {
    /// Returns what this server can do.
    fn capabilities(&self) -> MailboxCapabilities;
    /// Returns the task as this server shows it after it was written into an item whose start was
    /// `own_start`. The source's tasks are compared in this form.
    fn canonical(&self, task: &Task, own_start: Option<Date>) -> Task;
    /// Returns the server's clock minus ours, as last measured; `None` if it was never measured.
    fn clock_offset(&self) -> Option<SignedDuration>;
    /// Learns the server's clock from an item that was written at `ours` by our clock and has the time
    /// `server`. This is used if no answer shows the server's time.
    fn learn_clock(&self, server: Timestamp, local_time: Timestamp);
    /// Probes folders of many mailboxes in as few requests as the access mode allows. The answers are in the
    /// order of the requests and of their folders.
    async fn probe(&self, requests: &[ProbeRequest]) -> Vec<Result<Vec<Probed>, Failure>>;
    /// Returns every task folder of the mailbox outside the deleted items, at any place. The mailbox's own
    /// task folder may be missing from the list.
    async fn folders(&self, owner: &Owner) -> Result<Vec<Folder>, Failure>;
    /// Creates a task folder with our marker. If another folder has the name, a number is appended.
    async fn create_folder(
        &self,
        owner: &Owner,
        name: &str,
        location: &LocationKey,
    ) -> Result<FolderId, Failure>;
    /// Renames a folder.
    async fn rename_folder(&self, owner: &Owner, folder: &FolderId, name: &str) -> Result<(), Failure>;
    /// Returns whether these folders exist, read by their ids, in the order of `folders`.
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
    /// Returns one page of a folder's changes since the cursor; without a cursor, of everything in the
    /// folder.
    async fn changes(
        &self,
        owner: &Owner,
        folder: &FolderId,
        cursor: Option<&str>,
    ) -> Result<ChangePage, Failure>;
    /// Reads whole items, in the order of `ids`. Each may fail separately, with `Gone` if it no longer
    /// exists.
    async fn items(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<MailboxItem, Failure>>, Failure>;
    /// Returns the items with this key in any of these folders, oldest first.
    async fn find(
        &self,
        owner: &Owner,
        folders: &[FolderId],
        key: &SourceKey,
    ) -> Result<Vec<ItemRef>, Failure>;
    /// Returns every item with a key of ours in any of these folders or in the mailbox's own task folder,
    /// oldest first. The answer is complete: an item that is missing is in none of them.
    async fn list_marked(&self, owner: &Owner, folders: &[FolderId]) -> Result<Vec<MarkedItem>, Failure>;
    /// Returns where these items are, read by their ids, in the order of `ids`.
    async fn whereabouts(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, Failure>;
    /// Returns every item with a key of ours in the person's archive mailbox; none if there is no archive.
    async fn list_archived(&self, owner: &Owner) -> Result<Vec<MarkedItem>, Failure>;
    /// Writes the owner into the markers of these items. Returns their new versions in the order of `items`.
    async fn complete_item_markers(
        &self,
        owner: &Owner,
        items: &[ItemRef],
    ) -> Result<Vec<Result<ItemRef, Failure>>, Failure>;
    /// Returns every item with a key of ours in the mailbox's deleted items.
    async fn list_deleted(&self, owner: &Owner) -> Result<Vec<DeletedItem>, Failure>;
    /// Creates a task with our key.
    async fn create(&self, owner: &Owner, folder: &FolderId, item: &NewItem<'_>) -> Result<ItemRef, Failure>;
    /// Writes fields of an item if its version is still `item.change_key`; fails with class `Conflict` otherwise.
    async fn update(&self, owner: &Owner, item: &ItemRef, changes: &ItemChanges) -> Result<ItemRef, Failure>;
    /// Removes our key from an item, which makes it the person's own.
    async fn disown(&self, owner: &Owner, item: &ItemRef) -> Result<ItemRef, Failure>;
    /// Moves an item to the deleted items. An item that no longer exists is a success.
    async fn delete(&self, owner: &Owner, item: &ItemRef) -> Result<(), Failure>;
    /// Reads the server's version and checks that tasksync may use this mailbox; for the doctor.
    async fn check(&self, owner: &Owner) -> Result<MailboxFacts, Failure>;
    /// Returns what the server's directory says about the address; for the doctor. The mailbox need not be open.
    async fn kind(&self, owner: &Owner) -> Result<MailboxKind, Failure> {
        let _ = owner;
        Ok(MailboxKind::Unknown)
    }
}
