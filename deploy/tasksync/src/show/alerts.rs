//! Shows open alerts: each alone, and by cause.

use std::fmt::Write as _;

use serde_json::Value;

use super::status::problem_line;
use super::{cell, entries, failure, plain, time};

/// Shows a page of the list, with the command that shows the next one.
pub(crate) fn alerts(answer: &Value) -> String {
    let alerts = entries(answer, "alerts");
    if alerts.is_empty() {
        return "No alert is open.\n".to_owned();
    }
    let mut text = String::new();
    for alert in alerts {
        let _ = writeln!(
            text,
            "{}, since {}\n{}",
            subject(alert),
            time(&alert["since"]),
            failure(&alert["failure"])
        );
    }
    if let Some(next) = answer["next"].as_str() {
        let _ = writeln!(
            text,
            "More follow: repeat the command with --after '{}'",
            plain(next)
        );
    }
    text
}

/// Shows the alerts by cause, those that the operator acts on first.
pub(crate) fn alert_causes(answer: &Value) -> String {
    let problems = entries(answer, "installation");
    let causes = entries(answer, "causes");
    if problems.is_empty() && causes.is_empty() {
        return "No alert is open.\n".to_owned();
    }
    let mut text = String::new();
    for problem in problems {
        text.push_str(&problem_line(problem));
    }
    if !problems.is_empty() && !causes.is_empty() {
        text.push('\n');
    }
    for cause in causes {
        text.push_str(&cause_block(cause));
        text.push('\n');
    }
    if !causes.is_empty() {
        let more = if answer["more"] == true {
            "; more are open than one answer reads"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{} alerts of {} causes{more}. `tasksync alerts --list` shows each, --code and --tenant fewer.",
            cell(&answer["alerts"]),
            causes.len()
        );
    }
    text
}

fn cause_block(cause: &Value) -> String {
    let largest: Vec<String> = entries(cause, "largest")
        .iter()
        .map(|of| format!("{} {}", cell(&of["tenant"]), cell(&of["alerts"])))
        .collect();
    let tenants = cause["tenants"].as_u64().unwrap_or(0);
    let others = tenants.saturating_sub(largest.len() as u64);
    let others = if others > 0 {
        format!(", {others} other tenants")
    } else {
        String::new()
    };
    let example = &cause["example"];
    let last = if cause["first"] == cause["last"] {
        String::new()
    } else {
        format!(", the last since {}", time(&cause["last"]))
    };
    format!(
        "{} x {} [{}]\n  since {}{last}\n  tenants: {}{others}\n  for example {}: {}\n  What to do: {} (who: {})\n",
        cell(&cause["alerts"]),
        cell(&cause["message"]),
        cell(&cause["code"]),
        time(&cause["first"]),
        largest.join(", "),
        subject(example),
        cell(&example["detail"]),
        cell(&cause["action"]),
        cell(&cause["who_acts"]),
    )
}

fn subject(alert: &Value) -> String {
    match (alert["user"].as_str(), alert["location"].as_str()) {
        (Some(user), _) => format!("{} of {}", plain(user), cell(&alert["tenant"])),
        (None, Some(location)) => format!("{} of tenant {}", plain(location), cell(&alert["tenant"])),
        (None, None) => format!("tenant {}", cell(&alert["tenant"])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_thousand_equal_alerts_are_a_few_lines() {
        let text = alert_causes(&json!({
            "installation": [{
                "id": "no-worker", "what": "No worker runs.", "action": "Start one.", "needs_operator": true,
            }],
            "alerts": 1_000,
            "more": false,
            "causes": [{
                "code": "exchange-mailbox-full", "message": "The mailbox is full", "action": "Make room.",
                "who_acts": "the person", "alerts": 1_000, "people": 1_000, "locations": 0,
                "first": "2026-11-30T10:00:00Z", "last": "2026-11-30T11:00:00Z", "tenants": 7,
                "largest": [{"tenant": "contoso", "alerts": 750}, {"tenant": "fabrikam", "alerts": 200}],
                "example": {"tenant": "contoso", "user": "ana", "location": null, "detail": "quota\nreached"},
            }],
        }));
        assert_eq!(
            text,
            "! No worker runs. Start one.\n\n\
             1000 x The mailbox is full [exchange-mailbox-full]\n  \
             since 2026-11-30 10:00:00 UTC, the last since 2026-11-30 11:00:00 UTC\n  \
             tenants: contoso 750, fabrikam 200, 5 other tenants\n  \
             for example ana of contoso: quota reached\n  \
             What to do: Make room. (who: the person)\n\n\
             1000 alerts of 1 causes. `tasksync alerts --list` shows each, --code and --tenant fewer.\n"
        );
    }

    #[test]
    fn a_page_that_is_not_the_last_says_how_to_go_on() {
        let alert =
            json!({"tenant": "contoso", "user": null, "since": "2026-11-30T10:00:00Z", "failure": {}});
        let text = alerts(&json!({"alerts": [alert], "next": "17:0:contoso:"}));
        assert!(text.ends_with("--after '17:0:contoso:'\n"), "{text}");
    }
}
