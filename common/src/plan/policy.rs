//! A tenant's choices for cases in which the two sides disagree.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Which side wins when both were edited between two syncs. The losing values go to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictPolicy {
    /// The later edit wins the whole task.
    #[default]
    LatestTask,
    /// Edits of different fields both stand. The later edit wins a field that both sides changed.
    Merge,
    /// The source wins the whole task.
    SourceWins,
    /// The mailbox wins the whole task.
    MailboxWins,
}

/// The effect of a deletion on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionPolicy {
    /// The task is deleted on the other side, too.
    #[default]
    Propagate,
    /// The task is completed on the other side.
    Complete,
    /// Nothing happens on the other side.
    Ignore,
}

/// A tenant's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The policy for edits on both sides.
    pub conflicts: ConflictPolicy,
    /// The policy for tasks that a person deleted in the mailbox.
    pub mailbox_deletions: DeletionPolicy,
    /// The policy for tasks that are gone from the source.
    pub source_deletions: DeletionPolicy,
    /// A task that was completed longer ago than this and is missing in the mailbox counts as archived, not
    /// as deleted.
    #[serde(with = "age")]
    pub archived_after: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            conflicts: ConflictPolicy::default(),
            mailbox_deletions: DeletionPolicy::default(),
            source_deletions: DeletionPolicy::default(),
            archived_after: SignedDuration::from_hours(30 * 24),
        }
    }
}

impl Policy {
    /// Returns whether every policy has its default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Serialises a duration as a number with its unit, such as `30d`.
mod age {
    use jiff::SignedDuration;
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(age: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}s", age.as_secs()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SignedDuration, D::Error> {
        let age = crate::settings::duration::deserialize(deserializer)?;
        SignedDuration::try_from(age).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_by_their_names_and_what_is_left_out_is_the_default() {
        let policy: Policy = toml::from_str(
            "conflicts = \"merge\"\nmailbox_deletions = \"complete\"\narchived_after = \"90d\"",
        )
        .unwrap();
        let expected = Policy {
            conflicts: ConflictPolicy::Merge,
            mailbox_deletions: DeletionPolicy::Complete,
            source_deletions: DeletionPolicy::Propagate,
            archived_after: SignedDuration::from_hours(90 * 24),
        };
        assert_eq!(policy, expected);
        assert_eq!(
            serde_json::from_str::<Policy>(&serde_json::to_string(&policy).unwrap()).unwrap(),
            policy
        );
        for wrong in [
            "conflicts = \"newest\"",
            "archived_after = \"90\"",
            "deletions = \"ignore\"",
        ] {
            assert!(toml::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }
}
