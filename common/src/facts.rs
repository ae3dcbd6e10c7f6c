//! What the servers of a tenant report about themselves. The worker's clients ask; the doctor judges the
//! answers.

use jiff::SignedDuration;

use crate::error::Failure;

/// What one site of the source reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFacts {
    /// Its title.
    pub title: String,
    /// Task lists found.
    pub lists: usize,
    /// Whether the service account may edit items.
    pub may_edit: bool,
    /// The site's clock minus ours; `None` if no answer carried the time.
    pub clock_offset: Option<SignedDuration>,
}

/// The result of checking one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCheck {
    /// Its address.
    pub site: String,
    /// Its facts, or the failure of the check.
    pub result: Result<SiteFacts, Failure>,
}

/// What the mailbox server reports about one mailbox and about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxFacts {
    /// Product and version as the server names them.
    pub version: String,
    /// How the mailbox was opened, in the back end's word: `delegate` or `impersonation`.
    pub access: String,
    /// Whether one request can ask about many mailboxes opened this way.
    pub shares_requests: bool,
    /// The server's clock minus ours; `None` if no answer carried the time.
    pub clock_offset: Option<SignedDuration>,
    /// Whether the cheap idle check works for this mailbox.
    pub idle_check: bool,
}

/// How a person is looked up at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonLookup {
    /// Only reads, so it finds the people whom the source has met already. For the doctor.
    Read,
    /// Also finds people whom only the directory knows; the source may add them to the site. For an opt-in, whose sync
    /// does the same.
    Resolve,
}
