//! Several items with the same key.

use super::action::Action;
use super::agreed::{Agreed, changed_fields};
use super::decide::Canonical;
use super::sides::{MailboxSide, Pair};
use crate::model::FieldSet;

/// Returns the actions for the further items of a key. An unedited one is the result of a write that happened
/// twice and is removed. An edited one is a copy that the person made; it loses its key and becomes their
/// own.
pub(super) fn twins(pair: &Pair, canonical: Canonical<'_>) -> Vec<Action> {
    let original = match (&pair.mailbox, &pair.link) {
        (MailboxSide::Present(value), _) => Some(Agreed::of(&value.task)),
        (
            MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            Some(link),
        ) => Some(link.agreed.in_mailbox(None, canonical)),
        (
            MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            None,
        ) => None,
    };
    pair.twins
        .iter()
        .map(|twin| {
            let same = original
                .as_ref()
                .is_some_and(|original| changed_fields(original, &twin.task, FieldSet::ALL).is_empty());
            let (key, item, change_key) = (pair.key.clone(), twin.id.clone(), twin.change_key.clone());
            if same {
                Action::RemoveTwin {
                    key,
                    item,
                    change_key,
                }
            } else {
                Action::DisownTwin {
                    key,
                    item,
                    change_key,
                }
            }
        })
        .collect()
}
