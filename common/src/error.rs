//! The failures of calls to other systems, and what is done about them.
//!
//! The line where an error appears decides between retry and failure: it builds a [`Failure`] with an
//! [`ErrorClass`]. No later code parses a message to find out. People see the [`Code`], which has a message,
//! a cause, the party that must act and what to do.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::catalogue::{Actor, Code};
pub use crate::scope::{Evidence, Scope, Stops, scope_of, stops};

/// What a failure means for the work. Its [`Scope`] says how much of the work it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// May go away by itself: retry later, with backoff.
    Transient,
    /// The server asked for a pause; it is not counted as a failure.
    Throttled {
        /// The pause the server named, in full; `None` if it named none.
        retry_after: Option<Duration>,
    },
    /// The object changed since it was read: read again, plan again.
    Conflict,
    /// The object no longer exists.
    Gone,
    /// Refused: a retry does not help until a person changes something.
    Refused,
    /// The server refused the cursor: drop it and compare everything.
    CursorInvalid,
    /// A write may or may not have happened: check before retrying.
    OutcomeUnknown,
}

impl ErrorClass {
    /// Returns a short name for logs and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::CursorInvalid => "cursor_invalid",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// The failure of one call or step: its class, scope and code, and what happened where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means for the work.
    pub class: ErrorClass,
    /// How much of the work it stops.
    pub scope: Scope,
    /// The stable code people look up.
    pub code: Code,
    /// What happened, where and to whom, in one sentence. It holds no secret and no text of a task.
    pub detail: String,
}

impl Failure {
    /// Returns a failure of this class and code. Its scope is one person, or the nearest that the code
    /// allows; [`Self::about`] and [`Self::on_evidence`] change it.
    pub fn new(class: ErrorClass, code: Code, detail: impl Into<String>) -> Self {
        Self {
            class,
            scope: scope_of(code, Scope::Person, Evidence::OneRequest),
            code,
            detail: detail.into(),
        }
    }

    /// Returns the same failure for a request that was about `subject` at most.
    #[must_use]
    pub fn about(mut self, subject: Scope) -> Self {
        self.scope = scope_of(self.code, subject, Evidence::OneRequest);
        self
    }

    /// Returns the same failure with the scope that `evidence` gives it.
    #[must_use]
    pub fn on_evidence(mut self, evidence: Evidence) -> Self {
        self.scope = scope_of(self.code, self.scope, evidence);
        self
    }

    /// Returns the same failure with at least `scope`, as far as its code allows.
    #[must_use]
    pub fn at_least(self, scope: Scope) -> Self {
        let subject = self.scope.max(scope);
        self.about(subject)
    }

    /// Returns whose work stops because of it.
    #[must_use]
    pub fn stops(&self) -> Stops {
        stops(self.class, self.scope)
    }

    /// Returns the same failure with `context` (an operation, a mailbox, a list) in front of its detail.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.detail = format!("{context}: {}", self.detail);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} [{}]: {}",
            self.code.message(),
            self.code,
            self.detail
        )
    }
}

impl std::error::Error for Failure {}

/// The stored form of a failure. Earlier builds read it, so `class` and `code` hold only values that they
/// know; other values are in fields of their own.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Failure")]
struct StoredFailure<'a> {
    class: StoredClass,
    code: Code,
    detail: Cow<'a, str>,
    #[serde(default)]
    scope: Option<Scope>,
    /// The exact code, if earlier builds do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum StoredClass {
    Transient,
    Throttled { retry_after: Option<Duration> },
    Conflict,
    Gone,
    ItemPermanent,
    MailboxPermanent,
    TenantPermanent,
    CursorInvalid,
    OutcomeUnknown,
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredFailure::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StoredFailure::deserialize(deserializer).map(StoredFailure::into_failure)
    }
}

impl StoredFailure<'_> {
    fn of(failure: &Failure) -> StoredFailure<'_> {
        let class = match failure.class {
            ErrorClass::Transient => StoredClass::Transient,
            ErrorClass::Throttled { retry_after } => StoredClass::Throttled { retry_after },
            ErrorClass::Conflict => StoredClass::Conflict,
            ErrorClass::Gone => StoredClass::Gone,
            ErrorClass::Refused => match failure.scope {
                Scope::Item | Scope::Container => StoredClass::ItemPermanent,
                Scope::Mailbox | Scope::Person => StoredClass::MailboxPermanent,
                Scope::Server | Scope::Ours => StoredClass::TenantPermanent,
            },
            ErrorClass::CursorInvalid => StoredClass::CursorInvalid,
            ErrorClass::OutcomeUnknown => StoredClass::OutcomeUnknown,
        };
        let code = failure.code.for_earlier_builds();
        StoredFailure {
            class,
            code,
            detail: Cow::Borrowed(&failure.detail),
            scope: Some(failure.scope),
            exact: (code != failure.code).then(|| Cow::Borrowed(failure.code.as_str())),
        }
    }

    fn into_failure(self) -> Failure {
        let (class, said) = match self.class {
            StoredClass::Transient => (ErrorClass::Transient, None),
            StoredClass::Throttled { retry_after } => (ErrorClass::Throttled { retry_after }, None),
            StoredClass::Conflict => (ErrorClass::Conflict, None),
            StoredClass::Gone => (ErrorClass::Gone, None),
            StoredClass::ItemPermanent => (ErrorClass::Refused, Some(Scope::Item)),
            StoredClass::MailboxPermanent => (ErrorClass::Refused, Some(Scope::Mailbox)),
            StoredClass::TenantPermanent => (ErrorClass::Refused, Some(Scope::Server)),
            StoredClass::CursorInvalid => (ErrorClass::CursorInvalid, None),
            StoredClass::OutcomeUnknown => (ErrorClass::OutcomeUnknown, None),
        };
        let subject = self.scope.or(said).unwrap_or(Scope::Person);
        let exact = self.exact.as_deref();
        let known = Code::ALL.iter().find(|code| Some(code.as_str()) == exact);
        Failure::new(class, *known.unwrap_or(&self.code), self.detail).about(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_builds_and_this_one_read_each_others_failures() {
        /// A failure as an earlier build reads it.
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Earlier {
            class: String,
            code: Code,
            detail: String,
        }
        let table = [
            (Code::ExchangeItemRefused, Scope::Item, "ItemPermanent"),
            (Code::SharePointDenied, Scope::Item, "ItemPermanent"),
            (Code::ExchangeMailboxDenied, Scope::Mailbox, "MailboxPermanent"),
            (Code::SharePointSignInRefused, Scope::Server, "TenantPermanent"),
            (Code::SharePointSiteMissing, Scope::Server, "TenantPermanent"),
            (Code::JobRefused, Scope::Ours, "TenantPermanent"),
        ];
        for (code, scope, class) in table {
            let failure = Failure::new(ErrorClass::Refused, code, "x").about(scope);
            assert_eq!(failure.scope, scope);
            let bytes = rmp_serde::to_vec_named(&failure).unwrap();
            assert_eq!(rmp_serde::from_slice::<Failure>(&bytes).unwrap(), failure);
            let earlier: Earlier = rmp_serde::from_slice(&bytes).unwrap();
            assert_eq!(earlier.class, class);
            let text = serde_json::to_string(&earlier).unwrap();
            assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
        }
        // Codes that only this build knows are stored as ones that the earlier build knows. Those of a later
        // build are read the same way.
        for code in Code::ALL.iter().copied() {
            let failure = Failure::new(ErrorClass::Refused, code, "x");
            let text = serde_json::to_string(&failure).unwrap();
            let earlier: Earlier = serde_json::from_str(&text).unwrap();
            assert_eq!(earlier.code, code.for_earlier_builds());
            assert_eq!(earlier.code.for_earlier_builds(), earlier.code, "{code}");
            assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
            let later = text.replace(&format!("\"exact\":\"{code}\""), "\"exact\":\"of-a-later-build\"");
            let read: Failure = serde_json::from_str(&later).unwrap();
            assert_eq!(read.code, earlier.code);
        }
        // In Redis, failures of earlier builds are stored as arrays.
        let array = rmp_serde::to_vec(&("Gone", Code::ExchangeItemGone, "x")).unwrap();
        let gone = Failure::new(ErrorClass::Gone, Code::ExchangeItemGone, "x");
        assert_eq!(rmp_serde::from_slice::<Failure>(&array).unwrap(), gone);
    }
}
