//! What the end of a user's attempt means for the user's place in the order. Pure.

use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserId;
use tasksync_common::schedule::{Finish, History};

use super::SyncReport;
use super::limits::WorkLimits;

/// How one user of a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserEnd {
    /// Nothing had changed.
    Idle,
    /// Synced.
    Synced(SyncReport),
    /// The attempt failed.
    Failed(Failure),
    /// The tenant cannot be synced: due again after the pause, and nobody's failure is counted.
    Postponed {
        /// The tenant's failure.
        failure: Failure,
        /// The pause of the tenant's circuit.
        pause: Duration,
        /// Whether people should be told.
        alert: bool,
    },
    /// Not started: goes back with the original stamp.
    Released,
}

/// A user of a batch and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// The user.
    pub(super) user: UserId,
    /// The end.
    pub(super) end: UserEnd,
}

/// What is to be done in the registry beside the report to the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// A user that had failed works: enabled again if it was disabled, its alert ends.
    Recovered,
    /// The user is disabled and people are told; the sync goes on being tried at growing intervals.
    Disabled(Failure),
    /// People are told about the tenant.
    TenantAlert(Failure),
}

/// What the end of an attempt means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Report it.
    Finish(Finish, Change),
    /// Give the user back with the original stamp.
    Release(UserId),
    /// The user opted out: takes no place in the order any more.
    Withdraw(UserId),
}

/// A user that fails so often in a row is disabled.
const MOST_FAILURES: u32 = 10;

/// Idle cycles after which the longest interval is reached.
const IDLE_STEPS: u32 = 4;

/// Longest back-off of a failing user.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);

/// First and longest interval between the automatic tests of a disabled user.
const FIRST_TEST: Duration = Duration::from_secs(60 * 60);
const LONGEST_TEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest pause a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// What the end of a user's attempt means, given the user's history until now.
pub(super) fn decide(ended: Ended, history: History, limits: &WorkLimits) -> Decision {
    let Ended { user, end } = ended;
    let finish = |user, result, history, due_after| Finish {
        user,
        result,
        history,
        due_after,
    };
    match end {
        UserEnd::Released => Decision::Release(user),
        UserEnd::Idle => succeeded(user, SyncReport::default(), history, limits),
        UserEnd::Synced(report) => succeeded(user, report, history, limits),
        UserEnd::Postponed {
            failure,
            pause,
            alert,
        } => {
            let change = if alert {
                Change::TenantAlert(failure.clone())
            } else {
                Change::None
            };
            let pause = pause.max(limits.minimum_time_between_user_syncs);
            Decision::Finish(finish(user, Err(failure), history, pause), change)
        }
        UserEnd::Failed(failure) if failure.code == Code::UserUnknown => Decision::Withdraw(user),
        UserEnd::Failed(failure) => {
            let Next {
                history,
                due_after,
                disabled,
            } = after_failure(failure.class, history, limits);
            let change = if disabled {
                Change::Disabled(failure.clone())
            } else {
                Change::None
            };
            Decision::Finish(finish(user, Err(failure), history, due_after), change)
        }
    }
}

fn succeeded(user: UserId, report: SyncReport, history: History, limits: &WorkLimits) -> Decision {
    let idle_cycles = if report.had_work() {
        0
    } else {
        history.idle_cycles.saturating_add(1)
    };
    let change = if history.failures > 0 {
        Change::Recovered
    } else {
        Change::None
    };
    let finish = Finish {
        user,
        result: Ok(()),
        history: History {
            idle_cycles,
            failures: 0,
        },
        due_after: if report.unfinished {
            Duration::ZERO
        } else {
            after_success(idle_cycles, limits)
        },
    };
    Decision::Finish(finish, change)
}

/// From the shortest interval after a cycle with work to the longest after some without.
fn after_success(idle_cycles: u32, limits: &WorkLimits) -> Duration {
    let shortest = limits.minimum_time_between_user_syncs;
    let growth = limits.maximum_time_between_user_syncs.saturating_sub(shortest);
    shortest + growth * idle_cycles.min(IDLE_STEPS) / IDLE_STEPS
}

struct Next {
    history: History,
    due_after: Duration,
    disabled: bool,
}

fn after_failure(class: ErrorClass, history: History, limits: &WorkLimits) -> Next {
    let shortest = limits.minimum_time_between_user_syncs;
    let failures = history.failures.saturating_add(1);
    let counted = History {
        idle_cycles: 0,
        failures,
    };
    let permanent = match class {
        ErrorClass::Throttled { retry_after } => {
            return Next {
                history,
                due_after: retry_after
                    .unwrap_or(shortest)
                    .clamp(shortest, LONGEST_PAUSE.max(shortest)),
                disabled: false,
            };
        }
        ErrorClass::MailboxPermanent | ErrorClass::TenantPermanent => true,
        ErrorClass::Transient
        | ErrorClass::Conflict
        | ErrorClass::Gone
        | ErrorClass::ItemPermanent
        | ErrorClass::CursorInvalid
        | ErrorClass::OutcomeUnknown => failures >= MOST_FAILURES,
    };
    let due_after = if permanent {
        let tests = if failures >= MOST_FAILURES {
            failures - MOST_FAILURES
        } else {
            failures - 1
        };
        FIRST_TEST.saturating_mul(1_u32 << tests.min(5)).min(LONGEST_TEST)
    } else {
        shortest.saturating_mul(failures).min(LONGEST_BACK_OFF)
    };
    Next {
        history: counted,
        due_after: due_after.max(shortest),
        disabled: permanent,
    }
}
