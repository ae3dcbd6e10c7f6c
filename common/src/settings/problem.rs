//! What is wrong with settings, in words for the operator who corrects it.

use std::fmt;
use std::path::PathBuf;

use toml::Value;

use super::keys::{SettingKey, Visibility};
use super::store_url::without_password;

/// Largest number of characters of a value that an error shows.
const VALUE_SHOWN: usize = 100;

/// The place where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The settings do not name the key.
    Default,
    /// A line of the settings file.
    File {
        /// The file as it was named.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Variable(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { file, line } => write!(formatter, "{file}:{line}"),
            Self::Variable(name) => write!(formatter, "variable {name}"),
        }
    }
}

/// One thing that is wrong: where, which key with which value, what is allowed, and an example. It shows no
/// password and no value of an unknown key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem(String);

impl fmt::Display for SettingProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl SettingProblem {
    /// Returns the problem of a value that its declaration refuses, or that cannot be used on this machine.
    pub(super) fn of_value(declared: &SettingKey, value: &Value, origin: &SettingOrigin, why: &str) -> Self {
        let (_, name) = declared.parts();
        let (shown, allowed, example) = (
            shown_value(declared, value),
            declared.kind.allowed(),
            declared.kind.example(),
        );
        Self(format!(
            "{}{} = {shown} {why}. Allowed: {allowed}. Example: {name} = {example}",
            place_in_front(origin),
            declared.key
        ))
    }

    /// Returns the problem of a line, key or variable that is no setting.
    pub(super) fn of_place(origin: &SettingOrigin, what: &str) -> Self {
        Self(format!("{}{what}", place_in_front(origin)))
    }

    /// Returns the problem of settings that do not fit each other. `rule` says what must hold.
    pub(super) fn of_relation(rule: &str, given: &str, defaults: &str) -> Self {
        Self(format!(
            "{rule}. Given: {given}. Example: the defaults, {defaults}"
        ))
    }

    /// Returns a problem with a text of its own.
    pub(super) fn of_text(text: String) -> Self {
        Self(text)
    }
}

/// Returns the place in front of a problem.
fn place_in_front(origin: &SettingOrigin) -> String {
    match origin {
        SettingOrigin::Default => String::new(),
        SettingOrigin::File { .. } | SettingOrigin::Variable(_) => format!("{origin}: "),
    }
}

/// Returns a value without what its declaration hides.
pub(super) fn masked_value(declared: &SettingKey, value: &Value) -> Value {
    match (declared.visibility, value) {
        (Visibility::Whole, _) => value.clone(),
        (Visibility::WithoutPassword, Value::String(url)) => Value::String(without_password(url)),
        (
            Visibility::WithoutPassword,
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_),
        ) => Value::String("***".to_owned()),
    }
}

/// Returns a value as TOML on one line.
pub(super) fn one_line(value: &Value) -> String {
    match value {
        // TOML would write a text with line breaks over several lines.
        Value::String(text) => format!("\"{}\"", text.escape_debug()),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => value.to_string().replace('\n', " "),
    }
}

/// Returns a value for an error: in TOML, without what its declaration hides, and cut if it is long.
pub(super) fn shown_value(declared: &SettingKey, value: &Value) -> String {
    let text = one_line(&masked_value(declared, value));
    if text.chars().count() > VALUE_SHOWN {
        let begin: String = text.chars().take(VALUE_SHOWN).collect();
        format!("{begin}…")
    } else {
        text
    }
}

/// Why the settings cannot be used.
#[derive(Debug)]
pub enum SettingsError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// Everything that is wrong, in the order of the file.
    Wrong(Vec<SettingProblem>),
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(
                formatter,
                "the settings file {} cannot be read: {error}. Name another file with --config or TASKSYNC_CONFIG, or make \
                 this one readable",
                path.display()
            ),
            Self::Wrong(problems) => match problems.as_slice() {
                [one] => write!(formatter, "the settings cannot be used: {one}"),
                several => {
                    write!(
                        formatter,
                        "the settings cannot be used, for {} reasons:",
                        several.len()
                    )?;
                    several
                        .iter()
                        .try_for_each(|problem| write!(formatter, "\n  - {problem}"))
                }
            },
        }
    }
}
