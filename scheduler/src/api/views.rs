//! What the API shows: flat JSON forms of values of the registry and the schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tasksync_common::error::Failure;
use tasksync_common::plan::Side;
use tasksync_common::queue::{DeadLetter, QueueName};
use tasksync_common::registry::{Alert, Enrolment, EnrolmentState, JournalEntry};
use tasksync_common::schedule::{FailureStreak, SavedStamp, UserStatus};
use tasksync_common::state::SyncState;

use super::error::ApiErrorBody;
use super::task_views::{NameView, TasksView, list_of, title_of};

/// A failure, with who acts on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FailureView {
    #[serde(flatten)]
    error: ApiErrorBody,
    who_acts: &'static str,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self {
            error: failure.into(),
            who_acts: failure.code.actor().name(),
        }
    }
}

/// An enrolment.
#[derive(Debug, Serialize)]
pub(super) struct EnrolmentView {
    tenant: String,
    user: String,
    source_login: String,
    mailbox: String,
    time_zone: Option<String>,
    opted_in_at: Timestamp,
    state: &'static str,
    disabled_since: Option<Timestamp>,
    failure: Option<FailureView>,
    /// End of the last successful sync, from the registry. Not there before the first success, and where only the
    /// enrolment is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<Timestamp>,
    /// The failures since then, if the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<FailingView>,
}

/// Consecutive failed attempts.
#[derive(Debug, Serialize)]
pub(super) struct FailingView {
    since: Timestamp,
    attempts: u32,
    failure: FailureView,
}

impl From<&FailureStreak> for FailingView {
    fn from(failing: &FailureStreak) -> Self {
        Self {
            since: failing.since,
            attempts: failing.attempts,
            failure: (&failing.failure).into(),
        }
    }
}

impl EnrolmentView {
    /// Returns the enrolment with what the registry knows of the user's attempts.
    pub(super) fn with_stamp(enrolment: &Enrolment, stamp: Option<&SavedStamp>) -> Self {
        Self {
            last_success: stamp.and_then(|saved| saved.last_success),
            failing: stamp
                .and_then(|saved| saved.failing.as_ref())
                .map(FailingView::from),
            ..Self::from(enrolment)
        }
    }
}

impl From<&Enrolment> for EnrolmentView {
    fn from(enrolment: &Enrolment) -> Self {
        let (state, disabled_since, failure) = match &enrolment.state {
            EnrolmentState::Enabled => ("enabled", None, None),
            EnrolmentState::Disabled { failure, since } => {
                ("disabled", Some(*since), Some(FailureView::from(failure)))
            }
        };
        Self {
            tenant: enrolment.key.tenant.to_string(),
            user: enrolment.key.user.to_string(),
            source_login: enrolment.source_login.clone(),
            mailbox: enrolment.mailbox.to_string(),
            time_zone: enrolment.time_zone.clone(),
            opted_in_at: enrolment.opted_in_at,
            state,
            disabled_since,
            failure,
            last_success: None,
            failing: None,
        }
    }
}

/// A user's place in the schedule.
#[derive(Debug, Serialize)]
pub(super) struct ScheduleEntryView {
    stamp: Timestamp,
    claimed: bool,
    last_attempt: Option<Timestamp>,
    last_success: Option<Timestamp>,
    last_failure: Option<FailureView>,
    idle_cycles: u32,
    failures: u32,
}

impl From<&UserStatus> for ScheduleEntryView {
    fn from(status: &UserStatus) -> Self {
        Self {
            stamp: status.stamp,
            claimed: status.claimed,
            last_attempt: status.last_attempt,
            last_success: status.last_success,
            last_failure: status.last_failure.as_ref().map(FailureView::from),
            idle_cycles: status.history.idle_cycles,
            failures: status.history.failures,
        }
    }
}

/// When a user is synced next, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum NextSync {
    /// A worker has the user now, or a job with the user is on its way to one.
    Running,
    /// The user was sent to the workers, and none runs. A worker that starts takes the job, or the user is due
    /// again when the claim ends.
    NoWorker,
    /// Not known: the schedule's store does not answer.
    Unknown,
    /// The user is due and waits for a free worker.
    Due {
        /// Since when the user is due.
        since: Timestamp,
    },
    /// The user is not due yet.
    Waiting {
        /// When the user is due, about.
        about: Timestamp,
    },
    /// The user is not in the schedule: the tenant or the user is disabled, or the schedule is being rebuilt.
    NotScheduled,
}

/// Returns the next sync that follows from a user's place in the schedule. `workers` is the number of live ones, if it
/// is known.
pub(super) fn next_sync(
    status: Option<&UserStatus>,
    workers: Option<usize>,
    minimum_time: Duration,
    now: Timestamp,
) -> NextSync {
    let Some(status) = status else {
        return NextSync::NotScheduled;
    };
    if status.claimed {
        return if workers == Some(0) {
            NextSync::NoWorker
        } else {
            NextSync::Running
        };
    }
    let due = SignedDuration::try_from(minimum_time)
        .ok()
        .and_then(|wait| status.waits_from().checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX);
    if due <= now {
        NextSync::Due { since: due }
    } else {
        NextSync::Waiting { about: due }
    }
}

/// An open alert.
#[derive(Debug, Serialize)]
pub(super) struct AlertView {
    since: Timestamp,
    tenant: String,
    user: Option<String>,
    /// The list or site, if the alert is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    failure: FailureView,
    evidence: Option<Value>,
}

impl From<&Alert> for AlertView {
    fn from(alert: &Alert) -> Self {
        Self {
            since: alert.since,
            tenant: alert.tenant.to_string(),
            user: alert.user.as_ref().map(ToString::to_string),
            location: alert.location.as_ref().map(ToString::to_string),
            failure: (&alert.failure).into(),
            evidence: alert.evidence.clone(),
        }
    }
}

/// A journal entry.
#[derive(Debug, Serialize)]
pub(super) struct JournalView {
    at: Timestamp,
    tenant: String,
    user: String,
    task: String,
    /// As last agreed; `None` while the state knows nothing of the task.
    title: Option<String>,
    /// Name of its list; `None` while nothing of the list is in the mailbox.
    list: Option<String>,
    kind: String,
    /// What happened, as a sentence; `None` for a kind of another build.
    meaning: Option<&'static str>,
    /// The side whose values changed.
    side: Option<Side>,
    before: Option<Value>,
    after: Option<Value>,
}

impl JournalView {
    /// Returns an entry with the names of task and list, if the user's state has them.
    pub(super) fn of(entry: &JournalEntry, state: Option<&SyncState>) -> Self {
        Self {
            at: entry.at,
            tenant: entry.user.tenant.to_string(),
            user: entry.user.user.to_string(),
            task: entry.task.as_str().to_owned(),
            title: state.and_then(|state| title_of(state, &entry.task)),
            list: state.and_then(|state| list_of(state, &entry.task.location())),
            kind: entry.kind.name().to_owned(),
            meaning: entry.kind.meaning(),
            side: entry.kind.side(),
            before: entry.before.clone(),
            after: entry.after.clone(),
        }
    }
}

/// Everything about one user.
#[derive(Debug, Serialize)]
pub(super) struct UserView {
    pub(super) enrolment: EnrolmentView,
    /// `None` if the user is not in the schedule, or if its store does not answer (then `missing` says so).
    pub(super) schedule: Option<ScheduleEntryView>,
    pub(super) next_sync: NextSync,
    /// Why `schedule` is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<FailureView>,
    /// `None` before the first sync.
    pub(super) tasks: Option<TasksView>,
    pub(super) alerts: Vec<AlertView>,
    /// Titles and lists of the tasks whose deletion is held back, and names of the lists, by key.
    pub(super) names: BTreeMap<String, NameView>,
    pub(super) journal: Vec<JournalView>,
}

/// A job that workers gave up on.
#[derive(Debug, Serialize)]
pub(super) struct DeadLetterView {
    id: String,
    reason: String,
    /// The queue it came from and returns to.
    queue: Option<&'static str>,
    tenant: Option<String>,
    job: Option<String>,
    users: Vec<String>,
    issued_at: Option<Timestamp>,
    unreadable: Option<String>,
}

impl From<&DeadLetter> for DeadLetterView {
    fn from(letter: &DeadLetter) -> Self {
        let job = letter.job.as_ref().ok();
        Self {
            id: letter.id.clone(),
            reason: letter.reason.clone(),
            queue: letter.queue.map(QueueName::name),
            tenant: job.map(|job| job.tenant.to_string()),
            job: job.map(|job| job.id.to_string()),
            users: job
                .map(|job| job.users.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            issued_at: job.map(|job| job.issued_at),
            unreadable: letter.job.as_ref().err().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::schedule::History;

    use super::*;

    #[test]
    fn the_next_sync_follows_from_the_stamp() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let minimum = Duration::from_mins(5);
        let at = |stamp: &str, claimed| UserStatus {
            stamp: stamp.parse().unwrap(),
            requested: None,
            claimed,
            last_attempt: None,
            last_success: None,
            last_failure: None,
            history: History::default(),
        };
        let read = |status: &UserStatus| next_sync(Some(status), Some(1), minimum, now);
        let claimed = at("2026-03-01T11:59:00Z", true);
        assert_eq!(read(&claimed), NextSync::Running);
        let without = |workers| next_sync(Some(&claimed), workers, minimum, now);
        assert_eq!(without(Some(0)), NextSync::NoWorker, "no one runs it");
        assert_eq!(without(None), NextSync::Running);
        let requested = UserStatus {
            requested: Some("2026-03-01T11:54:00Z".parse().unwrap()),
            ..at("2026-03-01T11:00:00Z", false)
        };
        let since = "2026-03-01T11:59:00Z".parse().unwrap();
        assert_eq!(
            read(&requested),
            NextSync::Due { since },
            "the wait counts from the request"
        );
        assert_eq!(
            read(&at("2026-03-01T11:55:00Z", false)),
            NextSync::Due { since: now }
        );
        assert_eq!(
            read(&at("2026-03-01T11:56:00Z", false)),
            NextSync::Waiting {
                about: "2026-03-01T12:01:00Z".parse().unwrap()
            }
        );
        assert_eq!(next_sync(None, None, minimum, now), NextSync::NotScheduled);
    }
}
