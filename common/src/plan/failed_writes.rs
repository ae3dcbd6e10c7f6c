//! Failed writes of one pass: whether they point at a server, at one list, or at a single task.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, ActionKind};
use super::sides::Side;
use crate::error::{Failure, Scope};
use crate::model::{LocationKey, SourceKey};
use crate::state::{FailingWrite, Parked};

/// A pass stops after this many failed writes in a row whose failures concern more than one list.
const WIDE_IN_A_ROW: u32 = 3;

/// After this many failed writes in a row that each concern one task or list, their list is left for the next
/// pass. If they were in more than one list, or if another list was left just before, the pass stops.
const NARROW_IN_A_ROW: u32 = 10;

/// A task is refused after its write failed in this many passes.
const PASSES: u32 = 3;

/// One side of one list.
type ListSide = (Side, LocationKey);

/// The failed writes of one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FailedWrites {
    /// Number of failures in a row that concern more than one list.
    wide: u32,
    /// Number of failures in a row that each concern one task or list.
    narrow: u32,
    /// The places of the failures that `narrow` counts.
    narrow_lists: BTreeSet<ListSide>,
    /// Places where nothing more is written in this pass.
    left_lists: BTreeSet<ListSide>,
    /// Whether no write succeeded since a place was left.
    left_last: bool,
    attempts: BTreeMap<SourceKey, FailedAttempt>,
}

/// A failed write whose cause may be its own task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailedAttempt {
    /// The entry that `parked` gets if the task is refused.
    refusal: Parked,
    kind: ActionKind,
}

/// A task whose write failed in too many passes.
pub(super) struct GivenUpTask {
    pub(super) key: SourceKey,
    pub(super) refusal: Parked,
    pub(super) kind: ActionKind,
}

impl FailedWrites {
    /// Records a write whose answer shows that the server works.
    pub(super) fn reset_counts(&mut self) {
        self.wide = 0;
        self.narrow = 0;
        self.narrow_lists.clear();
        self.left_last = false;
    }

    /// Counts a failed write in the list `location`; returns whether the pass stops.
    pub(super) fn count(&mut self, side: Side, location: &LocationKey, failure: &Failure) -> bool {
        if is_wide(failure) {
            self.wide += 1;
            return self.wide >= WIDE_IN_A_ROW;
        }
        let list = (side, location.clone());
        self.narrow += 1;
        self.narrow_lists.insert(list.clone());
        if self.narrow < NARROW_IN_A_ROW {
            return false;
        }
        if self.narrow_lists.len() > 1 || self.left_last {
            return true;
        }
        self.reset_counts();
        self.left_lists.insert(list);
        self.left_last = true;
        false
    }

    /// Returns whether nothing more is written in this list in this pass.
    pub(super) fn skips(&self, action: &Action) -> bool {
        !self.left_lists.is_empty()
            && self
                .left_lists
                .contains(&(action.side(), action.key().location()))
    }

    /// Records that a task's write failed, unless the failure concerns more than the task's list.
    pub(super) fn record_attempt(&mut self, action: &Action, refusal: Parked) {
        let (key, kind) = (action.key(), action.kind());
        // If both the task's own write and that of a second copy fail, the task's own counts.
        let own_failed = self
            .attempts
            .get(key)
            .is_some_and(|attempt| attempt.kind != ActionKind::ConcernsTwin);
        let outranked = own_failed && kind == ActionKind::ConcernsTwin;
        if !outranked && !is_wide(&refusal.failure) {
            self.attempts.insert(key.clone(), FailedAttempt { refusal, kind });
        }
    }

    /// Counts in `failing` how many passes each task failed in. Returns the tasks that are refused now. A
    /// refused task that was retried at the same versions is refused again at once.
    pub(super) fn give_up(
        &mut self,
        failing: &mut BTreeMap<SourceKey, FailingWrite>,
        parked: &BTreeMap<SourceKey, Parked>,
    ) -> Vec<GivenUpTask> {
        let mut given_up = Vec::new();
        for (key, FailedAttempt { refusal, kind }) in std::mem::take(&mut self.attempts) {
            let before = failing.get(&key).filter(|before| {
                let (then, now) = (&before.refusal.failure, &refusal.failure);
                before.refusal.is_of_same_versions(&refusal)
                    && (then.class, then.code) == (now.class, now.code)
            });
            let passes = before.map_or(0, |before| before.passes).saturating_add(1);
            let refused_before = parked
                .get(&key)
                .is_some_and(|parked| parked.is_of_same_versions(&refusal));
            if passes >= PASSES || refused_before {
                failing.remove(&key);
                given_up.push(GivenUpTask { key, refusal, kind });
            } else {
                failing.insert(key, FailingWrite { passes, refusal });
            }
        }
        given_up
    }
}

/// Returns whether the failure concerns more than the task and list that were written.
fn is_wide(failure: &Failure) -> bool {
    failure.scope > Scope::Container
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, ErrorClass};
    use crate::model::{FieldSet, Task};
    use crate::plan::{ReplacedValues, ValueOrigin};
    use crate::state::Link;

    fn failure(scope: Scope) -> Failure {
        Failure::new(ErrorClass::Transient, Code::ExchangeError, "x").about(scope)
    }

    fn list(name: &str) -> LocationKey {
        LocationKey::sharepoint_list(name)
    }

    /// Returns after how many failed writes of this scope, taking these lists in turn, a pass stops; `None`
    /// if 40 do not stop it.
    fn stops_after(scope: Scope, lists: &[&str]) -> Option<usize> {
        let mut failed = FailedWrites::default();
        (1..=40)
            .find(|number| failed.count(Side::Source, &list(lists[number % lists.len()]), &failure(scope)))
    }

    #[test]
    fn a_pass_stops_when_the_failures_are_more_than_one_lists() {
        for wide in [Scope::Mailbox, Scope::Person, Scope::Server] {
            assert_eq!(stops_after(wide, &["a"]), Some(3), "{wide:?}");
        }
        for narrow in [Scope::Item, Scope::Container] {
            assert_eq!(stops_after(narrow, &["a", "b"]), Some(10), "{narrow:?}");
            // The first ten failures leave the list; after ten more in another list the pass stops.
            let mut failed = FailedWrites::default();
            let mut fail = |name: &str| failed.count(Side::Source, &list(name), &failure(narrow));
            assert!((0..10).all(|_| !fail("a")));
            assert!((0..9).all(|_| !fail("b")));
            assert!(fail("b"), "{narrow:?}");
        }
    }

    fn key() -> SourceKey {
        list("a").task(1)
    }

    fn update() -> Action {
        Action::UpdateSource {
            key: key(),
            version: "1".to_owned(),
            task: Box::default(),
            fields: FieldSet::EMPTY,
            change_key: "ck".to_owned(),
            item: "item".to_owned(),
            link: Box::new(Link::unagreed("item", "ck", None)),
            replaces: Box::new(ReplacedValues::from_read(&Task::default(), ValueOrigin::Agreed)),
        }
    }

    fn of_second_copy() -> Action {
        Action::DisownTwin {
            key: key(),
            item: "twin".to_owned(),
            change_key: "ck".to_owned(),
        }
    }

    fn refusal(version: &str, scope: Scope, code: Code) -> Parked {
        Parked {
            version: Some(version.to_owned()),
            change_key: None,
            failure: Failure::new(ErrorClass::Transient, code, "x").about(scope),
        }
    }

    /// Returns in how many passes in a row the write fails, taking `refusals` in turn, until the task is
    /// refused; `None` if ten passes do not refuse it.
    fn refused_after(refusals: &[Parked]) -> Option<usize> {
        let mut failing = BTreeMap::new();
        (1..=10).find(|pass| {
            let mut failed = FailedWrites::default();
            failed.record_attempt(&update(), refusals[pass % refusals.len()].clone());
            !failed.give_up(&mut failing, &BTreeMap::new()).is_empty()
        })
    }

    #[test]
    fn a_task_is_refused_in_the_third_pass_with_the_same_failure_at_the_same_versions() {
        let error = |version: &str| refusal(version, Scope::Item, Code::ExchangeError);
        assert_eq!(refused_after(&[error("1")]), Some(3));
        assert_eq!(
            refused_after(&[refusal("1", Scope::Container, Code::ExchangeError)]),
            Some(3)
        );
        assert_eq!(refused_after(&[error("1"), error("2")]), None, "edited meanwhile");
        let other = refusal("1", Scope::Item, Code::ExchangeBadAnswer);
        assert_eq!(refused_after(&[error("1"), other]), None, "for different reasons");
        let wide = refusal("1", Scope::Person, Code::ExchangeError);
        assert_eq!(refused_after(&[wide]), None, "not its own fault");
    }

    #[test]
    fn a_refused_task_that_is_tried_again_at_the_same_versions_is_refused_at_once() {
        let error = |version: &str| refusal(version, Scope::Item, Code::ExchangeError);
        for (before, given_up) in [("1", 1), ("2", 0)] {
            let mut failed = FailedWrites::default();
            failed.record_attempt(&update(), error("1"));
            let parked = BTreeMap::from([(key(), error(before))]);
            let refused = failed.give_up(&mut BTreeMap::new(), &parked);
            assert_eq!(refused.len(), given_up, "{before}");
        }
    }

    #[test]
    fn a_tasks_own_failure_outranks_that_of_its_second_copy() {
        let own = (update(), refusal("1", Scope::Item, Code::ExchangeError));
        let twins = (of_second_copy(), refusal("2", Scope::Item, Code::ExchangeError));
        for attempts in [[&own, &twins], [&twins, &own]] {
            let mut failed = FailedWrites::default();
            for (action, refusal) in attempts {
                failed.record_attempt(action, refusal.clone());
            }
            let parked = BTreeMap::from([(key(), own.1.clone())]);
            let refused = failed.give_up(&mut BTreeMap::new(), &parked);
            assert!(
                refused
                    .iter()
                    .all(|refused| refused.kind == ActionKind::WritesValues)
            );
            assert_eq!(refused.len(), 1);
        }
    }

    #[test]
    fn a_success_between_wide_failures_begins_their_count_anew() {
        let mut failed = FailedWrites::default();
        let wide = failure(Scope::Person);
        for _ in 0..5 {
            assert!(!failed.count(Side::Source, &list("a"), &wide));
            assert!(!failed.count(Side::Source, &list("a"), &wide));
            failed.reset_counts();
        }
    }

    #[test]
    fn a_list_is_left_on_the_side_where_its_writes_fail() {
        let mut failed = FailedWrites::default();
        for _ in 0..10 {
            assert!(!failed.skips(&update()));
            failed.count(Side::Source, &list("a"), &failure(Scope::Item));
        }
        assert!(failed.skips(&update()));
        assert!(!failed.skips(&of_second_copy()), "the mailbox takes its writes");
    }

    #[test]
    fn a_success_between_them_begins_the_count_anew() {
        let mut failed = FailedWrites::default();
        for name in ["a", "b", "c"] {
            let mut fail = || failed.count(Side::Source, &list(name), &failure(Scope::Item));
            assert!((0..10).all(|_| !fail()));
            failed.reset_counts();
        }
        assert_eq!(failed.left_lists.len(), 3);
    }
}
