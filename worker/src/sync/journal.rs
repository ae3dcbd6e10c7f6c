//! What is about to be lost or deleted is in the journal before it happens.

use tasksync_common::error::Failure;
use tasksync_common::model::Task;
use tasksync_common::plan::{Action, Plan};
use tasksync_common::registry::JournalEntry;

use super::SyncEngine;
use super::load::Loaded;

impl SyncEngine {
    /// Enters what this plan overwrites or deletes.
    pub(super) async fn journal_before(&self, loaded: &Loaded, plan: &Plan) -> Result<(), Failure> {
        let entries: Vec<JournalEntry> = plan
            .actions
            .iter()
            .filter_map(|(_, action)| journal_entry(loaded, action))
            .collect();
        if entries.is_empty() {
            Ok(())
        } else {
            self.registry.journal(&entries).await
        }
    }
}

fn journal_entry(loaded: &Loaded, action: &Action) -> Option<JournalEntry> {
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
        | Action::Remember { .. }
        | Action::Forget { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => return None,
    };
    Some(JournalEntry {
        at: loaded.started,
        user: loaded.user.clone(),
        task: action.key().clone(),
        kind: kind.to_owned(),
        before,
        after,
    })
}
