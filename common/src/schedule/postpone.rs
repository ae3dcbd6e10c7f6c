//! Decides when a user is due again after an attempt. Pure: from the history and the outcome follow the new
//! history, the wait and what follows for the user.

use std::time::Duration;

use super::History;
use crate::error::{ErrorClass, Scope, Stops, stops};
use crate::model::{UserKey, digest};
use crate::settings::ScheduleSettings;

/// Longest wait after failures that may heal by themselves.
const MAXIMUM_BACK_OFF: Duration = Duration::from_hours(1);
/// A user is disabled after this many failures in a row.
pub const FAILURES_BEFORE_DISABLED: u32 = 10;
/// A refused mailbox or person counts as this many failures, so that the second refusal in a row disables the
/// user. A single answer may be a server's mistake.
const FAILURES_OF_A_REFUSAL: u32 = FAILURES_BEFORE_DISABLED / 2;
/// Number of idle cycles in a row, in equal steps, from the minimum to the maximum time between syncs.
const IDLE_CYCLES: u32 = 7;
/// A disabled user is tested again after this time at first, …
const FIRST_RETEST: Duration = Duration::from_hours(1);
/// … after twice the time with each further test, and at most after this time.
const LAST_RETEST: Duration = Duration::from_hours(24);
/// Shortest wait after throttling, before jitter. It also applies if the server names no pause or a pause of
/// 0.
const THROTTLE_FLOOR: Duration = Duration::from_secs(30);
/// The jitter on top of that floor is shorter than this.
const THROTTLE_JITTER: Duration = Duration::from_secs(30);
/// Longest pause that is kept; a longer one may come from a broken or hostile server.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// How often users are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPace {
    /// No user is synced more often than this.
    pub minimum: Duration,
    /// An idle user is synced this often.
    pub maximum: Duration,
}

impl From<&ScheduleSettings> for SyncPace {
    fn from(settings: &ScheduleSettings) -> Self {
        Self {
            minimum: settings.minimum_time_between_user_syncs,
            maximum: settings.maximum_time_between_user_syncs,
        }
    }
}

/// How a user's attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Synced, and a change was written on at least one side.
    Worked,
    /// Synced, and no change was found.
    Idle,
    /// Stopped at a safe point before the end; completed work is kept.
    Unfinished,
    /// Failed with this class; the scope says what the failure stops.
    Failed(ErrorClass, Scope),
}

/// The action to take besides waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// None. A disabled user who was synced now ([`AttemptOutcome::Worked`], [`AttemptOutcome::Idle`]) is
    /// enabled again.
    Nothing,
    /// The user is disabled, or stays disabled, and is tested again after `due_after`.
    Disable,
    /// The whole tenant cannot be synced: its users are postponed together, and one of them probes at a time.
    TenantCircuit,
}

/// The result of [`postpone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponement {
    /// The new history.
    pub history: History,
    /// The user is due again this long after the end of the attempt.
    pub due_after: Duration,
    /// The action to take besides waiting.
    pub follow_up: FollowUp,
}

/// Decides when a user is due again.
///
/// | outcome | due again after | history |
/// |---|---|---|
/// | worked | the minimum | cleared |
/// | idle | grows in 7 equal steps from minimum to maximum | one idle cycle more, no failures |
/// | unfinished, conflict, cursor invalid, outcome unknown, gone | the minimum | idle cycles cleared |
/// | a failure of a store or a defect of tasksync | the minimum | kept: nothing is wrong with the user |
/// | transient | minimum × failures, at most 1 h; from the 10th on as below | one failure more |
/// | throttled | the server's pause in full (at most 24 h), at least 30 to 60 s | kept |
/// | one item or list refused | as for idle: more attempts do not help it | one idle cycle more |
/// | mailbox or person refused, the first time | the minimum: one answer may be a mistake | five failures more |
/// | the same in a row, or after five failures | disabled; tested again after 1 h, doubled each time up to 24 h | at least 10 failures |
/// | the tenant's server refuses or cannot be reached | the maximum; the tenant's circuit decides | kept |
#[must_use]
pub fn postpone(pace: SyncPace, user: &UserKey, history: History, outcome: AttemptOutcome) -> Postponement {
    let go_on = |history, due_after| Postponement {
        history,
        due_after,
        follow_up: FollowUp::Nothing,
    };
    match outcome {
        AttemptOutcome::Worked => go_on(History::default(), pace.minimum),
        AttemptOutcome::Idle => {
            let idle_cycles = history.idle_cycles.saturating_add(1);
            go_on(
                History {
                    idle_cycles,
                    failures: 0,
                },
                after_idle_cycles(pace, idle_cycles),
            )
        }
        AttemptOutcome::Unfinished => go_on(
            History {
                idle_cycles: 0,
                ..history
            },
            pace.minimum,
        ),
        AttemptOutcome::Failed(class, scope) => match (class, stops(class, scope)) {
            (
                ErrorClass::Conflict
                | ErrorClass::CursorInvalid
                | ErrorClass::OutcomeUnknown
                | ErrorClass::Gone,
                _,
            ) => go_on(
                History {
                    idle_cycles: 0,
                    ..history
                },
                pace.minimum,
            ),
            (ErrorClass::Transient | ErrorClass::Refused, Stops::NoWork) => go_on(history, pace.minimum),
            (ErrorClass::Refused, Stops::Part) => {
                let idle_cycles = history.idle_cycles.saturating_add(1);
                go_on(
                    History {
                        idle_cycles,
                        ..history
                    },
                    after_idle_cycles(pace, idle_cycles),
                )
            }
            (ErrorClass::Throttled { retry_after }, _) => {
                let pause = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                go_on(history, pause.max(throttle_floor(user)))
            }
            (ErrorClass::Transient, Stops::Part | Stops::Person) => {
                let failures = history.failures.saturating_add(1);
                if failures < FAILURES_BEFORE_DISABLED {
                    let longest = MAXIMUM_BACK_OFF.max(pace.minimum);
                    go_on(
                        History {
                            idle_cycles: 0,
                            failures,
                        },
                        pace.minimum.saturating_mul(failures).min(longest),
                    )
                } else {
                    disabled(pace, failures)
                }
            }
            (ErrorClass::Refused, Stops::Person) => {
                let failures = history.failures.saturating_add(FAILURES_OF_A_REFUSAL);
                if failures < FAILURES_BEFORE_DISABLED {
                    let history = History {
                        idle_cycles: 0,
                        failures,
                    };
                    go_on(history, pace.minimum)
                } else {
                    let failures = history.failures.saturating_add(1);
                    disabled(pace, failures.max(FAILURES_BEFORE_DISABLED))
                }
            }
            (ErrorClass::Transient | ErrorClass::Refused, Stops::Tenant) => Postponement {
                history,
                due_after: pace.maximum,
                follow_up: FollowUp::TenantCircuit,
            },
        },
    }
}

/// Returns how long after the last test a disabled user with this many failures is tested again: 1 h at
/// first, doubled each time up to 24 h.
#[must_use]
pub fn retest_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(FAILURES_BEFORE_DISABLED).min(5);
    FIRST_RETEST.saturating_mul(1 << doublings).min(LAST_RETEST)
}

fn disabled(pace: SyncPace, failures: u32) -> Postponement {
    Postponement {
        history: History {
            idle_cycles: 0,
            failures,
        },
        due_after: retest_after(failures).max(pace.minimum),
        follow_up: FollowUp::Disable,
    }
}

fn after_idle_cycles(pace: SyncPace, cycles: u32) -> Duration {
    let range = pace.maximum.saturating_sub(pace.minimum);
    if cycles >= IDLE_CYCLES {
        return pace.minimum + range;
    }
    pace.minimum + range * cycles / IDLE_CYCLES
}

/// Returns the floor plus a jitter that depends on the user, so that users who were throttled together do not
/// return together.
fn throttle_floor(user: &UserKey) -> Duration {
    let jitter = spread(user) % u64::try_from(THROTTLE_JITTER.as_millis()).unwrap_or(1);
    THROTTLE_FLOOR + Duration::from_millis(jitter)
}

/// Returns a number that is constant for a user and differs between users.
pub(super) fn spread(user: &UserKey) -> u64 {
    let tenant = user.tenant.as_str().bytes();
    hash(tenant.chain([b'/']).chain(user.user.as_str().bytes()))
}

/// Returns the FNV-1a digest, mixed once more for short names.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = digest(bytes);
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

#[cfg(test)]
mod tests;
