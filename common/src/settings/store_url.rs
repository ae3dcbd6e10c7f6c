//! URLs of stores: the refusal of unsupported kinds, and hiding passwords.

use url::Url;

use crate::error::{Code, ErrorClass, Failure};

/// Returns a failure that names the setting, the scheme found and the supported schemes. It never contains
/// the rest of the URL, which may hold a password.
pub(crate) fn unsupported_url(setting: &str, url: &str, supported: &str) -> Failure {
    let found = match url.split_once(':') {
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            format!("names a store of kind \"{scheme}:\"")
        }
        Some(_) | None => "has no kind of store in front".to_owned(),
    };
    Failure::new(
        ErrorClass::Refused,
        Code::SettingsWrong,
        format!("{setting} {found}; supported: {supported}"),
    )
}

/// Returns a store's URL for display, with its password replaced by `***`.
#[must_use]
pub fn without_password(url: &str) -> String {
    let hidden = |mut parsed: Url| {
        if parsed.password().is_some() && parsed.set_password(Some("***")).is_err() {
            return None;
        }
        if parsed.query_pairs().any(|(name, _)| name == "password") {
            parsed.set_query(Some("***"));
        }
        Some(parsed.to_string())
    };
    // Text that is not a URL may be a misplaced secret. A URL without a host and without `@` holds no
    // password.
    match Url::parse(url) {
        Ok(parsed) if parsed.has_host() => hidden(parsed).unwrap_or_else(|| "***".to_owned()),
        Ok(_) if !url.contains('@') => url.to_owned(),
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            without_password("postgres://t:geheim@db.example:5432/t?sslmode=require"),
            "postgres://t:***@db.example:5432/t?sslmode=require"
        );
        for url in [
            "postgres://db/t?password=geheim",
            "geheim@x",
            "x:geheim@y",
            "geheim",
        ] {
            assert!(!without_password(url).contains("geheim"), "{url}");
        }
        for url in ["sqlite:tasksync.sqlite", "sqlite::memory:", "memory:"] {
            assert_eq!(without_password(url), url);
        }
    }
}
