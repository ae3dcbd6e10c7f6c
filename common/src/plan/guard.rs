//! The brake before deletions: an accident on one side must not empty the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::assemble::{Plan, Step};
use super::sides::{Absence, Side};
use crate::model::{LocationKey, SourceKey, digest};
use crate::state::Link;

/// When deletions are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many deletions on one side always pass.
    pub deletions: usize,
    /// Beyond that, at most this share of the user's tasks, in percent.
    pub percent: u8,
    /// A location with at least this many tasks that loses all of them at once is held back, however few they are.
    pub emptied_from: usize,
}

/// Deletions that were held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where they would have happened.
    pub side: Side,
    /// The tasks.
    pub keys: Vec<SourceKey>,
    /// The user's tasks in all.
    pub of: usize,
    /// Locations that would have lost everything; empty when it is the number that was too high.
    pub emptied: Vec<LocationKey>,
}

/// A plan without the deletions that are held back, and what is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    /// The plan that is carried out.
    pub plan: Plan,
    /// Why deletions are held back; empty when none is.
    pub held: Vec<Held>,
    /// The actions that are held back.
    withheld: Vec<(Step, Action)>,
}

impl Guarded {
    /// Returns the whole plan, with what was held back in its place.
    #[must_use]
    pub fn released(self) -> Plan {
        let Self {
            mut plan, withheld, ..
        } = self;
        plan.actions.extend(withheld);
        plan.actions.sort_by_key(|(step, _)| *step);
        plan
    }
}

impl Plan {
    /// Takes the deletions that are too many out of the plan and says which they were.
    #[must_use]
    pub fn guarded(self, links: &BTreeMap<SourceKey, Link>, limits: Limits) -> Guarded {
        let mut held = Vec::new();
        for side in [Side::Source, Side::Mailbox] {
            held.extend(hold(&self, side, links, limits));
        }
        let stopped: BTreeSet<(Side, &SourceKey)> = held
            .iter()
            .flat_map(|held| held.keys.iter().map(|key| (held.side, key)))
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
        Guarded {
            plan: Self {
                folders,
                agreed,
                actions,
            },
            held,
            withheld,
        }
    }
}

/// Returns a digest of held deletions that names them: the same sides and tasks have the same digest in every build.
fn digest_of_held(held: &[Held]) -> u64 {
    let side = |side: Side| match side {
        Side::Source => "source",
        Side::Mailbox => "mailbox",
    };
    let names: BTreeSet<String> = held
        .iter()
        .flat_map(|held| held.keys.iter().map(|key| format!("{} {key}\n", side(held.side))))
        .collect();
    digest(names.iter().flat_map(|name| name.bytes()))
}

/// Returns the name of a plan of held deletions, as a permit names it: its digest as 16 hexadecimal digits.
#[must_use]
pub fn held_digest(held: &[Held]) -> String {
    format!("{:016x}", digest_of_held(held))
}

fn hold(plan: &Plan, side: Side, links: &BTreeMap<SourceKey, Link>, limits: Limits) -> Option<Held> {
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
        return Some(Held {
            side,
            keys: keys(&deletions),
            of,
            emptied: Vec::new(),
        });
    }
    let emptied = emptied(&deletions, links, limits.emptied_from);
    if emptied.is_empty() {
        return None;
    }
    let stopped: Vec<&Action> = deletions
        .into_iter()
        .filter(|action| emptied.contains(&action.key().location()))
        .collect();
    Some(Held {
        side,
        keys: keys(&stopped),
        of,
        emptied: emptied.into_iter().collect(),
    })
}

/// Locations all of whose tasks would go at once, without anybody having said so task by task.
fn emptied(deletions: &[&Action], links: &BTreeMap<SourceKey, Link>, from: usize) -> BTreeSet<LocationKey> {
    let mut going: BTreeMap<LocationKey, usize> = BTreeMap::new();
    for action in deletions.iter().filter(|action| follows_a_container(action)) {
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

/// Returns a task that the source itself said was deleted or reassigned was looked up by its key: that is no accident of a
/// container. What a mailbox folder or a vanished list no longer shows may be one.
fn follows_a_container(action: &Action) -> bool {
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
