//! What the value of a setting may be: the test, the words for it, and an example.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use toml::Value;

use super::network::Network;
use super::{Ratio, duration, log_filter, secrets};

/// What a value may be.
#[derive(Debug)]
pub(super) enum ValueKind {
    /// A time with its unit.
    Time {
        /// Shortest time.
        least: Duration,
        /// Longest time.
        most: Duration,
    },
    /// A whole number.
    Count {
        /// Smallest number.
        least: u64,
        /// Largest number.
        most: u64,
    },
    /// `true` or `false`.
    Switch,
    /// A list of networks.
    Networks,
    /// A share between 0 and 1.
    Share,
    /// A text that is not empty.
    Text(TextKind),
}

/// What a text may be.
#[derive(Debug)]
pub(super) enum TextKind {
    /// A short name of letters, digits and these signs.
    Name {
        /// Largest number of characters.
        most: usize,
        /// The signs.
        signs: &'static [char],
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IP address and a port to listen on.
    ListenAddress,
    /// The path of a PEM file with certificates.
    AuthoritiesFile,
    /// The folder of the tenants' secrets.
    SecretsFolder,
    /// The beginning of the names of variables with tenants' secrets.
    SecretsPrefix,
    /// The URL of the registry.
    RegistryUrl,
    /// The URL of the schedule.
    ScheduleUrl,
    /// The URL of the queue.
    QueueUrl,
    /// A filter of log lines.
    LogFilter,
    /// The address of an OTLP receiver.
    ReceiverUrl,
}

impl ValueKind {
    /// Returns why a value is refused, as the rest of a sentence that begins with the key and the value.
    pub(super) fn refusal(&self, value: &Value) -> Option<String> {
        match self {
            Self::Time { least, most } => time_refusal(value, *least, *most),
            Self::Count { least, most } => match value.as_integer() {
                None => Some("is not a whole number".to_owned()),
                Some(number) => {
                    let inside = u64::try_from(number).is_ok_and(|number| (*least..=*most).contains(&number));
                    (!inside).then(|| "is out of bounds".to_owned())
                }
            },
            Self::Switch => (!value.is_bool()).then(|| "is neither true nor false".to_owned()),
            Self::Share => {
                let share = value
                    .as_float()
                    .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
                    .or_else(|| match value.as_integer() {
                        Some(0) => Some(0.0),
                        Some(1) => Some(1.0),
                        Some(_) | None => None,
                    });
                (share.and_then(Ratio::of).is_none()).then(|| "is not a share".to_owned())
            }
            Self::Networks => networks_refusal(value),
            Self::Text(kind) => match value.as_str() {
                None => Some("is not a text in quotes".to_owned()),
                Some(text) if text.trim().is_empty() => Some("is empty".to_owned()),
                Some(text) => kind.refusal(text),
            },
        }
    }

    /// Returns what is allowed, as a phrase without a full stop.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Time { least, most } => {
                let mut text = "a whole number and a unit in quotes (ms, s, min, h or d)".to_owned();
                if least.is_zero() {
                    text.push_str(", or 0");
                } else {
                    let _ = write!(text, ", at least {}", duration::written(*least));
                }
                // The general limit interests only people who exceed it.
                if *most < Duration::from_hours(24 * 365) {
                    let _ = write!(text, ", at most {}", duration::written(*most));
                }
                text
            }
            Self::Count { least, most } => format!("a whole number from {least} to {most}"),
            Self::Switch => "true or false".to_owned(),
            Self::Networks => "a list of networks, each an IP address and a prefix length".to_owned(),
            Self::Share => "a number between 0 and 1".to_owned(),
            Self::Text(kind) => kind.allowed(),
        }
    }

    /// Returns a value to imitate, in TOML.
    pub(super) fn example(&self) -> String {
        let text = match self {
            Self::Time { least, most } => {
                let usual = Duration::from_secs(30).clamp(*least, *most);
                return format!("\"{}\"", duration::written(usual));
            }
            Self::Count { least, most } => return 10.clamp(*least, *most).to_string(),
            Self::Text(kind) => return kind.example(),
            Self::Switch => "false",
            Self::Networks => "[\"10.0.0.0/8\"]",
            Self::Share => "0.01",
        };
        text.to_owned()
    }

    /// Returns the text of an environment variable as a value of this kind. Text that is none becomes a
    /// string, which [`Self::refusal`] then refuses.
    pub(super) fn of_variable(&self, text: &str) -> Value {
        let written = || {
            toml::from_str::<toml::Table>(&format!("value = {text}"))
                .ok()
                .and_then(|mut table| table.remove("value"))
        };
        let taken = match self {
            Self::Count { .. } | Self::Time { .. } => {
                written().filter(|value| value.is_integer() || value.is_str())
            }
            Self::Switch => written().filter(Value::is_bool),
            Self::Share => written().filter(|value| !value.is_datetime()),
            Self::Networks => written().filter(Value::is_array),
            // Text is taken as it is; quotes around it are TOML's.
            Self::Text(_) => written().filter(Value::is_str),
        };
        taken.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

impl TextKind {
    /// Returns why a text is refused.
    fn refusal(&self, text: &str) -> Option<String> {
        match self {
            Self::Name { most, signs } => {
                let allowed = |sign: char| sign.is_ascii_alphanumeric() || signs.contains(&sign);
                if text.len() > *most {
                    Some("is too long".to_owned())
                } else {
                    let wrong = text.chars().find(|sign| !allowed(*sign));
                    wrong.map(|sign| format!("has the character {sign:?}"))
                }
            }
            Self::Choice(words) => (!words.contains(&text)).then(|| "is not one of the choices".to_owned()),
            Self::ListenAddress => text
                .parse::<SocketAddr>()
                .is_err()
                .then(|| "is not an IP address with a port".to_owned()),
            Self::SecretsFolder => secrets::folder_refusal(text),
            Self::SecretsPrefix => secrets::prefix_refusal(text),
            Self::RegistryUrl => crate::registry::url_refusal(text),
            Self::ScheduleUrl => crate::schedule::url_refusal(text),
            Self::QueueUrl => crate::queue::url_refusal(text),
            Self::LogFilter => log_filter::refusal(text),
            Self::ReceiverUrl => crate::telemetry::endpoint_refusal(text),
            Self::AuthoritiesFile => None,
        }
    }

    /// Returns what is allowed, as a phrase without a full stop.
    fn allowed(&self) -> String {
        match self {
            Self::Name { most, signs } => {
                let signs: Vec<String> = signs.iter().map(|sign| format!("\"{sign}\"")).collect();
                format!("1 to {most} letters, digits or the signs {}", signs.join(" "))
            }
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            Self::ListenAddress => "an IP address and a port; 0.0.0.0 or [::] for every address".to_owned(),
            Self::AuthoritiesFile => "the path of a PEM file with certificates of authorities".to_owned(),
            Self::SecretsFolder => secrets::ALLOWED_FOLDER.to_owned(),
            Self::SecretsPrefix => secrets::ALLOWED_PREFIX.to_owned(),
            Self::RegistryUrl => crate::registry::SUPPORTED_URLS.to_owned(),
            Self::ScheduleUrl => crate::schedule::SUPPORTED.to_owned(),
            Self::QueueUrl => crate::queue::SUPPORTED_URLS.to_owned(),
            Self::LogFilter => log_filter::ALLOWED.to_owned(),
            Self::ReceiverUrl => {
                "an http or https address without user, password, query or fragment".to_owned()
            }
        }
    }

    /// Returns a value to imitate, in TOML.
    fn example(&self) -> String {
        let text = match self {
            Self::Choice(words) => return format!("\"{}\"", words.first().copied().unwrap_or_default()),
            Self::Name { .. } => "\"tasksync\"",
            Self::ListenAddress => "\"127.0.0.1:8480\"",
            Self::AuthoritiesFile => "\"/etc/tasksync/ca.pem\"",
            Self::SecretsFolder => "\"/run/secrets/tenants\"",
            Self::SecretsPrefix => "\"TASKSYNC_SECRET_\"",
            Self::RegistryUrl => "\"postgres://tasksync:PASSWORD@db.example:5432/tasksync\"",
            Self::ScheduleUrl => "\"redis://:PASSWORD@redis.example:6379/0\"",
            Self::QueueUrl => "\"amqp://tasksync:PASSWORD@broker.example:5672/tasksync\"",
            Self::LogFilter => "\"info,tasksync_worker=debug\"",
            Self::ReceiverUrl => "\"https://collector.example:4318\"",
        };
        text.to_owned()
    }
}

fn time_refusal(value: &Value, least: Duration, most: Duration) -> Option<String> {
    let time = match value {
        Value::Integer(0) => Some(Duration::ZERO),
        Value::String(text) => duration::parse(text),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => None,
    };
    let is_bare_number = match value {
        Value::Integer(_) => true,
        Value::String(text) => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => false,
    };
    match time {
        None if is_bare_number => Some("has no unit".to_owned()),
        None => Some("is not a time".to_owned()),
        Some(time) if time < least => Some("is too short".to_owned()),
        Some(time) if time > most => Some(format!("is longer than {}", duration::written(most))),
        Some(_) => None,
    }
}

fn networks_refusal(value: &Value) -> Option<String> {
    let Some(entries) = value.as_array() else {
        return Some("is not a list in brackets".to_owned());
    };
    entries.iter().find_map(|entry| match entry.as_str() {
        None => Some("has an entry that is not a text in quotes".to_owned()),
        Some(text) => text
            .trim()
            .parse::<Network>()
            .err()
            .map(|error| format!("has a wrong entry: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;

    #[test]
    fn every_example_is_allowed() {
        for declared in KEYS {
            let example = declared.kind.example();
            let table: toml::Table = toml::from_str(&format!("value = {example}")).unwrap();
            assert_eq!(declared.kind.refusal(&table["value"]), None, "{}", declared.key);
        }
    }
}
