//! What the end of a user's attempt means for the user's place in the schedule. Pure.

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::schedule::gather::{Size, gather};
use tasksync_common::schedule::postpone::{Outcome, Pace, Postponed, Verdict, postpone};
use tasksync_common::schedule::{Finish, History};

use super::SyncReport;

/// How one user of a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserEnd {
    /// Nothing had changed.
    Idle,
    /// Synced.
    Synced(SyncReport),
    /// The attempt failed.
    Failed(Failure),
    /// The tenant cannot be synced: the user is due again after the pause, and no failure is counted.
    Postponed {
        /// The tenant's failure.
        failure: Failure,
        /// The pause of the tenant's circuit.
        pause: Duration,
        /// Whether to raise the tenant's alert.
        alert: bool,
    },
    /// Not started: the user goes back with the original stamp.
    Released,
}

/// A user of a batch and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) user: UserId,
    pub(super) end: UserEnd,
}

/// A change in the registry beside the report to the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// A user that had failed works: it is enabled again if it was disabled, and its alert ends.
    Recovered,
    /// The user is disabled and an alert raised. The sync is still tried, at growing intervals.
    Disabled(Failure),
    /// The tenant's alert is raised.
    TenantAlert(Failure),
}

/// What follows from the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Report the result to the schedule, and make the change in the registry.
    Finish(Finish, Change),
    /// Give the user back with the original stamp.
    Release(UserId),
    /// The user opted out: remove it from the schedule.
    Withdraw(UserId),
}

/// What the user's next turn depends on, beside the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    /// How often users are synced.
    pub(super) pace: Pace,
    pub(super) tenant: &'a TenantId,
    /// The number of the tenant's users, and of users in a job.
    pub(super) size: Size,
    pub(super) now: Timestamp,
}

/// Returns what follows from the end of a user's attempt, given the user's history so far.
pub(super) fn decide(circumstances: Circumstances<'_>, ended: Ended, history: History) -> Decision {
    let Circumstances {
        pace,
        tenant,
        size,
        now,
    } = circumstances;
    let Ended { user, end } = ended;
    let (outcome, result) = match end {
        UserEnd::Released => return Decision::Release(user),
        UserEnd::Failed(failure) if failure.code == Code::UserUnknown => return Decision::Withdraw(user),
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
            let finish = Finish {
                user,
                result: Err(failure),
                history,
                due_after: pause.max(pace.minimum),
            };
            return Decision::Finish(finish, change);
        }
        UserEnd::Idle => (Outcome::Idle, Ok(())),
        UserEnd::Synced(report) if report.unfinished => (Outcome::Unfinished, Ok(())),
        UserEnd::Synced(report) if report.had_work() => (Outcome::Worked, Ok(())),
        UserEnd::Synced(_) => (Outcome::Idle, Ok(())),
        UserEnd::Failed(failure) => (Outcome::Failed(failure.class, failure.scope), Err(failure)),
    };
    let key = UserKey::new(tenant.clone(), user);
    let Postponed {
        history: next,
        due_after,
        verdict,
    } = postpone(pace, &key, history, outcome);
    let due_after = match outcome {
        Outcome::Idle => gather(pace, tenant, size, now, due_after),
        Outcome::Worked | Outcome::Unfinished | Outcome::Failed(..) => due_after,
    };
    let change = match (verdict, &result) {
        // A tenant's failure arrives as `Postponed`; here it could only come without a circuit.
        (Verdict::GoOn | Verdict::TenantCircuit, Err(_)) => Change::None,
        (Verdict::Disable, Err(failure)) => Change::Disabled(failure.clone()),
        (_, Ok(())) if history.failures > 0 && next.failures == 0 => Change::Recovered,
        (_, Ok(())) => Change::None,
    };
    let finish = Finish {
        user: key.user,
        result,
        history: next,
        due_after,
    };
    Decision::Finish(finish, change)
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::ErrorClass;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn decided(end: UserEnd, history: History) -> Decision {
        let pace = Pace {
            minimum: MINUTE * 5,
            maximum: MINUTE * 12,
        };
        let user = "ana".parse().unwrap();
        let circumstances = Circumstances {
            pace,
            tenant: &"contoso".parse().unwrap(),
            size: Size {
                users: 40,
                users_per_batch: 100,
            },
            now: Timestamp::UNIX_EPOCH,
        };
        decide(circumstances, Ended { user, end }, history)
    }

    fn failing(failures: u32) -> History {
        History {
            idle_cycles: 0,
            failures,
        }
    }

    fn failure(class: ErrorClass, code: Code) -> Failure {
        Failure::new(class, code, "contoso/ana")
    }

    #[test]
    fn a_success_after_failures_is_a_recovery_and_an_idle_success_changes_nothing() {
        let Decision::Finish(finish, change) = decided(UserEnd::Idle, failing(2)) else {
            panic!("finished")
        };
        assert_eq!(change, Change::Recovered);
        assert_eq!(finish.history.failures, 0);
        let Decision::Finish(finish, change) = decided(UserEnd::Idle, failing(0)) else {
            panic!("finished")
        };
        assert_eq!(change, Change::None);
        assert_eq!(finish.result, Ok(()));
        assert!(finish.due_after >= MINUTE * 5);
    }

    #[test]
    fn work_brings_the_user_back_after_the_minimum() {
        let report = SyncReport {
            mailbox_writes: 1,
            ..SyncReport::default()
        };
        let Decision::Finish(finish, _) = decided(UserEnd::Synced(report), failing(0)) else {
            panic!("finished")
        };
        assert_eq!(finish.due_after, MINUTE * 5);
    }

    #[test]
    fn two_refusals_or_ten_transient_failures_in_a_row_disable() {
        let permanent = failure(ErrorClass::Refused, Code::ExchangeMailboxMissing);
        let Decision::Finish(finish, change) = decided(UserEnd::Failed(permanent.clone()), failing(0)) else {
            panic!("finished")
        };
        assert_eq!((change, finish.history.failures), (Change::None, 5));
        let Decision::Finish(_, change) = decided(UserEnd::Failed(permanent.clone()), finish.history) else {
            panic!("finished")
        };
        assert_eq!(change, Change::Disabled(permanent));
        let transient = failure(ErrorClass::Transient, Code::ExchangeTimeout);
        let Decision::Finish(finish, change) = decided(UserEnd::Failed(transient.clone()), failing(8)) else {
            panic!("finished")
        };
        assert_eq!((change, finish.history.failures), (Change::None, 9));
        let Decision::Finish(_, change) = decided(UserEnd::Failed(transient.clone()), failing(9)) else {
            panic!("finished")
        };
        assert_eq!(change, Change::Disabled(transient));
    }

    #[test]
    fn a_tenants_failure_and_a_throttled_user_are_not_counted() {
        let refused = failure(ErrorClass::Refused, Code::ExchangeSignInRefused);
        let end = UserEnd::Postponed {
            failure: refused.clone(),
            pause: MINUTE * 20,
            alert: true,
        };
        let Decision::Finish(finish, change) = decided(end, failing(3)) else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(3), MINUTE * 20));
        assert_eq!(change, Change::TenantAlert(refused));
        let busy = failure(
            ErrorClass::Throttled {
                retry_after: Some(MINUTE * 30),
            },
            Code::ExchangeBusy,
        );
        let Decision::Finish(finish, change) = decided(UserEnd::Failed(busy), failing(3)) else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(3), MINUTE * 30));
        assert_eq!(change, Change::None);
    }

    #[test]
    fn a_failure_of_our_own_stores_disables_no_user() {
        let full = failure(ErrorClass::Transient, Code::RegistryUnavailable);
        let Decision::Finish(finish, change) = decided(UserEnd::Failed(full.clone()), failing(9)) else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(9), MINUTE * 5));
        assert_eq!((finish.result, change), (Err(full), Change::None));
    }

    #[test]
    fn an_unstarted_user_goes_back_and_a_user_who_opted_out_is_withdrawn() {
        assert!(matches!(
            decided(UserEnd::Released, failing(0)),
            Decision::Release(_)
        ));
        let gone = failure(ErrorClass::Gone, Code::UserUnknown);
        assert!(matches!(
            decided(UserEnd::Failed(gone), failing(0)),
            Decision::Withdraw(_)
        ));
    }
}
