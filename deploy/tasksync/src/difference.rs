//! The difference between two documents, key by key. Documents of tenants hold names of secrets and no secret.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::show::cell;

/// Returns one line for each key that was added (`+`), removed (`-`) or changed (`~`), in order of name; empty if the
/// documents are equal.
pub(crate) fn text(before: &Value, after: &Value) -> String {
    let (before, after) = (flat(before), flat(after));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut text = String::new();
    for key in keys {
        let _ = match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) if old != new => writeln!(text, "  ~ {key}: {old} -> {new}"),
            (Some(old), None) => writeln!(text, "  - {key}: {old}"),
            (None, Some(new)) => writeln!(text, "  + {key}: {new}"),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        };
    }
    text
}

/// Returns the values by the path of their keys: `mailbox.credentials.password`, `source.sites[1]`.
fn flat(document: &Value) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut open = vec![(String::new(), document)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(members) => open.extend(members.iter().map(|(key, member)| {
                let separator = if path.is_empty() { "" } else { "." };
                (format!("{path}{separator}{key}"), member)
            })),
            Value::Array(items) => open.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, item)| (format!("{path}[{at}]"), item)),
            ),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                values.insert(path, cell(value));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_that_differs_has_a_line() {
        let before = json!({
            "id": "contoso", "enabled": true, "display_name": "Contoso",
            "source": { "sites": ["https://a", "https://b"], "credentials": { "kind": "basic", "password": "file:one" } },
        });
        let after = json!({
            "id": "contoso", "enabled": true, "display_name": "Contoso\u{1b}[2J Ltd.",
            "source": { "sites": ["https://a"], "credentials": { "kind": "basic", "password": "file:two" } },
            "test": { "mailbox": "test@contoso.example", "source_login": null },
        });
        assert_eq!(
            text(&before, &after),
            "  ~ display_name: Contoso -> Contoso [2J Ltd.\n\
             \x20 ~ source.credentials.password: file:one -> file:two\n\
             \x20 - source.sites[1]: https://b\n\
             \x20 + test.mailbox: test@contoso.example\n"
        );
        assert_eq!(text(&after, &after), "");
    }
}
