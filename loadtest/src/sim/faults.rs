//! Faults on demand: the worst moods of a real server, chosen by operation and by address.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server says it is busy. Exchange: `ErrorServerBusy` with `BackOffMilliseconds`, as a SOAP fault with status
    /// 500 or inside a 200 (`inside`). SharePoint: 429 or 503 (`status`) with `Retry-After` rounded up to seconds.
    Busy {
        /// The pause the server asks for; `None` leaves the header or value out.
        pause: Option<Duration>,
        /// Exchange only: the answer is an HTTP 200 whose response message carries the error.
        inside: bool,
        /// SharePoint only: 429 or 503.
        status: u16,
    },
    /// The request is carried out, then the connection is cut before any answer.
    LoseResponse,
    /// The connection is cut before the request is carried out.
    Cut,
    /// The request waits this long before it is carried out.
    Slow(Duration),
    /// A bare HTTP status with a short text body.
    Status(u16),
    /// A named protocol error: an EWS response code, or a SharePoint error code such as `-2130575172`.
    Error(String),
    /// Bytes that are no answer at all, with status 200 and the usual content type.
    Garbage,
    /// An answer of this many bytes, begun like a good one.
    Huge(u64),
    /// The next cursor (sync state or change token) that is presented is refused as too old.
    ExpireCursor,
}

/// Which requests a fault hits, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Operation name (`SyncFolderItems`, `UpdateItem`, `getchanges`, `items.update`, …); `None` hits every operation.
    pub operation: Option<String>,
    /// Mailbox address or site path; `None` hits everybody.
    pub subject: Option<String>,
    /// What happens.
    pub fault: Fault,
    /// How many requests are still to be hit; `u64::MAX` for ever.
    pub remaining: u64,
}

/// The rules in force on one server; the first that fits and has hits left wins.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    /// Whether there are rules: most of the time there are none, and nobody need wait for the lock.
    some: AtomicBool,
}

impl Faults {
    /// Adds a rule behind those there are.
    pub fn add(&self, rule: Rule) {
        let mut rules = self.lock();
        rules.push(rule);
        self.some.store(true, Ordering::Release);
    }

    /// The next `times` requests of `operation` (any, when `None`), whoever they concern, meet `fault`.
    pub fn next(&self, operation: Option<&str>, times: u64, fault: Fault) {
        self.add(Rule {
            operation: operation.map(str::to_owned),
            subject: None,
            fault,
            remaining: times,
        });
    }

    /// Takes every rule away.
    pub fn clear(&self) {
        let mut rules = self.lock();
        rules.clear();
        self.some.store(false, Ordering::Release);
    }

    /// The fault this request meets, if any; uses up one hit.
    pub fn take(&self, operation: &str, subject: &str) -> Option<Fault> {
        self.take_where(operation, |named| {
            named.is_none_or(|name| name.eq_ignore_ascii_case(subject))
        })
    }

    /// The fault of a rule made for this subject and no other; uses up one hit. For the further subjects of a request
    /// that concerns several: rules for everybody are used up once per request, by [`Faults::take`].
    pub fn take_named(&self, operation: &str, subject: &str) -> Option<Fault> {
        self.take_where(operation, |named| {
            named.is_some_and(|name| name.eq_ignore_ascii_case(subject))
        })
    }

    fn take_where(&self, operation: &str, fits: impl Fn(Option<&str>) -> bool) -> Option<Fault> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let mut rules = self.lock();
        let rule = rules.iter_mut().find(|rule| {
            rule.remaining > 0
                && rule.operation.as_deref().is_none_or(|name| name == operation)
                && fits(rule.subject.as_deref())
        })?;
        if rule.remaining != u64::MAX {
            rule.remaining -= 1;
        }
        let fault = rule.fault.clone();
        rules.retain(|rule| rule.remaining > 0);
        self.some.store(!rules.is_empty(), Ordering::Release);
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
