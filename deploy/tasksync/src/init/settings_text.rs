//! The settings file of `tasksync init`: a new one, or changes of one that is there. Comments and further keys
//! stay.

use tasksync_common::refusals::without_values;
use toml_edit::{DocumentMut, Item, Table, Value};

use crate::tenant_file::line_of;

/// One setting to write.
#[derive(Debug, Clone)]
pub(super) struct WantedSetting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: Value,
    /// True if the command line asked for it: it replaces another value. Otherwise it is only written where the key is
    /// missing.
    pub(super) asked: bool,
}

const HEAD: &str = "# Settings of tasksync, written by `tasksync init`. All keys with their defaults: docs/settings.md, or\n\
    # `tasksync config show --config FILE`. Check a change with `tasksync config check FILE`, and start the service again.\n";

/// Returns the text of the settings file, and one line for each key that changes.
///
/// # Errors
/// The text is not TOML, or has a value where a section belongs; says where.
pub(super) fn apply(text: Option<&str>, wanted: &[WantedSetting]) -> Result<(String, Vec<String>), String> {
    let mut document: DocumentMut =
        text.unwrap_or_default()
            .parse()
            .map_err(|error: toml_edit::TomlError| {
                // Its own text repeats the line, which may hold a password.
                let line = error
                    .span()
                    .map_or(1, |span| line_of(text.unwrap_or_default(), span.start));
                format!("line {line}: {}", without_values(error.message()))
            })?;
    let mut changes = Vec::new();
    for one in wanted {
        let section = document
            .entry(one.section)
            .or_insert_with(|| Item::Table(Table::new()))
            .as_table_like_mut()
            .ok_or_else(|| format!("{} is no section", one.section))?;
        let present = section.get(one.key).and_then(Item::as_value);
        let (new, path) = (shown(&one.value), format!("{}.{}", one.section, one.key));
        match present {
            Some(present) if shown(present) == new || !one.asked => continue,
            Some(present) => changes.push(format!("~ {path}: {} -> {new}", shown(present))),
            None => changes.push(format!("+ {path} = {new}")),
        }
        section.insert(one.key, Item::Value(one.value.clone()));
    }
    let head = if text.is_none() { HEAD } else { "" };
    Ok((format!("{head}{document}"), changes))
}

/// Returns a value as TOML, without the comments around it.
fn shown(value: &Value) -> String {
    value.clone().decorated("", "").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(key: &'static str, value: &str, asked: bool) -> WantedSetting {
        WantedSetting {
            section: "api",
            key,
            value: value.into(),
            asked,
        }
    }

    #[test]
    fn a_new_file_has_the_keys_below_a_head() {
        let (text, changes) = apply(None, &[wanted("listen", "127.0.0.1:1", false)]).unwrap();
        assert!(text.starts_with("# Settings of tasksync"), "{text}");
        assert!(text.ends_with("[api]\nlisten = \"127.0.0.1:1\"\n"), "{text}");
        assert_eq!(changes, ["+ api.listen = \"127.0.0.1:1\""]);
        let again = apply(Some(&text), &[wanted("listen", "127.0.0.1:1", true)]).unwrap();
        assert_eq!(again, (text, Vec::new()));
    }

    #[test]
    fn other_values_stay_unless_the_command_line_asks_for_another_value() {
        let text = "# mine\n[api]\nlisten = \"127.0.0.1:1\" # chosen\n\n[log]\nfilter = \"debug\"\n";
        let (kept, changes) = apply(Some(text), &[wanted("listen", "127.0.0.1:2", false)]).unwrap();
        assert_eq!((kept.as_str(), changes.len()), (text, 0));
        let (replaced, changes) = apply(Some(text), &[wanted("listen", "127.0.0.1:2", true)]).unwrap();
        assert!(
            replaced.contains("# mine") && replaced.contains("filter = \"debug\""),
            "{replaced}"
        );
        assert!(
            replaced.contains("127.0.0.1:2") && !replaced.contains("127.0.0.1:1"),
            "{replaced}"
        );
        assert_eq!(changes, ["~ api.listen: \"127.0.0.1:1\" -> \"127.0.0.1:2\""]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_with_the_place() {
        let error = apply(Some("[api\n"), &[]).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        let error = apply(Some("[registry]\nurl = \"postgres://t:geheim@db/t\n"), &[]).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("geheim"), "{error}");
        assert!(apply(Some("api = 1\n"), &[wanted("listen", "x", true)]).is_err());
    }
}
