//! SharePoint task lists as a source, over its REST interface (2013 to Subscription Edition, and Online).
//!
//! One [`SharePointSource`] per tenant serves all its users. Data that is the same for all users is read
//! once: the change feed of each site (`feed`, `log`), the task lists (`lists`, `walk`), and items that
//! changed (`item_cache`, `item_reads`). A person's permissions are requested per person and cached (`people`). Answers
//! are read into bounded memory (`json`, `odata`). An item or list that cannot be read stops nothing else
//! (`read_failure`), and one that cannot be seen is not gone (`missing_list`). Decisions are pure
//! (`task_presence`, `cursor`, `columns`, `zone`).

mod batch;
mod body;
mod changes;
mod check;
mod choices;
mod client;
mod columns;
mod cursor;
mod errors;
mod feed;
mod identity;
mod item_cache;
mod json;
mod missing_list;
mod presences;

mod batch_sending;
mod item_reads;
mod lists;
mod log;
mod odata;
mod people;
mod queries;
mod read_failure;
mod site_changes;
mod task_presence;
mod walk;
mod wire;
mod write;
mod zone;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::facts::{PersonLookup, SiteCheck};
use tasksync_common::model::{LocationKey, SourceKey, TenantId};
use tasksync_common::registry::SharePointConnection;

use crate::auth::Authenticator;
use crate::http::Http;
use crate::session::SessionServices;
use crate::source::{
    Location, Person, Source, SourceCapabilities, SourceChanges, TaskChanges, TaskPresence, WrittenTask,
};
use crate::throttle::Servers;

/// Limits of one tenant's source. The defaults suit a tenant of some thousand users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharePointSettings {
    /// Time after which a site is walked for task lists again, and permissions are requested again.
    pub discovery_interval: Duration,
    /// Timeout of one request, and of waiting for its permit.
    pub request_timeout: Duration,
    /// Time between two answers that a web does not exist, after which it counts as gone; at least 5 minutes
    /// are used.
    pub full_check_interval: Duration,
    /// Time for which a change feed that was read is not read again.
    pub feed_window: Duration,
    /// Pages of 1,000 changes in one reading.
    pub feed_pages: usize,
    /// Changes remembered per tenant, shared by its sites (at least 1,000 each).
    pub log_changes: usize,
    /// Age from which a cursor is refused without asking the server; SharePoint keeps changes for 60 days at
    /// most.
    pub cursor_lifetime: Duration,
    /// Requests per `$batch`, at most 100; 1 disables batches.
    pub batch_size: usize,
    /// Items per page of a listing, at most 5,000.
    pub page_size: usize,
    /// Pages per listing.
    pub pages_per_list: usize,
    /// The most tasks in the listing of one person.
    pub person_items: usize,
    /// The most bytes of tasks in the listing of one person.
    pub person_bytes: usize,
    /// Webs walked per site, including the root web; 1 walks only the root web.
    pub webs_per_site: usize,
    /// Task lists per site.
    pub lists_per_site: usize,
    /// Items cached per tenant.
    pub items: usize,
    /// Bytes of the cached items.
    pub item_bytes: usize,
    /// People cached per tenant, shared by its sites (at least 100 each).
    pub people: usize,
    /// Answers about permissions cached per tenant, shared by its sites (at least 1,000 each).
    pub permissions: usize,
}

impl Default for SharePointSettings {
    fn default() -> Self {
        Self {
            discovery_interval: Duration::from_hours(3),
            request_timeout: Duration::from_secs(30),
            full_check_interval: Duration::from_hours(6),
            feed_window: Duration::from_secs(2),
            feed_pages: 60,
            log_changes: 50_000,
            cursor_lifetime: Duration::from_hours(720),
            batch_size: 20,
            page_size: 100,
            pages_per_list: 200,
            person_items: 50_000,
            person_bytes: 32 * 1024 * 1024,
            webs_per_site: 50,
            lists_per_site: 1_000,
            items: 20_000,
            item_bytes: 32 * 1024 * 1024,
            people: 50_000,
            permissions: 100_000,
        }
    }
}

/// A site collection and what is cached of it.
struct Site {
    /// The address, without a final slash.
    address: String,
    /// Its name inside cursors.
    name: String,
    feed: feed::Feed,
    catalogue: lists::Catalogue,
    people: people::People,
}

/// The source of one tenant; see the module's documentation.
pub struct SharePointSource {
    client: client::SharePointClient,
    /// The sites, in the order of their names.
    sites: Vec<Site>,
    items: item_cache::Items,
    settings: SharePointSettings,
    tenant: TenantId,
}

impl SharePointSource {
    /// Returns the source of `tenant`. Sends no request yet. `servers` are shared by the whole process.
    #[must_use]
    pub fn new(
        http: Http,
        auth: Authenticator,
        connection: SharePointConnection,
        tenant: TenantId,
        clock: SharedClock,
        servers: Servers,
        mut settings: SharePointSettings,
    ) -> Self {
        let mut addresses: Vec<(String, String)> = connection
            .sites
            .iter()
            .map(|url| {
                let mut url = url.clone();
                url.set_query(None);
                url.set_fragment(None);
                let address = url.as_str().trim_end_matches('/').to_owned();
                (cursor::site_name(&address), address)
            })
            .collect();
        addresses.sort();
        addresses.dedup_by(|one, other| one.0 == other.0);
        let count = addresses.len().max(1);
        settings.people = (settings.people / count).max(100);
        settings.permissions = (settings.permissions / count).max(1_000);
        let sites = addresses
            .into_iter()
            .map(|(name, address)| Site {
                feed: feed::Feed::new(&address, &settings, count),
                address,
                name,
                catalogue: lists::Catalogue::default(),
                people: people::People::default(),
            })
            .collect();
        let client = client::SharePointClient::new(
            SessionServices { http, auth, clock },
            client::ClientSettings {
                tenant: tenant.clone(),
                credentials: connection.credentials,
                servers,
                timeout: settings.request_timeout,
                batch_size: settings.batch_size,
            },
        );
        Self {
            client,
            sites,
            items: item_cache::Items::new(&settings),
            settings,
            tenant,
        }
    }

    fn of_tenant(&self, failure: Failure) -> Failure {
        failure.within(&self.tenant)
    }
}

#[async_trait]
impl Source for SharePointSource {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities {
            conditional_writes: true,
            time_precision: SignedDuration::from_secs(1),
        }
    }

    fn clock_offset(&self) -> Option<SignedDuration> {
        self.client.clock_offset()
    }

    fn last_discovery(&self) -> Option<Timestamp> {
        let successes = self.sites.iter().map(|site| site.catalogue.last_success());
        successes.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    async fn refresh(&self, cursors: &[&str]) -> Result<(), Failure> {
        self.refresh_feeds(cursors)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn unchanged_since(&self, cursor: &str) -> Option<SourceChanges> {
        self.no_changes_since(cursor).await
    }

    async fn changes(
        &self,
        person: &Person,
        cursor: &str,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SourceChanges, Failure> {
        self.changes_since(person, cursor, linked)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn everything(&self, person: &Person) -> Result<SourceChanges, Failure> {
        self.everything_of(person)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn tasks(
        &self,
        person: &Person,
        keys: &[SourceKey],
    ) -> Result<Vec<(SourceKey, TaskPresence)>, Failure> {
        self.single_tasks(person, keys)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn location(&self, key: &LocationKey) -> Result<Option<Location>, Failure> {
        self.find_location(key)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn update(
        &self,
        key: &SourceKey,
        version: &str,
        changes: &TaskChanges,
    ) -> Result<WrittenTask, Failure> {
        self.write_task(key, version, changes)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn delete(&self, key: &SourceKey, version: &str) -> Result<(), Failure> {
        self.recycle(key, version)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }

    async fn check(&self) -> Vec<SiteCheck> {
        self.check_sites().await
    }

    async fn check_person(&self, person: &Person, lookup: PersonLookup) -> Result<(), Failure> {
        self.check_login(person, lookup)
            .await
            .map_err(|failure| self.of_tenant(failure))
    }
}

/// Locks the mutex. Data left by a panicking holder is plain and stays usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
