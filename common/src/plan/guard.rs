//! The guard against mass deletions: an accident on one side must not empty the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::assemble::{Plan, Step};
use super::sides::{Absence, Side};
use crate::model::{LocationKey, SourceKey, digest};
use crate::state::Link;

/// The limits beyond which deletions are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardLimits {
    /// Number of deletions on one side that always pass.
    pub deletions: usize,
    /// Above that number, at most this percentage of the user's tasks is deleted.
    pub percent: u8,
    /// If a location with at least this many tasks would lose all of them at once, its deletions are held
    /// back, whatever the other limits allow.
    pub emptied_from: usize,
}

/// Deletions that are held back on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDeletions {
    /// The side on which they would have happened.
    pub side: Side,
    /// The tasks.
    pub keys: Vec<SourceKey>,
    /// Number of the user's tasks in total.
    pub of: usize,
    /// Locations that would have lost all tasks; empty if the number of deletions was too high.
    pub emptied: Vec<LocationKey>,
}

/// A plan without the deletions that are held back, and these deletions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardedPlan {
    /// The plan that is carried out.
    pub plan: Plan,
    /// The deletions that are held back, with the reason; empty if there are none.
    pub held_deletions: Vec<HeldDeletions>,
    /// The held-back actions with their steps.
    withheld: Vec<(Step, Action)>,
}

impl GuardedPlan {
    /// Returns the whole plan, with the held-back actions in their places again.
    #[must_use]
    pub fn with_held_deletions(self) -> Plan {
        let Self {
            mut plan, withheld, ..
        } = self;
        plan.actions.extend(withheld);
        plan.actions.sort_by_key(|(step, _)| *step);
        plan
    }
}

impl Plan {
    /// Takes the deletions that exceed the limits out of the plan and returns both.
    #[must_use]
    pub fn apply_guard(self, links: &BTreeMap<SourceKey, Link>, limits: GuardLimits) -> GuardedPlan {
        let mut held_deletions = Vec::new();
        for side in [Side::Source, Side::Mailbox] {
            held_deletions.extend(hold_deletions(&self, side, links, limits));
        }
        let stopped: BTreeSet<(Side, &SourceKey)> = held_deletions
            .iter()
            .flat_map(|deletions| deletions.keys.iter().map(|key| (deletions.side, key)))
            .collect();
        let Self {
            folders,
            agreed,
            actions,
        } = self;
        let (withheld, actions) = actions.into_iter().partition(|(_, action)| {
            action
                .deletes_on()
                .is_some_and(|side| stopped.contains(&(side, action.key())))
        });
        GuardedPlan {
            plan: Self {
                folders,
                agreed,
                actions,
            },
            held_deletions,
            withheld,
        }
    }
}

/// Returns a digest of held deletions. The same sides and tasks have the same digest in every build.
fn digest_held_deletions(held_deletions: &[HeldDeletions]) -> u64 {
    let side = |side: Side| match side {
        Side::Source => "source",
        Side::Mailbox => "mailbox",
    };
    let names: BTreeSet<String> = held_deletions
        .iter()
        .flat_map(|deletions| {
            deletions
                .keys
                .iter()
                .map(|key| format!("{} {key}\n", side(deletions.side)))
        })
        .collect();
    digest(names.iter().flat_map(|name| name.bytes()))
}

/// Returns the name by which a permit refers to held deletions: their digest as 16 hexadecimal digits.
#[must_use]
pub fn held_digest(held_deletions: &[HeldDeletions]) -> String {
    format!("{:016x}", digest_held_deletions(held_deletions))
}

fn hold_deletions(
    plan: &Plan,
    side: Side,
    links: &BTreeMap<SourceKey, Link>,
    limits: GuardLimits,
) -> Option<HeldDeletions> {
    let deletions: Vec<&Action> = plan
        .actions
        .iter()
        .map(|(_, action)| action)
        .filter(|action| action.deletes_on() == Some(side))
        .collect();
    let unlinked = deletions
        .iter()
        .filter(|action| !links.contains_key(action.key()))
        .count();
    let of = links.len() + unlinked;
    let share = of * usize::from(limits.percent) / 100;
    let keys = |actions: &[&Action]| actions.iter().map(|action| action.key().clone()).collect();
    if deletions.len() > limits.deletions.max(share) {
        return Some(HeldDeletions {
            side,
            keys: keys(&deletions),
            of,
            emptied: Vec::new(),
        });
    }
    let emptied = emptied_locations(&deletions, links, limits.emptied_from);
    if emptied.is_empty() {
        return None;
    }
    let stopped: Vec<&Action> = deletions
        .into_iter()
        .filter(|action| emptied.contains(&action.key().location()))
        .collect();
    Some(HeldDeletions {
        side,
        keys: keys(&stopped),
        of,
        emptied: emptied.into_iter().collect(),
    })
}

/// Returns the locations that would lose all their tasks at once by deletions that the source did not report
/// task by task.
fn emptied_locations(
    deletions: &[&Action],
    links: &BTreeMap<SourceKey, Link>,
    from: usize,
) -> BTreeSet<LocationKey> {
    let mut going: BTreeMap<LocationKey, usize> = BTreeMap::new();
    for action in deletions
        .iter()
        .filter(|action| is_inferred_from_container(action))
    {
        *going.entry(action.key().location()).or_default() += 1;
    }
    going
        .into_iter()
        .filter(|(location, count)| {
            *count >= from.max(1) && links.keys().filter(|key| key.location() == *location).count() <= *count
        })
        .map(|(location, _)| location)
        .collect()
}

/// Returns whether the deletion was concluded from what a mailbox folder or a list no longer shows, which can
/// be an accident of that container. A task that the source reported as deleted or reassigned was looked up
/// by its key, which rules that out.
fn is_inferred_from_container(action: &Action) -> bool {
    match action {
        Action::DeleteAtSource { .. } | Action::CompleteAtSource { .. } => true,
        Action::RemoveFromMailbox { absence, .. } => match absence {
            Absence::LocationGone => true,
            Absence::Deleted | Absence::NotAssigned | Absence::NoAccess => false,
        },
        Action::CreateInMailbox { .. }
        | Action::UpdateSource { .. }
        | Action::UpdateMailbox { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => false,
    }
}
