//! The actions of a person on both sides.

use std::collections::BTreeSet;

use tasksync_common::model::{Field, Importance, Percent, SourceKey, Status};
use tasksync_common::plan::DeletionPolicy;
use tasksync_common::state::{Link, Writing};

use super::{Item, OWN_FOLDER, World, date, holds, id, location, set_due, set_progress, set_start};

/// A new value of one field. A value that a side cannot store changes nothing there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    Title,
    Start(Option<i8>),
    Due(Option<i8>),
    Progress(Status, u8),
    Importance(Importance),
    Label,
    Private(bool),
}

/// The target of a moved or copied item.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MoveTarget {
    /// A private folder of the person.
    Own,
    /// Our folder for a location.
    Ours(usize),
}

/// An action of a person. The numbers select one of the existing objects.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Create(usize),
    EditSource(usize, Edit),
    EditItem(usize, Edit),
    DeleteTask(usize),
    DeleteItem(usize),
    Unassign(usize),
    Reassign(usize),
    Move(usize, MoveTarget),
    Copy(usize),
    DeleteFolder(usize),
    /// The mailbox moves a copy to its archive.
    Archive(usize),
    /// The owner of the source gives the person the right to edit a task, or takes it away.
    Rights(usize, bool),
}

impl World {
    /// Carries out a person's action.
    pub(crate) fn act(&mut self, act: &Act) {
        match act {
            Act::Create(location_number) => {
                let key = location(*location_number).task(i64::from(self.next()));
                let title = self.new_title();
                let task = self.new_task(&key, &title);
                self.oracle.wrote_task(&key, &task, true);
            }
            Act::EditSource(number, edit) => {
                if let Some(key) = self.nth_task(*number) {
                    self.edit_task(&key, *edit);
                }
            }
            Act::EditItem(number, edit) => {
                if let Some((id, key)) = self.nth_copy(*number) {
                    self.edit_item(id, &key, *edit);
                }
            }
            Act::DeleteTask(number) => {
                if let Some(key) = self.nth_task(*number) {
                    self.source.remove(&key);
                    self.source_log.push(key.clone());
                    self.oracle.deleted_task(&key);
                }
            }
            Act::DeleteItem(number) => {
                if let Some((id, key)) = self.nth_copy(*number) {
                    let made = self.was_being_written(id, &key);
                    self.oracle_of_loss(id, &key, made.as_ref());
                    self.delete_item(id);
                }
            }
            Act::Unassign(number) | Act::Reassign(number) => {
                if let Some(key) = self.nth_task(*number) {
                    self.source.get_mut(&key).unwrap().assigned = matches!(act, Act::Reassign(_));
                    self.touch_task(&key);
                    self.oracle.record_reassigned(&key);
                }
            }
            Act::Move(number, target) => {
                if let Some((id, key)) = self.nth_copy(*number) {
                    self.move_item(id, &key, *target);
                }
            }
            Act::Copy(number) => {
                if let Some((id, key)) = self.nth_copy(*number) {
                    let now = self.now + self.skew;
                    let copy = Item {
                        created: now,
                        modified: now,
                        change_key: 0,
                        ..self.items[&id].clone()
                    };
                    let copy = self.add_item(copy);
                    self.touch_item(copy);
                    self.oracle.record_copied(&key);
                }
            }
            Act::Archive(number) => {
                if let Some((id, key)) = self.nth_copy(*number) {
                    let item = self.remove_item(id).unwrap();
                    self.oracle.record_archived(&key, &item.task);
                    self.archive.insert(key);
                }
            }
            Act::Rights(number, writable) => {
                if let Some(key) = self.nth_task(*number) {
                    self.source.get_mut(&key).unwrap().writable = *writable;
                    self.oracle.must_go.remove(&key);
                }
            }
            Act::DeleteFolder(location_number) => {
                if let Some(folder) = self.folder_of(&location(*location_number)) {
                    self.folders.remove(&folder);
                    self.oracle.must_go.clear();
                    // To tasksync, a folder whose creation was never answered is like a private folder of the person.
                    let stored_locations = self.saved.iter().flat_map(|state| state.locations.values());
                    let is_known = stored_locations
                        .map(|stored| id(&stored.folder))
                        .any(|known| known == folder);
                    let gone: Vec<u32> = self
                        .items
                        .iter()
                        .filter(|(_, item)| item.folder == folder)
                        .map(|(id, _)| *id)
                        .collect();
                    for id in gone {
                        let item = self.items.remove(&id).unwrap();
                        if let Some(key) = &item.key {
                            self.oracle.record_lost_folder(key, &item.task);
                            if !is_known {
                                self.oracle.took_away(key, &item.task, false);
                            }
                        }
                        self.binned.insert(id, item);
                    }
                }
            }
        }
    }

    fn move_item(&mut self, id: u32, key: &SourceKey, target: MoveTarget) {
        let to = match target {
            MoveTarget::Own => Some(OWN_FOLDER),
            MoveTarget::Ours(number) => self.folder_of(&location(number)),
        };
        let Some(to) = to.filter(|to| *to != self.items[&id].folder) else {
            return;
        };
        self.oracle.must_go.remove(key);
        let mut item = self.remove_item(id).unwrap();
        item.folder = to;
        let moved = self.add_item(item);
        self.touch_item(moved);
    }

    /// Returns the link that tasksync meant to leave in this item, if its last write was interrupted and the item
    /// shows that write. If Deleted Items cannot be listed, an item that a person deletes shows nothing any more.
    fn was_being_written(&self, id: u32, key: &SourceKey) -> Option<Link> {
        if !self.lists_deleted_items {
            return None;
        }
        match self.saved.as_ref()?.writing.get(key)? {
            Writing::Mailbox { id: write, link } if self.items[&id].write_id.as_ref() == Some(write) => {
                Some(link.clone())
            }
            Writing::Mailbox { .. } | Writing::Source { .. } => None,
        }
    }

    /// Records that the person removes a copy. If nothing else happened to the task, the task must be deleted too.
    /// `made` is the link of a write that was interrupted just before.
    fn oracle_of_loss(&mut self, id: u32, key: &SourceKey, made: Option<&Link>) {
        let item = &self.items[&id];
        let link = self.saved.as_ref().and_then(|state| state.links.get(key));
        let linked = link.is_some_and(|link| {
            link.item == id.to_string()
                && link.change_key == item.change_key.to_string()
                && link.is_agreed()
                && link.other_folder.is_none()
        });
        let removing = link.is_some_and(|link| link.removing);
        let linked = (linked || made.is_some()) && !removing;
        let link = made.or(link);
        let folders_known = self.saved.as_ref().is_some_and(|state| {
            let exists = |folder: &str| self.folders.contains_key(&folder.parse().unwrap());
            state.locations.values().all(|stored| exists(&stored.folder))
        });
        let alone = self.copies_of(key).len() == 1;
        let unedited = self.source.get(key).is_some_and(|task| {
            task.assigned
                && task.writable
                && link.is_some_and(|link| link.version == task.version.to_string())
        });
        let travels = match self.policy.mailbox_deletions {
            DeletionPolicy::Propagate | DeletionPolicy::Complete => true,
            DeletionPolicy::Ignore => false,
        };
        self.oracle.took_away(
            key,
            &item.task,
            travels && linked && folders_known && alone && unedited && !self.archive.contains(key),
        );
    }

    /// Makes the person edit, at the source, every task of which a write was refused.
    pub(crate) fn edit_refused(&mut self) {
        for key in std::mem::take(&mut self.oracle.refused) {
            if self.source.contains_key(&key) {
                self.edit_task(&key, Edit::Title);
            }
        }
    }

    fn edit_task(&mut self, key: &SourceKey, edit: Edit) {
        let title = self.new_title();
        let supported = holds(&key.location());
        let task = &mut self.source.get_mut(key).unwrap().task;
        let before = task.clone();
        match edit {
            Edit::Title => task.title = title,
            Edit::Start(day) if supported.contains(Field::Start) => task.start = date(day),
            Edit::Due(day) => task.due = date(day),
            Edit::Progress(status, percent) => {
                task.status = status;
                task.percent = Percent::from_percent(f64::from(percent));
            }
            Edit::Importance(importance) if supported.contains(Field::Importance) => {
                task.importance = importance;
            }
            Edit::Start(_) | Edit::Importance(_) | Edit::Label | Edit::Private(_) => {}
        }
        let (task, titled) = (task.clone(), task.title != before.title);
        self.touch_task(key);
        self.oracle.wrote_task(key, &task, titled);
    }

    fn edit_item(&mut self, id: u32, key: &SourceKey, edit: Edit) {
        let title = self.new_title();
        let item = self.items.get_mut(&id).unwrap();
        match edit {
            Edit::Title => item.task.title = title,
            Edit::Start(day) => set_start(&mut item.task, date(day)),
            Edit::Due(day) => set_due(&mut item.task, date(day)),
            Edit::Progress(status, percent) => {
                if matches!(status, Status::WaitingOnOthers | Status::Deferred) {
                    item.task.percent = Percent::from_percent(f64::from(percent.min(99)));
                    item.task.status = status;
                } else {
                    set_progress(&mut item.task, status, Percent::from_percent(f64::from(percent)));
                }
            }
            Edit::Importance(importance) => item.task.importance = importance,
            Edit::Label => item.task.categories = BTreeSet::from([title]),
            Edit::Private(private) => item.private = private,
        }
        let (task, private) = (item.task.clone(), item.private);
        self.touch_item(id);
        let titled = matches!(edit, Edit::Title) && !private;
        self.oracle
            .wrote_item(key, &task, titled, matches!(edit, Edit::Private(_)) || private);
    }
}
