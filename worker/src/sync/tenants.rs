//! The tenants that a worker has connected: their settings and the shared connections to their servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::TenantLook;
use tasksync_common::model::{InstallationId, MarkerOwner, TenantId, zone_named};
use tasksync_common::registry::{Enrolment, Registry, Tenant};
use tokio::sync::Mutex;

use crate::mailbox::{Mailbox, Owner};
use crate::source::Source;

/// Makes connections from a tenant's settings.
#[async_trait]
pub trait TenantConnector: Send + Sync + 'static {
    /// Returns the tenant's source and mailbox server.
    ///
    /// # Errors
    /// The failure names the setting that cannot be used.
    fn connect(&self, tenant: &Tenant) -> Result<Connections, Failure>;
    /// Returns what can be seen of the tenant's servers and secrets without signing in, for the doctor. By default
    /// nothing.
    async fn facts_without_sign_in(&self, tenant: &Tenant) -> TenantLook {
        let _ = tenant;
        TenantLook::default()
    }
}

/// The two servers of one tenant.
#[derive(Clone)]
pub struct Connections {
    /// Where tasks come from.
    pub source: Arc<dyn Source>,
    /// Where people's mailboxes are.
    pub mailbox: Arc<dyn Mailbox>,
}

/// A connected tenant.
pub struct TenantContext {
    /// The tenant's settings when it was connected.
    pub tenant: Tenant,
    /// Its two servers.
    pub connections: Connections,
    /// The installation whose markers are written into mailboxes.
    pub installation: InstallationId,
}

impl TenantContext {
    /// Returns the owner of the enrolment's mailbox, with the time zone of its dates.
    ///
    /// # Errors
    /// `Refused` when the zone's name is unknown.
    pub fn owner(&self, enrolment: &Enrolment) -> Result<Owner, Failure> {
        let name = enrolment.time_zone.as_deref().unwrap_or(&self.tenant.time_zone);
        let zone = zone_named(name).ok_or_else(|| {
            Failure::new(
                ErrorClass::Refused,
                Code::TimeZoneUnknown,
                format!(
                    "\"{name}\" of {} is neither an IANA nor a Windows time zone",
                    enrolment.key
                ),
            )
        })?;
        Ok(Owner {
            mailbox: enrolment.mailbox.clone(),
            zone,
            marker: MarkerOwner::new(self.installation, &enrolment.key),
        })
    }
}

struct CachedTenant {
    context: Arc<TenantContext>,
    checked_at: Timestamp,
    used_at: Timestamp,
}

/// The connections of at most `maximum` tenants. The one unused longest is dropped first.
pub struct Tenants {
    registry: Arc<dyn Registry>,
    connector: Arc<dyn TenantConnector>,
    clock: SharedClock,
    maximum: usize,
    recheck: SignedDuration,
    entries: Mutex<HashMap<TenantId, CachedTenant>>,
}

impl Tenants {
    /// Returns an empty cache. Settings are read again from the registry after `recheck`; at most `maximum`
    /// tenants stay connected.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Registry>,
        connector: Arc<dyn TenantConnector>,
        clock: SharedClock,
        maximum: usize,
        recheck: Duration,
    ) -> Self {
        let recheck = SignedDuration::try_from(recheck).unwrap_or(SignedDuration::from_secs(30));
        Self {
            registry,
            connector,
            clock,
            maximum: maximum.max(1),
            recheck,
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// Returns when the source of a tenant that is connected last searched for locations with success.
    pub(super) async fn last_discovery(&self, id: &TenantId) -> Option<Timestamp> {
        let entries = self.entries.lock().await;
        entries.get(id)?.context.connections.source.last_discovery()
    }

    /// Returns the tenant's context. Connects anew if its settings changed.
    ///
    /// # Errors
    /// `Gone` with `TenantUnknown` if the tenant was removed or is disabled; the connector's failure
    /// otherwise.
    pub async fn get(&self, id: &TenantId) -> Result<Arc<TenantContext>, Failure> {
        let now = self.clock.now();
        if let Some(entry) = self.entries.lock().await.get_mut(id)
            && now.duration_since(entry.checked_at) < self.recheck
        {
            entry.used_at = now;
            return Ok(Arc::clone(&entry.context));
        }
        let tenant = self.registry.tenant(id).await?;
        let installation = self.registry.installation().await?;
        let mut entries = self.entries.lock().await;
        let Some(tenant) = tenant.filter(|tenant| tenant.enabled) else {
            entries.remove(id);
            return Err(Failure::new(
                ErrorClass::Gone,
                Code::TenantUnknown,
                format!("tenant {id} was removed or is switched off"),
            ));
        };
        if let Some(entry) = entries.get_mut(id)
            && entry.context.tenant == tenant
            && entry.context.installation == installation
        {
            entry.checked_at = now;
            entry.used_at = now;
            return Ok(Arc::clone(&entry.context));
        }
        let connections = self.connector.connect(&tenant)?;
        let context = Arc::new(TenantContext {
            tenant,
            connections,
            installation,
        });
        if entries.len() >= self.maximum
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, entry)| entry.used_at)
                .map(|(id, _)| id.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(
            id.clone(),
            CachedTenant {
                context: Arc::clone(&context),
                checked_at: now,
                used_at: now,
            },
        );
        Ok(context)
    }
}
