//! A tenant, and how its servers are reached. Secrets are named here, never stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::model::{MailboxAddress, TenantId, stored_as_text};
use crate::plan::Policy;

use super::credentials::Credentials;

/// Why a reference to a secret was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text does not name a secret: write file:NAME for a file below the folder secrets.folder, or env:NAME for \
     an environment variable"
)]
pub struct SecretRefError;

/// The name of a secret: `file:NAME` (below `secrets.folder`), `file:/absolute/path` or `env:NAME`. The secret itself
/// is never stored. Where a tenant's secrets may be is decided by [`crate::secrets`], not here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// An environment variable.
    Environment(String),
    /// A file, absolute or below `secrets.folder`; one final line break does not belong to the secret.
    File(std::path::PathBuf),
}

impl FromStr for SecretRef {
    type Err = SecretRefError;
    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        // The text may be a misplaced secret, so the error contains nothing of it.
        match text.split_once(':') {
            Some(("env", name))
                if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
            {
                Ok(Self::Environment(name.to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') || is_relative_name(path) => {
                Ok(Self::File(path.into()))
            }
            _ => Err(SecretRefError),
        }
    }
}

/// Returns whether the text names a file below a folder: letters, digits, `.`, `_` and `-` in parts between slashes.
/// Other text may be a misplaced secret.
fn is_relative_name(path: &str) -> bool {
    path.len() <= 255
        && path.split('/').all(|part| {
            !matches!(part, "" | "." | "..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        })
}

stored_as_text!(SecretRef, SecretRefError);

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(formatter, "env:{name}"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
        }
    }
}

/// How mailboxes of users are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// By `FullAccess` of the service account; one request may name many mailboxes.
    Delegate,
    /// By the impersonation header; one mailbox per request.
    Impersonation,
    /// First tries delegate access, falls back per mailbox, and remembers which access worked.
    #[default]
    Auto,
}

/// The tenant's Exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MailboxConnection {
    /// Exchange Web Services.
    Ews {
        /// Endpoint, usually `https://host/EWS/Exchange.asmx`.
        url: Url,
        /// How tasksync signs in.
        credentials: Credentials,
        /// How mailboxes are opened.
        #[serde(default)]
        access: Access,
    },
}

impl MailboxConnection {
    /// Returns the name of the product for people.
    #[must_use]
    pub fn product(&self) -> &'static str {
        match self {
            Self::Ews { .. } => "Exchange",
        }
    }
}

/// The tenant's SharePoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharePointConnection {
    /// The site collections whose lists are watched; at least one, at most 1,000.
    pub sites: Vec<Url>,
    /// How tasksync signs in.
    pub credentials: Credentials,
}

/// The source of the tenant's tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SourceConnection {
    /// SharePoint task lists.
    #[serde(rename = "sharepoint")]
    SharePoint(SharePointConnection),
}

/// The person by whom a tenant's connections are tested while no person is opted in. Tests only read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestPerson {
    /// A mailbox that tasksync may open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxAddress>,
    /// A sign-in name that the source knows, for SharePoint for example `i:0#.w|contoso\ana`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_login: Option<String>,
}

/// A customer whose users' tasks are synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The tenant's name in every key, message and log line. It cannot be changed later.
    pub id: TenantId,
    /// The name for people, at most 200 bytes.
    pub display_name: String,
    /// `false` stops every sync of this tenant within one run; stored data stay untouched.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Time zone of mailboxes without a known one, as an IANA or Windows name.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The connection to the source.
    pub source: SourceConnection,
    /// The connection to the mailboxes.
    pub mailbox: MailboxConnection,
    /// The tenant's policies: which side wins, and what a deletion does. Earlier builds refuse a tenant with
    /// policies.
    // The document leaves them out while all have their defaults.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policy: Policy,
    /// The person by whom both ends are tested while no person is opted in. Earlier builds refuse a tenant with this
    /// table.
    // The document leaves it out if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestPerson>,
}

impl Tenant {
    /// Returns the names of all secrets, each with its path in the tenant's document.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        let SourceConnection::SharePoint(source) = &self.source;
        let MailboxConnection::Ews { credentials, .. } = &self.mailbox;
        [("source", &source.credentials), ("mailbox", credentials)]
            .into_iter()
            .flat_map(|(side, credentials)| {
                credentials
                    .secrets()
                    .into_iter()
                    .map(move |(key, secret)| (format!("{side}.credentials.{key}"), secret))
            })
            .collect()
    }
}

fn yes() -> bool {
    true
}

fn utc() -> String {
    "UTC".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_put_where_its_name_belongs_is_refused_and_not_repeated() {
        let error = "correct-horse-battery-staple"
            .parse::<SecretRef>()
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("correct") && !error.contains("battery"),
            "{error}"
        );
        assert_eq!("env:A_1".parse::<SecretRef>().unwrap().to_string(), "env:A_1");
        for name in [
            "file:contoso",
            "file:contoso/exchange.2",
            "file:/run/secrets/contoso",
        ] {
            assert_eq!(name.parse::<SecretRef>().unwrap().to_string(), name);
        }
        for wrong in [
            "file:",
            "file:../contoso",
            "file:a//b",
            "file:./a",
            "file:hunter2 !",
            "env:",
            "env:A-B",
        ] {
            let error = wrong.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_tenant_is_read_from_toml_and_unknown_keys_are_refused() {
        let text = r#"
            id = "contoso"
            display_name = "Contoso"
            [source]
            kind = "sharepoint"
            sites = ["https://sp.contoso.example/sites/projects"]
            credentials = { kind = "basic", user = "contoso\\svc", password = "env:CONTOSO_SP" }
            [mailbox]
            kind = "ews"
            url = "https://mail.contoso.example/EWS/Exchange.asmx"
            credentials = { kind = "basic", user = "contoso\\svc", password = "file:/run/secrets/ews" }
        "#;
        let tenant: Tenant = toml::from_str(text).unwrap();
        assert!(tenant.enabled);
        assert!(matches!(
            tenant.mailbox,
            MailboxConnection::Ews {
                access: Access::Auto,
                ..
            }
        ));
        assert!(toml::from_str::<Tenant>(&text.replace("display_name", "displayname")).is_err());
        assert_eq!(
            serde_json::from_str::<Tenant>(&serde_json::to_string(&tenant).unwrap()).unwrap(),
            tenant
        );
    }
}
