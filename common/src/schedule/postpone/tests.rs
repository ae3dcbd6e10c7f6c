use proptest::prelude::*;

use super::*;

fn pace() -> SyncPace {
    SyncPace::from(&ScheduleSettings::default())
}

fn user(name: &str) -> UserKey {
    UserKey::new("contoso".parse().unwrap(), name.parse().unwrap())
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn repeat(outcome: AttemptOutcome, times: usize) -> Vec<Postponement> {
    let mut history = History::default();
    (0..times)
        .map(|_| {
            let postponed = postpone(pace(), &user("ana"), history, outcome);
            history = postponed.history;
            postponed
        })
        .collect()
}

#[test]
fn work_keeps_the_minimum_and_idle_cycles_grow_to_the_maximum() {
    let idle: Vec<_> = repeat(AttemptOutcome::Idle, 9)
        .iter()
        .map(|p| p.due_after)
        .collect();
    assert_eq!(idle, [6, 7, 8, 9, 10, 11, 12, 12, 12].map(minutes));
    let worked = postpone(
        pace(),
        &user("ana"),
        History {
            idle_cycles: 6,
            failures: 3,
        },
        AttemptOutcome::Worked,
    );
    assert_eq!(worked.due_after, minutes(5));
    assert_eq!(worked.history, History::default());
    assert_eq!(worked.follow_up, FollowUp::Nothing);
}

#[test]
fn transient_failures_back_off_by_attempts_and_the_tenth_disables() {
    let failed = repeat(AttemptOutcome::Failed(ErrorClass::Transient, Scope::Person), 16);
    let expected = [
        5, 10, 15, 20, 25, 30, 35, 40, 45, 60, 120, 240, 480, 960, 1440, 1440,
    ];
    assert_eq!(
        failed.iter().map(|p| p.due_after).collect::<Vec<_>>(),
        expected.map(minutes)
    );
    for (index, postponed) in failed.iter().enumerate() {
        let verdict = if index < 9 {
            FollowUp::Nothing
        } else {
            FollowUp::Disable
        };
        assert_eq!(postponed.follow_up, verdict, "failure {}", index + 1);
    }
}

#[test]
fn the_second_refusal_in_a_row_disables_and_one_success_clears_it() {
    let refusals = repeat(AttemptOutcome::Failed(ErrorClass::Refused, Scope::Person), 3);
    let ended: Vec<_> = refusals
        .iter()
        .map(|postponed| (postponed.follow_up, postponed.due_after))
        .collect();
    assert_eq!(
        ended,
        [
            (FollowUp::Nothing, minutes(5)),
            (FollowUp::Disable, minutes(60)),
            (FollowUp::Disable, minutes(120))
        ]
    );
    let healed = postpone(pace(), &user("ana"), refusals[0].history, AttemptOutcome::Idle);
    assert_eq!(
        (healed.follow_up, healed.history.failures),
        (FollowUp::Nothing, 0)
    );
    // The same after five transient failures.
    let history = History {
        idle_cycles: 0,
        failures: 5,
    };
    let outcome = AttemptOutcome::Failed(ErrorClass::Refused, Scope::Mailbox);
    assert_eq!(
        postpone(pace(), &user("ana"), history, outcome).follow_up,
        FollowUp::Disable
    );
}

#[test]
fn a_server_s_pause_is_kept_to_the_millisecond_and_never_counted() {
    let history = History {
        idle_cycles: 2,
        failures: 9,
    };
    let pause = Duration::from_millis(61_337);
    let throttled = |retry_after, name| {
        postpone(
            pace(),
            &user(name),
            history,
            AttemptOutcome::Failed(ErrorClass::Throttled { retry_after }, Scope::Server),
        )
    };
    assert_eq!(throttled(Some(pause), "ana").due_after, pause);
    assert_eq!(throttled(Some(pause), "ana").history, history);
    assert_eq!(throttled(Some(pause), "ana").follow_up, FollowUp::Nothing);
    assert_eq!(throttled(Some(Duration::ZERO), "ana"), throttled(None, "ana"));
    assert_ne!(
        throttled(None, "ana").due_after,
        throttled(None, "ben").due_after,
        "users throttled together come back apart"
    );
    assert_eq!(throttled(Some(Duration::MAX), "ana").due_after, LONGEST_PAUSE);
}

#[test]
fn outcomes_that_need_another_look_are_due_after_the_minimum_and_count_no_failure() {
    let history = History {
        idle_cycles: 5,
        failures: 4,
    };
    for outcome in [
        AttemptOutcome::Unfinished,
        AttemptOutcome::Failed(ErrorClass::Conflict, Scope::Person),
        AttemptOutcome::Failed(ErrorClass::CursorInvalid, Scope::Person),
        AttemptOutcome::Failed(ErrorClass::OutcomeUnknown, Scope::Person),
        AttemptOutcome::Failed(ErrorClass::Gone, Scope::Person),
    ] {
        let postponed = postpone(pace(), &user("ana"), history, outcome);
        assert_eq!(postponed.due_after, minutes(5), "{outcome:?}");
        assert_eq!(postponed.history.failures, 4, "{outcome:?}");
        assert_eq!(postponed.follow_up, FollowUp::Nothing, "{outcome:?}");
    }
}

#[test]
fn a_tenant_s_failure_is_the_circuit_s_and_not_the_user_s() {
    let history = History {
        idle_cycles: 1,
        failures: 1,
    };
    let postponed = postpone(
        pace(),
        &user("ana"),
        history,
        AttemptOutcome::Failed(ErrorClass::Refused, Scope::Server),
    );
    assert_eq!(postponed.follow_up, FollowUp::TenantCircuit);
    assert_eq!(postponed.history, history);
}

#[test]
fn a_failure_of_a_store_or_of_a_part_disables_no_user() {
    let history = History {
        idle_cycles: 1,
        failures: 9,
    };
    let ended = |class, scope| {
        postpone(
            pace(),
            &user("ana"),
            history,
            AttemptOutcome::Failed(class, scope),
        )
    };
    let own_failure = ended(ErrorClass::Transient, Scope::Ours);
    assert_eq!(
        (own_failure.history, own_failure.due_after, own_failure.follow_up),
        (history, minutes(5), FollowUp::Nothing)
    );
    let refused = ended(ErrorClass::Refused, Scope::Item);
    assert_eq!(
        (refused.history.failures, refused.follow_up),
        (9, FollowUp::Nothing)
    );
}

fn outcomes() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![
        Just(AttemptOutcome::Worked),
        Just(AttemptOutcome::Idle),
        Just(AttemptOutcome::Unfinished),
        Just(AttemptOutcome::Failed(ErrorClass::Transient, Scope::Person)),
        Just(AttemptOutcome::Failed(ErrorClass::Conflict, Scope::Person)),
        Just(AttemptOutcome::Failed(ErrorClass::Gone, Scope::Person)),
        Just(AttemptOutcome::Failed(ErrorClass::Refused, Scope::Item)),
        Just(AttemptOutcome::Failed(ErrorClass::Refused, Scope::Mailbox)),
        Just(AttemptOutcome::Failed(ErrorClass::Refused, Scope::Server)),
        Just(AttemptOutcome::Failed(ErrorClass::Transient, Scope::Server)),
        Just(AttemptOutcome::Failed(ErrorClass::Transient, Scope::Ours)),
        Just(AttemptOutcome::Failed(ErrorClass::CursorInvalid, Scope::Person)),
        Just(AttemptOutcome::Failed(ErrorClass::OutcomeUnknown, Scope::Person)),
        proptest::option::of(0..u64::MAX).prop_map(|pause| {
            let class = ErrorClass::Throttled {
                retry_after: pause.map(Duration::from_millis),
            };
            AttemptOutcome::Failed(class, Scope::Server)
        }),
    ]
}

proptest! {
    #[test]
    fn waits_stay_inside_their_bounds(
        minimum in 0_u64..86_400,
        range in 0_u64..86_400,
        idle_cycles: u32,
        failures: u32,
        outcome in outcomes(),
    ) {
        let pace = SyncPace {
            minimum: Duration::from_secs(minimum),
            maximum: Duration::from_secs(minimum + range),
        };
        let history = History { idle_cycles, failures };
        let postponed = postpone(pace, &user("ana"), history, outcome);
        let (low, high) = match outcome {
            AttemptOutcome::Worked | AttemptOutcome::Unfinished => (pace.minimum, pace.minimum),
            AttemptOutcome::Failed(ErrorClass::Throttled { .. }, _) => (THROTTLE_FLOOR, LONGEST_PAUSE),
            AttemptOutcome::Failed(class, scope) if stops(class, scope) == Stops::Tenant => (pace.maximum, pace.maximum),
            AttemptOutcome::Failed(ErrorClass::Transient | ErrorClass::Refused, _) => {
                (pace.minimum, LAST_RETEST.max(pace.maximum))
            }
            AttemptOutcome::Idle | AttemptOutcome::Failed(..) => (pace.minimum, pace.maximum),
        };
        prop_assert!((low..=high).contains(&postponed.due_after), "{postponed:?}");
    }

    #[test]
    fn more_of_the_same_never_waits_less(
        minimum in 0_u64..86_400,
        range in 0_u64..86_400,
        one in 0_u32..40,
        other in 0_u32..40,
        outcome in outcomes(),
    ) {
        let pace = SyncPace {
            minimum: Duration::from_secs(minimum),
            maximum: Duration::from_secs(minimum + range),
        };
        let wait = |count| {
            let history = History { idle_cycles: count, failures: count };
            postpone(pace, &user("ana"), history, outcome).due_after
        };
        prop_assert!(wait(one.min(other)) <= wait(one.max(other)));
    }
}
