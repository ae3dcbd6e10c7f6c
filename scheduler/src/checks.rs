//! The seam through which the API and the doctor ask the tenants' servers; they read and never write.

use async_trait::async_trait;
use serde_json::Value;
use tasksync_common::error::Failure;
use tasksync_common::facts::{MailboxFacts, SiteCheck};
use tasksync_common::model::UserKey;
use tasksync_common::registry::{Enrolment, Tenant};

/// What was learned of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCheck {
    /// Whether the source knows the person.
    pub person: Result<(), Failure>,
    /// The mailbox's facts, or what is wrong.
    pub mailbox: Result<MailboxFacts, Failure>,
}

/// Asks a tenant's servers. Implemented where the clients live; every call is bounded by the outbound settings.
#[async_trait]
pub trait TenantChecks: Send + Sync + 'static {
    /// Asks every site of the tenant whether it answers and what the service account may do there.
    async fn check_tenant(&self, tenant: &Tenant) -> Vec<SiteCheck>;
    /// Asks whether the source knows the person and whether tasksync may use the mailbox. The user need not be
    /// enrolled yet.
    async fn check_user(&self, tenant: &Tenant, user: &Enrolment) -> UserCheck;
    /// What a sync of this enrolled user would do now: `folders` to be made, `steps` in order, and the deletions the guard
    /// would hold back (`held`). Reads both sides and writes nothing.
    ///
    /// # Errors
    /// As a sync that fails while reading.
    async fn preview(&self, user: &UserKey) -> Result<Value, Failure>;
}
