//! Complete listings of the folders below the folders that every mailbox has.

use std::collections::{HashSet, VecDeque};

use tasksync_common::error::{ErrorClass, Scope};
use tasksync_common::model::MailboxAddress;

use super::EwsMailbox;
use super::client::throttled;
use super::find_folder::{self, FolderKind, Root};
use super::folders::ReadFolder;
use super::paging::{Paging, is_too_large};
use super::request::{EwsRequest, operation_refused, unclear_success};
use super::response_messages::EwsError;

/// Folders requested per page.
const FOLDERS_PER_PAGE: u32 = 250;

/// The part of one listing that was read.
#[derive(Default)]
struct FolderListing {
    folders: Vec<ReadFolder>,
    seen: HashSet<String>,
}

impl FolderListing {
    /// Adds a page's folders. Returns whether any of them is new: a folder created meanwhile moves others
    /// onto the next page.
    fn add(&mut self, folders: Vec<ReadFolder>) -> bool {
        let before = self.seen.len();
        for folder in folders {
            let is_new = folder.id.as_ref().is_some_and(|id| self.seen.insert(id.clone()));
            if is_new {
                self.folders.push(folder);
            }
        }
        self.seen.len() > before
    }
}

impl EwsMailbox {
    /// Returns every folder below each of `roots`, at any depth, in their order. Each listing is complete or
    /// failed separately.
    pub(super) async fn list_below(
        &self,
        mailbox: &MailboxAddress,
        roots: &[Root],
        kind: FolderKind,
    ) -> Result<Vec<Result<Vec<ReadFolder>, EwsError>>, EwsError> {
        let operation = &find_folder::OPERATION;
        // Every mailbox has these folders, so "not found" is a refusal. An archive may be missing.
        let always_there = !roots.contains(&Root::Archive);
        let mut listings: Vec<Result<FolderListing, EwsError>> =
            roots.iter().map(|_| Ok(FolderListing::default())).collect();
        let everything: Vec<(usize, Root)> = roots.iter().copied().enumerate().collect();
        let mut pages = VecDeque::from([(everything, Paging::new(FOLDERS_PER_PAGE, self.limits.pages))]);
        while let Some((asked, paging)) = pages.pop_front() {
            let asked_roots: Vec<Root> = asked.iter().map(|&(_, root)| root).collect();
            let count = asked_roots.len();
            let request = EwsRequest::new(operation, mailbox, move |xml| find_folder::read(xml, count))
                .naming_own_folder(always_there);
            let answered = self
                .run(request, |header| {
                    find_folder::request(header, &asked_roots, kind, paging)
                })
                .await;
            let messages = match (answered, paging.smaller()) {
                (Err(error), Some(smaller)) if is_too_large(&error) => {
                    pages.push_front((asked, smaller));
                    continue;
                }
                (answered, _) => answered?.messages,
            };
            if let Some(error) = throttled(&messages) {
                return Err(error);
            }
            for ((index, root), message) in asked.into_iter().zip(messages) {
                let Some(listing) = listings.get_mut(index) else {
                    continue;
                };
                let next = match (message, &mut *listing) {
                    (Ok(page), Ok(listing)) => {
                        let count = page.folders.len();
                        let any_new = listing.add(page.folders);
                        paging.after(page.end, count, any_new, operation.name)
                    }
                    (Err(error), _) => Err(operation_refused(operation, error)),
                    (Ok(_), Err(_)) => Ok(None),
                };
                match next {
                    Ok(next) => pages.extend(next.map(|next| (vec![(index, root)], next))),
                    Err(error) => *listing = Err(error),
                }
            }
        }
        Ok(listings
            .into_iter()
            .map(|listing| listing.map(|listing| listing.folders))
            .collect())
    }

    /// Returns every folder below `root`, at any depth.
    pub(super) async fn list_below_one(
        &self,
        mailbox: &MailboxAddress,
        root: Root,
        kind: FolderKind,
    ) -> Result<Vec<ReadFolder>, EwsError> {
        self.list_below(mailbox, &[root], kind)
            .await?
            .pop()
            .unwrap_or_else(|| Err(unclear_success(&find_folder::OPERATION, "no listing")))
    }
}

/// Returns whether the server refuses to list these folders for us, or with this restriction. It may still
/// answer another request.
pub(super) fn is_refused(error: &EwsError) -> bool {
    let by_name = |code: &str| code.starts_with("ErrorUnsupported") || code == "ErrorInvalidRestriction";
    error.code.as_deref().is_some_and(by_name)
        || error.failure.class == ErrorClass::Gone
        || error.failure.class == ErrorClass::Refused && error.failure.scope < Scope::Server
}
