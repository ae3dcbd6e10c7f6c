//! The declaration of every setting: its key, what it may be, and whether its value may be shown. Reading,
//! checking, masking and the reference page all use this table.

use std::time::Duration;

use super::value_kind::{TextKind, ValueKind};

/// Longest time that a setting may name: ten years. It keeps sums of times far from their limits.
const LONGEST: Duration = Duration::from_hours(87_600);

/// One setting.
#[derive(Debug)]
pub(super) struct SettingKey {
    /// The key as `section.name`.
    pub(super) key: &'static str,
    /// What the value may be.
    pub(super) kind: ValueKind,
    /// How the value is shown.
    pub(super) visibility: Visibility,
}

/// How a value is shown in errors, by `config show` and in debug output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// As it is.
    Whole,
    /// As a URL whose password is replaced by `***`.
    WithoutPassword,
}

impl SettingKey {
    /// Returns the section and the name inside it.
    pub(super) fn parts(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or((self.key, ""))
    }
}

/// Returns the declaration of a key.
pub(super) fn declaration(key: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|declared| declared.key == key)
}

/// Returns whether any key is in this section.
pub(super) fn is_section(section: &str) -> bool {
    KEYS.iter().any(|declared| declared.parts().0 == section)
}

const fn open(key: &'static str, kind: ValueKind) -> SettingKey {
    SettingKey {
        key,
        kind,
        visibility: Visibility::Whole,
    }
}

const fn masked(key: &'static str, kind: ValueKind) -> SettingKey {
    SettingKey {
        key,
        kind,
        visibility: Visibility::WithoutPassword,
    }
}

const fn time(least: Duration, most: Duration) -> ValueKind {
    ValueKind::Time { least, most }
}

const fn any_time() -> ValueKind {
    time(Duration::ZERO, LONGEST)
}

const fn at_least(least: Duration) -> ValueKind {
    time(least, LONGEST)
}

const fn text(kind: TextKind) -> ValueKind {
    ValueKind::Text(kind)
}

const fn count(least: u64, most: u64) -> ValueKind {
    ValueKind::Count { least, most }
}

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);
const HUNDREDTH: Duration = Duration::from_millis(10);
const PREFIX_SIGNS: &[char] = &['-', '_', '.', ':'];
const QUEUE_SIGNS: &[char] = &['-', '_', '.'];

/// All settings, in the order of the reference page.
pub(super) const KEYS: &[SettingKey] = &[
    masked("registry.url", text(TextKind::RegistryUrl)),
    open("registry.connections", count(1, 1_000)),
    open("registry.acquire_timeout", at_least(SECOND)),
    open("registry.statement_timeout", at_least(SECOND)),
    open("registry.journal_lifetime", any_time()),
    masked("schedule.url", text(TextKind::ScheduleUrl)),
    open("schedule.authorities", text(TextKind::AuthoritiesFile)),
    open(
        "schedule.key_prefix",
        text(TextKind::Name {
            most: 64,
            signs: PREFIX_SIGNS,
        }),
    ),
    open("schedule.run_interval", at_least(TENTH)),
    open("schedule.top_up_interval", any_time()),
    open("schedule.tenants_per_run", count(1, 100_000)),
    open(
        "schedule.users_per_batch",
        count(1, crate::queue::MAXIMUM_USERS as u64),
    ),
    open("schedule.minimum_time_between_user_syncs", at_least(SECOND)),
    open("schedule.maximum_time_between_user_syncs", at_least(SECOND)),
    open("schedule.tenant_search_interval", any_time()),
    open("schedule.late_after", any_time()),
    open("schedule.discovery_interval", any_time()),
    open("schedule.claim_lifetime", at_least(SECOND)),
    open("schedule.tenant_in_flight", count(0, 1_000_000_000)),
    open("schedule.tenant_share_percent", count(1, 100)),
    open("schedule.leader_lifetime", at_least(SECOND)),
    open("schedule.heartbeat_interval", at_least(TENTH)),
    open("schedule.heartbeat_lifetime", time(TENTH, Duration::from_mins(5))),
    masked("queue.url", text(TextKind::QueueUrl)),
    open("queue.maximum_length", count(1, 1_000_000)),
    open("queue.delivery_limit", count(1, 100)),
    open("queue.consumer_timeout", at_least(SECOND)),
    open("queue.maximum_dead_letters", count(1, 50_000)),
    open(
        "queue.dead_letter_lifetime",
        time(SECOND, Duration::from_hours(720)),
    ),
    open("queue.declare", text(TextKind::Choice(&["create", "check"]))),
    open(
        "queue.name_prefix",
        text(TextKind::Name {
            most: 100,
            signs: QUEUE_SIGNS,
        }),
    ),
    open("queue.connect_timeout", time(HUNDREDTH, Duration::from_mins(1))),
    open("queue.request_timeout", time(HUNDREDTH, Duration::from_mins(1))),
    open("queue.heartbeat", time(SECOND, Duration::from_mins(5))),
    open("queue.unconfirmed", count(1, 10_000)),
    open("queue.authorities", text(TextKind::AuthoritiesFile)),
    open("worker.batch_budget", any_time()),
    open("worker.users_at_once", count(1, 100)),
    open("worker.batches_at_once", count(1, 1_000)),
    open("worker.user_budget", any_time()),
    open("worker.full_check_interval", any_time()),
    open("worker.deep_check_interval", any_time()),
    open("worker.drain", any_time()),
    open("worker.grace_period", any_time()),
    open("api.listen", text(TextKind::ListenAddress)),
    open("api.connections", count(1, 100_000)),
    open("api.connections_per_address", count(1, 100_000)),
    open("api.wrong_tokens", count(1, 1_000_000)),
    open("api.trusted_proxies", ValueKind::Networks),
    open("api.linger", time(Duration::ZERO, Duration::from_mins(1))),
    open("health.listen", text(TextKind::ListenAddress)),
    open("outbound.request_timeout", at_least(HUNDREDTH)),
    open("outbound.connect_timeout", at_least(HUNDREDTH)),
    open("outbound.maximum_answer_bytes", count(1, 256 * 1024 * 1024)),
    open("outbound.requests_per_server", count(1, 10_000)),
    open("outbound.allowed_networks", ValueKind::Networks),
    open("outbound.allow_plain_http", ValueKind::Switch),
    open("outbound.authorities", text(TextKind::AuthoritiesFile)),
    open("secrets.folder", text(TextKind::SecretsFolder)),
    open("secrets.variable_prefix", text(TextKind::SecretsPrefix)),
    open("guard.deletions", count(0, 1_000_000_000)),
    open("guard.deletions_percent", count(0, 100)),
    open("guard.emptied_from", count(0, 1_000_000_000)),
    open("log.format", text(TextKind::Choice(&["text", "json"]))),
    open("log.filter", text(TextKind::LogFilter)),
    masked("telemetry.otlp_endpoint", text(TextKind::ReceiverUrl)),
    open("telemetry.trace_ratio", ValueKind::Share),
    open("telemetry.metrics_interval", at_least(SECOND)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::effective::values;
    use crate::settings::{ScheduleSettings, Settings};

    #[test]
    fn every_setting_is_declared_once_and_nothing_else_is() {
        let mut settings = Settings::default();
        // A default without a value is not in the values.
        settings.schedule.authorities = Some("a".into());
        settings.queue.authorities = Some("a".into());
        settings.outbound.authorities = Some("a".into());
        settings.telemetry.otlp_endpoint = Some("http://a".to_owned());
        let mut declared: Vec<&str> = KEYS.iter().map(|declared| declared.key).collect();
        declared.sort_unstable();
        let values = values(&settings);
        let present: Vec<&str> = values.keys().map(String::as_str).collect();
        assert_eq!(declared, present);
    }

    #[test]
    fn every_default_is_allowed() {
        for (key, value) in values(&Settings::default()) {
            let declared = declaration(&key).unwrap();
            assert_eq!(declared.kind.refusal(&value), None, "{key}");
        }
    }

    #[test]
    fn debug_output_shows_no_password_of_a_declared_url() {
        let settings = Settings {
            schedule: ScheduleSettings {
                url: "redis://app:geheim@cache:6379".to_owned(),
                ..ScheduleSettings::default()
            },
            ..Settings::default()
        };
        let shown = format!("{settings:?} {:?}", settings.schedule);
        assert!(
            !shown.contains("geheim") && shown.contains("cache:6379"),
            "{shown}"
        );
    }
}
