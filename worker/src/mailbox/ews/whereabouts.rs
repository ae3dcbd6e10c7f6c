//! Where items and folders lie, read by their ids: evidence that depends on no listing and on no search.

use std::collections::HashSet;

use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::model::MailboxAddress;

use super::folders::ReadFolder;
use super::messages::{EwsError, Message};
use super::paging::{incomplete, next_offset};
use super::{EwsMailbox, find_folder, get_folder, get_item, unclear};
use crate::mailbox::{FolderId, FolderPresence, Owner, Whereabouts};

/// Items or folders asked for in one request. Answers hold ids only.
const IDS_PER_REQUEST: usize = 100;
/// Folders below the deleted items asked for per page.
const FOLDERS_PER_PAGE: u32 = 250;

impl EwsMailbox {
    /// See [`crate::mailbox::Mailbox::whereabouts`].
    pub(super) async fn item_whereabouts(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, EwsError> {
        let mut parents = Vec::with_capacity(ids.len());
        for asked in ids.chunks(IDS_PER_REQUEST) {
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let answered = self
                .run(
                    &get_item::OPERATION,
                    &owner.mailbox,
                    None,
                    false,
                    |header| get_item::request_parents(header, &asked),
                    |xml| {
                        let messages = get_item::read(xml, asked.len(), &owner.zone)?;
                        get_item::check(&messages, &asked)?;
                        Ok(messages)
                    },
                )
                .await?;
            parents.extend(answered.messages.into_iter().map(|message| {
                parent_of(message, &get_item::OPERATION, |item| {
                    item.and_then(|item| item.parent().cloned())
                })
            }));
        }
        let deleted = self.deleted_folders_if_needed(owner, &parents).await?;
        Ok(parents
            .into_iter()
            .map(|parent| {
                Ok(match parent? {
                    None => Whereabouts::NotFound,
                    Some(parent) if deleted.contains(&parent.0) => Whereabouts::Deleted,
                    Some(parent) => Whereabouts::In(parent),
                })
            })
            .collect())
    }

    /// See [`crate::mailbox::Mailbox::folders_exist`].
    pub(super) async fn folder_presence(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<FolderPresence, Failure>>, EwsError> {
        let mut parents = Vec::with_capacity(folders.len());
        for asked in folders.chunks(IDS_PER_REQUEST) {
            let asked: Vec<&str> = asked.iter().map(|folder| folder.0.as_str()).collect();
            let answered = self
                .run(
                    &get_folder::OPERATION,
                    &owner.mailbox,
                    None,
                    false,
                    |header| get_folder::request(header, &asked),
                    |xml| {
                        let messages = get_folder::read(xml, asked.len())?;
                        get_folder::check(&messages, &asked)?;
                        Ok(messages)
                    },
                )
                .await?;
            parents.extend(answered.messages.into_iter().map(|message| {
                parent_of(message, &get_folder::OPERATION, |folder: Option<ReadFolder>| {
                    folder.and_then(|folder| folder.parent_id).map(FolderId)
                })
            }));
        }
        let deleted = self.deleted_folders_if_needed(owner, &parents).await?;
        Ok(parents
            .into_iter()
            .map(|parent| {
                Ok(match parent? {
                    None => FolderPresence::NotFound,
                    Some(parent) if deleted.contains(&parent.0) => FolderPresence::Deleted,
                    Some(_) => FolderPresence::Exists,
                })
            })
            .collect())
    }

    async fn deleted_folders_if_needed(
        &self,
        owner: &Owner,
        parents: &[Result<Option<FolderId>, Failure>],
    ) -> Result<HashSet<String>, EwsError> {
        if parents.iter().any(|parent| matches!(parent, Ok(Some(_)))) {
            self.deleted_folders(&owner.mailbox).await
        } else {
            Ok(HashSet::new())
        }
    }

    /// The ids of the deleted items and of every folder below them; complete or an error.
    async fn deleted_folders(&self, mailbox: &MailboxAddress) -> Result<HashSet<String>, EwsError> {
        let root = self
            .run_one(
                &get_folder::OPERATION,
                mailbox,
                None,
                false,
                get_folder::request_deleted_items,
                |xml| get_folder::read(xml, 1),
            )
            .await?;
        let root = root
            .and_then(|folder| folder.id)
            .ok_or_else(|| unclear(&get_folder::OPERATION, "deleted items without id"))?;
        let mut deleted = HashSet::from([root]);
        let mut offset = 0;
        for _ in 0..self.limits.pages {
            let page = self
                .run_one(
                    &find_folder::OPERATION,
                    mailbox,
                    None,
                    false,
                    |header| find_folder::request_deleted(header, offset, FOLDERS_PER_PAGE),
                    find_folder::read,
                )
                .await?;
            offset = next_offset(offset, page.folders.len(), page.next);
            let empty = page.folders.is_empty();
            deleted.extend(page.folders.into_iter().filter_map(|folder| folder.id));
            if page.last {
                return Ok(deleted);
            }
            if empty {
                break;
            }
        }
        Err(incomplete(find_folder::OPERATION.name))
    }
}

/// The folder above; `None` when the server says that there is no such item or folder. An answer without the folder above
/// says neither.
fn parent_of<T>(
    message: Message<T>,
    operation: &'static super::operation::Operation,
    parent: impl FnOnce(T) -> Option<FolderId>,
) -> Result<Option<FolderId>, Failure> {
    match message {
        Ok(read) => match parent(read) {
            Some(parent) => Ok(Some(parent)),
            None => Err(unclear(operation, "an answer without the folder above").failure),
        },
        Err(error) => {
            let error = error.into_error(false);
            if error.failure.class == ErrorClass::Gone {
                Ok(None)
            } else {
                Err(error.failure.within(operation.name))
            }
        }
    }
}
