//! What a person is told: changes since a cursor, everything, or single tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{LocationKey, SourceKey};
use uuid::Uuid;

use super::cursor::{self, Cursor};
use super::feed::Answered;
use super::items::{self, Item, Read};
use super::lists::{Found, TaskList};
use super::people::SiteUser;
use super::presence::{self, Permissions, Verdict};
use super::{SharePointSource, Site};
use crate::source::{Absence, Location, Person, Presence, SourceChanges, SourceItem};

/// Sites read at once for one user.
const SITES_AT_ONCE: usize = 4;

/// What is told of one site.
#[derive(Default)]
struct Told {
    tasks: BTreeMap<SourceKey, Presence>,
    locations: BTreeMap<LocationKey, Location>,
    token: String,
    birth: Timestamp,
    /// The site knows the person, or was not asked.
    known: bool,
}

type Seen = BTreeMap<SourceKey, (Arc<TaskList>, Read)>;

impl SharePointSource {
    pub(super) async fn refresh_feeds(&self, cursors: &[&str]) -> Result<(), Failure> {
        let cursors: Vec<Cursor> = cursors
            .iter()
            .filter_map(|cursor| Cursor::parse(cursor).ok())
            .filter(|cursor| self.check_cursor(cursor).is_ok())
            .collect();
        let reads = self.sites.iter().map(|site| {
            let tokens: Vec<&str> = cursors
                .iter()
                .filter_map(|cursor| cursor.token(&site.name))
                .collect();
            async move { site.feed.refresh(&self.client, &tokens).await }
        });
        futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .try_collect()
            .await
    }

    fn check_cursor(&self, cursor: &Cursor) -> Result<(), Failure> {
        let lifetime = SignedDuration::try_from(self.settings.cursor_lifetime).unwrap_or(SignedDuration::MAX);
        cursor.check(
            self.client.server_now(),
            lifetime,
            self.sites.iter().map(|site| site.name.as_str()),
        )
    }

    pub(super) async fn changes_since(
        &self,
        person: &Person,
        cursor: &str,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SourceChanges, Failure> {
        let cursor = Cursor::parse(cursor)?;
        self.check_cursor(&cursor)?;
        let reads = self
            .sites
            .iter()
            .map(|site| self.site_changes(site, person, &cursor, linked));
        let told: Vec<Told> = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(self.collect(told, false))
    }

    pub(super) async fn everything_of(&self, person: &Person) -> Result<SourceChanges, Failure> {
        let reads = self.sites.iter().map(|site| self.site_listing(site, person));
        let told: Vec<Told> = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .try_collect()
            .await?;
        if !told.iter().any(|told| told.known) {
            return Err(unknown(person));
        }
        Ok(self.collect(told, true))
    }

    fn collect(&self, told: Vec<Told>, complete: bool) -> SourceChanges {
        let birth = told
            .iter()
            .map(|told| told.birth)
            .min()
            .unwrap_or_else(|| self.client.server_now());
        let mut tokens = BTreeMap::new();
        let (mut tasks, mut locations) = (BTreeMap::new(), BTreeMap::new());
        for (site, told) in self.sites.iter().zip(told) {
            tokens.insert(site.name.clone(), told.token);
            tasks.extend(told.tasks);
            locations.extend(told.locations);
        }
        SourceChanges {
            tasks: tasks.into_iter().collect(),
            locations: locations.into_values().collect(),
            unread: Vec::new(),
            cursor: Cursor::new(birth, tokens).to_text(),
            complete,
        }
    }

    async fn site_listing(&self, site: &Site, person: &Person) -> Result<Told, Failure> {
        // The position comes first: what changes while the lists are read is told again, never left out.
        let (token, birth) = site.feed.position(&self.client).await?;
        let mut told = Told {
            token,
            birth,
            known: false,
            ..Told::default()
        };
        let Some(user) = self.user(site, person).await? else {
            return Ok(told);
        };
        told.known = true;
        let found = self.lists(site).await?;
        let lists: Vec<Arc<TaskList>> = found.lists.values().cloned().collect();
        let mut seen = Seen::new();
        self.list_into(site, &user, &lists, &mut seen).await?;
        self.judge(site, Some(&user), seen, None, &mut told).await?;
        Ok(told)
    }

    /// Lists a person's items in these lists.
    async fn list_into(
        &self,
        site: &Site,
        user: &SiteUser,
        lists: &[Arc<TaskList>],
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        for (list, items) in items::assigned_to(&self.client, site, lists, user.id, &self.settings).await? {
            match items {
                Some(items) => {
                    for item in items {
                        seen.insert(
                            list.key.task(item.id),
                            (Arc::clone(&list), Read::There(Arc::new(item))),
                        );
                    }
                }
                None => site.catalogue.drop_list(list.id),
            }
        }
        Ok(())
    }

    async fn site_changes(
        &self,
        site: &Site,
        person: &Person,
        cursor: &Cursor,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<Told, Failure> {
        let token = cursor
            .token(&site.name)
            .ok_or_else(|| cursor::invalid("a site is not in the stored position"))?;
        let answered = site.feed.since(&self.client, token).await?;
        let mut told = Told {
            token: answered.token.clone(),
            birth: answered.birth,
            known: true,
            ..Told::default()
        };
        let delta = &answered.delta;
        if delta.is_empty() {
            return Ok(told);
        }
        if answered.apart && !(delta.lists.is_empty() && delta.lists_deleted.is_empty()) {
            site.catalogue.forget();
        }
        let found = self.lists(site).await?;
        // Lists that were deleted, or changed so that they are no task lists any more.
        for key in linked {
            let Some(list) = list_of(key) else { continue };
            let gone = delta.lists_deleted.contains(&list) || delta.lists.contains(&list);
            if gone && !found.lists.contains_key(&list) {
                told.tasks
                    .insert(key.clone(), Presence::Absent(Absence::LocationGone));
            }
        }
        let wanted: Vec<(Arc<TaskList>, Vec<i64>)> = delta
            .items
            .iter()
            .filter_map(|(list, ids)| {
                let list = found.lists.get(list)?;
                let there: Vec<i64> = ids
                    .iter()
                    .filter(|(_, gone)| !**gone)
                    .map(|(id, _)| *id)
                    .collect();
                Some((Arc::clone(list), there))
            })
            .collect();
        for (list, ids) in &delta.items {
            let Some(list) = found.lists.get(list) else {
                continue;
            };
            for id in ids.iter().filter(|(_, gone)| **gone).map(|(id, _)| *id) {
                let key = list.key.task(id);
                if linked.contains(&key) {
                    told.tasks.insert(key, Presence::Absent(Absence::Deleted));
                }
            }
        }
        let mut seen = Seen::new();
        let reads = if answered.apart {
            items::read_items(&self.client, site, &wanted).await?
        } else {
            self.items.as_of_feed(&self.client, site, &wanted).await?
        };
        for ((list, id), read) in reads {
            if let Some(list) = found.lists.get(&list) {
                seen.insert(list.key.task(id), (Arc::clone(list), read));
            }
        }
        let again = again(&answered, &found);
        if seen.is_empty() && again.is_empty() {
            return Ok(told);
        }
        let user = self.user(site, person).await?;
        if let Some(user) = &user {
            self.look_again(site, user, &found, &again, linked, &mut seen)
                .await?;
        }
        self.judge(site, user.as_deref(), seen, Some(linked), &mut told)
            .await?;
        let renamed = delta.lists.iter().filter_map(|list| found.lists.get(list));
        for list in renamed {
            if linked.iter().any(|key| key.location() == list.key) {
                told.locations.insert(list.key.clone(), list.location());
            }
        }
        Ok(told)
    }

    /// Lists whose columns, content or permissions changed as a whole: the person's items in them are listed anew,
    /// because a change of permissions is no change of items.
    async fn look_again(
        &self,
        site: &Site,
        user: &SiteUser,
        found: &Found,
        again: &BTreeSet<Uuid>,
        linked: &BTreeSet<SourceKey>,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let lists: Vec<Arc<TaskList>> = again
            .iter()
            .filter_map(|list| found.lists.get(list).cloned())
            .collect();
        self.list_into(site, user, &lists, seen).await?;
        // What is in the mailbox and was not listed: deleted, given to somebody else, or hidden.
        let ids: BTreeSet<Uuid> = lists.iter().map(|list| list.id).collect();
        let mut unlisted: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
        for key in linked.iter().filter(|key| !seen.contains_key(*key)) {
            if let (Some(list), Some(id)) = (list_of(key).filter(|list| ids.contains(list)), key.item_id()) {
                unlisted.entry(list).or_default().push(id);
            }
        }
        let wanted: Vec<(Arc<TaskList>, Vec<i64>)> = unlisted
            .into_iter()
            .filter_map(|(list, ids)| Some((Arc::clone(found.lists.get(&list)?), ids)))
            .collect();
        for ((list, id), read) in items::read_items(&self.client, site, &wanted).await? {
            if let Some(list) = found.lists.get(&list) {
                seen.insert(list.key.task(id), (Arc::clone(list), read));
            }
        }
        Ok(())
    }

    /// Decides for each item that was seen. Absences are told of `linked` only; with `None`, of none.
    async fn judge(
        &self,
        site: &Site,
        user: Option<&SiteUser>,
        seen: Seen,
        linked: Option<&BTreeSet<SourceKey>>,
        told: &mut Told,
    ) -> Result<(), Failure> {
        let is_assigned = |item: &Item| user.is_some_and(|user| item.assigned.contains(&user.id));
        // Permissions are asked for only where they decide: of tasks of the person.
        let mut wanted: BTreeMap<(Uuid, Option<i64>), Arc<TaskList>> = BTreeMap::new();
        for (list, read) in seen.values() {
            if let Read::There(item) = read
                && is_assigned(item)
            {
                wanted.insert((list.id, item.unique.then_some(item.id)), Arc::clone(list));
            }
        }
        let asked: Vec<(&TaskList, Option<i64>)> =
            wanted.iter().map(|((_, item), list)| (&**list, *item)).collect();
        let permissions: HashMap<(Uuid, Option<i64>), Permissions> = match user {
            Some(user) => {
                let answers = site
                    .people
                    .permissions(&self.client, site, user, &asked, &self.settings)
                    .await?;
                wanted.keys().copied().zip(answers).collect()
            }
            None => HashMap::new(),
        };
        for (key, (list, read)) in seen {
            let found = match &read {
                Read::There(item) => presence::Found::There {
                    assigned: is_assigned(item),
                    permissions: permissions
                        .get(&(list.id, item.unique.then_some(item.id)))
                        .copied()
                        .unwrap_or_default(),
                },
                Read::Missing => presence::Found::ItemMissing,
                Read::ListMissing => presence::Found::ListMissing,
            };
            match (presence::decide(found), read) {
                (Verdict::Present { writable }, Read::There(item)) => {
                    told.locations
                        .entry(list.key.clone())
                        .or_insert_with(|| list.location());
                    let item = source_item(&key, &list, &item, writable);
                    told.tasks.insert(key, Presence::Present(Box::new(item)));
                }
                (Verdict::Absent(absence), _) if linked.is_some_and(|linked| linked.contains(&key)) => {
                    told.tasks.insert(key, Presence::Absent(absence));
                }
                (Verdict::Absent(_) | Verdict::Present { .. }, _) => {}
            }
        }
        Ok(())
    }

    pub(super) async fn single_tasks(
        &self,
        person: &Person,
        keys: &[SourceKey],
    ) -> Result<Vec<(SourceKey, Presence)>, Failure> {
        let mut all: BTreeMap<SourceKey, Presence> = BTreeMap::new();
        let wanted: BTreeSet<SourceKey> = keys.iter().cloned().collect();
        for site in &self.sites {
            if all.len() == wanted.len() {
                break;
            }
            let found = self.lists(site).await?;
            let mut by_list: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
            for key in wanted.iter().filter(|key| !all.contains_key(*key)) {
                if let (Some(list), Some(id)) = (list_of(key), key.item_id())
                    && found.lists.contains_key(&list)
                {
                    by_list.entry(list).or_default().push(id);
                }
            }
            if by_list.is_empty() {
                continue;
            }
            let ask: Vec<(Arc<TaskList>, Vec<i64>)> = by_list
                .into_iter()
                .filter_map(|(list, ids)| Some((Arc::clone(found.lists.get(&list)?), ids)))
                .collect();
            let mut seen = Seen::new();
            for ((list, id), read) in items::read_items(&self.client, site, &ask).await? {
                if let Some(list) = found.lists.get(&list) {
                    seen.insert(list.key.task(id), (Arc::clone(list), read));
                }
            }
            let user = self.user(site, person).await?;
            let mut told = Told::default();
            self.judge(site, user.as_deref(), seen, Some(&wanted), &mut told)
                .await?;
            all.extend(told.tasks);
        }
        Ok(keys
            .iter()
            .map(|key| {
                let presence = all
                    .get(key)
                    .cloned()
                    .unwrap_or(Presence::Absent(Absence::LocationGone));
                (key.clone(), presence)
            })
            .collect())
    }

    /// A location by its key; `None` when no site has such a task list.
    pub(super) async fn find_location(&self, key: &LocationKey) -> Result<Option<Location>, Failure> {
        let Some(list) = key.sharepoint_list_id().and_then(|id| Uuid::parse_str(id).ok()) else {
            return Ok(None);
        };
        for site in &self.sites {
            if let Some(found) = self.lists(site).await?.lists.get(&list) {
                return Ok(Some(found.location()));
            }
        }
        Ok(None)
    }

    /// The person in a site.
    pub(super) async fn user(&self, site: &Site, person: &Person) -> Result<Option<Arc<SiteUser>>, Failure> {
        site.people
            .user(&self.client, site, &person.login, &self.settings, false)
            .await
    }

    /// The task lists of a site.
    pub(super) async fn lists(&self, site: &Site) -> Result<Arc<Found>, Failure> {
        site.catalogue.current(&self.client, site, &self.settings).await
    }
}

/// Lists to be listed anew.
fn again(answered: &Answered, found: &Found) -> BTreeSet<Uuid> {
    let delta = &answered.delta;
    let touched = |list: &TaskList| {
        delta.lists.contains(&list.id)
            || delta.lists_deleted.contains(&list.id)
            || delta.roles_site
            || delta.roles_lists.contains(&list.id)
            || delta.roles_webs.contains(&list.web_id)
    };
    found
        .lists
        .values()
        .filter(|list| touched(list))
        .map(|list| list.id)
        .collect()
}

fn list_of(key: &SourceKey) -> Option<Uuid> {
    Uuid::parse_str(key.location().sharepoint_list_id()?).ok()
}

fn source_item(key: &SourceKey, list: &TaskList, item: &Item, writable: bool) -> SourceItem {
    SourceItem {
        key: key.clone(),
        version: item.version.clone(),
        task: item.task.clone(),
        modified: item.modified,
        web_url: list.item_url(item.id),
        writable,
    }
}

/// No site knows the person.
pub(super) fn unknown(person: &Person) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SharePointUserUnknown,
        format!("no site of the tenant knows \"{}\"", person.login),
    )
}
