//! A simulated SharePoint: site collections with task lists, served through the `_api` REST interface.
//!
//! People use it through the methods of [`SharePoint`] ([`people`]), clients through HTTP. Every site collection has
//! its own lock, so that ten thousand of them do not block each other.
//!
//! Not implemented: Atom answers, `GetListItemChangesSinceToken`, webhooks, folders, attachments and groups.

mod auth;
mod batch;
mod caml;
mod changes;
mod errors;
mod faults;
mod fields;
mod filter;
mod item_view;
mod items;
mod lists;
mod model;
mod operations;
mod path;
pub mod people;
mod server;
mod service_account;
mod shape;
mod specs;
mod webs;
mod write;
mod zones;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::SignedDuration;
use uuid::Uuid;

pub use fields::Language;
pub use model::{Access, Closed};
pub use operations::{Operation, SharePointStats};
pub use service_account::AccountLevel;

use crate::sim::clock::SimClock;
use crate::sim::conditions::Groups;
use crate::sim::dice::mix;
use crate::sim::faults::Faults;
use crate::sim::http::Listener;
use crate::sim::schemes::OfferedSchemes;
use crate::sim::tls::SimTls;
use crate::sim::token::TokenValidator;
use model::Site;

/// The behaviour of the simulated farm.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a form digest is valid; 30 minutes as in the product.
    pub digest_lifetime: SignedDuration,
    /// How far back the change log reaches; 60 days as in the product.
    pub change_log_retention: SignedDuration,
    /// Largest number of entries in one site's change log. Older ones are dropped, and their tokens become too old.
    pub maximum_changes_per_site: usize,
    /// Largest number of rows that a query may scan without an index; 5000 as in the product.
    pub list_view_threshold: usize,
    /// Largest number of parts of a `$batch`.
    pub batch_limit: usize,
    /// Whether `OData` may filter a person column with several values. The product's documentation says no.
    pub filter_multi_person: bool,
    /// Seed of all ids, so that two runs create the same ones.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            digest_lifetime: SignedDuration::from_mins(30),
            change_log_retention: SignedDuration::from_hours(60 * 24),
            maximum_changes_per_site: 100_000,
            list_view_threshold: 5000,
            batch_limit: 100,
            filter_multi_person: false,
            seed: 1,
        }
    }
}

/// The version that answers name: Subscription Edition.
const VERSION: &str = "16.0.0.18526";

/// The simulated server.
pub struct SharePoint {
    /// The server's clock. Its time is used for items, the change log and the `Date` header.
    pub clock: SimClock,
    /// Fault rules. Operations have the names of [`Operation::name`]; the subject is the site collection's path.
    pub faults: Faults,
    /// Counters of requests.
    pub stats: SharePointStats,
    /// The behaviour of the servers, by group of tenants.
    pub groups: Groups,
    settings: Settings,
    sites: RwLock<HashMap<String, Arc<Mutex<Site>>>>,
    accounts: RwLock<HashMap<String, String>>,
    validators: RwLock<Vec<TokenValidator>>,
    base_url: RwLock<Option<String>>,
    health_score: AtomicU8,
    silent_expiry: AtomicBool,
    ids: AtomicU64,
    account_level: RwLock<AccountLevel>,
    schemes: OfferedSchemes,
    version: RwLock<String>,
}

impl SharePoint {
    /// Returns a farm without sites.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            clock: SimClock::default(),
            faults: Faults::default(),
            stats: SharePointStats::default(),
            groups: Groups::default(),
            settings,
            sites: RwLock::default(),
            accounts: RwLock::default(),
            validators: RwLock::default(),
            base_url: RwLock::default(),
            health_score: AtomicU8::new(0),
            silent_expiry: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            account_level: RwLock::default(),
            schemes: OfferedSchemes::default(),
            version: RwLock::new(VERSION.to_owned()),
        })
    }

    /// Starts listening on a free loopback port and uses its address as the farm's public one.
    ///
    /// # Errors
    /// The operating system's error if no port can be opened.
    pub async fn serve(self: &Arc<Self>, tls: Option<&SimTls>) -> std::io::Result<Listener> {
        let listener = Listener::start(Arc::clone(self), tls).await?;
        self.set_base_url(&listener.base_url());
        Ok(listener)
    }

    /// Sets the address (`https://host`) with which links in answers begin. Until then it is `http://` with the
    /// request's `Host`.
    pub fn set_base_url(&self, url: &str) {
        *self.base_url.write().unwrap_or_else(PoisonError::into_inner) =
            Some(url.trim_end_matches('/').to_owned());
    }

    /// Adds an account with a password. An account with the name of a person's login (`contoso\ana`) acts as that
    /// person. Any other account is a service account, which reads and writes everything.
    pub fn add_account(&self, user: &str, password: &str) {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.insert(user.to_lowercase(), password.to_owned());
    }

    /// Accepts bearer tokens for which `validator` returns an owner.
    pub fn accept_tokens(&self, validator: TokenValidator) {
        self.validators
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(validator);
    }

    /// Sets the value of `X-SharePointHealthScore`, 0 (idle) to 10 (overloaded).
    pub fn set_health_score(&self, score: u8) {
        self.health_score.store(score.min(10), Ordering::Relaxed);
    }

    /// Sets whether a change token that is too old gets an answer without changes instead of an error. SharePoint
    /// Online was observed to do this.
    pub fn set_silent_expiry(&self, silent: bool) {
        self.silent_expiry.store(silent, Ordering::Relaxed);
    }

    /// Returns the group of tenants of the site at this path.
    pub(crate) fn group_of(&self, web: &str) -> crate::sim::conditions::GroupId {
        self.site_of(web).map_or(0, |site| lock(&site).group)
    }

    pub(crate) fn password_fits(&self, user: &str, password: &str) -> bool {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts
            .get(&user.to_lowercase())
            .is_some_and(|stored| stored == password)
    }

    pub(crate) fn has_accounts(&self) -> bool {
        !self
            .accounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    pub(crate) fn takes_tokens(&self) -> bool {
        !self
            .validators
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    pub(crate) fn token_owner(&self, token: &str) -> Option<String> {
        // Cloned, so that a slow validator does not hold the lock.
        let validators = self
            .validators
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        validators.iter().find_map(|validator| validator(token))
    }

    pub(crate) fn public_url(&self) -> Option<String> {
        self.base_url
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the site collection of a web's path: the longest site path that is a prefix.
    pub(crate) fn site_of(&self, web: &str) -> Option<Arc<Mutex<Site>>> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let mut path = web.to_lowercase();
        loop {
            if let Some(site) = sites.get(&path) {
                return Some(Arc::clone(site));
            }
            let cut = path.rfind('/')?;
            path.truncate(cut);
        }
    }

    /// Returns a new id. It is the same for the same seed and order of calls.
    pub(crate) fn new_id(&self) -> Uuid {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let high = mix(self
            .settings
            .seed
            .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let low = mix(high ^ number);
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
            .into_uuid()
    }
}

/// Returns the operation of a request, the web it is sent to, and its decoded address.
pub(crate) fn parse_operation(request: &hyper::Request<bytes::Bytes>) -> Option<(Operation, String, String)> {
    let uri = request.uri();
    let address = path::Address::parse(uri.path(), uri.query()).ok()?;
    let method = server::effective_method(request.method().as_str(), request.headers());
    let operation = Operation::of(&address, &method);
    let text = format!("{}?{}", uri.path(), uri.query().unwrap_or_default());
    Some((operation, address.web, path::percent_decode(&text)))
}

/// Locks a site, even if the lock is poisoned.
pub(crate) fn lock(site: &Mutex<Site>) -> MutexGuard<'_, Site> {
    site.lock().unwrap_or_else(PoisonError::into_inner)
}
