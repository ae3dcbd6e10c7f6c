//! Shows the status: first what is wrong, then the figures, each with the time of which it is.

use std::fmt::Write as _;

use serde_json::Value;

use super::{cell, entries, plain, seconds, table, time};

pub(crate) fn status(answer: &Value) -> String {
    let mut text = verdict(answer);
    text.push_str(&users(answer));
    text.push_str(&service(answer));
    text.push_str(&queues(answer));
    text.push_str(&processes(answer));
    text
}

/// Returns one line for each problem, or that there is none.
fn verdict(answer: &Value) -> String {
    let problems = entries(answer, "problems");
    let mut text = String::new();
    if answer["result"] != "attention" {
        text.push_str("All is well.\n");
    }
    for problem in problems {
        text.push_str(&problem_line(problem));
    }
    text.push('\n');
    text
}

/// Returns a problem as one line. `!` marks what the operator has to do.
pub(super) fn problem_line(problem: &Value) -> String {
    let mark = if problem["needs_operator"] == true {
        '!'
    } else {
        '-'
    };
    format!("{mark} {} {}\n", cell(&problem["what"]), cell(&problem["action"]))
}

/// Returns why a block of figures is not known: the store that does not answer.
fn silence(answer: &Value, store: &str) -> Option<String> {
    let missing = entries(answer, "missing")
        .iter()
        .find(|missing| missing["store"] == store)?;
    let failure = &missing["failure"];
    Some(format!("not known: {}\n", cell(&failure["detail"])))
}

fn users(answer: &Value) -> String {
    let summary = &answer["summary"];
    let whose = answer["tenant"].as_str().map_or_else(
        || "All tenants".to_owned(),
        |tenant| format!("Tenant {}", plain(tenant)),
    );
    let as_of = &answer["as_of"];
    let mut text = format!("{whose}, as of {}\n", time(&as_of["registry"]));
    match silence(answer, "registry") {
        Some(why) => {
            let _ = write!(text, "  users and alerts: {why}");
        }
        None => {
            let _ = writeln!(
                text,
                "  users:        {} enabled, {} disabled\n  open alerts:  {}",
                cell(&answer["enabled"]),
                cell(&answer["disabled"]),
                cell(&answer["alerts"]),
            );
        }
    }
    match silence(answer, "schedule") {
        Some(why) => {
            let _ = writeln!(text, "  schedule:     {}", why.trim_end());
        }
        None => {
            let _ = writeln!(
                text,
                "  now:          {} due, {} being synced or sent\n  longest wait: {}\n  interval:     {} (half), {} (99 %) of the last syncs\n  oldest success: {}",
                cell(&summary["due"]),
                cell(&summary["claimed"]),
                seconds(&summary["oldest_due_seconds"]),
                seconds(&summary["interval_p50_seconds"]),
                seconds(&summary["interval_p99_seconds"]),
                seconds(&summary["oldest_success_seconds"]),
            );
        }
    }
    text
}

fn service(answer: &Value) -> String {
    let queues = &answer["queues"];
    let leader = match silence(answer, "schedule") {
        Some(why) if answer["leader"].is_null() => why.trim_end().to_owned(),
        Some(_) | None => leader(&answer["leader"]),
    };
    format!(
        "Service\n  tenants:      {}\n  leader:       {leader}\n  workers:      {}\n  dead letters: {}\n",
        tenants(&answer["tenants"]),
        silence(answer, "fleet").map_or_else(|| cell(&answer["workers"]), |why| why.trim_end().to_owned()),
        silence(answer, "queue")
            .map_or_else(|| cell(&queues["dead_letters"]), |why| why.trim_end().to_owned()),
    )
}

fn tenants(tenants: &Value) -> String {
    if tenants.is_null() {
        return "not known".to_owned();
    }
    let scheduled = &tenants["with_users"];
    let scheduled = if scheduled.is_null() {
        String::new()
    } else {
        format!(", {} with users in the schedule", cell(scheduled))
    };
    format!(
        "{}, {} enabled{scheduled}",
        cell(&tenants["registered"]),
        cell(&tenants["enabled"])
    )
}

fn leader(leader: &Value) -> String {
    match (leader["state"].as_str(), leader["holder"].as_str()) {
        (Some("leading"), Some(holder)) => format!("{} (it answers here)", plain(holder)),
        (Some("leading"), None) => "this process".to_owned(),
        (Some("not_here"), Some(holder)) => plain(holder),
        _ => "none".to_owned(),
    }
}

fn queues(answer: &Value) -> String {
    let queues = &answer["queues"];
    if queues.is_null() {
        return String::new();
    }
    let rows: Vec<_> = ["background", "interactive"]
        .iter()
        .map(|name| {
            let queue = &queues[*name];
            vec![
                (*name).to_owned(),
                cell(&queue["ready"]),
                cell(&queue["unacknowledged"]),
                cell(&queue["wanted"]),
            ]
        })
        .collect();
    format!(
        "\n{}",
        table(&["QUEUE", "WAITING", "WITH WORKERS", "WANTED"], &rows)
    )
}

/// Returns the table of live processes: which one leads, what each does, and how long ago it said so.
fn processes(answer: &Value) -> String {
    let rows: Vec<_> = entries(answer, "processes")
        .iter()
        .map(|process| {
            let role = cell(&process["role"]);
            vec![
                cell(&process["name"]),
                if process["leads"] == true {
                    format!("{role} (leads)")
                } else {
                    role
                },
                cell(&process["version"]),
                time(&process["started_at"]),
                cell(&process["users_in_flight"]),
                format!(
                    "{} of {}",
                    cell(&process["batches_running"]),
                    cell(&process["batches_at_once"])
                ),
                format!("{} ago", seconds(&process["silent_seconds"])),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["PROCESS", "ROLE", "VERSION", "SINCE", "USERS", "BATCHES", "HEARD"];
    format!("\n{}", table(&head, &rows))
}

/// Shows the tenants that stand out.
pub(crate) fn top(answer: &Value) -> String {
    let rows: Vec<_> = entries(answer, "tenants").iter().map(tenant_row).collect();
    let late = if answer["late_known"] == false {
        "Late people are not known: the registry does not answer.\n"
    } else {
        ""
    };
    if rows.is_empty() {
        return format!("No worker has worked for a tenant within the last minutes.\n{late}");
    }
    let head = [
        "TENANT",
        "TIME",
        "S/ATTEMPT",
        "S/SYNC",
        "ATTEMPTS",
        "FAILED",
        "LATE",
        "LATE SINCE",
    ];
    format!(
        "Workers' time within the last 5 to 10 minutes, as of {}\n{}{late}",
        time(&answer["at"]),
        table(&head, &rows)
    )
}

fn tenant_row(tenant: &Value) -> Vec<String> {
    let number = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"))
    };
    vec![
        cell(&tenant["tenant"]),
        format!("{:.1} %", tenant["time_share"].as_f64().unwrap_or(0.0) * 100.0),
        number(&tenant["seconds_per_attempt"]),
        number(&tenant["seconds_per_sync"]),
        cell(&tenant["attempts"]),
        cell(&tenant["failed"]),
        cell(&tenant["late_users"]),
        time(&tenant["late_since"]),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer() -> Value {
        json!({
            "result": "ok", "problems": [], "missing": [], "tenant": null,
            "summary": {"due": 1, "claimed": 2, "oldest_due_seconds": 5},
            "tenants": {"registered": 8, "enabled": 7, "with_users": 2},
            "enabled": 3, "disabled": 0, "alerts": 0,
            "queues": {"background": {"ready": 0}, "interactive": {"ready": 0}, "dead_letters": 0},
            "leader": {"state": "not_here", "holder": "s1"}, "workers": 1,
            "processes": [], "circuits": [],
            "as_of": {"registry": "2026-11-30T10:00:00Z"},
        })
    }

    #[test]
    fn an_installation_that_is_well_says_so_first() {
        let text = status(&answer());
        assert!(
            text.starts_with("All is well.\n\nAll tenants, as of 2026-11-30 10:00:00 UTC\n"),
            "{text}"
        );
        assert!(
            text.contains("tenants:      8, 7 enabled, 2 with users in the schedule\n"),
            "{text}"
        );
    }

    #[test]
    fn tenants_that_stand_out_are_a_table() {
        let text = top(&json!({
            "at": "2026-11-30T10:00:00Z",
            "late_known": true,
            "tenants": [{
                "tenant": "slow", "time_share": 0.8, "seconds_per_attempt": 6.25, "seconds_per_sync": null,
                "attempts": 20, "failed": 1, "late_users": 0, "late_since": null,
            }],
        }));
        assert_eq!(
            text,
            "Workers' time within the last 5 to 10 minutes, as of 2026-11-30 10:00:00 UTC\n\
             TENANT  TIME    S/ATTEMPT  S/SYNC  ATTEMPTS  FAILED  LATE  LATE SINCE\n\
             slow    80.0 %  6.25       -       20        1       0     -\n"
        );
    }

    #[test]
    fn what_is_wrong_comes_first_and_what_is_not_known_is_named() {
        let mut answer = answer();
        answer["result"] = json!("attention");
        answer["problems"] = json!([
            {"what": "The schedule's store does not answer: refused.", "action": "Start Redis.", "needs_operator": true},
            {"what": "2 people are disabled.", "action": "Look.", "needs_operator": false},
        ]);
        answer["missing"] = json!([
            {"store": "schedule", "failure": {"detail": "refused"}},
            {"store": "fleet", "failure": {"detail": "refused"}},
        ]);
        for field in ["summary", "leader", "workers"] {
            answer[field] = Value::Null;
        }
        let text = status(&answer);
        assert!(
            text.starts_with(
                "! The schedule's store does not answer: refused. Start Redis.\n- 2 people are disabled. Look.\n\n"
            ),
            "{text}"
        );
        for known in [
            "3 enabled",
            "leader:       not known: refused\n",
            "workers:      not known: refused\n",
        ] {
            assert!(text.contains(known), "{known} in {text}");
        }
        assert!(!text.contains("longest wait"), "{text}");
    }
}
