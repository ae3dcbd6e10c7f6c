//! The store of one mailbox: folders, items, change numbers and tombstones.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;

use super::error::EwsError;
pub(crate) use super::objects::{
    ARCHIVE_ROOT, ARCHIVE_TOP, Body, DELETED_ITEMS, Folder, FolderParent, Item, ROOT, TASKS, TOP, Tombstone,
};
use super::properties::{Properties, PropertyKey};
use crate::sim::vec_map::VecMap;

/// Largest number of tombstones per folder. A sync state older than the oldest of them is invalid.
const MAXIMUM_TOMBSTONES: usize = 100_000;
/// Largest number of items in one folder.
const MAXIMUM_ITEMS: usize = 1_000_000;
/// Largest number of folders in one mailbox.
const MAXIMUM_FOLDERS: usize = 10_000;

/// Number, fixed name, parent, class and display name of the folders that every mailbox has.
const WELL_KNOWN: &[(u64, &str, u64, &str, &str)] = &[
    (ROOT, "root", 0, "", ""),
    (TOP, "msgfolderroot", ROOT, "IPF.Note", "Top of Information Store"),
    (3, "inbox", TOP, "IPF.Note", "Inbox"),
    (TASKS, "tasks", TOP, "IPF.Task", "Tasks"),
    (DELETED_ITEMS, "deleteditems", TOP, "IPF.Note", "Deleted Items"),
    (6, "drafts", TOP, "IPF.Note", "Drafts"),
    (7, "outbox", TOP, "IPF.Note", "Outbox"),
    (8, "sentitems", TOP, "IPF.Note", "Sent Items"),
    (9, "calendar", TOP, "IPF.Appointment", "Calendar"),
    (10, "contacts", TOP, "IPF.Contact", "Contacts"),
    (11, "notes", TOP, "IPF.StickyNote", "Notes"),
    (12, "journal", TOP, "IPF.Journal", "Journal"),
    (13, "junkemail", TOP, "IPF.Note", "Junk E-mail"),
    (ARCHIVE_ROOT, "archiveroot", 0, "", ""),
    (
        ARCHIVE_TOP,
        "archivemsgfolderroot",
        ARCHIVE_ROOT,
        "IPF.Note",
        "Top of Information Store",
    ),
];
/// First number of an object that is not a well-known folder.
const FIRST_FREE: u64 = 100;

/// The folders that every mailbox has, in their initial state. All mailboxes share them; the first change of a folder
/// gives the mailbox its own copy.
static WELL_KNOWN_FOLDERS: LazyLock<Vec<Folder>> = LazyLock::new(|| {
    let folder = |(number, distinguished, parent, class, name): &'static (u64, _, u64, _, _)| {
        let folder_parent = if *parent == 0 {
            FolderParent::Nowhere
        } else {
            FolderParent::Under(*parent)
        };
        let (class, name) = (Cow::Borrowed(*class), Cow::Borrowed(*name));
        Folder {
            distinguished: Some(*distinguished),
            ..Store::blank_folder(*number, folder_parent, class, name, 1, WELL_KNOWN_FOLDERS_TIME)
        }
    };
    WELL_KNOWN.iter().map(folder).collect()
});
/// Time of the last commit in a folder that was never used.
const WELL_KNOWN_FOLDERS_TIME: Timestamp = Timestamp::constant(1_356_998_400, 0);

/// Folders and items of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Folders that differ from [`WELL_KNOWN_FOLDERS`], and folders that the mailbox added.
    folders: VecMap<u64, Box<Folder>>,
    items: VecMap<u64, Box<Item>>,
    change: u64,
    last_number: u64,
    /// Increased to invalidate every sync state issued so far.
    pub(crate) epoch: u64,
    /// Whether there is an archive mailbox. Without one, its folders are hidden.
    pub(crate) has_archive: bool,
}

impl Store {
    /// Starts the numbering on first access.
    pub(crate) fn start_numbering(&mut self) {
        if self.change == 0 {
            self.change = 1;
            self.last_number = FIRST_FREE;
        }
    }

    fn blank_folder(
        number: u64,
        parent: FolderParent,
        class: Cow<'static, str>,
        name: Cow<'static, str>,
        change: u64,
        now: Timestamp,
    ) -> Folder {
        Folder {
            number,
            distinguished: None,
            class,
            name,
            properties: Properties::new(),
            change,
            parents: vec![(change, parent)],
            items: BTreeSet::new(),
            contents_change: change,
            tombstones: Vec::new(),
            forgotten: 0,
            committed: now,
            deletions: 0,
        }
    }

    /// Returns the latest change number.
    pub(crate) fn change(&self) -> u64 {
        self.change
    }

    /// Returns the folder with this number, deleted or not.
    fn any_folder(&self, number: u64) -> Option<&Folder> {
        match self.folders.get(&number) {
            Some(folder) => Some(folder),
            None => WELL_KNOWN_FOLDERS.iter().find(|folder| folder.number == number),
        }
    }

    fn any_folder_mut(&mut self, number: u64) -> Option<&mut Folder> {
        if self.folders.get(&number).is_none() {
            let folder = WELL_KNOWN_FOLDERS.iter().find(|folder| folder.number == number)?;
            self.folders.insert(number, Box::new(folder.clone()));
        }
        self.folders.get_mut(&number).map(Box::as_mut)
    }

    /// Returns the folder with this number, unless it is deleted.
    pub(crate) fn folder(&self, number: u64) -> Option<&Folder> {
        self.any_folder(number)
            .filter(|folder| folder.parent() != FolderParent::Gone && self.shows(folder))
    }

    /// Returns whether a folder belongs to the mailbox. The archive's folders do so only if there is an archive.
    fn shows(&self, folder: &Folder) -> bool {
        self.has_archive || !matches!(folder.number, ARCHIVE_ROOT | ARCHIVE_TOP)
    }

    fn folder_mut(&mut self, number: u64) -> Option<&mut Folder> {
        self.any_folder_mut(number)
            .filter(|folder| folder.parent() != FolderParent::Gone)
    }

    /// Returns the number of the well-known folder with this fixed name.
    pub(crate) fn distinguished(name: &str) -> Option<u64> {
        WELL_KNOWN
            .iter()
            .find(|(_, known, ..)| *known == name)
            .map(|(number, ..)| *number)
    }

    /// Returns every existing folder, by number.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.folders_ever()
            .filter(|folder| folder.parent() != FolderParent::Gone)
    }

    /// Returns every folder that exists or existed.
    pub(crate) fn folders_ever(&self) -> impl Iterator<Item = &Folder> {
        let well_known = WELL_KNOWN_FOLDERS
            .iter()
            .map(|folder| self.folders.get(&folder.number).map_or(folder, Box::as_ref))
            .filter(|folder| self.shows(folder));
        let created = self
            .folders
            .values()
            .map(Box::as_ref)
            .filter(|folder| folder.number > FIRST_FREE);
        well_known.chain(created)
    }

    /// Returns the direct subfolders of a folder.
    pub(crate) fn children(&self, number: u64) -> impl Iterator<Item = &Folder> {
        self.folders_ever()
            .filter(move |folder| folder.parent() == FolderParent::Under(number))
    }

    /// Returns whether `number` was anywhere below `ancestor` at a change number.
    pub(crate) fn was_below(&self, number: u64, ancestor: u64, change: u64) -> bool {
        let mut at = number;
        // A chain of parents cannot be longer than the number of folders.
        for _ in 0..=self.folders.len() + WELL_KNOWN_FOLDERS.len() {
            match self
                .any_folder(at)
                .map_or(FolderParent::Gone, |folder| folder.parent_at(change))
            {
                FolderParent::Under(parent) if parent == ancestor => return true,
                FolderParent::Under(parent) => at = parent,
                FolderParent::Nowhere | FolderParent::Gone => return false,
            }
        }
        false
    }

    /// Returns the item with this number.
    pub(crate) fn item(&self, number: u64) -> Option<&Item> {
        self.items.get(&number).map(Box::as_ref)
    }

    /// Returns every item, by number.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values().map(Box::as_ref)
    }

    /// Removes properties from every folder and item. Nothing else changes, as if they had never been written.
    pub(crate) fn forget_properties(&mut self, forgotten: impl Fn(&PropertyKey) -> bool) {
        let folders = self.folders.values_mut().map(|folder| &mut folder.properties);
        let items = self.items.values_mut().map(|item| &mut item.properties);
        for properties in folders.chain(items) {
            properties.retain(|key| !forgotten(key));
        }
    }

    fn next_change(&mut self) -> u64 {
        self.change += 1;
        self.change
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn name_is_taken(&self, parent: u64, name: &str, but: u64) -> bool {
        self.children(parent)
            .any(|child| child.number != but && child.name.eq_ignore_ascii_case(name))
    }

    /// Creates a folder.
    ///
    /// # Errors
    /// `ErrorParentFolderNotFound`, `ErrorFolderExists`, or `ErrorQuotaExceeded` at the limit.
    pub(crate) fn create_folder(
        &mut self,
        parent: u64,
        name: &str,
        class: &str,
        properties: Properties,
        now: Timestamp,
    ) -> Result<u64, EwsError> {
        if self.folder(parent).is_none() {
            return Err(EwsError::new(
                "ErrorParentFolderNotFound",
                "The parent folder could not be found.",
            ));
        }
        if self.name_is_taken(parent, name, 0) {
            return Err(folder_exists());
        }
        if self.folders.len() >= MAXIMUM_FOLDERS {
            return Err(EwsError::new(
                "ErrorQuotaExceeded",
                "The mailbox holds too many folders.",
            ));
        }
        let change = self.next_change();
        let number = self.next_number();
        let blank = Self::blank_folder(
            number,
            FolderParent::Under(parent),
            class.to_owned().into(),
            name.to_owned().into(),
            change,
            now,
        );
        self.folders
            .insert(number, Box::new(Folder { properties, ..blank }));
        Ok(number)
    }

    /// Replaces name and properties of a folder.
    ///
    /// # Errors
    /// `ErrorFolderNotFound`, or `ErrorFolderExists` if a sibling has the same name.
    pub(crate) fn update_folder(
        &mut self,
        number: u64,
        name: &str,
        properties: Properties,
    ) -> Result<(), EwsError> {
        let folder_parent = self.folder(number).ok_or_else(folder_not_found)?.parent();
        if let FolderParent::Under(parent) = folder_parent
            && self.name_is_taken(parent, name, number)
        {
            return Err(folder_exists());
        }
        let change = self.next_change();
        if let Some(folder) = self.folder_mut(number) {
            folder.name = name.to_owned().into();
            folder.properties = properties;
            folder.change = change;
        }
        Ok(())
    }

    /// Deletes a folder with all its contents: moves it to Deleted Items, or deletes it for good.
    ///
    /// # Errors
    /// `ErrorFolderNotFound` or `ErrorDeleteDistinguishedFolder`.
    pub(crate) fn delete_folder(
        &mut self,
        number: u64,
        to_deleted_items: bool,
        now: Timestamp,
    ) -> Result<(), EwsError> {
        let folder = self.folder(number).ok_or_else(folder_not_found)?;
        if folder.distinguished.is_some() {
            return Err(EwsError::new(
                "ErrorDeleteDistinguishedFolder",
                "Distinguished folders cannot be deleted.",
            ));
        }
        if to_deleted_items && !self.was_below(number, DELETED_ITEMS, self.change) {
            let wanted = folder.name.clone();
            // Deleted folders of the same name get numbered names.
            let name = (1..=MAXIMUM_FOLDERS)
                .map(|copy| {
                    if copy == 1 {
                        wanted.clone()
                    } else {
                        Cow::Owned(format!("{wanted}{copy}"))
                    }
                })
                .find(|name| !self.name_is_taken(DELETED_ITEMS, name, number))
                .unwrap_or(wanted);
            let change = self.next_change();
            if let Some(folder) = self.folder_mut(number) {
                folder.parents.push((change, FolderParent::Under(DELETED_ITEMS)));
                folder.change = change;
                folder.name = name;
            }
            return Ok(());
        }
        let mut to_delete = vec![number];
        to_delete.extend(
            self.folders()
                .filter(|folder| self.was_below(folder.number, number, self.change))
                .map(|f| f.number),
        );
        for number in to_delete {
            let items: Vec<u64> = self
                .folder(number)
                .map(|folder| folder.items.iter().copied().collect())
                .unwrap_or_default();
            for item in items {
                self.remove_item(item, now);
            }
            let change = self.next_change();
            if let Some(folder) = self.folder_mut(number) {
                folder.parents.push((change, FolderParent::Gone));
                folder.change = change;
            }
        }
        Ok(())
    }

    /// Puts an item into a folder. Returns its number.
    ///
    /// # Errors
    /// `ErrorFolderNotFound`, or `ErrorQuotaExceeded` at the limit.
    pub(crate) fn add_item(&mut self, mut item: Item, folder: u64, now: Timestamp) -> Result<u64, EwsError> {
        let item_count = self.folder(folder).ok_or_else(folder_not_found)?.items.len();
        if item_count >= MAXIMUM_ITEMS {
            return Err(EwsError::new(
                "ErrorQuotaExceeded",
                "The folder holds too many items.",
            ));
        }
        let change = self.next_change();
        let number = self.next_number();
        item.number = number;
        item.folder = folder;
        item.arrival = change;
        item.change = change;
        self.items.insert(number, Box::new(item));
        if let Some(folder) = self.folder_mut(folder) {
            folder.items.insert(number);
            folder.contents_change = change;
            folder.committed = now;
        }
        Ok(number)
    }

    /// Stores a changed item. `fields` contains the URIs of the properties that were set.
    pub(crate) fn commit_item(&mut self, mut item: Item, fields: &[String], by: &str, now: Timestamp) {
        let change = self.next_change();
        item.change = change;
        item.modified = now;
        by.clone_into(&mut item.modified_by);
        item.change_count = item.change_count.saturating_add(1);
        for field in fields {
            item.field_changes.insert(field.as_str().into(), change);
        }
        if let Some(folder) = self.folder_mut(item.folder) {
            folder.contents_change = change;
            folder.committed = now;
        }
        self.items.insert(item.number, Box::new(item));
    }

    /// Deletes an item for good. Returns it, or `None` if it does not exist.
    pub(crate) fn remove_item(&mut self, number: u64, now: Timestamp) -> Option<Item> {
        let item = *self.items.remove(&number)?;
        let change = self.next_change();
        if let Some(folder) = self.any_folder_mut(item.folder) {
            folder.items.remove(&number);
            folder.tombstones.push(Tombstone {
                change,
                item: number,
                arrival: item.arrival,
            });
            if folder.tombstones.len() > MAXIMUM_TOMBSTONES {
                let old = folder.tombstones.remove(0);
                folder.forgotten = old.change;
            }
            folder.contents_change = change;
            folder.committed = now;
            folder.deletions = folder.deletions.saturating_add(1);
        }
        Some(item)
    }

    /// Moves an item. It gets a new number, which is returned.
    ///
    /// # Errors
    /// `ErrorItemNotFound` or `ErrorFolderNotFound`.
    pub(crate) fn move_item(&mut self, number: u64, to: u64, now: Timestamp) -> Result<u64, EwsError> {
        if self.folder(to).is_none() {
            return Err(folder_not_found());
        }
        let item = self
            .remove_item(number, now)
            .ok_or_else(EwsError::item_not_found)?;
        self.add_item(item, to, now)
    }
}

pub(crate) fn folder_not_found() -> EwsError {
    EwsError::new(
        "ErrorFolderNotFound",
        "The specified folder could not be found in the store.",
    )
}

fn folder_exists() -> EwsError {
    EwsError::new(
        "ErrorFolderExists",
        "A folder with the specified name already exists.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let mut store = Store::default();
        store.start_numbering();
        store
    }

    #[test]
    fn a_folder_moved_to_deleted_items_leaves_the_tree_and_keeps_its_number() {
        let mut store = store();
        let now = Timestamp::UNIX_EPOCH;
        let folder = store
            .create_folder(TASKS, "A", "IPF.Task", Properties::new(), now)
            .unwrap();
        let inner = store
            .create_folder(folder, "B", "IPF.Task", Properties::new(), now)
            .unwrap();
        let before = store.change();
        assert_eq!(
            store
                .create_folder(TASKS, "a", "IPF.Task", Properties::new(), now)
                .unwrap_err()
                .code,
            "ErrorFolderExists"
        );
        store.delete_folder(folder, true, now).unwrap();
        assert!(store.was_below(inner, TASKS, before));
        assert!(!store.was_below(inner, TASKS, store.change()));
        assert!(store.was_below(inner, DELETED_ITEMS, store.change()));
        store.delete_folder(folder, true, now).unwrap();
        assert!(store.folder(inner).is_none());
        assert_eq!(
            store.delete_folder(TASKS, false, now).unwrap_err().code,
            "ErrorDeleteDistinguishedFolder"
        );
    }

    #[test]
    fn a_move_gives_a_new_number_and_counts_a_deletion() {
        let mut store = store();
        let now = Timestamp::UNIX_EPOCH;
        let item = store.add_item(Item::new(now, "a"), TASKS, now).unwrap();
        let moved = store.move_item(item, DELETED_ITEMS, now).unwrap();
        assert_ne!(item, moved);
        assert!(store.item(item).is_none());
        assert_eq!(store.folder(TASKS).unwrap().deletions, 1);
        assert!(store.folder(DELETED_ITEMS).unwrap().items.contains(&moved));
        assert_eq!(
            store.move_item(item, TASKS, now).unwrap_err().code,
            "ErrorItemNotFound"
        );
    }
}
