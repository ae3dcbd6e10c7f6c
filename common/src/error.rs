//! What can go wrong with an outside system, and what is done about it.
//!
//! Retry or fail is decided on the line where the error appears, by building a [`Failure`] with its [`ErrorClass`];
//! nothing later re-reads a message to guess. People see the [`Code`]: each has a message, a cause, who must act and
//! what to do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::catalogue::{Actor, Code};

/// What a failure means for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// May go away by itself; try again later with back-off.
    Transient,
    /// The server asked for a pause; not counted as a failure.
    Throttled {
        /// The pause the server named, in full; `None` when it named none.
        retry_after: Option<Duration>,
    },
    /// The thing changed since it was read: read again, plan again.
    Conflict,
    /// The thing is not there any more.
    Gone,
    /// This one item cannot be synced until somebody changes it; the others go on.
    ItemPermanent,
    /// This user cannot be synced until somebody acts.
    MailboxPermanent,
    /// The whole tenant cannot be synced until somebody acts.
    TenantPermanent,
    /// The cursor is refused: forget it and compare everything.
    CursorInvalid,
    /// A write may or may not have happened: look before trying again.
    OutcomeUnknown,
}

impl ErrorClass {
    /// A short name for logs and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::ItemPermanent => "item_permanent",
            Self::MailboxPermanent => "mailbox_permanent",
            Self::TenantPermanent => "tenant_permanent",
            Self::CursorInvalid => "cursor_invalid",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// A failure of one call or one step: what it means, its code, and what exactly happened where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it means for the work.
    pub class: ErrorClass,
    /// The stable code people look up.
    pub code: Code,
    /// What happened, where and to whom, in one sentence; holds no secret and no task text.
    pub detail: String,
}

impl Failure {
    /// A failure of this class and code.
    pub fn new(class: ErrorClass, code: Code, detail: impl Into<String>) -> Self {
        Self {
            class,
            code,
            detail: detail.into(),
        }
    }

    /// The same failure with `context` (an operation, a mailbox, a list) in front of its detail.
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
