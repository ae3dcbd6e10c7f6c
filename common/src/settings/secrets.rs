//! Checks the settings about tenants' secrets.

use std::collections::BTreeMap;
use std::path::{Component, Path};

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

/// What [`folder_refusal`] allows.
pub(super) const ALLOWED_FOLDER: &str =
    "an absolute path below /, without \"..\", and not below /proc or /sys";
/// What [`prefix_refusal`] allows.
pub(super) const ALLOWED_PREFIX: &str = "4 to 64 letters, digits and underscores that begin none of the operator's own variables; below TASKSYNC_ only \
     TASKSYNC_SECRET_ is for tenants";

/// Returns why a folder cannot hold the tenants' secrets: it must leave the operator's own files out.
pub(super) fn folder_refusal(text: &str) -> Option<String> {
    let folder = Path::new(text);
    if !folder.is_absolute() {
        Some("is not an absolute path".to_owned())
    } else if folder == Path::new("/") {
        Some("holds every file of the machine".to_owned())
    } else if folder
        .components()
        .any(|part| matches!(part, Component::ParentDir))
    {
        Some("contains \"..\"".to_owned())
    } else if SYSTEM_FOLDERS.iter().any(|system| folder.starts_with(system)) {
        Some("is a folder of the operating system".to_owned())
    } else {
        None
    }
}

/// Returns why a prefix of variables cannot be that of the tenants' secrets: it must leave the operator's own variables
/// out.
pub(super) fn prefix_refusal(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let reaches_own = OWN.starts_with(text) || text.starts_with(OWN) && !text.starts_with(TENANTS);
    let reaches_libraries = OF_LIBRARIES.iter().any(|name| name.starts_with(text));
    if !(4..=64).contains(&text.len()) {
        Some("has not between 4 and 64 characters".to_owned())
    } else if !text.bytes().all(plain) {
        Some("has a character other than letters, digits and underscores".to_owned())
    } else if reaches_own || reaches_libraries {
        Some("reaches variables of the operator".to_owned())
    } else {
        None
    }
}

/// Returns the prefix of variables that are no settings but tenants' secrets, before the settings are known.
pub(super) fn variable_prefix(file: &toml::Table, environment: &BTreeMap<String, String>) -> String {
    let of_environment = environment.get(PREFIX_VARIABLE).map(String::as_str);
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
        match parse(text, "test.toml", []) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_operator_s_own_secrets_are_outside_of_folder_and_prefix() {
        for folder in ["/", "secrets", "/proc/self", "/sys", "/run/../proc", ""] {
            let error = error(&format!("[secrets]\nfolder = \"{folder}\"\n"));
            assert!(error.contains("secrets.folder"), "{folder}: {error}");
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
            assert!(error.contains("secrets.variable_prefix"), "{prefix}: {error}");
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
