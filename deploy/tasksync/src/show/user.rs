//! Shows one user: enrolment, attempts, alerts, and what the saved state knows of the tasks.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{cell, entries, failure, time};
use crate::journal;

pub(crate) fn user(answer: &Value) -> String {
    let enrolment = &answer["enrolment"];
    let schedule = &answer["schedule"];
    let mut text = format!(
        "{} of {}: {}\n  mailbox:       {}\n  sign-in name:  {}\n  opted in:      {}\n  last success:  {}\n  last attempt:  {}\n  next sync:     {}\n",
        cell(&enrolment["user"]),
        cell(&enrolment["tenant"]),
        cell(&enrolment["state"]),
        cell(&enrolment["mailbox"]),
        cell(&enrolment["source_login"]),
        time(&enrolment["opted_in_at"]),
        time(&schedule["last_success"]),
        time(&schedule["last_attempt"]),
        next_sync(&answer["next_sync"]),
    );
    if !enrolment["failure"].is_null() {
        let _ = write!(
            text,
            "\nDisabled since {}:\n{}",
            time(&enrolment["disabled_since"]),
            failure(&enrolment["failure"])
        );
    } else if !schedule["last_failure"].is_null() {
        let _ = write!(
            text,
            "\nThe last attempt failed ({} in a row):\n{}",
            cell(&schedule["failures"]),
            failure(&schedule["last_failure"])
        );
    }
    for alert in entries(answer, "alerts") {
        let _ = write!(
            text,
            "\nAlert since {}:\n{}",
            time(&alert["since"]),
            failure(&alert["failure"])
        );
        for deletions in entries(alert, "evidence") {
            let held = held_deletions(deletions, &answer["names"]);
            let _ = writeln!(text, "  On the side of the {}", held.trim_end());
        }
    }
    text.push_str(&tasks(&answer["tasks"]));
    if !entries(answer, "journal").is_empty() {
        text.push_str("\nLast in the journal:\n");
        text.push_str(&journal::text(answer));
    }
    text
}

/// Returns what the saved state knows of the tasks. Refused tasks are listed with their reasons.
fn tasks(tasks: &Value) -> String {
    if tasks.is_null() {
        return "\nTasks: none yet, the first sync is still to come.\n".to_owned();
    }
    if !tasks["unreadable"].is_null() {
        return format!(
            "\nTasks: {}; the next sync compares everything and finds the copies again.\n",
            cell(&tasks["unreadable"])
        );
    }
    let mut text = format!(
        "\nTasks: {} on both sides, {} unfinished, {} deletions held back, {} refused, {} archived or without a copy by policy\n",
        cell(&tasks["linked"]),
        cell(&tasks["unfinished"]),
        cell(&tasks["held"]),
        cell(&tasks["refused"]),
        cell(&tasks["let_go"]),
    );
    text.push_str(&format_list(tasks, "unread", "unread_lists", |list| {
        format!(
            "Cannot be read, its tasks stay as they are: {}\n{}",
            format_name("list", &list["list"], &list["location"]),
            failure(&list["failure"])
        )
    }));
    text.push_str(&format_list(
        tasks,
        "without_dates",
        "lists_without_dates",
        |list| {
            format!(
                "Its dates are neither read nor written, everything else is synced: {}\n{}",
                format_name("list", &list["list"], &list["location"]),
                failure(&list["failure"])
            )
        },
    ));
    text.push_str(&format_list(tasks, "refused", "refused_tasks", |task| {
        format!(
            "Refused, retried at the next full check or when it changes: {}\n{}",
            task_name(task),
            failure(&task["failure"])
        )
    }));
    text.push_str(&format_list(tasks, "unfinished", "unfinished_tasks", |task| {
        let reason = &task["failure"];
        let reason = if reason.is_null() {
            String::new()
        } else {
            failure(reason)
        };
        format!(
            "Unfinished, checked again in the next sync: {}\n{reason}",
            task_name(task)
        )
    }));
    text.push_str(&format_list(tasks, "foreign", "foreign_markers", |marker| {
        format!(
            "Left alone, because its marker in the mailbox names another owner ({}): {}\n",
            cell(&marker["owner"]),
            format_name("task or list", &marker["name"], &marker["key"])
        )
    }));
    text
}

/// Returns the entries of a list that may be cut off, and how many of `count` are not shown.
fn format_list(of: &Value, count: &str, list: &str, show: impl Fn(&Value) -> String) -> String {
    let shown = entries(of, list);
    let mut text: String = shown.iter().map(show).collect();
    let more = of[count].as_u64().unwrap_or(0).saturating_sub(shown.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

/// Returns deletions that are held back on one side, with the tasks and the lists that they would empty.
pub(crate) fn held_deletions(deletions: &Value, names: &Value) -> String {
    let mut text = format!(
        "{}: {} of {} tasks would be deleted\n",
        cell(&deletions["side"]),
        entries(deletions, "keys").len(),
        cell(&deletions["of"])
    );
    for key in entries(deletions, "keys") {
        let _ = writeln!(text, "    {}", task_in(names, key, &Value::Null));
    }
    for list in entries(deletions, "emptied") {
        let _ = writeln!(text, "    would lose everything: {}", list_name(names, list));
    }
    text
}

/// Returns the name of the task with this key; `title` replaces the known title unless it is null.
pub(crate) fn task_in(names: &Value, key: &Value, title: &Value) -> String {
    let known = &names[key.as_str().unwrap_or_default()];
    let title = if title.is_null() { &known["title"] } else { title };
    task_name(&json!({ "task": key, "title": title, "list": known["list"] }))
}

/// Returns the name of the list with this key.
pub(crate) fn list_name(names: &Value, key: &Value) -> String {
    let known = &names[key.as_str().unwrap_or_default()];
    format_name("list", &known["list"], key)
}

/// Returns a name in quotation marks with its key behind it. Where the name is not known, says so.
fn format_name(kind: &str, name: &Value, key: &Value) -> String {
    if name.is_null() {
        format!("a {kind} whose name is not known ({})", cell(key))
    } else {
        format!("\"{}\" ({})", cell(name), cell(key))
    }
}

/// Returns a task's title and list, as far as they are known, and its key.
pub(crate) fn task_name(task: &Value) -> String {
    let list = &task["list"];
    let list = if list.is_null() {
        String::new()
    } else {
        format!(" in \"{}\"", cell(list))
    };
    format!("{}{list}", format_name("task", &task["title"], &task["task"]))
}

/// Returns what a sync that was waited for did, or why it failed. `before` is the user before it.
pub(crate) fn finished_sync(before: &Value, now: &Value) -> String {
    let (schedule, enrolment) = (&now["schedule"], &now["enrolment"]);
    let user = cell(&enrolment["user"]);
    if !schedule["last_failure"].is_null() {
        return format!(
            "The sync of {user} failed at {}:\n{}",
            time(&schedule["last_attempt"]),
            failure(&schedule["last_failure"])
        );
    }
    if schedule.is_null() {
        let why = if enrolment["failure"].is_null() {
            String::new()
        } else {
            format!(":\n{}", failure(&enrolment["failure"]).trim_end())
        };
        return format!("{user} is not synced, see `tasksync user status`{why}\n");
    }
    let had_work = schedule["idle_cycles"] == 0;
    let (tasks_before, tasks) = (&before["tasks"], &now["tasks"]);
    let count = |of: &Value| of["linked"].as_u64().unwrap_or(0);
    let what = if had_work {
        "there were changes"
    } else {
        "nothing had changed"
    };
    let mut text = format!(
        "{user} was synced at {}: {what}; {} tasks on both sides ({} before), {} unfinished, {} deletions held back, {} refused.\n",
        time(&schedule["last_attempt"]),
        count(tasks),
        count(tasks_before),
        cell(&tasks["unfinished"]),
        cell(&tasks["held"]),
        cell(&tasks["refused"]),
    );
    let known = entries(before, "journal");
    let new: Vec<&Value> = entries(now, "journal")
        .iter()
        .filter(|entry| !known.contains(entry))
        .collect();
    if !new.is_empty() {
        text.push_str("Overwritten, deleted or restored by it:\n");
        text.push_str(&journal::text(&serde_json::json!({ "journal": new })));
    }
    text
}

/// Returns when the next sync is, as far as it is known.
pub(crate) fn next_sync(next: &Value) -> String {
    match next["state"].as_str() {
        Some("running") => "running now, or on its way to a worker".to_owned(),
        Some("no_worker") => "sent to the workers, but no worker runs".to_owned(),
        Some("unknown") => "not known, the schedule's store does not answer".to_owned(),
        Some("due") => format!("due since {}, waits for a worker", time(&next["since"])),
        Some("waiting") => format!("about {}", time(&next["about"])),
        _ => "not scheduled".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_deletions_are_shown_by_title_and_list_and_not_as_json() {
        let answer = json!({
            "enrolment": { "user": "ana", "tenant": "contoso" },
            "alerts": [{
                "failure": { "code": "guard-held" },
                "evidence": [{ "side": "source", "keys": ["sp|a|1", "sp|a|2"], "of": 2, "emptied": ["sp|a"] }],
            }],
            "names": {
                "sp|a|1": { "title": "Order paint", "list": "Plan" },
                "sp|a|2": { "title": null, "list": "Plan" },
                "sp|a": { "list": "Plan" },
            },
        });
        let text = user(&answer);
        for expected in [
            "  On the side of the source: 2 of 2 tasks would be deleted\n",
            "    \"Order paint\" (sp|a|1) in \"Plan\"\n",
            "    a task whose name is not known (sp|a|2) in \"Plan\"\n",
            "    would lose everything: \"Plan\" (sp|a)\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in:\n{text}");
        }
        assert!(!text.contains('{') && !text.contains("keys"), "{text}");
    }

    #[test]
    fn problems_are_shown_by_title_list_and_reason() {
        let failure = json!({
            "message": "Refused", "code": "sharepoint-item-refused", "detail": "Title is required", "action": "Change it.",
            "who_acts": "the person",
        });
        let text = tasks(&json!({
            "linked": 3, "unfinished": 1, "held": 0, "refused": 2, "let_go": 0, "unread": 1, "foreign": 1,
            "refused_tasks": [{"task": "sp|a|1", "title": "Order paint", "list": "Plan", "failure": failure}],
            "unfinished_tasks": [{"task": "sp|a|2", "title": null, "list": null, "failure": null}],
            "unread_lists": [{"location": "sp|b", "list": "Closed", "failure": failure}],
            "foreign_markers": [{"key": "sp|c", "owner": "another"}],
        }));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("  ")).collect();
        assert_eq!(
            lines,
            [
                "",
                "Tasks: 3 on both sides, 1 unfinished, 0 deletions held back, 2 refused, 0 archived or without a copy by policy",
                "Cannot be read, its tasks stay as they are: \"Closed\" (sp|b)",
                "Refused, retried at the next full check or when it changes: \"Order paint\" (sp|a|1) in \"Plan\"",
                "and 1 more",
                "Unfinished, checked again in the next sync: a task whose name is not known (sp|a|2)",
                "Left alone, because its marker in the mailbox names another owner (another): a task or list whose name is not known (sp|c)",
            ]
        );
        assert_eq!(text.matches("[sharepoint-item-refused]").count(), 2);
    }
}
