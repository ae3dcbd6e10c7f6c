use proptest::prelude::*;

use super::*;

fn pace() -> Pace {
    Pace::from(&ScheduleSettings::default())
}

fn user(name: &str) -> UserKey {
    UserKey::new("contoso".parse().unwrap(), name.parse().unwrap())
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn repeat(outcome: Outcome, times: usize) -> Vec<Postponed> {
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
    let idle: Vec<_> = repeat(Outcome::Idle, 9).iter().map(|p| p.due_after).collect();
    assert_eq!(idle, [6, 7, 8, 9, 10, 11, 12, 12, 12].map(minutes));
    let worked = postpone(
        pace(),
        &user("ana"),
        History {
            idle_cycles: 6,
            failures: 3,
        },
        Outcome::Worked,
    );
    assert_eq!(worked.due_after, minutes(5));
    assert_eq!(worked.history, History::default());
    assert_eq!(worked.verdict, Verdict::GoOn);
}

#[test]
fn transient_failures_back_off_by_attempts_and_the_tenth_disables() {
    let failed = repeat(Outcome::Failed(ErrorClass::Transient, Scope::Person), 16);
    let expected = [
        5, 10, 15, 20, 25, 30, 35, 40, 45, 60, 120, 240, 480, 960, 1440, 1440,
    ];
    assert_eq!(
        failed.iter().map(|p| p.due_after).collect::<Vec<_>>(),
        expected.map(minutes)
    );
    for (index, postponed) in failed.iter().enumerate() {
        let verdict = if index < 9 {
            Verdict::GoOn
        } else {
            Verdict::Disable
        };
        assert_eq!(postponed.verdict, verdict, "failure {}", index + 1);
    }
}

#[test]
fn the_second_refusal_in_a_row_disables_and_one_success_clears_it() {
    let refusals = repeat(Outcome::Failed(ErrorClass::Refused, Scope::Person), 3);
    let ended: Vec<_> = refusals
        .iter()
        .map(|postponed| (postponed.verdict, postponed.due_after))
        .collect();
    assert_eq!(
        ended,
        [
            (Verdict::GoOn, minutes(5)),
            (Verdict::Disable, minutes(60)),
            (Verdict::Disable, minutes(120))
        ]
    );
    let healed = postpone(pace(), &user("ana"), refusals[0].history, Outcome::Idle);
    assert_eq!((healed.verdict, healed.history.failures), (Verdict::GoOn, 0));
    // The same after five transient failures.
    let history = History {
        idle_cycles: 0,
        failures: 5,
    };
    let outcome = Outcome::Failed(ErrorClass::Refused, Scope::Mailbox);
    assert_eq!(
        postpone(pace(), &user("ana"), history, outcome).verdict,
        Verdict::Disable
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
            Outcome::Failed(ErrorClass::Throttled { retry_after }, Scope::Server),
        )
    };
    assert_eq!(throttled(Some(pause), "ana").due_after, pause);
    assert_eq!(throttled(Some(pause), "ana").history, history);
    assert_eq!(throttled(Some(pause), "ana").verdict, Verdict::GoOn);
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
        Outcome::Unfinished,
        Outcome::Failed(ErrorClass::Conflict, Scope::Person),
        Outcome::Failed(ErrorClass::CursorInvalid, Scope::Person),
        Outcome::Failed(ErrorClass::OutcomeUnknown, Scope::Person),
        Outcome::Failed(ErrorClass::Gone, Scope::Person),
    ] {
        let postponed = postpone(pace(), &user("ana"), history, outcome);
        assert_eq!(postponed.due_after, minutes(5), "{outcome:?}");
        assert_eq!(postponed.history.failures, 4, "{outcome:?}");
        assert_eq!(postponed.verdict, Verdict::GoOn, "{outcome:?}");
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
        Outcome::Failed(ErrorClass::Refused, Scope::Server),
    );
    assert_eq!(postponed.verdict, Verdict::TenantCircuit);
    assert_eq!(postponed.history, history);
}

#[test]
fn a_failure_of_a_store_or_of_a_part_disables_no_user() {
    let history = History {
        idle_cycles: 1,
        failures: 9,
    };
    let ended = |class, scope| postpone(pace(), &user("ana"), history, Outcome::Failed(class, scope));
    let ours = ended(ErrorClass::Transient, Scope::Ours);
    assert_eq!(
        (ours.history, ours.due_after, ours.verdict),
        (history, minutes(5), Verdict::GoOn)
    );
    let refused = ended(ErrorClass::Refused, Scope::Item);
    assert_eq!((refused.history.failures, refused.verdict), (9, Verdict::GoOn));
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Worked),
        Just(Outcome::Idle),
        Just(Outcome::Unfinished),
        Just(Outcome::Failed(ErrorClass::Transient, Scope::Person)),
        Just(Outcome::Failed(ErrorClass::Conflict, Scope::Person)),
        Just(Outcome::Failed(ErrorClass::Gone, Scope::Person)),
        Just(Outcome::Failed(ErrorClass::Refused, Scope::Item)),
        Just(Outcome::Failed(ErrorClass::Refused, Scope::Mailbox)),
        Just(Outcome::Failed(ErrorClass::Refused, Scope::Server)),
        Just(Outcome::Failed(ErrorClass::Transient, Scope::Server)),
        Just(Outcome::Failed(ErrorClass::Transient, Scope::Ours)),
        Just(Outcome::Failed(ErrorClass::CursorInvalid, Scope::Person)),
        Just(Outcome::Failed(ErrorClass::OutcomeUnknown, Scope::Person)),
        proptest::option::of(0..u64::MAX).prop_map(|pause| {
            let class = ErrorClass::Throttled {
                retry_after: pause.map(Duration::from_millis),
            };
            Outcome::Failed(class, Scope::Server)
        }),
    ]
}

proptest! {
    #[test]
    fn waits_stay_inside_their_bounds(
        minimum in 0_u64..86_400,
        room in 0_u64..86_400,
        idle_cycles: u32,
        failures: u32,
        outcome in outcomes(),
    ) {
        let pace = Pace {
            minimum: Duration::from_secs(minimum),
            maximum: Duration::from_secs(minimum + room),
        };
        let history = History { idle_cycles, failures };
        let postponed = postpone(pace, &user("ana"), history, outcome);
        let (low, high) = match outcome {
            Outcome::Worked | Outcome::Unfinished => (pace.minimum, pace.minimum),
            Outcome::Failed(ErrorClass::Throttled { .. }, _) => (THROTTLE_FLOOR, LONGEST_PAUSE),
            Outcome::Failed(class, scope) if stops(class, scope) == Stops::Tenant => (pace.maximum, pace.maximum),
            Outcome::Failed(ErrorClass::Transient | ErrorClass::Refused, _) => {
                (pace.minimum, LAST_RETEST.max(pace.maximum))
            }
            Outcome::Idle | Outcome::Failed(..) => (pace.minimum, pace.maximum),
        };
        prop_assert!((low..=high).contains(&postponed.due_after), "{postponed:?}");
    }

    #[test]
    fn more_of_the_same_never_waits_less(
        minimum in 0_u64..86_400,
        room in 0_u64..86_400,
        one in 0_u32..40,
        other in 0_u32..40,
        outcome in outcomes(),
    ) {
        let pace = Pace {
            minimum: Duration::from_secs(minimum),
            maximum: Duration::from_secs(minimum + room),
        };
        let wait = |count| {
            let history = History { idle_cycles: count, failures: count };
            postpone(pace, &user("ana"), history, outcome).due_after
        };
        prop_assert!(wait(one.min(other)) <= wait(one.max(other)));
    }
}
