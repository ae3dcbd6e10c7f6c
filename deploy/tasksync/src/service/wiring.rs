//! Creates the clients of the tenants' servers, once per process. No other code does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::facts::{MailboxFacts, MailboxKind, PersonLookup, SiteCheck, TenantLook};
use tasksync_common::fleet::{Fleet, FleetParticipant, Nudge};
use tasksync_common::model::UserKey;
use tasksync_common::registry::{Enrolment, Registry, SourceConnection, Tenant};
use tasksync_common::settings::Settings;
use tasksync_scheduler::checks::{TenantChecks, UserCheck};
use tasksync_worker::connect::ServerConnector;
use tasksync_worker::source::Person;
use tasksync_worker::sync::{SyncEngine, SyncSettings, TenantConnector, TenantContext, Tenants};
use tasksync_worker::work::UserSync;

use crate::exit::CommandError;
use crate::preview;

/// Most tenants whose connections are kept open.
const TENANTS_CONNECTED: usize = 10_000;
/// Time until a change of a tenant's settings is noticed.
const TENANT_RECHECK: Duration = Duration::from_secs(10);

/// The sync engine, and the checks of the tenants' servers.
pub(super) struct SyncAndChecks<S: UserSync> {
    pub(super) sync: Arc<S>,
    pub(super) checks: Arc<dyn TenantChecks>,
}

/// The clients of the tenants' servers.
pub(super) struct Clients {
    pub(super) connector: Arc<dyn TenantConnector>,
    /// The limits of these clients, as a part of the process's heartbeat.
    pub(super) limits: Arc<dyn FleetParticipant>,
}

/// Creates the clients. In a shared fleet, their limits are shared.
///
/// # Errors
/// A setting cannot be used; the text names it.
pub(super) fn connector(
    settings: &Settings,
    clock: &SharedClock,
    fleet: &dyn Fleet,
    nudge: &Arc<Nudge>,
) -> Result<Clients, CommandError> {
    let mut connector = ServerConnector::new(settings, Arc::clone(clock))
        .map_err(|error| CommandError::settings(error.to_string()))?;
    if fleet.is_shared() {
        connector = connector.sharing_limits(settings.outbound.requests_per_server, Arc::clone(nudge));
    }
    Ok(Clients {
        limits: Arc::new(connector.servers().clone()),
        connector: Arc::new(connector),
    })
}

/// Creates the parts that use the clients.
pub(super) fn connect(
    connector: &Arc<dyn TenantConnector>,
    settings: &Settings,
    registry: &Arc<dyn Registry>,
    clock: &SharedClock,
) -> SyncAndChecks<SyncEngine> {
    let tenants = Arc::new(Tenants::new(
        Arc::clone(registry),
        Arc::clone(connector),
        Arc::clone(clock),
        TENANTS_CONNECTED,
        TENANT_RECHECK,
    ));
    let sync = Arc::new(SyncEngine::new(
        Arc::clone(registry),
        tenants,
        Arc::clone(clock),
        SyncSettings::new(&settings.worker, &settings.guard),
    ));
    SyncAndChecks {
        sync: Arc::clone(&sync),
        checks: Arc::new(ServerChecks {
            connector: Arc::clone(connector),
            registry: Arc::clone(registry),
            sync,
        }),
    }
}

/// Queries tenants' servers through new connections, so that settings can be tried before they are saved.
struct ServerChecks {
    connector: Arc<dyn TenantConnector>,
    registry: Arc<dyn Registry>,
    sync: Arc<SyncEngine>,
}

impl ServerChecks {
    /// Returns the tenant with new connections.
    async fn context(&self, tenant: &Tenant) -> Result<TenantContext, Failure> {
        Ok(TenantContext {
            tenant: tenant.clone(),
            connections: self.connector.connect(tenant)?,
            installation: self.registry.installation().await?,
        })
    }
}

#[async_trait]
impl TenantChecks for ServerChecks {
    async fn check_tenant(&self, tenant: &Tenant) -> Vec<SiteCheck> {
        let connections = match self.connector.connect(tenant) {
            Ok(connections) => connections,
            Err(failure) => {
                let SourceConnection::SharePoint(source) = &tenant.source;
                let refused = |site: &url::Url| SiteCheck {
                    site: site.to_string(),
                    result: Err(failure.clone()),
                };
                return source.sites.iter().map(refused).collect();
            }
        };
        connections.source.check().await
    }

    async fn facts_without_sign_in(&self, tenant: &Tenant) -> TenantLook {
        TenantLook {
            last_discovery: self.sync.last_discovery(&tenant.id).await,
            ..self.connector.facts_without_sign_in(tenant).await
        }
    }

    async fn check_person(
        &self,
        tenant: &Tenant,
        source_login: &str,
        lookup: PersonLookup,
    ) -> Result<(), Failure> {
        let connections = self.connector.connect(tenant)?;
        let person = Person::new(source_login.to_owned());
        connections.source.check_person(&person, lookup).await
    }

    async fn check_mailbox(&self, tenant: &Tenant, user: &Enrolment) -> Result<MailboxFacts, Failure> {
        let context = self.context(tenant).await?;
        context.connections.mailbox.check(&context.owner(user)?).await
    }

    async fn mailbox_kind(&self, tenant: &Tenant, user: &Enrolment) -> Result<MailboxKind, Failure> {
        let context = self.context(tenant).await?;
        context.connections.mailbox.kind(&context.owner(user)?).await
    }

    async fn check_user(&self, tenant: &Tenant, user: &Enrolment, lookup: PersonLookup) -> UserCheck {
        let (person, mailbox) = tokio::join!(
            self.check_person(tenant, &user.source_login, lookup),
            self.check_mailbox(tenant, user)
        );
        UserCheck { person, mailbox }
    }

    async fn preview(&self, user: &UserKey) -> Result<Value, Failure> {
        let (plan, held_deletions, names) = self.sync.preview_with_names(user).await?;
        Ok(preview::json(user, &plan, &held_deletions, &names))
    }
}
