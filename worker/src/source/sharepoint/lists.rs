//! The task lists of a site: found by template or default content type, cached until something changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::Failure;
use tasksync_common::model::LocationKey;
use uuid::Uuid;

use super::client::SharePointClient;
use super::columns::TaskColumns;
use super::log::FeedLog;
use super::missing_list::MissingLists;
use super::walk::walk;
use super::zone::Zone;
use super::{SharePointSettings, Site, locked};
use crate::source::Location;

/// A task list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskList {
    pub(super) id: Uuid,
    /// Its key in sync states and mailboxes.
    pub(super) key: LocationKey,
    /// Address of its web, without a final slash.
    pub(super) web: String,
    pub(super) web_id: Uuid,
    /// The titles of web and list.
    pub(super) name: String,
    /// The address that people can open.
    pub(super) web_url: String,
    /// The type name that verbose writes require.
    pub(super) entity_type: String,
    pub(super) columns: TaskColumns,
    /// The web's time zone, or why it was never known. Without it no date is read or written.
    pub(super) zone: Result<Zone, Failure>,
}

impl TaskList {
    /// Returns the path of the list after `_api/`.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("web/lists(guid'{}')/{rest}", self.id)
    }

    /// Returns the list as the sync pass sees it.
    pub(super) fn location(&self) -> Location {
        Location {
            key: self.key.clone(),
            name: self.name.clone(),
            web_url: self.web_url.clone(),
            holds: self.columns.holds(self.zone()),
            without_dates: self
                .zone
                .as_ref()
                .err()
                .filter(|_| self.columns.have_dates())
                .cloned(),
        }
    }

    /// Returns the web's time zone, if it is known.
    pub(super) fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref().ok()
    }

    /// Returns the address of an item's form.
    pub(super) fn item_url(&self, item: i64) -> String {
        format!(
            "{}/_layouts/15/listform.aspx?PageType=4&ListId={}&ID={item}",
            self.web, self.id
        )
    }
}

/// A list that exists and could not be read.
#[derive(Debug, Clone)]
pub(super) struct UnreadList {
    /// Address of its web.
    pub(super) web: String,
    pub(super) failure: Failure,
    /// Whether it was found to be a task list, now or by an earlier walk.
    pub(super) is_task_list: bool,
}

/// The result of a walk through a site.
#[derive(Debug, Clone)]
pub(super) struct DiscoveredLists {
    /// Task lists by GUID.
    pub(super) lists: BTreeMap<Uuid, Arc<TaskList>>,
    /// The root web's title.
    pub(super) title: String,
    /// Lists that exist and could not be read, and lists that an earlier walk found in a web that could not
    /// be read now.
    pub(super) unread: BTreeMap<Uuid, UnreadList>,
    /// Why the walk did not see everything: the first web that could not be read, or a limit.
    pub(super) incomplete: Option<Failure>,
    /// The last known zone of each web.
    pub(super) zones: BTreeMap<String, Zone>,
    /// Whether the zone of a web was never known.
    pub(super) lacks_zone: bool,
    /// When the walk began.
    pub(super) at: Timestamp,
    /// The end of the feed's log when the walk began.
    pub(super) as_of: i64,
}

impl DiscoveredLists {
    /// Returns the task lists that could not be read, with the failures.
    pub(super) fn unread_task_lists(&self) -> impl Iterator<Item = (Uuid, Failure)> {
        self.unread
            .iter()
            .filter(|(_, list)| list.is_task_list)
            .map(|(id, list)| (*id, list.failure.clone()))
    }

    /// Returns why a list that exists could not be read.
    pub(super) fn unread_list(&self, list: Uuid) -> Option<Failure> {
        self.unread.get(&list).map(|list| list.failure.clone())
    }

    /// Returns why the walk did not see every list.
    pub(super) fn incomplete(&self) -> Option<Failure> {
        self.incomplete.clone()
    }

    /// Returns whether the next walk should come sooner than usual.
    fn needs_early_walk(&self) -> bool {
        !self.unread.is_empty() || self.incomplete.is_some() || self.lacks_zone
    }
}

/// The cached lists of a site.
#[derive(Default)]
pub(super) struct Catalogue {
    /// Held during a walk: one caller walks, the others wait.
    walk_lock: tokio::sync::Mutex<()>,
    last_walk: Mutex<Option<Arc<DiscoveredLists>>>,
    /// When the last walk that succeeded began. Unlike the walk, it is never made to look old.
    last_success: Mutex<Option<Timestamp>>,
    /// The web of every task list that this process ever found.
    webs: Mutex<HashMap<Uuid, String>>,
    missing: Mutex<MissingLists>,
}

/// Time after which a walk that did not see everything is repeated.
const RETRY: SignedDuration = SignedDuration::from_mins(10);
/// Age from which a walk is repeated if something contradicts it.
const DOUBTED_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// Lists whose webs are remembered.
const WEBS: usize = 10_000;

impl Catalogue {
    /// Returns the lists. Walks again if the last walk is too old or the feed reported a change.
    pub(super) async fn current(
        &self,
        client: &SharePointClient,
        site: &Site,
        settings: &SharePointSettings,
    ) -> Result<Arc<DiscoveredLists>, Failure> {
        if let Some(found) = self.if_current(client, site, settings) {
            return Ok(found);
        }
        let _walk_lock = self.walk_lock.lock().await;
        if let Some(found) = self.if_current(client, site, settings) {
            return Ok(found);
        }
        client.forget_batch_refusal();
        let as_of = site.feed.end();
        let previous_walk = locked(&self.last_walk).clone();
        let mut found = walk(client, &site.address, settings, previous_walk.as_deref()).await?;
        found.as_of = as_of;
        {
            let (mut webs, mut missing_lists) = (locked(&self.webs), locked(&self.missing));
            for list in found.lists.values() {
                missing_lists.forget_found(list.id);
                if webs.len() < WEBS || webs.contains_key(&list.id) {
                    webs.insert(list.id, list.web.clone());
                }
            }
        }
        let found = Arc::new(found);
        *locked(&self.last_walk) = Some(Arc::clone(&found));
        *locked(&self.last_success) = Some(found.at);
        Ok(found)
    }

    /// Returns when the last walk that succeeded began.
    pub(super) fn last_success(&self) -> Option<Timestamp> {
        *locked(&self.last_success)
    }

    /// Returns the web in which a walk of this process, or an earlier process, last found the list.
    pub(super) fn web_of(&self, list: Uuid) -> Option<String> {
        locked(&self.webs).get(&list).cloned()
    }

    /// Records the web of this site in which an earlier process found a list.
    pub(super) fn learn_web(&self, site: &str, list: Uuid, web: &str) {
        let is_here = web.eq_ignore_ascii_case(site)
            || web
                .get(..=site.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(&format!("{site}/")));
        if is_here {
            let mut webs = locked(&self.webs);
            if webs.len() < WEBS {
                webs.entry(list).or_insert_with(|| web.to_owned());
            }
        }
    }

    /// Runs `change` on the sightings of missing lists.
    pub(super) fn with_missing_lists<T>(&self, change: impl FnOnce(&mut MissingLists) -> T) -> T {
        change(&mut locked(&self.missing))
    }

    fn if_current(
        &self,
        client: &SharePointClient,
        site: &Site,
        settings: &SharePointSettings,
    ) -> Option<Arc<DiscoveredLists>> {
        let found = locked(&self.last_walk).clone()?;
        let age = found.at.duration_until(client.now());
        let interval = SignedDuration::try_from(settings.discovery_interval).unwrap_or(SignedDuration::MAX);
        let interval = if found.needs_early_walk() {
            interval.min(RETRY)
        } else {
            interval
        };
        let young = age < interval;
        let changed = site
            .feed
            .with_log(|log: &FeedLog| log.structure_changed(found.as_of))
            .unwrap_or(false);
        (young && !changed).then_some(found)
    }

    /// Returns the result of the last walk, however old.
    pub(super) fn last(&self) -> Option<Arc<DiscoveredLists>> {
        locked(&self.last_walk).clone()
    }

    /// Makes the next caller walk again.
    pub(super) fn forget(&self) {
        if let Some(found) = &mut *locked(&self.last_walk) {
            let mut old = (**found).clone();
            old.at = Timestamp::MIN;
            *found = Arc::new(old);
        }
    }

    /// Makes the next caller walk again, because something contradicts the last walk, unless that began less
    /// than a minute ago.
    pub(super) fn expire_unless_fresh(&self, now: Timestamp) {
        let is_fresh = self
            .last()
            .is_some_and(|found| found.at.duration_until(now) < DOUBTED_AFTER);
        if !is_fresh {
            self.forget();
        }
    }
}
