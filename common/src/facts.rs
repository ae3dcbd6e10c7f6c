//! What the tenants' servers say about themselves when they are asked: found out by the worker's clients, judged by the doctor.

use jiff::SignedDuration;

use crate::error::Failure;

/// What one site of the source says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFacts {
    /// Its title.
    pub title: String,
    /// Task lists found.
    pub lists: usize,
    /// Whether the service account may edit items.
    pub may_edit: bool,
    /// Its clock minus ours; `None` when it never told the time.
    pub clock_offset: Option<SignedDuration>,
}

/// What was learned of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCheck {
    /// Its address.
    pub site: String,
    /// Its facts, or what is wrong.
    pub result: Result<SiteFacts, Failure>,
}

/// What the mailbox server says about one mailbox and itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxFacts {
    /// Product and version as the server names them.
    pub version: String,
    /// How the mailbox was opened, as the back end names it: `delegate`, `impersonation`.
    pub access: String,
    /// Whether one request can ask about many mailboxes that are opened so.
    pub shares_requests: bool,
    /// Its clock minus ours; `None` when it never told the time.
    pub clock_offset: Option<SignedDuration>,
    /// Whether the cheap idle check works for this mailbox.
    pub idle_check: bool,
}
