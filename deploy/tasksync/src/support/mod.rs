//! `tasksync support-bundle`: one archive for a helper.
//!
//! It holds no secret and no content of a task, and people's names only if they are asked for. Every part that could
//! not be had is named in it.

mod archive;
mod names;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use tasksync_common::clock::{Clock as _, SystemClock};
use tasksync_common::settings::{self, LoadedSettings};

use self::archive::BundleFile;
use self::names::{KnownNames, Privacy};
use crate::cli::Config;
use crate::client::{ApiClient, pretty};
use crate::exit::{self, CommandEnd, CommandError};
use crate::new_file::NewFile;
use crate::{commands, effective, service, show, token};

/// Most tenants whose settings are in the bundle.
const TENANTS: usize = 100;
/// Most people whose names are looked for in text. With more, free text is left out.
const PEOPLE: usize = 20_000;

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync support-bundle --config settings.toml
  tasksync support-bundle --tenant contoso contoso.tar.gz

Look through the archive before you send it: tar -xzf FILE")]
pub(crate) struct SupportBundleArguments {
    #[command(flatten)]
    config: Config,
    /// The archive to write; without a name, `tasksync-support-TIME.tar.gz` in this folder. Only its owner may read it.
    file: Option<PathBuf>,
    /// Only this tenant, beside the installation itself.
    #[arg(long)]
    tenant: Option<String>,
    /// Keep people's names. Without it, numbers stand for them.
    #[arg(long)]
    with_names: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    overwrite: bool,
}

/// The parts of a bundle, and why others are not in it.
#[derive(Default)]
struct Parts {
    files: Vec<BundleFile>,
    problems: Vec<String>,
}

impl Parts {
    fn add(&mut self, name: &'static str, meaning: &'static str, text: String) {
        self.files.push(BundleFile { name, meaning, text });
    }

    /// Adds a part, or why there is none.
    fn add_result(&mut self, name: &'static str, meaning: &'static str, text: Result<String, String>) {
        match text {
            Ok(text) => self.add(name, meaning, text),
            Err(problem) => self.problems.push(format!("{name}: {problem}")),
        }
    }
}

/// Gathers everything and writes the archive.
///
/// # Errors
/// The archive cannot be written.
pub(crate) async fn run(
    url: &str,
    arguments: &SupportBundleArguments,
    json: bool,
) -> Result<CommandEnd, CommandError> {
    let now = SystemClock.now();
    let folder = format!("tasksync-support-{}", now.strftime("%Y%m%d-%H%M%S"));
    let target = arguments
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    // First, so that nothing is gathered in vain.
    let file = NewFile::beside(&target, arguments.overwrite)?;

    let mut parts = Parts::default();
    let loaded = settings::load(arguments.config.config.as_deref(), token::environment());
    add_local(&mut parts, loaded.as_ref().map_err(ToString::to_string)).await?;
    match ApiClient::new(url, false) {
        Ok(client) => add_remote(&mut parts, &client, arguments).await,
        Err(error) => parts.problems.push(format!("the service was not asked: {error}")),
    }
    parts.files.insert(0, readme(now, url, arguments, &parts));
    archive::write(file, &folder, &parts.files)?;
    print(&target, &parts, json)?;
    Ok(if parts.problems.is_empty() {
        CommandEnd::Success
    } else {
        CommandEnd::BadAnswer
    })
}

/// Adds what this machine knows: versions, settings, and what the process here answers to probes.
async fn add_local(parts: &mut Parts, loaded: Result<&LoadedSettings, String>) -> Result<(), CommandError> {
    let versions = json!({
        "tasksync": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
    });
    parts.add(
        "versions.json",
        "of this command and this machine",
        pretty(&versions),
    );
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problem) => {
            parts
                .problems
                .push(format!("settings.txt, readiness.json, metrics.txt: {problem}"));
            return Ok(());
        }
    };
    let shown = effective::text(&loaded.effective());
    parts.add(
        "settings.txt",
        "the settings that this command read, with their origin",
        shown,
    );
    for (name, path, meaning) in [
        (
            "readiness.json",
            "readyz",
            "what the process on this machine still needs",
        ),
        (
            "metrics.txt",
            "metrics",
            "the metrics of the process on this machine",
        ),
    ] {
        let answer = service::ask_local(&loaded.settings, path).await?;
        parts.add_result(name, meaning, answer.map(|(_, text)| text));
    }
    Ok(())
}

/// Adds what the service answers.
async fn add_remote(parts: &mut Parts, client: &ApiClient, arguments: &SupportBundleArguments) {
    let tenant = arguments.tenant.as_deref();
    let tenants = tenants(client, tenant).await;
    let mut privacy = if arguments.with_names {
        Privacy::WithNames
    } else {
        without_names(client, tenants.as_ref().ok()).await
    };
    let query = commands::tenant_query(tenant);
    let mut add = |parts: &mut Parts, name, meaning, answer: Result<Value, CommandError>| {
        let answer = answer.map(|answer| privacy.cleaned(answer));
        let text = answer.as_ref().map(pretty);
        parts.add_result(
            name,
            meaning,
            text.map_err(|error| privacy.cleaned_text(&error.to_string())),
        );
        answer.ok()
    };
    let status = client.get(&["status"], &query).await;
    add(
        parts,
        "status.json",
        "status of the installation, its processes and stores",
        status,
    );
    let doctor = client.get(&["doctor"], &query).await;
    if let Some(doctor) = add(parts, "doctor.json", "what the doctor found", doctor) {
        parts.add("doctor.txt", "the same, to be read", show::doctor(&doctor));
    }
    let errors = client.get(&["alerts", "causes"], &query).await;
    add(
        parts,
        "errors.json",
        "the open alerts by code: how many, first, last, one example",
        errors,
    );
    if tenant.is_none() {
        let slow = client.get(&["status", "tenants"], &[]).await;
        add(
            parts,
            "slow-tenants.json",
            "the tenants that take most time or fail most",
            slow,
        );
        let letters = client.get(&["dead-letters"], &[("limit", "500")]).await;
        add(
            parts,
            "dead-letters.json",
            "the jobs that workers gave up on, with the reason",
            letters,
        );
    }
    let installation = client.get(&["installation"], &[]).await;
    add(
        parts,
        "installation.json",
        "id and number of people",
        installation,
    );
    let tenants = tenants.map(|tenants| json!({ "tenants": tenants }));
    add(
        parts,
        "tenants.json",
        "the tenants' settings; secrets are only named",
        tenants,
    );
}

/// Returns the settings of the tenant, or of the first [`TENANTS`].
async fn tenants(client: &ApiClient, tenant: Option<&str>) -> Result<Vec<Value>, CommandError> {
    if let Some(tenant) = tenant {
        return Ok(vec![client.get(&["tenants", tenant], &[]).await?]);
    }
    let answer = client
        .get(&["tenants"], &[("limit", &TENANTS.to_string())])
        .await?;
    let mut tenants = show::entries(&answer, "tenants").to_vec();
    if answer.get("next").is_some_and(Value::is_string) {
        tenants.push(json!({ "more": "further tenants are left out; --tenant TENANT shows any" }));
    }
    Ok(tenants)
}

/// Returns how names are replaced, from the people and the accounts of these tenants.
async fn without_names(client: &ApiClient, tenants: Option<&Vec<Value>>) -> Privacy {
    let mut names = KnownNames::default();
    let all_known = learn_people(client, tenants, &mut names).await.is_some();
    // Later, so that a person whose name is an account's stays a person.
    for tenant in tenants.into_iter().flatten() {
        names.learn_accounts(tenant);
    }
    Privacy::without_names(names, all_known)
}

/// Returns `None` if not all people could be learned.
async fn learn_people(
    client: &ApiClient,
    tenants: Option<&Vec<Value>>,
    names: &mut KnownNames,
) -> Option<()> {
    let mut room = PEOPLE;
    for tenant in tenants? {
        let id = tenant.get("id").and_then(Value::as_str)?;
        let path = ["tenants", id, "users"];
        let users = commands::fetch_entries(client, &path, "users", room)
            .await
            .ok()??;
        room -= users.len();
        for user in &users {
            names.learn_person(user);
        }
    }
    Some(())
}

/// Returns the page that explains the bundle.
fn readme(now: Timestamp, url: &str, arguments: &SupportBundleArguments, parts: &Parts) -> BundleFile {
    let mut text = format!(
        "Support bundle of tasksync {}, made at {now} by `tasksync support-bundle` from {}.\n\n\
         It holds no password, token, key or certificate: secrets are masked, or only named. It holds no title, text or \
         value of a task.\n{}\n\
         Names of tenants, servers, sites and lists are in it. Look through the files before you send them.\n\nFiles:\n",
        env!("CARGO_PKG_VERSION"),
        settings::without_password(url),
        if arguments.with_names {
            "People's names are in it, as --with-names asked for."
        } else {
            "Numbers stand for people (person-1) and for service accounts (account-1): one number for each, in this bundle \
             only. A name of one or two characters, or of digits alone, is replaced only where a field holds nothing else. \
             Text that may name people is left out if there are more than 100 tenants or 20,000 people; --tenant TENANT makes \
             a smaller bundle, and --with-names keeps all text."
        },
    );
    for file in &parts.files {
        let _ = writeln!(text, "- {}: {}", file.name, file.meaning);
    }
    if !parts.problems.is_empty() {
        text.push_str("\nMissing:\n");
        for problem in &parts.problems {
            let _ = writeln!(text, "- {problem}");
        }
    }
    BundleFile {
        name: "README.txt",
        meaning: "this page",
        text,
    }
}

fn print(target: &std::path::Path, parts: &Parts, json: bool) -> Result<CommandEnd, CommandError> {
    if json {
        let files: Vec<Value> = parts
            .files
            .iter()
            .map(|file| json!({ "name": file.name, "bytes": file.text.len() }))
            .collect();
        return exit::print(&pretty(
            &json!({ "file": target, "files": files, "missing": parts.problems }),
        ));
    }
    let mut text = String::new();
    for file in &parts.files {
        let _ = writeln!(text, "  {:<20}{}", file.name, file.meaning);
    }
    for problem in &parts.problems {
        let _ = writeln!(text, "  missing: {problem}");
    }
    let _ = writeln!(
        text,
        "{} is written. Look through it before you send it: tar -xzf {}",
        target.display(),
        target.display()
    );
    exit::print(&text)
}
