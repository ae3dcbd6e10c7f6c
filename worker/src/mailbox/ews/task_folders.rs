//! Task folders: finding them by their marker, choosing a free name, and adopting them.

use std::collections::HashSet;

use tasksync_common::model::{LocationKey, MailboxAddress};

use super::find_folder::{FolderKind, Root};
use super::folder_listing::is_refused;
use super::folders::ReadFolder;
use super::paging::incomplete;
use super::request::{EwsRequest, unclear_success};
use super::response_code::{self, Meaning};
use super::response_messages::EwsError;
use super::roots::Roots;
use super::{EwsMailbox, create_folder, find_folder, get_folder, operation, update_folder};
use crate::http::service::Intent;
use crate::mailbox::{Folder, FolderId, Owner};

/// Names tried for a new folder before giving up: "name", "name (2)" … "name (20)".
const NAMES_TRIED: u32 = 20;

impl EwsMailbox {
    /// Returns every task folder of the mailbox outside the deleted items, at any place, without the
    /// mailbox's own task folder.
    pub(super) async fn list_folders(&self, mailbox: &MailboxAddress) -> Result<Vec<Folder>, EwsError> {
        let mailbox_roots = self.roots(mailbox).await?;
        let listed = self.visible_task_folders(mailbox, &mailbox_roots).await?;
        Ok(listed
            .into_iter()
            .filter(|folder| folder.id != mailbox_roots.tasks)
            .filter_map(ReadFolder::into_folder)
            .collect())
    }

    /// Returns every folder that may hold tasks, except those in the deleted items.
    async fn visible_task_folders(
        &self,
        mailbox: &MailboxAddress,
        mailbox_roots: &Roots,
    ) -> Result<Vec<ReadFolder>, EwsError> {
        let roots = [Root::Top, Root::DeletedItems];
        let mut listings = match self.list_below(mailbox, &roots, FolderKind::Tasks).await {
            Ok(listings) => listings.into_iter(),
            Err(error) => vec![Err(error)].into_iter(),
        };
        let top = listings.next().unwrap_or_else(|| Ok(Vec::new()));
        let mut top = match top {
            Ok(top) => top,
            // A delegate with access to the task folder only sees the folders below it.
            Err(error) if is_refused(&error) => {
                return self.list_below_one(mailbox, Root::Tasks, FolderKind::Any).await;
            }
            Err(error) => return Err(error),
        };
        // The mailbox's own task folder is below the top, so an answer without it belongs to another mailbox.
        // An answer without any folder cannot be checked.
        let is_of_this_mailbox = top.is_empty()
            || mailbox_roots.tasks.is_none()
            || top.iter().any(|folder| folder.id == mailbox_roots.tasks);
        if !is_of_this_mailbox {
            self.roots.forget(mailbox);
            return Err(self.foreign_answer(&find_folder::OPERATION, "the folders of another mailbox"));
        }
        match listings.next() {
            Some(Ok(deleted)) => {
                let deleted: HashSet<&String> =
                    deleted.iter().filter_map(|folder| folder.id.as_ref()).collect();
                top.retain(|folder| folder.id.as_ref().is_none_or(|id| !deleted.contains(id)));
            }
            Some(Err(error)) if !is_refused(&error) => return Err(error),
            Some(Err(_)) | None => {}
        }
        Ok(top)
    }

    /// Creates a folder. If the name is taken, adopts the folder with our marker, otherwise tries another
    /// name.
    pub(super) async fn make_folder(
        &self,
        owner: &Owner,
        name: &str,
        location: &LocationKey,
    ) -> Result<FolderId, EwsError> {
        let (mailbox, marker) = (&owner.mailbox, owner.marker.to_string());
        let mut taken = None;
        for attempt in 1..=NAMES_TRIED {
            let name = create_folder::folder_name(name, attempt);
            let made = self
                .run_one(
                    EwsRequest::new(&create_folder::OPERATION, mailbox, create_folder::read)
                        .naming_own_folder(true),
                    |header| create_folder::request(header, &name, location, &marker),
                )
                .await;
            match made {
                Ok(folder) => {
                    let id = folder.and_then(|folder| folder.id).ok_or_else(|| {
                        unclear_success(&create_folder::OPERATION, "a new folder without id")
                    })?;
                    self.prove_folder(mailbox, &id).await?;
                    return Ok(FolderId(id));
                }
                Err(error) if is_taken(&error) => {
                    if taken.is_none() {
                        let existing = self.list_folders(mailbox).await?.into_iter().find(|folder| {
                            folder.marker.as_ref().is_some_and(|marker| {
                                marker.key == *location && marker.may_be_of(&owner.marker)
                            })
                        });
                        if let Some(existing) = existing {
                            return Ok(existing.id);
                        }
                    }
                    taken = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(taken.unwrap_or_else(|| incomplete(create_folder::OPERATION.name)))
    }

    /// Proves that a folder that was just created exists below the mailbox's own task folder: tasks created
    /// in another mailbox's folder would be another person's.
    ///
    /// # Errors
    /// The outcome of the creation is unknown.
    async fn prove_folder(&self, mailbox: &MailboxAddress, id: &str) -> Result<(), EwsError> {
        let operation = &create_folder::OPERATION;
        let mailbox_roots = self.roots(mailbox).await?;
        let answered = self
            .run(
                EwsRequest::new(&get_folder::OPERATION, mailbox, |xml| get_folder::read(xml, 1)),
                |header| get_folder::request(header, &[id]),
            )
            .await?;
        let shown = match operation::only(answered.messages) {
            Ok(Ok(shown)) => shown,
            Ok(Err(error)) => {
                let failure = error.into_error(Intent::Read).failure;
                return Err(unclear_success(
                    operation,
                    &format!("the new folder cannot be read: {failure}"),
                ));
            }
            Err(reason) => return Err(unclear_success(operation, &reason.0)),
        };
        let shown = shown.filter(|folder| folder.id.as_deref() == Some(id));
        match shown.and_then(|folder| folder.parent_id) {
            Some(parent) if mailbox_roots.tasks.as_ref().is_none_or(|tasks| *tasks == parent) => Ok(()),
            Some(_) => Err(self.foreign_answer(operation, "a folder of another mailbox")),
            None => Err(unclear_success(operation, "the new folder is not shown")),
        }
    }

    /// Renames a folder. If the name is taken, appends a number.
    pub(super) async fn set_folder_name(
        &self,
        mailbox: &MailboxAddress,
        folder: &FolderId,
        name: &str,
    ) -> Result<(), EwsError> {
        let mut taken = None;
        for attempt in 1..=NAMES_TRIED {
            let name = create_folder::folder_name(name, attempt);
            let renamed = self
                .run_one(
                    EwsRequest::new(&update_folder::OPERATION, mailbox, |xml| {
                        update_folder::read(xml, 1)
                    }),
                    |header| update_folder::request(header, &folder.0, &name),
                )
                .await;
            match renamed {
                Err(error) if is_taken(&error) => taken = Some(error),
                Err(error) => return Err(error),
                Ok(shown) => {
                    let id = shown.and_then(|shown| shown.id);
                    if id.is_some_and(|id| id != folder.0) {
                        return Err(self.foreign_answer(&update_folder::OPERATION, "another folder"));
                    }
                    return self.prove_name(mailbox, folder, &name).await;
                }
            }
        }
        Err(taken.unwrap_or_else(|| incomplete(update_folder::OPERATION.name)))
    }

    /// Proves that a folder has the name that was just written; the answer to the write does not show it.
    ///
    /// # Errors
    /// The outcome of the write is unknown.
    async fn prove_name(
        &self,
        mailbox: &MailboxAddress,
        folder: &FolderId,
        name: &str,
    ) -> Result<(), EwsError> {
        let operation = &update_folder::OPERATION;
        let answered = self
            .run_one(
                EwsRequest::new(&get_folder::OPERATION, mailbox, |xml| get_folder::read(xml, 1)),
                |header| get_folder::request_name(header, &folder.0),
            )
            .await;
        let shown = answered.map_err(|error| {
            let failure = error.failure;
            unclear_success(operation, &format!("the folder cannot be read: {failure}"))
        })?;
        match shown.filter(|shown| shown.id.as_deref() == Some(folder.0.as_str())) {
            Some(shown) if shown.name == name => Ok(()),
            Some(_) | None => Err(unclear_success(
                operation,
                "the folder does not show the new name",
            )),
        }
    }
}

fn is_taken(error: &EwsError) -> bool {
    error
        .code
        .as_deref()
        .is_some_and(|code| response_code::meaning(code) == Meaning::FolderExists)
}
