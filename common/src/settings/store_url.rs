//! The refusal of a store's URL whose kind this build does not have.

use crate::error::{Code, ErrorClass, Failure};

/// A failure that names the setting, the scheme found (never the rest of the URL, which may hold a password), and what
/// is supported.
pub(crate) fn unsupported_url(setting: &str, url: &str, supported: &str) -> Failure {
    let found = match url.split_once(':') {
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            format!("names a store of kind \"{scheme}:\"")
        }
        Some(_) | None => "has no kind of store in front".to_owned(),
    };
    Failure::new(
        ErrorClass::TenantPermanent,
        Code::SettingsWrong,
        format!("{setting} {found}; supported: {supported}"),
    )
}
