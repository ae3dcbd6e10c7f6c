//! Checks of an operator's own duties: backups, rights of files, encrypted stores, and settings that take a
//! protection away.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::permissions::{Audience, open_to_others};
use tasksync_common::registry::EnrolmentCounts;
use tasksync_common::settings::{
    GuardSettings, Network, OutboundSettings, Settings, StoreAddress, read_authorities,
};
use tasksync_common::x509::certificate_facts;

use super::catalogue::installation as check;
use super::{CheckResult, Definition, DoctorFinding, StoreProblem};

const SUBJECT: &str = "installation";
/// Age from which a backup is old.
const OLD_BACKUP: SignedDuration = SignedDuration::from_hours(48);
/// Time before the end of a certificate's life from which it is a warning.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Shortest useful life of journal entries: a person notices a wrong value within a week.
const SHORTEST_JOURNAL: std::time::Duration = std::time::Duration::from_hours(24 * 7);
/// Deletions of one sync that no longer are a slip.
const MANY_DELETIONS: usize = 1_000;
/// Prefix lengths below which a network is not that of some servers.
const WIDE_IPV4: u8 = 8;
const WIDE_IPV6: u8 = 16;
/// Share of disabled people, in percent, from which it is a warning.
const MANY_DISABLED: u64 = 10;

/// Judges everything that the settings and the files they name show.
pub(super) fn judge_settings(settings: &Settings, now: Timestamp) -> Vec<DoctorFinding> {
    let stores = remote_stores(settings);
    vec![
        judge_stores(
            &check::STORES_ENCRYPTED,
            &stores,
            unencrypted,
            "every store on another machine is reached over TLS",
        ),
        judge_stores(
            &check::STORES_PASSWORDS,
            &stores,
            without_own_password,
            "every store on another machine has a password",
        ),
        networks(&settings.outbound),
        guard(&settings.guard),
        journal_life(settings),
        log_filter(&settings.log.filter),
        secrets_folder(&settings.secrets.folder),
        authorities(settings, now),
    ]
}

fn finding(definition: &Definition, result: CheckResult, explanation: impl Into<String>) -> DoctorFinding {
    DoctorFinding::new(definition, SUBJECT, result, explanation)
}

fn judged(definition: &Definition, problems: &[String], well: &str) -> DoctorFinding {
    match problems.split_first() {
        None => finding(definition, CheckResult::Ok, well),
        Some((first, others)) => {
            finding(definition, CheckResult::Warning, first.clone()).with_information(others.to_vec())
        }
    }
}

/// A store on another machine.
struct RemoteStore<'s> {
    setting: &'static str,
    address: StoreAddress<'s>,
}

/// Returns the stores that are reached over a network.
fn remote_stores(settings: &Settings) -> Vec<RemoteStore<'_>> {
    [
        ("registry.url", settings.registry.url.as_str()),
        ("schedule.url", settings.schedule.url.as_str()),
        ("queue.url", settings.queue.url.as_str()),
    ]
    .into_iter()
    .filter_map(|(setting, url)| {
        let address = StoreAddress::parse(url)?;
        (!address.is_on_this_machine()).then_some(RemoteStore { setting, address })
    })
    .collect()
}

/// Judges every store on another machine by `problem_of`.
fn judge_stores(
    definition: &Definition,
    stores: &[RemoteStore<'_>],
    problem_of: impl Fn(&RemoteStore<'_>) -> Option<String>,
    well: &str,
) -> DoctorFinding {
    if stores.is_empty() {
        return finding(
            definition,
            CheckResult::NotApplicable,
            "no store is on another machine",
        );
    }
    let problems: Vec<String> = stores.iter().filter_map(problem_of).collect();
    judged(definition, &problems, well)
}

fn unencrypted(store: &RemoteStore<'_>) -> Option<String> {
    let query = store.address.query.unwrap_or_default();
    let is_plain = match store.address.scheme {
        // Without a mode, a store on another machine is reached with verify-full.
        "postgres" | "postgresql" => ["disable", "allow", "prefer"].iter().any(|mode| {
            query.contains(&format!("sslmode={mode}")) || query.contains(&format!("ssl-mode={mode}"))
        }),
        scheme => !(scheme.starts_with("rediss") || scheme == "amqps"),
    };
    is_plain.then(|| format!("{} reaches another machine without TLS", store.setting))
}

fn without_own_password(store: &RemoteStore<'_>) -> Option<String> {
    let login = store.address.login.unwrap_or_default();
    let password = login.split_once(':').map_or("", |(_, password)| password);
    let in_query = store
        .address
        .query
        .is_some_and(|query| query.contains("password="));
    if login == "guest:guest" {
        Some(format!(
            "{} uses the account that every RabbitMQ has",
            store.setting
        ))
    } else if password.is_empty() && !in_query {
        Some(format!("{} has no password", store.setting))
    } else {
        None
    }
}

fn networks(outbound: &OutboundSettings) -> DoctorFinding {
    let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
    let problems = outbound
        .allowed_networks
        .iter()
        .filter_map(|text| {
            let network: Network = text.trim().parse().ok()?;
            let length: u8 = text.trim().rsplit_once('/')?.1.parse().ok()?;
            let least = if text.contains(':') { WIDE_IPV6 } else { WIDE_IPV4 };
            if length < least {
                Some(format!(
                    "outbound.allowed_networks has {text}, which allows far more than some servers"
                ))
            } else if network.contains(loopback) {
                Some(format!(
                    "outbound.allowed_networks has {text}: tenants reach services of this machine"
                ))
            } else {
                None
            }
        })
        .collect::<Vec<_>>();
    let count = outbound.allowed_networks.len();
    judged(
        &check::OUTBOUND_NETWORKS,
        &problems,
        &format!("beside the public internet, {count} networks are allowed"),
    )
}

fn guard(guard: &GuardSettings) -> DoctorFinding {
    let mut problems = Vec::new();
    if guard.deletions >= MANY_DELETIONS {
        problems.push(format!(
            "guard.deletions is {}: that number of deletions in one sync passes unasked",
            guard.deletions
        ));
    }
    if guard.deletions_percent >= 100 {
        problems.push(
            "guard.deletions_percent is 100: all of a person's tasks may be deleted unasked".to_owned(),
        );
    }
    judged(
        &check::GUARD,
        &problems,
        &format!(
            "{} deletions pass; above that, at most {} % of a person's tasks",
            guard.deletions, guard.deletions_percent
        ),
    )
}

fn journal_life(settings: &Settings) -> DoctorFinding {
    let life = settings.registry.journal_lifetime;
    let problems = if life < SHORTEST_JOURNAL {
        vec![format!(
            "registry.journal_lifetime is {} h: a person who misses a value after that cannot get it back",
            life.as_secs() / 3_600
        )]
    } else {
        Vec::new()
    };
    judged(
        &check::JOURNAL_LIFE,
        &problems,
        &format!("they are kept for {} h", life.as_secs() / 3_600),
    )
}

fn log_filter(filter: &str) -> DoctorFinding {
    let global = filter
        .split(',')
        .find(|part| !part.contains(['=', '[']))
        .unwrap_or("info");
    let problem = match global.to_ascii_lowercase().as_str() {
        "trace" | "debug" => Some("every step of every library is logged, which costs time and disk"),
        "error" | "off" => Some("most of what happens is not logged"),
        _ => None,
    };
    let problems: Vec<_> = problem
        .map(|problem| format!("log.filter is \"{filter}\": {problem}"))
        .into_iter()
        .collect();
    judged(
        &check::LOG_FILTER,
        &problems,
        &format!("log.filter is \"{filter}\""),
    )
}

fn secrets_folder(folder: &Path) -> DoctorFinding {
    if !folder.is_dir() {
        return finding(
            &check::SECRETS_FOLDER,
            CheckResult::NotApplicable,
            format!("there is no folder {} on this machine", folder.display()),
        );
    }
    let problems: Vec<_> = open_to_others(folder, Audience::TokenFile).into_iter().collect();
    judged(
        &check::SECRETS_FOLDER,
        &problems,
        &format!("only its owner and its group may read {}", folder.display()),
    )
}

fn authorities(settings: &Settings, now: Timestamp) -> DoctorFinding {
    let files = [
        ("schedule.authorities", &settings.schedule.authorities),
        ("queue.authorities", &settings.queue.authorities),
        ("outbound.authorities", &settings.outbound.authorities),
    ];
    let mut worst = None;
    let mut lines = Vec::new();
    for (setting, path) in files
        .into_iter()
        .filter_map(|(setting, path)| Some((setting, path.as_ref()?)))
    {
        let (result, line) = judge_authorities(setting, path, now);
        worst = worst.max(Some(result));
        lines.push(line);
    }
    match worst {
        None => finding(
            &check::AUTHORITIES,
            CheckResult::NotApplicable,
            "the settings name no authority of your own",
        ),
        Some(CheckResult::Ok) => finding(&check::AUTHORITIES, CheckResult::Ok, "your authorities are valid")
            .with_information(lines),
        Some(result) => finding(
            &check::AUTHORITIES,
            result,
            "an authority of yours needs attention",
        )
        .with_information(lines),
    }
}

fn judge_authorities(setting: &'static str, path: &Path, now: Timestamp) -> (CheckResult, String) {
    let certificates = match read_authorities(setting, path) {
        Ok(certificates) => certificates,
        Err(failure) => return (CheckResult::Failed, failure.to_string()),
    };
    let ends: Vec<Timestamp> = certificates
        .iter()
        .filter_map(|der| certificate_facts(der).ok())
        .map(|facts| facts.expires_at)
        .collect();
    match ends.into_iter().min() {
        None => (
            CheckResult::Warning,
            format!(
                "{setting}: {} has no certificate whose life can be read",
                path.display()
            ),
        ),
        Some(end) if end <= now => (
            CheckResult::Failed,
            format!("{setting}: a certificate of {} ended at {end}", path.display()),
        ),
        Some(end) if now.duration_until(end) < EXPIRES_SOON => (
            CheckResult::Warning,
            format!("{setting}: a certificate of {} ends at {end}", path.display()),
        ),
        Some(end) => (
            CheckResult::Ok,
            format!("{setting}: {} is valid until {end}", path.display()),
        ),
    }
}

/// Judges how old the last backup is.
pub(super) fn judge_backup(
    last: Result<Option<Timestamp>, StoreProblem>,
    people: Option<u64>,
    now: Timestamp,
) -> DoctorFinding {
    match last {
        Err(problem) => problem.finding(&check::BACKUP, SUBJECT),
        Ok(None) if people == Some(0) => finding(
            &check::BACKUP,
            CheckResult::NotApplicable,
            "no user is opted in, so there is nothing to lose",
        ),
        Ok(None) => finding(&check::BACKUP, CheckResult::Warning, "no backup was ever made"),
        Ok(Some(at)) if now.duration_since(at) > OLD_BACKUP => finding(
            &check::BACKUP,
            CheckResult::Warning,
            format!("the last backup was made at {at}"),
        ),
        Ok(Some(at)) => finding(
            &check::BACKUP,
            CheckResult::Ok,
            format!("the last backup was made at {at}"),
        ),
    }
}

/// Judges whether the installation is still here.
pub(super) fn judge_move(moved: Result<Option<Timestamp>, StoreProblem>) -> DoctorFinding {
    match moved {
        Err(problem) => problem.finding(&check::MOVED, SUBJECT),
        Ok(None) => finding(&check::MOVED, CheckResult::Ok, "the installation is here"),
        Ok(Some(at)) => finding(
            &check::MOVED,
            CheckResult::Failed,
            format!("the installation moved to another registry at {at}, and this process still works here"),
        ),
    }
}

/// Judges how many people are disabled.
pub(super) fn judge_people(counts: Result<EnrolmentCounts, StoreProblem>) -> DoctorFinding {
    let counts = match counts {
        Ok(counts) => counts,
        Err(problem) => return problem.finding(&check::PEOPLE_DISABLED, SUBJECT),
    };
    let all = counts.enabled + counts.disabled;
    if all == 0 {
        return finding(
            &check::PEOPLE_DISABLED,
            CheckResult::NotApplicable,
            "no user is opted in",
        );
    }
    let result = if counts.disabled * 100 > all * MANY_DISABLED {
        CheckResult::Warning
    } else {
        CheckResult::Ok
    };
    finding(
        &check::PEOPLE_DISABLED,
        result,
        format!("{} of {all} people are disabled", counts.disabled),
    )
}

#[cfg(test)]
#[path = "care/tests.rs"]
mod tests;
