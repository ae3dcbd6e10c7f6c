//! `tasksync init`: from an empty folder to a service with its first tenant, tested at both ends. It can be run again:
//! what is there stays, and what would change is shown first.

mod files;
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
use tasksync_common::registry::{MailboxConnection, SourceConnection, Tenant};
use tasksync_common::settings::{self, Settings};
use tasksync_worker::http::{AddressRefusal, AddressRules};
use url::Url;

use self::files::PlannedFile;
use self::local_service::LocalService;
use self::questions::{Respondent, Terminal};
use self::settings_text::WantedSetting;
use crate::cli::{ApiCommand, UserCommand};
use crate::client::{ApiClient, pretty};
use crate::exit::{self, CommandEnd, CommandError, print};
use crate::tenants::{self, StoreSteps};
use crate::{commands, confirm, difference, service, tenant_edit, tenant_file, token};

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

/// The first tenant, and the password that its file names.
struct FirstTenant {
    tenant: Tenant,
    password: Option<SecretString>,
    /// Where the tenant's file is written; `None` for a file of the operator's own.
    file: Option<PathBuf>,
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

    let service = LocalService::find_or_start(&settings, &settings_file, &token_file).await?;
    if matches!(service, LocalService::Running) && planned.iter().take(3).any(PlannedFile::replaces) {
        exit::note("a service runs with the earlier settings; start it again, so that it reads the new ones");
    }
    let worked = Box::pin(connect(&arguments, &settings, &token_file, first.as_ref(), json)).await;
    let was_running = matches!(service, LocalService::Running);
    service.end().await;
    let end = worked.map_err(with_next_try)?;
    if !json {
        print(&next_steps(
            &settings_file,
            &token_file,
            first.as_ref(),
            was_running,
            arguments.person.is_some(),
        ))?;
    }
    Ok(end)
}

/// Returns the tenant that the arguments and the person describe; `None` if there is none to connect.
fn first_tenant(
    arguments: &InitArguments,
    folder: &Path,
    mut person: Option<&mut dyn Respondent>,
) -> Result<Option<FirstTenant>, CommandError> {
    if let Some(file) = &arguments.tenant_file {
        let tenant = tenant_file::read(file)?;
        return Ok(Some(FirstTenant {
            tenant: with_test_person(tenant, arguments)?,
            password: None,
            file: None,
        }));
    }
    let given = [
        arguments.tenant.clone(),
        arguments.name.clone(),
        arguments.time_zone.clone(),
        (!arguments.site.is_empty()).then(|| arguments.site.join(" ")),
        arguments.ews_url.clone(),
        arguments.account.clone(),
        arguments.mailbox.clone(),
        arguments.source_login.clone(),
    ];
    if given.iter().all(Option::is_none) {
        let Some(person) = &mut person else {
            return Ok(None);
        };
        let answer = person.ask("Connect a tenant now (its SharePoint and Exchange)? [Y/n] ")?;
        if matches!(answer.to_lowercase().as_str(), "n" | "no") {
            return Ok(None);
        }
    }
    let facts = questions::complete(given, &mut person)?;
    let [id, name, zone, sites, ews, account, mailbox, login] = facts;
    let file = folder.join(format!("{id}.toml"));
    let secret = format!("file:{id}");
    let credentials = json!({ "kind": "basic", "user": account, "password": secret });
    let mut document = json!({
        "id": id,
        "display_name": if name.is_empty() { &id } else { &name },
        "time_zone": zone,
        "source": { "kind": "sharepoint", "sites": sites.split_whitespace().collect::<Vec<_>>(), "credentials": credentials },
        "mailbox": { "kind": "ews", "url": ews, "credentials": credentials, "access": "auto" },
    });
    let test: serde_json::Map<String, Value> = [("mailbox", mailbox), ("source_login", login)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key.to_owned(), text.into()))
        .collect();
    if let (false, Some(fields)) = (test.is_empty(), document.as_object_mut()) {
        fields.insert("test".to_owned(), test.into());
    }
    let tenant: Tenant = serde_json::from_value(document)
        .map_err(|error| CommandError::settings(format!("the tenant's facts are refused: {error}")))?;
    let password = match (&arguments.password_file, person) {
        (Some(path), _) => Some(read_password(path)?),
        // A password that was stored before need not be given again.
        (None, _) if file.exists() => None,
        (None, Some(person)) => Some(questions::password(&account, person)?),
        (None, None) => {
            return Err(CommandError::settings(
                "missing: --password-file, the file with the account's password; - reads standard input",
            ));
        }
    };
    Ok(Some(FirstTenant {
        tenant,
        password,
        file: Some(file),
    }))
}

fn with_test_person(mut tenant: Tenant, arguments: &InitArguments) -> Result<Tenant, CommandError> {
    let mailbox = arguments.mailbox.as_deref().map(str::parse).transpose();
    let test_mailbox = mailbox.map_err(|error| CommandError::settings(format!("--mailbox: {error}")))?;
    tenants::name_test_person(
        &mut tenant,
        crate::cli::Testing {
            test_mailbox,
            test_login: arguments.source_login.clone(),
            no_test: false,
        },
    );
    Ok(tenant)
}

/// Returns the password of a file, without the line break at its end.
fn read_password(path: &Path) -> Result<SecretString, CommandError> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin().lock())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| CommandError::settings(format!("--password-file: {error}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CommandError::settings("--password-file: it is empty"));
    }
    Ok(password.to_owned().into())
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
            format!("sqlite:{}", folder.join("tasksync.sqlite").display()).into(),
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
    networks.extend(arguments.allow_network.iter().cloned());
    networks.dedup();
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

/// Adds the tenant's file and its password to the plan.
fn plan_tenant(
    first: &mut FirstTenant,
    settings: &Settings,
    planned: &mut Vec<PlannedFile>,
) -> Result<(), CommandError> {
    let Some(file) = &first.file else {
        return Ok(());
    };
    if let Some(password) = first.password.take() {
        let path = settings.secrets.folder.join(first.tenant.id.as_str());
        planned.push(PlannedFile::secret(path, password)?);
    }
    let present = files::read(file)?;
    let changes = match &present {
        None => Vec::new(),
        Some(text) => {
            let stored = tenant_file::parse(text, &format!("tenant file {}", file.display()))?;
            // What the file says beside the facts asked for here stays, such as policies.
            first.tenant.policy = stored.policy;
            first.tenant.enabled = stored.enabled;
            first.tenant.test = first.tenant.test.take().or_else(|| stored.test.clone());
            differences(&stored, &first.tenant)?
        }
    };
    let text = tenant_edit::as_file(&first.tenant)?;
    planned.push(PlannedFile::text(file.clone(), present.as_deref(), text, changes));
    Ok(())
}

fn differences(before: &Tenant, after: &Tenant) -> Result<Vec<String>, CommandError> {
    let document = |tenant: &Tenant| {
        serde_json::to_value(tenant)
            .map_err(|error| CommandError::settings(format!("the tenant cannot be compared: {error}")))
    };
    let lines = difference::text(&document(before)?, &document(after)?);
    Ok(lines.lines().map(|line| line.trim_start().to_owned()).collect())
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
    planned.iter().try_for_each(PlannedFile::carry_out)
}

/// Connects the tenant, opts the person in, and lets the doctor look.
async fn connect(
    arguments: &InitArguments,
    settings: &Settings,
    token_file: &Path,
    first: Option<&FirstTenant>,
    json: bool,
) -> Result<CommandEnd, CommandError> {
    let url = format!("http://{}", service::reachable(settings.api.listen));
    let token = token::from_file(token_file)?;
    let client = ApiClient::with_token(&url, token, json)?;
    let Some(first) = first else {
        return commands::run(&client, ApiCommand::Doctor { tenant: None }).await;
    };
    let steps = StoreSteps {
        test: true,
        ask: false,
        store: true,
    };
    tenants::store(&client, &first.tenant, steps).await?;
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
        commands::run(&client, ApiCommand::User(opt_in)).await?;
        let sync = ApiCommand::SyncNow {
            tenant: tenant.clone(),
            user: user.clone(),
            wait: Some(FIRST_SYNC),
        };
        if commands::run(&client, sync).await? != CommandEnd::Success {
            return Ok(CommandEnd::BadAnswer);
        }
    }
    commands::run(&client, ApiCommand::Doctor { tenant: Some(tenant) }).await
}

/// Adds to an error that the command can be run again.
fn with_next_try(stop: CommandError) -> CommandError {
    const AGAIN: &str = "\n  The files stay as they are. Correct what is named and run the same command again: it goes on from there.";
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
    add(&format!("export TASKSYNC_TOKEN_FILE={}", token.display()));
    if !was_running {
        add(&format!("tasksync standalone --config {} &", settings.display()));
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
