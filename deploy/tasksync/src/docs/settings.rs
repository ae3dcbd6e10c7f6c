//! The settings reference. Meanings come from the doc comments of the settings' source, defaults and what is allowed
//! from its declarations.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tasksync_common::settings::{EffectiveSetting, parse};

use super::declared::{self, DeclaredField, DeclaredType};

/// The source with these comments.
const SOURCE: &str = include_str!("../../../../common/src/settings.rs");

pub(super) fn markdown() -> String {
    let types = declared::types(SOURCE);
    let known = declared_settings();
    let mut page = String::from(
        "# Settings\n\nGenerated from the code (`tasksync docs settings`); do not edit.\n\n\
         Settings are a TOML file (`tasksync standalone --config FILE`) and environment variables, which win: \
         `TASKSYNC_WORKER__USERS_AT_ONCE` stands for `worker.users_at_once`. Unknown keys and misspelt variables are refused. \
         Durations carry their unit: `250ms`, `45s`, `5min`, `3h`, `30d`, or `0`. `tasksync config check FILE` names everything \
         that a start with this file would refuse. `tasksync config show --config FILE` shows each value with the place where it \
         comes from.\n\n\
         Not settings but variables of their own: `TASKSYNC_TOKEN` or `TASKSYNC_TOKEN_FILE` (the operator token of the API), \
         `TASKSYNC_CONFIG` (the settings file), `TASKSYNC_URL` (where commands find the service), and those whose names begin \
         with `TASKSYNC_SECRET_`.\n",
    );
    for section in fields(&types, "Settings") {
        let _ = writeln!(page, "\n## {}\n\n{}\n", section.name, section.meaning);
        page.push_str("| key | default | allowed | meaning |\n|---|---|---|---|\n");
        for field in fields(&types, &section.kind) {
            let key = format!("{}.{}", section.name, field.name);
            let (default, allowed) = known.get(key.as_str()).map_or_else(Default::default, |setting| {
                (setting.default_text(), setting.allowed.replace('|', "\\|"))
            });
            let _ = writeln!(page, "| `{key}` | `{default}` | {allowed} | {} |", field.meaning);
        }
    }
    page
}

/// Returns the declared settings by key. The default settings are always right.
fn declared_settings() -> BTreeMap<&'static str, EffectiveSetting> {
    let settings = parse("", "", [])
        .map(|loaded| loaded.effective())
        .unwrap_or_default();
    settings
        .into_iter()
        .map(|setting| (setting.key, setting))
        .collect()
}

fn fields<'a>(types: &'a BTreeMap<String, DeclaredType>, name: &str) -> &'a [DeclaredField] {
    types.get(name).map_or(&[], |declared| declared.fields.as_slice())
}

/// Returns `300s` or `250ms` as it is written in settings: `"5min"`.
pub(super) fn duration(debug: &str) -> Option<String> {
    if let Some(milliseconds) = debug.strip_suffix("ms") {
        return milliseconds
            .parse::<u64>()
            .ok()
            .map(|milliseconds| format!("\"{milliseconds}ms\""));
    }
    let seconds: u64 = debug.strip_suffix('s')?.parse().ok()?;
    let (number, unit) = match seconds {
        0 => return Some("\"0\"".to_owned()),
        // One or two days are written in hours.
        days if days % 86_400 == 0 && days > 2 * 86_400 => (days / 86_400, "d"),
        hours if hours % 3_600 == 0 => (hours / 3_600, "h"),
        minutes if minutes % 60 == 0 && minutes > 120 => (minutes / 60, "min"),
        seconds => (seconds, "s"),
    };
    Some(format!("\"{number}{unit}\""))
}

#[cfg(test)]
mod tests {
    use tasksync_common::settings::Settings;

    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_its_true_default() {
        let types = declared::types(SOURCE);
        let sections = fields(&types, "Settings");
        assert!(sections.len() >= 8, "{sections:?}");
        let known = declared_settings();
        let mut keys = 0;
        for section in sections {
            let fields = fields(&types, &section.kind);
            assert!(!fields.is_empty(), "{section:?}");
            for field in fields {
                let key = format!("{}.{}", section.name, field.name);
                assert!(field.meaning.ends_with('.'), "{key}: {}", field.meaning);
                let default = known
                    .get(key.as_str())
                    .unwrap_or_else(|| panic!("{key} is not declared"))
                    .default_text();
                // The default as written must be read back as the default.
                if default != "not set" {
                    let text = format!("[{}]\n{} = {default}\n", section.name, field.name);
                    let read = parse(&text, &key, []).unwrap();
                    assert_eq!(read.settings, Settings::default(), "{text}");
                }
                keys += 1;
            }
        }
        assert_eq!(keys, known.len());
    }
}
