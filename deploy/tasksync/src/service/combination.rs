//! Which roles may use which stores.

use tasksync_common::registry::RegistrySharing;
use tasksync_common::settings::{Settings, variable_of};

use crate::exit::CommandError;

/// A role that runs until it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ServiceRole {
    /// Serves the API and takes part in the election; the elected one hands out work.
    Scheduler,
    /// Takes jobs and syncs users.
    Worker,
    /// Both in one process.
    Standalone,
}

impl ServiceRole {
    /// Returns the command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::Standalone => "standalone",
        }
    }

    /// Returns this role as the fleet names it.
    pub(super) fn fleet_role(self) -> tasksync_common::fleet::Role {
        match self {
            Self::Scheduler => tasksync_common::fleet::Role::Scheduler,
            Self::Worker => tasksync_common::fleet::Role::Worker,
            Self::Standalone => tasksync_common::fleet::Role::Standalone,
        }
    }

    /// Returns true if this role serves the API and may lead.
    pub(crate) fn schedules(self) -> bool {
        matches!(self, Self::Scheduler | Self::Standalone)
    }

    /// Returns true if this role syncs users.
    pub(crate) fn works(self) -> bool {
        matches!(self, Self::Worker | Self::Standalone)
    }
}

/// Returns true if a store lives in one process or on its disk. An unknown kind counts as shared here; opening it
/// fails.
pub(super) fn is_embedded(url: &str) -> bool {
    matches!(url.split(':').next(), Some("memory" | "sqlite"))
}

/// Returns whether a process of this role has the stores for itself or shares them with others.
///
/// # Errors
/// The role may not use these stores. The text names the first setting to change, and to what.
pub(crate) fn check(role: ServiceRole, settings: &Settings) -> Result<RegistrySharing, CommandError> {
    let stores = [
        (
            "registry.url",
            settings.registry.url.as_str(),
            "postgres://USER:PASSWORD@HOST/DATABASE",
        ),
        ("schedule.url", &settings.schedule.url, "redis://HOST:6379"),
        (
            "queue.url",
            &settings.queue.url,
            "amqp://USER:PASSWORD@HOST:5672/VHOST",
        ),
    ];
    let embedded_store = stores.into_iter().find(|(_, url, _)| is_embedded(url));
    match (role, embedded_store) {
        (_, None) => Ok(RegistrySharing::Shared),
        (ServiceRole::Standalone, Some(_)) => Ok(RegistrySharing::Exclusive),
        (ServiceRole::Scheduler | ServiceRole::Worker, Some((setting, url, example))) => {
            Err(CommandError::settings(format!(
                "{setting} is {}: which only one process can use, so schedulers and workers cannot share it; \
             set {setting} (or {}) to a store they share, such as {example}, or run `tasksync standalone`",
                url.split(':').next().unwrap_or_default(),
                variable_of(setting),
            )))
        }
    }
}

/// Checks that API and probes do not listen on the same port.
///
/// # Errors
/// They do. The text names both settings.
pub(super) fn check_addresses(role: ServiceRole, settings: &Settings) -> Result<(), CommandError> {
    let (api, health) = (settings.api.listen, settings.health.listen);
    let same_address = api.ip() == health.ip() || api.ip().is_unspecified() || health.ip().is_unspecified();
    if role.schedules() && same_address && api.port() == health.port() && api.port() != 0 {
        return Err(CommandError::settings(format!(
            "api.listen ({api}) and health.listen ({health}) name the same port, and each needs its own; \
             set health.listen (or {}) to another port, such as 127.0.0.1:8481",
            variable_of("health.listen"),
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_use_only_certain_stores() {
        const REFUSED: fn(&'static str) -> Result<RegistrySharing, &'static str> = Err;
        let (sqlite, postgres) = ("sqlite:tasksync.sqlite", "postgres://db/tasksync");
        let (memory, redis, amqp) = ("memory:", "rediss+sentinel://cache", "amqps://broker");
        let (alone, many) = (Ok(RegistrySharing::Exclusive), Ok(RegistrySharing::Shared));
        // registry, schedule, queue: scheduler and worker, standalone
        for (registry, schedule, queue, roles, standalone) in [
            (sqlite, memory, memory, REFUSED("registry.url"), alone),
            (sqlite, memory, amqp, REFUSED("registry.url"), alone),
            (sqlite, redis, memory, REFUSED("registry.url"), alone),
            (sqlite, redis, amqp, REFUSED("registry.url"), alone),
            (postgres, memory, memory, REFUSED("schedule.url"), alone),
            (postgres, memory, amqp, REFUSED("schedule.url"), alone),
            (postgres, redis, memory, REFUSED("queue.url"), alone),
            (postgres, redis, amqp, many, many),
            // Reading the settings refuses an unknown kind before.
            ("mysql://db", redis, amqp, many, many),
        ] {
            let mut settings = Settings::default();
            settings.registry.url = registry.to_owned();
            settings.schedule.url = schedule.to_owned();
            settings.queue.url = queue.to_owned();
            let case = format!("{registry} {schedule} {queue}");
            for (role, expected) in [
                (ServiceRole::Scheduler, roles),
                (ServiceRole::Worker, roles),
                (ServiceRole::Standalone, standalone),
            ] {
                match (check(role, &settings), expected) {
                    (Ok(sharing), expected) => assert_eq!(Ok(sharing), expected, "{case} {role:?}"),
                    (Err(CommandError::Settings(text)), Err(setting)) => {
                        assert!(text.starts_with(setting), "{case} {role:?}: {text}");
                    }
                    (other, expected) => panic!("{case} {role:?}: {other:?} instead of {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn api_and_probes_need_ports_of_their_own() {
        for (api, health, role, allowed) in [
            ("127.0.0.1:8480", "127.0.0.1:8480", ServiceRole::Standalone, false),
            ("127.0.0.1:8480", "0.0.0.0:8480", ServiceRole::Scheduler, false),
            ("127.0.0.1:8480", "0.0.0.0:8480", ServiceRole::Worker, true),
            ("127.0.0.1:8480", "127.0.0.2:8480", ServiceRole::Standalone, true),
            ("127.0.0.1:0", "127.0.0.1:0", ServiceRole::Standalone, true),
        ] {
            let mut settings = Settings::default();
            settings.api.listen = api.parse().unwrap();
            settings.health.listen = health.parse().unwrap();
            assert_eq!(
                check_addresses(role, &settings).is_ok(),
                allowed,
                "{api} {health}"
            );
        }
    }

    #[test]
    fn a_refusal_repeats_no_secret_and_says_what_to_set() {
        let mut settings = Settings::default();
        settings.registry.url = "sqlite:/geheim/tasksync.sqlite".to_owned();
        let Err(CommandError::Settings(text)) = check(ServiceRole::Worker, &settings) else {
            panic!("allowed")
        };
        for part in [
            "registry.url",
            "TASKSYNC_REGISTRY__URL",
            "postgres://",
            "tasksync standalone",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("geheim"), "{text}");
    }
}
