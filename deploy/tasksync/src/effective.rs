//! `tasksync config show`: each setting with its value and origin.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tasksync_common::settings::{EffectiveSetting, SettingOrigin};

/// Returns the settings as lines of `key = value`, each with its origin.
pub(crate) fn text(settings: &[EffectiveSetting]) -> String {
    let lines: Vec<(String, &EffectiveSetting)> = settings
        .iter()
        .map(|setting| (format!("{} = {}", setting.key, setting.value_text()), setting))
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(WIDEST);
    let mut text = String::new();
    for (line, setting) in lines {
        let _ = writeln!(text, "{line:width$}  # {}", setting.origin);
    }
    text
}

/// Widest column of keys and values, in characters. Longer lines stand out.
const WIDEST: usize = 70;

/// Returns the settings as JSON.
pub(crate) fn json(settings: &[EffectiveSetting]) -> Value {
    let entries: Vec<Value> = settings
        .iter()
        .map(|setting| {
            let (origin, file, line) = match &setting.origin {
                SettingOrigin::Default => ("default", None, None),
                SettingOrigin::File { file, line } => ("file", Some(file), Some(line)),
                SettingOrigin::Variable(_) => ("variable", None, None),
            };
            json!({
                "key": setting.key,
                "value": setting.value,
                "default": setting.default,
                "changed": setting.is_changed(),
                "origin": origin,
                "file": file,
                "line": line,
                "variable": setting.variable,
            })
        })
        .collect();
    json!({ "settings": entries })
}
