//! The seam through which the API and the doctor query the tenants' servers. The doctor's checks only read.

use async_trait::async_trait;
use serde_json::Value;
use tasksync_common::error::Failure;
use tasksync_common::facts::{MailboxFacts, MailboxKind, PersonLookup, SiteCheck, TenantLook};
use tasksync_common::model::UserKey;
use tasksync_common::registry::{Enrolment, Tenant};

/// What the servers answered about one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCheck {
    /// Whether the source knows this person.
    pub person: Result<(), Failure>,
    /// Facts about the mailbox, or why it cannot be used.
    pub mailbox: Result<MailboxFacts, Failure>,
}

/// Checks a tenant's servers. The crate that has the clients implements it; the outbound settings limit every call.
#[async_trait]
pub trait TenantChecks: Send + Sync + 'static {
    /// Checks for every site of the tenant that it answers, and what the service account may do there.
    async fn check_tenant(&self, tenant: &Tenant) -> Vec<SiteCheck>;
    /// Returns what can be seen of the tenant's servers and secrets without signing in. By default nothing, so that
    /// the checks of it do not apply.
    async fn facts_without_sign_in(&self, tenant: &Tenant) -> TenantLook {
        let _ = tenant;
        TenantLook::default()
    }
    /// Checks that the source knows a person by this sign-in name. With [`PersonLookup::Read`] nothing is written at
    /// the source, and a person whom it has not met yet counts as unknown (`sharepoint-user-unknown`).
    ///
    /// # Errors
    /// It does not, or cannot be asked.
    async fn check_person(
        &self,
        tenant: &Tenant,
        source_login: &str,
        lookup: PersonLookup,
    ) -> Result<(), Failure>;
    /// Checks that tasksync may use a user's mailbox. The user need not be enrolled.
    ///
    /// # Errors
    /// It may not, or the server cannot be asked.
    async fn check_mailbox(&self, tenant: &Tenant, user: &Enrolment) -> Result<MailboxFacts, Failure>;
    /// Returns what the mailbox server's directory says about a user's address. By default it is unknown.
    ///
    /// # Errors
    /// The directory cannot be asked.
    async fn mailbox_kind(&self, tenant: &Tenant, user: &Enrolment) -> Result<MailboxKind, Failure> {
        let _ = (tenant, user);
        Ok(MailboxKind::Unknown)
    }
    /// Checks that the source knows the person and that tasksync may use the mailbox. The user need not be enrolled
    /// yet.
    async fn check_user(&self, tenant: &Tenant, user: &Enrolment, lookup: PersonLookup) -> UserCheck;
    /// Returns what a sync of this enrolled user would do now: the `folders` to create, the `steps` in order, and the
    /// deletions that the guard would hold back (`held`). Reads both sides and writes nothing.
    ///
    /// # Errors
    /// The failures of a sync that fails while reading.
    async fn preview(&self, user: &UserKey) -> Result<Value, Failure>;
}
