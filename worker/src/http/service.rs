//! The services that tasksync calls, and the failures that mean the same for each of them.

use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::metrics::record::Server;

use super::CallError;

/// Whether the outcome matters if the answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A request that changes nothing at the server, or that may be repeated without harm.
    Read,
    /// A write.
    Write,
}

/// A service's codes for failures that do not depend on the request's content.
struct Codes {
    busy: Code,
    unreachable: Code,
    timeout: Code,
    too_large: Code,
    outcome_unknown: Code,
    foreign: Code,
    sign_in_refused: Code,
    /// The scope of a failed read, until evidence widens it.
    reads: Scope,
}

const EWS: Codes = Codes {
    busy: Code::ExchangeBusy,
    unreachable: Code::ExchangeUnreachable,
    timeout: Code::ExchangeTimeout,
    too_large: Code::ExchangeAnswerTooLarge,
    outcome_unknown: Code::ExchangeOutcomeUnknown,
    foreign: Code::ExchangeForeignAnswer,
    sign_in_refused: Code::ExchangeSignInRefused,
    reads: Scope::Mailbox,
};

const SHAREPOINT: Codes = Codes {
    busy: Code::SharePointBusy,
    unreachable: Code::SharePointUnreachable,
    timeout: Code::SharePointTimeout,
    too_large: Code::SharePointAnswerTooLarge,
    outcome_unknown: Code::SharePointOutcomeUnknown,
    foreign: Code::SharePointForeignAnswer,
    sign_in_refused: Code::SharePointSignInRefused,
    reads: Scope::Person,
};

/// A request for a token changes nothing, and all its failures have one code.
const TOKEN: Codes = Codes {
    busy: Code::TokenUnreachable,
    unreachable: Code::TokenUnreachable,
    timeout: Code::TokenUnreachable,
    too_large: Code::TokenUnreachable,
    outcome_unknown: Code::TokenUnreachable,
    foreign: Code::TokenUnreachable,
    sign_in_refused: Code::TokenRefused,
    reads: Scope::Person,
};

fn codes(server: Server) -> &'static Codes {
    match server {
        Server::Ews => &EWS,
        Server::SharePoint => &SHAREPOINT,
        Server::Token => &TOKEN,
    }
}

/// Returns the failure of a server that asked for a pause; `left` is the rest of the pause, if it was named.
pub(crate) fn busy_failure(server: Server, left: Option<Duration>, detail: impl Into<String>) -> Failure {
    Failure::new(
        ErrorClass::Throttled { retry_after: left },
        codes(server).busy,
        detail,
    )
}

/// Returns class and code of a request that was interrupted: a write has an unknown outcome, a read is tried
/// again.
pub(crate) fn interrupted(server: Server, intent: Intent, read_code: Code) -> (ErrorClass, Code) {
    match intent {
        Intent::Read => (ErrorClass::Transient, read_code),
        Intent::Write => (ErrorClass::OutcomeUnknown, codes(server).outcome_unknown),
    }
}

/// Returns the failure of a call without an answer. If the request may have been carried out, a write's
/// outcome is unknown.
pub(crate) fn no_answer(server: Server, error: &CallError, intent: Intent) -> Failure {
    let codes = codes(server);
    let code = match error {
        CallError::SignIn(failure) => return failure.clone(),
        CallError::AddressRefused(_) => Code::AddressRefused,
        CallError::NotConnected { .. } | CallError::NotSignedIn { .. } | CallError::Broken { .. } => {
            codes.unreachable
        }
        CallError::TimedOut { .. } => codes.timeout,
        CallError::TooLarge { .. } | CallError::Inflates { .. } => codes.too_large,
        CallError::OverBudget { .. } => Code::BudgetExhausted,
    };
    let (class, code) = if matches!(error, CallError::AddressRefused(_)) {
        (ErrorClass::Refused, code)
    } else if error.may_have_happened() {
        interrupted(server, intent, code)
    } else {
        (ErrorClass::Transient, code)
    };
    // A missing answer says nothing about the item that was to be written.
    Failure::new(class, code, error.to_string()).about(codes.reads)
}

/// Returns the failure of an answer that belongs to another request, or is about something other than what
/// was asked. Nothing in such an answer is used.
pub(crate) fn foreign_answer(server: Server, intent: Intent, what: &str) -> Failure {
    let class = match intent {
        Intent::Read => ErrorClass::Transient,
        Intent::Write => ErrorClass::OutcomeUnknown,
    };
    Failure::new(class, codes(server).foreign, what).about(subject(server, intent))
}

/// Returns the failure of a sign-in that the server refuses.
pub(crate) fn sign_in_refused(server: Server, detail: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::Refused, codes(server).sign_in_refused, detail).about(Scope::Server)
}

/// Returns the code of [`foreign_answer`].
pub(crate) fn foreign_code(server: Server) -> Code {
    codes(server).foreign
}

/// Returns the scope of a request whose failure says nothing more specific.
fn subject(server: Server, intent: Intent) -> Scope {
    match intent {
        Intent::Read => codes(server).reads,
        Intent::Write => Scope::Item,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_may_have_happened_is_open_and_a_read_is_tried_again() {
        let host = || "mail.example:443".to_owned();
        let reason = String::new;
        let errors = [
            (
                CallError::AddressRefused(reason()),
                ErrorClass::Refused,
                ErrorClass::Refused,
            ),
            (
                CallError::NotConnected {
                    host: host(),
                    reason: reason(),
                },
                ErrorClass::Transient,
                ErrorClass::Transient,
            ),
            (
                CallError::TimedOut {
                    host: host(),
                    seconds: 30,
                },
                ErrorClass::Transient,
                ErrorClass::OutcomeUnknown,
            ),
            (
                CallError::Broken {
                    host: host(),
                    reason: reason(),
                },
                ErrorClass::Transient,
                ErrorClass::OutcomeUnknown,
            ),
            (
                CallError::TooLarge {
                    host: host(),
                    limit: 1,
                },
                ErrorClass::Transient,
                ErrorClass::OutcomeUnknown,
            ),
        ];
        for (error, read, write) in errors {
            for server in Server::ALL.iter().copied().filter(|one| *one != Server::Token) {
                assert_eq!(no_answer(server, &error, Intent::Read).class, read, "{error}");
                assert_eq!(no_answer(server, &error, Intent::Write).class, write, "{error}");
            }
        }
    }
}
