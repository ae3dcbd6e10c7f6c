//! What the servers of a tenant report about themselves. The worker's clients ask; the doctor judges the
//! answers.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use crate::error::Failure;
use crate::versions::ExchangeBuild;

/// What one site of the source reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteFacts {
    /// Its title.
    pub title: String,
    /// Task lists found.
    pub lists: usize,
    /// Whether the service account may edit items.
    pub may_edit: bool,
    /// The site's clock minus ours; `None` if no answer carried the time.
    pub clock_offset: Option<SignedDuration>,
    /// The other rights of the service account; `None` if they were not read.
    pub rights: Option<SiteRights>,
    /// Facts about each task list; a list about which the site does not answer is missing.
    pub task_lists: Vec<ListFacts>,
    /// Lists and webs that the discovery left out, each with the reason.
    pub left_out: Vec<String>,
    /// The time zones of the webs with task lists, each once; webs without a readable zone are in
    /// [`Self::webs_without_zone`].
    pub zones: Vec<SiteZone>,
    /// Webs whose time zone cannot be read, each with the reason.
    pub webs_without_zone: Vec<String>,
}

/// What the service account may do on a site beside editing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteRights {
    /// Whether it may delete items.
    pub may_delete: bool,
    /// Whether it may ask what other people may see.
    pub may_ask_about_people: bool,
    /// Rights that no sync needs, in the source's words.
    pub not_needed: Vec<&'static str>,
    /// Whether it administers the site collection; `None` if the site does not say.
    pub administrator: Option<bool>,
}

/// What a task list reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFacts {
    /// The titles of web and list.
    pub name: String,
    /// Its number of items.
    pub items: u64,
    /// Whether a changed item must be approved by a person.
    pub needs_approval: bool,
}

/// The time zone of a web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteZone {
    /// Address of the web.
    pub web: String,
    /// Name of the zone; its offsets if it has no name that tasksync knows.
    pub name: String,
    /// Its offsets now and half a year from now, in ascending order.
    pub offsets: [Offset; 2],
}

/// Which of a tenant's servers it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerKind {
    /// A server of the source.
    Source,
    /// The server of the mailboxes.
    Mailbox,
    /// A token endpoint.
    Token,
}

/// The result of calling one server without signing in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCheck {
    /// Which server it is.
    pub kind: ServerKind,
    /// Host and port.
    pub host: String,
    /// What it answered, or why it did not.
    pub result: Result<ServerFacts, ServerRefusal>,
}

/// What a server shows to a caller who does not sign in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Its certificate; `None` without encryption.
    pub certificate: Option<CertificateFacts>,
    /// The sign-in schemes that it offers, in its order; empty if it named none.
    pub schemes: Vec<String>,
    /// The version in the header `MicrosoftSharePointTeamServices`, if there is one.
    pub sharepoint_version: Option<String>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The end of its life.
    pub expires_at: Timestamp,
    /// The names for which it is valid.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
}

/// Why a server gave no answer to a caller who does not sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerRefusal {
    /// Its certificate is refused; the text is for people.
    Certificate(CertificateProblem, String),
    /// Any other reason.
    NoAnswer(Failure),
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// No trusted authority issued it, or it cannot be verified for another reason.
    Untrusted,
    /// It is for another host name.
    OtherName,
    /// Its life has ended, or has not begun.
    Expired,
}

/// The result of reading one secret of a tenant. It never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretCheck {
    /// Its key in the tenant's settings.
    pub key: String,
    /// The name under which it is found.
    pub reference: String,
    /// What the certificate says if the secret is one, or why the secret cannot be used.
    pub result: Result<Option<CertificateFacts>, Failure>,
}

/// What can be seen of a tenant's servers and secrets without signing in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLook {
    /// The servers that syncs of the tenant call.
    pub servers: Vec<ServerCheck>,
    /// The number of servers that were not looked at, because there are too many.
    pub servers_left_out: usize,
    /// Every secret that the tenant's settings name.
    pub secrets: Vec<SecretCheck>,
    /// When syncs of this process last searched the source for task lists with success; `None` if they did not yet.
    pub last_discovery: Option<Timestamp>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxFacts {
    /// Product and version as the server names them.
    pub version: String,
    /// The server's build, if it is an Exchange that names it.
    pub exchange_build: Option<ExchangeBuild>,
    /// How the mailbox was opened, in the back end's word: `delegate` or `impersonation`.
    pub access: String,
    /// Whether one request can ask about many mailboxes opened this way.
    pub shares_requests: bool,
    /// The server's clock minus ours; `None` if no answer carried the time.
    pub clock_offset: Option<SignedDuration>,
    /// Whether the cheap idle check works for this mailbox.
    pub idle_check: bool,
}

/// What the mailbox server's directory says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxKind {
    /// A mailbox: a person's, a shared one, a room or equipment. The directory does not tell them apart.
    Mailbox,
    /// A distribution list.
    DistributionList,
    /// A contact, whose mailbox is elsewhere.
    Contact,
    /// A public folder.
    PublicFolder,
    /// The mailbox of a group.
    Group,
    /// The directory does not have the address.
    NotListed,
    /// The directory was not asked, or said something else.
    Unknown,
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
