//! Deciding whether a task is a person's, from what was read. Pure.

use super::json::Cell;
use super::odata;
use crate::source::Absence;

/// A person's rights to a list or an item, from SharePoint's 64-bit permission mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Permissions {
    /// `ViewListItems`, bit 0 of the low half.
    pub(super) view: bool,
    /// `EditListItems`, bit 2 of the low half.
    pub(super) edit: bool,
}

impl Permissions {
    /// Reads `{"High": …, "Low": …}`; the halves are numbers or strings.
    pub(super) fn read(value: &Cell) -> Option<Self> {
        let low = odata::integer(value, "Low")?;
        odata::integer(value, "High")?;
        Some(Self {
            view: low & 1 != 0,
            edit: low & 4 != 0,
        })
    }
}

/// What was read about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskEvidence {
    /// It was read.
    Readable {
        /// Whether it is assigned to the person directly; groups do not count.
        assigned: bool,
        /// The person's rights to it.
        permissions: Permissions,
    },
    /// The list exists, the item does not.
    ItemMissing,
    /// The list does not exist.
    ListMissing,
}

/// The decision about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PresenceVerdict {
    /// It is the person's.
    Present {
        /// Whether they may edit it.
        writable: bool,
    },
    /// It is not the person's.
    Absent(Absence),
}

/// Decides about a task. A task that is neither assigned nor visible is reported as not assigned: the person
/// loses it either way, and access that is granted later does not restore another person's task.
pub(super) fn decide(found: TaskEvidence) -> PresenceVerdict {
    match found {
        TaskEvidence::ListMissing => PresenceVerdict::Absent(Absence::LocationGone),
        TaskEvidence::ItemMissing => PresenceVerdict::Absent(Absence::Deleted),
        TaskEvidence::Readable { assigned: false, .. } => PresenceVerdict::Absent(Absence::NotAssigned),
        TaskEvidence::Readable {
            assigned: true,
            permissions: Permissions { view: false, .. },
        } => PresenceVerdict::Absent(Absence::NoAccess),
        TaskEvidence::Readable {
            assigned: true,
            permissions: Permissions { view: true, edit },
        } => PresenceVerdict::Present { writable: edit },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_combination() {
        let there = |assigned, view, edit| TaskEvidence::Readable {
            assigned,
            permissions: Permissions { view, edit },
        };
        for (found, verdict) in [
            (
                TaskEvidence::ListMissing,
                PresenceVerdict::Absent(Absence::LocationGone),
            ),
            (
                TaskEvidence::ItemMissing,
                PresenceVerdict::Absent(Absence::Deleted),
            ),
            (
                there(false, true, true),
                PresenceVerdict::Absent(Absence::NotAssigned),
            ),
            (
                there(false, false, false),
                PresenceVerdict::Absent(Absence::NotAssigned),
            ),
            (
                there(true, false, true),
                PresenceVerdict::Absent(Absence::NoAccess),
            ),
            (
                there(true, true, false),
                PresenceVerdict::Present { writable: false },
            ),
            (
                there(true, true, true),
                PresenceVerdict::Present { writable: true },
            ),
        ] {
            assert_eq!(decide(found), verdict, "{found:?}");
        }
    }

    #[test]
    fn masks_in_both_spellings() {
        let read = |mask: serde_json::Value| Permissions::read(&mask.into());
        let reader = Permissions {
            view: true,
            edit: false,
        };
        assert_eq!(read(json!({"High": "176", "Low": "138612833"})), Some(reader));
        assert_eq!(
            read(json!({"High": 432, "Low": 1_011_030_767})).map(|mask| mask.edit),
            Some(true)
        );
        assert_eq!(read(json!({"High": 0, "Low": 0})), Some(Permissions::default()));
        assert_eq!(read(json!({})), None);
    }
}
