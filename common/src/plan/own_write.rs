//! A write of tasksync that was cut off: whether it was done before the process ended.

use super::agreed::changed;
use super::edits::{meant, raw_progress};
use super::sides::{MailboxSide, Pair, SourceSide};
use crate::model::FieldSet;
use crate::state::{Link, Writing};

/// Returns the pair with a write that was cut off counted in, if it was done: what differs from what it left is an edit of a person,
/// made since.
///
/// An item in the mailbox says itself which write was the last one, also from the deleted items. A task at the source does not:
/// there the write was done when the task shows what it meant to leave; if the task shows anything else, nothing is known, and
/// times decide.
pub(super) fn with_own_write(pair: &Pair, common: FieldSet) -> Option<Pair> {
    let (link, deleted) = match (pair.writing.as_ref()?, &pair.source, &pair.mailbox) {
        (Writing::Source { link }, SourceSide::Present(source), _)
            if changed(&link.agreed, &meant(source, Some(link)), common).is_empty() =>
        {
            let mut link = Link {
                version: source.version.clone(),
                source_progress: raw_progress(source),
                ..link.clone()
            };
            // What became of the item since is remembered there.
            if let Some(known) = pair.link.as_ref().filter(|known| known.item != link.item) {
                link.item.clone_from(&known.item);
                link.elsewhere.clone_from(&known.elsewhere);
                link.change_key.clone_from(&known.change_key);
            }
            (link, false)
        }
        (Writing::Mailbox { id, link }, _, MailboxSide::Present(item))
            if item.write_id.as_ref() == Some(id) =>
        {
            let link = Link {
                item: item.id.clone(),
                elsewhere: item.elsewhere.clone(),
                ..link.clone()
            };
            (link, false)
        }
        (Writing::Mailbox { id, link }, _, missing)
            if is_missing(pair, missing) && pair.deleted.contains(id) =>
        {
            (link.clone(), true)
        }
        (Writing::Source { .. } | Writing::Mailbox { .. }, _, _) => return None,
    };
    let mut counted = pair.clone();
    // A removal of tasksync's own that began after the write: the copy's absence is no wish of the person.
    let removing = pair.link.as_ref().is_some_and(|known| known.removing);
    counted.link = Some(Link {
        removing: removing || link.removing,
        ..link
    });
    counted.writing = None;
    if deleted {
        counted.mailbox = MailboxSide::Gone;
    }
    Some(counted)
}

/// Returns whether a write to the source that was cut off may lie hidden under later ones: it does not show, but the version moved by
/// more than somebody's one write. (Where versions do not count the writes, by anything.)
pub(super) fn hides_own_write(pair: &Pair) -> bool {
    let (Some(Writing::Source { link }), SourceSide::Present(source)) = (&pair.writing, &pair.source) else {
        return false;
    };
    match (link.version.parse::<u64>(), source.version.parse::<u64>()) {
        (Ok(before), Ok(now)) => now > before.saturating_add(1),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => source.version != link.version,
    }
}

/// Returns whether the item, linked or perhaps just made, is not where it should be.
fn is_missing(pair: &Pair, mailbox: &MailboxSide) -> bool {
    match mailbox {
        MailboxSide::Present(_) => false,
        MailboxSide::Unchanged => pair.link.is_none(),
        MailboxSide::Gone | MailboxSide::FolderGone => true,
        MailboxSide::Archived => false,
    }
}
