//! The form of values in Redis: times as microseconds, records as MessagePack, answers of scripts.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Code, ErrorClass, Failure};
use crate::schedule::History;

/// Scores are doubles. Whole numbers beyond this are not exact.
const LARGEST: i64 = (1 << 53) - 1;

/// Returns a time as a score, clamped to the range in which scores are exact (the years up to 2255).
pub(super) fn score(at: Timestamp) -> i64 {
    at.as_microsecond().clamp(-LARGEST, LARGEST)
}

/// Returns a score as a whole number of microseconds, which a double holds exactly. Redis may write it as
/// `1.795e+15`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are whole microseconds that fit; others saturate"
)]
pub(super) fn score_micros(score: f64) -> i64 {
    score as i64
}

/// Returns a score as a time.
pub(super) fn time(score: i64) -> Timestamp {
    Timestamp::from_microsecond(score).unwrap_or(if score < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Returns a duration in microseconds; longer ones are cut to a century.
pub(super) fn micros(duration: Duration) -> i64 {
    const CENTURY: Duration = Duration::from_hours(876_000);
    i64::try_from(duration.min(CENTURY).as_micros()).unwrap_or(LARGEST)
}

/// Returns a value as an argument of a script.
#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers and references alike, without a mark at each of the calls"
)]
pub(super) fn arg(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Returns an optional number as an argument of a script; '' stands for none.
pub(super) fn optional(value: Option<i64>) -> Vec<u8> {
    value.map(arg).unwrap_or_default()
}

/// Returns a count, or the number of a claim or leadership. The data that tasksync writes have no negative
/// ones.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A tenant's report, as its scripts return it.
pub(super) type RawTenantReport = (i64, Option<i64>, Option<i64>, i64, i64, i64, Option<i64>);

/// A tenant's report: where the tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TenantReport {
    /// Grows with every change; the highest number wins.
    pub(super) number: i64,
    /// Oldest stamp of the waiting users.
    pub(super) head: Option<i64>,
    /// Earliest expiry of a claim.
    pub(super) expiry: Option<i64>,
    pub(super) users: i64,
    pub(super) claimed: i64,
    pub(super) attempts: i64,
    /// Oldest success of the users whose last attempt failed.
    pub(super) failing: Option<i64>,
}

impl From<RawTenantReport> for TenantReport {
    fn from((number, head, expiry, users, claimed, attempts, failing): RawTenantReport) -> Self {
        Self {
            number,
            head,
            expiry,
            users,
            claimed,
            attempts,
            failing,
        }
    }
}

/// A user's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) history: History,
    pub(super) last_attempt: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
}

impl Record {
    /// Reads a record that the scripts packed: idle cycles, failures in a row, last attempt (0: never), last
    /// success (0: never, -1: the last attempt).
    pub(super) fn unpack(bytes: &[u8]) -> Result<Self, Failure> {
        let (idle_cycles, failures, attempt, success): (u32, u32, i64, i64) =
            rmp_serde::from_slice(bytes).map_err(|error| unreadable("a user's record", &error))?;
        let at = |score: i64| (score != 0).then(|| time(score));
        Ok(Self {
            history: History {
                idle_cycles,
                failures,
            },
            last_attempt: at(attempt),
            last_success: at(if success == -1 { attempt } else { success }),
        })
    }
}

/// Returns the first half of a record. The script appends last attempt and last success, because their times
/// are the server's.
pub(super) fn pack_history(history: History) -> Vec<u8> {
    // The MessagePack head of an array of four.
    const FOUR: u8 = 0x94;
    let mut packed = vec![FOUR];
    for number in [history.idle_cycles, history.failures] {
        // Writing a number into memory cannot fail.
        packed.extend(rmp_serde::to_vec(&number).unwrap_or_else(|_| vec![0]));
    }
    packed
}

/// Returns the users of a batch, in which the scripts pack users and stamps alternately.
pub(super) fn unpack_batch(bytes: &[u8]) -> Result<HashSet<&str>, Failure> {
    let batch: Vec<&str> =
        rmp_serde::from_slice(bytes).map_err(|error| unreadable("a batch of claims", &error))?;
    Ok(batch.into_iter().step_by(2).collect())
}

pub(super) fn pack_failure(failure: &Failure) -> Vec<u8> {
    // Fields have names, so an earlier build skips unknown ones. Writing text and numbers cannot fail; if it
    // ever did, class and code are what matters.
    rmp_serde::to_vec_named(failure).unwrap_or_else(|_| {
        rmp_serde::to_vec_named(&Failure::new(failure.class, failure.code, "")).unwrap_or_else(|_| vec![0xc0])
    })
}

/// Returns a stored failure. One that another build saved with a code unknown to this build is shown as
/// unreadable and does no harm.
pub(super) fn unpack_failure(bytes: &[u8]) -> Failure {
    rmp_serde::from_slice(bytes).unwrap_or_else(|error| {
        Failure::new(
            ErrorClass::Transient,
            Code::ScheduleUnavailable,
            format!("another version saved the reason, and this one cannot read it: {error}"),
        )
    })
}

/// Returns the failure for data in Redis that tasksync did not write.
pub(super) fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::ScheduleUnavailable,
        format!(
            "{what} in Redis cannot be read ({error}): does something else write under schedule.key_prefix?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_and_extremes_are_held_inside() {
        let at: Timestamp = "2026-11-22T14:00:00.123456Z".parse().unwrap();
        assert_eq!(time(score(at)), at);
        assert!(time(score(Timestamp::MAX)) > at && time(score(Timestamp::MIN)) < at);
        assert_eq!(micros(Duration::MAX), 100 * 365 * 24 * 3600 * 1_000_000);
    }

    #[test]
    fn records_are_read_as_packed() {
        let packed = rmp_serde::to_vec(&(3_u32, 0_u32, 1_700_000_000_000_000_i64, -1_i64)).unwrap();
        let record = Record::unpack(&packed).unwrap();
        assert_eq!(record.last_success, record.last_attempt);
        assert_eq!(record.history.idle_cycles, 3);
        let never = Record::unpack(&rmp_serde::to_vec(&(0, 0, 0, 0)).unwrap()).unwrap();
        assert_eq!(never, Record::default());
        assert!(Record::unpack(b"nonsense").is_err());
    }

    #[test]
    fn a_history_is_the_beginning_of_a_record() {
        let history = History {
            idle_cycles: 300,
            failures: 7,
        };
        let mut record = pack_history(history);
        record.extend(rmp_serde::to_vec(&1_700_000_000_000_000_i64).unwrap());
        record.extend(rmp_serde::to_vec(&-1).unwrap());
        let record = Record::unpack(&record).unwrap();
        assert_eq!(record.history, history);
        assert_eq!(record.last_success, record.last_attempt);
    }

    #[test]
    fn the_users_of_a_batch_are_read_as_packed() {
        let packed = rmp_serde::to_vec(&["ana", "17", "ben", "18"]).unwrap();
        assert_eq!(unpack_batch(&packed).unwrap(), HashSet::from(["ana", "ben"]));
        assert!(unpack_batch(b"nonsense").is_err());
    }

    #[test]
    fn failures_survive_and_unknown_ones_do_no_harm() {
        let failure = Failure::new(ErrorClass::Gone, Code::ExchangeTimeout, "GetFolder");
        assert_eq!(unpack_failure(&pack_failure(&failure)), failure);
        assert_eq!(unpack_failure(b"\xff").code, Code::ScheduleUnavailable);
    }
}
