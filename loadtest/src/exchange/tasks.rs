//! Rules that the server applies to the values of a task: the coupling of status, percentage and completion, and the
//! dates.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::error::EwsError;
use super::schema::XsDateTime;

/// Status of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskStatus {
    /// Not started.
    #[default]
    NotStarted,
    /// In progress.
    InProgress,
    /// Completed.
    Completed,
    /// Waiting on another person.
    WaitingOnOthers,
    /// Deferred.
    Deferred,
}

impl TaskStatus {
    /// Returns the name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "NotStarted",
            Self::InProgress => "InProgress",
            Self::Completed => "Completed",
            Self::WaitingOnOthers => "WaitingOnOthers",
            Self::Deferred => "Deferred",
        }
    }

    /// Returns the status with this name in the protocol.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::NotStarted,
            Self::InProgress,
            Self::Completed,
            Self::WaitingOnOthers,
            Self::Deferred,
        ]
        .into_iter()
        .find(|status| status.name() == name)
    }
}

/// Status, percentage and completion. The server keeps them consistent; if several are set, the last one wins.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TaskProgress {
    pub(crate) status: TaskStatus,
    pub(crate) percent: f64,
    pub(crate) completed: Option<Timestamp>,
}

impl TaskProgress {
    /// Sets the status and moves the percentage into the range that the status allows.
    ///
    /// `InProgress` requires a percentage strictly between 0 and 100 (MS-OXOTASK), so 0 and 100 become 1.
    pub(crate) fn set_status(&mut self, status: TaskStatus, now: Timestamp) {
        match status {
            TaskStatus::Completed => return self.complete(now),
            TaskStatus::NotStarted => self.percent = 0.0,
            TaskStatus::InProgress if self.percent <= 0.0 || self.percent >= 100.0 => self.percent = 1.0,
            TaskStatus::WaitingOnOthers | TaskStatus::Deferred if self.percent >= 100.0 => self.percent = 0.0,
            TaskStatus::InProgress | TaskStatus::WaitingOnOthers | TaskStatus::Deferred => {}
        }
        self.status = status;
        self.completed = None;
    }

    /// Sets the percentage.
    ///
    /// # Errors
    /// `ErrorInvalidPercentCompleteValue` if it is outside 0 to 100.
    pub(crate) fn set_percent(&mut self, percent: f64, now: Timestamp) -> Result<(), EwsError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(EwsError::new(
                "ErrorInvalidPercentCompleteValue",
                "Task property PercentComplete must be between 0 and 100.",
            )
            .field("task:PercentComplete"));
        }
        if percent >= 100.0 {
            self.complete(now);
            return Ok(());
        }
        self.percent = percent;
        self.completed = None;
        self.status = match self.status {
            TaskStatus::WaitingOnOthers | TaskStatus::Deferred => self.status,
            TaskStatus::NotStarted | TaskStatus::InProgress | TaskStatus::Completed if percent > 0.0 => {
                TaskStatus::InProgress
            }
            TaskStatus::NotStarted | TaskStatus::InProgress | TaskStatus::Completed => TaskStatus::NotStarted,
        };
        Ok(())
    }

    /// Sets the completion date. The server stores its own time instead of the one sent.
    ///
    /// # Errors
    /// `ErrorInvalidCompleteDate` for a time in the future.
    pub(crate) fn set_completed(&mut self, at: Timestamp, now: Timestamp) -> Result<(), EwsError> {
        if at > now {
            return Err(EwsError::new(
                "ErrorInvalidCompleteDate",
                "The complete date cannot be in the future.",
            )
            .field("task:CompleteDate"));
        }
        self.complete(now);
        Ok(())
    }

    /// Removes the completion date, which reopens the task.
    pub(crate) fn clear_completed(&mut self) {
        if self.status == TaskStatus::Completed {
            *self = Self::default();
        }
    }

    fn complete(&mut self, now: Timestamp) {
        let before = self.completed;
        *self = Self {
            status: TaskStatus::Completed,
            percent: 100.0,
            completed: Some(before.unwrap_or(now)),
        };
    }
}

/// Start and due date of a task. The store keeps calendar dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TaskDates {
    pub(crate) start: Option<Date>,
    pub(crate) due: Option<Date>,
}

impl TaskDates {
    /// Sets or clears the start. If the due date is missing or earlier, it becomes the start.
    pub(crate) fn set_start(&mut self, start: Option<Date>) {
        self.start = start;
        if let Some(start) = start
            && self.due.is_none_or(|due| due < start)
        {
            self.due = Some(start);
        }
    }

    /// Sets or clears the due date. If it is before the start, the start becomes the due date. Clearing the due date
    /// of a task with a start sets it to the start.
    pub(crate) fn set_due(&mut self, due: Option<Date>) {
        self.due = due.or(self.start);
        if let (Some(start), Some(due)) = (self.start, self.due)
            && due < start
        {
            self.start = Some(due);
        }
    }
}

/// The time zone in which a task's times are converted to calendar dates and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DateZone {
    /// The mailbox owner's zone. A time becomes the day on which it falls there, and an answer contains that day's
    /// midnight there. This is the documented form of storage (local midnight of the owner).
    #[default]
    Mailbox,
    /// The zone of the request's `TimeZoneContext` (UTC without one) in both directions. Some clients have observed
    /// this.
    Request,
}

/// Returns the calendar date of a start or due value. The time of day is cut off.
///
/// A value without a zone is read in the zone of the request, `request`, or in UTC if the request names none.
pub(crate) fn date_of(value: XsDateTime, request: Option<&TimeZone>, store: &TimeZone) -> Date {
    instant_of(value, request).to_zoned(store.clone()).date()
}

/// Returns the instant of an `xs:dateTime` value, interpreted as in [`date_of`].
pub(crate) fn instant_of(value: XsDateTime, request: Option<&TimeZone>) -> Timestamp {
    match value {
        XsDateTime::Instant(instant) => instant,
        XsDateTime::Local(local) => {
            let zone = request.cloned().unwrap_or(TimeZone::UTC);
            zone.to_ambiguous_zoned(local)
                .compatible()
                .map_or(Timestamp::UNIX_EPOCH, |zoned| zoned.timestamp())
        }
    }
}

/// Formats a start or due date for an answer: midnight of the day in the store's zone, written in UTC with `Z`, or
/// with the offset of the zone that the request named.
pub(crate) fn date_text(date: Date, request: Option<&TimeZone>, store: &TimeZone) -> String {
    let Ok(midnight) = store.to_ambiguous_zoned(date.at(0, 0, 0, 0)).compatible() else {
        return format!("{date}T00:00:00Z");
    };
    match request {
        Some(zone) if *zone != TimeZone::UTC => {
            let zoned = midnight.timestamp().to_zoned(zone.clone());
            zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        }
        _ => midnight.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

/// Returns a time zone by its Windows name (`W. Europe Standard Time`) or its IANA name.
pub(crate) fn zone_by_name(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    match name.parse::<windows_timezones::WindowsTimezone>() {
        Ok(windows) => TimeZone::get(windows.tzdb_id()).ok(),
        Err(_) => TimeZone::get(name).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::date_time;
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T14:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_last_of_status_percent_and_completion_wins() {
        let mut progress = TaskProgress::default();
        progress.set_percent(100.0, now()).unwrap();
        progress.set_completed(now(), now()).unwrap();
        assert_eq!(
            progress,
            TaskProgress {
                status: TaskStatus::Completed,
                percent: 100.0,
                completed: Some(now())
            }
        );
        progress.set_status(TaskStatus::NotStarted, now());
        assert_eq!(progress, TaskProgress::default());
        progress.set_status(TaskStatus::Completed, now());
        progress.set_percent(50.0, now()).unwrap();
        assert_eq!(
            progress,
            TaskProgress {
                status: TaskStatus::InProgress,
                percent: 50.0,
                completed: None
            }
        );
        progress.set_percent(0.0, now()).unwrap();
        assert_eq!(progress.status, TaskStatus::NotStarted);
        progress.set_status(TaskStatus::InProgress, now());
        assert_eq!(progress.percent.to_string(), "1");
    }

    #[test]
    fn waiting_and_deferred_keep_their_percentage() {
        let mut progress = TaskProgress::default();
        progress.set_percent(40.0, now()).unwrap();
        progress.set_status(TaskStatus::Deferred, now());
        progress.set_percent(60.0, now()).unwrap();
        assert_eq!(
            (progress.status, progress.percent.to_string().as_str()),
            (TaskStatus::Deferred, "60")
        );
        progress.set_status(TaskStatus::WaitingOnOthers, now());
        assert_eq!(progress.percent.to_string(), "60");
    }

    #[test]
    fn impossible_values_are_refused() {
        let mut progress = TaskProgress::default();
        assert_eq!(
            progress.set_percent(101.0, now()).unwrap_err().code,
            "ErrorInvalidPercentCompleteValue"
        );
        assert_eq!(
            progress.set_percent(-1.0, now()).unwrap_err().code,
            "ErrorInvalidPercentCompleteValue"
        );
        assert_eq!(
            progress.set_percent(f64::NAN, now()).unwrap_err().code,
            "ErrorInvalidPercentCompleteValue"
        );
        let later = "2026-11-23T14:00:00Z".parse().unwrap();
        assert_eq!(
            progress.set_completed(later, now()).unwrap_err().code,
            "ErrorInvalidCompleteDate"
        );
    }

    #[test]
    fn start_and_due_follow_each_other() {
        let day = |text: &str| text.parse::<Date>().ok();
        let mut dates = TaskDates::default();
        dates.set_start(day("2026-01-10"));
        assert_eq!(dates.due, day("2026-01-10"));
        dates.set_due(day("2026-01-05"));
        assert_eq!(dates.start, day("2026-01-05"));
        dates.set_start(day("2026-01-07"));
        assert_eq!(dates.due, day("2026-01-07"));
        dates.set_due(None);
        assert_eq!(dates.due, day("2026-01-07"));
        dates.set_start(None);
        dates.set_due(None);
        assert_eq!(dates, TaskDates::default());
    }

    #[test]
    fn dates_are_midnights_of_the_store_and_lose_their_time() {
        let berlin = zone_by_name("W. Europe Standard Time").unwrap();
        let local = date_time("2026-12-04T00:00:00").unwrap();
        let date = date_of(local, Some(&berlin), &berlin);
        assert_eq!(date.to_string(), "2026-12-04");
        assert_eq!(date_text(date, None, &berlin), "2026-12-03T23:00:00Z");
        assert_eq!(
            date_text(date, Some(&berlin), &berlin),
            "2026-12-04T00:00:00+01:00"
        );
        let new_york = zone_by_name("America/New_York").unwrap();
        let utc = date_time("2026-12-04T00:00:00Z").unwrap();
        assert_eq!(date_of(utc, None, &new_york).to_string(), "2026-12-03");
        assert_eq!(
            date_of(date_time("2026-12-04T22:59:59Z").unwrap(), None, &berlin).to_string(),
            "2026-12-04"
        );
        assert!(zone_by_name("Mars Standard Time").is_none());
    }
}
