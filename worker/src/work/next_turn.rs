//! Deciding when a user is due again after an attempt, and what else its end changes. Pure.

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::schedule::gather::{Size, gather};
use tasksync_common::schedule::postpone::{AttemptOutcome, FollowUp, Postponement, SyncPace, postpone};
use tasksync_common::schedule::{FinishedAttempt, History};

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
pub(super) struct EndedUser {
    pub(super) user: UserId,
    pub(super) end: UserEnd,
}

/// A change in the registry beside the report to the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RegistryChange {
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
pub(super) enum ScheduleAction {
    /// Report the result to the schedule, and make the change in the registry.
    Finish(FinishedAttempt, RegistryChange),
    /// Give the user back with the original stamp.
    Release(UserId),
    /// The user opted out: remove it from the schedule.
    Withdraw(UserId),
}

/// What the user's next turn depends on, beside the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    /// How often users are synced.
    pub(super) pace: SyncPace,
    pub(super) tenant: &'a TenantId,
    /// The number of the tenant's users, and of users in a job.
    pub(super) size: Size,
    pub(super) now: Timestamp,
}

/// Returns what follows from the end of a user's attempt, given the user's history so far.
pub(super) fn decide_next_turn(
    circumstances: Circumstances<'_>,
    ended: EndedUser,
    history: History,
) -> ScheduleAction {
    let Circumstances {
        pace,
        tenant,
        size,
        now,
    } = circumstances;
    let EndedUser { user, end } = ended;
    let (outcome, result) = match end {
        UserEnd::Released => return ScheduleAction::Release(user),
        UserEnd::Failed(failure) if failure.code == Code::UserUnknown => {
            return ScheduleAction::Withdraw(user);
        }
        UserEnd::Postponed {
            failure,
            pause,
            alert,
        } => {
            let change = if alert {
                RegistryChange::TenantAlert(failure.clone())
            } else {
                RegistryChange::None
            };
            let finish = FinishedAttempt {
                user,
                result: Err(failure),
                history,
                due_after: pause.max(pace.minimum),
            };
            return ScheduleAction::Finish(finish, change);
        }
        UserEnd::Synced(report) if report.unfinished => (AttemptOutcome::Unfinished, Ok(())),
        UserEnd::Synced(report) if report.had_work() => (AttemptOutcome::Worked, Ok(())),
        UserEnd::Idle | UserEnd::Synced(_) => (AttemptOutcome::Idle, Ok(())),
        UserEnd::Failed(failure) => (AttemptOutcome::Failed(failure.class, failure.scope), Err(failure)),
    };
    let key = UserKey::new(tenant.clone(), user);
    let Postponement {
        history: next,
        due_after,
        follow_up,
    } = postpone(pace, &key, history, outcome);
    let due_after = match outcome {
        AttemptOutcome::Idle => gather(pace, tenant, size, now, due_after),
        AttemptOutcome::Worked | AttemptOutcome::Unfinished | AttemptOutcome::Failed(..) => due_after,
    };
    let change = match (follow_up, &result) {
        (FollowUp::Disable, Err(failure)) => RegistryChange::Disabled(failure.clone()),
        (_, Ok(())) if history.failures > 0 && next.failures == 0 => RegistryChange::Recovered,
        // A tenant's failure arrives as `Postponed`; here it could only come without a circuit.
        (FollowUp::Nothing | FollowUp::TenantCircuit, Err(_)) | (_, Ok(())) => RegistryChange::None,
    };
    let finish = FinishedAttempt {
        user: key.user,
        result,
        history: next,
        due_after,
    };
    ScheduleAction::Finish(finish, change)
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::ErrorClass;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn decided(end: UserEnd, history: History) -> ScheduleAction {
        let pace = SyncPace {
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
        decide_next_turn(circumstances, EndedUser { user, end }, history)
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
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Idle, failing(2)) else {
            panic!("finished")
        };
        assert_eq!(change, RegistryChange::Recovered);
        assert_eq!(finish.history.failures, 0);
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Idle, failing(0)) else {
            panic!("finished")
        };
        assert_eq!(change, RegistryChange::None);
        assert_eq!(finish.result, Ok(()));
        assert!(finish.due_after >= MINUTE * 5);
    }

    #[test]
    fn work_brings_the_user_back_after_the_minimum() {
        let report = SyncReport {
            mailbox_writes: 1,
            ..SyncReport::default()
        };
        let ScheduleAction::Finish(finish, _) = decided(UserEnd::Synced(report), failing(0)) else {
            panic!("finished")
        };
        assert_eq!(finish.due_after, MINUTE * 5);
    }

    #[test]
    fn two_refusals_or_ten_transient_failures_in_a_row_disable() {
        let permanent = failure(ErrorClass::Refused, Code::ExchangeMailboxMissing);
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Failed(permanent.clone()), failing(0))
        else {
            panic!("finished")
        };
        assert_eq!((change, finish.history.failures), (RegistryChange::None, 5));
        let ScheduleAction::Finish(_, change) = decided(UserEnd::Failed(permanent.clone()), finish.history)
        else {
            panic!("finished")
        };
        assert_eq!(change, RegistryChange::Disabled(permanent));
        let transient = failure(ErrorClass::Transient, Code::ExchangeTimeout);
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Failed(transient.clone()), failing(8))
        else {
            panic!("finished")
        };
        assert_eq!((change, finish.history.failures), (RegistryChange::None, 9));
        let ScheduleAction::Finish(_, change) = decided(UserEnd::Failed(transient.clone()), failing(9))
        else {
            panic!("finished")
        };
        assert_eq!(change, RegistryChange::Disabled(transient));
    }

    #[test]
    fn a_tenants_failure_and_a_throttled_user_are_not_counted() {
        let refused = failure(ErrorClass::Refused, Code::ExchangeSignInRefused);
        let end = UserEnd::Postponed {
            failure: refused.clone(),
            pause: MINUTE * 20,
            alert: true,
        };
        let ScheduleAction::Finish(finish, change) = decided(end, failing(3)) else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(3), MINUTE * 20));
        assert_eq!(change, RegistryChange::TenantAlert(refused));
        let busy = failure(
            ErrorClass::Throttled {
                retry_after: Some(MINUTE * 30),
            },
            Code::ExchangeBusy,
        );
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Failed(busy), failing(3)) else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(3), MINUTE * 30));
        assert_eq!(change, RegistryChange::None);
    }

    #[test]
    fn a_failure_of_our_own_stores_disables_no_user() {
        let full = failure(ErrorClass::Transient, Code::RegistryUnavailable);
        let ScheduleAction::Finish(finish, change) = decided(UserEnd::Failed(full.clone()), failing(9))
        else {
            panic!("finished")
        };
        assert_eq!((finish.history, finish.due_after), (failing(9), MINUTE * 5));
        assert_eq!((finish.result, change), (Err(full), RegistryChange::None));
    }

    #[test]
    fn an_unstarted_user_goes_back_and_a_user_who_opted_out_is_withdrawn() {
        assert!(matches!(
            decided(UserEnd::Released, failing(0)),
            ScheduleAction::Release(_)
        ));
        let gone = failure(ErrorClass::Gone, Code::UserUnknown);
        assert!(matches!(
            decided(UserEnd::Failed(gone), failing(0)),
            ScheduleAction::Withdraw(_)
        ));
    }
}
