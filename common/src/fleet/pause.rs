//! Pauses that servers asked for: what a process reports, what the store answers, and how servers are named.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::metrics::record::Server;
use crate::model::TenantId;
use crate::registry::{Credentials, MailboxConnection, SourceConnection, Tenant};

/// One service of one host under one account. Limits and pauses are kept per service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName {
    /// Host and port.
    pub host: String,
    /// The account for which the server counts requests; see [`account`].
    pub account: String,
    service: &'static str,
}

impl ServerName {
    /// Returns the name of the service at the URL's host and port, under `account`.
    #[must_use]
    pub fn new(url: &Url, server: Server, account: &str) -> Self {
        Self {
            host: host_of(url),
            account: account.to_owned(),
            service: server.name(),
        }
    }

    /// Returns the token endpoint of these credentials, if they need one. It counts requests per application.
    #[must_use]
    pub fn of_token_endpoint(credentials: &Credentials) -> Option<Self> {
        match credentials {
            Credentials::Basic { .. }
            | Credentials::Ntlm { .. }
            | Credentials::Kerberos { .. }
            | Credentials::Negotiate { .. } => None,
            Credentials::OauthSecret {
                token_url, client_id, ..
            }
            | Credentials::OauthCertificate {
                token_url, client_id, ..
            } => Some(Self::new(token_url, Server::Token, client_id)),
        }
    }

    /// Returns the service by its name in metrics.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Returns every server that syncs of the tenant call, in order and without duplicates.
    #[must_use]
    pub fn of_tenant(tenant: &Tenant) -> Vec<Self> {
        let SourceConnection::SharePoint(source) = &tenant.source;
        let by = account(&tenant.id, &source.credentials);
        let mut names: BTreeSet<Self> = source
            .sites
            .iter()
            .map(|site| Self::new(site, Server::SharePoint, &by))
            .collect();
        names.extend(Self::of_token_endpoint(&source.credentials));
        let MailboxConnection::Ews { url, credentials, .. } = &tenant.mailbox;
        names.extend(Self::of_token_endpoint(credentials));
        names.insert(Self::new(url, Server::Ews, &account(&tenant.id, credentials)));
        names.into_iter().collect()
    }
}

/// Formats the name as processes and stores exchange it. A host name contains no NUL, so no two names have
/// the same form. Exchange has no third part, because earlier builds knew no other service.
impl fmt::Display for ServerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\0{}", self.host, self.account)?;
        if self.service == Server::Ews.name() {
            Ok(())
        } else {
            write!(formatter, "\0{}", self.service)
        }
    }
}

/// Returns the account for which a server counts requests with these credentials: a company's own server
/// counts per service account, a cloud with many tenants counts per tenant and application.
#[must_use]
pub fn account(tenant: &TenantId, credentials: &Credentials) -> String {
    match credentials {
        Credentials::Basic { user, .. }
        | Credentials::Ntlm { user, .. }
        | Credentials::Kerberos { user, .. }
        | Credentials::Negotiate { user, .. } => user.to_lowercase(),
        Credentials::OauthSecret { client_id, .. } | Credentials::OauthCertificate { client_id, .. } => {
            format!("{tenant}/{client_id}")
        }
    }
}

/// Returns the URL's host and port.
#[must_use]
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("an address without host");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A pause as reported by the process that received it from the server. Times are relative, because
/// processes' clocks differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseReport {
    /// Remaining time, in milliseconds.
    pub left_ms: u64,
    /// How long ago the server asked for it, in milliseconds. If the server's pauses were ended after that,
    /// the pause is over.
    pub ago_ms: u64,
    /// The tenant whose request received the answer; `None` if the answer concerns many tenants, as that of a
    /// token endpoint does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The answer in a few words of tasksync.
    pub why: String,
}

/// A server's pause as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPause {
    /// When the server asked for it; `None` for a pause that an earlier build reported.
    pub since: Option<Timestamp>,
    /// Nothing is sent to the server before this time.
    pub until: Timestamp,
    /// The tenant whose request received the answer, if known.
    pub tenant: Option<TenantId>,
    /// The answer, if known.
    pub why: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_s_servers_are_named_as_its_requests_name_them() {
        let tenant: Tenant = serde_json::from_value(serde_json::json!({
            "id": "contoso", "display_name": "Contoso",
            "source": {
                "kind": "sharepoint",
                "sites": ["https://office.contoso.example/a", "https://OFFICE.contoso.example:443/b", "https://sp2.contoso.example:8443/"],
                "credentials": { "kind": "basic", "user": "CONTOSO\\svc", "password": "env:A" },
            },
            "mailbox": {
                "kind": "ews", "url": "https://office.contoso.example/EWS/Exchange.asmx",
                "credentials": {
                    "kind": "oauth_secret", "token_url": "https://login.example/token", "client_id": "app", "scope": "s", "secret": "env:B",
                },
            },
        }))
        .unwrap();
        let names: Vec<String> = ServerName::of_tenant(&tenant)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "login.example:443\0app\0token",
                "office.contoso.example:443\0contoso/app",
                "office.contoso.example:443\0contoso\\svc\0sharepoint",
                "sp2.contoso.example:8443\0contoso\\svc\0sharepoint",
            ]
        );
    }
}
