//! Writes that failed in one pass: whether they show that a server is not well, that one list is not, or that one task is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Kind};
use super::sides::Side;
use crate::error::{Failure, Scope};
use crate::model::{LocationKey, SourceKey};
use crate::state::{Failing, Parked};

/// A pass stops after this many failed writes in a row that concern more than one list.
const WIDE_IN_A_ROW: u32 = 3;

/// After this many failed writes in a row of which each concerns one task or list, their list is left for the next pass.
/// When they were in more than one list, or when a list was left just before, the pass stops.
const NARROW_IN_A_ROW: u32 = 10;

/// A task is refused when its write failed in this many passes.
const PASSES: u32 = 3;

/// One side of one list.
type Place = (Side, LocationKey);

/// The failed writes of one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FailedWrites {
    /// Failures in a row that concern more than one list.
    wide: u32,
    /// Failures in a row that concern one task or list each.
    narrow: u32,
    /// Where the failures that `narrow` counts were.
    places: BTreeSet<Place>,
    /// Where nothing more is written in this pass.
    left: BTreeSet<Place>,
    /// No write succeeded since a place was left.
    left_last: bool,
    attempts: BTreeMap<SourceKey, Attempt>,
}

/// A failed write that may be its task's own fault.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    /// The entry in `parked` that the task gets when it is refused.
    refusal: Parked,
    kind: Kind,
}

/// A task of which a write failed in too many passes.
pub(super) struct GivenUp {
    pub(super) key: SourceKey,
    pub(super) refusal: Parked,
    pub(super) kind: Kind,
}

impl FailedWrites {
    /// A write was answered in a way that shows that the server works.
    pub(super) fn answered(&mut self) {
        self.wide = 0;
        self.narrow = 0;
        self.places.clear();
        self.left_last = false;
    }

    /// Counts a failed write in the list `location`; returns whether the pass stops.
    pub(super) fn count(&mut self, side: Side, location: &LocationKey, failure: &Failure) -> bool {
        if is_wide(failure) {
            self.wide += 1;
            return self.wide >= WIDE_IN_A_ROW;
        }
        let place = (side, location.clone());
        self.narrow += 1;
        self.places.insert(place.clone());
        if self.narrow < NARROW_IN_A_ROW {
            return false;
        }
        if self.places.len() > 1 || self.left_last {
            return true;
        }
        self.answered();
        self.left.insert(place);
        self.left_last = true;
        false
    }

    /// Returns whether nothing more is written in this list in this pass.
    pub(super) fn leaves(&self, action: &Action) -> bool {
        !self.left.is_empty() && self.left.contains(&(action.side(), action.key().location()))
    }

    /// Remembers which task's write failed, unless the failure concerns more than its list.
    pub(super) fn attempted(&mut self, action: &Action, refusal: Parked) {
        let (key, kind) = (action.key(), action.kind());
        // Where a task's own write and that of a second copy fail, the task's own counts.
        let own_failed = self
            .attempts
            .get(key)
            .is_some_and(|known| known.kind != Kind::ConcernsTwin);
        let outranked = own_failed && kind == Kind::ConcernsTwin;
        if !outranked && !is_wide(&refusal.failure) {
            self.attempts.insert(key.clone(), Attempt { refusal, kind });
        }
    }

    /// Counts the passes in which each task failed, in `failing`; returns the tasks that are refused now. A refused task that was tried
    /// again is refused again at once.
    pub(super) fn give_up(
        &mut self,
        failing: &mut BTreeMap<SourceKey, Failing>,
        parked: &BTreeMap<SourceKey, Parked>,
    ) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        for (key, Attempt { refusal, kind }) in std::mem::take(&mut self.attempts) {
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
                given_up.push(GivenUp { key, refusal, kind });
            } else {
                failing.insert(key, Failing { passes, refusal });
            }
        }
        given_up
    }
}

/// Returns whether the failure says nothing about the task or list that was written.
fn is_wide(failure: &Failure) -> bool {
    failure.scope > Scope::Container
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, ErrorClass};

    fn failure(scope: Scope) -> Failure {
        Failure::new(ErrorClass::Transient, Code::ExchangeError, "x").about(scope)
    }

    fn list(name: &str) -> LocationKey {
        LocationKey::sharepoint_list(name)
    }

    /// How many failed writes of this scope, in these lists by turns, stop a pass; `None` where 40 do not.
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
            // The first ten leave the list; who goes on with another list meets the second ten.
            let mut failed = FailedWrites::default();
            let mut fail = |name: &str| failed.count(Side::Source, &list(name), &failure(narrow));
            assert!((0..10).all(|_| !fail("a")));
            assert!((0..9).all(|_| !fail("b")));
            assert!(fail("b"), "{narrow:?}");
        }
    }

    #[test]
    fn a_success_between_them_begins_the_count_anew() {
        let mut failed = FailedWrites::default();
        for name in ["a", "b", "c"] {
            let mut fail = || failed.count(Side::Source, &list(name), &failure(Scope::Item));
            assert!((0..10).all(|_| !fail()));
            failed.answered();
        }
        assert_eq!(failed.left.len(), 3);
    }
}
