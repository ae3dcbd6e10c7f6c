//! `tasksync-loadtest simulate`: runs both servers until Ctrl-C, and writes files that connect tenants to them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::trial::{Farm, FarmSpec, TenantPlan};

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
    /// Folder for the certificate, the password and one TOML file for each tenant.
    #[arg(long, default_value = "simulation")]
    folder: PathBuf,
}

pub(crate) async fn run(arguments: SimulateArguments) -> Result<ExitCode, String> {
    let mut signals = Signals::new()?;
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("{}: {error}", folder.display()))?;
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
        ..FarmSpec::default()
    })
    .await?;
    let (authority, password) = farm.write_secrets(&folder)?;
    let mut tenants = Vec::new();
    for tenant in &farm.population.tenants {
        let path = folder.join(format!("{}.toml", tenant.slug));
        let settings =
            toml::to_string(&farm.tenant_settings(tenant, &password)).map_err(|error| error.to_string())?;
        std::fs::write(&path, settings).map_err(|error| format!("{}: {error}", path.display()))?;
        let people: Vec<_> = tenant
            .people
            .iter()
            .map(|person| json!({ "user": Farm::user_name(person), "source_login": person.login, "mailbox": person.smtp, "time_zone": person.time_zone }))
            .collect();
        tenants.push(
            json!({ "id": tenant.slug, "settings": path, "site": farm.site_url(tenant), "people": people }),
        );
    }
    let facts = json!({ "ews": farm.ews_url(), "authority": authority, "password_file": password, "tenants": tenants });
    print(&format!("{facts:#}"));
    print("The simulated servers run until Ctrl-C.");
    signals.next().await;
    farm.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints one line of the command's output. The reader may have closed the pipe; that is no error.
fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
