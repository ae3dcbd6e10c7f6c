//! The cache of items that changed: each is read once for all users.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tasksync_common::error::Failure;
use tasksync_common::model::Task;
use uuid::Uuid;

use super::client::SharePointClient;
use super::json::Cell;
use super::lists::TaskList;
use super::read_failure::ReadFailure;
use super::{SharePointSettings, Site, item_reads, locked, odata};

/// An item of a task list, the same for all users.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskListItem {
    /// Its number in the list.
    pub(super) id: i64,
    pub(super) version: String,
    /// Its last change, in whole seconds.
    pub(super) modified: Timestamp,
    /// The ids of the site users and groups to whom it is assigned.
    pub(super) assigned: Vec<i64>,
    /// Whether it has its own permissions.
    pub(super) unique: bool,
    pub(super) task: Task,
}

/// Suffix of the version of an item that was read without its dates, so that it counts as changed once they
/// can be read.
const WITHOUT_DATES: &str = "-without-dates";

/// Returns the item's version as SharePoint knows it.
pub(super) fn etag_version(version: &str) -> &str {
    version.strip_suffix(WITHOUT_DATES).unwrap_or(version)
}

impl TaskListItem {
    /// Reads item `id`. `version` is the version in the answer's header, if it had one.
    ///
    /// # Errors
    /// Says what cannot be read. A missing or unreadable value never counts as empty.
    pub(super) fn read(
        list: &TaskList,
        id: i64,
        entry: &Cell,
        version: Option<String>,
    ) -> Result<Self, String> {
        let mut version = odata::version(entry)
            .or(version)
            .ok_or("the item has no version")?;
        if list.zone.is_err() && list.columns.have_dates() {
            version.push_str(WITHOUT_DATES);
        }
        Ok(Self {
            id,
            version,
            modified: odata::instant_column(entry, "Modified")?.ok_or("Modified is empty")?,
            assigned: list.columns.assignees(entry)?,
            unique: odata::boolean(entry, "HasUniqueRoleAssignments")
                .ok_or("HasUniqueRoleAssignments is neither true nor false")?,
            task: list.columns.read_task(entry, list.zone())?,
        })
    }

    /// Returns its approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let body = self.task.body.as_ref().map_or(0, |body| body.content.len());
        300 + self.task.title.len() + body + self.assigned.len() * 8
    }
}

/// The result of reading one item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ItemRead {
    /// It exists.
    Found(Arc<TaskListItem>),
    /// The list exists, the item does not.
    Missing,
    /// The list does not exist.
    ListMissing,
    /// It could not be read.
    Unread(ReadFailure),
}

pub(super) type ItemKey = (Uuid, i64);

/// The results of reading several items.
#[derive(Debug, Default)]
pub(super) struct ItemReads {
    pub(super) results: HashMap<ItemKey, ItemRead>,
    /// Whether the site answered for any item: a failure of the others is then not the whole site's.
    pub(super) some_read: bool,
}

impl From<HashMap<ItemKey, ItemRead>> for ItemReads {
    fn from(results: HashMap<ItemKey, ItemRead>) -> Self {
        Self {
            some_read: some_read(&results),
            results,
        }
    }
}

fn some_read(results: &HashMap<ItemKey, ItemRead>) -> bool {
    results.values().any(|read| match read {
        ItemRead::Unread(read_failure) => read_failure.certain,
        ItemRead::Found(_) | ItemRead::Missing | ItemRead::ListMissing => true,
    })
}

struct CachedItem {
    item: Arc<TaskListItem>,
    /// The end of the feed's log before the item was read.
    as_of: i64,
    used: u64,
}

#[derive(Default)]
struct ItemCache {
    entries: HashMap<ItemKey, CachedItem>,
    bytes: usize,
    clock: u64,
}

/// The cache of items that changed, of all sites of a tenant.
pub(super) struct Items {
    cache: Mutex<ItemCache>,
    maximum_count: usize,
    maximum_bytes: usize,
    /// Held while missing items are read: other callers wait and then find them.
    read_lock: tokio::sync::Mutex<()>,
}

impl Items {
    pub(super) fn new(settings: &SharePointSettings) -> Self {
        Self {
            cache: Mutex::default(),
            maximum_count: settings.items.max(2),
            maximum_bytes: settings.item_bytes,
            read_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Reads the items as of the end of the feed's log: from the cache if nothing happened to them since they were
    /// read. Returns those that `concerns` the person, and those that do not exist or cannot be read. A feed
    /// reports thousands of other people's items, and nothing is built for those.
    pub(super) async fn as_of_feed(
        &self,
        client: &SharePointClient,
        site: &Site,
        wanted: &[(Arc<TaskList>, Vec<i64>)],
        concerns: impl Fn(&ItemKey, &TaskListItem) -> bool,
    ) -> Result<ItemReads, Failure> {
        let mut found = ItemReads::default();
        if self.take(site, wanted, &concerns, &mut found).is_empty() {
            return Ok(found);
        }
        let _read_lock = self.read_lock.lock().await;
        let missing = self.take(site, wanted, &concerns, &mut found);
        if missing.is_empty() {
            return Ok(found);
        }
        let as_of = site.feed.end();
        let read = item_reads::read_items(client, &missing).await?;
        let mut cache = locked(&self.cache);
        for (key, read) in &read {
            if let ItemRead::Found(item) = read {
                cache.keep(
                    *key,
                    Arc::clone(item),
                    as_of,
                    self.maximum_count,
                    self.maximum_bytes,
                );
            }
        }
        found.some_read |= some_read(&read);
        found
            .results
            .extend(read.into_iter().filter(|(key, read)| match read {
                ItemRead::Found(item) => concerns(key, item),
                ItemRead::Missing | ItemRead::ListMissing | ItemRead::Unread(_) => true,
            }));
        Ok(found)
    }

    /// Adds the items that are cached, fresh and `concerns` the person to `found`; returns those that are not cached
    /// or not fresh.
    fn take(
        &self,
        site: &Site,
        wanted: &[(Arc<TaskList>, Vec<i64>)],
        concerns: &impl Fn(&ItemKey, &TaskListItem) -> bool,
        found: &mut ItemReads,
    ) -> Vec<(Arc<TaskList>, Vec<i64>)> {
        let mut cache = locked(&self.cache);
        let taken = site.feed.with_log(|log| {
            let mut missing = Vec::new();
            for (list, ids) in wanted {
                let mut absent = Vec::new();
                for id in ids {
                    let key = (list.id, *id);
                    let cached = cache
                        .touch(&key)
                        .filter(|cached| log.item_is_fresh(list.id, *id, cached.as_of));
                    match cached {
                        Some(cached) => {
                            found.some_read = true;
                            if concerns(&key, &cached.item) {
                                found
                                    .results
                                    .insert(key, ItemRead::Found(Arc::clone(&cached.item)));
                            }
                        }
                        None => absent.push(*id),
                    }
                }
                if !absent.is_empty() {
                    missing.push((Arc::clone(list), absent));
                }
            }
            missing
        });
        taken.unwrap_or_else(|| wanted.to_vec())
    }

    /// Forgets an item that was just written.
    pub(super) fn forget(&self, list: Uuid, item: i64) {
        locked(&self.cache).remove(&(list, item));
    }
}

impl ItemCache {
    fn touch(&mut self, key: &ItemKey) -> Option<&CachedItem> {
        self.clock += 1;
        let cached = self.entries.get_mut(key)?;
        cached.used = self.clock;
        Some(cached)
    }

    fn remove(&mut self, key: &ItemKey) {
        if let Some(removed) = self.entries.remove(key) {
            self.bytes = self.bytes.saturating_sub(removed.item.size());
        }
    }

    /// Adds an item. If the cache is full, first removes the half that was unused longest.
    fn keep(&mut self, key: ItemKey, item: Arc<TaskListItem>, as_of: i64, items: usize, bytes: usize) {
        self.remove(&key);
        let size = item.size();
        if size > bytes / 2 {
            return;
        }
        while self.entries.len() >= items || self.bytes + size > bytes {
            let mut used: Vec<u64> = self.entries.values().map(|cached| cached.used).collect();
            if used.is_empty() {
                break;
            }
            let middle = used.len() / 2;
            let median = *used.select_nth_unstable(middle).1;
            let old: Vec<ItemKey> = self
                .entries
                .iter()
                .filter(|(_, cached)| cached.used <= median)
                .map(|(key, _)| *key)
                .collect();
            for key in old {
                self.remove(&key);
            }
        }
        self.clock += 1;
        self.bytes += size;
        let used = self.clock;
        self.entries.insert(key, CachedItem { item, as_of, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_by_number_and_by_bytes() {
        let item = |id: i64, body: usize| {
            Arc::new(TaskListItem {
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
        let mut memory = ItemCache::default();
        for id in 0..100 {
            memory.keep((Uuid::nil(), id), item(id, 10), 0, 10, 1_000_000);
            assert!(memory.entries.len() <= 10);
        }
        assert!(memory.touch(&(Uuid::nil(), 99)).is_some() && memory.touch(&(Uuid::nil(), 1)).is_none());
        for id in 0..100 {
            memory.keep((Uuid::nil(), id), item(id, 1_000), 0, 1_000, 5_000);
            assert!(memory.bytes <= 5_000);
        }
        memory.keep((Uuid::nil(), 7), item(7, 10_000), 0, 1_000, 5_000);
        assert!(memory.touch(&(Uuid::nil(), 7)).is_none());
        let bytes: usize = memory.entries.values().map(|cached| cached.item.size()).sum();
        assert_eq!(memory.bytes, bytes);
    }
}
