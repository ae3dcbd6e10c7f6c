//! Shows the journal as text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::show::{cell, entries, task_name, time};

/// Longest description shown, in characters.
const BODY_SHOWN: usize = 80;

/// Returns the entries, newest first, with one line for each value.
pub(crate) fn text(answer: &Value) -> String {
    let entries = entries(answer, "journal");
    if entries.is_empty() {
        return "Nothing was overwritten or deleted.\n".to_owned();
    }
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(
            text,
            "{}  {}  {}",
            time(&entry["at"]),
            cell(&entry["kind"]),
            name(entry)
        );
        if entry["meaning"].is_string() {
            let _ = writeln!(text, "    {}", cell(&entry["meaning"]));
        }
        text.push_str(&values(entry));
    }
    text
}

/// Returns the task's name: as the state has it, or else as the entry itself has it.
fn name(entry: &Value) -> String {
    let (before, after) = (&entry["before"], &entry["after"]);
    let titles = [&entry["title"], &after["title"], &before["title"]];
    let title = titles.into_iter().find(|title| title.is_string());
    task_name(&json!({ "task": entry["task"], "title": title, "list": entry["list"] }))
}

/// Returns one line for each value of an entry: the old value and the new one.
fn values(entry: &Value) -> String {
    let (before, after) = (entry["before"].as_object(), entry["after"].as_object());
    let names: BTreeSet<&String> = before.into_iter().chain(after).flat_map(Map::keys).collect();
    names
        .into_iter()
        .map(|name| {
            let of = |values: Option<&Map<String, Value>>| Some(value(name, values?.get(name)?));
            match (of(before), of(after)) {
                (Some(before), Some(after)) => format!("    {name}: {before} -> {after}\n"),
                (Some(before), None) => format!("    {name}: {before}\n"),
                (None, Some(after)) => format!("    {name}: -> {after}\n"),
                (None, None) => String::new(),
            }
        })
        .collect()
}

/// Returns a value of a task for display: the part done in percent, a long description cut.
pub(crate) fn value(name: &str, value: &Value) -> String {
    match (name, value) {
        ("body" | "start" | "due", Value::Null) => "none".to_owned(),
        ("body", body) => {
            let content = cell(&body["content"]);
            let short: String = content.chars().take(BODY_SHOWN).collect();
            if short.len() < content.len() {
                format!("{short}…")
            } else {
                short
            }
        }
        ("percent", percent) => percent.as_u64().map_or_else(
            || "-".to_owned(),
            |hundredths| format!("{}.{:02} %", hundredths / 100, hundredths % 100),
        ),
        (_, Value::Array(items)) if items.is_empty() => "none".to_owned(),
        (_, Value::Array(items)) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        (_, value) => cell(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_the_old_and_the_new_value_of_each_field() {
        let answer = json!({"journal": [
            {"at": "2026-03-01T10:00:00Z", "kind": "overwritten_at_source", "task": "sp|a|1",
             "before": {"title": "Old", "percent": 0, "due": null}, "after": {"title": "New", "percent": 5000, "due": "2026-03-02"}},
            {"at": "2026-03-01T09:00:00Z", "kind": "deleted_at_source", "task": "sp|a|2", "before": {"title": "Gone"}, "after": null},
            {"at": "2026-03-01T08:00:00Z", "kind": "set_back_in_mailbox", "meaning": "No right to edit it.", "task": "sp|a|3", "title": "Budget",
             "list": "Projects - Plan", "before": {"title": "Mine"}, "after": {"title": "Budget"}},
        ]});
        let shown = text(&answer);
        for expected in [
            "overwritten_at_source  \"New\" (sp|a|1)\n    due: none -> 2026-03-02\n    percent: 0.00 % -> 50.00 %\n    title: Old -> New\n",
            "deleted_at_source  \"Gone\" (sp|a|2)\n    title: Gone\n",
            "set_back_in_mailbox  \"Budget\" (sp|a|3) in \"Projects - Plan\"\n    No right to edit it.\n    title: Mine -> Budget\n",
        ] {
            assert!(shown.contains(expected), "{expected:?} in:\n{shown}");
        }
        assert_eq!(
            text(&json!({"journal": []})),
            "Nothing was overwritten or deleted.\n"
        );
    }
}
