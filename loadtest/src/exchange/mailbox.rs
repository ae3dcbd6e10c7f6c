//! One mailbox: who it belongs to, and its store behind a lock of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::store::Store;

/// A mailbox to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxSpec {
    /// Primary SMTP address; compares without case.
    pub smtp: String,
    /// Further SMTP addresses. They work for `SmtpAddress`, and give `ErrorNonPrimarySmtpAddress` elsewhere.
    pub aliases: Vec<String>,
    /// Display name of the owner.
    pub display_name: String,
    /// The owner's zone: a Windows id (`W. Europe Standard Time`) or an IANA name. An unknown one counts as UTC.
    pub time_zone: String,
    /// Name of the back-end server the mailbox is on.
    pub server: String,
}

impl MailboxSpec {
    /// A mailbox in UTC on back-end `EX01`, without further addresses.
    #[must_use]
    pub fn new(smtp: &str, display_name: &str) -> Self {
        Self {
            smtp: smtp.to_owned(),
            aliases: Vec::new(),
            display_name: display_name.to_owned(),
            time_zone: "UTC".to_owned(),
            server: "EX01".to_owned(),
        }
    }
}

pub(crate) struct Mailbox {
    pub(crate) number: u64,
    pub(crate) smtp: String,
    pub(crate) display_name: String,
    pub(crate) zone: TimeZone,
    pub(crate) server: String,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    store: Mutex<Store>,
}

impl Mailbox {
    pub(crate) fn new(number: u64, spec: MailboxSpec) -> Self {
        Self {
            number,
            zone: super::tasks::zone_by_name(&spec.time_zone).unwrap_or(TimeZone::UTC),
            smtp: spec.smtp,
            display_name: spec.display_name,
            server: spec.server,
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            store: Mutex::new(Store::default()),
        }
    }

    /// The store, with its well-known folders; `now` dates them at the first visit.
    pub(crate) fn store(&self, now: Timestamp) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.furnish(now);
        store
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}
