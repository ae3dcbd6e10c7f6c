//! Connects the two sides of a tenant from its settings. Everything that the process shares is owned here.

use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::facts::TenantLook;
use tasksync_common::fleet::{Nudge, account};
use tasksync_common::metrics::record::Server;
use tasksync_common::registry::{MailboxConnection, SourceConnection, Tenant};
use tasksync_common::settings::{SecretsSettings, Settings};

use crate::auth::Authenticator;
use crate::http::{Http, HttpSetupError};
use crate::mailbox::ews::{EwsConnection, EwsLimits, EwsMailbox};
use crate::source::sharepoint::{SharePointSettings, SharePointSource};
use crate::sync::{Connections, TenantConnector};
use crate::throttle::{MailboxLocks, Servers};

/// Connects tenants to Exchange and SharePoint with one HTTP client, one set of limits and one token cache.
pub struct ServerConnector {
    http: Http,
    secrets: SecretsSettings,
    auth: Authenticator,
    servers: Servers,
    mailboxes: MailboxLocks,
    clock: SharedClock,
    sharepoint: SharePointSettings,
    ews: EwsLimits,
}

impl ServerConnector {
    /// Returns a connector with these settings.
    ///
    /// # Errors
    /// The error names the outbound setting that cannot be used.
    pub fn new(settings: &Settings, clock: SharedClock) -> Result<Self, HttpSetupError> {
        let Settings {
            outbound,
            schedule,
            worker,
            secrets,
            ..
        } = settings;
        let http = Http::new(outbound.clone(), Arc::clone(&clock))?;
        let servers = Servers::new(outbound.requests_per_server, Arc::clone(&clock));
        Ok(Self {
            auth: Authenticator::with_pauses_in(http.clone(), secrets.clone(), servers.clone()),
            secrets: secrets.clone(),
            http,
            servers,
            mailboxes: MailboxLocks::new(Arc::clone(&clock)),
            clock,
            sharepoint: SharePointSettings {
                discovery_interval: schedule.discovery_interval,
                request_timeout: outbound.request_timeout,
                full_check_interval: worker.full_check_interval,
                ..SharePointSettings::default()
            },
            ews: EwsLimits {
                request_timeout: outbound.request_timeout,
                ..EwsLimits::default()
            },
        })
    }

    /// Returns the connector with other limits of the two clients, for installations of unusual size.
    #[must_use]
    pub fn with_limits(mut self, change: impl FnOnce(&mut SharePointSettings, &mut EwsLimits)) -> Self {
        change(&mut self.sharepoint, &mut self.ews);
        self
    }

    /// Returns the connector with limits that all workers share. [`Self::servers`] is then a part of the
    /// process's [`tasksync_common::fleet::Heartbeat`], and uses `nudge` when it cannot wait for the next
    /// exchange.
    #[must_use]
    pub fn sharing_limits(mut self, requests_per_server: usize, nudge: Arc<Nudge>) -> Self {
        self.servers = Servers::shared_by_all(requests_per_server, Arc::clone(&self.clock), nudge);
        self.auth =
            Authenticator::with_pauses_in(self.http.clone(), self.secrets.clone(), self.servers.clone());
        self
    }

    /// Returns the limits and counters of every server that this connector's connections call.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.auth
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

#[async_trait]
impl TenantConnector for ServerConnector {
    fn connect(&self, tenant: &Tenant) -> Result<Connections, Failure> {
        let SourceConnection::SharePoint(sharepoint) = &tenant.source;
        let MailboxConnection::Ews {
            url,
            credentials,
            access,
        } = &tenant.mailbox;
        let source = SharePointSource::new(
            self.http.clone(),
            self.auth.clone(),
            sharepoint.clone(),
            tenant.id.clone(),
            Arc::clone(&self.clock),
            self.servers.clone(),
            self.sharepoint.clone(),
        );
        let mailbox = EwsMailbox::new(
            self.http.clone(),
            self.auth.clone(),
            EwsConnection {
                tenant: tenant.id.clone(),
                url: url.clone(),
                credentials: credentials.clone(),
                access: *access,
            },
            Arc::clone(&self.clock),
            self.ews.clone(),
            self.servers
                .limits_of(url, Server::Ews, &account(&tenant.id, credentials)),
            self.mailboxes.clone(),
        );
        Ok(Connections {
            source: Arc::new(source),
            mailbox: Arc::new(mailbox),
        })
    }

    async fn facts_without_sign_in(&self, tenant: &Tenant) -> TenantLook {
        self.look_at(tenant).await
    }
}
