//! Reads the settings: a TOML file, then environment variables, which win. Everything that is wrong is collected,
//! so that an operator corrects it in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::effective::{LoadedSettings, values};
use super::keys::{SettingKey, declaration, is_section};
use super::problem::{SettingOrigin, SettingProblem, SettingsError, shown_value};
use super::relations::RELATIONS;
use super::variables::{VariableMeaning, meaning, variable_of};
use super::{Settings, secrets, suggestion};

/// Reads the file, if any, then the environment variables, and checks every value and the relations between
/// them. Other settings have their defaults. Files that the settings name are not looked at:
/// [`LoadedSettings::check_files`] does that.
///
/// # Errors
/// Names everything that is wrong, with file and line or the variable.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<LoadedSettings, SettingsError> {
    let (text, name) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
                path: path.to_owned(),
                error,
            })?;
            (text, path.display().to_string())
        }
        None => (String::new(), String::new()),
    };
    parse(&text, &name, environment)
}

/// Does the same as [`load`] with the text of a file; `file` names it in errors.
///
/// # Errors
/// Names everything that is wrong, with file and line or the variable.
pub fn parse(
    text: &str,
    file: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<LoadedSettings, SettingsError> {
    let mut reading = SettingsReading::default();
    reading.read_file(text, file)?;
    // In the order of names, so that the same environment gives the same text.
    reading.read_variables(environment.into_iter().collect());
    reading.finish()
}

/// Checks every value and the relations between them. [`parse`] does the same.
///
/// # Errors
/// Names everything that is wrong.
pub fn check(settings: &Settings) -> Result<(), SettingsError> {
    let mut reading = SettingsReading::default();
    for (key, value) in values(settings) {
        if let Some(declared) = declaration(&key) {
            reading.judge(declared, value, SettingOrigin::Default);
        }
    }
    reading.check_relations(settings);
    reading.into_result()
}

/// What was read so far.
#[derive(Default)]
struct SettingsReading {
    /// The accepted values, as sections with their members.
    accepted: Table,
    origins: BTreeMap<String, SettingOrigin>,
    refused: BTreeSet<&'static str>,
    problems: Vec<SettingProblem>,
    warnings: Vec<String>,
}

impl SettingsReading {
    /// # Errors
    /// The text is not TOML; then no key can be trusted.
    fn read_file(&mut self, text: &str, file: &str) -> Result<(), SettingsError> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let origin = |at: usize| SettingOrigin::File {
            file: file.to_owned(),
            line: line_of(text, at),
        };
        if !errors.is_empty() {
            let problems = errors.iter().map(|error| syntax_problem(error, origin)).collect();
            return Err(SettingsError::Wrong(problems));
        }
        let mut members = Vec::new();
        for (section, value) in document.get_ref() {
            match (value.get_ref(), is_section(section.get_ref())) {
                (DeValue::Table(table), true) => members.extend(table.iter().map(|(name, value)| {
                    let key = format!("{}.{}", section.get_ref(), name.get_ref());
                    (name.span().start, key, Some(value.get_ref()))
                })),
                // An unknown section, or a key outside of every section.
                (_, _) => members.push((section.span().start, section.get_ref().to_string(), None)),
            }
        }
        // In the order of the file.
        members.sort_by_key(|(at, _, _)| *at);
        for (at, key, value) in members {
            match (declaration(&key), value) {
                (Some(declared), Some(value)) => self.judge(declared, value_of(value), origin(at)),
                (_, value) => self
                    .problems
                    .push(unknown_problem(&key, value.is_some(), &origin(at))),
            }
        }
        Ok(())
    }

    fn read_variables(&mut self, environment: BTreeMap<String, String>) {
        let prefix = secrets::variable_prefix(&self.accepted, &environment);
        for (name, text) in environment {
            let origin = SettingOrigin::Variable(name.clone());
            match meaning(&name, &prefix) {
                VariableMeaning::NotOurs => {}
                VariableMeaning::Sets(key) => {
                    if let Some(declared) = declaration(&key) {
                        self.judge(declared, declared.kind.of_variable(&text), origin);
                    }
                }
                VariableMeaning::Misspelt { meant } => {
                    self.problems
                        .push(SettingProblem::of_place(&origin, &no_such_setting(meant)));
                }
                VariableMeaning::Strange => self.warnings.push(format!(
                    "the environment variable {name} is no setting of tasksync and is ignored"
                )),
            }
        }
    }

    /// Takes a value, or notes why it is refused.
    fn judge(&mut self, declared: &'static SettingKey, value: Value, origin: SettingOrigin) {
        if let Some(why) = declared.kind.refusal(&value) {
            self.problems
                .push(SettingProblem::of_value(declared, &value, &origin, &why));
            self.refused.insert(declared.key);
            return;
        }
        let (section, name) = declared.parts();
        let members = self
            .accepted
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(members) = members {
            members.insert(name.to_owned(), value);
        }
        self.origins.insert(declared.key.to_owned(), origin);
    }

    fn finish(mut self) -> Result<LoadedSettings, SettingsError> {
        let Ok(settings) = Value::Table(self.accepted.clone()).try_into::<Settings>() else {
            // Every value was judged before, so only a fault of tasksync leads here. The library's text may
            // repeat a value, so it is not shown.
            self.problems.push(SettingProblem::of_text(
                "the settings pass their checks and still cannot be read; please report this".to_owned(),
            ));
            return Err(SettingsError::Wrong(self.problems));
        };
        self.check_relations(&settings);
        let (warnings, origins) = (
            std::mem::take(&mut self.warnings),
            std::mem::take(&mut self.origins),
        );
        self.into_result()?;
        Ok(LoadedSettings {
            settings,
            warnings,
            origins,
        })
    }

    /// Checks the relations whose values were all accepted.
    fn check_relations(&mut self, settings: &Settings) {
        let (given, defaults) = (values(settings), values(&Settings::default()));
        for relation in RELATIONS {
            if relation.keys.iter().any(|key| self.refused.contains(key)) || (relation.holds)(settings) {
                continue;
            }
            let shown = |key: &str, values: &BTreeMap<String, Value>| {
                let value = declaration(key).zip(values.get(key));
                let text = value.map_or_else(
                    || "not set".to_owned(),
                    |(declared, value)| shown_value(declared, value),
                );
                format!("{key} = {text}")
            };
            let given: Vec<String> = relation
                .keys
                .iter()
                .map(|key| {
                    let origin = self.origins.get(*key).unwrap_or(&SettingOrigin::Default);
                    format!("{} ({origin})", shown(key, &given))
                })
                .collect();
            let defaults: Vec<String> = relation.keys.iter().map(|key| shown(key, &defaults)).collect();
            self.problems.push(SettingProblem::of_relation(
                relation.rule,
                &given.join(", "),
                &defaults.join(", "),
            ));
        }
    }

    fn into_result(self) -> Result<(), SettingsError> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(SettingsError::Wrong(self.problems))
        }
    }
}

/// Returns the problem of a text that is not TOML. Neither the line nor the library's text about what it
/// expected is shown: the line may hold a secret.
fn syntax_problem(error: &toml::de::Error, origin: impl Fn(usize) -> SettingOrigin) -> SettingProblem {
    let reason = error.message().split(", expected").next().unwrap_or_default();
    let at = error.span().map_or(0, |span| span.start);
    SettingProblem::of_place(
        &origin(at),
        &format!(
            "this line is not TOML: {reason}. Write a [section], and below it KEY = VALUE with texts in quotes. \
             Example: url = \"memory:\""
        ),
    )
}

/// Returns the problem of a key that is no setting. Its value is not shown: it may be a misplaced secret.
fn unknown_problem(key: &str, in_section: bool, origin: &SettingOrigin) -> SettingProblem {
    let near = suggestion::nearest_key(key);
    let text = match (near, in_section) {
        (near, true) => no_such_setting(near),
        (Some(near), false) if near.ends_with(&format!(".{key}")) => {
            let section = near.split('.').next().unwrap_or_default();
            format!("no such section; did you mean {near}? Write it below the line [{section}]")
        }
        (_, false) => {
            let sections = super::keys::KEYS.iter().map(|declared| declared.parts().0);
            crate::names::nearest_name(key, sections).map_or_else(
                || "no such section; see docs/settings.md for all settings".to_owned(),
                |near| format!("no such section; did you mean [{near}]?"),
            )
        }
    };
    SettingProblem::of_place(origin, &format!("{key}: {text}"))
}

fn no_such_setting(meant: Option<&str>) -> String {
    meant.map_or_else(
        || "no such setting; see docs/settings.md for all settings".to_owned(),
        |key| format!("no such setting; did you mean {key} ({})?", variable_of(key)),
    )
}

/// Returns the line of a place in a text. Lines begin with 1, places are numbers of bytes.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

/// Returns a parsed value without its places. A number that no setting can hold becomes its text.
fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.to_string()), Value::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or_else(|_| Value::String(number.to_string()), Value::Float),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(entries) => {
            Value::Array(entries.iter().map(|entry| value_of(entry.get_ref())).collect())
        }
        DeValue::Table(members) => Value::Table(
            members
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), value_of(value.get_ref())))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests;
