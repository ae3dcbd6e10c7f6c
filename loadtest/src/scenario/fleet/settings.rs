//! Composes the settings of a run's processes.

use std::path::Path;

use crate::scenario::file::Scenario;
use crate::services::Services;

/// Addresses of registry, schedule and queue.
pub(super) struct Stores {
    registry: String,
    schedule: String,
    queue: String,
}

/// Returns the addresses of a run's stores.
pub(super) fn stores(services: Option<&Services>, folder: &Path) -> Result<Stores, String> {
    let Some(services) = services else {
        return Ok(Stores {
            registry: format!("sqlite:{}", folder.join("registry.sqlite").display()),
            schedule: "memory:".to_owned(),
            queue: "memory:".to_owned(),
        });
    };
    let failed = |error: crate::services::ServiceError| error.to_string();
    Ok(Stores {
        registry: services.postgres().map_err(failed)?.url(),
        schedule: services.redis().map_err(failed)?.url(),
        queue: services.rabbitmq().map_err(failed)?.url(),
    })
}

/// Returns the settings of one process: those that the run needs, overridden by the scenario's own.
pub(super) fn settings(
    scenario: &Scenario,
    stores: &Stores,
    authority: Option<&Path>,
    secrets: &Path,
    health: u16,
    api: u16,
) -> toml::Table {
    let text = |text: &str| toml::Value::String(text.to_owned());
    let table = |pairs: Vec<(&str, toml::Value)>| {
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
        toml::Value::Table(pairs.collect())
    };
    let networks = ["127.0.0.0/8", "::1/128"].map(text).to_vec();
    let mut outbound = vec![("allowed_networks", toml::Value::Array(networks))];
    match authority {
        Some(path) => outbound.push(("authorities", text(&path.display().to_string()))),
        None => outbound.push(("allow_plain_http", toml::Value::Boolean(true))),
    }
    let mut settings = toml::Table::new();
    for (key, value) in [
        ("registry", table(vec![("url", text(&stores.registry))])),
        ("schedule", table(vec![("url", text(&stores.schedule))])),
        ("queue", table(vec![("url", text(&stores.queue))])),
        ("api", table(vec![("listen", text(&format!("127.0.0.1:{api}")))])),
        (
            "health",
            table(vec![("listen", text(&format!("127.0.0.1:{health}")))]),
        ),
        (
            "secrets",
            table(vec![("folder", text(&secrets.display().to_string()))]),
        ),
        ("outbound", table(outbound)),
    ] {
        settings.insert(key.to_owned(), value);
    }
    merge(&mut settings, &scenario.settings);
    settings
}

/// Sections of the settings that builds before them refuse as unknown.
const NEWER_SECTIONS: [&str; 1] = ["secrets"];

/// Returns the settings that an earlier build can read, too.
pub(super) fn without_newer_sections(mut settings: toml::Table) -> toml::Table {
    for section in NEWER_SECTIONS {
        settings.remove(section);
    }
    settings
}

/// Merges `over` into `under`, table by table. Values of `over` win.
fn merge(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_settings_override_those_of_the_run() {
        let text = "name = \"a\"\nabout = \"b\"\n[[tenants]]\nname = \"all\"\nusers = 1\n\
                    [settings.outbound]\nrequests_per_server = 500\n[settings.worker]\nbatches_at_once = 4\n";
        let scenario = Scenario::parse(text).unwrap();
        let stores = Stores {
            registry: "sqlite:x".to_owned(),
            schedule: "memory:".to_owned(),
            queue: "memory:".to_owned(),
        };
        let settings = settings(&scenario, &stores, None, Path::new("/run/tenants"), 1, 2);
        assert_eq!(
            settings["outbound"]["requests_per_server"].as_integer(),
            Some(500)
        );
        assert_eq!(settings["outbound"]["allow_plain_http"].as_bool(), Some(true));
        assert_eq!(settings["worker"]["batches_at_once"].as_integer(), Some(4));
        assert_eq!(settings["api"]["listen"].as_str(), Some("127.0.0.1:2"));
    }
}
