//! The whole plan: the actions of all tasks, in the order of the service that tasksync replaces.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::action::{Action, Memo, ValueOrigin};
use super::decide::{Decision, Rules, decide};
use super::sides::Pair;
use crate::model::LocationKey;

/// The order of steps within one sync, as in the service that tasksync replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Tasks that are new at the source.
    NewSourceTasks,
    /// Tasks that are gone from the source.
    SourceDeletions,
    /// Tasks whose folder or copy must be recreated before updates are written.
    FolderCheck,
    /// Tasks deleted in the mailbox.
    MailboxDeletions,
    /// Items created in the mailbox. They never create a task at the source; this step only handles second
    /// copies.
    MailboxCreations,
    /// Edits made in the mailbox.
    MailboxUpdates,
    /// Edits made on both sides.
    Conflicts,
    /// Edits made at the source.
    SourceUpdates,
}

/// What one sync will do, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Locations for which a folder must be created.
    pub folders: Vec<LocationKey>,
    /// Changes of the state that are remembered before anything is written.
    pub agreed: Vec<Memo>,
    /// The writes, in order.
    pub actions: Vec<(Step, Action)>,
}

impl Plan {
    /// Returns whether nothing is written on either side.
    #[must_use]
    pub fn writes_nothing(&self) -> bool {
        self.folders.is_empty() && self.actions.is_empty()
    }
}

/// Decides about every task and puts the actions in order. `folders` are the locations that have a folder.
#[must_use]
pub fn assemble(pairs: &[Pair], folders: &BTreeSet<LocationKey>, rules: Rules<'_>) -> Plan {
    let mut by_step: BTreeMap<Step, Vec<Action>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    let mut agreed = Vec::new();
    for pair in pairs {
        let Decision { twins, memo, action } = decide(pair, rules);
        agreed.extend(memo);
        for action in twins.into_iter().chain(action) {
            if matches!(action, Action::CreateInMailbox { .. }) && !folders.contains(&pair.key.location()) {
                wanted.insert(pair.key.location());
            }
            by_step
                .entry(step_of(&action, pair.link.is_some()))
                .or_default()
                .push(action);
        }
    }
    let actions = by_step
        .into_iter()
        .flat_map(|(step, actions)| actions.into_iter().map(move |action| (step, action)))
        .collect();
    Plan {
        folders: wanted.into_iter().collect(),
        agreed,
        actions,
    }
}

fn step_of(action: &Action, linked: bool) -> Step {
    match action {
        Action::CreateInMailbox { .. } if linked => Step::FolderCheck,
        Action::CreateInMailbox { .. } => Step::NewSourceTasks,
        Action::RemoveFromMailbox { .. } => Step::SourceDeletions,
        Action::DeleteAtSource { .. } | Action::CompleteAtSource { .. } => Step::MailboxDeletions,
        Action::RemoveTwin { .. } | Action::DisownTwin { .. } => Step::MailboxCreations,
        Action::UpdateSource { replaces, .. } => match replaces.origin {
            ValueOrigin::Agreed => Step::MailboxUpdates,
            ValueOrigin::Edited | ValueOrigin::NotPermitted => Step::Conflicts,
        },
        Action::UpdateMailbox { replaces, .. } => match replaces.origin {
            ValueOrigin::Agreed => Step::SourceUpdates,
            ValueOrigin::Edited | ValueOrigin::NotPermitted => Step::Conflicts,
        },
    }
}
