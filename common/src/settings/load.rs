//! Reads the settings and checks the relations between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{QueueSettings, RegistrySettings, ScheduleSettings, Settings, WorkerSettings, secrets};

/// Prefix of environment variables: `TASKSYNC_WORKER__USERS_AT_ONCE` sets `worker.users_at_once`.
const PREFIX: &str = "TASKSYNC_";
const SECOND: Duration = Duration::from_secs(1);

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("settings file {path}: {error}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// The text is not TOML, a key is unknown, or a value has the wrong type.
    #[error("settings {origin}: {error}")]
    Wrong {
        /// File or variable.
        origin: String,
        /// What is wrong, with the line.
        error: String,
    },
    /// Two settings contradict each other.
    #[error("settings contradict each other: {0}")]
    Relation(String),
}

/// Reads the file, if any, then the environment variables, and checks the relations. Other settings have
/// their defaults.
///
/// # Errors
/// Names the wrong file, variable or relation.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let (text, origin) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
                path: path.to_owned(),
                error,
            })?;
            (text, format!("file {}", path.display()))
        }
        None => (String::new(), "defaults".to_owned()),
    };
    parse(&text, &origin, environment)
}

/// Does the same as [`load`] with the text of a file; `origin` names it in errors.
///
/// # Errors
/// Names the wrong origin, variable or relation.
pub fn parse(
    text: &str,
    origin: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let wrong = |origin: &str, error: &dyn std::fmt::Display| SettingsError::Wrong {
        origin: origin.to_owned(),
        error: error.to_string().trim_end().to_owned(),
    };
    // The text is first read without the environment, so that errors point at the file's own lines.
    toml::from_str::<Settings>(text).map_err(|error| wrong(origin, &error))?;
    let mut table: toml::Table = toml::from_str(text).map_err(|error| wrong(origin, &error))?;
    let environment: Vec<_> = environment.into_iter().collect();
    let of_secrets = secrets::variable_prefix(&table, &environment);
    for (name, value) in environment {
        // A tenant's secret is no setting, even if its name contains "__".
        if name.starts_with(&of_secrets) {
            continue;
        }
        let Some(path) = name.strip_prefix(PREFIX).filter(|path| path.contains("__")) else {
            continue;
        };
        let Some((section, key)) = path.split_once("__") else {
            continue;
        };
        let entry = table
            .entry(section.to_ascii_lowercase())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Table(section) = entry {
            section.insert(key.to_ascii_lowercase(), typed(&value));
        }
        // Checked after each variable, so that the error names the wrong one.
        toml::Value::Table(table.clone())
            .try_into::<Settings>()
            .map_err(|error| wrong(&format!("environment variable {name}"), &error))?;
    }
    let settings: Settings = toml::Value::Table(table)
        .try_into()
        .map_err(|error| wrong(origin, &error))?;
    check(&settings)?;
    Ok(settings)
}

/// Returns an environment variable's text as a TOML value. Text that is not a TOML value becomes a string.
fn typed(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        // Dates and fractions stay text. A bare 0 becomes a number, which a duration accepts as it accepts "0".
        .filter(|value| !value.is_datetime() && !value.is_float())
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Checks the relations between settings. [`parse`] calls it.
///
/// # Errors
/// Names the first relation that does not hold.
pub fn check(settings: &Settings) -> Result<(), SettingsError> {
    check_deadlines(settings)?;
    check_schedule(&settings.schedule)?;
    relation(
        settings.telemetry.metrics_interval >= SECOND,
        "telemetry.metrics_interval must be at least 1s",
    )?;
    check_registry(&settings.registry, &settings.worker)?;
    relation(
        (1..=64).contains(&settings.schedule.key_prefix.len())
            && settings.schedule.key_prefix.chars().all(|character| {
                character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | ':')
            }),
        "schedule.key_prefix must be 1 to 64 letters, digits, \"-\", \"_\", \".\" or \":\"",
    )?;
    check_counts(settings)?;
    check_queue(&settings.queue)?;
    secrets::check(&settings.secrets)?;
    for text in &settings.api.trusted_proxies {
        let network: Result<super::Network, _> = text.trim().parse();
        network.map_err(|error| SettingsError::Relation(format!("api.trusted_proxies: {error}")))?;
    }
    relation(
        settings.guard.deletions_percent <= 100,
        "guard.deletions_percent must be between 0 and 100",
    )
}

pub(super) fn relation(holds: bool, text: &str) -> Result<(), SettingsError> {
    if holds {
        Ok(())
    } else {
        Err(SettingsError::Relation(text.to_owned()))
    }
}

/// Checks that deadlines nest: request < user < batch < claim < broker; drain < grace period (ARCHITECTURE,
/// invariant 10).
fn check_deadlines(settings: &Settings) -> Result<(), SettingsError> {
    let Settings {
        schedule,
        worker,
        outbound,
        queue,
        ..
    } = settings;
    relation(
        outbound.connect_timeout <= outbound.request_timeout,
        "outbound.connect_timeout must not be above outbound.request_timeout",
    )?;
    relation(
        outbound.request_timeout < worker.user_budget,
        "outbound.request_timeout must be below worker.user_budget",
    )?;
    relation(
        worker.user_budget < worker.batch_budget,
        "worker.user_budget must be below worker.batch_budget",
    )?;
    relation(
        worker.batch_budget + worker.user_budget < schedule.claim_lifetime,
        "worker.batch_budget + worker.user_budget must be below schedule.claim_lifetime: a user started at the end of the budget still needs a claim",
    )?;
    relation(
        worker.batch_budget + schedule.claim_lifetime < queue.consumer_timeout,
        "worker.batch_budget + schedule.claim_lifetime must be below queue.consumer_timeout: a worker keeps a job until its renewed claim has expired, and the broker must not take it away before",
    )?;
    relation(
        worker.drain < worker.grace_period,
        "worker.drain must be below worker.grace_period",
    )?;
    relation(
        worker.user_budget < worker.drain,
        "worker.user_budget must be below worker.drain: a running user must be able to end",
    )
}

fn check_schedule(schedule: &ScheduleSettings) -> Result<(), SettingsError> {
    relation(
        schedule.minimum_time_between_user_syncs <= schedule.maximum_time_between_user_syncs,
        "schedule.minimum_time_between_user_syncs must not be above schedule.maximum_time_between_user_syncs",
    )?;
    relation(
        schedule.minimum_time_between_user_syncs >= SECOND,
        "schedule.minimum_time_between_user_syncs must be at least 1s",
    )?;
    relation(
        schedule.top_up_interval <= schedule.run_interval,
        "schedule.top_up_interval must not be above schedule.run_interval",
    )?;
    relation(
        schedule.run_interval >= Duration::from_millis(100),
        "schedule.run_interval must be at least 100ms",
    )?;
    relation(
        schedule.leader_lifetime >= SECOND,
        "schedule.leader_lifetime must be at least 1s",
    )?;
    relation(
        (1..=100).contains(&schedule.tenant_share_percent),
        "schedule.tenant_share_percent must be between 1 and 100",
    )?;
    relation(
        schedule.heartbeat_interval >= Duration::from_millis(100)
            && schedule.heartbeat_interval.saturating_mul(3) <= schedule.heartbeat_lifetime,
        "schedule.heartbeat_interval must be at least 100ms, and three of them must fit into schedule.heartbeat_lifetime",
    )?;
    relation(
        schedule.heartbeat_lifetime <= Duration::from_mins(5),
        "schedule.heartbeat_lifetime must not be above 5min",
    )
}

fn check_registry(registry: &RegistrySettings, worker: &WorkerSettings) -> Result<(), SettingsError> {
    relation(
        registry.acquire_timeout >= SECOND && registry.statement_timeout >= SECOND,
        "registry.acquire_timeout and registry.statement_timeout must be at least 1s",
    )?;
    relation(
        !registry.url.starts_with("postgres")
            || registry.acquire_timeout + registry.statement_timeout < worker.user_budget,
        "registry.acquire_timeout + registry.statement_timeout must be below worker.user_budget: a sync must be able to save what it did",
    )
}

/// Checks that counts are at least 1 and not above their maximums.
fn check_counts(settings: &Settings) -> Result<(), SettingsError> {
    let Settings {
        schedule,
        worker,
        outbound,
        queue,
        registry,
        api,
        ..
    } = settings;
    for (name, value, maximum) in [
        ("schedule.tenants_per_run", schedule.tenants_per_run, 100_000),
        (
            "schedule.users_per_batch",
            schedule.users_per_batch,
            crate::queue::MAXIMUM_USERS,
        ),
        ("worker.users_at_once", worker.users_at_once, 100),
        ("worker.batches_at_once", worker.batches_at_once, 1_000),
        (
            "outbound.requests_per_server",
            outbound.requests_per_server,
            10_000,
        ),
        (
            "outbound.maximum_answer_bytes",
            outbound.maximum_answer_bytes,
            256 * 1024 * 1024,
        ),
        ("queue.maximum_length", queue.maximum_length, 1_000_000),
        ("queue.delivery_limit", queue.delivery_limit as usize, 100),
        ("registry.connections", registry.connections as usize, 1_000),
        ("queue.maximum_dead_letters", queue.maximum_dead_letters, 50_000),
        ("queue.unconfirmed", queue.unconfirmed, 10_000),
        ("api.connections", api.connections, 100_000),
        (
            "api.connections_per_address",
            api.connections_per_address,
            100_000,
        ),
        ("api.wrong_tokens", api.wrong_tokens as usize, 1_000_000),
    ] {
        relation(
            (1..=maximum).contains(&value),
            &format!("{name} must be between 1 and {maximum}"),
        )?;
    }
    Ok(())
}

fn check_queue(queue: &QueueSettings) -> Result<(), SettingsError> {
    relation(
        (SECOND..=Duration::from_mins(5)).contains(&queue.heartbeat),
        "queue.heartbeat must be between 1s and 5min",
    )?;
    for (name, value) in [
        ("queue.connect_timeout", queue.connect_timeout),
        ("queue.request_timeout", queue.request_timeout),
    ] {
        relation(
            (Duration::from_millis(10)..=Duration::from_mins(1)).contains(&value),
            &format!("{name} must be between 10ms and 60s"),
        )?;
    }
    relation(
        (SECOND..=Duration::from_hours(720)).contains(&queue.dead_letter_lifetime),
        "queue.dead_letter_lifetime must be between 1s and 30d",
    )?;
    relation(
        (1..=100).contains(&queue.name_prefix.len())
            && queue
                .name_prefix
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')),
        "queue.name_prefix must be 1 to 100 letters, digits, dashes, underscores and dots",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        parse(
            text,
            "file test.toml",
            environment
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_hold_and_agree_with_each_other() {
        assert_eq!(read("", &[]).unwrap(), Settings::default());
    }

    #[test]
    fn unknown_keys_and_missing_units_are_refused_by_name() {
        let error = read("[worker]\nuser_at_once = 3\n", &[]).unwrap_err();
        assert!(
            error.contains("test.toml") && error.contains("user_at_once"),
            "{error}"
        );
        let error = read("[worker]\nbatch_budget = \"45\"\n", &[]).unwrap_err();
        assert!(error.contains("unit"), "{error}");
        let error = read("", &[("TASKSYNC_WORKER__NONSENSE", "1")]).unwrap_err();
        assert!(error.contains("TASKSYNC_WORKER__NONSENSE"), "{error}");
    }

    #[test]
    fn a_zero_duration_needs_neither_unit_nor_quotes_and_other_numbers_do() {
        let variable = "TASKSYNC_SCHEDULE__TOP_UP_INTERVAL";
        let file = |value: &str| read(&format!("[schedule]\ntop_up_interval = {value}\n"), &[]);
        for zero in ["0", "\"0\"", "\"0s\""] {
            for settings in [file(zero), read("", &[(variable, zero)])] {
                assert_eq!(
                    settings.unwrap().schedule.top_up_interval,
                    Duration::ZERO,
                    "{zero}"
                );
            }
        }
        for wrong in ["5", "-1"] {
            for settings in [file(wrong), read("", &[(variable, wrong)])] {
                let error = settings.unwrap_err();
                assert!(error.contains("a unit in quotes"), "{error}");
            }
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let settings = read(
            "[worker]\nusers_at_once = 3\n",
            &[
                ("TASKSYNC_WORKER__USERS_AT_ONCE", "7"),
                ("TASKSYNC_SCHEDULE__TOP_UP_INTERVAL", "500ms"),
                ("TASKSYNC_OUTBOUND__ALLOW_PLAIN_HTTP", "true"),
                ("TASKSYNC_API__LISTEN", "127.0.0.1:1"),
                ("TASKSYNC_OUTBOUND__ALLOWED_NETWORKS", "[\"127.0.0.0/8\"]"),
                ("TASKSYNC_TOKEN", "not a setting"),
            ],
        )
        .unwrap();
        assert_eq!(settings.worker.users_at_once, 7);
        assert_eq!(settings.schedule.top_up_interval, Duration::from_millis(500));
        assert!(settings.outbound.allow_plain_http);
        assert_eq!(settings.outbound.allowed_networks, ["127.0.0.0/8"]);
    }

    #[test]
    fn deadlines_must_nest() {
        let error = read("[worker]\nuser_budget = \"45s\"\n", &[]).unwrap_err();
        assert!(
            error.contains("worker.user_budget must be below worker.batch_budget"),
            "{error}"
        );
        let error = read("[queue]\nconsumer_timeout = \"165s\"\n", &[]).unwrap_err();
        assert!(error.contains("must be below queue.consumer_timeout"), "{error}");
        assert!(read("[queue]\nconsumer_timeout = \"166s\"\n", &[]).is_ok());
        let error = read("[schedule]\nusers_per_batch = 101\n", &[]).unwrap_err();
        assert!(error.contains("users_per_batch"), "{error}");
    }
}
