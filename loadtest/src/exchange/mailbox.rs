//! One mailbox: its owner and its store, which has its own lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;

use super::store::Store;
use crate::sim::conditions::GroupId;

/// The description of a mailbox to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxSpec {
    /// Primary SMTP address. Addresses compare without case.
    pub smtp: String,
    /// Other SMTP addresses. They are accepted for `SmtpAddress` and give `ErrorNonPrimarySmtpAddress` elsewhere.
    pub aliases: Vec<String>,
    /// Display name of the owner.
    pub display_name: String,
    /// The owner's time zone: a Windows id (`W. Europe Standard Time`) or an IANA name. An unknown one counts as UTC.
    pub time_zone: String,
    /// Name of the back-end server that hosts the mailbox.
    pub server: String,
    /// Group of tenants that the mailbox belongs to.
    pub group: GroupId,
}

impl MailboxSpec {
    /// Returns a mailbox in UTC on back-end `EX01`, without other addresses.
    #[must_use]
    pub fn new(smtp: &str, display_name: &str) -> Self {
        Self {
            smtp: smtp.to_owned(),
            aliases: Vec::new(),
            display_name: display_name.to_owned(),
            time_zone: "UTC".to_owned(),
            server: "EX01".to_owned(),
            group: 0,
        }
    }
}

pub(crate) struct Mailbox {
    pub(crate) number: u64,
    pub(crate) smtp: Box<str>,
    pub(crate) display_name: Box<str>,
    pub(crate) zone: TimeZone,
    pub(crate) server: Arc<str>,
    pub(crate) group: GroupId,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    store: Mutex<Store>,
}

impl Mailbox {
    pub(crate) fn new(number: u64, spec: MailboxSpec, server: Arc<str>) -> Self {
        Self {
            number,
            zone: super::tasks::zone_by_name(&spec.time_zone).unwrap_or(TimeZone::UTC),
            smtp: spec.smtp.into(),
            display_name: spec.display_name.into(),
            server,
            group: spec.group,
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            store: Mutex::new(Store::default()),
        }
    }

    /// Locks and returns the store.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.start_numbering();
        store
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}
