//! Opens the registry named by the settings.

use std::sync::Arc;

use super::sql::Tables;
use super::{Registry, SqlRegistry, sql};
use crate::error::Failure;
use crate::settings::{RegistrySettings, kind_refusal, unsupported_url};

/// The forms of `registry.url`.
pub(crate) const SUPPORTED_URLS: &str =
    "sqlite:PATH for one machine, or postgres://USER:PASSWORD@HOST:PORT/DATABASE for many";

/// Returns why `registry.url` is refused, as the rest of a sentence without a password.
pub(crate) fn url_refusal(url: &str) -> Option<String> {
    match url.split_once(':') {
        Some(("sqlite", _)) => sql::sqlite_url_refusal(url),
        Some(("postgres" | "postgresql", _)) => sql::postgres_url_refusal(url),
        Some(_) | None => Some(kind_refusal(url)),
    }
}

/// Returns why a file or folder that `registry.url` names cannot be used on this machine.
pub(crate) fn url_file_refusal(url: &str) -> Option<String> {
    match url.split_once(':') {
        Some(("sqlite", _)) => sql::sqlite_folder_refusal(url),
        Some(("postgres" | "postgresql", _)) => sql::postgres_file_refusal(url),
        Some(_) | None => None,
    }
}

/// Opens the registry named by the scheme of `registry.url`.
///
/// # Errors
/// The scheme is not supported, or the registry cannot be opened (see [`SqlRegistry::open_sqlite`] and
/// [`SqlRegistry::open_postgres`]).
pub async fn open_registry(settings: &RegistrySettings) -> Result<Arc<dyn Registry>, Failure> {
    Ok(Arc::new(open_sql(settings, Tables::BroughtUpToDate).await?))
}

/// Opens the registry of `registry.url` to read it whole. Does not create it and does not change its tables.
///
/// # Errors
/// As [`open_registry`]; also if the registry does not exist, or another build than this one made its tables.
pub async fn open_for_backup(settings: &RegistrySettings) -> Result<SqlRegistry, Failure> {
    open_sql(settings, Tables::AsTheyAre).await
}

/// Opens the registry of `registry.url` to fill it from a backup. Creates it if it does not exist.
///
/// # Errors
/// As [`open_registry`].
pub async fn open_to_fill(settings: &RegistrySettings) -> Result<SqlRegistry, Failure> {
    open_sql(settings, Tables::BroughtUpToDate).await
}

async fn open_sql(settings: &RegistrySettings, tables: Tables) -> Result<SqlRegistry, Failure> {
    match settings.url.split_once(':') {
        Some(("sqlite", _)) => SqlRegistry::open_sqlite_with(&settings.url, tables).await,
        Some(("postgres" | "postgresql", _)) => SqlRegistry::open_postgres_with(settings, tables).await,
        _ => Err(unsupported_url("registry.url", &settings.url, SUPPORTED_URLS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn unknown_schemes_are_refused_and_the_url_s_secrets_are_not_repeated() {
        for url in ["mysql://root:geheim@db/x", "tasksync.sqlite", ""] {
            let settings = RegistrySettings {
                url: url.to_owned(),
                ..RegistrySettings::default()
            };
            let Err(failure) = open_registry(&settings).await else {
                panic!("{url} was opened")
            };
            assert_eq!(failure.code, Code::SettingsWrong);
            assert!(
                failure.detail.contains("registry.url") && failure.detail.contains("sqlite:PATH"),
                "{failure}"
            );
            assert!(!failure.detail.contains("geheim"), "{failure}");
        }
    }
}
