//! `tasksync-loadtest simulate`: runs both servers until Ctrl-C, and writes files that connect tenants to them.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tasksync_loadtest::population::{PopulationSpec, Tenant};
use tasksync_loadtest::random::unique_id;
use tasksync_loadtest::trial::{Farm, FarmIdentity, FarmSpec, TenantPlan, secrets_folder, write_file};

use super::signals::Signals;

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Number of tenants.
    #[arg(long, default_value_t = 2)]
    tenants: usize,
    /// People of each tenant.
    #[arg(long, default_value_t = 5)]
    users: usize,
    /// Task lists of each tenant.
    #[arg(long, default_value_t = 2)]
    lists: usize,
    /// Tasks of each person, on average.
    #[arg(long, default_value_t = 5.0)]
    tasks: f64,
    /// Same seed, same people and tasks.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Speak plain HTTP instead of HTTPS.
    #[arg(long)]
    plain_http: bool,
    /// Only impersonation, no delegate access to mailboxes.
    #[arg(long)]
    impersonation: bool,
    /// Folder for the certificate, the password, tasksync's settings and token, and two files for each tenant.
    #[arg(long, default_value = "simulation")]
    folder: PathBuf,
}

/// The name of the file with ports, certificates and key, which the next start uses again.
const SERVERS: &str = "servers.json";
/// Permissions of files that only their owner may read.
const PRIVATE: u32 = 0o600;

pub(crate) async fn run(arguments: SimulateArguments) -> Result<ExitCode, String> {
    let mut signals = Signals::new()?;
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let kept = read_identity(&folder)?;
    let farm = Farm::start(FarmSpec {
        population: PopulationSpec {
            tenants: arguments.tenants,
            users_per_tenant: arguments.users,
            lists_per_tenant: arguments.lists,
            tasks_per_user: arguments.tasks,
            seed: arguments.seed,
            ..PopulationSpec::default()
        },
        tls: !arguments.plain_http,
        plan: if arguments.impersonation {
            TenantPlan::Impersonation
        } else {
            TenantPlan::Delegate
        },
        identity: kept.clone(),
        ..FarmSpec::default()
    })
    .await
    .map_err(|error| {
        format!(
            "{error}. If another simulation uses {}, end it; otherwise delete {} to use other ports",
            folder.display(),
            folder.join(SERVERS).display()
        )
    })?;
    let mut identity = farm.identity();
    // Plain HTTP leaves the certificates for a later start with TLS.
    identity.tls = identity.tls.or(kept.and_then(|kept| kept.tls));
    let identity = serde_json::to_string_pretty(&identity).map_err(|error| error.to_string())?;
    write_file(&folder.join(SERVERS), &identity, PRIVATE)?;
    let (authority, password) = farm.write_secrets(&folder)?;
    let settings = folder.join("settings.toml");
    write_once(&settings, || settings_of(&folder, authority.as_deref()))?;
    let token = folder.join("token");
    write_once(&token, || format!("{}\n", unique_id().simple()))?;
    let mut tenants = Vec::new();
    for tenant in &farm.population.tenants {
        let path = folder.join(format!("{}.toml", tenant.slug));
        let mut settings = farm.tenant_settings(tenant, &password);
        if let (Some(person), Some(members)) = (tenant.people.first(), settings.as_object_mut()) {
            let test = json!({ "mailbox": person.smtp, "source_login": person.login });
            members.insert("test".to_owned(), test);
        }
        let settings = toml::to_string(&settings).map_err(|error| error.to_string())?;
        write_file(&path, &settings, 0o644)?;
        let csv = folder.join(format!("{}.csv", tenant.slug));
        write_file(&csv, &people_of(tenant), 0o644)?;
        let people: Vec<_> = tenant
            .people
            .iter()
            .map(|person| json!({ "user": Farm::user_name(person), "source_login": person.login, "mailbox": person.smtp, "time_zone": person.time_zone }))
            .collect();
        tenants.push(
            json!({ "id": tenant.slug, "settings": path, "site": farm.site_url(tenant), "people": people }),
        );
    }
    let facts = json!({
        "ews": farm.ews_url(), "authority": authority, "password_file": password, "settings": settings,
        "token_file": token, "tenants": tenants,
    });
    print(&format!("{facts:#}"));
    print("The simulated servers run until Ctrl-C. Their tasks are new at each start. In another terminal:");
    for step in steps(&folder, &farm.population.tenants) {
        print(&format!("  {step}"));
    }
    signals.next().await;
    farm.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Returns the commands that lead to the first synced person.
fn steps(folder: &Path, tenants: &[Tenant]) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut steps = vec![
        format!("export TASKSYNC_TOKEN_FILE={}", file("token")),
        format!("tasksync standalone --config {} &", file("settings.toml")),
    ];
    if let Some(tenant) = tenants.first() {
        let slug = &tenant.slug;
        steps.push(format!("tasksync tenant add {}", file(&format!("{slug}.toml"))));
        steps.push(format!(
            "tasksync user opt-in {slug} --file {}",
            file(&format!("{slug}.csv"))
        ));
    }
    steps.push("tasksync status".to_owned());
    steps
}

/// Returns the ports and certificates of the folder's last start, if there was one.
fn read_identity(folder: &Path) -> Result<Option<FarmIdentity>, String> {
    let path = folder.join(SERVERS);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
            format!(
                "{}: {error}. Delete the file to get new ports and certificates",
                path.display()
            )
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Returns tasksync's settings for these servers.
fn settings_of(folder: &Path, authority: Option<&Path>) -> String {
    let trust = match authority {
        Some(path) => format!("authorities = \"{}\"", path.display()),
        None => "allow_plain_http = true".to_owned(),
    };
    format!(
        "# tasksync between the simulated servers of this folder. This file is written once and may be changed.\n\
         [registry]\nurl = \"sqlite:{}\"\n\n[secrets]\nfolder = \"{}\"\n\n\
         [outbound]\nallowed_networks = [\"127.0.0.0/8\"]\n{trust}\n",
        folder.join("tasksync.sqlite").display(),
        secrets_folder(folder).display()
    )
}

/// Returns a tenant's people in the columns that `tasksync user opt-in --file` reads.
fn people_of(tenant: &Tenant) -> String {
    let lines = tenant.people.iter().map(|person| {
        format!(
            "{},{},{},{}\n",
            Farm::user_name(person),
            person.login,
            person.smtp,
            person.time_zone
        )
    });
    std::iter::once("user,source_login,mailbox,time_zone\n".to_owned())
        .chain(lines)
        .collect()
}

/// Writes a private file unless it exists already.
fn write_once(path: &Path, text: impl FnOnce() -> String) -> Result<(), String> {
    if path.exists() {
        Ok(())
    } else {
        write_file(path, &text(), PRIVATE)
    }
}

/// Prints one line of the command's output. The reader may have closed the pipe; that is no error.
fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
