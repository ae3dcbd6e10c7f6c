//! Shows the service's JSON as text.

use std::fmt::Write as _;

use serde::Deserialize as _;
use serde_json::Value;
use tasksync_common::registry::MailboxConnection;

mod alerts;
mod doctor;
mod status;
mod user;

pub(crate) use alerts::{alert_causes, alerts};
pub(crate) use doctor::doctor;
pub(crate) use status::{status, top};
pub(crate) use user::{finished_sync, held_deletions, list_name, next_sync, task_in, task_name, user};

/// Returns a table in which each column is as wide as its widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = widths.iter().zip(row);
        let padded: Vec<_> = cells.map(|(width, cell)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn entries<'a>(answer: &'a Value, field: &str) -> &'a [Value] {
    answer[field].as_array().map_or(&[], Vec::as_slice)
}

/// Returns a value as one cell, without control characters: with them, foreign text could overwrite the screen.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => plain(&value.to_string()),
    }
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

/// Returns a time, to the second.
pub(crate) fn time(value: &Value) -> String {
    value
        .as_str()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map_or_else(
            || cell(value),
            |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        )
}

/// Returns a number of seconds in hours, minutes and seconds.
fn seconds(value: &Value) -> String {
    let Some(seconds) = value.as_u64() else {
        return "-".to_owned();
    };
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

pub(crate) fn tenants(answer: &Value) -> String {
    let tenants = entries(answer, "tenants");
    if tenants.is_empty() {
        return "There is no tenant; add one with `tasksync tenant add FILE`.\n".to_owned();
    }
    let rows: Vec<_> = tenants
        .iter()
        .map(|tenant| {
            vec![
                cell(&tenant["id"]),
                if tenant["enabled"] == true {
                    "enabled".to_owned()
                } else {
                    "disabled".to_owned()
                },
                entries(&tenant["source"], "sites").len().to_string(),
                cell(&tenant["display_name"]),
            ]
        })
        .collect();
    table(&["TENANT", "STATE", "SITES", "NAME"], &rows)
}

pub(crate) fn tenant(tenant: &Value) -> String {
    let mut text = format!(
        "{} ({})\n  enabled:    {}\n  time zone:  {}\n",
        cell(&tenant["id"]),
        cell(&tenant["display_name"]),
        cell(&tenant["enabled"]),
        cell(&tenant["time_zone"]),
    );
    text.push_str(&mailbox(&tenant["mailbox"]));
    let source = &tenant["source"];
    let credentials = &source["credentials"];
    let _ = writeln!(text, "  SharePoint: {}", cell(&credentials["kind"]));
    for site in entries(source, "sites") {
        let _ = writeln!(text, "    {}", cell(site));
    }
    let test_person = &tenant["test"];
    for (label, value) in [
        ("mailbox", &test_person["mailbox"]),
        ("sign-in name", &test_person["source_login"]),
    ] {
        if !value.is_null() {
            let _ = writeln!(text, "  {label} for tests: {}", cell(value));
        }
    }
    if let Some(policy) = tenant["policy"].as_object() {
        text.push_str("  Policies:\n");
        for (name, value) in policy {
            let _ = writeln!(text, "    {name}: {}", cell(value));
        }
    }
    text
}

/// Returns which server holds the tenant's mailboxes and how they are opened. A connection this build does not know
/// is shown as JSON.
fn mailbox(mailbox: &Value) -> String {
    let Ok(connection) = MailboxConnection::deserialize(mailbox) else {
        return format!("  mailboxes:  {}\n", cell(mailbox));
    };
    let label = format!("{}:", connection.product());
    let credentials = &mailbox["credentials"];
    match &connection {
        MailboxConnection::Ews { url, .. } => format!(
            "  {label:<11} {} ({}, access {})\n",
            plain(url.as_str()),
            cell(&credentials["kind"]),
            cell(&mailbox["access"]),
        ),
    }
}

pub(crate) fn pauses(answer: &Value) -> String {
    let pauses = entries(answer, "pauses");
    if pauses.is_empty() {
        return "No server of the tenant is paused.\n".to_owned();
    }
    let rows: Vec<_> = pauses
        .iter()
        .map(|pause| {
            vec![
                cell(&pause["server"]),
                cell(&pause["service"]),
                cell(&pause["account"]),
                time(&pause["since"]),
                time(&pause["until"]),
                cell(&pause["why"]),
            ]
        })
        .collect();
    table(&["SERVER", "SERVICE", "ACCOUNT", "SINCE", "UNTIL", "WHY"], &rows)
}

/// Returns what happens to a requested sync: it starts soon, or after the servers' pauses.
pub(crate) fn sync_now(answer: &Value, tenant: &str, user: &str) -> String {
    let mut text = format!("{user} is due now; a worker takes the user as soon as one is free.\n");
    if answer["pauses"].is_null() {
        text.push_str("It is unknown whether a server of the tenant is paused: the store does not answer.\n");
    }
    for pause in entries(answer, "pauses") {
        let _ = writeln!(
            text,
            "But {} ({}) is paused until {}: {}.",
            cell(&pause["server"]),
            cell(&pause["service"]),
            time(&pause["until"]),
            cell(&pause["why"])
        );
    }
    if !answer["waits_until"].is_null() {
        let _ = writeln!(
            text,
            "The sync waits until {}; `tasksync tenant end-pauses {tenant}` ends the pause at once.",
            time(&answer["waits_until"])
        );
    }
    text
}

pub(crate) fn users(answer: &Value) -> String {
    let users = entries(answer, "users");
    if users.is_empty() {
        return "No user is opted in; see `tasksync user opt-in --help`.\n".to_owned();
    }
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            vec![
                cell(&user["user"]),
                cell(&user["state"]),
                cell(&user["mailbox"]),
                failure_code(user),
            ]
        })
        .collect();
    table(&["USER", "STATE", "MAILBOX", "REASON"], &rows)
}

/// Returns the code of the failure that a user's syncs end with now, or else of the one that disabled the user.
fn failure_code(user: &Value) -> String {
    let (failing, disabled_by) = (&user["failing"], &user["failure"]);
    let failure = &failing["failure"];
    let code = &failure["code"];
    if code.is_null() {
        cell(&disabled_by["code"])
    } else {
        format!("{} ({} in a row)", cell(code), cell(&failing["attempts"]))
    }
}

fn failure(failure: &Value) -> String {
    format!(
        "  {} [{}]\n  {}\n  What to do: {} (who: {})\n",
        cell(&failure["message"]),
        cell(&failure["code"]),
        cell(&failure["detail"]),
        cell(&failure["action"]),
        cell(&failure["who_acts"]),
    )
}

pub(crate) fn dead_letters(answer: &Value) -> String {
    let letters = entries(answer, "dead_letters");
    if letters.is_empty() {
        return "There are no dead letters.\n".to_owned();
    }
    let rows: Vec<_> = letters
        .iter()
        .map(|letter| {
            vec![
                cell(&letter["id"]),
                cell(&letter["queue"]),
                cell(&letter["tenant"]),
                entries(letter, "users").len().to_string(),
                time(&letter["issued_at"]),
                cell(&letter["reason"]),
            ]
        })
        .collect();
    table(&["ID", "QUEUE", "TENANT", "USERS", "ISSUED", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal;

    #[test]
    fn columns_line_up_and_foreign_text_cannot_steer_the_screen() {
        let text = users(&json!({"users": [
            {"user": "ana", "state": "enabled", "mailbox": "ana@contoso.example", "failure": null},
            {"user": "a\u{1b}[2J", "state": "disabled", "mailbox": "b@c", "failure": {"code": "exchange-mailbox-full"}},
        ]}));
        assert_eq!(
            text,
            "USER   STATE     MAILBOX              REASON\n\
             ana    enabled   ana@contoso.example  -\n\
             a [2J  disabled  b@c                  exchange-mailbox-full\n"
        );
    }

    #[test]
    fn seconds_are_shown_as_hours_minutes_and_seconds() {
        assert_eq!(seconds(&json!(59)), "59 s");
        assert_eq!(seconds(&json!(61)), "1 min 1 s");
        assert_eq!(seconds(&json!(7_260)), "2 h 1 min");
        assert_eq!(seconds(&json!(null)), "-");
    }

    #[test]
    fn an_answer_of_another_form_never_panics() {
        for answer in [json!(null), json!({}), json!({"checks": 1, "users": {}})] {
            for show in [
                tenants,
                tenant,
                pauses,
                |answer: &Value| sync_now(answer, "contoso", "ana"),
                users,
                user,
                journal::text,
                status,
                top,
                alerts,
                alert_causes,
                dead_letters,
                doctor,
            ] {
                assert!(!show(&answer).is_empty());
            }
        }
    }
}
