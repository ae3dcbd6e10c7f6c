//! Detects losses of a shared schedule: data in Redis can vanish, or go back to an earlier state, unnoticed.

use serde::{Deserialize, Serialize};

use super::names::TenantUsers;
use crate::model::TenantId;

/// Identifies the data of a store: a random id, and a number that grows with the leader's changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Created at random when the store was empty.
    pub id: String,
    /// Grows as long as no data are lost.
    pub number: u64,
}

/// The mark that was found in a store, and the mark that replaced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkUpdate {
    /// The mark that was found; `None` if the store had none.
    pub before: Option<Mark>,
    /// The mark that is in the store now; the caller remembers it elsewhere.
    pub after: Mark,
    /// Whether the number found is lower than one that the store had confirmed to this process.
    pub went_back: bool,
}

impl MarkUpdate {
    /// Returns whether the store lost data since `remembered` was left in it.
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

/// The result of checking a part of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InspectionResult {
    /// Number of tenants that were out of step with the index of tenants and were brought in step.
    pub repaired: u64,
    /// Tenants whose data are gone or went back although no call removed them.
    pub lost: Vec<TenantId>,
    /// Tenants of which a part of the data was gone and has been restored.
    pub repaired_tenants: Vec<TenantId>,
    /// Tenants whose data are consistent, with their number of users and digest of names, for a comparison
    /// with the registry. Empty for a store that never loses a part of its data.
    pub consistent: Vec<(TenantId, TenantUsers)>,
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
        let marked = |before: Option<Mark>, went_back| MarkUpdate {
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
