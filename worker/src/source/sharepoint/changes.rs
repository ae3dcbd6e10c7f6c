//! Reading a person's tasks: what changed since a cursor, everything, or single tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{LocationKey, SourceKey};
use uuid::Uuid;

use super::cursor::SourceCursor;
use super::identity::Identity;
use super::item_cache::ItemRead;
use super::item_reads::{self, ListReading};
use super::lists::{DiscoveredLists, TaskList};
use super::missing_list::ListVerdict;
use super::people::SiteUser;
use super::read_failure::ReadFailure;
use super::{SharePointSource, Site};
use crate::source::{Location, Person, SourceChanges, TaskPresence, UnreadLocation};

/// Sites read at the same time for one user.
const SITES_AT_ONCE: usize = 4;

/// What was read from one site for a person.
#[derive(Default)]
pub(super) struct SiteReading {
    /// Tasks, each once.
    pub(super) tasks: BTreeMap<SourceKey, TaskPresence>,
    /// The tasks' locations, and locations that were renamed.
    pub(super) locations: BTreeMap<LocationKey, Location>,
    /// Lists that could not be read; the cursor does not cover them.
    pub(super) unread: BTreeMap<Uuid, Failure>,
    /// The token from which the next reading continues; empty for a site that was never read.
    pub(super) token: String,
    pub(super) birth: Timestamp,
    /// Whether the site knows the person, or was not asked.
    pub(super) knows_person: bool,
}

/// Items that were read, with their lists.
pub(super) type Seen = BTreeMap<SourceKey, (Arc<TaskList>, ItemRead)>;

impl SharePointSource {
    /// Reads the feeds of all sites forward. Fails only if no feed can be read.
    pub(super) async fn refresh_feeds(&self, cursors: &[&str]) -> Result<(), Failure> {
        let cursors: Vec<SourceCursor> = cursors
            .iter()
            .filter_map(|cursor| SourceCursor::parse(cursor).ok())
            .filter(|cursor| self.check_cursor(cursor).is_ok())
            .collect();
        let reads = self.sites.iter().map(|site| {
            let tokens: Vec<&str> = cursors
                .iter()
                .filter_map(|cursor| cursor.token(&site.name))
                .filter(|token| !token.is_empty())
                .collect();
            async move { site.feed.refresh(&self.client, &tokens).await }
        });
        let outcomes: Vec<Result<(), Failure>> = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .collect()
            .await;
        if outcomes.iter().any(Result::is_ok) {
            return Ok(());
        }
        outcomes.into_iter().collect()
    }

    fn check_cursor(&self, cursor: &SourceCursor) -> Result<(), Failure> {
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
        let cursor = SourceCursor::parse(cursor)?;
        self.check_cursor(&cursor)?;
        for site in &self.sites {
            for (list, web) in cursor.unread() {
                site.catalogue.learn_web(&site.address, *list, web);
            }
        }
        let reads = self
            .sites
            .iter()
            .map(|site| self.site_changes(site, person, &cursor, linked));
        let readings: Vec<Result<SiteReading, Failure>> = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .collect()
            .await;
        let readings = self.keep_unread_sites(readings, Some(&cursor), linked)?;
        Ok(self.collect(readings, false))
    }

    /// Returns an empty answer with a cursor for all users who have this one, if no feed reports anything
    /// since. Returns `None` if a feed reports something or cannot be read, or if the cursor names lists that
    /// must be read in any case.
    pub(super) async fn no_changes_since(&self, cursor: &str) -> Option<SourceChanges> {
        let cursor = SourceCursor::parse(cursor).ok()?;
        self.check_cursor(&cursor).ok()?;
        if !cursor.unread().is_empty() {
            return None;
        }
        let mut readings = Vec::with_capacity(self.sites.len());
        for site in &self.sites {
            let token = cursor.token(&site.name).filter(|token| !token.is_empty())?;
            let (token, birth) = site.feed.unchanged_since(&self.client, token).await?;
            readings.push(SiteReading {
                token,
                birth,
                knows_person: true,
                ..SiteReading::default()
            });
        }
        Some(self.collect(readings, false))
    }

    pub(super) async fn everything_of(&self, person: &Person) -> Result<SourceChanges, Failure> {
        let reads = self
            .sites
            .iter()
            .map(|site| self.site_listing(site, person, None));
        let readings: Vec<Result<SiteReading, Failure>> = futures::stream::iter(reads.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .collect()
            .await;
        if readings
            .iter()
            .all(|reading| reading.as_ref().is_ok_and(|reading| !reading.knows_person))
        {
            return Err(unknown_person(person));
        }
        let readings = self.keep_unread_sites(readings, None, &BTreeSet::new())?;
        let users = self.sites.iter().filter_map(|site| {
            let (user, at) = site.people.cached(&person.login)?;
            Some((site.name.as_str(), user, at))
        });
        Ok(SourceChanges {
            identity: Identity::of(&person.login, users).map(|identity| identity.to_text()),
            ..self.collect(readings, true)
        })
    }

    /// Handles sites that could not be read, so that they do not stop the others: such a site keeps its token
    /// in the cursor, and its known lists are unread.
    ///
    /// # Errors
    /// The first failure, if no site could be read, or if it does not concern one site only: a pause, or a
    /// cursor that is no longer valid.
    fn keep_unread_sites(
        &self,
        readings: Vec<Result<SiteReading, Failure>>,
        cursor: Option<&SourceCursor>,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<Vec<SiteReading>, Failure> {
        let some_read = readings.iter().any(Result::is_ok);
        let elsewhere: BTreeSet<Uuid> = self
            .sites
            .iter()
            .zip(&readings)
            .filter(|(_, reading)| reading.is_ok())
            .filter_map(|(site, _)| site.catalogue.last())
            .flat_map(|found| found.lists.keys().copied().collect::<Vec<_>>())
            .collect();
        self.sites
            .iter()
            .zip(readings)
            .map(|(site, reading)| {
                let failure = match reading {
                    Ok(reading) => return Ok(reading),
                    Err(failure) => failure,
                };
                let is_of_site = !matches!(
                    failure.class,
                    ErrorClass::Throttled { .. } | ErrorClass::CursorInvalid
                );
                if !some_read || !is_of_site {
                    return Err(failure);
                }
                tracing::warn!(site = site.address, %failure, "a site cannot be read; its tasks stay as they are");
                let lists: BTreeSet<Uuid> = match site.catalogue.last() {
                    Some(found) => found.lists.keys().copied().collect(),
                    None => linked
                        .iter()
                        .filter_map(list_of)
                        .filter(|list| !elsewhere.contains(list))
                        .collect(),
                };
                Ok(SiteReading {
                    unread: lists.into_iter().map(|list| (list, failure.clone())).collect(),
                    token: cursor
                        .and_then(|cursor| cursor.token(&site.name))
                        .unwrap_or_default()
                        .to_owned(),
                    birth: cursor.map_or_else(|| self.client.server_now(), SourceCursor::birth),
                    knows_person: true,
                    ..SiteReading::default()
                })
            })
            .collect()
    }

    /// Returns the failure with the name of the list, if a walk over the lists found it: people know it by
    /// that name.
    fn naming_list(&self, list: Uuid, failure: Failure) -> Failure {
        let named = self.sites.iter().find_map(|site| {
            let found = site.catalogue.last()?;
            found.lists.get(&list).map(|list| list.location().name)
        });
        match named {
            Some(name) => failure.within(format_args!("the list \"{name}\"")),
            None => failure,
        }
    }

    fn collect(&self, readings: Vec<SiteReading>, complete: bool) -> SourceChanges {
        let birth = readings
            .iter()
            .map(|reading| reading.birth)
            .min()
            .unwrap_or_else(|| self.client.server_now());
        let mut tokens = BTreeMap::new();
        let (mut tasks, mut locations, mut unread) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (site, reading) in self.sites.iter().zip(readings) {
            tokens.insert(site.name.clone(), reading.token);
            tasks.extend(reading.tasks);
            locations.extend(reading.locations);
            unread.extend(reading.unread);
        }
        let webs = unread.keys().map(|list| {
            let web = self.sites.iter().find_map(|site| site.catalogue.web_of(*list));
            (*list, web.unwrap_or_default())
        });
        let cursor = SourceCursor::new(birth, tokens, webs.collect());
        SourceChanges {
            tasks: tasks.into_iter().collect(),
            locations: locations.into_values().collect(),
            cursor: cursor.to_text(),
            complete,
            identity: None,
            unread: unread
                .into_iter()
                .map(|(list, failure)| UnreadLocation {
                    key: LocationKey::sharepoint_list(&list.to_string()),
                    failure: self.of_tenant(self.naming_list(list, failure.about(Scope::Container))),
                })
                .collect(),
        }
    }

    /// Returns every task of the person in a site. With `linked`, tasks that the listing leaves out are
    /// looked up by their ids.
    pub(super) async fn site_listing(
        &self,
        site: &Site,
        person: &Person,
        linked: Option<&BTreeSet<SourceKey>>,
    ) -> Result<SiteReading, Failure> {
        // Read the token first: a change made while the lists are read is then reported again, and never left
        // out.
        let (token, birth) = site.feed.position(&self.client).await?;
        let mut reading = SiteReading {
            token,
            birth,
            knows_person: false,
            ..SiteReading::default()
        };
        let Some(user) = self.user(site, person).await? else {
            return Ok(reading);
        };
        reading.knows_person = true;
        let found = self.lists(site).await?;
        reading.unread.extend(found.unread_task_lists());
        let lists: BTreeSet<Uuid> = found.lists.keys().copied().collect();
        let mut seen = Seen::new();
        match linked {
            Some(linked) => {
                self.relist(site, &user, &found, &lists, linked, &mut seen, &mut reading)
                    .await?;
            }
            None => {
                self.list_into(site, &user, &found, &lists, &mut seen, &mut reading)
                    .await?;
            }
        }
        self.decide_presences(site, Some(&user), seen, linked, &mut reading)
            .await?;
        Ok(reading)
    }

    /// Lists a person's items in these lists. A list that cannot be read is unread, unless the failure may be
    /// the whole site's and no list could be read.
    pub(super) async fn list_into(
        &self,
        site: &Site,
        user: &SiteUser,
        found: &DiscoveredLists,
        lists: &BTreeSet<Uuid>,
        seen: &mut Seen,
        reading: &mut SiteReading,
    ) -> Result<(), Failure> {
        let lists: Vec<Arc<TaskList>> = lists
            .iter()
            .filter_map(|list| found.lists.get(list).cloned())
            .collect();
        let listings = item_reads::assigned_to(&self.client, site, &lists, user.id, &self.settings).await?;
        let some_read = listings
            .iter()
            .any(|listing| !matches!(listing, ListReading::Unread(_)));
        for (list, listing) in lists.into_iter().zip(listings) {
            match listing {
                ListReading::Items(items, unread) => {
                    let there = items
                        .into_iter()
                        .map(|item| (item.id, ItemRead::Found(Arc::new(item))));
                    let unread = unread
                        .into_iter()
                        .map(|(id, failure)| (id, ItemRead::Unread(ReadFailure::certain(failure))));
                    for (id, read) in there.chain(unread) {
                        seen.insert(list.key.task(id), (Arc::clone(&list), read));
                    }
                }
                ListReading::Missing => {
                    site.catalogue.expire_unless_fresh(self.client.now());
                    match self.judge_missing_list(list.id).await? {
                        // The list's tasks are looked up by key.
                        ListVerdict::Gone => {}
                        ListVerdict::Unread(failure) => {
                            reading.unread.insert(list.id, failure);
                        }
                    }
                }
                ListReading::Unread(read_failure) => {
                    if !read_failure.certain && !some_read {
                        return Err(read_failure.failure);
                    }
                    tracing::warn!(list = %list.id, web = list.web, failure = %read_failure.failure,
                        "a list cannot be read; its tasks stay as they are");
                    reading.unread.insert(list.id, read_failure.failure);
                }
            }
        }
        Ok(())
    }

    /// Returns the person in a site.
    pub(super) async fn user(&self, site: &Site, person: &Person) -> Result<Option<Arc<SiteUser>>, Failure> {
        site.people
            .user(&self.client, site, person, &self.settings, false)
            .await
    }

    /// Returns the task lists of a site.
    pub(super) async fn lists(&self, site: &Site) -> Result<Arc<DiscoveredLists>, Failure> {
        site.catalogue.current(&self.client, site, &self.settings).await
    }
}

/// Returns the list of a key; `None` for a key that is not SharePoint's.
pub(super) fn list_of(key: &SourceKey) -> Option<Uuid> {
    Uuid::parse_str(key.location().sharepoint_list_id()?).ok()
}

/// Returns the failure of a person whom no site knows.
pub(super) fn unknown_person(person: &Person) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SharePointUserUnknown,
        format!("no site of the tenant knows \"{}\"", person.login),
    )
}
