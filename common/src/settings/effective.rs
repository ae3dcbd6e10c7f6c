//! The values of settings by key, and where each comes from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use toml::Value;

use super::keys::{KEYS, declaration};
use super::problem::{SettingOrigin, SettingProblem, SettingsError, masked_value, one_line, shown_value};
use super::{Settings, files, variables};

/// Settings that were read and checked, with the origin of each value.
#[derive(Debug, Clone)]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// Sentences about what was ignored.
    pub warnings: Vec<String>,
    /// The origins of the keys that are set.
    pub(super) origins: BTreeMap<String, SettingOrigin>,
}

/// One setting as it is in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveSetting {
    /// The key as `section.name`.
    pub key: &'static str,
    /// The environment variable that sets it.
    pub variable: String,
    /// The value with passwords replaced by `***`; `None` if the setting has none.
    pub value: Option<Value>,
    /// The default; `None` if the setting has none.
    pub default: Option<Value>,
    /// What is allowed, as a phrase.
    pub allowed: String,
    /// Where the value comes from.
    pub origin: SettingOrigin,
}

impl EffectiveSetting {
    /// Returns the value as one line of TOML, or `not set`.
    #[must_use]
    pub fn value_text(&self) -> String {
        self.value.as_ref().map_or_else(|| "not set".to_owned(), one_line)
    }

    /// Returns the default as one line of TOML, or `not set`.
    #[must_use]
    pub fn default_text(&self) -> String {
        self.default
            .as_ref()
            .map_or_else(|| "not set".to_owned(), one_line)
    }

    /// Returns whether the value differs from the default.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.value != self.default
    }
}

impl LoadedSettings {
    /// Returns every setting with its value and origin, in the order of the reference page.
    #[must_use]
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        let (values, defaults) = (values(&self.settings), values(&Settings::default()));
        KEYS.iter()
            .map(|declared| {
                let shown = |values: &BTreeMap<String, Value>| {
                    Some(masked_value(declared, values.get(declared.key)?))
                };
                EffectiveSetting {
                    key: declared.key,
                    variable: variables::variable_of(declared.key),
                    value: shown(&values),
                    default: shown(&defaults),
                    allowed: declared.kind.allowed(),
                    origin: self.origin(declared.key),
                }
            })
            .collect()
    }

    /// Checks the files and folders that the settings name on this machine.
    ///
    /// # Errors
    /// Names every file of authorities that cannot be used, and the folder of the registry if it is missing.
    pub fn check_files(&self) -> Result<(), SettingsError> {
        let values = values(&self.settings);
        let problems: Vec<SettingProblem> = files::refusals(&self.settings)
            .into_iter()
            .filter_map(|(key, why)| {
                let declared = declaration(key)?;
                Some(SettingProblem::of_value(
                    declared,
                    values.get(key)?,
                    &self.origin(key),
                    &why,
                ))
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(SettingsError::Wrong(problems))
        }
    }

    fn origin(&self, key: &str) -> SettingOrigin {
        self.origins.get(key).cloned().unwrap_or(SettingOrigin::Default)
    }
}

/// Returns the values of all settings by key. Settings without a value are left out.
pub(super) fn values(settings: &Settings) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (section, members) in members(settings) {
        if let Value::Table(members) = members {
            for (name, value) in members {
                found.insert(format!("{section}.{name}"), value);
            }
        }
    }
    found
}

/// Returns the members of a settings struct. None is left out: numbers above what TOML can hold become the
/// largest that it can.
fn members(settings: &impl Serialize) -> toml::Table {
    toml::Table::try_from(settings).unwrap_or_default()
}

/// Formats the members of a section with the values that its declarations show.
pub(super) fn format_section(
    section: &str,
    settings: &impl Serialize,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut written = formatter.debug_map();
    for (name, value) in members(settings) {
        let shown = declaration(&format!("{section}.{name}"))
            .map_or_else(|| "***".to_owned(), |declared| shown_value(declared, &value));
        written.entry(&format_args!("{name}"), &format_args!("{shown}"));
    }
    written.finish()
}
