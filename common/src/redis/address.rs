//! The Redis URL of the settings.

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Code, ErrorClass, Failure};

/// The accepted forms, for errors.
const FORMS: &str = "redis://HOST:PORT/DB (one server), redis+sentinel://H1:P,H2:P/MASTER/DB, redis+cluster://H1:P,H2:P; \
    rediss in place of redis for TLS, USER:PASSWORD@ before the hosts";

/// Largest number of hosts in one URL.
const MOST_HOSTS: usize = 64;

/// Default ports of Redis and of Sentinel.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How the named servers are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedisTopology {
    /// One server.
    Single,
    /// Sentinels that know the present master of this name.
    Sentinel {
        /// Name of the master.
        master: String,
    },
    /// Some nodes of a cluster.
    Cluster,
}

/// User and password.
#[derive(Debug, Clone, Default)]
pub(super) struct RedisLogin {
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
}

impl RedisLogin {
    /// Returns the password. It may be passed on but never shown.
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The parts of a Redis URL.
#[derive(Debug, Clone)]
pub(super) struct RedisAddress {
    pub(super) kind: RedisTopology,
    pub(super) tls: bool,
    /// Host and port of each server; never empty.
    pub(super) hosts: Vec<(String, u16)>,
    /// Login at the servers.
    pub(super) login: RedisLogin,
    /// Login at the Sentinels: `?sentinel_user=` and `?sentinel_password=`.
    pub(super) sentinel_login: RedisLogin,
    pub(super) database: i64,
}

/// Returns whether the URL has one of the schemes of Redis.
#[must_use]
pub fn is_redis_url(url: &str) -> bool {
    url.split_once(':')
        .is_some_and(|(scheme, _)| kind(scheme).is_some())
}

/// Returns why a URL of Redis is refused, as the rest of a sentence that begins with the URL.
pub(crate) fn redis_url_refusal(url: &str) -> Option<String> {
    parse(url).err().map(|why| format!("cannot be used: {why}"))
}

/// Returns the kind (for Sentinels without the name of the master), and whether it uses TLS.
fn kind(scheme: &str) -> Option<(RedisTopology, bool)> {
    let (base, form) = scheme
        .split_once('+')
        .map_or((scheme, ""), |(base, form)| (base, form));
    let tls = match base {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    match form {
        "" => Some((RedisTopology::Single, tls)),
        "sentinel" => Some((
            RedisTopology::Sentinel {
                master: String::new(),
            },
            tls,
        )),
        "cluster" => Some((RedisTopology::Cluster, tls)),
        _ => None,
    }
}

impl RedisAddress {
    /// Reads a URL; `setting` names the setting it comes from.
    ///
    /// # Errors
    /// Names what is wrong, and never repeats a part that may hold a password.
    pub(super) fn parse(setting: &str, url: &str) -> Result<Self, Failure> {
        parse(url).map_err(|wrong| {
            Failure::new(
                ErrorClass::Refused,
                Code::SettingsWrong,
                format!("{setting}: {wrong}; a Redis URL is {FORMS}"),
            )
        })
    }

    /// Returns the servers as text, without user and password.
    pub(super) fn describe(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|(host, port)| {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
        let hosts = hosts.join(",");
        match &self.kind {
            RedisTopology::Single => format!("Redis at {hosts}"),
            RedisTopology::Sentinel { master } => format!("Redis master {master} of the sentinels {hosts}"),
            RedisTopology::Cluster => format!("Redis Cluster at {hosts}"),
        }
    }
}

/// Reads a URL. The error repeats no part of it except scheme, host and path.
fn parse(url: &str) -> Result<RedisAddress, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no \"://\"")?;
    let (mut kind, tls) = kind(scheme).ok_or("its scheme is not a scheme of Redis")?;
    let (rest, query) = rest
        .split_once('?')
        .map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, path) = rest
        .split_once('/')
        .map_or((rest, ""), |(before, path)| (before, path));
    // Split at the last "@". Otherwise the rest of a password with an unescaped "@" would become a host's
    // name and appear in a log.
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (login_of(login)?, hosts),
        None => (RedisLogin::default(), authority),
    };
    let port = match kind {
        RedisTopology::Sentinel { .. } => SENTINEL_PORT,
        RedisTopology::Single | RedisTopology::Cluster => PORT,
    };
    let hosts = hosts
        .split(',')
        .map(|host| host_and_port(host, port))
        .collect::<Result<Vec<_>, String>>()?;
    if hosts.len() > MOST_HOSTS {
        return Err(format!(
            "it names {} hosts; at most {MOST_HOSTS} are allowed",
            hosts.len()
        ));
    }
    let mut path = path.trim_end_matches('/').split('/');
    let database = match &mut kind {
        RedisTopology::Single if hosts.len() > 1 => {
            return Err("several hosts need the form redis+sentinel: or redis+cluster:".to_owned());
        }
        RedisTopology::Single => path.next(),
        RedisTopology::Cluster => match path.next() {
            Some(database) if !matches!(database, "" | "0") => {
                return Err("a cluster has only database 0".to_owned());
            }
            other => other,
        },
        RedisTopology::Sentinel { master } => {
            *master = percent_decode(path.next().unwrap_or_default())?;
            if master.is_empty() {
                return Err("the name of the master is missing after the hosts".to_owned());
            }
            path.next()
        }
    };
    let database = match database.unwrap_or_default() {
        "" => 0,
        text => match text.parse::<i64>() {
            Ok(number) if (0..=1_000_000).contains(&number) => number,
            Ok(_) | Err(_) => return Err("the database after the last \"/\" is not a number".to_owned()),
        },
    };
    if path.next().is_some() {
        return Err("there is more after the database".to_owned());
    }
    let sentinel_login = sentinel_login(&kind, query)?;
    Ok(RedisAddress {
        kind,
        tls,
        hosts,
        login,
        sentinel_login,
        database,
    })
}

fn login_of(text: &str) -> Result<RedisLogin, String> {
    let (user, password) = text
        .split_once(':')
        .map_or((text, None), |(user, password)| (user, Some(password)));
    Ok(RedisLogin {
        user: Some(percent_decode(user)?).filter(|user| !user.is_empty()),
        password: password
            .map(percent_decode)
            .transpose()?
            .filter(|password| !password.is_empty())
            .map(SecretString::from),
    })
}

fn sentinel_login(kind: &RedisTopology, query: &str) -> Result<RedisLogin, String> {
    let mut login = RedisLogin::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (kind, name) {
            (RedisTopology::Sentinel { .. }, "sentinel_user") => login.user = Some(percent_decode(value)?),
            (RedisTopology::Sentinel { .. }, "sentinel_password") => {
                login.password = Some(SecretString::from(percent_decode(value)?));
            }
            _ => {
                return Err(
                    "a parameter after \"?\" is not known; known are sentinel_user and sentinel_password of \
                     redis+sentinel:"
                        .to_owned(),
                );
            }
        }
    }
    Ok(login)
}

fn host_and_port(text: &str, port: u16) -> Result<(String, u16), String> {
    let (host, number) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address has no \"]\"")?;
        (
            host,
            after.strip_prefix(':').or((!after.is_empty()).then_some(after)),
        )
    } else {
        match text.split_once(':') {
            Some((host, number)) => (host, Some(number)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("a host is missing".to_owned());
    }
    let plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | ':' | '%')
    };
    if !host.chars().all(plain) {
        return Err(
            "a host has characters that no host name has (is a special character of the password not \
                    percent-encoded?)"
                .to_owned(),
        );
    }
    let number = match number {
        None => port,
        // The text is not repeated: if the "@" was forgotten, it is the password.
        Some(number) => match number.parse::<u16>() {
            Ok(number) if number > 0 => number,
            Ok(_) | Err(_) => return Err("a port is not a number from 1 to 65535".to_owned()),
        },
    };
    Ok((host.to_owned(), number))
}

/// Returns the percent-decoded text.
fn percent_decode(text: &str) -> Result<String, String> {
    const WRONG: &str = "a \"%\" in user, password or name is not followed by two hexadecimal digits, or the result is not text";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(WRONG.to_owned());
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_| WRONG.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(url: &str) -> RedisAddress {
        RedisAddress::parse("schedule.url", url).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        let one = good("redis://localhost");
        assert_eq!(
            (one.kind, one.tls, one.database),
            (RedisTopology::Single, false, 0)
        );
        assert_eq!(one.hosts, [("localhost".to_owned(), 6379)]);
        let one = good("rediss://:p%40ss%2Fw%3Ard@[fe80::1]:7000/3");
        assert_eq!((one.tls, one.database), (true, 3));
        assert_eq!(one.hosts, [("fe80::1".to_owned(), 7000)]);
        assert_eq!(
            (one.login.user.as_deref(), one.login.password()),
            (None, Some("p@ss/w:rd"))
        );
        assert_eq!(one.describe(), "Redis at [fe80::1]:7000");

        let sentinel = good("redis+sentinel://app:geheim@a:1,b,c:3/my%20master/2?sentinel_password=s%26s");
        assert_eq!(
            sentinel.kind,
            RedisTopology::Sentinel {
                master: "my master".to_owned()
            }
        );
        assert_eq!(
            sentinel.hosts.iter().map(|(_, port)| *port).collect::<Vec<_>>(),
            [1, 26379, 3]
        );
        assert_eq!(
            (sentinel.database, sentinel.sentinel_login.password()),
            (2, Some("s&s"))
        );
        assert_eq!(sentinel.login.user.as_deref(), Some("app"));

        let cluster = good("rediss+cluster://a:1,b:2,c:3");
        assert_eq!(
            (cluster.kind.clone(), cluster.tls, cluster.hosts.len()),
            (RedisTopology::Cluster, true, 3)
        );
        assert_eq!(cluster.describe(), "Redis Cluster at a:1,b:2,c:3");
    }

    #[test]
    fn wrong_urls_are_refused_in_words_and_without_the_password() {
        for (url, says) in [
            ("redis:localhost", "://"),
            ("redis+ring://a", "scheme"),
            ("http://a", "scheme"),
            ("redis://", "host is missing"),
            ("redis://a:1,b:2", "redis+cluster"),
            ("redis://app:geheim", "port"),
            ("redis://:geheim@a:99999", "port"),
            ("redis://:geheim%2@a", "hexadecimal"),
            ("redis://:geheim#x@a/zero", "database"),
            ("redis://:geheim@x\u{e9}:1", "characters"),
            ("redis+cluster://:geheim@a:1/4", "database"),
            ("redis+sentinel://:geheim@a:1", "master"),
            ("redis+sentinel://a:1/m/0/9", "more after"),
            ("redis://a?password=geheim", "not known"),
            ("redis://[::1", "IPv6"),
        ] {
            let failure = RedisAddress::parse("schedule.url", url).unwrap_err();
            assert_eq!(failure.code, Code::SettingsWrong);
            assert!(
                failure.detail.contains("schedule.url") && failure.detail.contains(says),
                "{url}: {failure}"
            );
            assert!(!failure.detail.contains("geheim"), "{failure}");
        }
        let debug = format!("{:?}", good("redis://app:geheim@a"));
        assert!(!debug.contains("geheim"), "{debug}");
    }

    #[test]
    fn only_redis_schemes_are_its_own() {
        for url in [
            "redis://a",
            "rediss://a",
            "redis+cluster://a",
            "rediss+sentinel://a/m",
        ] {
            assert!(is_redis_url(url), "{url}");
        }
        for url in ["memory:", "redis", "redis+x://a", "amqp://redis:6379"] {
            assert!(!is_redis_url(url), "{url}");
        }
    }
}
