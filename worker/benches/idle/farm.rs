//! Simulated servers in a separate process, and the sync engine connected to them as in the executable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use reqwest::Url;
use serde::Deserialize;
use tasksync_common::clock::{SharedClock, SystemClock};
use tasksync_common::fleet::account;
use tasksync_common::metrics::record::Server;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::topics::*;
use tasksync_common::registry::{
    Credentials, Enrolment, EnrolmentResult, EnrolmentState, MailboxConnection, SourceConnection,
    SqlRegistry, Tenant,
};
use tasksync_common::settings::{OutboundSettings, SecretsSettings, Settings};
use tasksync_worker::connect::ServerConnector;
use tasksync_worker::sync::{SyncEngine, SyncSettings, TenantConnector, Tenants};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::REHEARSAL;

/// Tenants of the farm.
pub(crate) const TENANTS: usize = 4;
/// People of each tenant.
pub(crate) const USERS: usize = if REHEARSAL { 5 } else { 100 };
/// Tasks of each person, on average.
pub(crate) const TASKS: usize = 10;
/// Time within which the simulated servers must be up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The access mode and protocol with which the servers are reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Whether delegate access to every mailbox is allowed; otherwise impersonation only.
    pub(crate) delegate: bool,
    /// Whether HTTPS is used.
    pub(crate) tls: bool,
}

impl Setting {
    pub(crate) fn name(self) -> String {
        let access = if self.delegate {
            "delegate"
        } else {
            "impersonation"
        };
        format!("{access}, {}", if self.tls { "HTTPS" } else { "plain HTTP" })
    }
}

type Output = Lines<BufReader<ChildStdout>>;

/// The farm's report about itself.
#[derive(Deserialize)]
struct Facts {
    ews: Url,
    authority: Option<PathBuf>,
    password_file: PathBuf,
    tenants: Vec<TenantFacts>,
}

#[derive(Deserialize)]
struct TenantFacts {
    settings: PathBuf,
    people: Vec<PersonFacts>,
}

#[derive(Deserialize)]
struct PersonFacts {
    user: String,
    source_login: String,
    mailbox: String,
    time_zone: String,
}

/// The sync engine with the registry and servers behind it.
pub(crate) struct Bed {
    pub(crate) setting: Setting,
    pub(crate) engine: SyncEngine,
    pub(crate) registry: Arc<SqlRegistry>,
    pub(crate) outbound: OutboundSettings,
    pub(crate) people: Vec<(TenantId, Vec<UserId>)>,
    /// Address of each tenant's site, without a final slash.
    pub(crate) sites: BTreeMap<TenantId, String>,
    pub(crate) exchange: Url,
    /// The service account's `Authorization` header.
    pub(crate) authorization: String,
    connector: Arc<ServerConnector>,
    /// The account for which the servers count requests: all tenants have one service account.
    account: String,
    // Both end with the bed; a program that cannot print any more would end too early.
    _farm: Child,
    _output: Output,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// Starts the servers, fills the registry and connects the engine.
    pub(crate) async fn start(setting: Setting) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let (farm, output, facts) = simulate(setting, folder.path().join("farm")).await?;
        let settings = Settings {
            outbound: OutboundSettings {
                allowed_networks: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
                allow_plain_http: !setting.tls,
                authorities: facts.authority.clone(),
                ..OutboundSettings::default()
            },
            secrets: SecretsSettings {
                folder: folder.path().to_owned(),
                ..SecretsSettings::default()
            },
            ..Settings::default()
        };
        let url = format!("sqlite:{}", folder.path().join("registry.sqlite").display());
        let registry = SqlRegistry::open_sqlite(&url)
            .await
            .map_err(|error| error.to_string())?;
        let registry = Arc::new(registry);
        let clock: SharedClock = Arc::new(SystemClock);
        let path = &facts.password_file;
        let password =
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (mut people, mut sites, mut authorization) = (Vec::new(), BTreeMap::new(), None);
        let mut counted_for = String::new();
        for facts in &facts.tenants {
            let tenant = tenant(&facts.settings)?;
            registry
                .put_tenant(&tenant)
                .await
                .map_err(|error| error.to_string())?;
            people.push((
                tenant.id.clone(),
                enrol(&registry, &clock, &tenant.id, &facts.people).await?,
            ));
            let SourceConnection::SharePoint(source) = &tenant.source;
            let site = source
                .sites
                .first()
                .ok_or_else(|| format!("{} has no site", tenant.id))?;
            sites.insert(tenant.id.clone(), site.as_str().trim_end_matches('/').to_owned());
            let MailboxConnection::Ews { credentials, .. } = &tenant.mailbox;
            authorization = Some(basic(credentials, &password)?);
            counted_for = account(&tenant.id, credentials);
        }
        let connector =
            ServerConnector::new(&settings, Arc::clone(&clock)).map_err(|error| error.to_string())?;
        let connector = Arc::new(connector);
        let tenants = Tenants::new(
            registry.clone(),
            Arc::clone(&connector) as Arc<dyn TenantConnector>,
            Arc::clone(&clock),
            100,
            Duration::from_secs(10),
        );
        let engine = SyncEngine::new(
            registry.clone(),
            Arc::new(tenants),
            clock,
            SyncSettings::new(&settings.worker, &settings.guard),
        );
        Ok(Self {
            setting,
            engine,
            registry,
            outbound: settings.outbound,
            people,
            sites,
            exchange: facts.ews,
            authorization: authorization.ok_or("the farm has no tenant")?,
            connector,
            account: counted_for,
            _farm: farm,
            _output: output,
            _folder: folder,
        })
    }

    /// Returns the number of requests sent so far: to Exchange, to SharePoint.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let servers = self.connector.servers();
        let sent = |url: &Url, kind| servers.limits_of(url, kind, &self.account).counts().requests;
        // All sites are on one server.
        let sharepoint = self
            .sites
            .values()
            .next()
            .and_then(|site| Url::parse(site).ok())
            .map_or(0, |site| sent(&site, Server::SharePoint));
        (sent(&self.exchange, Server::Ews), sharepoint)
    }

    /// Returns a client with the settings of tasksync's own, without its checks of addresses.
    pub(crate) fn bare_client(&self) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(self.outbound.requests_per_server)
            .tcp_nodelay(true)
            .http1_only();
        if let Some(path) = &self.outbound.authorities {
            let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            for certificate in
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?
            {
                builder = builder.add_root_certificate(certificate);
            }
        }
        builder.build().map_err(|error| error.to_string())
    }
}

/// Starts the servers as a child process that ends when its handle is dropped.
async fn simulate(setting: Setting, folder: PathBuf) -> Result<(Child, Output, Facts), String> {
    let executable = match std::env::var_os("TASKSYNC_LOADTEST") {
        Some(path) => PathBuf::from(path),
        // Benchmarks are built into `deps`, programs beside it.
        None => std::env::current_exe()
            .ok()
            .and_then(|path| Some(path.parent()?.parent()?.join("tasksync-loadtest")))
            .ok_or("TASKSYNC_LOADTEST must name the tasksync-loadtest executable")?,
    };
    let mut command = Command::new(&executable);
    command
        .arg("simulate")
        .args(["--tenants", &TENANTS.to_string()])
        .args(["--users", &USERS.to_string()])
        .args(["--lists", "2", "--seed", "1"])
        .args(["--tasks", &TASKS.to_string()])
        .arg("--folder")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if !setting.tls {
        command.arg("--plain-http");
    }
    if !setting.delegate {
        command.arg("--impersonation");
    }
    let mut child = command.spawn().map_err(|error| {
        format!(
            "{} (build it, or set TASKSYNC_LOADTEST): {error}",
            executable.display()
        )
    })?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut text = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
            text += &line;
            if line == "}" {
                return Ok(());
            }
        }
        Err("the simulated servers ended before they were up".to_owned())
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .map_err(|_| "the simulated servers are not up in time".to_owned())??;
    let facts = serde_json::from_str(&text).map_err(|error| format!("the servers' addresses: {error}"))?;
    Ok((child, lines, facts))
}

fn basic(credentials: &Credentials, password: &str) -> Result<String, String> {
    let Credentials::Basic { user, .. } = credentials else {
        return Err("the farm's account has no password".to_owned());
    };
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Ok(format!("Basic {text}"))
}

fn tenant(path: &Path) -> Result<Tenant, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    toml::from_str(&text).map_err(|error| named(error.to_string()))
}

async fn enrol(
    registry: &SqlRegistry,
    clock: &SharedClock,
    tenant: &TenantId,
    people: &[PersonFacts],
) -> Result<Vec<UserId>, String> {
    let mut users = Vec::with_capacity(people.len());
    for person in people {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", person.user);
        let user: UserId = person.user.parse().map_err(|error| wrong(&error))?;
        let enrolment = Enrolment {
            key: UserKey::new(tenant.clone(), user.clone()),
            source_login: person.source_login.clone(),
            mailbox: person.mailbox.parse().map_err(|error| wrong(&error))?,
            time_zone: Some(person.time_zone.clone()),
            opted_in_at: clock.now(),
            state: EnrolmentState::Enabled,
        };
        match registry.enrol(&enrolment).await.map_err(|error| wrong(&error))? {
            EnrolmentResult::Added => users.push(user),
            EnrolmentResult::Updated | EnrolmentResult::MailboxTaken(_) | EnrolmentResult::LoginTaken(_) => {
                return Err(wrong(&"is there twice"));
            }
        }
    }
    Ok(users)
}
