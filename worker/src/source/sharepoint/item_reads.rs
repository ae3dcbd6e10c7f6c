//! Reading items of task lists: by their ids, or every item of a person. A page that is too large is
//! requested again in halves.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::json;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};

use super::client::SharePointClient;
use super::errors::{RequestSubject, SharePointCode};
use super::item_cache::{ItemKey, ItemRead, TaskListItem};
use super::json::Cell;
use super::lists::TaskList;
use super::queries::{by_ids, get_item, get_items, page, page_of};
use super::read_failure::{ReadFailure, read_failure_of, unreadable_item};
use super::wire::{RestAnswer, RestRequest, SharePointRefusal};
use super::{SharePointSettings, Site, odata};
use crate::large;

/// Ids requested in one CAML query.
const IDS: usize = 100;

/// An entry in an answer that lists items.
struct ListedItem {
    id: i64,
    /// The ids of the site users to whom it is assigned.
    assigned: Result<Vec<i64>, String>,
    /// The item; `None` if it is not assigned to the person asked about.
    item: Option<Result<TaskListItem, String>>,
}

/// Returns the entries of an answer to `getitems`, at most `rows`. Values are read only for entries assigned
/// to `person`; without `person`, for all.
///
/// # Errors
/// The answer cannot be read, or is not about this list.
fn entries_of(
    list: &TaskList,
    reply: &RestAnswer,
    rows: usize,
    person: Option<i64>,
) -> Result<Vec<ListedItem>, Failure> {
    let properties = list.columns.properties();
    let mut names: Vec<&str> = properties.iter().map(String::as_str).collect();
    names.push("ID");
    let answer = reply.read_entries(&names, rows.max(ASSIGNEES))?;
    let cells = odata::entries(odata::result_of(&answer, "GetItems"))
        .ok_or_else(|| bad_answer(list, "items are not a list"))?;
    if cells.len() > rows {
        return Err(bad_answer(
            list,
            &format!("{} items to a request of {rows}", cells.len()),
        ));
    }
    let mut seen = BTreeSet::new();
    cells
        .iter()
        .map(|cell| {
            let id = odata::integer(cell, "Id")
                .or_else(|| odata::integer(cell, "ID"))
                .filter(|id| *id > 0)
                .ok_or_else(|| bad_answer(list, "an item has no id"))?;
            if odata::identity(cell).is_some_and(|named| named != (list.id, id)) {
                return Err(foreign_answer(list, "an item is of another list"));
            }
            if !seen.insert(id) {
                return Err(bad_answer(list, &format!("item {id} comes twice")));
            }
            let assigned = list.columns.assignees(cell);
            let wanted = match (person, &assigned) {
                (Some(person), Ok(assigned)) => assigned.contains(&person),
                (Some(_), Err(_)) | (None, _) => true,
            };
            let item = wanted.then(|| TaskListItem::read(list, id, cell, None));
            Ok(ListedItem { id, assigned, item })
        })
        .collect()
}

/// Does the same as [`entries_of`], off the async threads for a large answer.
async fn read_entries(
    client: &SharePointClient,
    list: &Arc<TaskList>,
    reply: RestAnswer,
    rows: usize,
    person: Option<i64>,
) -> Result<Vec<ListedItem>, Failure> {
    let list = Arc::clone(list);
    large::parse_off_thread(reply.bytes(), move || entries_of(&list, &reply, rows, person))
        .await?
        .inspect_err(|failure| client.note_foreign(failure))
}

/// Does the same as [`item_of`], off the async threads for a large answer.
async fn read_item(
    client: &SharePointClient,
    list: &Arc<TaskList>,
    id: i64,
    reply: RestAnswer,
) -> Result<TaskListItem, ReadFailure> {
    let list = Arc::clone(list);
    large::parse_off_thread(reply.bytes(), move || item_of(&list, id, &reply))
        .await
        .map_err(ReadFailure::certain)?
        .inspect_err(|read_failure| client.note_foreign(&read_failure.failure))
}

/// The number of people to whom a task may be assigned.
const ASSIGNEES: usize = 1_000;

/// Reads these items now, many per request. An item that cannot be read is [`ItemRead::Unread`] and does not stop
/// the others.
///
/// # Errors
/// The whole server or the account is the cause.
pub(super) async fn read_items(
    client: &SharePointClient,
    wanted: &[(Arc<TaskList>, Vec<i64>)],
) -> Result<HashMap<ItemKey, ItemRead>, Failure> {
    let mut found = HashMap::new();
    let mut chunks: Vec<(&Arc<TaskList>, &[i64])> = wanted
        .iter()
        .flat_map(|(list, ids)| ids.chunks(IDS).map(move |chunk| (list, chunk)))
        .collect();
    // Items to be read one by one, because the query was refused or its answer about them is insufficient.
    let mut singly: Vec<(&Arc<TaskList>, i64)> = Vec::new();
    while !chunks.is_empty() {
        let requests = chunks
            .iter()
            .map(|(list, ids)| get_items(list, &by_ids(list, ids)))
            .collect();
        let replies = client.send_all(requests).await?;
        let mut halves = Vec::new();
        for ((list, ids), reply) in chunks.into_iter().zip(replies) {
            let entries = match reply {
                Ok(reply) => read_entries(client, list, reply, ids.len(), None)
                    .await
                    .map_err(SharePointRefusal::from),
                Err(refusal) => Err(refusal),
            };
            match entries {
                Ok(entries) => sort_entries(list, ids, entries, &mut found, &mut singly),
                Err(refusal) if refusal.failure.class == ErrorClass::Gone => {
                    found.extend(ids.iter().map(|id| ((list.id, *id), ItemRead::ListMissing)));
                }
                Err(refusal) if is_too_large(&refusal) && ids.len() > 1 => {
                    let (one, other) = ids.split_at(ids.len() / 2);
                    halves.extend([(list, one), (list, other)]);
                }
                Err(refusal) if is_too_large(&refusal) || refusal.status == Some(400) => {
                    singly.extend(ids.iter().map(|id| (list, *id)));
                }
                Err(refusal) => {
                    let read_failure = read_failure_of(refusal, Whose::Container)?;
                    found.extend(
                        ids.iter()
                            .map(|id| ((list.id, *id), ItemRead::Unread(read_failure.clone()))),
                    );
                }
            }
        }
        chunks = halves;
    }
    read_singly(client, &singly, &mut found).await?;
    Ok(found)
}

/// Sorts the answer to a query of `ids`. An item that the query did not return is requested by its id: one
/// answer that leaves it out does not prove that it was deleted.
fn sort_entries<'a>(
    list: &'a Arc<TaskList>,
    ids: &[i64],
    entries: Vec<ListedItem>,
    found: &mut HashMap<ItemKey, ItemRead>,
    singly: &mut Vec<(&'a Arc<TaskList>, i64)>,
) {
    let wanted: BTreeSet<i64> = ids.iter().copied().collect();
    if let Some(other) = entries.iter().find(|entry| !wanted.contains(&entry.id)) {
        let read_failure =
            ReadFailure::uncertain(bad_answer(list, &format!("item {} was not requested", other.id)));
        found.extend(
            ids.iter()
                .map(|id| ((list.id, *id), ItemRead::Unread(read_failure.clone()))),
        );
        return;
    }
    let mut unanswered = wanted;
    for entry in entries {
        if let Some(Ok(item)) = entry.item {
            unanswered.remove(&entry.id);
            found.insert((list.id, entry.id), ItemRead::Found(Arc::new(item)));
        }
    }
    singly.extend(unanswered.into_iter().map(|id| (list, id)));
}

/// Reads items one by one.
async fn read_singly(
    client: &SharePointClient,
    items: &[(&Arc<TaskList>, i64)],
    found: &mut HashMap<ItemKey, ItemRead>,
) -> Result<(), Failure> {
    let requests = items.iter().map(|(list, id)| get_item(list, *id)).collect();
    for ((list, id), reply) in items.iter().zip(client.send_all(requests).await?) {
        let read = match reply {
            Ok(reply) => match read_item(client, list, *id, reply).await {
                Ok(item) => ItemRead::Found(Arc::new(item)),
                Err(read_failure) => ItemRead::Unread(read_failure),
            },
            Err(refusal) if refusal.failure.code == Code::SharePointListGone => ItemRead::ListMissing,
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => ItemRead::Missing,
            Err(refusal) if is_too_large(&refusal) => {
                let detail = refusal.failure.detail;
                let failure = Failure::new(ErrorClass::Refused, Code::SharePointAnswerTooLarge, detail);
                ItemRead::Unread(ReadFailure::certain(failure.about(Whose::Item)))
            }
            Err(refusal) => ItemRead::Unread(read_failure_of(refusal, Whose::Container)?),
        };
        found.insert((list.id, *id), read);
    }
    Ok(())
}

/// Returns the properties in the answer to a request for item `id` alone.
///
/// # Errors
/// The properties cannot be read, or are another item's.
pub(super) fn cells_of_item(list: &TaskList, id: i64, reply: &RestAnswer) -> Result<Cell, ReadFailure> {
    let properties = list.columns.properties();
    let mut wanted: Vec<&str> = properties.iter().map(String::as_str).collect();
    wanted.push("ID");
    let cells = reply
        .read_entries(&wanted, ASSIGNEES)
        .map_err(ReadFailure::uncertain)?;
    let named = odata::integer(&cells, "Id").or_else(|| odata::integer(&cells, "ID"));
    if named != Some(id) || odata::identity(&cells).is_some_and(|named| named != (list.id, id)) {
        let reason = format!("the answer to a question about item {id} is about another item");
        return Err(ReadFailure::uncertain(foreign_answer(list, &reason)));
    }
    Ok(cells)
}

/// Returns the item in the answer to a request for item `id` alone.
///
/// # Errors
/// The item cannot be read, or is another one.
fn item_of(list: &TaskList, id: i64, reply: &RestAnswer) -> Result<TaskListItem, ReadFailure> {
    let cells = cells_of_item(list, id, reply)?;
    TaskListItem::read(list, id, &cells, reply.version.clone())
        .map_err(|reason| ReadFailure::certain(unreadable_item(list, id, &reason)))
}

/// The result of listing one list.
#[derive(Debug)]
pub(super) enum ListReading {
    /// The person's items, and those of them that cannot be read.
    Items(Vec<TaskListItem>, Vec<(i64, Failure)>),
    /// The list does not exist.
    Missing,
    /// It could not be read.
    Unread(ReadFailure),
}

/// The state of listing one list.
struct ListPosition {
    at: usize,
    after: i64,
    /// Whether the list is too large for the server to filter; then all of it is read and filtered here.
    unfiltered: bool,
    /// Items requested at once.
    rows: usize,
    pages: usize,
}

/// Lists every item of these lists that is assigned to the site user directly. Each list is complete, missing
/// or unread.
///
/// # Errors
/// The whole server or the account is the cause, or the person has more tasks than one reading may hold.
pub(super) async fn assigned_to(
    client: &SharePointClient,
    site: &Site,
    lists: &[Arc<TaskList>],
    user: i64,
    settings: &SharePointSettings,
) -> Result<Vec<ListReading>, Failure> {
    let rows = settings.page_size.clamp(1, 5_000);
    let mut found: Vec<ListReading> = lists
        .iter()
        .map(|_| ListReading::Items(Vec::new(), Vec::new()))
        .collect();
    let mut pending: Vec<ListPosition> = (0..lists.len()).map(|at| ListPosition::first(at, rows)).collect();
    let (mut bytes, mut count) = (0, 0);
    while !pending.is_empty() {
        let requests = pending
            .iter()
            .filter_map(|position| {
                let list = lists.get(position.at)?;
                Some(get_items(
                    list,
                    &page(list, position.person(list, user), position.after, position.rows),
                ))
            })
            .collect();
        let replies = client.send_all(requests).await?;
        let mut next = Vec::new();
        for (mut position, reply) in pending.into_iter().zip(replies) {
            let (Some(listing), Some(list)) = (found.get_mut(position.at), lists.get(position.at)) else {
                continue;
            };
            position.pages += 1;
            let entries = match reply {
                Ok(reply) => read_entries(client, list, reply, position.rows, Some(user))
                    .await
                    .map_err(SharePointRefusal::from),
                Err(refusal) => Err(refusal),
            };
            let entries = match entries {
                Ok(entries) => entries,
                Err(refusal) => {
                    if reads_on_after_refusal(refusal, client, list, user, &mut position, listing).await? {
                        next.push(position);
                    }
                    continue;
                }
            };
            let more = entries.len() >= position.rows;
            let greatest_id = entries
                .iter()
                .map(|entry| entry.id)
                .max()
                .unwrap_or(position.after);
            if entries.iter().any(|entry| entry.id <= position.after) {
                *listing = ListReading::Unread(ReadFailure::uncertain(bad_answer(
                    list,
                    "a page does not advance",
                )));
                continue;
            }
            let mut again = Vec::new();
            if let ListReading::Items(items, _) = &mut *listing {
                for entry in entries {
                    match (entry.item, entry.assigned) {
                        // If the server ignored the filter, the person must not get other people's tasks.
                        (None, _) => {}
                        (Some(Ok(item)), _) => {
                            bytes += item.size();
                            count += 1;
                            items.push(item);
                        }
                        // In a list that is read whole, an item whose people cannot be read is probably
                        // another person's.
                        (Some(Err(_)), Err(_)) if position.unfiltered => {}
                        (Some(Err(_)), _) => again.push(entry.id),
                    }
                }
            }
            read_again(client, list, user, &again, listing).await?;
            if bytes > settings.person_bytes || count > settings.person_items {
                return Err(too_much(site, settings));
            }
            if more && position.pages >= settings.pages_per_list.max(1) {
                *listing = ListReading::Unread(too_many_pages(list, position.rows, settings));
            } else if more {
                position.after = greatest_id;
                position.rows = (position.rows * 2).min(rows);
                next.push(position);
            }
        }
        pending = next;
    }
    Ok(found)
}

/// Records the refusal of a page of a list: the list is missing, cannot be read, or is read on from the changed
/// position. Returns whether it is read on.
///
/// # Errors
/// The whole server or the account is the cause.
async fn reads_on_after_refusal(
    refusal: SharePointRefusal,
    client: &SharePointClient,
    list: &TaskList,
    user: i64,
    position: &mut ListPosition,
    listing: &mut ListReading,
) -> Result<bool, Failure> {
    if refusal.failure.class == ErrorClass::Gone {
        *listing = ListReading::Missing;
        return Ok(false);
    }
    if refusal.sharepoint_code == SharePointCode::Threshold && !position.unfiltered {
        *listing = ListReading::Items(Vec::new(), Vec::new());
        position.after = 0;
        position.unfiltered = true;
        return Ok(true);
    }
    if !is_too_large(&refusal) {
        *listing = ListReading::Unread(read_failure_of(refusal, Whose::Container)?);
        return Ok(false);
    }
    if position.rows > 1 {
        position.rows /= 2;
        return Ok(true);
    }
    match step_over(client, list, user, position).await? {
        Ok(Some((id, is_assigned))) => {
            if let (ListReading::Items(_, unread), true) = (&mut *listing, is_assigned) {
                unread.push((id, unreadable_item(list, id, &refusal.failure.detail)));
            }
            position.after = id;
            Ok(true)
        }
        // The one remaining item was removed meanwhile.
        Ok(None) => Ok(false),
        Err(read_failure) => {
            *listing = ListReading::Unread(read_failure);
            Ok(false)
        }
    }
}

fn too_many_pages(list: &TaskList, rows: usize, settings: &SharePointSettings) -> ReadFailure {
    let failure = Failure::new(
        ErrorClass::Transient,
        Code::SharePointAnswerTooLarge,
        format!(
            "{} list {}: more than {} pages of {rows} items",
            list.web, list.id, settings.pages_per_list
        ),
    );
    ReadFailure::certain(failure.about(Whose::Container))
}

impl ListPosition {
    /// Returns the position before a list's first item.
    fn first(at: usize, rows: usize) -> Self {
        Self {
            at,
            after: 0,
            unfiltered: false,
            rows,
            pages: 0,
        }
    }

    /// Returns the filter of the query: the people column and the person.
    fn person<'a>(&self, list: &'a TaskList, user: i64) -> Option<(&'a str, i64)> {
        (!self.unfiltered).then_some((list.columns.assigned(), user))
    }
}

/// Reads the items of a page whose values could not be read again, one by one.
async fn read_again(
    client: &SharePointClient,
    list: &Arc<TaskList>,
    user: i64,
    ids: &[i64],
    listing: &mut ListReading,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let items: Vec<(&Arc<TaskList>, i64)> = ids.iter().map(|id| (list, *id)).collect();
    let mut reads = HashMap::new();
    read_singly(client, &items, &mut reads).await?;
    if let ListReading::Items(items, unread) = listing {
        for ((_, id), read) in reads {
            match read {
                ItemRead::Found(item) if item.assigned.contains(&user) => items.push((*item).clone()),
                ItemRead::Found(_) | ItemRead::Missing | ItemRead::ListMissing => {}
                ItemRead::Unread(read_failure) => unread.push((id, read_failure.failure)),
            }
        }
    }
    Ok(())
}

/// Returns the id of a listing's next item, requested without its values, and whether the item is the
/// person's; `None` if there is none.
async fn step_over(
    client: &SharePointClient,
    list: &TaskList,
    user: i64,
    position: &ListPosition,
) -> Result<Result<Option<(i64, bool)>, ReadFailure>, Failure> {
    let fields = format!(
        "<ViewFields><FieldRef Name='ID'/><FieldRef Name='{}'/></ViewFields>",
        list.columns.assigned()
    );
    let view = page_of(&fields, position.person(list, user), position.after, 1);
    let body = json!({"query": {"__metadata": {"type": "SP.CamlQuery"}, "ViewXml": view}});
    let people = list.columns.assigned_property();
    let path = list.path(&format!("getitems?$select=Id,{people}"));
    let request = RestRequest::query(&list.web, path, body, RequestSubject::List);
    let reply = match client.send(&request).await {
        Ok(reply) => reply,
        Err(refusal) => return read_failure_of(refusal, Whose::Container).map(Err),
    };
    let answer = match reply.read_entries(&["Id", "ID", people.as_str()], ASSIGNEES) {
        Ok(answer) => answer,
        Err(failure) => return Ok(Err(ReadFailure::uncertain(failure))),
    };
    let Some(cells) = odata::entries(odata::result_of(&answer, "GetItems")) else {
        return Ok(Err(ReadFailure::uncertain(bad_answer(
            list,
            "items are not a list",
        ))));
    };
    let Some(cell) = cells.first() else {
        return Ok(Ok(None));
    };
    match odata::integer(cell, "Id").or_else(|| odata::integer(cell, "ID")) {
        Some(id) if id > position.after => {
            let is_assigned = list
                .columns
                .assignees(cell)
                .is_ok_and(|people| people.contains(&user));
            Ok(Ok(Some((id, is_assigned))))
        }
        _ => Ok(Err(ReadFailure::uncertain(bad_answer(
            list,
            "a page does not advance",
        )))),
    }
}

fn is_too_large(refusal: &SharePointRefusal) -> bool {
    refusal.failure.code == Code::SharePointAnswerTooLarge
}

fn too_much(site: &Site, settings: &SharePointSettings) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SharePointAnswerTooLarge,
        format!(
            "{}: more than {} tasks or {} bytes of tasks are assigned to one person",
            site.address, settings.person_items, settings.person_bytes
        ),
    )
}

fn bad_answer(list: &TaskList, reason: &str) -> Failure {
    unusable(list, Code::SharePointBadAnswer, reason)
}

/// Returns the failure of an answer about something other than what was asked.
fn foreign_answer(list: &TaskList, reason: &str) -> Failure {
    unusable(list, Code::SharePointForeignAnswer, reason)
}

fn unusable(list: &TaskList, code: Code, reason: &str) -> Failure {
    let detail = format!("{} list {}: {reason}", list.web, list.id);
    Failure::new(ErrorClass::Transient, code, detail).about(Whose::Container)
}
