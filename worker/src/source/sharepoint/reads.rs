//! Reading items of task lists: by their ids, or every item of a person. A page that is too large is
//! requested again in halves.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::json;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};

use super::client::Client;
use super::errors::{Known, Scope};
use super::items::{Item, Key, Read};
use super::json::Cell;
use super::lists::TaskList;
use super::queries::{by_ids, get_item, get_items, page, page_of};
use super::unread::{Trouble, trouble_of, unreadable_item};
use super::wire::{Ask, Refusal, Reply};
use super::{SharePointSettings, Site, odata};
use crate::large;

/// Ids requested in one CAML query.
const IDS: usize = 100;

/// An entry in an answer that lists items.
struct Entry {
    id: i64,
    /// The ids of the site users to whom it is assigned.
    assigned: Result<Vec<i64>, String>,
    /// The item; `None` if it is not assigned to the person asked about.
    item: Option<Result<Item, String>>,
}

/// Returns the entries of an answer to `getitems`, at most `rows`. Values are read only for entries assigned
/// to `person`; without `person`, for all.
///
/// # Errors
/// The answer cannot be read, or is not about this list.
fn entries_of(
    list: &TaskList,
    reply: &Reply,
    rows: usize,
    person: Option<i64>,
) -> Result<Vec<Entry>, Failure> {
    let properties = list.columns.properties();
    let mut names: Vec<&str> = properties.iter().map(String::as_str).collect();
    names.push("ID");
    let answer = reply.read_entries(&names, rows.max(ASSIGNEES))?;
    let cells = odata::entries(odata::result_of(&answer, "GetItems"))
        .ok_or_else(|| bad(list, "items are not a list"))?;
    if cells.len() > rows {
        return Err(bad(
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
                .ok_or_else(|| bad(list, "an item has no id"))?;
            if odata::identity(cell).is_some_and(|named| named != (list.id, id)) {
                return Err(foreign(list, "an item is of another list"));
            }
            if !seen.insert(id) {
                return Err(bad(list, &format!("item {id} comes twice")));
            }
            let assigned = list.columns.assignees(cell);
            let wanted = match (person, &assigned) {
                (Some(person), Ok(assigned)) => assigned.contains(&person),
                (Some(_), Err(_)) | (None, _) => true,
            };
            let item = wanted.then(|| Item::read(list, id, cell, None));
            Ok(Entry { id, assigned, item })
        })
        .collect()
}

/// Does the same as [`entries_of`], off the async threads for a large answer.
async fn read_entries(
    client: &Client,
    list: &Arc<TaskList>,
    reply: Reply,
    rows: usize,
    person: Option<i64>,
) -> Result<Vec<Entry>, Failure> {
    let list = Arc::clone(list);
    large::read(reply.bytes(), move || entries_of(&list, &reply, rows, person))
        .await?
        .inspect_err(|failure| client.note_foreign(failure))
}

/// Does the same as [`item_of`], off the async threads for a large answer.
async fn read_item(client: &Client, list: &Arc<TaskList>, id: i64, reply: Reply) -> Result<Item, Trouble> {
    let list = Arc::clone(list);
    large::read(reply.bytes(), move || item_of(&list, id, &reply))
        .await
        .map_err(Trouble::certain)?
        .inspect_err(|trouble| client.note_foreign(&trouble.failure))
}

/// The number of people to whom a task may be assigned.
const ASSIGNEES: usize = 1_000;

/// Reads these items now, many per request. An item that cannot be read is [`Read::Unread`] and does not stop
/// the others.
///
/// # Errors
/// The whole server or the account is the cause.
pub(super) async fn read_items(
    client: &Client,
    wanted: &[(Arc<TaskList>, Vec<i64>)],
) -> Result<HashMap<Key, Read>, Failure> {
    let mut found = HashMap::new();
    let mut chunks: Vec<(&Arc<TaskList>, &[i64])> = wanted
        .iter()
        .flat_map(|(list, ids)| ids.chunks(IDS).map(move |chunk| (list, chunk)))
        .collect();
    // Items to be read one by one, because the query was refused or its answer about them is insufficient.
    let mut singly: Vec<(&Arc<TaskList>, i64)> = Vec::new();
    while !chunks.is_empty() {
        let asks = chunks
            .iter()
            .map(|(list, ids)| get_items(list, &by_ids(list, ids)))
            .collect();
        let replies = client.send_all(asks).await?;
        let mut halves = Vec::new();
        for ((list, ids), reply) in chunks.into_iter().zip(replies) {
            let entries = match reply {
                Ok(reply) => read_entries(client, list, reply, ids.len(), None)
                    .await
                    .map_err(Refusal::from),
                Err(refusal) => Err(refusal),
            };
            match entries {
                Ok(entries) => sort_entries(list, ids, entries, &mut found, &mut singly),
                Err(refusal) if refusal.failure.class == ErrorClass::Gone => {
                    found.extend(ids.iter().map(|id| ((list.id, *id), Read::ListMissing)));
                }
                Err(refusal) if is_too_large(&refusal) && ids.len() > 1 => {
                    let (one, other) = ids.split_at(ids.len() / 2);
                    halves.extend([(list, one), (list, other)]);
                }
                Err(refusal) if is_too_large(&refusal) || refusal.status == Some(400) => {
                    singly.extend(ids.iter().map(|id| (list, *id)));
                }
                Err(refusal) => {
                    let trouble = trouble_of(refusal, Whose::Container)?;
                    found.extend(
                        ids.iter()
                            .map(|id| ((list.id, *id), Read::Unread(trouble.clone()))),
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
    entries: Vec<Entry>,
    found: &mut HashMap<Key, Read>,
    singly: &mut Vec<(&'a Arc<TaskList>, i64)>,
) {
    let wanted: BTreeSet<i64> = ids.iter().copied().collect();
    if let Some(other) = entries.iter().find(|entry| !wanted.contains(&entry.id)) {
        let trouble = Trouble::uncertain(bad(list, &format!("item {} was not requested", other.id)));
        found.extend(
            ids.iter()
                .map(|id| ((list.id, *id), Read::Unread(trouble.clone()))),
        );
        return;
    }
    let mut unanswered = wanted;
    for entry in entries {
        if let Some(Ok(item)) = entry.item {
            unanswered.remove(&entry.id);
            found.insert((list.id, entry.id), Read::There(Arc::new(item)));
        }
    }
    singly.extend(unanswered.into_iter().map(|id| (list, id)));
}

/// Reads items one by one.
async fn read_singly(
    client: &Client,
    items: &[(&Arc<TaskList>, i64)],
    found: &mut HashMap<Key, Read>,
) -> Result<(), Failure> {
    let asks = items.iter().map(|(list, id)| get_item(list, *id)).collect();
    for ((list, id), reply) in items.iter().zip(client.send_all(asks).await?) {
        let read = match reply {
            Ok(reply) => match read_item(client, list, *id, reply).await {
                Ok(item) => Read::There(Arc::new(item)),
                Err(trouble) => Read::Unread(trouble),
            },
            Err(refusal) if refusal.failure.code == Code::SharePointListGone => Read::ListMissing,
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => Read::Missing,
            Err(refusal) if is_too_large(&refusal) => {
                let detail = refusal.failure.detail;
                let failure = Failure::new(ErrorClass::Refused, Code::SharePointAnswerTooLarge, detail);
                Read::Unread(Trouble::certain(failure.about(Whose::Item)))
            }
            Err(refusal) => Read::Unread(trouble_of(refusal, Whose::Container)?),
        };
        found.insert((list.id, *id), read);
    }
    Ok(())
}

/// Returns the properties in the answer to a request for item `id` alone.
///
/// # Errors
/// The properties cannot be read, or are another item's.
pub(super) fn cells_of_item(list: &TaskList, id: i64, reply: &Reply) -> Result<Cell, Trouble> {
    let properties = list.columns.properties();
    let mut names: Vec<&str> = properties.iter().map(String::as_str).collect();
    names.push("ID");
    let cells = reply
        .read_entries(&names, ASSIGNEES)
        .map_err(Trouble::uncertain)?;
    let named = odata::integer(&cells, "Id").or_else(|| odata::integer(&cells, "ID"));
    if named != Some(id) || odata::identity(&cells).is_some_and(|named| named != (list.id, id)) {
        let reason = format!("the answer to a question about item {id} is about another item");
        return Err(Trouble::uncertain(foreign(list, &reason)));
    }
    Ok(cells)
}

/// Returns the item in the answer to a request for item `id` alone.
///
/// # Errors
/// The item cannot be read, or is another one.
fn item_of(list: &TaskList, id: i64, reply: &Reply) -> Result<Item, Trouble> {
    let cells = cells_of_item(list, id, reply)?;
    Item::read(list, id, &cells, reply.version.clone())
        .map_err(|reason| Trouble::certain(unreadable_item(list, id, &reason)))
}

/// The result of listing one list.
#[derive(Debug)]
pub(super) enum Listing {
    /// The person's items, and those of them that cannot be read.
    Items(Vec<Item>, Vec<(i64, Failure)>),
    /// The list does not exist.
    Missing,
    /// It could not be read.
    Unread(Trouble),
}

/// The state of listing one list.
struct Walk {
    at: usize,
    after: i64,
    /// Whether the list is too large for the server to filter; then all of it is read and filtered here.
    whole: bool,
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
    client: &Client,
    site: &Site,
    lists: &[Arc<TaskList>],
    user: i64,
    settings: &SharePointSettings,
) -> Result<Vec<Listing>, Failure> {
    let rows = settings.page_size.clamp(1, 5_000);
    let mut found: Vec<Listing> = lists
        .iter()
        .map(|_| Listing::Items(Vec::new(), Vec::new()))
        .collect();
    let mut pending: Vec<Walk> = (0..lists.len())
        .map(|at| Walk {
            at,
            after: 0,
            whole: false,
            rows,
            pages: 0,
        })
        .collect();
    let (mut bytes, mut count) = (0, 0);
    while !pending.is_empty() {
        let asks = pending
            .iter()
            .filter_map(|walk| {
                let list = lists.get(walk.at)?;
                Some(get_items(
                    list,
                    &page(list, walk.person(list, user), walk.after, walk.rows),
                ))
            })
            .collect();
        let replies = client.send_all(asks).await?;
        let mut next = Vec::new();
        for (mut walk, reply) in pending.into_iter().zip(replies) {
            let (Some(listing), Some(list)) = (found.get_mut(walk.at), lists.get(walk.at)) else {
                continue;
            };
            walk.pages += 1;
            let entries = match reply {
                Ok(reply) => read_entries(client, list, reply, walk.rows, Some(user))
                    .await
                    .map_err(Refusal::from),
                Err(refusal) => Err(refusal),
            };
            let entries = match entries {
                Ok(entries) => entries,
                Err(refusal) if refusal.failure.class == ErrorClass::Gone => {
                    *listing = Listing::Missing;
                    continue;
                }
                Err(refusal) if refusal.known == Known::Threshold && !walk.whole => {
                    *listing = Listing::Items(Vec::new(), Vec::new());
                    walk.after = 0;
                    walk.whole = true;
                    next.push(walk);
                    continue;
                }
                Err(refusal) if is_too_large(&refusal) && walk.rows > 1 => {
                    walk.rows /= 2;
                    next.push(walk);
                    continue;
                }
                Err(refusal) if is_too_large(&refusal) => {
                    match step_over(client, list, user, &walk).await? {
                        Ok(Some((id, theirs))) => {
                            if let (Listing::Items(_, unread), true) = (&mut *listing, theirs) {
                                unread.push((id, unreadable_item(list, id, &refusal.failure.detail)));
                            }
                            walk.after = id;
                            next.push(walk);
                        }
                        // The one remaining item was removed meanwhile.
                        Ok(None) => {}
                        Err(trouble) => *listing = Listing::Unread(trouble),
                    }
                    continue;
                }
                Err(refusal) => {
                    *listing = Listing::Unread(trouble_of(refusal, Whose::Container)?);
                    continue;
                }
            };
            let more = entries.len() >= walk.rows;
            let last = entries.iter().map(|entry| entry.id).max().unwrap_or(walk.after);
            if entries.iter().any(|entry| entry.id <= walk.after) {
                *listing = Listing::Unread(Trouble::uncertain(bad(list, "a page does not advance")));
                continue;
            }
            let mut again = Vec::new();
            if let Listing::Items(items, _) = &mut *listing {
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
                        (Some(Err(_)), Err(_)) if walk.whole => {}
                        (Some(Err(_)), _) => again.push(entry.id),
                    }
                }
            }
            read_again(client, list, user, &again, listing).await?;
            if bytes > settings.person_bytes || count > settings.person_items {
                return Err(too_much(site, settings));
            }
            if more && walk.pages >= settings.pages_per_list.max(1) {
                *listing = Listing::Unread(Trouble::certain(
                    Failure::new(
                        ErrorClass::Transient,
                        Code::SharePointAnswerTooLarge,
                        format!(
                            "{} list {}: more than {} pages of {} items",
                            list.web, list.id, settings.pages_per_list, walk.rows
                        ),
                    )
                    .about(Whose::Container),
                ));
            } else if more {
                walk.after = last;
                walk.rows = (walk.rows * 2).min(rows);
                next.push(walk);
            }
        }
        pending = next;
    }
    Ok(found)
}

impl Walk {
    /// Returns the filter of the query: the people column and the person.
    fn person<'a>(&self, list: &'a TaskList, user: i64) -> Option<(&'a str, i64)> {
        (!self.whole).then_some((list.columns.assigned(), user))
    }
}

/// Reads the items of a page whose values could not be read again, one by one.
async fn read_again(
    client: &Client,
    list: &Arc<TaskList>,
    user: i64,
    ids: &[i64],
    listing: &mut Listing,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let items: Vec<(&Arc<TaskList>, i64)> = ids.iter().map(|id| (list, *id)).collect();
    let mut reads = HashMap::new();
    read_singly(client, &items, &mut reads).await?;
    if let Listing::Items(items, unread) = listing {
        for ((_, id), read) in reads {
            match read {
                Read::There(item) if item.assigned.contains(&user) => items.push((*item).clone()),
                Read::There(_) | Read::Missing | Read::ListMissing => {}
                Read::Unread(trouble) => unread.push((id, trouble.failure)),
            }
        }
    }
    Ok(())
}

/// Returns the id of a listing's next item, requested without its values, and whether the item is the
/// person's; `None` if there is none.
async fn step_over(
    client: &Client,
    list: &TaskList,
    user: i64,
    walk: &Walk,
) -> Result<Result<Option<(i64, bool)>, Trouble>, Failure> {
    let fields = format!(
        "<ViewFields><FieldRef Name='ID'/><FieldRef Name='{}'/></ViewFields>",
        list.columns.assigned()
    );
    let view = page_of(&fields, walk.person(list, user), walk.after, 1);
    let body = json!({"query": {"__metadata": {"type": "SP.CamlQuery"}, "ViewXml": view}});
    let people = list.columns.assigned_property();
    let path = list.path(&format!("getitems?$select=Id,{people}"));
    let ask = Ask::query(&list.web, path, body, Scope::List);
    let reply = match client.send(&ask).await {
        Ok(reply) => reply,
        Err(refusal) => return trouble_of(refusal, Whose::Container).map(Err),
    };
    let answer = match reply.read_entries(&["Id", "ID", people.as_str()], ASSIGNEES) {
        Ok(answer) => answer,
        Err(failure) => return Ok(Err(Trouble::uncertain(failure))),
    };
    let Some(cells) = odata::entries(odata::result_of(&answer, "GetItems")) else {
        return Ok(Err(Trouble::uncertain(bad(list, "items are not a list"))));
    };
    let Some(cell) = cells.first() else {
        return Ok(Ok(None));
    };
    match odata::integer(cell, "Id").or_else(|| odata::integer(cell, "ID")) {
        Some(id) if id > walk.after => {
            let theirs = list
                .columns
                .assignees(cell)
                .is_ok_and(|people| people.contains(&user));
            Ok(Ok(Some((id, theirs))))
        }
        _ => Ok(Err(Trouble::uncertain(bad(list, "a page does not advance")))),
    }
}

fn is_too_large(refusal: &Refusal) -> bool {
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

fn bad(list: &TaskList, reason: &str) -> Failure {
    unusable(list, Code::SharePointBadAnswer, reason)
}

/// Returns the failure of an answer about something other than what was asked.
fn foreign(list: &TaskList, reason: &str) -> Failure {
    unusable(list, Code::SharePointForeignAnswer, reason)
}

fn unusable(list: &TaskList, code: Code, reason: &str) -> Failure {
    let detail = format!("{} list {}: {reason}", list.web, list.id);
    Failure::new(ErrorClass::Transient, code, detail).about(Whose::Container)
}
