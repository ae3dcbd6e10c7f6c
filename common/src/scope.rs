//! How much of the work one failure stops.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::Code;
use crate::error::ErrorClass;

/// What a failure stops, from the smallest part to the largest. Work outside the scope goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One task or mailbox item.
    Item,
    /// One list or folder.
    Container,
    /// One person's mailbox.
    Mailbox,
    /// One person, on whichever side.
    Person,
    /// One of the tenant's servers, and with it all users of the tenant.
    Server,
    /// A store of tasksync, or a defect in it. Nothing is wrong with the tenant or the person.
    Ours,
}

impl Scope {
    /// Every scope, from the least to the most.
    pub const ALL: [Self; 6] = [
        Self::Item,
        Self::Container,
        Self::Mailbox,
        Self::Person,
        Self::Server,
        Self::Ours,
    ];

    /// Returns the scope in words, as the thing that stops.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "one task",
            Self::Container => "one list or folder",
            Self::Mailbox => "one mailbox",
            Self::Person => "one person",
            Self::Server => "the tenant",
            Self::Ours => "tasksync",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is known beyond the one request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing: one request failed.
    OneRequest,
    /// Every request would have met the same answer, so the server never looked at what was asked.
    AnyRequest,
    /// Several people in a row failed with codes of this kind, and none succeeded between them.
    SeveralPeople,
}

/// Returns the scope of a failure. For one request it is `subject`, kept within the bounds of the code. Other
/// evidence shows that the failure concerns everything the code can concern; then it is the code's widest
/// scope.
///
/// `subject` is the largest thing the request was about: a refused write of one item stops that item, and the
/// same code on a read of a folder stops the folder.
#[must_use]
pub fn scope_of(code: Code, subject: Scope, evidence: Evidence) -> Scope {
    match evidence {
        Evidence::OneRequest => subject.clamp(code.narrowest_scope(), code.scope()),
        Evidence::AnyRequest | Evidence::SeveralPeople => code.scope(),
    }
}

/// Whose work stops because of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// No work stops: the next attempt goes on where this one ended.
    NoWork,
    /// One task, list or folder; the person's other tasks go on.
    Part,
    /// The person; their colleagues go on.
    Person,
    /// All users of the tenant, behind one circuit.
    Tenant,
}

/// Returns whose work stops. Class and scope alone decide.
#[must_use]
pub fn stops(class: ErrorClass, scope: Scope) -> Stops {
    match (class, scope) {
        (
            ErrorClass::Throttled { .. }
            | ErrorClass::Conflict
            | ErrorClass::Gone
            | ErrorClass::CursorInvalid
            | ErrorClass::OutcomeUnknown,
            _,
        )
        | (_, Scope::Ours) => Stops::NoWork,
        (ErrorClass::Transient | ErrorClass::Refused, Scope::Item | Scope::Container) => Stops::Part,
        (ErrorClass::Transient | ErrorClass::Refused, Scope::Mailbox | Scope::Person) => Stops::Person,
        (ErrorClass::Transient | ErrorClass::Refused, Scope::Server) => Stops::Tenant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_narrows_and_the_evidence_widens_within_the_bounds_of_the_code() {
        use Evidence::{AnyRequest, OneRequest, SeveralPeople};
        use Scope::{Container, Item, Mailbox, Ours, Person, Server};
        let table = [
            // A refused write concerns the item; the same code on a read concerns the container or the
            // person.
            (Code::SharePointError, Item, OneRequest, Item),
            (Code::SharePointError, Container, OneRequest, Container),
            (Code::SharePointError, Person, OneRequest, Person),
            (Code::ExchangeError, Item, OneRequest, Item),
            (Code::ExchangeError, Mailbox, OneRequest, Mailbox),
            (Code::ExchangeTimeout, Mailbox, SeveralPeople, Server),
            (Code::ExchangeBadAnswer, Item, AnyRequest, Server),
            // An unreachable server says nothing about the item that was to be written.
            (Code::ExchangeUnreachable, Item, OneRequest, Server),
            (Code::SharePointSignInRefused, Container, OneRequest, Server),
            // A missing mailbox concerns more than the item and less than the tenant, …
            (Code::ExchangeMailboxMissing, Item, OneRequest, Mailbox),
            // … unless all mailboxes are missing.
            (Code::ExchangeMailboxMissing, Mailbox, SeveralPeople, Server),
            // Several full mailboxes say nothing about other people's mailboxes.
            (Code::ExchangeMailboxFull, Item, SeveralPeople, Mailbox),
            (Code::SharePointListGone, Server, OneRequest, Container),
            (Code::SharePointUserUnknown, Person, SeveralPeople, Server),
            (Code::RegistryUnavailable, Item, OneRequest, Ours),
            (Code::Panic, Person, OneRequest, Person),
            (Code::Panic, Person, SeveralPeople, Ours),
        ];
        for (code, subject, evidence, expected) in table {
            assert_eq!(
                scope_of(code, subject, evidence),
                expected,
                "{code}, {subject:?}, {evidence:?}"
            );
        }
    }

    #[test]
    fn every_code_stays_within_its_bounds() {
        for &code in Code::ALL {
            for subject in Scope::ALL {
                for evidence in [
                    Evidence::OneRequest,
                    Evidence::AnyRequest,
                    Evidence::SeveralPeople,
                ] {
                    let scope = scope_of(code, subject, evidence);
                    assert!(scope >= code.narrowest_scope() && scope <= code.scope(), "{code}");
                }
            }
        }
    }

    #[test]
    fn what_stops_follows_from_class_and_scope() {
        let classes = [
            ErrorClass::Transient,
            ErrorClass::Throttled { retry_after: None },
            ErrorClass::Conflict,
            ErrorClass::Gone,
            ErrorClass::Refused,
            ErrorClass::CursorInvalid,
            ErrorClass::OutcomeUnknown,
        ];
        for class in classes {
            for scope in Scope::ALL {
                let widest = match scope {
                    Scope::Item | Scope::Container => Stops::Part,
                    Scope::Mailbox | Scope::Person => Stops::Person,
                    Scope::Server => Stops::Tenant,
                    Scope::Ours => Stops::NoWork,
                };
                let expected = match class {
                    ErrorClass::Transient | ErrorClass::Refused => widest,
                    ErrorClass::Throttled { .. }
                    | ErrorClass::Conflict
                    | ErrorClass::Gone
                    | ErrorClass::CursorInvalid
                    | ErrorClass::OutcomeUnknown => Stops::NoWork,
                };
                assert_eq!(stops(class, scope), expected, "{class:?} {scope:?}");
            }
        }
    }
}
