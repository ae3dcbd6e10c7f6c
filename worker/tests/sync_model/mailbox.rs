//! The world's mailbox server.

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::facts::MailboxFacts;
use tasksync_common::model::{Field, FieldSet, LocationKey, SourceKey, Task};
use tasksync_common::plan::DeletionPolicy;
use tasksync_worker::mailbox::{
    ChangePage, DeletedItem, Folder, FolderId, FolderPresence, ItemChange, ItemChanges, ItemRef, Mailbox,
    MailboxCapabilities, MailboxItem, MarkedItem, Marker, NewItem, Owner, ProbeRequest, Probed, Signs,
    Whereabouts,
};

use crate::engine::SharedWorld;
use crate::faults::{Answer, Fault, failure, refusal};
use crate::world::{Item, OWN_FOLDER, World, holds, id, number_of};

/// A mailbox server over the world.
pub(crate) struct ModelMailbox {
    pub(crate) world: SharedWorld,
    pub(crate) capabilities: MailboxCapabilities,
}

impl World {
    fn folder_signs(&self, folder: u32) -> Option<Signs> {
        self.folders.get(&folder)?;
        let changes = self.mailbox_log.iter().filter(|(of, _)| *of == folder).count();
        Some(Signs {
            latest_commit_us: i64::try_from(changes).unwrap(),
            deletions: 0,
            parent: 0,
        })
    }

    fn item_ref(&self, item: u32) -> ItemRef {
        let found = self.items.get(&item).or_else(|| self.binned.get(&item));
        ItemRef {
            id: item.to_string(),
            change_key: found.map_or(0, |found| found.change_key).to_string(),
        }
    }

    fn check_item(&self, item: &ItemRef) -> Result<(), Failure> {
        let number = id(&item.id);
        let found = self.items.get(&number).or_else(|| self.binned.get(&number));
        match found {
            None => Err(failure(ErrorClass::Gone)),
            Some(found) if found.change_key.to_string() != item.change_key => {
                Err(failure(ErrorClass::Conflict))
            }
            Some(_) => Ok(()),
        }
    }

    /// Asserts that the copy of a task deleted at the source is not removed if the tenant's policy keeps it.
    fn check_removal(&self, number: u32) {
        let Some(item) = self.items.get(&number) else {
            return;
        };
        let Some(key) = &item.key else { return };
        let alone = self.copies_of(key).len() == 1 && !self.has_own_item(number_of(&item.task));
        let stays = self.policy.source_deletions != DeletionPolicy::Propagate;
        let deleted = !self.source.contains_key(key) && !self.oracle.may_lose_copy(key);
        assert!(!(alone && stays && deleted), "{key}: its copy is removed");
    }

    fn mailbox_item(&self, number: u32) -> Option<MailboxItem> {
        let binned = self.binned.get(&number);
        let found = self.items.get(&number).or(binned)?;
        Some(MailboxItem {
            item: self.item_ref(number),
            marker: found.key.clone().map(|key| self.marker(number, key)),
            folder: None,
            task: found.task.clone(),
            modified: Timestamp::from_millisecond(found.modified).unwrap(),
            created: Timestamp::from_millisecond(found.created).unwrap(),
            recurring: false,
            private: found.private,
            write_id: found.write_id.clone(),
        })
    }
}

#[async_trait]
impl Mailbox for ModelMailbox {
    fn capabilities(&self) -> MailboxCapabilities {
        self.capabilities
    }

    fn canonical(&self, task: &Task, own_start: Option<Date>) -> Task {
        let start = task.start.or(own_start.filter(|_| task.due.is_none()));
        Task {
            start,
            due: start.map_or(task.due, |start| Some(task.due.unwrap_or(start).max(start))),
            ..task.clone()
        }
    }

    fn clock_offset(&self) -> Option<SignedDuration> {
        Some(SignedDuration::ZERO)
    }

    fn learn_clock(&self, _: Timestamp, _: Timestamp) {}

    async fn probe(&self, requests: &[ProbeRequest]) -> Vec<Result<Vec<Probed>, Failure>> {
        let mut answers = Vec::new();
        for request in requests {
            let answer = self
                .world
                .read(|world, _| {
                    let probed = request.folders.iter().map(|folder| {
                        if !self.capabilities.signs {
                            return Probed::Unknown;
                        }
                        world
                            .folder_signs(id(&folder.0))
                            .map_or(Probed::Gone, Probed::Signs)
                    });
                    Ok(probed.collect())
                })
                .await;
            answers.push(answer);
        }
        answers
    }

    async fn folders(&self, _: &Owner) -> Result<Vec<Folder>, Failure> {
        self.world
            .read(|world, answer| {
                let mut listed: Vec<Folder> = world
                    .folders
                    .iter()
                    .map(|(number, location)| Folder {
                        id: FolderId(number.to_string()),
                        name: location.to_string(),
                        marker: Some(world.marker(*number, location.clone())),
                        signs: None,
                    })
                    .collect();
                if answer == Answer::Omission {
                    listed.pop();
                }
                Ok(listed)
            })
            .await
    }

    async fn create_folder(&self, _: &Owner, _: &str, location: &LocationKey) -> Result<FolderId, Failure> {
        self.world
            .write(|world| {
                // A folder with our marker already has this name.
                let is_ours = |number: &u32| !world.owners.contains_key(number);
                let there = world
                    .folders
                    .iter()
                    .find(|(number, marker)| *marker == location && is_ours(number));
                let folder = there.map(|(number, _)| *number);
                let folder = folder.unwrap_or_else(|| world.next());
                world.folders.insert(folder, location.clone());
                Ok(FolderId(folder.to_string()))
            })
            .await
    }

    async fn rename_folder(&self, _: &Owner, _: &FolderId, _: &str) -> Result<(), Failure> {
        self.world.write(|_| Ok(())).await
    }

    async fn folders_exist(
        &self,
        _: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<FolderPresence, Failure>>, Failure> {
        self.world
            .read(|world, answer| {
                let mut answers: Vec<Result<FolderPresence, Failure>> = folders
                    .iter()
                    .map(|folder| {
                        Ok(if world.folders.contains_key(&id(&folder.0)) {
                            FolderPresence::Exists
                        } else {
                            FolderPresence::Deleted
                        })
                    })
                    .collect();
                match (answers.first_mut(), answer) {
                    (Some(first), Answer::Omission) => *first = Ok(FolderPresence::NotFound),
                    (Some(first), Answer::Refusal) => *first = Err(refusal()),
                    (None, _) | (_, Answer::Correct) => {}
                }
                Ok(answers)
            })
            .await
    }

    async fn complete_folder_markers(
        &self,
        _: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        Ok(folders.iter().map(|_| Ok(())).collect())
    }

    async fn changes(
        &self,
        _: &Owner,
        folder: &FolderId,
        cursor: Option<&str>,
    ) -> Result<ChangePage, Failure> {
        let cursor = cursor.map(str::to_owned);
        let page = self
            .world
            .read(|world, answer| {
                let number = id(&folder.0);
                if !world.folders.contains_key(&number) {
                    return Err(failure(ErrorClass::Gone));
                }
                if world.faults.relist && cursor.is_some() {
                    world.faults.relist = false;
                    return Err(failure(ErrorClass::CursorInvalid));
                }
                if let Fault::Endless(bytes) = world.faults.fault {
                    world.pages += 1;
                    return Ok(ChangePage {
                        changes: vec![ItemChange::Gone {
                            id: "x".repeat(bytes),
                        }],
                        cursor: format!("page {}", world.pages),
                        last: world.pages == 2_000,
                    });
                }
                let is_in_folder =
                    |item: u32| world.items.get(&item).is_some_and(|found| found.folder == number);
                let mut changes = Vec::new();
                if let Some(cursor) = &cursor {
                    let from: usize = cursor.parse().unwrap();
                    let mut reported = std::collections::BTreeSet::new();
                    for (_, item) in world.mailbox_log[from..].iter().filter(|(of, _)| *of == number) {
                        if reported.insert(*item) {
                            changes.push(if is_in_folder(*item) {
                                ItemChange::Present(world.item_ref(*item))
                            } else {
                                ItemChange::Gone { id: item.to_string() }
                            });
                        }
                    }
                } else {
                    let all = world.items.iter().filter(|(_, item)| item.folder == number);
                    changes.extend(all.map(|(item, _)| ItemChange::Present(world.item_ref(*item))));
                }
                if answer == Answer::Omission {
                    // A wrong listing omits an item. A wrong list of changes reports it as gone.
                    let omitted = world.items.iter().find(|(_, item)| item.folder == number);
                    let omitted = omitted.map(|(item, _)| item.to_string());
                    changes.retain(|change| {
                        !matches!(change, ItemChange::Present(item) if Some(&item.id) == omitted.as_ref())
                    });
                    if cursor.is_some() {
                        changes.extend(omitted.map(|id| ItemChange::Gone { id }));
                    }
                }
                Ok(ChangePage {
                    changes,
                    cursor: world.mailbox_log.len().to_string(),
                    last: true,
                })
            })
            .await;
        self.world.after_folder_read();
        page
    }

    async fn items(&self, _: &Owner, ids: &[String]) -> Result<Vec<Result<MailboxItem, Failure>>, Failure> {
        self.world
            .read(|world, answer| {
                let mut answers: Vec<Result<MailboxItem, Failure>> = ids
                    .iter()
                    .map(|item| {
                        world
                            .mailbox_item(id(item))
                            .ok_or_else(|| failure(ErrorClass::Gone))
                    })
                    .collect();
                match (answers.first_mut(), answer) {
                    (Some(first), Answer::Omission) => *first = Err(failure(ErrorClass::Gone)),
                    (Some(first), Answer::Refusal) if first.is_ok() => *first = Err(refusal()),
                    (Some(_), Answer::Refusal) | (None, _) | (_, Answer::Correct) => {}
                }
                Ok(answers)
            })
            .await
    }

    async fn find(&self, _: &Owner, folders: &[FolderId], key: &SourceKey) -> Result<Vec<ItemRef>, Failure> {
        // In half of the cases the search fails, too.
        self.world
            .read(|world, _| {
                if world.faults.fault != Fault::None && !world.counter.is_multiple_of(2) {
                    return Err(failure(ErrorClass::Transient));
                }
                let inside = |item: &Item| folders.iter().any(|folder| id(&folder.0) == item.folder);
                let found = world
                    .items
                    .iter()
                    .filter(|(_, item)| item.key.as_ref() == Some(key) && inside(item));
                Ok(found.map(|(item, _)| world.item_ref(*item)).collect())
            })
            .await
    }

    async fn list_marked(&self, _: &Owner, folders: &[FolderId]) -> Result<Vec<MarkedItem>, Failure> {
        assert!(self.capabilities.search_by_key, "this server searches nothing");
        self.world
            .read(|world, answer| {
                let inside = |item: &Item| {
                    item.folder == OWN_FOLDER || folders.iter().any(|folder| id(&folder.0) == item.folder)
                };
                let found = world.items.iter().filter(|(_, item)| inside(item));
                let mut found: Vec<MarkedItem> = found
                    .filter_map(|(number, item)| {
                        Some(MarkedItem {
                            item: world.item_ref(*number),
                            marker: world.marker(*number, item.key.clone()?),
                            folder: (item.folder != OWN_FOLDER).then(|| FolderId(item.folder.to_string())),
                        })
                    })
                    .collect();
                if answer == Answer::Omission {
                    found.pop();
                }
                Ok(found)
            })
            .await
    }

    async fn whereabouts(
        &self,
        _: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, Failure> {
        self.world
            .read(|world, answer| {
                let mut answers: Vec<Result<Whereabouts, Failure>> = ids
                    .iter()
                    .map(|item| {
                        let number = id(item);
                        Ok(match (world.items.get(&number), world.binned.get(&number)) {
                            (Some(found), _) => Whereabouts::In(FolderId(found.folder.to_string())),
                            (None, Some(_)) => Whereabouts::Deleted,
                            (None, None) => Whereabouts::NotFound,
                        })
                    })
                    .collect();
                match (answers.first_mut(), answer) {
                    (Some(first), Answer::Omission) => *first = Ok(Whereabouts::NotFound),
                    (Some(first), Answer::Refusal) => *first = Err(refusal()),
                    (None, _) | (_, Answer::Correct) => {}
                }
                Ok(answers)
            })
            .await
    }

    async fn list_archived(&self, _: &Owner) -> Result<Vec<MarkedItem>, Failure> {
        assert!(self.capabilities.archive, "this server has no archive");
        self.world
            .read(|world, answer| {
                let found = world.archive.iter().map(|key| MarkedItem {
                    item: ItemRef {
                        id: format!("archived-{key}"),
                        change_key: String::new(),
                    },
                    marker: Marker {
                        key: key.clone(),
                        marked_for: world.archive_owner.clone(),
                    },
                    folder: None,
                });
                match answer {
                    Answer::Correct => Ok(found.collect()),
                    // One archive is one answer, so it cannot be read in part.
                    Answer::Omission | Answer::Refusal => Err(refusal()),
                }
            })
            .await
    }

    async fn complete_item_markers(
        &self,
        _: &Owner,
        items: &[ItemRef],
    ) -> Result<Vec<Result<ItemRef, Failure>>, Failure> {
        Ok(items.iter().cloned().map(Ok).collect())
    }

    async fn list_deleted(&self, _: &Owner) -> Result<Vec<DeletedItem>, Failure> {
        assert!(
            self.capabilities.deleted_items,
            "this server lists no deleted items"
        );
        self.world
            .read(|world, answer| {
                let found = world.deleted.iter().map(|(key, write_id)| DeletedItem {
                    marker: Marker::unnamed(key.clone()),
                    write_id: write_id.clone(),
                });
                match answer {
                    Answer::Correct => Ok(found.collect()),
                    Answer::Omission => Ok(found.skip(1).collect()),
                    Answer::Refusal => Err(refusal()),
                }
            })
            .await
    }

    async fn create(&self, _: &Owner, folder: &FolderId, item: &NewItem<'_>) -> Result<ItemRef, Failure> {
        let (key, task) = (item.key.clone(), item.task.clone());
        let write_id = item.write_id.to_owned();
        self.world
            .write(|world| {
                let folder = id(&folder.0);
                if !world.folders.contains_key(&folder) {
                    return Err(failure(ErrorClass::Gone));
                }
                world.oracle.record_created(&key, &task);
                let now = world.now + world.skew;
                let created = world.add_item(Item {
                    key: Some(key),
                    folder,
                    task: Task::default(),
                    change_key: 0,
                    modified: now,
                    created: now,
                    private: false,
                    write_id: None,
                });
                world.write_item(
                    created,
                    &task,
                    FieldSet::ALL.without(Field::Categories),
                    &write_id,
                );
                Ok(world.item_ref(created))
            })
            .await
    }

    async fn update(&self, _: &Owner, item: &ItemRef, changes: &ItemChanges) -> Result<ItemRef, Failure> {
        self.world
            .write(|world| {
                if self.capabilities.conditional_writes {
                    world.check_item(item)?;
                } else if world.mailbox_item(id(&item.id)).is_none() {
                    return Err(failure(ErrorClass::Gone));
                }
                let number = id(&item.id);
                let key = world.items.get(&number).and_then(|item| item.key.clone());
                assert!(
                    changes.fields.except(self.capabilities.fields).is_empty(),
                    "a field the mailbox lacks"
                );
                world.write_item(number, &changes.task, changes.fields, &changes.write_id);
                if let Some(key) = key {
                    assert!(
                        changes.fields.except(holds(&key.location())).is_empty(),
                        "{key}: a field the source lacks"
                    );
                    world.oracle.record_sent(&key, changes.task.clone());
                }
                Ok(world.item_ref(number))
            })
            .await
    }

    async fn disown(&self, _: &Owner, item: &ItemRef) -> Result<ItemRef, Failure> {
        self.world
            .write(|world| {
                world.check_item(item)?;
                let number = id(&item.id);
                let found = world.items.get_mut(&number);
                found.ok_or_else(|| failure(ErrorClass::Gone))?.key = None;
                world.touch_item(number);
                Ok(world.item_ref(number))
            })
            .await
    }

    async fn delete(&self, _: &Owner, item: &ItemRef) -> Result<(), Failure> {
        self.world
            .write(|world| {
                world.check_removal(id(&item.id));
                // Mailboxes delete any version. An item that was edited in that moment is found in Deleted Items.
                if let Some(found) = world.delete_item(id(&item.id))
                    && found.change_key.to_string() != item.change_key
                    && let Some(key) = &found.key
                {
                    world.oracle.record_race(key, &found.task);
                }
                Ok(())
            })
            .await
    }

    async fn check(&self, _: &Owner) -> Result<MailboxFacts, Failure> {
        Err(failure(ErrorClass::Transient))
    }
}
