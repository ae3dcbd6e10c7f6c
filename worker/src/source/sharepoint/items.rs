//! Reading items of task lists, and the memory of items that changed: each is read once for all users.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::Task;
use uuid::Uuid;

use super::client::Client;
use super::errors::{Known, Scope};
use super::lists::TaskList;
use super::wire::Ask;
use super::{SharePointSettings, Site, locked, odata};

/// An item of a task list, the same for everybody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// Its number in the list.
    pub(super) id: i64,
    /// Its version.
    pub(super) version: String,
    /// Its last change, in whole seconds.
    pub(super) modified: Timestamp,
    /// Site user ids of people and groups it is assigned to.
    pub(super) assigned: Vec<i64>,
    /// Whether it has permissions of its own.
    pub(super) unique: bool,
    /// Its values.
    pub(super) task: Task,
}

impl Item {
    /// Reads an item; `version` is that of the answer's header, if it had one.
    fn read(list: &TaskList, value: &Value, version: Option<String>) -> Option<Self> {
        Some(Self {
            id: odata::integer(value, "Id").or_else(|| odata::integer(value, "ID"))?,
            version: odata::version(value).or(version)?,
            modified: odata::instant(value, "Modified").unwrap_or(Timestamp::UNIX_EPOCH),
            assigned: list.columns.assignees(value),
            unique: odata::boolean(value, "HasUniqueRoleAssignments").unwrap_or(false),
            task: list.columns.read_task(value, &list.zone),
        })
    }

    /// Roughly how much memory it takes.
    fn size(&self) -> usize {
        let body = self.task.body.as_ref().map_or(0, |body| body.content.len());
        300 + self.task.title.len() + body + self.assigned.len() * 8
    }
}

/// What reading one item ended with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Read {
    /// It is there.
    There(Arc<Item>),
    /// The list is there, the item is not.
    Missing,
    /// The list is not there.
    ListMissing,
}

/// Ids asked for in one CAML query.
const IDS: usize = 100;

type Key = (Uuid, i64);

struct Held {
    item: Arc<Item>,
    /// The end of the feed's log before it was read.
    as_of: i64,
    used: u64,
}

#[derive(Default)]
struct Memory {
    held: HashMap<Key, Held>,
    bytes: usize,
    clock: u64,
}

/// Items that changed, of all sites of a tenant.
pub(super) struct Items {
    memory: Mutex<Memory>,
    items: usize,
    bytes: usize,
    /// Held while missing items are read: the others wait and find them.
    turn: tokio::sync::Mutex<()>,
}

impl Items {
    pub(super) fn new(settings: &SharePointSettings) -> Self {
        Self {
            memory: Mutex::default(),
            items: settings.items.max(2),
            bytes: settings.item_bytes,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The items as of the end of the feed's log, from memory where nothing happened to them since they were read.
    pub(super) async fn as_of_feed(
        &self,
        client: &Client,
        site: &Site,
        wanted: &[(Arc<TaskList>, Vec<i64>)],
    ) -> Result<HashMap<Key, Read>, Failure> {
        let mut found = HashMap::new();
        if self.take(site, wanted, &mut found).is_empty() {
            return Ok(found);
        }
        let _turn = self.turn.lock().await;
        let missing = self.take(site, wanted, &mut found);
        if missing.is_empty() {
            return Ok(found);
        }
        let as_of = site.feed.end();
        let read = read_items(client, site, &missing).await?;
        let mut memory = locked(&self.memory);
        for (key, read) in &read {
            if let Read::There(item) = read {
                memory.keep(*key, Arc::clone(item), as_of, self.items, self.bytes);
            }
        }
        found.extend(read);
        Ok(found)
    }

    /// Takes what is known and fresh; gives back what is not.
    fn take(
        &self,
        site: &Site,
        wanted: &[(Arc<TaskList>, Vec<i64>)],
        found: &mut HashMap<Key, Read>,
    ) -> Vec<(Arc<TaskList>, Vec<i64>)> {
        let mut memory = locked(&self.memory);
        let mut missing = Vec::new();
        for (list, ids) in wanted {
            let absent: Vec<i64> = ids
                .iter()
                .copied()
                .filter(|id| {
                    let key = (list.id, *id);
                    let fresh = memory.held.get(&key).is_some_and(|held| {
                        let fresh = site
                            .feed
                            .with_log(|log| log.item_is_fresh(list.id, *id, held.as_of));
                        fresh.unwrap_or(false)
                    });
                    if let Some(item) = memory.touch(&key).filter(|_| fresh) {
                        found.insert(key, Read::There(item));
                    }
                    !fresh
                })
                .collect();
            if !absent.is_empty() {
                missing.push((Arc::clone(list), absent));
            }
        }
        missing
    }

    /// Forgets an item that was just written.
    pub(super) fn forget(&self, list: Uuid, item: i64) {
        locked(&self.memory).remove(&(list, item));
    }
}

impl Memory {
    fn touch(&mut self, key: &Key) -> Option<Arc<Item>> {
        self.clock += 1;
        let held = self.held.get_mut(key)?;
        held.used = self.clock;
        Some(Arc::clone(&held.item))
    }

    fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.bytes = self.bytes.saturating_sub(held.item.size());
        }
    }

    /// Keeps an item; when full, the half that was not used for longest goes.
    fn keep(&mut self, key: Key, item: Arc<Item>, as_of: i64, items: usize, bytes: usize) {
        self.remove(&key);
        let size = item.size();
        if size > bytes / 2 {
            return;
        }
        while self.held.len() >= items || self.bytes + size > bytes {
            let mut used: Vec<u64> = self.held.values().map(|held| held.used).collect();
            if used.is_empty() {
                break;
            }
            let middle = used.len() / 2;
            let median = *used.select_nth_unstable(middle).1;
            let old: Vec<Key> = self
                .held
                .iter()
                .filter(|(_, held)| held.used <= median)
                .map(|(key, _)| *key)
                .collect();
            for key in old {
                self.remove(&key);
            }
        }
        self.clock += 1;
        self.bytes += size;
        let used = self.clock;
        self.held.insert(key, Held { item, as_of, used });
    }
}

/// Reads these items now, many per request.
pub(super) async fn read_items(
    client: &Client,
    site: &Site,
    wanted: &[(Arc<TaskList>, Vec<i64>)],
) -> Result<HashMap<Key, Read>, Failure> {
    let mut found = HashMap::new();
    let chunks: Vec<(&Arc<TaskList>, &[i64])> = wanted
        .iter()
        .flat_map(|(list, ids)| ids.chunks(IDS).map(move |chunk| (list, chunk)))
        .collect();
    let asks = chunks
        .iter()
        .map(|(list, ids)| get_items(list, &by_ids(ids)))
        .collect();
    let replies = client.send_all(&site.address, asks).await?;
    // Items to be read one by one: the query was refused, or the answer left versions out.
    let mut singly: Vec<(&Arc<TaskList>, i64)> = Vec::new();
    for ((list, ids), reply) in chunks.into_iter().zip(replies) {
        match reply {
            Ok(reply) => {
                let entries = odata::entries(odata::result_of(&reply.value, "GetItems"))
                    .ok_or_else(|| bad(list, "items are no list"))?;
                for id in ids {
                    found.insert((list.id, *id), Read::Missing);
                }
                for entry in entries {
                    match (Item::read(list, entry, None), odata::integer(entry, "Id")) {
                        (Some(item), _) => {
                            found.insert((list.id, item.id), Read::There(Arc::new(item)));
                        }
                        (None, Some(id)) => singly.push((list, id)),
                        (None, None) => return Err(bad(list, "an item has no id")),
                    }
                }
            }
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => {
                found.extend(ids.iter().map(|id| ((list.id, *id), Read::ListMissing)));
            }
            Err(refusal) if refusal.status == Some(400) => singly.extend(ids.iter().map(|id| (list, *id))),
            Err(refusal) => return Err(refusal.failure),
        }
    }
    let asks = singly
        .iter()
        .map(|(list, id)| {
            let path = list.path(&format!("items({id})?$select={}", list.columns.select()));
            Ask::get(&list.web, path, Scope::Item).with_versions()
        })
        .collect();
    for ((list, id), reply) in singly.iter().zip(client.send_all(&site.address, asks).await?) {
        let read = match reply {
            Ok(reply) => Item::read(list, &reply.value, reply.version)
                .map(|item| Read::There(Arc::new(item)))
                .ok_or_else(|| bad(list, "an item has no id or version"))?,
            Err(refusal) if refusal.failure.code == Code::SharePointListGone => Read::ListMissing,
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => Read::Missing,
            Err(refusal) => return Err(refusal.failure),
        };
        found.insert((list.id, *id), read);
    }
    Ok(found)
}

/// A list and its items that are assigned to a person; `None` when the list is not there any more.
pub(super) type Listed = (Arc<TaskList>, Option<Vec<Item>>);

/// Every item of these lists that is assigned to the site user directly: complete, or an error.
pub(super) async fn assigned_to(
    client: &Client,
    site: &Site,
    lists: &[Arc<TaskList>],
    user: i64,
    settings: &SharePointSettings,
) -> Result<Vec<Listed>, Failure> {
    struct Walk {
        at: usize,
        after: i64,
        /// The list is larger than the server lets us filter: all of it is read and filtered here.
        whole: bool,
    }
    let rows = settings.page_size.clamp(1, 5_000);
    let mut found: Vec<Listed> = lists
        .iter()
        .map(|list| (Arc::clone(list), Some(Vec::new())))
        .collect();
    let start = |at| Walk {
        at,
        after: 0,
        whole: false,
    };
    let mut pending: Vec<Walk> = (0..lists.len()).map(start).collect();
    for _ in 0..settings.pages_per_list.max(1) {
        if pending.is_empty() {
            return Ok(found);
        }
        let asks = pending
            .iter()
            .filter_map(|walk| {
                let list = lists.get(walk.at)?;
                let person = (!walk.whole).then_some((list.columns.assigned(), user));
                Some(get_items(list, &page(person, walk.after, rows)))
            })
            .collect();
        let replies = client.send_all(&site.address, asks).await?;
        let mut next = Vec::new();
        for (walk, reply) in pending.into_iter().zip(replies) {
            let Some((list, items)) = found.get_mut(walk.at) else {
                continue;
            };
            let entries = match &reply {
                Ok(reply) => odata::entries(odata::result_of(&reply.value, "GetItems"))
                    .ok_or_else(|| bad(list, "items are no list"))?,
                Err(refusal) if refusal.failure.class == ErrorClass::Gone => {
                    *items = None;
                    continue;
                }
                Err(refusal) if refusal.known == Known::Threshold && !walk.whole => {
                    *items = Some(Vec::new());
                    next.push(Walk {
                        after: 0,
                        whole: true,
                        ..walk
                    });
                    continue;
                }
                Err(refusal) => return Err(refusal.failure.clone()),
            };
            let mut last = walk.after;
            let mut unread = BTreeSet::new();
            for entry in entries {
                let id = odata::integer(entry, "Id")
                    .or_else(|| odata::integer(entry, "ID"))
                    .ok_or_else(|| bad(list, "an item has no id"))?;
                last = last.max(id);
                // A filter that was ignored must not give a person the tasks of others.
                if !list.columns.assignees(entry).contains(&user) {
                    continue;
                }
                match Item::read(list, entry, None) {
                    Some(item) => items.get_or_insert_default().push(item),
                    None => {
                        unread.insert(id);
                    }
                }
            }
            if !unread.is_empty() {
                let wanted = [(Arc::clone(list), unread.into_iter().collect())];
                for read in read_items(client, site, &wanted).await?.into_values() {
                    if let Read::There(item) = read {
                        items.get_or_insert_default().push((*item).clone());
                    }
                }
            }
            if entries.len() >= rows {
                if last <= walk.after {
                    return Err(bad(list, "a page does not go on"));
                }
                next.push(Walk { after: last, ..walk });
            }
        }
        pending = next;
    }
    if pending.is_empty() {
        return Ok(found);
    }
    Err(Failure::new(
        ErrorClass::Transient,
        Code::SharePointAnswerTooLarge,
        format!(
            "{}: a list has more than {} pages of {rows} items",
            site.address, settings.pages_per_list
        ),
    ))
}

fn bad(list: &TaskList, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointBadAnswer,
        format!("{} list {}: {reason}", list.web, list.id),
    )
}

fn get_items(list: &TaskList, view: &str) -> Ask {
    let body = json!({"query": {"__metadata": {"type": "SP.CamlQuery"}, "ViewXml": view}});
    let path = list.path(&format!("getitems?$select={}", list.columns.select()));
    Ask::query(&list.web, path, body, Scope::List).with_versions()
}

fn by_ids(ids: &[i64]) -> String {
    let values: String = ids
        .iter()
        .map(|id| format!("<Value Type='Counter'>{id}</Value>"))
        .collect();
    format!(
        "<View Scope='RecursiveAll'><Query><Where><In><FieldRef Name='ID'/><Values>{values}</Values></In></Where></Query><RowLimit>{}</RowLimit></View>",
        ids.len()
    )
}

/// A page of items in the order of their ids, those after `after`; filtered by a people column when given.
/// Going on by id is exact whatever happens to the list between two pages.
fn page(person: Option<(&str, i64)>, after: i64, rows: usize) -> String {
    let person = person.map(|(column, user)| {
        format!("<Eq><FieldRef Name='{column}' LookupId='TRUE'/><Value Type='Integer'>{user}</Value></Eq>")
    });
    let after =
        (after > 0).then(|| format!("<Gt><FieldRef Name='ID'/><Value Type='Counter'>{after}</Value></Gt>"));
    let filter = match (person, after) {
        (Some(person), Some(after)) => format!("<Where><And>{after}{person}</And></Where>"),
        (Some(only), None) | (None, Some(only)) => format!("<Where>{only}</Where>"),
        (None, None) => String::new(),
    };
    format!(
        "<View Scope='RecursiveAll'><Query>{filter}<OrderBy><FieldRef Name='ID'/></OrderBy></Query><RowLimit Paged='TRUE'>{rows}</RowLimit></View>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_as_the_product_wants_them() {
        assert_eq!(
            page(Some(("AssignedTo", 12)), 0, 200),
            "<View Scope='RecursiveAll'><Query><Where><Eq><FieldRef Name='AssignedTo' LookupId='TRUE'/><Value Type='Integer'>12</Value></Eq></Where><OrderBy><FieldRef Name='ID'/></OrderBy></Query><RowLimit Paged='TRUE'>200</RowLimit></View>"
        );
        assert!(
            page(Some(("AssignedTo", 12)), 5, 2)
                .contains("<And><Gt><FieldRef Name='ID'/><Value Type='Counter'>5</Value></Gt><Eq>")
        );
        assert!(!page(None, 0, 2).contains("Where"));
        assert!(
            by_ids(&[1, 2])
                .contains("<Values><Value Type='Counter'>1</Value><Value Type='Counter'>2</Value></Values>")
        );
    }

    #[test]
    fn memory_is_bounded_by_number_and_by_bytes() {
        let item = |id: i64, body: usize| {
            Arc::new(Item {
                id,
                version: "1".into(),
                modified: Timestamp::UNIX_EPOCH,
                assigned: vec![1],
                unique: false,
                task: Task {
                    title: "x".repeat(body),
                    ..Task::default()
                },
            })
        };
        let mut memory = Memory::default();
        for id in 0..100 {
            memory.keep((Uuid::nil(), id), item(id, 10), 0, 10, 1_000_000);
            assert!(memory.held.len() <= 10);
        }
        assert!(memory.touch(&(Uuid::nil(), 99)).is_some() && memory.touch(&(Uuid::nil(), 1)).is_none());
        for id in 0..100 {
            memory.keep((Uuid::nil(), id), item(id, 1_000), 0, 1_000, 5_000);
            assert!(memory.bytes <= 5_000);
        }
        memory.keep((Uuid::nil(), 7), item(7, 10_000), 0, 1_000, 5_000);
        assert!(memory.touch(&(Uuid::nil(), 7)).is_none());
        let bytes: usize = memory.held.values().map(|held| held.item.size()).sum();
        assert_eq!(memory.bytes, bytes);
    }
}
