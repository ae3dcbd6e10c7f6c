//! The broker's address: `amqp://USER:PASSWORD@HOST:PORT,HOST:PORT/VHOST`.
//!
//! It has the form of RabbitMQ's URI specification, extended by several hosts. No error repeats the part
//! before the `@`, which holds the password.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Code, ErrorClass, Failure};

/// Largest number of hosts in one URL.
const MAXIMUM_HOSTS: usize = 32;

/// One node of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(formatter, "[{}]:{}", self.name, self.port)
        } else {
            write!(formatter, "{}:{}", self.name, self.port)
        }
    }
}

/// The decoded parts of a URL.
#[derive(Debug, Clone)]
pub(super) struct AmqpAddress {
    pub(super) tls: bool,
    pub(super) user: String,
    password: SecretString,
    pub(super) hosts: Vec<Host>,
    pub(super) vhost: String,
}

impl AmqpAddress {
    /// Reads a URL. Defaults are user `guest` with password `guest`, port 5672 (TLS: 5671) and vhost `/`.
    ///
    /// # Errors
    /// Names the wrong part and never repeats user or password.
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        Self::of(url).map_err(|what| wrong_url_failure(&what))
    }

    /// Does the same as [`Self::parse`]; the error is the rest of a sentence that begins with the URL.
    fn of(url: &str) -> Result<Self, String> {
        let (tls, rest) = if let Some(rest) = url.strip_prefix("amqp://") {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix("amqps://") {
            (true, rest)
        } else {
            return Err("does not begin with amqp:// or amqps://".to_owned());
        };
        if rest.contains(['?', '#']) {
            return Err("has a ? or #: parameters are settings of their own, and in names these are written %3F and %23".to_owned());
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (Some(account), hosts),
            None => (None, authority),
        };
        let (user, password) = match account {
            None | Some("") => ("guest".to_owned(), "guest".to_owned()),
            Some(account) => {
                if account.contains('@') {
                    return Err("has an @ in user or password; write it as %40".to_owned());
                }
                let (user, password) = account.split_once(':').unwrap_or((account, ""));
                if password.contains(':') {
                    return Err("has a second colon in the password; write it as %3A".to_owned());
                }
                (
                    decode(user)
                        .ok_or_else(|| "has a user that is not correctly percent-encoded".to_owned())?,
                    decode(password)
                        .ok_or_else(|| "has a password that is not correctly percent-encoded".to_owned())?,
                )
            }
        };
        let hosts: Vec<Host> = hosts
            .split(',')
            .map(|text| host(text.trim(), if tls { 5671 } else { 5672 }))
            .collect::<Result<_, _>>()?;
        if hosts.len() > MAXIMUM_HOSTS {
            return Err(format!(
                "names {} hosts; at most {MAXIMUM_HOSTS} are allowed",
                hosts.len()
            ));
        }
        let vhost = match path {
            None | Some("") => "/".to_owned(),
            Some(path) if path.contains('/') => {
                return Err("has a / in its vhost; write it as %2F".to_owned());
            }
            Some(path) => {
                decode(path).ok_or_else(|| "has a vhost that is not correctly percent-encoded".to_owned())?
            }
        };
        for (what, value) in [("user", &user), ("vhost", &vhost)] {
            if value.len() > 255 {
                return Err(format!("has a {what} of more than 255 bytes"));
            }
        }
        Ok(Self {
            tls,
            user,
            password: password.into(),
            hosts,
            vhost,
        })
    }

    pub(super) fn password(&self) -> &str {
        self.password.expose_secret()
    }
}

/// Returns why a URL is refused, as the rest of a sentence that begins with it.
pub(in crate::queue) fn url_refusal(url: &str) -> Option<String> {
    AmqpAddress::of(url).err()
}

fn wrong_url_failure(what: &str) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SettingsWrong,
        format!(
            "queue.url {what}; write amqp://USER:PASSWORD@HOST:PORT/VHOST, with several HOST:PORT of one cluster separated by commas"
        ),
    )
}

fn host(text: &str, default_port: u16) -> Result<Host, String> {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest
            .split_once(']')
            .ok_or_else(|| "has an IPv6 address without its closing bracket".to_owned())?;
        let port = match rest {
            "" => None,
            rest => Some(
                rest.strip_prefix(':')
                    .ok_or_else(|| "has text other than a port after an IPv6 address".to_owned())?,
            ),
        };
        (name, port)
    } else {
        match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => default_port,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())?,
    };
    if name.is_empty()
        || name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '%')
    {
        return Err("names no host, or an invalid host name".to_owned());
    }
    Ok(Host {
        name: name.to_owned(),
        port,
    })
}

fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(address: &AmqpAddress) -> Vec<String> {
        address.hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_part_is_read_and_decoded() {
        let address =
            AmqpAddress::parse("amqps://task%40sync:p%3A%2F%40ss@one.example:5673,[::1],two.example/%2Fsync")
                .unwrap();
        assert!(address.tls);
        assert_eq!(
            (address.user.as_str(), address.password()),
            ("task@sync", "p:/@ss")
        );
        assert_eq!(
            hosts(&address),
            ["one.example:5673", "[::1]:5671", "two.example:5671"]
        );
        assert_eq!(address.vhost, "/sync");
        for plain in ["amqp://localhost", "amqp://localhost/"] {
            let address = AmqpAddress::parse(plain).unwrap();
            assert_eq!((address.user.as_str(), address.password()), ("guest", "guest"));
            assert_eq!(
                (hosts(&address), address.vhost.as_str()),
                (vec!["localhost:5672".to_owned()], "/")
            );
        }
    }

    #[test]
    fn errors_do_not_contain_the_password() {
        for (url, part) in [
            ("amqp://u:geheim@", "no host"),
            ("amqp://u:geheim@h:0", "port"),
            ("amqp://u:geheim@h:99999", "port"),
            ("amqp://u:geheim@h/a/b", "vhost"),
            ("amqp://u:geheim@h/%zz", "vhost"),
            ("amqp://u:geheim%@h", "password"),
            ("amqp://u:geheim%f@h", "password"),
            ("amqp://u:gehe@im@h", "%40"),
            ("amqp://u:geheim:x@h", "%3A"),
            ("amqp://u:geheim@h?heartbeat=1", "parameters"),
            ("amqp://u:geheim@[::1", "bracket"),
            ("amqp://u:geheim@h,,i", "no host"),
            ("http://u:geheim@h", "amqp://"),
        ] {
            let failure = AmqpAddress::parse(url).unwrap_err();
            assert_eq!(failure.code, Code::SettingsWrong);
            assert!(failure.detail.contains(part), "{url}: {failure}");
            assert!(!failure.to_string().contains("gehe"), "{failure}");
        }
        let address = AmqpAddress::parse("amqp://u:geheim@h").unwrap();
        assert!(!format!("{address:?}").contains("geheim"));
    }
}
