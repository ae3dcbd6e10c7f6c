//! Deciding what each item that was read is to a person: present, absent or unreadable; and reading single
//! tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{LocationKey, SourceKey};
use uuid::Uuid;

use super::changes::{Seen, SiteReading, list_of};
use super::item_cache::{ItemRead, ItemReads, TaskListItem};
use super::lists::{DiscoveredLists, TaskList};
use super::missing_list::ListVerdict;
use super::people::SiteUser;
use super::read_failure::{ReadFailure, read_failure_of};
use super::task_presence::{self, Permissions, PresenceVerdict};
use super::{SharePointSource, Site, item_reads};
use crate::source::{Absence, Location, Person, SourceItem, TaskPresence};

impl SharePointSource {
    /// Adds each read item to `seen` or its list to the unread lists. A failure that concerns the list makes
    /// the list unread, unless it may be the whole site's and nothing could be read.
    pub(super) async fn sort_reads(
        &self,
        site: &Site,
        found: &DiscoveredLists,
        reads: impl Into<ItemReads>,
        seen: &mut Seen,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        let ItemReads { results, some_read } = reads.into();
        for ((list, id), read) in results {
            let Some(list) = found.lists.get(&list) else {
                continue;
            };
            match read {
                ItemRead::Unread(read_failure) if is_of_item(&read_failure) => {
                    seen.insert(
                        list.key.task(id),
                        (Arc::clone(list), ItemRead::Unread(read_failure)),
                    );
                }
                ItemRead::Unread(read_failure) if read_failure.certain || some_read => {
                    reading.unread.insert(list.id, read_failure.failure);
                }
                ItemRead::Unread(read_failure) => return Err(read_failure.failure),
                ItemRead::ListMissing => {
                    site.catalogue.expire_unless_fresh(self.client.now());
                    if let ListVerdict::Unread(failure) = self.judge_missing_list(list.id).await? {
                        reading.unread.insert(list.id, failure);
                    } else {
                        seen.insert(list.key.task(id), (Arc::clone(list), ItemRead::ListMissing));
                    }
                }
                ItemRead::Found(_) | ItemRead::Missing => {
                    seen.insert(list.key.task(id), (Arc::clone(list), read));
                }
            }
        }
        Ok(())
    }

    /// Decides about each item that was seen. Absences are reported only for `linked` tasks; with `None`, for
    /// none.
    pub(super) async fn decide_presences(
        &self,
        site: &Site,
        user: Option<&SiteUser>,
        seen: Seen,
        linked: Option<&BTreeSet<SourceKey>>,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        let permissions = match user {
            Some(user) => self.permissions_for(site, user, &seen).await?,
            None => HashMap::new(),
        };
        for (key, (list, read)) in seen {
            let is_linked = linked.is_some_and(|linked| linked.contains(&key));
            let (found, item) = match read {
                ItemRead::Found(item) => {
                    let assigned = user.is_some_and(|user| item.assigned.contains(&user.id));
                    let mask = permissions.get(&(list.id, item.unique.then_some(item.id)));
                    let permissions = match mask {
                        Some(Ok(permissions)) => *permissions,
                        Some(Err(failure)) if assigned => {
                            reading
                                .tasks
                                .insert(key, TaskPresence::Unreadable(failure.clone()));
                            continue;
                        }
                        // Permissions are requested for assigned tasks only.
                        Some(Err(_)) | None => Permissions::default(),
                    };
                    (
                        task_presence::TaskEvidence::Readable {
                            assigned,
                            permissions,
                        },
                        Some(item),
                    )
                }
                ItemRead::Missing => (task_presence::TaskEvidence::ItemMissing, None),
                ItemRead::ListMissing => (task_presence::TaskEvidence::ListMissing, None),
                ItemRead::Unread(read_failure) => {
                    if is_linked || linked.is_none() {
                        let unreadable = TaskPresence::Unreadable(self.of_tenant(read_failure.failure));
                        reading.tasks.insert(key, unreadable);
                    }
                    continue;
                }
            };
            match (task_presence::decide(found), item) {
                (PresenceVerdict::Present { writable }, Some(item)) => {
                    reading
                        .locations
                        .entry(list.key.clone())
                        .or_insert_with(|| list.location());
                    let item = source_item(&key, &list, &item, writable);
                    reading.tasks.insert(key, TaskPresence::Present(Box::new(item)));
                }
                (PresenceVerdict::Absent(absence), _) if is_linked => {
                    reading.tasks.insert(key, TaskPresence::Absent(absence));
                }
                (PresenceVerdict::Absent(_) | PresenceVerdict::Present { .. }, _) => {}
            }
        }
        Ok(())
    }

    /// Returns what the person may do with the lists and items of tasks assigned to them. Permissions for
    /// other tasks are not needed.
    async fn permissions_for(
        &self,
        site: &Site,
        user: &SiteUser,
        seen: &Seen,
    ) -> Result<HashMap<(Uuid, Option<i64>), Result<Permissions, Failure>>, Failure> {
        let mut wanted: BTreeMap<(Uuid, Option<i64>), Arc<TaskList>> = BTreeMap::new();
        for (list, read) in seen.values() {
            if let ItemRead::Found(item) = read
                && item.assigned.contains(&user.id)
            {
                wanted.insert((list.id, item.unique.then_some(item.id)), Arc::clone(list));
            }
        }
        let asked: Vec<(&TaskList, Option<i64>)> =
            wanted.iter().map(|((_, item), list)| (&**list, *item)).collect();
        let answers = site
            .people
            .permissions(&self.client, site, user, &asked, &self.settings)
            .await?;
        let some_read = answers.iter().any(Result::is_ok);
        let mut permissions = HashMap::new();
        for (subject, answer) in wanted.into_keys().zip(answers) {
            let answer = match answer {
                Ok(permissions) => Ok(permissions),
                Err(refusal) => {
                    let read_failure = read_failure_of(refusal, Scope::Item)?;
                    if !read_failure.certain && !some_read {
                        return Err(read_failure.failure);
                    }
                    Err(self.of_tenant(read_failure.failure))
                }
            };
            permissions.insert(subject, answer);
        }
        Ok(permissions)
    }

    pub(super) async fn single_tasks(
        &self,
        person: &Person,
        keys: &[SourceKey],
    ) -> Result<Vec<(SourceKey, TaskPresence)>, Failure> {
        let mut all: BTreeMap<SourceKey, TaskPresence> = BTreeMap::new();
        let wanted: BTreeSet<SourceKey> = keys.iter().cloned().collect();
        let mut lost: BTreeMap<Uuid, Vec<&SourceKey>> = BTreeMap::new();
        for key in &wanted {
            match (list_of(key), key.item_id()) {
                (Some(list_id), Some(_)) => lost.entry(list_id).or_default().push(key),
                // Not a key of SharePoint's.
                _ => {
                    all.insert(key.clone(), TaskPresence::Absent(Absence::LocationGone));
                }
            }
        }
        for site in &self.sites {
            if lost.is_empty() {
                break;
            }
            // A site that cannot be walked is handled where its lists are missing.
            let Ok(found) = self.lists(site).await else {
                continue;
            };
            let here: Vec<Uuid> = lost
                .keys()
                .copied()
                .filter(|list| found.lists.contains_key(list))
                .collect();
            let mut asked_items: Vec<(Arc<TaskList>, Vec<i64>)> = Vec::new();
            for list in here {
                let ids = lost.remove(&list).into_iter().flatten();
                if let Some(list) = found.lists.get(&list) {
                    asked_items.push((Arc::clone(list), ids.filter_map(SourceKey::item_id).collect()));
                }
            }
            if asked_items.is_empty() {
                continue;
            }
            let mut reading = SiteReading::default();
            match self
                .ask_site(site, &found, person, &asked_items, &wanted, &mut reading)
                .await
            {
                Ok(()) => {}
                Err(failure)
                    if self.sites.len() > 1 && !matches!(failure.class, ErrorClass::Throttled { .. }) =>
                {
                    let unread = asked_items.iter().map(|(list, _)| (list.id, failure.clone()));
                    reading.unread.extend(unread);
                }
                Err(failure) => return Err(failure),
            }
            for (list, ids) in &asked_items {
                if let Some(failure) = reading.unread.get(&list.id) {
                    for id in ids {
                        all.entry(list.key.task(*id))
                            .or_insert_with(|| TaskPresence::Unreadable(self.of_tenant(failure.clone())));
                    }
                }
            }
            all.extend(reading.tasks);
        }
        for (list, keys) in lost {
            let presence = match self.judge_missing_list(list).await? {
                ListVerdict::Gone => TaskPresence::Absent(Absence::LocationGone),
                ListVerdict::Unread(failure) => TaskPresence::Unreadable(self.of_tenant(failure)),
            };
            all.extend(keys.into_iter().map(|key| (key.clone(), presence.clone())));
        }
        keys.iter()
            .map(|key| match all.get(key) {
                Some(presence) => Ok((key.clone(), presence.clone())),
                None => Err(Failure::new(
                    ErrorClass::Transient,
                    Code::SharePointBadAnswer,
                    format!("{key}: no answer says whether the task exists"),
                )),
            })
            .collect()
    }

    /// Asks one site for tasks by their ids.
    async fn ask_site(
        &self,
        site: &Site,
        found: &DiscoveredLists,
        person: &Person,
        asked_items: &[(Arc<TaskList>, Vec<i64>)],
        wanted: &BTreeSet<SourceKey>,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        let mut seen = Seen::new();
        let reads = item_reads::read_items(&self.client, asked_items).await?;
        self.sort_reads(site, found, reads, &mut seen, reading).await?;
        let user = self.user(site, person).await?;
        self.decide_presences(site, user.as_deref(), seen, Some(wanted), reading)
            .await
    }

    /// Returns a location by its key; `None` if it certainly does not exist, or no longer.
    pub(super) async fn find_location(&self, key: &LocationKey) -> Result<Option<Location>, Failure> {
        let Some(list) = key.sharepoint_list_id().and_then(|id| Uuid::parse_str(id).ok()) else {
            return Ok(None);
        };
        for site in &self.sites {
            if let Ok(found) = self.lists(site).await
                && let Some(found) = found.lists.get(&list)
            {
                return Ok(Some(found.location()));
            }
        }
        match self.judge_missing_list(list).await? {
            ListVerdict::Gone => Ok(None),
            ListVerdict::Unread(failure) => Err(failure),
        }
    }
}

/// Returns whether a failure concerns one item only, whatever happened to the rest of its list.
fn is_of_item(read_failure: &ReadFailure) -> bool {
    read_failure.failure.scope == Scope::Item
}

fn source_item(key: &SourceKey, list: &TaskList, item: &TaskListItem, writable: bool) -> SourceItem {
    SourceItem {
        key: key.clone(),
        version: item.version.clone(),
        task: item.task.clone(),
        modified: item.modified,
        web_url: list.item_url(item.id),
        writable,
    }
}
