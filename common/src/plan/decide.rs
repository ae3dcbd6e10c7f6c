//! What is to be done about one task.

use super::action::Action;
use super::agreed::{Agreed, changed, mailbox_form};
use super::edits::{
    mailbox_edits, meant, own, own_start, raw_progress, shared, source_edits, with_both_dates,
    with_moved_date,
};
use super::own_write::{hides_own_write, with_own_write};
use super::sides::{MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
use super::twins::twins;
use crate::model::{Field, FieldSet, SourceKey, Task};
use crate::state::Link;

/// What the tenant and the back ends allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Fields the mailbox can hold.
    pub mailbox_holds: FieldSet,
}

/// The fields both sides can hold: only those are compared and carried. What one side cannot hold stays as it is on the
/// other and is never cleared; a mailbox's labels are the person's own.
fn common(pair: &Pair, rules: Rules) -> FieldSet {
    pair.source_holds
        .and(rules.mailbox_holds)
        .without(Field::Categories)
}

/// What is to be done about one task. Empty: nothing.
#[must_use]
pub fn decide(pair: &Pair, rules: Rules) -> Vec<Action> {
    let mut actions = twins(pair);
    if is_parked(pair) {
        return actions;
    }
    let common = common(pair, rules);
    let counted = with_own_write(pair, common);
    let now = counted.as_ref().unwrap_or(pair);
    let main = main(now, common).or_else(|| pair.writing.as_ref().and_then(|_| nothing_left(now)));
    let Some(main) = main else {
        return actions;
    };
    // Written down before the write, so that the copy is found again, and what was agreed is known, whatever becomes of the write.
    if !matches!(main, Action::Remember { .. } | Action::Forget { .. }) {
        let removing = matches!(main, Action::RemoveFromMailbox { .. });
        actions.extend(found(pair.link.as_ref(), now, removing));
    }
    actions.push(main);
    actions
}

/// A write that was cut off, of which nothing is left to do, is forgotten.
fn nothing_left(pair: &Pair) -> Option<Action> {
    if pair.source == SourceSide::Unchanged {
        return None;
    }
    Some(match &pair.link {
        Some(link) => remember(&pair.key, link.clone()),
        None => Action::Forget {
            key: pair.key.clone(),
        },
    })
}

/// A copy nothing is remembered of, or a linked one in another place than remembered (a move gives it a new id): where
/// it is, with nothing more agreed than before, and whether tasksync is about to remove it. Or what is agreed by a write that
/// was cut off and counted in; `known` is what was remembered before.
fn found(known: Option<&Link>, pair: &Pair, removing: bool) -> Option<Action> {
    let link = match (&pair.link, &pair.mailbox) {
        (None, MailboxSide::Present(mailbox)) => Link {
            removing,
            ..Link::found(&mailbox.id, &mailbox.change_key, mailbox.elsewhere.clone())
        },
        (Some(link), MailboxSide::Present(mailbox)) if link.item != mailbox.id => Link {
            item: mailbox.id.clone(),
            elsewhere: mailbox.elsewhere.clone(),
            removing: link.removing || removing,
            ..link.clone()
        },
        // A new item that was deleted at once has no id to be remembered by.
        (Some(link), _) if !link.item.is_empty() && known.is_none_or(|known| known.agreed != link.agreed) => {
            link.clone()
        }
        (None | Some(_), _) => return None,
    };
    Some(Action::Remember {
        key: pair.key.clone(),
        link: Box::new(link),
    })
}

/// A refused task is left alone until one side changes.
fn is_parked(pair: &Pair) -> bool {
    let Some(parked) = &pair.parked else { return false };
    let source_same = match &pair.source {
        SourceSide::Unchanged => true,
        SourceSide::Present(value) => parked.version.as_ref() == Some(&value.version),
        SourceSide::Absent(_) => false,
    };
    let mailbox_same = match &pair.mailbox {
        MailboxSide::Unchanged => true,
        MailboxSide::Present(value) => parked.change_key.as_ref() == Some(&value.change_key),
        MailboxSide::Gone | MailboxSide::FolderGone => false,
    };
    source_same && mailbox_same
}

fn main(pair: &Pair, common: FieldSet) -> Option<Action> {
    let key = &pair.key;
    if let Some(link) = &pair.link
        && !link.is_agreed()
    {
        return found_before(pair, link, common);
    }
    match (&pair.link, &pair.source, &pair.mailbox) {
        // --- Not linked ---
        // Nothing is known of it on either side.
        (None, SourceSide::Unchanged, _) => None,
        // A new task; or one whose folder was lost together with the state.
        (
            None,
            SourceSide::Present(source),
            MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone,
        ) => Some(create(key, source, None, false)),
        // Both have it and nothing is remembered: found again after a loss of state, or created just before a crash.
        (None, SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
            Some(adopt(key, source, mailbox, common))
        }
        // A copy of ours whose task is gone from the source.
        (None, SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => {
            Some(Action::RemoveFromMailbox {
                key: key.clone(),
                item: mailbox.id.clone(),
                change_key: mailbox.change_key.clone(),
                absence: *absence,
                edited: Some(Box::new(mailbox.task.clone())),
            })
        }
        (
            None,
            SourceSide::Absent(_),
            MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone,
        ) => None,

        // --- Linked, gone from the source ---
        (Some(_), SourceSide::Absent(_), MailboxSide::Gone | MailboxSide::FolderGone) => {
            Some(Action::Forget { key: key.clone() })
        }
        (Some(link), SourceSide::Absent(absence), MailboxSide::Unchanged) => {
            Some(Action::RemoveFromMailbox {
                key: key.clone(),
                item: link.item.clone(),
                change_key: link.change_key.clone(),
                absence: *absence,
                edited: None,
            })
        }
        (Some(link), SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => {
            let edits = mailbox_edits(link, mailbox, common);
            Some(Action::RemoveFromMailbox {
                key: key.clone(),
                item: mailbox.id.clone(),
                change_key: mailbox.change_key.clone(),
                absence: *absence,
                edited: (!edits.is_empty()).then(|| Box::new(mailbox.task.clone())),
            })
        }

        // --- Linked, gone from the mailbox ---
        // The folder is gone or new: an empty folder is not a person's wish. Make the copy again.
        (Some(link), SourceSide::Present(source), MailboxSide::FolderGone) => {
            Some(create(key, source, Some(link), false))
        }
        (Some(link), SourceSide::Present(source), MailboxSide::Gone) => {
            let edited = hides_own_write(pair) || !source_edits(link, source, common).is_empty();
            if link.removing || edited {
                // We removed it ourselves and it is the person's again; or it was changed since: the edit wins.
                Some(create(key, source, Some(link), edited && !link.removing))
            } else {
                Some(Action::DeleteAtSource {
                    key: key.clone(),
                    version: source.version.clone(),
                    task: Box::new(source.task.clone()),
                })
            }
        }
        // The source was not asked, so nothing may be deleted or created on a guess.
        (Some(_), SourceSide::Unchanged, MailboxSide::Gone | MailboxSide::FolderGone) => None,

        // --- Linked, on both sides ---
        (Some(_), SourceSide::Unchanged, MailboxSide::Unchanged) => None,
        (Some(link), SourceSide::Present(source), MailboxSide::Unchanged) => {
            source_changed(key, link, source, common)
        }
        (Some(link), SourceSide::Unchanged, MailboxSide::Present(mailbox)) => {
            Some(mailbox_changed(key, link, mailbox, common))
        }
        (Some(link), SourceSide::Present(source), MailboxSide::Present(mailbox)) => Some(both_seen(
            key,
            link,
            source,
            mailbox,
            common,
            hides_own_write(pair),
        )),
    }
}

/// A copy that was found earlier and not brought into agreement yet.
fn found_before(pair: &Pair, link: &Link, common: FieldSet) -> Option<Action> {
    let key = &pair.key;
    match (&pair.source, &pair.mailbox) {
        // It differs or it would be agreed, but nobody looked at both values: nothing on a guess.
        (SourceSide::Unchanged, _) | (_, MailboxSide::Unchanged) => None,
        (SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
            Some(adopt(key, source, mailbox, common))
        }
        // Nothing was ever agreed, so there is no agreement the person could have ended by deleting it.
        (SourceSide::Present(source), MailboxSide::Gone | MailboxSide::FolderGone) => {
            Some(create(key, source, None, !link.removing))
        }
        (SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => Some(Action::RemoveFromMailbox {
            key: key.clone(),
            item: mailbox.id.clone(),
            change_key: mailbox.change_key.clone(),
            absence: *absence,
            edited: Some(Box::new(mailbox.task.clone())),
        }),
        (SourceSide::Absent(_), MailboxSide::Gone | MailboxSide::FolderGone) => {
            Some(Action::Forget { key: key.clone() })
        }
    }
}

fn create(key: &SourceKey, source: &SourceValue, link: Option<&Link>, restored: bool) -> Action {
    let task = meant(source, link);
    let link = Link {
        version: source.version.clone(),
        agreed: Agreed::of(&task),
        source_progress: raw_progress(source),
        ..Link::found("", "", None)
    };
    Action::CreateInMailbox {
        key: key.clone(),
        task,
        version: source.version.clone(),
        web_url: source.web_url.clone(),
        link: Box::new(link),
        restored,
    }
}

/// What is remembered of an item once both sides agree on `task` in the `common` fields.
fn link_of(
    link: Option<&Link>,
    source: &SourceValue,
    mailbox: &MailboxValue,
    task: &Task,
    common: FieldSet,
) -> Link {
    let agreed = match link {
        // Agreed fields the source cannot hold are kept.
        Some(link) => {
            let mut agreed = link.agreed.clone();
            agreed.take(task, common);
            agreed
        }
        None => Agreed::of(task),
    };
    Link {
        item: mailbox.id.clone(),
        change_key: mailbox.change_key.clone(),
        version: source.version.clone(),
        agreed,
        source_progress: raw_progress(source),
        removing: false,
        own: own(mailbox),
        elsewhere: mailbox.elsewhere.clone(),
    }
}

fn remember(key: &SourceKey, link: Link) -> Action {
    Action::Remember {
        key: key.clone(),
        link: Box::new(link),
    }
}

/// Whether the mailbox's edit is the later one and one that can be sent. Sources keep whole seconds, so only those are
/// compared; a tie goes to the source.
fn mailbox_wins(source: &SourceValue, mailbox: &MailboxValue) -> bool {
    mailbox.modified.as_second() > source.modified.as_second() && !mailbox.task.title.trim().is_empty()
}

/// Found on both sides without a link: where they differ, the later edit wins.
fn adopt(key: &SourceKey, source: &SourceValue, mailbox: &MailboxValue, common: FieldSet) -> Action {
    let task = meant(source, None);
    let link = link_of(None, source, mailbox, &task, common);
    // An item that is as old as its last change only missed what came after it was made. Should somebody have edited it in
    // that very second, the journal has it.
    let mailbox_wins = !untouched(mailbox) && mailbox_wins(source, mailbox);
    settle(key, mailbox, task, link, common, mailbox_wins)
}

/// Whether the item is as it was made, to the second and one more, which making it may take.
fn untouched(mailbox: &MailboxValue) -> bool {
    mailbox.modified.as_second() <= mailbox.created.as_second().saturating_add(1)
}

/// Both have their own values: where they differ, one of them wins the whole task, not single fields.
fn settle(
    key: &SourceKey,
    mailbox: &MailboxValue,
    task: Task,
    link: Link,
    common: FieldSet,
    mailbox_wins: bool,
) -> Action {
    let shared = shared(mailbox, common);
    let form = mailbox_form(&task, own_start(mailbox, common));
    let differing = changed(&Agreed::of(&form), &mailbox.task, shared);
    if differing.is_empty() {
        remember(key, link)
    } else if mailbox_wins {
        let outgoing = with_moved_date(differing, &Agreed::of(&task), mailbox, shared);
        let lost = Some(Box::new(task));
        update_source(key, mailbox, outgoing, link, lost)
    } else {
        let lost = Some(Box::new(mailbox.task.clone()));
        let incoming = with_both_dates(differing, shared);
        update_mailbox(key, mailbox, task, incoming, link, lost)
    }
}

fn source_changed(key: &SourceKey, link: &Link, source: &SourceValue, common: FieldSet) -> Option<Action> {
    let task = meant(source, Some(link));
    let fields = source_edits(link, source, common).except(link.own);
    let mut agreed = link.agreed.clone();
    agreed.take(&task, common);
    let now = Link {
        version: source.version.clone(),
        agreed,
        source_progress: raw_progress(source),
        removing: false,
        ..link.clone()
    };
    if fields.is_empty() {
        // Only the version moved, or nothing did.
        return (now != *link).then(|| remember(key, now));
    }
    Some(Action::UpdateMailbox {
        key: key.clone(),
        item: link.item.clone(),
        change_key: link.change_key.clone(),
        task: Box::new(task),
        fields: with_both_dates(fields, common),
        version: source.version.clone(),
        link: Box::new(now),
        lost: None,
    })
}

fn mailbox_changed(key: &SourceKey, link: &Link, mailbox: &MailboxValue, common: FieldSet) -> Action {
    let fields = mailbox_edits(link, mailbox, common);
    let link = Link {
        item: mailbox.id.clone(),
        change_key: mailbox.change_key.clone(),
        removing: false,
        own: own(mailbox),
        elsewhere: mailbox.elsewhere.clone(),
        ..link.clone()
    };
    if fields.is_empty() {
        remember(key, link)
    } else {
        update_source(key, mailbox, fields, link, None)
    }
}

/// `link` is what holds without this write.
fn update_source(
    key: &SourceKey,
    mailbox: &MailboxValue,
    fields: FieldSet,
    mut link: Link,
    lost: Option<Box<Task>>,
) -> Action {
    let version = link.version.clone();
    link.agreed.take(&mailbox.task, fields);
    if fields.contains(Field::Progress) {
        link.source_progress = link.agreed.progress();
    }
    Action::UpdateSource {
        key: key.clone(),
        version,
        task: Box::new(mailbox.task.clone()),
        fields,
        change_key: mailbox.change_key.clone(),
        item: mailbox.id.clone(),
        link: Box::new(link),
        lost,
    }
}

fn update_mailbox(
    key: &SourceKey,
    mailbox: &MailboxValue,
    task: Task,
    fields: FieldSet,
    link: Link,
    lost: Option<Box<Task>>,
) -> Action {
    Action::UpdateMailbox {
        key: key.clone(),
        item: mailbox.id.clone(),
        change_key: mailbox.change_key.clone(),
        task: Box::new(task),
        fields,
        version: link.version.clone(),
        link: Box::new(link),
        lost,
    }
}

fn both_seen(
    key: &SourceKey,
    link: &Link,
    source: &SourceValue,
    mailbox: &MailboxValue,
    common: FieldSet,
    hides_own_write: bool,
) -> Action {
    let task = meant(source, Some(link));
    let at_source = source_edits(link, source, common).except(own(mailbox));
    let in_mailbox = mailbox_edits(link, mailbox, common);
    let now = link_of(Some(link), source, mailbox, &task, common);
    if hides_own_write && !in_mailbox.is_empty() {
        return settle(key, mailbox, task, now, common, mailbox_wins(source, mailbox));
    }
    match (at_source.is_empty(), in_mailbox.is_empty()) {
        (true, true) => remember(key, now),
        (true, false) => update_source(key, mailbox, in_mailbox, now, None),
        (false, true) => {
            let incoming = with_both_dates(at_source, shared(mailbox, common));
            update_mailbox(key, mailbox, task, incoming, now, None)
        }
        (false, false) => settle(key, mailbox, task, now, common, mailbox_wins(source, mailbox)),
    }
}
