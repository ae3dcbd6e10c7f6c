//! Service accounts of the simulated servers, and their rights.

/// A set of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MailboxScope {
    /// Every mailbox.
    All,
    /// No mailbox.
    #[default]
    None,
    /// These primary SMTP addresses.
    List(Vec<String>),
}

impl MailboxScope {
    /// Returns whether the mailbox with this primary SMTP address is in the set. Addresses compare without case.
    #[must_use]
    pub fn holds(&self, smtp: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::List(addresses) => addresses.iter().any(|address| address.eq_ignore_ascii_case(smtp)),
        }
    }
}

/// What a service account may do to other people's mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountRights {
    /// Mailboxes it may act as (role `ApplicationImpersonation`, or the application role in the cloud).
    pub impersonate: MailboxScope,
    /// Mailboxes it may open under its own name (`FullAccess` permission).
    pub full_access: MailboxScope,
}

/// An account of a service.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Logon name for Basic; for a token, the name that the token validator returns. If it is the address of a
    /// mailbox, that mailbox is the account's own.
    pub user: String,
    /// Password for Basic; an empty one is never accepted.
    pub password: String,
    /// Its rights.
    pub rights: AccountRights,
}

impl std::fmt::Debug for ServiceAccount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServiceAccount")
            .field("user", &self.user)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}
