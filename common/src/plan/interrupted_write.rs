//! Writes of tasksync that were cut off: whether they were done before the process ended.

use super::agreed::changed_fields;
use super::edits::{normalized_source_task, raw_progress};
use super::sides::{MailboxSide, Pair, SourceSide};
use crate::model::FieldSet;
use crate::state::{Link, Writing};

/// Returns the pair as it is after the interrupted write, if that write was done. Whatever then still differs
/// from the values that it left is a later edit of a person.
///
/// A mailbox item names the last write by id, even in Deleted Items. A task at the source does not. There the
/// write counts as done if the task shows the values it meant to leave. If the task shows anything else, it
/// is unknown whether the write was done, and the times of change decide.
pub(super) fn with_interrupted_write(pair: &Pair, common: FieldSet) -> Option<Pair> {
    let (link, deleted) = match (pair.writing.as_ref()?, &pair.source, &pair.mailbox) {
        (Writing::Source { link }, SourceSide::Present(source), _)
            if changed_fields(&link.agreed, &normalized_source_task(source, Some(link)), common)
                .is_empty() =>
        {
            let mut link = Link {
                version: source.version.clone(),
                source_progress: raw_progress(source),
                ..link.clone()
            };
            // If the copy was recreated or moved meanwhile, the saved link has its present id, folder and version.
            if let Some(stored) = pair.link.as_ref().filter(|stored| stored.item != link.item) {
                link.item.clone_from(&stored.item);
                link.other_folder.clone_from(&stored.other_folder);
                link.change_key.clone_from(&stored.change_key);
            }
            (link, false)
        }
        (Writing::Mailbox { id, link }, _, MailboxSide::Present(item))
            if item.write_id.as_ref() == Some(id) =>
        {
            let link = Link {
                item: item.id.clone(),
                other_folder: item.other_folder.clone(),
                ..link.clone()
            };
            (link, false)
        }
        (Writing::Mailbox { id, link }, _, missing)
            if is_missing(pair, missing) && pair.deleted_write_ids.contains(id) =>
        {
            (link.clone(), true)
        }
        (Writing::Source { .. } | Writing::Mailbox { .. }, _, _) => return None,
    };
    let mut updated = pair.clone();
    // tasksync began to remove the copy after this write, so the copy's absence is not the person's doing.
    let removing = pair.link.as_ref().is_some_and(|stored| stored.removing);
    updated.link = Some(Link {
        removing: removing || link.removing,
        ..link
    });
    updated.writing = None;
    if deleted {
        updated.mailbox = MailboxSide::Gone;
    }
    Some(updated)
}

/// Returns whether an interrupted write to the source may have been done and then overwritten: its values are
/// not visible, but the version advanced by more than one. If versions are not numbers, any other version
/// suffices.
pub(super) fn may_hide_interrupted_write(pair: &Pair) -> bool {
    let (Some(Writing::Source { link }), SourceSide::Present(source)) = (&pair.writing, &pair.source) else {
        return false;
    };
    match (link.version.parse::<u64>(), source.version.parse::<u64>()) {
        (Ok(before), Ok(now)) => now > before.saturating_add(1),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => source.version != link.version,
    }
}

/// Returns whether the item, linked or perhaps just created, is absent from its place.
fn is_missing(pair: &Pair, mailbox: &MailboxSide) -> bool {
    match mailbox {
        MailboxSide::Present(_) | MailboxSide::Archived => false,
        MailboxSide::Unchanged => pair.link.is_none(),
        MailboxSide::Gone | MailboxSide::FolderGone => true,
    }
}
