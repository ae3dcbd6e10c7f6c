//! Reading what changed for a person in one site since a cursor.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tasksync_common::error::Failure;
use tasksync_common::model::SourceKey;
use uuid::Uuid;

use super::changes::{Seen, SiteReading, list_of};
use super::cursor::{self, SourceCursor};
use super::feed::FeedAnswer;
use super::item_cache::{self, TaskListItem};
use super::item_reads;
use super::lists::{DiscoveredLists, TaskList};
use super::missing_list::ListVerdict;
use super::people::SiteUser;
use super::{SharePointSource, Site};
use crate::source::{Absence, Person, TaskPresence};

impl SharePointSource {
    /// Returns what changed for a person in a site since the cursor, or everything if the cursor does not
    /// cover the site.
    pub(super) async fn site_changes(
        &self,
        site: &Site,
        person: &Person,
        cursor: &SourceCursor,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SiteReading, Failure> {
        let token = cursor
            .token(&site.name)
            .ok_or_else(|| cursor::invalid("a site is not in the stored cursor"))?;
        if token.is_empty() {
            return self.site_listing(site, person, Some(linked)).await;
        }
        let answered = site.feed.since(&self.client, token).await?;
        let mut reading = SiteReading {
            token: answered.token.clone(),
            birth: answered.birth,
            knows_person: true,
            ..SiteReading::default()
        };
        let delta = &answered.delta;
        if delta.is_empty() && cursor.unread().is_empty() {
            return Ok(reading);
        }
        if answered.bypassed_log && !(delta.lists.is_empty() && delta.lists_deleted.is_empty()) {
            site.catalogue.forget();
        }
        let found = self.lists(site).await?;
        let lost = self
            .lost_lists(site, cursor, &answered, &found, linked, &mut reading)
            .await?;
        let user = self.user(site, person).await?;
        let mut seen = Seen::new();
        self.read_changed(
            site,
            &answered,
            &found,
            user.as_deref(),
            linked,
            &mut seen,
            &mut reading,
        )
        .await?;
        let mut again = lists_to_relist(&answered, &found);
        again.extend(
            cursor
                .unread()
                .keys()
                .filter(|list| found.lists.contains_key(*list)),
        );
        for list in reading.unread.keys().chain(&lost) {
            again.remove(list);
        }
        if seen.is_empty() && again.is_empty() {
            return Ok(reading);
        }
        if let Some(user) = &user {
            self.relist(site, user, &found, &again, linked, &mut seen, &mut reading)
                .await?;
        }
        self.decide_presences(site, user.as_deref(), seen, Some(linked), &mut reading)
            .await?;
        let renamed = delta.lists.iter().filter_map(|list| found.lists.get(list));
        for list in renamed {
            if linked.iter().any(|key| key.location() == list.key) {
                reading.locations.insert(list.key.clone(), list.location());
            }
        }
        Ok(reading)
    }

    /// Decides about lists with linked tasks that the last walk did not find: lists that were deleted, are no
    /// longer task lists, or could not be read before. Returns the lists that are gone.
    async fn lost_lists(
        &self,
        site: &Site,
        cursor: &SourceCursor,
        answered: &FeedAnswer,
        found: &DiscoveredLists,
        linked: &BTreeSet<SourceKey>,
        reading: &mut SiteReading,
    ) -> Result<BTreeSet<Uuid>, Failure> {
        let delta = &answered.delta;
        let mut suspects: BTreeMap<Uuid, Vec<&SourceKey>> = BTreeMap::new();
        for key in linked {
            let Some(list) = list_of(key) else { continue };
            let suspect = delta.lists_deleted.contains(&list)
                || delta.lists.contains(&list)
                || (cursor.unread().contains_key(&list) && !self.is_in_another_site(site, list));
            if suspect && !found.lists.contains_key(&list) {
                suspects.entry(list).or_default().push(key);
            }
        }
        let mut gone = BTreeSet::new();
        for (list, keys) in suspects {
            if let Some(failure) = found.unread_list(list) {
                reading.unread.insert(list, failure);
                continue;
            }
            if delta.lists_deleted.contains(&list) {
                site.catalogue
                    .with_missing_lists(|seen| seen.record_deleted(list));
            }
            match self.judge_missing_list(list).await? {
                ListVerdict::Gone => {
                    gone.insert(list);
                    for key in keys {
                        let absent = TaskPresence::Absent(Absence::LocationGone);
                        reading.tasks.insert(key.clone(), absent);
                    }
                }
                ListVerdict::Unread(failure) => {
                    reading.unread.insert(list, failure);
                }
            }
        }
        Ok(gone)
    }

    /// Returns whether a list was found in another site than this one.
    fn is_in_another_site(&self, site: &Site, list: Uuid) -> bool {
        self.sites
            .iter()
            .filter(|other| other.name != site.name)
            .any(|other| {
                other
                    .catalogue
                    .last()
                    .is_some_and(|found| found.lists.contains_key(&list))
            })
    }

    /// Reads the items that the feed reports, and sorts those that are assigned to the person or linked.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is read, for whom, and where it goes"
    )]
    async fn read_changed(
        &self,
        site: &Site,
        answered: &FeedAnswer,
        found: &DiscoveredLists,
        user: Option<&SiteUser>,
        linked: &BTreeSet<SourceKey>,
        seen: &mut Seen,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        let linked_ids: HashSet<item_cache::ItemKey> = linked
            .iter()
            .filter_map(|key| Some((list_of(key)?, key.item_id()?)))
            .collect();
        let mut wanted: Vec<(Arc<TaskList>, Vec<i64>)> = Vec::new();
        for (list, ids) in &answered.delta.items {
            let Some(list) = found.lists.get(list) else {
                if let Some(failure) = found.unread_list(*list) {
                    reading.unread.insert(*list, failure);
                }
                continue;
            };
            let mut there = Vec::with_capacity(ids.len());
            for (id, gone) in ids {
                if !gone {
                    there.push(*id);
                } else if linked_ids.contains(&(list.id, *id)) {
                    let deleted = TaskPresence::Absent(Absence::Deleted);
                    reading.tasks.insert(list.key.task(*id), deleted);
                }
            }
            if !there.is_empty() {
                wanted.push((Arc::clone(list), there));
            }
        }
        let reads = if answered.bypassed_log {
            item_reads::read_items(&self.client, &wanted).await?.into()
        } else {
            let concern = |key: &item_cache::ItemKey, item: &TaskListItem| {
                linked_ids.contains(key) || user.is_some_and(|user| item.assigned.contains(&user.id))
            };
            self.items
                .as_of_feed(&self.client, site, &wanted, concern)
                .await?
        };
        self.sort_reads(site, found, reads, seen, reading).await
    }

    /// Lists the person's items again in lists whose columns, content or permissions changed as a whole: a
    /// change of permissions does not appear as a change of items.
    #[expect(clippy::too_many_arguments, reason = "what is read, and where it goes")]
    pub(super) async fn relist(
        &self,
        site: &Site,
        user: &SiteUser,
        found: &DiscoveredLists,
        lists: &BTreeSet<Uuid>,
        linked: &BTreeSet<SourceKey>,
        seen: &mut Seen,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        self.list_into(site, user, found, lists, seen, reading).await?;
        // A linked task that the listing leaves out was deleted, reassigned or hidden from the person.
        let mut unlisted: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
        for key in linked.iter().filter(|key| !seen.contains_key(*key)) {
            let list = list_of(key).filter(|list| lists.contains(list) && !reading.unread.contains_key(list));
            if let (Some(list), Some(id)) = (list, key.item_id()) {
                unlisted.entry(list).or_default().push(id);
            }
        }
        let wanted: Vec<(Arc<TaskList>, Vec<i64>)> = unlisted
            .into_iter()
            .filter_map(|(list, ids)| Some((Arc::clone(found.lists.get(&list)?), ids)))
            .collect();
        let reads = item_reads::read_items(&self.client, &wanted).await?;
        self.sort_reads(site, found, reads, seen, reading).await
    }
}

/// Returns the lists that have to be listed again.
fn lists_to_relist(answered: &FeedAnswer, found: &DiscoveredLists) -> BTreeSet<Uuid> {
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
