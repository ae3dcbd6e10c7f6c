//! Reading and finding items, in batches that shrink if the server is too slow or its answer too large.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::SourceKey;

use super::client::throttled;
use super::find_folder::{FolderKind, Root};
use super::find_item::{SearchFolder, Wanted};
use super::folder_listing::is_refused;
use super::paging::{Paging, is_too_large};
use super::request::EwsRequest;
use super::response_messages::EwsError;
use super::{EwsMailbox, find_item, get_item};
use crate::http::service::Intent;
use crate::mailbox::{DeletedItem, FolderId, ItemRef, MailboxItem, MarkedItem, Owner};

/// The code of a server that took too long for the batch; a smaller batch may succeed.
const TOO_SLOW: &str = "ErrorTimeoutExpired";
/// Items requested per page when searching for one key; more than one is rare.
const FOUND_PER_PAGE: u32 = 50;
/// Items requested per page when searching for every key of ours.
const KEYED_PER_PAGE: u32 = 500;
/// Folders that one search may name.
const MAXIMUM_FOLDERS: usize = 20;

/// The position of an item among the requested ones, and its id.
type AskedItem<'a> = (usize, &'a str);

impl EwsMailbox {
    /// Implements [`crate::mailbox::Mailbox::items`].
    pub(super) async fn read_items(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<MailboxItem, Failure>>, EwsError> {
        let mut results: BTreeMap<usize, Result<MailboxItem, Failure>> = BTreeMap::new();
        let asked: Vec<AskedItem<'_>> = ids.iter().map(String::as_str).enumerate().collect();
        let mut batches: VecDeque<Vec<AskedItem<'_>>> = asked
            .chunks(self.limits.items_per_request.max(1))
            .map(<[_]>::to_vec)
            .collect();
        // Halving a batch down to single items takes fewer requests than twice its size, and each item alone
        // may be requested twice.
        let mut requests_left = 3 * ids.len() + batches.len();
        let mut too_large = HashSet::new();
        let mut denied: Option<EwsError> = None;
        while let Some(batch) = batches.pop_front() {
            if requests_left == 0 {
                for (position, _) in batch {
                    results.insert(position, Err(item_never_settled()));
                }
                continue;
            }
            requests_left -= 1;
            match self.read_batch(owner, &batch).await {
                Ok(entries) => {
                    let mut again = Vec::new();
                    let size = batch.len();
                    for ((position, id), entry) in batch.into_iter().zip(entries) {
                        let result = match entry {
                            BatchItem::Done(result) => *result,
                            BatchItem::Again(_) if size > 1 => {
                                again.push((position, id));
                                continue;
                            }
                            BatchItem::Again(failure) => Err(failure),
                        };
                        results.insert(position, result);
                    }
                    if again.len() == size {
                        push_halves(&mut batches, &again);
                    } else if !again.is_empty() {
                        batches.push_front(again);
                    }
                }
                Err(error) if is_too_much(&error) && batch.len() > 1 => push_halves(&mut batches, &batch),
                // The batch is one item, which is requested once more: one answer may be a mistake.
                Err(error) if is_too_large(&error) => {
                    let is_first = batch.iter().all(|&(position, _)| too_large.insert(position));
                    if is_first {
                        batches.push_back(batch);
                    } else {
                        for (position, _) in batch {
                            results.insert(position, Err(does_not_fit(&error.failure)));
                        }
                    }
                }
                // One item may be closed to us while the mailbox is open. The first item of the batch was
                // refused and the others were not read. A second refusal without any success concerns the
                // mailbox.
                Err(error) if is_denied(&error) => {
                    let nothing_read = !results.values().any(Result::is_ok);
                    if denied.is_some() && nothing_read || ids.len() == 1 {
                        return Err(error);
                    }
                    let mut rest = batch.into_iter();
                    if let Some((first, _)) = rest.next() {
                        results.insert(first, Err(of_one_item(&error.failure)));
                    }
                    if rest.len() > 0 {
                        batches.push_front(rest.collect());
                    }
                    denied = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((0..ids.len())
            .map(|position| {
                results
                    .remove(&position)
                    .unwrap_or_else(|| Err(item_never_settled()))
            })
            .collect())
    }

    async fn read_batch(&self, owner: &Owner, batch: &[AskedItem<'_>]) -> Result<Vec<BatchItem>, EwsError> {
        let asked: Vec<&str> = batch.iter().map(|&(_, id)| id).collect();
        // The zone is named for reading, too: a server that keeps dates in the request's zone answers in it,
        // and beyond UTC+12 rounding would not find the day again.
        let zone = crate::zones::owner_zone(&owner.zone);
        let (count, dates) = (asked.len(), zone.zone.clone());
        let request = EwsRequest::new(&get_item::OPERATION, &owner.mailbox, move |xml| {
            get_item::read(xml, count, &dates)
        })
        .in_zone(zone.windows);
        let answered = self
            .run(request, |header| get_item::request(header, &asked))
            .await?;
        if get_item::is_foreign(&answered.messages, &asked) {
            return Err(self.foreign_answer(&get_item::OPERATION, "another item"));
        }
        if let Some(error) = throttled(&answered.messages) {
            return Err(error);
        }
        Ok(answered
            .messages
            .into_iter()
            .map(|message| match message {
                Ok(Some(item)) => BatchItem::Done(Box::new(item.into_item())),
                Ok(None) => BatchItem::Done(Box::new(Err(item_not_shown()))),
                Err(error) => {
                    let again = error.is_stop() || error.code == TOO_SLOW;
                    let error = error.into_error(Intent::Read);
                    // The other messages of the answer report on the other items.
                    let failure = error
                        .failure
                        .clone()
                        .within(get_item::OPERATION.name)
                        .about(Scope::Item);
                    if again {
                        BatchItem::Again(failure)
                    } else if is_denied(&error) {
                        BatchItem::Done(Box::new(Err(of_one_item(&failure))))
                    } else {
                        BatchItem::Done(Box::new(Err(failure)))
                    }
                }
            })
            .collect())
    }

    /// Implements [`crate::mailbox::Mailbox::find`].
    pub(super) async fn find_items(
        &self,
        owner: &Owner,
        folders: &[FolderId],
        key: &SourceKey,
    ) -> Result<Vec<ItemRef>, EwsError> {
        let search_folders: Vec<SearchFolder<'_>> = folders
            .iter()
            .map(|folder| SearchFolder::Folder(&folder.0))
            .collect();
        let mut found = self
            .search(owner, &search_folders, Wanted::Key(key), FOUND_PER_PAGE)
            .await?;
        // A server may compare keys without case; ours are case-sensitive.
        found.retain(|(_, item)| {
            let marker = item.marker.as_ref();
            marker.is_none_or(|found| found.key == *key && found.may_be_of(&owner.marker))
        });
        Ok(found.into_iter().map(|(_, found)| found.item).collect())
    }

    /// Implements [`crate::mailbox::Mailbox::list_marked`].
    pub(super) async fn keyed_items(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<MarkedItem>, EwsError> {
        let search_folders: Vec<SearchFolder<'_>> = std::iter::once(SearchFolder::Tasks)
            .chain(folders.iter().map(|folder| SearchFolder::Folder(&folder.0)))
            .collect();
        self.marked_items_in(owner, &search_folders).await
    }

    /// Implements [`crate::mailbox::Mailbox::list_deleted`].
    pub(super) async fn deleted_items(&self, owner: &Owner) -> Result<Vec<DeletedItem>, EwsError> {
        let search_folders = [SearchFolder::DeletedItems];
        let found = self
            .search(owner, &search_folders, Wanted::AnyKey, KEYED_PER_PAGE)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(_, found)| {
                Some(DeletedItem {
                    marker: found.marker?,
                    write_id: found.write_id?,
                })
            })
            .collect())
    }

    /// Implements [`crate::mailbox::Mailbox::list_archived`].
    pub(super) async fn archived_items(&self, owner: &Owner) -> Result<Vec<MarkedItem>, EwsError> {
        let listed = self
            .list_below_one(&owner.mailbox, Root::Archive, FolderKind::Tasks)
            .await;
        let folders: Vec<FolderId> = match listed {
            Ok(folders) => folders
                .into_iter()
                .filter_map(|folder| folder.id)
                .map(FolderId)
                .collect(),
            // There is no archive, or tasksync may not read it.
            Err(error) if is_refused(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let search_folders: Vec<SearchFolder<'_>> = folders
            .iter()
            .map(|folder| SearchFolder::Folder(&folder.0))
            .collect();
        self.marked_items_in(owner, &search_folders).await
    }

    /// Returns every item with a marker in these places.
    async fn marked_items_in(
        &self,
        owner: &Owner,
        search_folders: &[SearchFolder<'_>],
    ) -> Result<Vec<MarkedItem>, EwsError> {
        let found = self
            .search(owner, search_folders, Wanted::AnyKey, KEYED_PER_PAGE)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(folder, found)| {
                Some(MarkedItem {
                    item: found.item,
                    marker: found.marker?,
                    folder: match folder {
                        SearchFolder::Folder(id) => Some(FolderId(id.to_owned())),
                        SearchFolder::Tasks | SearchFolder::DeletedItems => None,
                    },
                })
            })
            .collect())
    }

    /// Returns the wanted items of these places, each with its place, oldest first. The result is complete,
    /// or an error.
    async fn search<'a>(
        &self,
        owner: &Owner,
        search_folders: &[SearchFolder<'a>],
        wanted: Wanted<'_>,
        size: u32,
    ) -> Result<Vec<(SearchFolder<'a>, find_item::FoundItem)>, EwsError> {
        let mailbox_roots = self.roots.cached(&owner.mailbox);
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let beginning = Paging::new(size, self.limits.pages);
        let mut searches: VecDeque<(&[SearchFolder<'a>], Paging)> = search_folders
            .chunks(MAXIMUM_FOLDERS)
            .map(|group| (group, beginning))
            .collect();
        while let Some((group, paging)) = searches.pop_front() {
            let pages = match self.find_pages(owner, group, wanted, paging).await {
                Err(error) if is_too_large(&error) => {
                    let (left, right) = group.split_at(group.len() / 2);
                    if left.is_empty() {
                        searches.push_front((group, paging.smaller().ok_or(error)?));
                    } else {
                        searches.push_front((right, paging));
                        searches.push_front((left, paging));
                    }
                    continue;
                }
                pages => pages?,
            };
            for (searched_folder, page) in group.iter().zip(pages) {
                let Some(page) = page else { continue };
                let folder = match searched_folder {
                    SearchFolder::Folder(id) => Some(*id),
                    SearchFolder::Tasks => mailbox_roots.tasks.as_deref(),
                    SearchFolder::DeletedItems => mailbox_roots.deleted_items.as_deref(),
                };
                let is_elsewhere = |item: &find_item::FoundItem| matches!((item.parent.as_deref(), folder), (Some(found), Some(asked)) if found != asked);
                if page.items.iter().any(is_elsewhere) {
                    match searched_folder {
                        SearchFolder::Folder(_) => {}
                        SearchFolder::Tasks | SearchFolder::DeletedItems => self.roots.forget(&owner.mailbox),
                    }
                    return Err(self.foreign_answer(&find_item::OPERATION, "items of another folder"));
                }
                let (count, seen_before) = (page.items.len(), seen.len());
                for item in page.items {
                    if seen.insert(item.item.id.clone()) {
                        found.push((*searched_folder, item));
                    }
                }
                let next = paging.after(
                    page.end,
                    count,
                    seen.len() > seen_before,
                    find_item::OPERATION.name,
                )?;
                searches.extend(next.map(|next| (std::slice::from_ref(searched_folder), next)));
            }
        }
        found.sort_by(|(_, left), (_, right)| {
            let created = |item: &find_item::FoundItem| item.created.unwrap_or(jiff::Timestamp::MAX);
            created(left)
                .cmp(&created(right))
                .then_with(|| left.item.cmp(&right.item))
        });
        Ok(found)
    }

    /// Returns one page for each place; `None` for a folder that is gone.
    async fn find_pages(
        &self,
        owner: &Owner,
        search_folders: &[SearchFolder<'_>],
        wanted: Wanted<'_>,
        paging: Paging,
    ) -> Result<Vec<Option<find_item::FoundItemPage>>, EwsError> {
        let own_folder = search_folders.contains(&SearchFolder::Tasks);
        let count = search_folders.len();
        let request = EwsRequest::new(&find_item::OPERATION, &owner.mailbox, move |xml| {
            find_item::read(xml, count)
        })
        .naming_own_folder(own_folder);
        let answered = self
            .run(request, |header| {
                find_item::request(header, search_folders, wanted, paging)
            })
            .await?;
        answered
            .messages
            .into_iter()
            .map(|message| match message {
                Ok(page) => Ok(Some(page)),
                Err(error) => {
                    let mut error = error.into_error(Intent::Read);
                    if error.failure.class == ErrorClass::Gone {
                        return Ok(None);
                    }
                    error.failure = error.failure.within(find_item::OPERATION.name);
                    Err(error)
                }
            })
            .collect()
    }
}

/// The result of one item of a batch.
enum BatchItem {
    /// The item was read, or refused for good.
    Done(Box<Result<MailboxItem, Failure>>),
    /// The item was not read, or not in time.
    Again(Failure),
}

/// Returns whether the server took too long for the batch or its answer was too large: a smaller batch may
/// succeed.
fn is_too_much(error: &EwsError) -> bool {
    error.code.as_deref() == Some(TOO_SLOW) || is_too_large(error)
}

/// Returns the refusal of one item whose answer alone exceeds the limit.
fn does_not_fit(failure: &Failure) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeAnswerTooLarge,
        failure.detail.clone(),
    )
    .about(Scope::Item)
}

fn is_denied(error: &EwsError) -> bool {
    error.code.as_deref() == Some("ErrorAccessDenied") && error.failure.class == ErrorClass::Refused
}

fn of_one_item(failure: &Failure) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeItemRefused,
        failure.detail.clone(),
    )
}

fn push_halves<'a>(batches: &mut VecDeque<Vec<AskedItem<'a>>>, batch: &[AskedItem<'a>]) {
    let (left, right) = batch.split_at(batch.len() / 2);
    batches.push_front(right.to_vec());
    batches.push_front(left.to_vec());
}

fn item_not_shown() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeItemRefused,
        "GetItem: the server reports success and does not show the item",
    )
}

fn item_never_settled() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ExchangeError,
        "GetItem: the server did not settle this item, however small the batch",
    )
}
