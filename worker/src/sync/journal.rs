//! What is about to be lost or deleted is in the journal before it happens.

use jiff::Timestamp;
use tasksync_common::model::{Task, UserKey};
use tasksync_common::plan::{Action, Plan};
use tasksync_common::registry::JournalEntry;

/// Returns the entries for what this plan overwrites or deletes.
pub(super) fn entries(user: &UserKey, at: Timestamp, plan: &Plan) -> Vec<JournalEntry> {
    plan.actions
        .iter()
        .filter_map(|(_, action)| journal_entry(user, at, action))
        .collect()
}

fn journal_entry(user: &UserKey, at: Timestamp, action: &Action) -> Option<JournalEntry> {
    let json = |task: &Task| serde_json::to_value(task).ok();
    let (kind, before, after) = match action {
        Action::DeleteAtSource { task, .. } => ("deleted_at_source", json(task), None),
        Action::RemoveFromMailbox {
            edited: Some(edited), ..
        } => ("edit_removed_from_mailbox", json(edited), None),
        Action::RemoveFromMailbox { edited: None, .. } => ("removed_from_mailbox", None, None),
        Action::UpdateSource {
            lost: Some(lost),
            task,
            ..
        } => ("conflict_lost_at_source", json(lost), json(task)),
        Action::UpdateMailbox {
            lost: Some(lost),
            task,
            ..
        } => ("conflict_lost_in_mailbox", json(lost), json(task)),
        Action::CreateInMailbox {
            task, restored: true, ..
        } => ("restored_in_mailbox", None, json(task)),
        Action::CreateInMailbox { .. }
        | Action::UpdateSource { .. }
        | Action::UpdateMailbox { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => return None,
    };
    Some(JournalEntry {
        at,
        user: user.clone(),
        task: action.key().clone(),
        kind: kind.to_owned(),
        before,
        after,
    })
}
