//! The settings reference. Keys and meanings come from the doc comments of the settings' source, defaults from its
//! code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tasksync_common::settings::Settings;

use super::declared::{self, DeclaredField, DeclaredType};

/// The source with these comments.
const SOURCE: &str = include_str!("../../../../common/src/settings.rs");

pub(super) fn markdown() -> String {
    let types = declared::types(SOURCE);
    let defaults = defaults(&format!("{:#?}", Settings::default()));
    let mut page = String::from(
        "# Settings\n\nGenerated from the code (`tasksync docs settings`); do not edit.\n\n\
         Settings are a TOML file (`tasksync standalone --config FILE`) and environment variables, which win: \
         `TASKSYNC_WORKER__USERS_AT_ONCE` stands for `worker.users_at_once`. Unknown keys are refused. Durations carry their \
         unit: `250ms`, `45s`, `5min`, `3h`, `30d`, or `0`. `tasksync config check FILE` says what is wrong with a file.\n\n\
         Not settings but variables of their own: `TASKSYNC_TOKEN` or `TASKSYNC_TOKEN_FILE` (the operator token of the API), \
         `TASKSYNC_CONFIG` (the settings file), `TASKSYNC_URL` (where commands find the service).\n",
    );
    for section in fields(&types, "Settings") {
        let _ = writeln!(page, "\n## {}\n\n{}\n", section.name, section.meaning);
        page.push_str("| key | default | meaning |\n|---|---|---|\n");
        for field in fields(&types, &section.kind) {
            let key = format!("{}.{}", section.name, field.name);
            let default = defaults.get(&key).map_or("", String::as_str);
            let _ = writeln!(page, "| `{key}` | `{default}` | {} |", field.meaning);
        }
    }
    page
}

fn fields<'a>(types: &'a BTreeMap<String, DeclaredType>, name: &str) -> &'a [DeclaredField] {
    types.get(name).map_or(&[], |declared| declared.fields.as_slice())
}

/// Returns the values in the settings' debug output, written as in TOML, by `section.key`.
fn defaults(debug: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for line in debug.lines() {
        let depth = line.chars().take_while(|character| *character == ' ').count() / 4;
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        match depth {
            1 => key.clone_into(&mut section),
            2 => {
                found.insert(format!("{section}.{key}"), as_toml(value.trim_end_matches(',')));
            }
            _ => {}
        }
    }
    found
}

fn as_toml(value: &str) -> String {
    if value == "None" {
        return "not set".to_owned();
    }
    if let Some(duration) = duration(value) {
        return duration;
    }
    let is_variant = value
        .chars()
        .next()
        .is_some_and(|first| first.is_ascii_uppercase())
        && value.chars().all(char::is_alphanumeric);
    if is_variant {
        return format!("\"{}\"", value.to_lowercase());
    }
    let is_address = value.parse::<std::net::SocketAddr>().is_ok();
    if is_address {
        return format!("\"{value}\"");
    }
    value.to_owned()
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
    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_its_true_default() {
        let types = declared::types(SOURCE);
        let sections = fields(&types, "Settings");
        assert!(sections.len() >= 8, "{sections:?}");
        let defaults = defaults(&format!("{:#?}", Settings::default()));
        let mut keys = 0;
        for section in sections {
            let fields = fields(&types, &section.kind);
            assert!(!fields.is_empty(), "{section:?}");
            for field in fields {
                let key = format!("{}.{}", section.name, field.name);
                assert!(field.meaning.ends_with('.'), "{key}: {}", field.meaning);
                let default = defaults
                    .get(&key)
                    .unwrap_or_else(|| panic!("{key} has no default"));
                // The default as written must be read back as the default.
                if default != "not set" {
                    let text = format!("[{}]\n{} = {default}\n", section.name, field.name);
                    let read = tasksync_common::settings::parse(&text, &key, []).unwrap();
                    assert_eq!(read, Settings::default(), "{text}");
                }
                keys += 1;
            }
        }
        assert_eq!(keys, defaults.len());
    }
}
