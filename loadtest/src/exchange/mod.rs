//! A simulated Exchange server: Exchange Web Services for tasks, with its own store.
//!
//! It is written from the protocol alone. Where the documents leave a choice, the server takes the one that is harder
//! for a client. HTML bodies come back as whole documents. Times are truncated to seconds unless `DateTimePrecision`
//! asks for milliseconds (also in property tag 0x670A). A batch stops after an access error.

mod auth;
mod context;
mod endpoint;
mod error;
mod field_uris;
mod fields;
mod folder_shape;
mod ids;
mod mailbox;
mod objects;
mod operations;
mod people;
mod properties;
mod restriction;
mod schema;
mod schema_tables;
mod shape;
mod stats;
mod store;
mod sync;
mod tasks;
pub(crate) mod xml;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::accounts::ServiceAccount;
use crate::sim::clock::SimClock;
use crate::sim::conditions::Groups;
use crate::sim::faults::Faults;
use crate::sim::schemes::OfferedSchemes;

use error::EwsError;
use mailbox::Mailbox;
pub use mailbox::MailboxSpec;
pub use people::{ActError, FolderView, MailboxItemEdit, MailboxItemView};
pub use stats::{ExchangeStats, StatsSnapshot};
pub use tasks::{DateZone, TaskStatus};

/// Version numbers in `ServerVersionInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// Major, minor, build major, build minor.
    pub numbers: [u32; 4],
    /// Name of the schema version.
    pub name: String,
}

/// The behaviour of a simulated Exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one switches one habit of a real server, independently of the others"
)]
pub struct ExchangeSettings {
    /// Maximum number of changes in one `SyncFolderItems` answer (1 to 512), whatever the client asks for.
    pub sync_page: usize,
    /// Maximum number of entries in one `FindItem` or `FindFolder` answer.
    pub find_page: usize,
    /// Maximum number of entries in the answer to a `FindItem` with a restriction.
    pub restricted_find_page: usize,
    /// The version that the server reports.
    pub version: ServerVersion,
    /// Whether the property tags 0x670A and 0x670B are missing in every answer.
    pub omit_probe_tags: bool,
    /// Whether Basic credentials are accepted.
    pub basic_enabled: bool,
    /// If false, every request is answered with 403, as in an organisation that has switched EWS off.
    pub ews_enabled: bool,
    /// Whether delegate access to a mailbox is refused if its back-end is not that of the request's first mailbox.
    pub refuse_cross_server: bool,
    /// Time zone in which task dates are kept.
    pub date_zone: DateZone,
    /// Whether HTML bodies come back as whole documents, as real servers rewrite them.
    pub rewrite_html: bool,
    /// Largest request in bytes. A larger one gets `ErrorRequestStreamTooBig`.
    pub maximum_request_bytes: usize,
    /// Time that every request takes beyond processing.
    pub latency: Duration,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            sync_page: 512,
            find_page: 1000,
            restricted_find_page: 250,
            version: ServerVersion {
                numbers: [15, 2, 2562, 17],
                name: "V2017_07_11".to_owned(),
            },
            omit_probe_tags: false,
            basic_enabled: true,
            ews_enabled: true,
            refuse_cross_server: false,
            date_zone: DateZone::Mailbox,
            rewrite_html: true,
            maximum_request_bytes: 16 * 1024 * 1024,
            latency: Duration::ZERO,
        }
    }
}

/// Returns the name of the account that a bearer token belongs to, or `None` if the token is not valid.
pub type TokenValidator = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

#[derive(Default)]
struct Directory {
    mailboxes: Vec<Arc<Mailbox>>,
    /// By lower-case address: number of the mailbox, and whether the address is the primary one.
    addresses: HashMap<Box<str>, (u64, bool)>,
    /// Names of the back-end servers, each once.
    servers: Vec<Arc<str>>,
}

/// Called with the number of every mailbox that a request opens. Mailboxes are numbered from 1 in the order of their
/// creation.
pub type MailboxObserver = Arc<dyn Fn(u64) + Send + Sync>;

/// A simulated Exchange server. Serve it with [`crate::sim::http::Listener`].
pub struct Exchange {
    /// The server's clock.
    pub clock: SimClock,
    /// The fault rules.
    ///
    /// Operations have their protocol names (`SyncFolderItems`); the subject is the primary SMTP address of the
    /// mailbox. In a request about several mailboxes, a rule with a subject hits the entries of that mailbox.
    /// [`crate::sim::faults::Fault::Error`] puts the code into the first response message of a 200. A code that begins
    /// with `soap:` becomes a SOAP fault with status 500.
    pub faults: Faults,
    /// Counters of requests and their effects.
    pub stats: ExchangeStats,
    /// The behaviour of the servers, by group of tenants.
    pub groups: Groups,
    observer: OnceLock<MailboxObserver>,
    settings: ExchangeSettings,
    directory: RwLock<Directory>,
    accounts: RwLock<HashMap<String, Arc<ServiceAccount>>>,
    validator: RwLock<Option<TokenValidator>>,
    schemes: OfferedSchemes,
}

impl Exchange {
    /// Returns a server without mailboxes and accounts.
    #[must_use]
    pub fn new(settings: ExchangeSettings) -> Arc<Self> {
        Arc::new(Self {
            clock: SimClock::default(),
            faults: Faults::default(),
            stats: ExchangeStats::default(),
            groups: Groups::default(),
            observer: OnceLock::new(),
            settings,
            directory: RwLock::default(),
            accounts: RwLock::default(),
            validator: RwLock::default(),
            schemes: OfferedSchemes::default(),
        })
    }

    /// Adds a mailbox. Its folders are created on first access. If the primary address exists already, nothing
    /// changes.
    pub fn add_mailbox(&self, spec: MailboxSpec) {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        let primary = spec.smtp.to_lowercase();
        if directory.addresses.contains_key(primary.as_str()) {
            return;
        }
        let number = directory.mailboxes.len() as u64 + 1;
        directory.addresses.insert(primary.into(), (number, true));
        for alias in &spec.aliases {
            directory
                .addresses
                .entry(alias.to_lowercase().into())
                .or_insert((number, false));
        }
        let server = directory
            .servers
            .iter()
            .find(|server| ***server == *spec.server)
            .cloned();
        let server = server.unwrap_or_else(|| {
            let server: Arc<str> = spec.server.as_str().into();
            directory.servers.push(Arc::clone(&server));
            server
        });
        directory
            .mailboxes
            .push(Arc::new(Mailbox::new(number, spec, server)));
    }

    /// Adds or replaces an account.
    pub fn add_account(&self, account: ServiceAccount) {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.insert(account.user.to_lowercase(), Arc::new(account));
    }

    /// Accepts bearer tokens. The validator returns the name of an account, and the rights of that account apply.
    pub fn accept_tokens(&self, validator: TokenValidator) {
        *self.validator.write().unwrap_or_else(PoisonError::into_inner) = Some(validator);
    }

    /// Offers only these sign-in schemes and accepts no credentials; `None` offers what the server accepts.
    pub fn offer_only(&self, schemes: Option<&[&str]>) {
        self.schemes.offer_only(schemes);
    }

    /// Registers the observer of opened mailboxes. Only the first call has an effect.
    pub fn observe(&self, observer: MailboxObserver) {
        self.observer.set(observer).ok();
    }

    /// Returns the number of mailboxes.
    #[must_use]
    pub fn mailboxes(&self) -> usize {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.mailboxes.len()
    }

    /// Returns how many requests concerned this mailbox.
    #[must_use]
    pub fn mailbox_requests(&self, smtp: &str) -> u64 {
        self.mailbox(smtp).map_or(0, |mailbox| {
            mailbox.requests.load(std::sync::atomic::Ordering::Relaxed)
        })
    }

    /// Invalidates every sync state issued so far, for one mailbox or for all.
    pub fn expire_sync_states(&self, smtp: Option<&str>) {
        let hit: Vec<Arc<Mailbox>> = match smtp {
            Some(smtp) => self.mailbox(smtp).into_iter().collect(),
            None => self.every_mailbox(),
        };
        for mailbox in hit {
            mailbox.store().epoch += 1;
        }
    }

    /// Removes a named property from every folder and item of every mailbox, as if it had never been written.
    pub fn forget_property(&self, name: &str) {
        for mailbox in self.every_mailbox() {
            mailbox
                .store()
                .forget_properties(|key| properties::label(key) == name);
        }
    }

    fn every_mailbox(&self) -> Vec<Arc<Mailbox>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.mailboxes.clone()
    }

    pub(crate) fn account(&self, name: &str) -> Option<Arc<ServiceAccount>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(&name.to_lowercase()).cloned()
    }

    pub(crate) fn validate_token(&self, token: &str) -> Option<String> {
        let validator = self
            .validator
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        validator(token)
    }

    pub(crate) fn takes_tokens(&self) -> bool {
        self.validator
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Returns the mailbox with this number.
    pub(crate) fn mailbox_by_number(&self, number: u64) -> Option<Arc<Mailbox>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        directory.mailboxes.get(index).cloned()
    }

    /// Returns the mailbox with this address, primary or not.
    pub(crate) fn mailbox(&self, address: &str) -> Option<Arc<Mailbox>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let (number, _) = directory.addresses.get(address.to_lowercase().as_str())?;
        directory
            .mailboxes
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
            .cloned()
    }

    /// Returns the mailbox with this primary address.
    pub(crate) fn primary_mailbox(&self, address: &str) -> Result<Arc<Mailbox>, EwsError> {
        let mailbox = self
            .mailbox(address)
            .ok_or_else(|| EwsError::no_mailbox(address))?;
        if !mailbox.smtp.eq_ignore_ascii_case(address) {
            let text = "The SMTP address is not the primary SMTP address of the mailbox.";
            return Err(EwsError::new("ErrorNonPrimarySmtpAddress", text).value("Primary", &mailbox.smtp));
        }
        Ok(mailbox)
    }
}
