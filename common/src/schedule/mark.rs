//! Whether a shared order of work is the one it was: what is in Redis can vanish or go back while nobody looks.

use serde::{Deserialize, Serialize};

use super::names::Members;
use crate::model::TenantId;

/// What a store's data are known by: an id made with them, and a number that grows with the leader's changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Made at random when the store was empty.
    pub id: String,
    /// Grows as long as nothing is lost.
    pub number: u64,
}

/// The mark found in a store, and the one left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// As found; `None` when the store had none.
    pub before: Option<Mark>,
    /// As it is now; to be remembered elsewhere.
    pub after: Mark,
    /// The number found is lower than what this process was told of its own changes.
    pub went_back: bool,
}

impl Marked {
    /// Returns whether data were lost since `remembered` was left in the store.
    #[must_use]
    pub fn shows_loss(&self, remembered: Option<&Mark>) -> bool {
        if self.went_back {
            return true;
        }
        match (remembered, &self.before) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(remembered), Some(found)) => found.id != remembered.id || found.number < remembered.number,
        }
    }
}

/// What a look at a part of the order of work found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspected {
    /// Tenants that were out of step with the index of tenants, and are in step now.
    pub repaired: u64,
    /// Tenants whose data are gone or went back, although nobody took them out.
    pub lost: Vec<TenantId>,
    /// Tenants of whose data a part was gone, and is made again.
    pub mended: Vec<TenantId>,
    /// Tenants whose data agree with each other, with what they hold, for a comparison with the registry. Empty where nothing is
    /// lost in part.
    pub whole: Vec<(TenantId, Members)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: &str, number: u64) -> Mark {
        Mark {
            id: id.to_owned(),
            number,
        }
    }

    #[test]
    fn another_id_no_id_or_a_lower_number_is_a_loss() {
        let marked = |before: Option<Mark>, went_back| Marked {
            before,
            after: mark("a", 9),
            went_back,
        };
        let remembered = mark("a", 5);
        for (before, went_back, lost) in [
            (Some(mark("a", 5)), false, false),
            (Some(mark("a", 7)), false, false),
            (Some(mark("a", 4)), false, true),
            (Some(mark("b", 7)), false, true),
            (None, false, true),
            (Some(mark("a", 7)), true, true),
        ] {
            let found = marked(before, went_back);
            assert_eq!(found.shows_loss(Some(&remembered)), lost, "{found:?}");
        }
        assert!(!marked(None, false).shows_loss(None), "the first start");
        assert!(marked(None, true).shows_loss(None));
    }
}
