//! Commands that wait: `status --watch`, and `sync-now --wait`.

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tasksync_common::clock::{Clock as _, SystemClock, monotonic};
use tasksync_common::settings::parse_duration;

use crate::client::{ApiClient, pretty};
use crate::exit::{CommandEnd, CommandError, note, print};
use crate::show;

/// Time between two looks at a user whose sync is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Clears the screen of a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Reads a time on the command line: seconds, or a number with a unit.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .map(Duration::from_secs)
        .or_else(|| parse_duration(text))
        .filter(|time| !time.is_zero())
        .ok_or_else(|| {
            format!(
                "\"{text}\" is no time; write seconds, or a number with a unit such as 500ms, 30s or 5min"
            )
        })
}

/// Reads a moment on the command line: a time, or how long ago it was.
pub(crate) fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    parse_time(text)
        .ok()
        .and_then(|ago| SystemClock.now().checked_sub(ago).ok())
        .ok_or_else(|| {
            format!("\"{text}\" is no time; write for example 2026-11-30T08:00:00Z, or 2h for two hours ago")
        })
}

/// Shows the status again and again until Ctrl-C. A terminal is redrawn; elsewhere one block follows the other.
/// While the service cannot be reached, says so and goes on.
pub(crate) async fn status(
    client: &ApiClient,
    query: &[(&str, &str)],
    every: Duration,
) -> Result<CommandEnd, CommandError> {
    let redraws = std::io::stdout().is_terminal() && !client.json();
    let shown = async {
        loop {
            match client.get(&["status"], query).await {
                Ok(answer) if client.json() => {
                    print(&pretty(&answer))?;
                }
                Ok(answer) => {
                    let before = if redraws { CLEAR } else { "" };
                    let after = if redraws { "" } else { "\n" };
                    print(&format!("{before}{}{after}", show::status(&answer)))?;
                }
                Err(stop @ CommandError::Settings(_)) => return Err(stop),
                Err(stop @ (CommandError::Answer(_) | CommandError::Unreachable(_))) => {
                    note(&stop.to_string());
                }
            }
            tokio::time::sleep(every).await;
        }
    };
    tokio::select! {
        ended = shown => ended,
        // Without a handler for the signal, it ends the process as usual.
        _ = tokio::signal::ctrl_c() => Ok(CommandEnd::Success),
    }
}

/// What is known of a sync that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestedSync {
    /// It waits or runs, in words.
    Pending(String),
    /// It ended without a failure.
    Succeeded,
    /// It ended with a failure, or the user is not synced at all.
    Failed,
}

/// Returns how far a requested sync is. `before` is the user when the sync was asked for, and `now` the user now.
///
/// An attempt that was running already does not count: when it ends, the user is due again at once. So the sync is
/// over when an attempt has ended since and the user is neither due nor being synced.
pub(crate) fn progress(before: &Value, now: &Value) -> RequestedSync {
    let (schedule_before, schedule) = (&before["schedule"], &now["schedule"]);
    let state = now.pointer("/next_sync/state").and_then(Value::as_str);
    match state {
        Some("waiting") if schedule["last_attempt"] != schedule_before["last_attempt"] => {
            if schedule["last_failure"].is_null() {
                RequestedSync::Succeeded
            } else {
                RequestedSync::Failed
            }
        }
        Some("not_scheduled") => RequestedSync::Failed,
        _ => RequestedSync::Pending(show::next_sync(&now["next_sync"])),
    }
}

/// Waits until the sync that was asked for has ended, and shows what it did or why it failed.
pub(crate) async fn sync(
    client: &ApiClient,
    path: &[&str],
    before: &Value,
    limit: Duration,
) -> Result<CommandEnd, CommandError> {
    let began = monotonic();
    loop {
        let now = client.get(path, &[]).await?;
        let end = match progress(before, &now) {
            RequestedSync::Succeeded => CommandEnd::Success,
            RequestedSync::Failed => CommandEnd::BadAnswer,
            RequestedSync::Pending(state) => {
                if began.elapsed() >= limit {
                    return Err(CommandError::Answer(format!(
                        "the sync has not ended within {} s; it is {state}. It stays requested; `tasksync status` shows what is wrong",
                        limit.as_secs()
                    )));
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
        };
        if client.json() {
            print(&pretty(&now))?;
        } else {
            print(&show::finished_sync(before, &now))?;
        }
        return Ok(end);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(parse_time("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("2min"), Ok(Duration::from_mins(2)));
        assert!(parse_time("0").is_err() && parse_time("soon").is_err());
    }

    #[test]
    fn a_requested_sync_is_over_when_a_later_attempt_ended_and_none_follows() {
        let user = |state: &str, last_attempt: Option<&str>, failure: Option<&str>| {
            json!({
                "next_sync": {"state": state},
                "schedule": {"last_attempt": last_attempt, "last_failure": failure},
            })
        };
        let (first, second) = (Some("2026-11-30T10:00:00Z"), Some("2026-11-30T10:05:00Z"));
        let before = user("waiting", first, None);
        let is_pending = |now: &Value| matches!(progress(&before, now), RequestedSync::Pending(_));
        assert!(is_pending(&user("waiting", first, None)), "it was not begun");
        assert!(is_pending(&user("due", first, None)));
        assert!(is_pending(&user("running", first, None)));
        assert!(is_pending(&user("no_worker", first, None)));
        assert!(
            is_pending(&user("due", second, None)),
            "an attempt that ran before; the requested one follows"
        );
        assert!(is_pending(&user("unknown", None, None)));
        assert_eq!(
            progress(&before, &user("waiting", second, None)),
            RequestedSync::Succeeded
        );
        assert_eq!(
            progress(&before, &user("waiting", second, Some("busy"))),
            RequestedSync::Failed
        );
        assert_eq!(
            progress(&before, &user("not_scheduled", None, None)),
            RequestedSync::Failed
        );
        let new = user("due", None, None);
        assert_eq!(
            progress(&new, &user("waiting", first, None)),
            RequestedSync::Succeeded
        );
    }
}
