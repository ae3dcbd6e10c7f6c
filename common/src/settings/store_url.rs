//! URLs of stores: the refusal of unsupported kinds, and hiding passwords.

use crate::error::{Code, ErrorClass, Failure};

/// Returns why a URL's kind of store is refused, as the rest of a sentence. It never contains the rest of the
/// URL, which may hold a password.
pub(crate) fn kind_refusal(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, _))
            if !scheme.is_empty()
                && scheme
                    .chars()
                    .all(|sign| sign.is_ascii_alphanumeric() || sign == '+') =>
        {
            format!("names a store of kind \"{scheme}:\", which is not supported")
        }
        Some(_) | None => "has no kind of store in front".to_owned(),
    }
}

/// Returns a failure that names the setting, the scheme found and the supported schemes. It never contains
/// the rest of the URL, which may hold a password.
pub(crate) fn unsupported_url(setting: &str, url: &str, supported: &str) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SettingsWrong,
        format!("{setting} {}; supported: {supported}", kind_refusal(url)),
    )
}

/// Parameters of URLs that hold no secret and are shown.
const OPEN_PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "mode",
    "cache",
];

/// Returns a store's URL for display, with its password replaced by `***`.
///
/// The text need not be a right URL: a password may hold any character, and what cannot be told from a
/// password is hidden, too.
#[must_use]
pub fn without_password(url: &str) -> String {
    // The kinds without user, host and password.
    if url.is_empty() || url == "memory:" || (url.starts_with("sqlite:") && !url.contains('@')) {
        return url.to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    if !scheme
        .chars()
        .all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '-' | '.'))
    {
        return "***".to_owned();
    }
    // The last "@" ends the password, even if the password holds one or a "/" or "?" that is not encoded.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let login = login.map_or_else(String::new, |login| match login.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => "***@".to_owned(),
    });
    let query = query.map_or_else(String::new, |query| {
        let shown: Vec<String> = query.split('&').map(shown_parameter).collect();
        format!("?{}", shown.join("&"))
    });
    format!("{scheme}://{login}{}{query}", shown_hosts(place))
}

/// Returns hosts and path. Without an `@`, a password may stand where a port belongs.
fn shown_hosts(place: &str) -> String {
    let (hosts, path) = match place.split_once('/') {
        Some((hosts, path)) => (hosts, format!("/{path}")),
        None => (place, String::new()),
    };
    let hosts: Vec<String> = hosts
        .split(',')
        .map(|host| match host.rsplit_once(':') {
            Some((name, port)) if !port.bytes().all(|byte| byte.is_ascii_digit()) && !port.ends_with(']') => {
                format!("{name}:***")
            }
            Some(_) | None => host.to_owned(),
        })
        .collect();
    hosts.join(",") + &path
}

fn shown_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if !OPEN_PARAMETERS.contains(&name) => format!("{name}=***"),
        Some(_) => parameter.to_owned(),
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            (
                "postgres://t:geheim@db.example:5432/t?sslmode=require",
                "postgres://t:***@db.example:5432/t?sslmode=require",
            ),
            ("postgres://db/t?password=geheim", "postgres://db/t?password=***"),
            (
                "redis+sentinel://app:geheim@a:1,b:2/m/0?sentinel_password=geheim",
                "redis+sentinel://app:***@a:1,b:2/m/0?sentinel_password=***",
            ),
            ("amqp://u:gehe@im@h,[::1]:5672/v", "amqp://u:***@h,[::1]:5672/v"),
            ("amqp://u:ge/geheim?geheim@h", "amqp://u:***@h"),
            ("redis://geheim@h", "redis://***@h"),
            ("redis://app:geheim", "redis://app:***"),
            ("postgres://db/t?geheim", "postgres://db/t?***"),
            ("geheim@x", "***"),
            ("x:geheim@y", "***"),
            ("geheim", "***"),
            ("sqlite:geheim@x", "***"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
        for url in ["sqlite:tasksync.sqlite", "sqlite::memory:", "memory:", ""] {
            assert_eq!(without_password(url), url);
        }
    }
}
