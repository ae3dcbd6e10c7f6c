//! Faults on demand: the failures of a real server, chosen by operation and by address.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::answers::{Answer, Tamper};

/// A fault that one request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server reports that it is busy. Exchange: `ErrorServerBusy` with `BackOffMilliseconds`, as a SOAP fault
    /// with status 500 or inside a 200 (`inside`). SharePoint: 429 or 503 (`status`) with `Retry-After` rounded up to
    /// seconds.
    Busy {
        /// The pause that the server asks for; `None` leaves the header or value out.
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
    /// A protocol error by its code: an EWS response code, or a SharePoint error code such as `-2130575172`.
    Error(String),
    /// Bytes that are no valid answer, with status 200 and the usual content type.
    Garbage,
    /// An answer of this many bytes whose start is that of a valid one.
    Huge(u64),
    /// The next cursor (sync state or change token) that a client sends is refused as too old.
    ExpireCursor,
    /// The request is not carried out and gets this answer.
    Instead(Answer),
    /// The request is carried out and gets this answer: a refusal of a write that happened, another person's
    /// answer, …
    Afterwards(Answer),
    /// The request is carried out, and the client gets the changed answer.
    Tamper(Tamper),
    /// The request is not carried out and never answered; the connection stays open.
    Hang,
    /// Exchange's `UpdateItem`: changes of these fields (`item:Body`) are ignored, and the answer reports success.
    /// Without fields nothing is changed, not even the change key.
    IgnoreFields(Vec<String>),
}

/// Which requests a fault hits, and how many of them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Operation name (`SyncFolderItems`, `UpdateItem`, `getchanges`, `items.update`, …); `None` hits every
    /// operation.
    pub operation: Option<String>,
    /// Mailbox address or site path; `None` hits all of them.
    pub subject: Option<String>,
    /// The fault.
    pub fault: Fault,
    /// How many requests are still to be hit; `u64::MAX` for no limit.
    pub remaining: u64,
}

/// Which requests a fault hits, chosen more finely than by a [`Rule`]: also by a text in the request, and only after a
/// number of requests.
#[derive(Debug, Clone, Default)]
pub struct Aim {
    operation: Option<String>,
    subject: Option<String>,
    containing: Option<String>,
    skip: u64,
    times: Option<u64>,
}

impl Aim {
    /// Selects every request of one operation.
    #[must_use]
    pub fn at(operation: &str) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            ..Self::default()
        }
    }

    /// Selects every request of every operation.
    #[must_use]
    pub fn every_request() -> Self {
        Self::default()
    }

    /// Keeps only the requests about this mailbox address or site path.
    #[must_use]
    pub fn of(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// Keeps only the requests that contain this text, ignoring case, in the decoded address or in the body. The id of
    /// a list selects the requests about that list, the id of an item those about that item.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.containing = Some(text.to_lowercase());
        self
    }

    /// Skips the first `requests` requests that match.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Limits the number of hits. Without this call there is no limit.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// A rule in force.
#[derive(Debug)]
struct ActiveRule {
    rule: Rule,
    containing: Option<String>,
    skip: u64,
}

impl ActiveRule {
    /// Returns whether the request matches, apart from its subject.
    fn fits(&self, operation: &str, text: &mut dyn FnMut() -> String) -> bool {
        let named = self.rule.operation.as_deref();
        self.rule.remaining > 0
            && named.is_none_or(|name| name == operation)
            && self
                .containing
                .as_deref()
                .is_none_or(|part| text().to_lowercase().contains(part))
    }
}

/// The rules in force on one server. The first rule that matches and has hits left applies.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<ActiveRule>>,
    /// Whether there are rules. There are usually none, and then no request has to wait for the lock.
    has_rules: AtomicBool,
}

impl Faults {
    /// Adds a rule after the existing ones.
    pub fn add(&self, rule: Rule) {
        self.push(ActiveRule {
            rule,
            containing: None,
            skip: 0,
        });
    }

    /// Adds a rule after the existing ones: requests that `aim` selects meet `fault`.
    pub fn aim(&self, aim: Aim, fault: Fault) {
        self.push(ActiveRule {
            rule: Rule {
                operation: aim.operation,
                subject: aim.subject,
                fault,
                remaining: aim.times.unwrap_or(u64::MAX),
            },
            containing: aim.containing,
            skip: aim.skip,
        });
    }

    fn push(&self, entry: ActiveRule) {
        let mut rules = self.lock();
        rules.push(entry);
        self.has_rules.store(true, Ordering::Release);
    }

    /// Makes the next `times` requests of `operation` (of any operation when `None`) meet `fault`, whatever their
    /// subject.
    pub fn next(&self, operation: Option<&str>, times: u64, fault: Fault) {
        self.add(Rule {
            operation: operation.map(str::to_owned),
            subject: None,
            fault,
            remaining: times,
        });
    }

    /// Removes every rule.
    pub fn clear(&self) {
        let mut rules = self.lock();
        rules.clear();
        self.has_rules.store(false, Ordering::Release);
    }

    /// Returns the fault that this request meets, if any, and uses up one hit. `text` returns the request's address
    /// and body; it is called only when a rule compares it.
    pub fn take(&self, operation: &str, subject: &str, text: impl FnMut() -> String) -> Option<Fault> {
        self.take_where(operation, text, |named| {
            named.is_none_or(|name| name.eq_ignore_ascii_case(subject))
        })
    }

    /// Returns the fault of a rule made for this very subject, if any, and uses up one hit. It is for the second and
    /// later subjects of a request that concerns several: [`Faults::take`] uses up rules without a subject once per
    /// request.
    pub fn take_named(&self, operation: &str, subject: &str, text: impl FnMut() -> String) -> Option<Fault> {
        self.take_where(operation, text, |named| {
            named.is_some_and(|name| name.eq_ignore_ascii_case(subject))
        })
    }

    fn take_where(
        &self,
        operation: &str,
        mut text: impl FnMut() -> String,
        of_subject: impl Fn(Option<&str>) -> bool,
    ) -> Option<Fault> {
        if !self.has_rules.load(Ordering::Acquire) {
            return None;
        }
        let mut rules = self.lock();
        let mut hit = None;
        for entry in rules.iter_mut() {
            if !of_subject(entry.rule.subject.as_deref()) || !entry.fits(operation, &mut text) {
                continue;
            }
            if entry.skip > 0 {
                entry.skip -= 1;
                continue;
            }
            if entry.rule.remaining != u64::MAX {
                entry.rule.remaining -= 1;
            }
            hit = Some(entry.rule.fault.clone());
            break;
        }
        rules.retain(|entry| entry.rule.remaining > 0);
        self.has_rules.store(!rules.is_empty(), Ordering::Release);
        hit
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ActiveRule>> {
        self.rules
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
