//! Checks the settings about tenants' secrets.

use std::path::{Component, Path};

use super::load::relation;
use super::{SecretsSettings, SettingsError};

/// Begin of tasksync's own variables, among them the operator's token and the passwords of the stores.
const OWN: &str = "TASKSYNC_";
/// Begin of those of them that a tenant may use.
const TENANTS: &str = "TASKSYNC_SECRET_";
/// The setting as an environment variable.
const PREFIX_VARIABLE: &str = "TASKSYNC_SECRETS__VARIABLE_PREFIX";
/// Variables of the libraries that hold a secret of the operator.
const OF_LIBRARIES: &[&str] = &["PGPASSWORD", "PGPASSFILE", "OTEL_EXPORTER_OTLP_HEADERS"];
/// Folders of the operating system whose files are not secrets of tenants.
pub(crate) const SYSTEM_FOLDERS: &[&str] = &["/proc", "/sys"];

/// Checks that the folder and the prefix leave the operator's own secrets out.
pub(super) fn check(settings: &SecretsSettings) -> Result<(), SettingsError> {
    let SecretsSettings {
        folder,
        variable_prefix,
    } = settings;
    relation(
        folder.is_absolute()
            && folder != Path::new("/")
            && !folder
                .components()
                .any(|part| matches!(part, Component::ParentDir)),
        "secrets.folder must be an absolute path below /, without \"..\"",
    )?;
    relation(
        !SYSTEM_FOLDERS.iter().any(|system| folder.starts_with(system)),
        "secrets.folder must not be below /proc or /sys",
    )?;
    relation(
        (4..=64).contains(&variable_prefix.len())
            && variable_prefix
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "secrets.variable_prefix must be 4 to 64 letters, digits and underscores",
    )?;
    let reaches_own = OWN.starts_with(variable_prefix.as_str())
        || variable_prefix.starts_with(OWN) && !variable_prefix.starts_with(TENANTS);
    let reaches_libraries = OF_LIBRARIES
        .iter()
        .any(|name| name.starts_with(variable_prefix.as_str()));
    relation(
        !reaches_own && !reaches_libraries,
        "secrets.variable_prefix must leave out the operator's own variables: below TASKSYNC_ only TASKSYNC_SECRET_ \
         is for tenants",
    )
}

/// Returns the prefix of variables that are no settings but tenants' secrets, before the settings are known.
pub(super) fn variable_prefix(file: &toml::Table, environment: &[(String, String)]) -> String {
    let of_environment = environment
        .iter()
        .find(|(name, _)| name == PREFIX_VARIABLE)
        .map(|(_, value)| value.as_str());
    let of_file = || file.get("secrets")?.get("variable_prefix")?.as_str();
    match of_environment.or_else(of_file) {
        // Any other prefix below TASKSYNC_ is refused, and must not hide settings until then.
        Some(prefix) if prefix.starts_with(TENANTS) => prefix.to_owned(),
        _ => TENANTS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn error(text: &str) -> String {
        match parse(text, "file test.toml", []) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_operator_s_own_secrets_are_outside_of_folder_and_prefix() {
        for folder in ["/", "secrets", "/proc/self", "/sys", "/run/../proc", ""] {
            let error = error(&format!("[secrets]\nfolder = \"{folder}\"\n"));
            assert!(error.contains("secrets.folder must"), "{folder}: {error}");
        }
        for prefix in [
            "",
            "T",
            "TASK",
            "TASKSYNC_",
            "TASKSYNC_TOKEN",
            "TASKSYNC_REGISTRY__",
            "PGPASS",
            "OTEL_",
            "A-B_",
        ] {
            let error = error(&format!("[secrets]\nvariable_prefix = \"{prefix}\"\n"));
            assert!(
                error.contains("secrets.variable_prefix must"),
                "{prefix}: {error}"
            );
        }
        for prefix in ["TASKSYNC_SECRET_", "TASKSYNC_SECRET_TENANTS_", "TENANT_"] {
            assert_eq!(error(&format!("[secrets]\nvariable_prefix = \"{prefix}\"\n")), "");
        }
        assert_eq!(error("[secrets]\nfolder = \"/etc/tasksync/tenants\"\n"), "");
    }

    #[test]
    fn a_variable_of_a_tenant_is_no_setting() {
        let read = |prefix: &str, name: &str| {
            let environment = [
                ("TASKSYNC_SECRETS__VARIABLE_PREFIX", prefix),
                (name, "a password"),
            ];
            parse(
                "",
                "defaults",
                environment.map(|(name, value)| (name.to_owned(), value.to_owned())),
            )
        };
        assert!(read("TASKSYNC_SECRET_", "TASKSYNC_SECRET_CONTOSO__EWS").is_ok());
        assert!(read("TENANT_", "TENANT_CONTOSO__EWS").is_ok());
        // A prefix that is refused hides no wrong setting and no wrong prefix.
        assert!(read("TASKSYNC_", "TASKSYNC_SECRET_CONTOSO__EWS").is_err());
        assert!(read("TASKSYNC_SECRET_", "TASKSYNC_SECRETS__FOLDERS").is_err());
    }
}
