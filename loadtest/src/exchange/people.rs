//! Actions of people in Outlook, and the oracle's view of the store. Both work without HTTP, with real change keys and
//! numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use super::Exchange;
use super::error::EwsError;
use super::ids::{ObjectId, ObjectKind, change_key};
use super::mailbox::Mailbox;
use super::properties::{Properties, label};
use super::store::{ARCHIVE_TOP, Body, DELETED_ITEMS, FolderParent, Item, Store, TASKS};
use super::tasks::TaskStatus;

/// A folder as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderView {
    /// The identifier as clients see it.
    pub id: String,
    /// Identifier of the parent folder; `None` for the root.
    pub parent: Option<String>,
    /// Fixed name (`tasks`, `deleteditems`, …) of a folder that every mailbox has.
    pub distinguished: Option<&'static str>,
    /// Display name.
    pub display_name: String,
    /// Folder class (`IPF.Task`, …).
    pub class: String,
    /// Whether it is anywhere below Deleted Items.
    pub in_deleted_items: bool,
    /// Number of its items.
    pub item_count: usize,
    /// Extended properties by name. The values of an array are joined with `;`.
    pub named: BTreeMap<String, String>,
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct MailboxItemView {
    /// The identifier as clients see it.
    pub id: String,
    /// The change key as clients see it.
    pub change_key: String,
    /// Change number of the change key. It increases with every change in the mailbox.
    pub change_number: u64,
    /// Identifier of its folder.
    pub folder_id: String,
    /// Whether it is anywhere below Deleted Items.
    pub in_deleted_items: bool,
    /// Whether it is in the archive mailbox.
    pub in_archive: bool,
    /// Subject; empty if there is none.
    pub subject: String,
    /// Body in the form in which it was written.
    pub body: Option<String>,
    /// Start date.
    pub start: Option<Date>,
    /// Due date.
    pub due: Option<Date>,
    /// Status.
    pub status: TaskStatus,
    /// Percentage complete, 0 to 100.
    pub percent: f64,
    /// When it was completed.
    pub complete_date: Option<Timestamp>,
    /// `Low`, `Normal` or `High`.
    pub importance: String,
    /// `Normal`, `Personal`, `Private` or `Confidential`.
    pub sensitivity: String,
    /// Actual work in minutes.
    pub actual_work: Option<i32>,
    /// Total work in minutes.
    pub total_work: Option<i32>,
    /// Categories.
    pub categories: Vec<String>,
    /// Extended properties by name. The values of an array are joined with `;`.
    pub named: BTreeMap<String, String>,
    /// Time of creation.
    pub created: Timestamp,
    /// Time of the last change.
    pub modified: Timestamp,
    /// Name of the user or account that made the last change.
    pub modified_by: String,
    /// Whether it recurs.
    pub is_recurring: bool,
}

/// A person's change of a task. `None` leaves a value as it is. The fields are applied in this order, with the
/// server's coupling of values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MailboxItemEdit {
    /// New subject.
    pub subject: Option<String>,
    /// New plain-text body; `Some(None)` removes it.
    pub body: Option<Option<String>>,
    /// New start; `Some(None)` removes it.
    pub start: Option<Option<Date>>,
    /// New due date; `Some(None)` removes it.
    pub due: Option<Option<Date>>,
    /// New percentage, 0 to 100.
    pub percent: Option<f64>,
    /// New status.
    pub status: Option<TaskStatus>,
    /// New importance: `Low`, `Normal` or `High`.
    pub importance: Option<String>,
    /// New sensitivity.
    pub sensitivity: Option<String>,
    /// New actual work in minutes; `Some(None)` removes it.
    pub actual_work: Option<Option<i32>>,
    /// New total work in minutes; `Some(None)` removes it.
    pub total_work: Option<Option<i32>>,
    /// New categories.
    pub categories: Option<Vec<String>>,
    /// Whether it is to recur.
    pub is_recurring: Option<bool>,
}

/// The refusal of a person's action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct ActError {
    /// The response code that a client would have received.
    pub code: String,
    /// Description of the problem.
    pub text: String,
}

impl From<EwsError> for ActError {
    fn from(error: EwsError) -> Self {
        Self {
            code: error.code.into_owned(),
            text: error.text,
        }
    }
}

fn named(properties: &Properties) -> BTreeMap<String, String> {
    properties
        .iter()
        .map(|(key, value)| (label(key), value.values.join(";")))
        .collect()
}

fn edit(item: &mut Item, edit: MailboxItemEdit, now: Timestamp) -> Result<Vec<String>, EwsError> {
    let mut fields: Vec<&str> = Vec::new();
    if let Some(subject) = edit.subject {
        item.subject = Some(subject);
        fields.push("item:Subject");
    }
    if let Some(body) = edit.body {
        item.body = body.map(|text| Body { html: false, text });
        fields.push("item:Body");
    }
    if let Some(start) = edit.start {
        item.dates.set_start(start);
        fields.push("task:StartDate");
    }
    if let Some(due) = edit.due {
        item.dates.set_due(due);
        fields.push("task:DueDate");
    }
    if let Some(percent) = edit.percent {
        item.progress.set_percent(percent, now)?;
        fields.push("task:PercentComplete");
    }
    if let Some(status) = edit.status {
        item.progress.set_status(status, now);
        fields.push("task:Status");
    }
    if let Some(importance) = edit.importance {
        item.importance = importance.into();
        fields.push("item:Importance");
    }
    if let Some(sensitivity) = edit.sensitivity {
        item.sensitivity = sensitivity.into();
        fields.push("item:Sensitivity");
    }
    if let Some(work) = edit.actual_work {
        item.actual_work = work;
        fields.push("task:ActualWork");
    }
    if let Some(work) = edit.total_work {
        item.total_work = work;
        fields.push("task:TotalWork");
    }
    if let Some(categories) = edit.categories {
        item.categories = categories;
        fields.push("item:Categories");
    }
    if let Some(recurring) = edit.is_recurring {
        item.is_recurring = recurring;
        fields.push("task:Recurrence");
    }
    Ok(fields.into_iter().map(str::to_owned).collect())
}

impl Exchange {
    /// Returns every folder of a mailbox; empty if there is no such mailbox.
    #[must_use]
    pub fn folders(&self, smtp: &str) -> Vec<FolderView> {
        let Some(mailbox) = self.mailbox(smtp) else {
            return Vec::new();
        };
        let store = mailbox.store();
        let id = |number| {
            ObjectId {
                mailbox: mailbox.number,
                kind: ObjectKind::Folder,
                number,
            }
            .encode()
        };
        store
            .folders()
            .map(|folder| FolderView {
                id: id(folder.number),
                parent: match folder.parent() {
                    FolderParent::Under(parent) => Some(id(parent)),
                    FolderParent::Nowhere | FolderParent::Gone => None,
                },
                distinguished: folder.distinguished,
                display_name: folder.name.to_string(),
                class: folder.class.to_string(),
                in_deleted_items: store.was_below(folder.number, DELETED_ITEMS, store.change()),
                item_count: folder.items.len(),
                named: named(&folder.properties),
            })
            .collect()
    }

    /// Returns every item of a mailbox; empty if there is no such mailbox.
    #[must_use]
    pub fn items(&self, smtp: &str) -> Vec<MailboxItemView> {
        let Some(mailbox) = self.mailbox(smtp) else {
            return Vec::new();
        };
        let store = mailbox.store();
        store.items().map(|item| view(&mailbox, &store, item)).collect()
    }

    /// Changes a task as a person. Returns its new state.
    ///
    /// # Errors
    /// If there is no such mailbox or item, or the server refuses a value.
    pub fn person_edits(
        &self,
        smtp: &str,
        item_id: &str,
        change: MailboxItemEdit,
    ) -> Result<MailboxItemView, ActError> {
        let (mailbox, number) = self.own_item(smtp, item_id)?;
        let now = self.clock.unique();
        let mut store = mailbox.store();
        let mut item = store.item(number).cloned().ok_or_else(EwsError::item_not_found)?;
        let fields = edit(&mut item, change, now)?;
        store.commit_item(item, &fields, &mailbox.display_name, now);
        view_of_item(&mailbox, &store, number)
    }

    /// Creates a task as a person, in the given folder or in Tasks.
    ///
    /// # Errors
    /// If there is no such mailbox or folder, or the server refuses a value.
    pub fn person_creates(
        &self,
        smtp: &str,
        folder_id: Option<&str>,
        values: MailboxItemEdit,
    ) -> Result<MailboxItemView, ActError> {
        let mailbox = self.primary_mailbox(smtp)?;
        let folder = folder_id.map_or(Ok(TASKS), |id| own_folder(&mailbox, id))?;
        let now = self.clock.unique();
        let mut item = Item::new(now, &mailbox.display_name);
        edit(&mut item, values, now)?;
        let mut store = mailbox.store();
        let number = store.add_item(item, folder, now)?;
        view_of_item(&mailbox, &store, number)
    }

    /// Deletes a task as a person: moves it to Deleted Items and returns its new state there, or deletes it for good.
    ///
    /// # Errors
    /// If there is no such mailbox or item.
    pub fn person_deletes(
        &self,
        smtp: &str,
        item_id: &str,
        to_deleted_items: bool,
    ) -> Result<Option<MailboxItemView>, ActError> {
        let (mailbox, number) = self.own_item(smtp, item_id)?;
        let now = self.clock.unique();
        let mut store = mailbox.store();
        if to_deleted_items {
            let moved = store.move_item(number, DELETED_ITEMS, now)?;
            return view_of_item(&mailbox, &store, moved).map(Some);
        }
        store
            .remove_item(number, now)
            .ok_or_else(EwsError::item_not_found)?;
        Ok(None)
    }

    /// Moves a task to another folder as a person. Its identifier changes.
    ///
    /// # Errors
    /// If there is no such mailbox, item or folder.
    pub fn person_moves(
        &self,
        smtp: &str,
        item_id: &str,
        folder_id: &str,
    ) -> Result<MailboxItemView, ActError> {
        let (mailbox, number) = self.own_item(smtp, item_id)?;
        let folder = own_folder(&mailbox, folder_id)?;
        let now = self.clock.unique();
        let mut store = mailbox.store();
        let moved = store.move_item(number, folder, now)?;
        view_of_item(&mailbox, &store, moved)
    }

    /// Gives a mailbox an archive mailbox (`archivemsgfolderroot`).
    ///
    /// # Errors
    /// If there is no such mailbox.
    pub fn give_archive(&self, smtp: &str) -> Result<(), ActError> {
        self.primary_mailbox(smtp)?.store().has_archive = true;
        Ok(())
    }

    /// Moves a task to the archive as a retention policy does, into a folder of the same name and class. Its
    /// identifier changes.
    ///
    /// # Errors
    /// If there is no such mailbox or item, or the mailbox has no archive.
    pub fn person_archives(&self, smtp: &str, item_id: &str) -> Result<MailboxItemView, ActError> {
        let (mailbox, number) = self.own_item(smtp, item_id)?;
        let now = self.clock.unique();
        let mut store = mailbox.store();
        let from = store.item(number).ok_or_else(EwsError::item_not_found)?.folder;
        let folder = store.folder(from).ok_or_else(super::store::folder_not_found)?;
        let (name, class) = (folder.name.to_string(), folder.class.to_string());
        let existing = store
            .children(ARCHIVE_TOP)
            .find(|folder| *folder.name == name)
            .map(|folder| folder.number);
        let target = match existing {
            Some(number) => number,
            None => store.create_folder(ARCHIVE_TOP, &name, &class, Properties::new(), now)?,
        };
        let moved = store.move_item(number, target, now)?;
        view_of_item(&mailbox, &store, moved)
    }

    /// Creates a folder of any class (`IPF.Task`, `IPF.Note`) below any other, as a person. Returns its identifier.
    ///
    /// # Errors
    /// If there is no such mailbox or folder, or a sibling has the same name.
    pub fn person_creates_folder(
        &self,
        smtp: &str,
        parent_id: &str,
        name: &str,
        class: &str,
    ) -> Result<String, ActError> {
        let mailbox = self.primary_mailbox(smtp)?;
        let parent = own_folder(&mailbox, parent_id)?;
        let now = self.clock.unique();
        let number = mailbox
            .store()
            .create_folder(parent, name, class, Properties::new(), now)?;
        let id = ObjectId {
            mailbox: mailbox.number,
            kind: ObjectKind::Folder,
            number,
        };
        Ok(id.encode())
    }

    /// Copies a task as a person, into the given folder or beside the original. The copy keeps every property, named
    /// ones included.
    ///
    /// # Errors
    /// If there is no such mailbox, item or folder.
    pub fn person_copies(
        &self,
        smtp: &str,
        item_id: &str,
        folder_id: Option<&str>,
    ) -> Result<MailboxItemView, ActError> {
        let (mailbox, number) = self.own_item(smtp, item_id)?;
        let target = folder_id.map(|id| own_folder(&mailbox, id)).transpose()?;
        let now = self.clock.unique();
        let mut store = mailbox.store();
        let item = store.item(number).cloned().ok_or_else(EwsError::item_not_found)?;
        let folder = target.unwrap_or(item.folder);
        let copy = store.add_item(
            Item {
                created: now,
                modified: now,
                ..item
            },
            folder,
            now,
        )?;
        view_of_item(&mailbox, &store, copy)
    }

    /// Deletes a folder with all its contents as a person: moves it to Deleted Items, or deletes it for good if it is
    /// there already.
    ///
    /// # Errors
    /// If there is no such mailbox or folder, or every mailbox has this folder.
    pub fn person_deletes_folder(&self, smtp: &str, folder_id: &str) -> Result<(), ActError> {
        let mailbox = self.primary_mailbox(smtp)?;
        let folder = own_folder(&mailbox, folder_id)?;
        let now = self.clock.unique();
        Ok(mailbox.store().delete_folder(folder, true, now)?)
    }

    /// Renames a folder as a person.
    ///
    /// # Errors
    /// If there is no such mailbox or folder, or a sibling has the same name.
    pub fn person_renames_folder(&self, smtp: &str, folder_id: &str, name: &str) -> Result<(), ActError> {
        let mailbox = self.primary_mailbox(smtp)?;
        let number = own_folder(&mailbox, folder_id)?;
        let mut store = mailbox.store();
        let properties = store
            .folder(number)
            .ok_or_else(super::store::folder_not_found)?
            .properties
            .clone();
        Ok(store.update_folder(number, name, properties)?)
    }

    fn own_item(&self, smtp: &str, id: &str) -> Result<(Arc<Mailbox>, u64), EwsError> {
        let mailbox = self.primary_mailbox(smtp)?;
        let id = ObjectId::decode(id)?;
        if id.mailbox != mailbox.number || id.kind != ObjectKind::Item {
            return Err(EwsError::item_not_found());
        }
        Ok((mailbox, id.number))
    }
}

fn own_folder(mailbox: &Mailbox, id: &str) -> Result<u64, EwsError> {
    let id = ObjectId::decode(id)?;
    if id.mailbox != mailbox.number || id.kind != ObjectKind::Folder {
        return Err(super::store::folder_not_found());
    }
    Ok(id.number)
}

fn view_of_item(mailbox: &Mailbox, store: &Store, number: u64) -> Result<MailboxItemView, ActError> {
    let item = store.item(number).ok_or_else(EwsError::item_not_found)?;
    Ok(view(mailbox, store, item))
}

fn view(mailbox: &Mailbox, store: &Store, item: &Item) -> MailboxItemView {
    let id = |kind, number| {
        ObjectId {
            mailbox: mailbox.number,
            kind,
            number,
        }
        .encode()
    };
    MailboxItemView {
        id: id(ObjectKind::Item, item.number),
        change_key: change_key(ObjectKind::Item, item.change),
        change_number: item.change,
        folder_id: id(ObjectKind::Folder, item.folder),
        in_deleted_items: item.folder == DELETED_ITEMS
            || store.was_below(item.folder, DELETED_ITEMS, store.change()),
        in_archive: store.was_below(item.folder, ARCHIVE_TOP, store.change()),
        subject: item.subject.clone().unwrap_or_default(),
        body: item.body.as_ref().map(|body| body.text.clone()),
        start: item.dates.start,
        due: item.dates.due,
        status: item.progress.status,
        percent: item.progress.percent,
        complete_date: item.progress.completed,
        importance: item.importance.to_string(),
        sensitivity: item.sensitivity.to_string(),
        actual_work: item.actual_work,
        total_work: item.total_work,
        categories: item.categories.clone(),
        named: named(&item.properties),
        created: item.created,
        modified: item.modified,
        modified_by: item.modified_by.clone(),
        is_recurring: item.is_recurring,
    }
}
