//! The places of items and folders, read by their ids: evidence that is independent of listings and searches.

use std::collections::HashSet;

use tasksync_common::error::{ErrorClass, Failure};

use super::find_folder::{FolderKind, Root};
use super::folders::ReadFolder;
use super::request::{EwsRequest, unclear_success};
use super::response_messages::{EwsError, ResponseMessage};
use super::roots::Roots;
use super::{EwsMailbox, get_folder, get_item, response_code};
use crate::http::service::Intent;
use crate::mailbox::{FolderId, FolderPresence, Owner, Whereabouts};

/// Items or folders requested at once. Answers contain only ids.
const IDS_PER_REQUEST: usize = 100;

impl EwsMailbox {
    /// Implements [`crate::mailbox::Mailbox::whereabouts`].
    pub(super) async fn item_whereabouts(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, EwsError> {
        let mailbox_roots = self.roots(&owner.mailbox).await?;
        let mut parents = Vec::with_capacity(ids.len());
        for asked in ids.chunks(IDS_PER_REQUEST) {
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let (count, zone) = (asked.len(), owner.zone.clone());
            let request = EwsRequest::new(&get_item::OPERATION, &owner.mailbox, move |xml| {
                get_item::read(xml, count, &zone)
            });
            let answered = self
                .run(request, |header| get_item::request_parents(header, &asked))
                .await?;
            if get_item::is_foreign(&answered.messages, &asked) {
                return Err(self.foreign_answer(&get_item::OPERATION, "another item"));
            }
            parents.extend(answered.messages.into_iter().map(|message| {
                parent_of(message, &get_item::OPERATION, |item| {
                    let item = item.filter(|item| item.reference().is_some())?;
                    item.parent().cloned()
                })
            }));
        }
        let deleted = self.deleted_among(owner, mailbox_roots, &parents).await?;
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

    /// Implements [`crate::mailbox::Mailbox::folders_exist`].
    pub(super) async fn folder_presence(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<FolderPresence, Failure>>, EwsError> {
        let mailbox_roots = self.roots(&owner.mailbox).await?;
        let mut parents = Vec::with_capacity(folders.len());
        for asked in folders.chunks(IDS_PER_REQUEST) {
            let asked: Vec<&str> = asked.iter().map(|folder| folder.0.as_str()).collect();
            let count = asked.len();
            let request = EwsRequest::new(&get_folder::OPERATION, &owner.mailbox, move |xml| {
                get_folder::read(xml, count)
            });
            let answered = self
                .run(request, |header| get_folder::request(header, &asked))
                .await?;
            if get_folder::is_foreign(&answered.messages, &asked) {
                return Err(self.foreign_answer(&get_folder::OPERATION, "another folder"));
            }
            parents.extend(answered.messages.into_iter().map(|message| {
                parent_of(message, &get_folder::OPERATION, |folder: Option<ReadFolder>| {
                    let folder = folder.filter(|folder| folder.id.is_some())?;
                    folder.parent_id.map(FolderId)
                })
            }));
        }
        let deleted = self.deleted_among(owner, mailbox_roots, &parents).await?;
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

    /// Returns which of the parent folders are the deleted items or below them. The result is complete, or an
    /// error.
    async fn deleted_among(
        &self,
        owner: &Owner,
        mailbox_roots: Roots,
        parents: &[Result<Option<FolderId>, Failure>],
    ) -> Result<HashSet<String>, EwsError> {
        let parents: HashSet<&String> = parents
            .iter()
            .filter_map(|parent| Some(&parent.as_ref().ok()?.as_ref()?.0))
            .collect();
        if parents.is_empty() {
            return Ok(HashSet::new());
        }
        let root = mailbox_roots
            .deleted_items
            .ok_or_else(|| unclear_success(&get_folder::OPERATION, "deleted items without id"))?;
        let is_plain = |parent: &&String| **parent == root || Some(*parent) == mailbox_roots.tasks.as_ref();
        if !parents.iter().all(is_plain) {
            let below = self
                .list_below_one(&owner.mailbox, Root::DeletedItems, FolderKind::Any)
                .await?;
            let mut deleted: HashSet<String> = below.into_iter().filter_map(|folder| folder.id).collect();
            deleted.retain(|folder| parents.contains(folder));
            deleted.insert(root);
            return Ok(deleted);
        }
        Ok(HashSet::from([root]))
    }
}

/// Returns the parent folder; `None` if the server says that the item or folder does not exist. An answer
/// without the parent folder is a failure, because it says neither.
fn parent_of<T>(
    message: ResponseMessage<T>,
    operation: &'static super::operation::Operation,
    parent: impl FnOnce(T) -> Option<FolderId>,
) -> Result<Option<FolderId>, Failure> {
    match message {
        Ok(read) => match parent(read) {
            Some(parent) => Ok(Some(parent)),
            None => Err(unclear_success(operation, "an answer without the parent folder").failure),
        },
        Err(error) if response_code::names_nothing(&error.code) => Ok(None),
        Err(error) => {
            let error = error.into_error(Intent::Read);
            if error.failure.class == ErrorClass::Gone {
                Ok(None)
            } else {
                Err(error.failure.within(operation.name))
            }
        }
    }
}
