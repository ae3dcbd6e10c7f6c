//! `tasksync init`: from an empty folder to a service with its first tenant, tested at both ends. It can be run again:
//! what is there stays, and what would change is shown first.

mod files;
mod first_tenant;
mod local_service;
mod questions;
mod settings_text;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use serde_json::{Value, json};
use tasksync_common::random::unique_id;
use tasksync_common::registry::{MailboxConnection, SourceConnection, Tenant, sqlite_url};
use tasksync_common::settings::{self, ApiSettings, SettingOrigin, Settings};
use tasksync_common::shell::shell_word;
use tasksync_worker::http::{AddressRefusal, AddressRules};
use url::Url;

use self::files::PlannedFile;
use self::first_tenant::{FirstTenant, first_tenant, plan_tenant};
use self::local_service::LocalService;
use self::questions::{Respondent, Terminal};
use self::settings_text::WantedSetting;
use crate::cli::{ApiCommand, UserCommand};
use crate::client::{ApiClient, pretty};
use crate::exit::{self, CommandEnd, CommandError, print};
use crate::signals::Interrupts;
use crate::tenants::{self, StoreSteps};
use crate::{commands, confirm, service, token};

/// How long the first sync of a person may take.
const FIRST_SYNC: Duration = Duration::from_mins(2);

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync init                                   # in a terminal: asks for everything
  tasksync init --folder /etc/tasksync            # the same, with the files in another folder
  tasksync init --tenant contoso --time-zone Europe/Berlin --site https://sp.contoso.example/sites/projects --ews-url https://mail.contoso.example/EWS/Exchange.asmx --account 'contoso\\svc-tasksync' --password-file password.txt
  tasksync init --person ana --mailbox ana@contoso.example --source-login 'i:0#.w|contoso\\ana'   # asks for the rest
  tasksync init --tenant-file fabrikam.toml       # Exchange Online, certificates: a tenant file of yours")]
pub(crate) struct InitArguments {
    /// Folder of the files: settings.toml, token, secrets/, and a file for the tenant.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Address of the API (`api.listen`).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the probes (`health.listen`).
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// A private network that tasksync may connect to, beside the addresses of the servers that are named here
    /// (`outbound.allowed_networks`).
    #[arg(long, value_name = "NETWORK")]
    allow_network: Vec<String>,
    /// PEM file of a private authority that issued the servers' certificates (`outbound.authorities`).
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Connect the tenant of this file, instead of asking for its facts.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "name", "time_zone", "site", "ews_url", "account", "password_file"])]
    tenant_file: Option<PathBuf>,
    /// Short name of the tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Name of the tenant for people; its short name without one.
    #[arg(long)]
    name: Option<String>,
    /// Time zone of the tenant's people, an IANA name. Dates of tasks depend on it.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Address of a SharePoint site; may be given several times.
    #[arg(long, value_name = "URL")]
    site: Vec<String>,
    /// Address of Exchange's EWS.
    #[arg(long, value_name = "URL")]
    ews_url: Option<String>,
    /// The service account at both.
    #[arg(long, value_name = "USER")]
    account: Option<String>,
    /// File with the account's password; `-` reads standard input. In a terminal, the command asks without one.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Opt this person in, and wait for the first sync.
    #[arg(long, value_name = "USER", requires_all = ["mailbox", "source_login"])]
    person: Option<String>,
    /// Mailbox of a person by whom Exchange is tested.
    #[arg(long, value_name = "ADDRESS")]
    mailbox: Option<String>,
    /// That person's sign-in name at SharePoint.
    #[arg(long, value_name = "LOGIN")]
    source_login: Option<String>,
    /// Change files that are there, without asking.
    #[arg(long)]
    yes: bool,
}

/// Runs the command. With `json`, each step prints one document.
///
/// # Errors
/// A fact is missing or refused; a file cannot be written; the service does not start; a test fails.
pub(crate) async fn run(arguments: InitArguments, json: bool) -> Result<CommandEnd, CommandError> {
    let folder = std::path::absolute(&arguments.folder)
        .map_err(|error| CommandError::settings(format!("--folder: {error}")))?;
    let settings_file = folder.join("settings.toml");
    let token_file = folder.join("token");
    let present = files::read(&settings_file)?;
    let mut terminal = if json { None } else { Terminal::find() };
    let mut first = first_tenant(
        &arguments,
        &folder,
        terminal.as_mut().map(|terminal| terminal as &mut dyn Respondent),
    )?;
    let (text, changes, settings) = new_settings(&arguments, &folder, present.as_deref(), first.as_ref())?;
    let mut planned = vec![
        PlannedFile::folder(folder.clone()),
        PlannedFile::text(settings_file.clone(), present.as_deref(), text, changes),
        PlannedFile::kept_secret(token_file.clone(), new_token),
        PlannedFile::folder(settings.secrets.folder.clone()),
    ];
    if let Some(first) = &mut first {
        plan_tenant(first, &settings, &mut planned)?;
    }
    write_files(&planned, arguments.yes, json)?;

    // From here on a signal ends the service that this command started, too.
    let mut interrupts = Interrupts::listen()?;
    let service = tokio::select! {
        found = LocalService::find_or_start(&settings, &settings_file, &token_file) => found?,
        () = interrupts.wait() => return Err(with_next_try(interrupted())),
    };
    if matches!(service, LocalService::Running) && planned.iter().take(3).any(PlannedFile::replaces) {
        exit::note("a service runs with the earlier settings; start it again, so that it reads the new ones");
    }
    let working = async {
        let url = format!("http://{}", service::reachable(settings.api.listen));
        let client = ApiClient::with_token(&url, token::from_file(&token_file)?, json)?;
        service.check_token(&settings, &client, &token_file).await?;
        connect(&arguments, &client, first.as_ref()).await
    };
    let worked = tokio::select! {
        worked = Box::pin(working) => worked,
        () = interrupts.wait() => Err(interrupted()),
    };
    let was_running = matches!(service, LocalService::Running);
    service.end().await;
    let end = worked.map_err(with_next_try)?;
    if !json {
        print(&next_steps(
            &settings_file,
            &token_file,
            settings.api.listen,
            first.as_ref(),
            was_running,
            arguments.person.is_some(),
        ))?;
    }
    Ok(end)
}

fn new_token() -> SecretString {
    format!("{}{}\n", unique_id().simple(), unique_id().simple()).into()
}

/// Returns the text of the settings file, what differs from the present one, and the settings that it leads to.
fn new_settings(
    arguments: &InitArguments,
    folder: &Path,
    present: Option<&str>,
    first: Option<&FirstTenant>,
) -> Result<(String, Vec<String>, Settings), CommandError> {
    let file = folder.join("settings.toml");
    let refused = |problem: String| CommandError::settings(format!("{}: {problem}", file.display()));
    let text = |path: &Path| toml_edit::Value::from(path.display().to_string());
    let wanted = |section, key, value: toml_edit::Value, asked| WantedSetting {
        section,
        key,
        value,
        asked,
    };
    let mut all = vec![
        wanted(
            "registry",
            "url",
            sqlite_url(&folder.join("tasksync.sqlite")).into(),
            false,
        ),
        wanted("secrets", "folder", text(&folder.join("secrets")), false),
    ];
    if let Some(listen) = arguments.listen {
        all.push(wanted("api", "listen", listen.to_string().into(), true));
    }
    if let Some(listen) = arguments.health_listen {
        all.push(wanted("health", "listen", listen.to_string().into(), true));
    }
    if let Some(path) = &arguments.authorities {
        let path = std::path::absolute(path)
            .map_err(|error| CommandError::settings(format!("--authorities: {error}")))?;
        all.push(wanted("outbound", "authorities", text(&path), true));
    }
    let load = |text: &str| {
        settings::parse(text, &file.display().to_string(), token::environment())
            .map_err(|error| CommandError::settings(error.to_string()))
    };
    let (drafted, _) = settings_text::apply(present, &all).map_err(refused)?;
    let draft = load(&drafted)?.settings.outbound;
    let mut networks = draft.allowed_networks.clone();
    for network in &arguments.allow_network {
        if !networks.contains(network) {
            networks.push(network.clone());
        }
    }
    if let Some(first) = first {
        for url in servers(&first.tenant) {
            networks.extend(addresses_to_allow(&url, &networks, draft.allow_plain_http)?);
        }
    }
    if networks != draft.allowed_networks {
        let list: toml_edit::Array = networks.iter().map(String::as_str).collect();
        all.push(wanted("outbound", "allowed_networks", list.into(), true));
    }
    let (text, changes) = settings_text::apply(present, &all).map_err(refused)?;
    let loaded = load(&text)?;
    for warning in &loaded.warnings {
        exit::note(&format!("warning: {warning}"));
    }
    for setting in loaded.effective() {
        let is_written = all
            .iter()
            .any(|one| format!("{}.{}", one.section, one.key) == setting.key);
        if let (true, SettingOrigin::Variable(name)) = (is_written, &setting.origin) {
            exit::note(&format!(
                "warning: the variable {name} is set and wins over {} in {}",
                setting.key,
                file.display()
            ));
        }
    }
    Ok((text, changes, loaded.settings))
}

/// Returns the addresses of the tenant's servers.
fn servers(tenant: &Tenant) -> Vec<Url> {
    let SourceConnection::SharePoint(sharepoint) = &tenant.source;
    let MailboxConnection::Ews { url, .. } = &tenant.mailbox;
    sharepoint.sites.iter().cloned().chain([url.clone()]).collect()
}

/// Returns the private addresses of a server that the operator named and that no network allows yet. This machine's
/// own addresses are not among them: only the operator allows those.
fn addresses_to_allow(
    url: &Url,
    networks: &[String],
    allow_plain_http: bool,
) -> Result<Vec<String>, CommandError> {
    let rules = AddressRules::new(networks, allow_plain_http)
        .map_err(|error| CommandError::settings(format!("--allow-network: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // A name that cannot be resolved is a finding of the test that follows.
    let addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut wanted: Vec<String> = addresses
        .into_iter()
        .filter_map(|address| match rules.judge(address) {
            Err(AddressRefusal::Special { address, .. }) if !address.is_loopback() => Some(address),
            Err(AddressRefusal::Special { .. } | AddressRefusal::Metadata) | Ok(()) => None,
        })
        .map(|address| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
        .collect();
    wanted.dedup();
    Ok(wanted)
}

/// Shows the plan, asks before anything that is there changes, and carries it out.
fn write_files(planned: &[PlannedFile], yes: bool, json: bool) -> Result<(), CommandError> {
    if json {
        let files: Vec<Value> = planned.iter().map(PlannedFile::json).collect();
        print(&pretty(&json!({ "files": files })))?;
    } else {
        print(&planned.iter().map(PlannedFile::lines).collect::<String>())?;
    }
    if !yes
        && planned.iter().any(PlannedFile::replaces)
        && !confirm::person_agrees("Change the files as shown?")?
    {
        return Err(CommandError::settings("nothing was changed"));
    }
    planned.iter().try_for_each(PlannedFile::carry_out)?;
    for remark in planned.iter().filter_map(PlannedFile::remark) {
        exit::note(&format!("warning: {remark}"));
    }
    Ok(())
}

/// Connects the tenant, opts the person in, and lets the doctor look.
async fn connect(
    arguments: &InitArguments,
    client: &ApiClient,
    first: Option<&FirstTenant>,
) -> Result<CommandEnd, CommandError> {
    let Some(first) = first else {
        return commands::run(client, ApiCommand::Doctor { tenant: None }).await;
    };
    let steps = StoreSteps {
        test: true,
        ask: false,
        store: true,
    };
    tenants::store(client, &first.tenant, steps).await?;
    let tenant = first.tenant.id.to_string();
    if let (Some(user), Some(mailbox), Some(source_login)) =
        (&arguments.person, &arguments.mailbox, &arguments.source_login)
    {
        let opt_in = UserCommand::OptIn {
            tenant: tenant.clone(),
            user: Some(user.clone()),
            source_login: Some(source_login.clone()),
            mailbox: Some(mailbox.clone()),
            time_zone: None,
            unchecked: false,
            file: None,
        };
        commands::run(client, ApiCommand::User(opt_in)).await?;
        let sync = ApiCommand::SyncNow {
            tenant: tenant.clone(),
            user: user.clone(),
            wait: Some(FIRST_SYNC),
        };
        if commands::run(client, sync).await? != CommandEnd::Success {
            return Ok(CommandEnd::BadAnswer);
        }
    }
    commands::run(client, ApiCommand::Doctor { tenant: Some(tenant) }).await
}

fn interrupted() -> CommandError {
    CommandError::settings("ended by a signal")
}

/// Adds to an error that the command can be run again.
fn with_next_try(stop: CommandError) -> CommandError {
    const AGAIN: &str = "\n  The files stay as they are. Correct what is named and run the command again; \
        it goes on from there. Options that change what it wrote: --allow-network, --authorities, --password-file and those of \
        the tenant's facts.";
    match stop {
        CommandError::Answer(text) => CommandError::Answer(text + AGAIN),
        CommandError::Settings(text) => CommandError::Settings(text + AGAIN),
        CommandError::Unreachable(text) => CommandError::Unreachable(text + AGAIN),
    }
}

/// Returns the commands that follow.
fn next_steps(
    settings: &Path,
    token: &Path,
    listen: SocketAddr,
    first: Option<&FirstTenant>,
    was_running: bool,
    has_person: bool,
) -> String {
    let mut text = "\nNext:\n".to_owned();
    let mut add = |line: &str| {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    };
    add(&format!("export TASKSYNC_TOKEN_FILE={}", shell_word(token)));
    if listen != ApiSettings::default().listen {
        add(&format!(
            "export TASKSYNC_URL=http://{}",
            service::reachable(listen)
        ));
    }
    if !was_running {
        add(&format!(
            "tasksync standalone --config {} &",
            shell_word(settings)
        ));
    }
    match first {
        None => add("tasksync tenant add TENANT-FILE      # docs/connect.md"),
        Some(first) if !has_person => add(&format!(
            "tasksync user opt-in {} USER --source-login LOGIN --mailbox ADDRESS",
            first.tenant.id
        )),
        Some(_) => {}
    }
    add("tasksync status");
    text
}
