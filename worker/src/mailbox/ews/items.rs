//! Reading and finding items in batches that shrink when the server is too slow for them.

use std::collections::VecDeque;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::SourceKey;

use super::client::throttled;
use super::find_item::{Place, Wanted};
use super::messages::EwsError;
use super::paging::{incomplete, next_offset};
use super::{EwsMailbox, find_item, get_item};
use crate::mailbox::{DeletedItem, FolderId, ItemRef, MailboxItem, Marker, Owner, PlacedItem};

/// The server took too long for the batch; a smaller one may pass.
const TOO_SLOW: &str = "ErrorTimeoutExpired";
/// Items asked for at once when looking for a key; more than one is rare.
const FOUND_PER_PAGE: u32 = 50;
/// Items asked for at once when looking for everything of ours.
const KEYED_PER_PAGE: u32 = 500;
/// Folders that one search may name.
const MAXIMUM_FOLDERS: usize = 20;

impl EwsMailbox {
    /// See [`crate::mailbox::Mailbox::items`].
    pub(super) async fn read_items(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<MailboxItem, Failure>>, EwsError> {
        let mut results: Vec<Option<Result<MailboxItem, Failure>>> = ids.iter().map(|_| None).collect();
        let positions: Vec<usize> = (0..ids.len()).collect();
        let mut batches: VecDeque<Vec<usize>> = positions
            .chunks(self.limits.items_per_request.max(1))
            .map(<[usize]>::to_vec)
            .collect();
        // Halving a batch down to single items takes fewer than twice its size in requests.
        let mut requests_left = 2 * ids.len() + batches.len();
        let mut denied: Option<EwsError> = None;
        while let Some(batch) = batches.pop_front() {
            if requests_left == 0 {
                for position in batch {
                    results[position] = Some(Err(never_settled()));
                }
                continue;
            }
            requests_left -= 1;
            match self.read_batch(owner, ids, &batch).await {
                Ok(entries) => {
                    let mut again = Vec::new();
                    let size = batch.len();
                    for (position, entry) in batch.into_iter().zip(entries) {
                        match entry {
                            Entry::Done(result) => results[position] = Some(*result),
                            Entry::Again(_) if size > 1 => again.push(position),
                            Entry::Again(failure) => results[position] = Some(Err(failure)),
                        }
                    }
                    if again.len() == size {
                        push_halves(&mut batches, &again);
                    } else if !again.is_empty() {
                        batches.push_front(again);
                    }
                }
                Err(error) if error.code.as_deref() == Some(TOO_SLOW) && batch.len() > 1 => {
                    push_halves(&mut batches, &batch);
                }
                // One item may be closed to us while the mailbox is open: the first of the batch is the one that was
                // refused, the others were not looked at. A second refusal in a row without any success is the mailbox's.
                Err(error) if is_denied(&error) => {
                    let nothing_read = !results.iter().flatten().any(Result::is_ok);
                    if denied.is_some() && nothing_read || ids.len() == 1 {
                        return Err(error);
                    }
                    let mut rest = batch.into_iter();
                    if let Some(first) = rest.next() {
                        results[first] = Some(Err(of_one_item(&error.failure)));
                    }
                    if rest.len() > 0 {
                        batches.push_front(rest.collect());
                    }
                    denied = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(never_settled())))
            .collect())
    }

    async fn read_batch(
        &self,
        owner: &Owner,
        ids: &[String],
        batch: &[usize],
    ) -> Result<Vec<Entry>, EwsError> {
        let asked: Vec<&str> = batch.iter().map(|&position| ids[position].as_str()).collect();
        // Named when reading too: a server that keeps dates in the request's zone answers in it, and beyond UTC+12 no
        // rounding would find the day again.
        let zone = super::zones::owner_zone(&owner.zone);
        let answered = self
            .run(
                &get_item::OPERATION,
                &owner.mailbox,
                Some(zone.windows),
                false,
                |header| get_item::request(header, &asked),
                |xml| {
                    let messages = get_item::read(xml, asked.len(), &zone.zone)?;
                    get_item::check(&messages, &asked)?;
                    Ok(messages)
                },
            )
            .await?;
        if let Some(error) = throttled(&answered.messages) {
            return Err(error);
        }
        Ok(answered
            .messages
            .into_iter()
            .map(|message| match message {
                Ok(Some(item)) => Entry::Done(Box::new(item.into_item())),
                Ok(None) => Entry::Done(Box::new(Err(never_settled()))),
                Err(error) => {
                    let again = error.is_stop() || error.code == TOO_SLOW;
                    let error = error.into_error(false);
                    let failure = error.failure.clone().within(get_item::OPERATION.name);
                    if again {
                        Entry::Again(failure)
                    } else if is_denied(&error) {
                        Entry::Done(Box::new(Err(of_one_item(&failure))))
                    } else {
                        Entry::Done(Box::new(Err(failure)))
                    }
                }
            })
            .collect())
    }

    /// See [`crate::mailbox::Mailbox::find`].
    pub(super) async fn find_items(
        &self,
        owner: &Owner,
        folders: &[FolderId],
        key: &SourceKey,
    ) -> Result<Vec<ItemRef>, EwsError> {
        let places: Vec<Place<'_>> = folders.iter().map(|folder| Place::Folder(&folder.0)).collect();
        let mut found = self
            .search(owner, &places, Wanted::Key(key), FOUND_PER_PAGE)
            .await?;
        // A server may compare without case; keys differ only as written.
        found.retain(|(_, item)| item.key.as_ref().is_none_or(|found| found == key));
        Ok(found.into_iter().map(|(_, found)| found.item).collect())
    }

    /// See [`crate::mailbox::Mailbox::ours`].
    pub(super) async fn keyed_items(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<PlacedItem>, EwsError> {
        let places: Vec<Place<'_>> = std::iter::once(Place::Tasks)
            .chain(folders.iter().map(|folder| Place::Folder(&folder.0)))
            .collect();
        let found = self
            .search(owner, &places, Wanted::AnyKey, KEYED_PER_PAGE)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(place, found)| {
                Some(PlacedItem {
                    item: found.item,
                    marker: Marker::unnamed(found.key.filter(|key| !key.as_str().is_empty())?),
                    folder: match place {
                        Place::Folder(id) => Some(FolderId(id.to_owned())),
                        Place::Tasks | Place::DeletedItems => None,
                    },
                })
            })
            .collect())
    }

    /// See [`crate::mailbox::Mailbox::deleted`].
    pub(super) async fn deleted_items(&self, owner: &Owner) -> Result<Vec<DeletedItem>, EwsError> {
        let places = [Place::DeletedItems];
        let found = self
            .search(owner, &places, Wanted::AnyKey, KEYED_PER_PAGE)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|(_, found)| {
                Some(DeletedItem {
                    marker: Marker::unnamed(found.key?),
                    write_id: found.write_id?,
                })
            })
            .collect())
    }

    /// The wanted items of these places with the place each is in, oldest first; complete or an error.
    async fn search<'a>(
        &self,
        owner: &Owner,
        places: &[Place<'a>],
        wanted: Wanted<'_>,
        size: u32,
    ) -> Result<Vec<(Place<'a>, find_item::Found)>, EwsError> {
        let mut found = Vec::new();
        for group in places.chunks(MAXIMUM_FOLDERS) {
            let pages = self.find_pages(owner, group, wanted, 0, size).await?;
            for (&place, first) in group.iter().zip(pages) {
                let mut page = first;
                let mut offset = 0;
                let mut pages_left = self.limits.pages;
                while let Some(present) = page.take() {
                    offset = next_offset(offset, present.items.len(), present.next);
                    let empty = present.items.is_empty();
                    found.extend(present.items.into_iter().map(|item| (place, item)));
                    if present.last {
                        break;
                    }
                    // An incomplete search would let a second copy be created.
                    if pages_left == 0 || empty {
                        return Err(incomplete("FindItem"));
                    }
                    pages_left -= 1;
                    page = self
                        .find_pages(owner, &[place], wanted, offset, size)
                        .await?
                        .pop()
                        .flatten();
                }
            }
        }
        found.sort_by(|(_, left), (_, right)| {
            let created = |item: &find_item::Found| item.created.unwrap_or(jiff::Timestamp::MAX);
            created(left)
                .cmp(&created(right))
                .then_with(|| left.item.cmp(&right.item))
        });
        found.dedup_by(|(_, right), (_, left)| right.item.id == left.item.id);
        Ok(found)
    }

    /// One page of each place; `None` for a folder that is gone, in which nothing can be found.
    async fn find_pages(
        &self,
        owner: &Owner,
        places: &[Place<'_>],
        wanted: Wanted<'_>,
        offset: u32,
        size: u32,
    ) -> Result<Vec<Option<find_item::Page>>, EwsError> {
        let own_folder = places.contains(&Place::Tasks);
        let answered = self
            .run(
                &find_item::OPERATION,
                &owner.mailbox,
                None,
                own_folder,
                |header| find_item::request(header, places, wanted, offset, size),
                |xml| find_item::read(xml, places.len()),
            )
            .await?;
        answered
            .messages
            .into_iter()
            .map(|message| match message {
                Ok(page) => Ok(Some(page)),
                Err(error) => {
                    let mut error = error.into_error(false);
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

/// One item of a batch.
enum Entry {
    /// Read, or refused for good.
    Done(Box<Result<MailboxItem, Failure>>),
    /// Not looked at, or not in time.
    Again(Failure),
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

fn push_halves(batches: &mut VecDeque<Vec<usize>>, batch: &[usize]) {
    let (left, right) = batch.split_at(batch.len() / 2);
    batches.push_front(right.to_vec());
    batches.push_front(left.to_vec());
}

fn never_settled() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ExchangeError,
        "GetItem: the server did not settle this item, however small the batch",
    )
}
