//! What can be seen of a tenant's servers and secrets without signing in: certificates, sign-in schemes, versions. For
//! the doctor.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::facts::{
    CertificateProblem, SecretCheck, ServerCheck, ServerFacts, ServerKind, ServerRefusal, TenantLook,
};
use tasksync_common::fleet::{ServerName, account, host_of};
use tasksync_common::metrics::record::Server;
use tasksync_common::registry::{MailboxConnection, SourceConnection, Tenant};
use tasksync_common::x509::certificate_facts;
use url::Url;

use crate::connect::ServerConnector;
use crate::http::service::{self, Intent};
use crate::http::{CallError, LookError, for_message, offered_schemes};

/// Timeout of one look, the wait for its permit included. Two rounds of looks fit into the doctor's time for a tenant.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Servers looked at together, and at the same time.
const SERVERS: usize = 20;
const AT_ONCE: usize = 10;

/// A server of a tenant, and the address at which it is looked at.
struct Target {
    kind: ServerKind,
    url: Url,
    account: String,
}

impl ServerConnector {
    /// Looks at every server that syncs of the tenant call, at most 20, and reads every secret. Signs in nowhere.
    pub(crate) async fn look_at(&self, tenant: &Tenant) -> TenantLook {
        let targets = targets_of(tenant);
        let left_out = targets.len().saturating_sub(SERVERS);
        let servers = futures::stream::iter(targets.into_iter().take(SERVERS))
            .map(|target| self.look_at_server(target))
            .buffered(AT_ONCE)
            .collect()
            .await;
        TenantLook {
            servers,
            servers_left_out: left_out,
            secrets: self.look_at_secrets(tenant),
            last_discovery: None,
        }
    }

    async fn look_at_server(&self, target: Target) -> ServerCheck {
        let server = match target.kind {
            ServerKind::Source => Server::SharePoint,
            ServerKind::Mailbox => Server::Ews,
            ServerKind::Token => Server::Token,
        };
        let host = host_of(&target.url);
        let looked = tokio::time::timeout(TIMEOUT, self.look_within_limits(&target, server)).await;
        let timed_out = || {
            let error = CallError::TimedOut {
                host: host.clone(),
                seconds: TIMEOUT.as_secs(),
            };
            ServerRefusal::NoAnswer(service::no_answer(server, &error, Intent::Read))
        };
        ServerCheck {
            kind: target.kind,
            result: looked.unwrap_or_else(|_| Err(timed_out())),
            host,
        }
    }

    async fn look_within_limits(
        &self,
        target: &Target,
        server: Server,
    ) -> Result<ServerFacts, ServerRefusal> {
        let limits = self.servers().limits_of(&target.url, server, &target.account);
        let wait = SignedDuration::try_from(TIMEOUT).unwrap_or(SignedDuration::MAX);
        let deadline = self.clock().now().checked_add(wait).unwrap_or(Timestamp::MAX);
        let _permit = limits.acquire(deadline).await.map_err(ServerRefusal::NoAnswer)?;
        let failure = |error| service::no_answer(server, &error, Intent::Read);
        match self
            .http()
            .get_without_sign_in(&target.url, server, TIMEOUT)
            .await
        {
            Ok(looked) => Ok(ServerFacts {
                encrypted: target.url.scheme() == "https",
                certificate: looked
                    .certificate
                    .map(|der| certificate_facts(&der))
                    .transpose()
                    .map_err(|reason| ServerRefusal::Certificate(CertificateProblem::Untrusted, reason))?,
                schemes: offered_schemes(&looked.headers),
                sharepoint_version: looked
                    .headers
                    .get("microsoftsharepointteamservices")
                    .and_then(|version| version.to_str().ok())
                    .map(|version| for_message(version, 40)),
            }),
            Err(LookError::Certificate(problem, error)) => {
                Err(ServerRefusal::Certificate(problem, failure(error).detail))
            }
            Err(LookError::NoAnswer(error)) => Err(ServerRefusal::NoAnswer(failure(error))),
        }
    }

    fn look_at_secrets(&self, tenant: &Tenant) -> Vec<SecretCheck> {
        let SourceConnection::SharePoint(source) = &tenant.source;
        let MailboxConnection::Ews { credentials, .. } = &tenant.mailbox;
        [("source", &source.credentials), ("mailbox", credentials)]
            .into_iter()
            .flat_map(|(side, credentials)| {
                let secrets = self.authenticator().check_secrets(credentials);
                secrets.into_iter().map(move |mut check| {
                    check.key = format!("{side}.credentials.{}", check.key);
                    check
                })
            })
            .collect()
    }
}

/// Returns the servers of the tenant, each host once for each kind.
fn targets_of(tenant: &Tenant) -> Vec<Target> {
    let SourceConnection::SharePoint(source) = &tenant.source;
    let MailboxConnection::Ews { url, credentials, .. } = &tenant.mailbox;
    let mut targets = BTreeMap::new();
    let mut add = |kind, url: Url, account| {
        targets
            .entry((kind, host_of(&url)))
            .or_insert(Target { kind, url, account });
    };
    add(ServerKind::Mailbox, url.clone(), account(&tenant.id, credentials));
    for credentials in [&source.credentials, credentials] {
        if let (Some(name), Some(url)) = (
            ServerName::of_token_endpoint(credentials),
            credentials.token_url(),
        ) {
            add(ServerKind::Token, url.clone(), name.account);
        }
    }
    for site in &source.sites {
        let mut url = site.clone();
        url.set_path(&format!("{}/_api/web", site.path().trim_end_matches('/')));
        url.set_query(None);
        add(ServerKind::Source, url, account(&tenant.id, &source.credentials));
    }
    targets.into_values().collect()
}
