//! The access mode of a mailbox: as a delegate, by impersonation, or by the one that works.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::MailboxAddress;
use tasksync_common::registry::Access;

use super::response_code::{self, Meaning};
use super::response_messages::{EwsError, ResponseMessage};

/// An access mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessMode {
    /// The service account's own rights; one request may name many mailboxes.
    Delegate,
    /// Acting as the owner; one mailbox per request.
    Impersonation,
}

impl AccessMode {
    /// Returns its name in facts and messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delegate => "delegate",
            Self::Impersonation => "impersonation",
        }
    }

    /// Returns whether one request may name many mailboxes.
    pub(super) fn shares_requests(self) -> bool {
        match self {
            Self::Delegate => true,
            Self::Impersonation => false,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Delegate => Self::Impersonation,
            Self::Impersonation => Self::Delegate,
        }
    }
}

/// The tenant's choice of access mode and, if it is left open, the mode that worked for each mailbox.
#[derive(Debug)]
pub(super) struct AccessMemory {
    choice: Access,
    recorded_modes: Mutex<HashMap<MailboxAddress, AccessMode>>,
    limit: usize,
}

impl AccessMemory {
    /// Remembers at most `limit` mailboxes; a forgotten one is tried again.
    pub(super) fn new(choice: Access, limit: usize) -> Self {
        Self {
            choice,
            recorded_modes: Mutex::default(),
            limit,
        }
    }

    /// Returns the mode that worked for this mailbox; `None` if it is not known, or if the tenant chose a
    /// mode.
    pub(super) fn recorded_mode(&self, mailbox: &MailboxAddress) -> Option<AccessMode> {
        match self.choice {
            Access::Delegate | Access::Impersonation => None,
            Access::Auto => self
                .recorded_modes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(mailbox)
                .copied(),
        }
    }

    /// Returns whether the mode for this mailbox is known. Until then "not found" may mean that the other
    /// mode is needed.
    pub(super) fn is_settled(&self, mailbox: &MailboxAddress) -> bool {
        self.choice != Access::Auto || self.recorded_mode(mailbox).is_some()
    }

    /// Returns the mode to try first, and the mode to try if that is refused.
    pub(super) fn order(&self, mailbox: &MailboxAddress) -> (AccessMode, Option<AccessMode>) {
        match self.choice {
            Access::Delegate => (AccessMode::Delegate, None),
            Access::Impersonation => (AccessMode::Impersonation, None),
            Access::Auto => {
                let first = self.recorded_mode(mailbox).unwrap_or(AccessMode::Delegate);
                (first, Some(first.other()))
            }
        }
    }

    /// Records that this mode opened the mailbox.
    pub(super) fn record_success(&self, mailbox: &MailboxAddress, mode: AccessMode) {
        if self.choice != Access::Auto {
            return;
        }
        let mut worked = self.recorded_modes.lock().unwrap_or_else(PoisonError::into_inner);
        if worked.get(mailbox) == Some(&mode) {
            return;
        }
        if worked.len() >= self.limit && !worked.contains_key(mailbox) {
            let forgotten = worked.keys().next().cloned();
            if let Some(forgotten) = forgotten {
                worked.remove(&forgotten);
            }
        }
        worked.insert(mailbox.clone(), mode);
    }
}

/// Returns whether an error says that this mode does not reach the mailbox. The mailbox's own task folder
/// always exists, so for that folder (`own_folder`) "not found" is a refusal, too.
pub(super) fn is_refusal(code: &str, own_folder: bool) -> bool {
    response_code::refuses_access(code)
        || own_folder
            && matches!(
                response_code::meaning(code),
                Meaning::FolderLost | Meaning::ItemGone
            )
}

/// Returns whether a whole answer is a refusal: its first message is one, and none succeeded.
pub(super) fn all_refused<T>(messages: &[ResponseMessage<T>], own_folder: bool) -> bool {
    messages.iter().all(Result::is_err)
        && messages
            .first()
            .and_then(|message| message.as_ref().err())
            .is_some_and(|error| is_refusal(&error.code, own_folder))
}

/// Returns the failure if neither mode reaches a mailbox. It is not the tenant's, because other mailboxes may
/// be open to one of the modes.
pub(super) fn both_refused(first: AccessMode, error: &EwsError, second: &EwsError) -> EwsError {
    let detail = format!(
        "{}: {}; {}: {}",
        first.name(),
        error.failure.detail,
        first.other().name(),
        second.failure.detail
    );
    let missing = [error, second]
        .iter()
        .any(|error| error.failure.code == Code::ExchangeMailboxMissing);
    let passing = [error, second]
        .iter()
        .any(|error| error.failure.class == ErrorClass::Transient);
    let (class, code) = if passing {
        (ErrorClass::Transient, Code::ExchangeError)
    } else if missing {
        (ErrorClass::Refused, Code::ExchangeMailboxMissing)
    } else {
        (ErrorClass::Refused, Code::ExchangeMailboxDenied)
    };
    EwsError {
        code: error.code.clone(),
        failure: Failure::new(class, code, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_choice_is_never_left() {
        let ana: MailboxAddress = "ana@contoso.example".parse().unwrap();
        for (choice, mode) in [
            (Access::Delegate, AccessMode::Delegate),
            (Access::Impersonation, AccessMode::Impersonation),
        ] {
            let memory = AccessMemory::new(choice, 2);
            memory.record_success(&ana, mode.other());
            assert_eq!(memory.order(&ana), (mode, None));
        }
    }

    #[test]
    fn the_mode_that_worked_is_tried_first_and_the_memory_is_bounded() {
        let memory = AccessMemory::new(Access::Auto, 2);
        let mailbox =
            |number: u32| -> MailboxAddress { format!("u{number}@contoso.example").parse().unwrap() };
        assert_eq!(
            memory.order(&mailbox(1)),
            (AccessMode::Delegate, Some(AccessMode::Impersonation))
        );
        for number in 1..=3 {
            memory.record_success(&mailbox(number), AccessMode::Impersonation);
        }
        assert_eq!(
            memory.order(&mailbox(3)),
            (AccessMode::Impersonation, Some(AccessMode::Delegate))
        );
        assert_eq!(memory.recorded_modes.lock().unwrap().len(), 2);
    }
}
