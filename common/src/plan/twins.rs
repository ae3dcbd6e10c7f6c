//! Several items with one key.

use super::action::Action;
use super::agreed::{Agreed, changed};
use super::decide::Canonical;
use super::sides::{MailboxSide, Pair};
use crate::model::FieldSet;

/// Further items with the same key: an untouched one is a write that happened twice and goes; a changed one is a copy
/// the person made and becomes their own.
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
                .is_some_and(|original| changed(original, &twin.task, FieldSet::ALL).is_empty());
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
