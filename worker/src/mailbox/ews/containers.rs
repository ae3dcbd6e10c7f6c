//! Task folders: complete listings, names that are free, folders met again by their marker.

use std::collections::HashSet;

use tasksync_common::model::{LocationKey, MailboxAddress};

use super::messages::EwsError;
use super::paging::{incomplete, next_offset};
use super::response_code::{self, Meaning};
use super::{EwsMailbox, create_folder, find_folder, folders, unclear, update_folder};
use crate::mailbox::{Folder, FolderId};

/// Folders asked for per page.
const FOLDERS_PER_PAGE: u32 = 250;
/// Names tried for a new folder before giving up: "name", "name (2)" … "name (20)".
const NAMES_TRIED: u32 = 20;

impl EwsMailbox {
    /// Every task folder below the mailbox's own, complete.
    pub(super) async fn list_folders(&self, mailbox: &MailboxAddress) -> Result<Vec<Folder>, EwsError> {
        let (mut folders, mut seen) = (Vec::new(), HashSet::new());
        let mut offset = 0;
        for _ in 0..self.limits.pages {
            let page = self
                .run_one(
                    &find_folder::OPERATION,
                    mailbox,
                    None,
                    true,
                    |header| find_folder::request(header, offset, FOLDERS_PER_PAGE),
                    find_folder::read,
                )
                .await?;
            offset = next_offset(offset, page.folders.len(), page.next);
            let empty = page.folders.is_empty();
            for folder in page
                .folders
                .into_iter()
                .filter_map(folders::ReadFolder::into_folder)
            {
                // A folder made meanwhile moves others onto the next page.
                if seen.insert(folder.id.clone()) {
                    folders.push(folder);
                }
            }
            if page.last {
                return Ok(folders);
            }
            if empty {
                break;
            }
        }
        // A folder that is missing in a listing counts as deleted: half a listing is none.
        Err(incomplete(find_folder::OPERATION.name))
    }

    /// Creates a folder, adopts the one with our marker, or takes another name.
    pub(super) async fn make_folder(
        &self,
        mailbox: &MailboxAddress,
        name: &str,
        location: &LocationKey,
    ) -> Result<FolderId, EwsError> {
        let mut taken = None;
        for attempt in 1..=NAMES_TRIED {
            let name = create_folder::folder_name(name, attempt);
            let made = self
                .run_one(
                    &create_folder::OPERATION,
                    mailbox,
                    None,
                    true,
                    |header| create_folder::request(header, &name, location),
                    create_folder::read,
                )
                .await;
            match made {
                Ok(folder) => {
                    return folder
                        .and_then(|folder| folder.id)
                        .map(FolderId)
                        .ok_or_else(|| unclear(&create_folder::OPERATION, "a new folder without id"));
                }
                Err(error) if is_taken(&error) => {
                    if taken.is_none() {
                        let ours = self.list_folders(mailbox).await?.into_iter().find(|folder| {
                            folder
                                .marker
                                .as_ref()
                                .is_some_and(|marker| marker.key == *location)
                        });
                        if let Some(ours) = ours {
                            return Ok(ours.id);
                        }
                    }
                    taken = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(taken.unwrap_or_else(|| incomplete(create_folder::OPERATION.name)))
    }

    /// Renames a folder, numbering the name if it is taken.
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
                    &update_folder::OPERATION,
                    mailbox,
                    None,
                    false,
                    |header| update_folder::request(header, &folder.0, &name),
                    update_folder::read,
                )
                .await;
            match renamed {
                Err(error) if is_taken(&error) => taken = Some(error),
                other => return other,
            }
        }
        Err(taken.unwrap_or_else(|| incomplete(update_folder::OPERATION.name)))
    }
}

fn is_taken(error: &EwsError) -> bool {
    error
        .code
        .as_deref()
        .is_some_and(|code| response_code::meaning(code) == Meaning::FolderExists)
}
