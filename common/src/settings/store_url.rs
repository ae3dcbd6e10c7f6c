//! URLs of stores: the refusal of unsupported kinds, and hiding passwords.

use std::net::IpAddr;

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

/// The parts of a store's URL, `SCHEME://LOGIN@HOST:PORT,HOST:PORT/PATH?QUERY`.
///
/// The text need not be a right URL: a password may hold any character. So the last `@` ends the login, even after a
/// `/` or `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreAddress<'u> {
    /// The kind of store.
    pub scheme: &'u str,
    /// User and password, if there are any.
    pub login: Option<&'u str>,
    hosts: &'u str,
    /// What follows the hosts, with the `/` in front; may be empty.
    path: &'u str,
    /// The parameters, without the `?` in front.
    pub query: Option<&'u str>,
}

impl<'u> StoreAddress<'u> {
    /// Returns the parts; `None` for a store without user, host and password, and for text that has no scheme.
    #[must_use]
    pub fn parse(url: &'u str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_scheme = scheme
            .chars()
            .all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '-' | '.'));
        if !is_scheme || scheme == "sqlite" {
            return None;
        }
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let (hosts, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        Some(Self {
            scheme,
            login,
            hosts,
            path,
            query,
        })
    }

    /// Returns the hosts with their ports, if these are named.
    fn hosts(&self) -> impl Iterator<Item = (&'u str, Option<&'u str>)> {
        self.hosts.split(',').map(|host| match host.rsplit_once(':') {
            // A colon inside of brackets belongs to an IPv6 address.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            Some(_) | None => (host, None),
        })
    }

    /// Returns whether every host is this machine.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        self.hosts().all(|(name, _)| {
            let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
            name.is_empty() || name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }
}

/// Returns a store's URL for display, with its password replaced by `***`. What cannot be told from a password is
/// hidden, too.
#[must_use]
pub fn without_password(url: &str) -> String {
    // The kinds without user, host and password.
    if url.is_empty() || url == "memory:" || (url.starts_with("sqlite:") && !url.contains('@')) {
        return url.to_owned();
    }
    let Some(address) = StoreAddress::parse(url) else {
        return "***".to_owned();
    };
    let login = address
        .login
        .map_or_else(String::new, |login| match login.split_once(':') {
            Some((user, _)) => format!("{user}:***@"),
            None => "***@".to_owned(),
        });
    let hosts: Vec<String> = address.hosts().map(shown_host).collect();
    let query = address.query.map_or_else(String::new, |query| {
        let shown: Vec<String> = query.split('&').map(shown_parameter).collect();
        format!("?{}", shown.join("&"))
    });
    format!(
        "{}://{login}{}{}{query}",
        address.scheme,
        hosts.join(","),
        address.path
    )
}

/// Returns a host with its port. Without an `@`, a password may stand where a port belongs.
fn shown_host((name, port): (&str, Option<&str>)) -> String {
    match port {
        None => name.to_owned(),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{name}:{port}"),
        Some(_) => format!("{name}:***"),
    }
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
            ("sqlite://geheim@x", "***"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
        for url in ["sqlite:tasksync.sqlite", "sqlite::memory:", "memory:", ""] {
            assert_eq!(without_password(url), url);
        }
    }

    #[test]
    fn a_store_is_on_this_machine_if_all_its_hosts_are() {
        for (url, expected) in [
            ("postgres:///t", true),
            ("redis://localhost:6379/0", true),
            ("redis://:p@127.0.0.1", true),
            ("redis://[::1]", true),
            ("redis://[::1]:6379/0", true),
            ("redis+cluster://localhost:1,[::1]:2,127.0.0.2", true),
            ("redis+cluster://localhost:1,b.example:2", false),
            ("amqp://u:p@[2001:db8::1]:5672/v", false),
            ("amqp://u:p@[2001:db8::1]", false),
            ("amqp://u:ge@localhost/heim@mq.example/v", false),
            ("redis://127.0.0.1.example", false),
        ] {
            let address = StoreAddress::parse(url).unwrap();
            assert_eq!(address.is_on_this_machine(), expected, "{url}");
        }
        for url in ["memory:", "sqlite:t.sqlite", "sqlite:///t.sqlite", "t"] {
            assert_eq!(StoreAddress::parse(url), None, "{url}");
        }
    }
}
