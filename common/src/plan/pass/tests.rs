use super::*;
use crate::error::Code;
use crate::plan::{ReplacedValues, ValueOrigin};

fn pass(state: SyncState) -> Pass {
    let saved = state.clone();
    Pass::new(state, saved, ReadProgress::default(), Timestamp::UNIX_EPOCH)
}

fn key(list: &str) -> SourceKey {
    LocationKey::sharepoint_list(list).task(1)
}

fn update(list: &str) -> Action {
    Action::UpdateSource {
        key: key(list),
        version: "1".to_owned(),
        task: Box::default(),
        fields: FieldSet::EMPTY,
        change_key: "ck".to_owned(),
        item: "item".to_owned(),
        link: Box::new(Link::unagreed("item", "ck", None)),
        replaces: Box::new(ReplacedValues::from_read(&Task::default(), ValueOrigin::Agreed)),
    }
}

fn failure(class: ErrorClass, scope: Scope) -> Failure {
    Failure::new(class, Code::ExchangeError, "x").about(scope)
}

#[test]
fn an_answer_between_failures_begins_their_count_anew_and_without_one_the_pass_stops() {
    let wide = || failure(ErrorClass::Transient, Scope::Person);
    let conflict =
        |pass: &mut Pass| pass.record_failure(&update("a"), failure(ErrorClass::Conflict, Scope::Item));
    let refusal =
        |pass: &mut Pass| pass.record_failure(&update("a"), failure(ErrorClass::Refused, Scope::Item));
    let success = |pass: &mut Pass| pass.record_success(&update("a"), ActionResult::Version("2".to_owned()));
    let answers: [&dyn Fn(&mut Pass); 3] = [&conflict, &refusal, &success];
    for answer in answers {
        let mut pass = pass(SyncState::default());
        for _ in 0..3 {
            pass.record_failure(&update("a"), wide());
            pass.record_failure(&update("b"), wide());
            answer(&mut pass);
        }
        assert!(!pass.skips(&update("a")));
        for list in ["a", "b", "c"] {
            pass.record_failure(&update(list), wide());
        }
        assert!(pass.skips(&update("d")), "nothing more is written");
        assert_eq!(pass.outcome().unwrap_err(), wide());
    }
}

#[test]
fn a_pass_that_many_lists_stop_fails_for_its_person() {
    let mut pass = pass(SyncState::default());
    for number in 0..10 {
        let list = if number % 2 == 0 { "a" } else { "b" };
        pass.record_failure(&update(list), failure(ErrorClass::Transient, Scope::Item));
    }
    assert_eq!(pass.outcome().unwrap_err().scope, Scope::Person);
}

#[test]
fn a_refused_second_copy_leaves_its_task_as_it_is() {
    let mut pass = pass(SyncState::default());
    let second = Action::DisownTwin {
        key: key("a"),
        item: "twin".to_owned(),
        change_key: "ck".to_owned(),
    };
    pass.record_failure(&second, failure(ErrorClass::Refused, Scope::Item));
    assert!(pass.state.parked.is_empty());
    pass.record_failure(&update("a"), failure(ErrorClass::Refused, Scope::Item));
    assert_eq!(pass.state.parked.len(), 1);
}

#[test]
fn a_success_forgets_in_how_many_passes_a_task_failed() {
    let mut first = pass(SyncState::default());
    first.record_failure(&update("a"), failure(ErrorClass::Transient, Scope::Item));
    first.finish();
    assert_eq!(first.state.failing[&key("a")].passes, 1);
    let mut second = pass(first.state);
    second.record_success(&update("a"), ActionResult::Version("2".to_owned()));
    second.finish();
    assert!(second.state.failing.is_empty());
}

#[test]
fn a_task_was_completed_when_it_was_first_seen_completed() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let completed = || {
        let task = Task {
            status: Status::Completed,
            ..Task::default()
        };
        let link = Link {
            agreed: crate::plan::Agreed::of(&task),
            ..Link::unagreed("item", "ck", None)
        };
        vec![Memo::Remember {
            key: key("a"),
            link: Box::new(link),
        }]
    };
    let mut state = SyncState::default();
    for second in [100, 200] {
        let saved = state.clone();
        let mut pass = Pass::new(state, saved, ReadProgress::default(), at(second));
        pass.apply_memos(completed());
        state = pass.state;
    }
    assert_eq!(state.links[&key("a")].completed_at, Some(at(100)));
}
