//! What is to be done about one task.

use serde::Serialize;

use super::agreed::{Agreed, Progress, changed, mailbox_form, progress_of};
use super::sides::{Absence, MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
use crate::model::{Field, FieldSet, SourceKey, Task};
use crate::state::Link;

/// What the tenant and the back ends allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Fields the mailbox can hold.
    pub mailbox_holds: FieldSet,
}

/// The fields both sides can hold: only those are compared and carried. What one side cannot hold stays as it is on the
/// other and is never cleared.
fn common(pair: &Pair, rules: Rules) -> FieldSet {
    pair.source_holds.and(rules.mailbox_holds)
}

/// One thing to do, or to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Create the task in the mailbox.
    CreateInMailbox {
        /// The task.
        key: SourceKey,
        /// Its values at the source.
        task: Task,
        /// Version at the source.
        version: String,
        /// Status and percent as the source holds them.
        source_progress: Progress,
        /// Address people can open.
        web_url: String,
        /// The person had deleted it, but it was changed at the source since: it comes back.
        restored: bool,
    },
    /// Move the mailbox copy to the deleted items.
    RemoveFromMailbox {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
        /// Why.
        absence: Absence,
        /// The copy's values, when the person had changed them.
        edited: Option<Box<Task>>,
    },
    /// Put the task at the source into the recycle bin.
    DeleteAtSource {
        /// The task.
        key: SourceKey,
        /// Version that may be deleted.
        version: String,
        /// Its values, for the journal.
        task: Box<Task>,
    },
    /// Send changed fields to the source.
    UpdateSource {
        /// The task.
        key: SourceKey,
        /// Version that may be changed.
        version: String,
        /// New values.
        task: Box<Task>,
        /// Which of them are sent.
        fields: FieldSet,
        /// Version of the mailbox item they came from.
        change_key: String,
        /// Id of that item.
        item: String,
        /// The source's values that lose, in a conflict.
        lost: Option<Box<Task>>,
    },
    /// Write changed fields into the mailbox.
    UpdateMailbox {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Version that may be changed.
        change_key: String,
        /// New values.
        task: Box<Task>,
        /// Which of them are written.
        fields: FieldSet,
        /// Version at the source they came from.
        version: String,
        /// Status and percent as the source holds them.
        source_progress: Progress,
        /// The mailbox's values that lose, in a conflict.
        lost: Option<Box<Task>>,
    },
    /// Both sides agree: remember it.
    Remember {
        /// The task.
        key: SourceKey,
        /// What is remembered from now on.
        link: Box<Link>,
    },
    /// Neither side has it any more: forget it.
    Forget {
        /// The task.
        key: SourceKey,
    },
    /// An untouched second item of ours with the same key: a write that happened twice.
    RemoveTwin {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
    },
    /// A changed copy: take our key off, it is the person's own.
    DisownTwin {
        /// The task.
        key: SourceKey,
        /// The item.
        item: String,
        /// Its version.
        change_key: String,
    },
}

impl Action {
    /// The task it is about.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        match self {
            Self::CreateInMailbox { key, .. }
            | Self::RemoveFromMailbox { key, .. }
            | Self::DeleteAtSource { key, .. }
            | Self::UpdateSource { key, .. }
            | Self::UpdateMailbox { key, .. }
            | Self::Remember { key, .. }
            | Self::Forget { key }
            | Self::RemoveTwin { key, .. }
            | Self::DisownTwin { key, .. } => key,
        }
    }
}

/// What is to be done about one task. Empty: nothing.
#[must_use]
pub fn decide(pair: &Pair, rules: Rules) -> Vec<Action> {
    let mut actions = twins(pair);
    if !is_parked(pair) {
        actions.extend(main(pair, rules));
    }
    actions
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

fn main(pair: &Pair, rules: Rules) -> Option<Action> {
    let key = &pair.key;
    let common = common(pair, rules);
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
            let edited = !source_edits(link, source, common).is_empty();
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
        (Some(link), SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
            Some(both_seen(key, link, source, mailbox, common))
        }
    }
}

/// The source's task with status and percent brought together.
fn meant(source: &SourceValue, link: Option<&Link>) -> Task {
    let raw = raw_progress(source);
    // Unchanged where it was: what was agreed then still holds.
    let progress = match link {
        Some(link) if link.source_progress == raw => link.agreed.progress(),
        Some(link) => progress_of(raw, Some(link.source_progress)),
        None => progress_of(raw, None),
    };
    Task {
        status: progress.status,
        percent: progress.percent,
        ..source.task.clone()
    }
}

fn raw_progress(source: &SourceValue) -> Progress {
    Progress {
        status: source.task.status,
        percent: source.task.percent,
    }
}

fn source_edits(link: &Link, source: &SourceValue, common: FieldSet) -> FieldSet {
    if source.version == link.version {
        return FieldSet::EMPTY;
    }
    changed(&link.agreed, &meant(source, Some(link)), common)
}

/// What the person changed in the mailbox that may travel.
fn mailbox_edits(link: &Link, mailbox: &MailboxValue, holds: FieldSet) -> FieldSet {
    if mailbox.change_key == link.change_key && mailbox.id == link.item {
        return FieldSet::EMPTY;
    }
    let edits = changed(
        &link.agreed.in_mailbox(),
        &mailbox.task,
        travelling(mailbox, holds),
    );
    // An empty title is no title: sources refuse it.
    if mailbox.task.title.trim().is_empty() {
        edits.without(Field::Title)
    } else {
        edits
    }
}

/// Fields of the item that may travel to the source at all.
fn travelling(mailbox: &MailboxValue, holds: FieldSet) -> FieldSet {
    let mut fields = holds.without(Field::Categories);
    if mailbox.private {
        fields = fields.without(Field::Title).without(Field::Body);
    }
    if mailbox.recurring {
        fields = fields
            .without(Field::Start)
            .without(Field::Due)
            .without(Field::Progress);
    }
    fields
}

fn create(key: &SourceKey, source: &SourceValue, link: Option<&Link>, restored: bool) -> Action {
    Action::CreateInMailbox {
        key: key.clone(),
        task: meant(source, link),
        version: source.version.clone(),
        source_progress: raw_progress(source),
        web_url: source.web_url.clone(),
        restored,
    }
}

fn remember(key: &SourceKey, source: &SourceValue, mailbox: (&str, &str), task: &Task) -> Action {
    Action::Remember {
        key: key.clone(),
        link: Box::new(Link {
            item: mailbox.0.to_owned(),
            change_key: mailbox.1.to_owned(),
            version: source.version.clone(),
            agreed: Agreed::of(task),
            source_progress: raw_progress(source),
            removing: false,
        }),
    }
}

/// Whether the mailbox's edit is the later one. Sources keep whole seconds, so only those are compared; a tie goes to
/// the source.
fn mailbox_is_later(source: &SourceValue, mailbox: &MailboxValue) -> bool {
    mailbox.modified.as_second() > source.modified.as_second()
}

/// Found on both sides without a link: where they differ, the later edit wins.
fn adopt(key: &SourceKey, source: &SourceValue, mailbox: &MailboxValue, common: FieldSet) -> Action {
    let task = meant(source, None);
    let differing = changed(&Agreed::of(&mailbox_form(&task)), &mailbox.task, common);
    let travelling = differing.and(travelling(mailbox, common));
    if differing.is_empty() {
        remember(key, source, (&mailbox.id, &mailbox.change_key), &task)
    } else if mailbox_is_later(source, mailbox)
        && !travelling.is_empty()
        && !mailbox.task.title.trim().is_empty()
    {
        update_source(
            key,
            source.version.clone(),
            mailbox,
            travelling,
            Some(Box::new(task)),
        )
    } else {
        update_mailbox(
            key,
            source,
            task,
            mailbox,
            differing,
            Some(Box::new(mailbox.task.clone())),
        )
    }
}

fn source_changed(key: &SourceKey, link: &Link, source: &SourceValue, common: FieldSet) -> Option<Action> {
    let task = meant(source, Some(link));
    let fields = source_edits(link, source, common);
    if fields.is_empty() {
        // Only the version moved, or nothing did.
        let same =
            source.version == link.version && raw_progress(source) == link.source_progress && !link.removing;
        return (!same)
            .then(|| remember_over(key, link, source, (&link.item, &link.change_key), &task, common));
    }
    Some(Action::UpdateMailbox {
        key: key.clone(),
        item: link.item.clone(),
        change_key: link.change_key.clone(),
        task: Box::new(task),
        fields: with_both_dates(fields),
        version: source.version.clone(),
        source_progress: raw_progress(source),
        lost: None,
    })
}

/// Remembers newer versions without losing agreed fields the source cannot hold.
fn remember_over(
    key: &SourceKey,
    link: &Link,
    source: &SourceValue,
    mailbox: (&str, &str),
    task: &Task,
    common: FieldSet,
) -> Action {
    let mut agreed = link.agreed.clone();
    agreed.take(task, common);
    Action::Remember {
        key: key.clone(),
        link: Box::new(Link {
            item: mailbox.0.to_owned(),
            change_key: mailbox.1.to_owned(),
            version: source.version.clone(),
            agreed,
            source_progress: raw_progress(source),
            removing: false,
        }),
    }
}

/// A mailbox moves one date with the other, so both are written together.
fn with_both_dates(fields: FieldSet) -> FieldSet {
    if fields.contains(Field::Start) || fields.contains(Field::Due) {
        fields.with(Field::Start).with(Field::Due)
    } else {
        fields
    }
}

fn mailbox_changed(key: &SourceKey, link: &Link, mailbox: &MailboxValue, common: FieldSet) -> Action {
    let fields = mailbox_edits(link, mailbox, common);
    if fields.is_empty() {
        let mut link = link.clone();
        link.item.clone_from(&mailbox.id);
        link.change_key.clone_from(&mailbox.change_key);
        link.removing = false;
        return Action::Remember {
            key: key.clone(),
            link: Box::new(link),
        };
    }
    update_source(key, link.version.clone(), mailbox, fields, None)
}

fn update_source(
    key: &SourceKey,
    version: String,
    mailbox: &MailboxValue,
    fields: FieldSet,
    lost: Option<Box<Task>>,
) -> Action {
    Action::UpdateSource {
        key: key.clone(),
        version,
        task: Box::new(mailbox.task.clone()),
        fields,
        change_key: mailbox.change_key.clone(),
        item: mailbox.id.clone(),
        lost,
    }
}

fn update_mailbox(
    key: &SourceKey,
    source: &SourceValue,
    task: Task,
    mailbox: &MailboxValue,
    fields: FieldSet,
    lost: Option<Box<Task>>,
) -> Action {
    Action::UpdateMailbox {
        key: key.clone(),
        item: mailbox.id.clone(),
        change_key: mailbox.change_key.clone(),
        task: Box::new(task),
        fields: with_both_dates(fields),
        version: source.version.clone(),
        source_progress: raw_progress(source),
        lost,
    }
}

fn both_seen(
    key: &SourceKey,
    link: &Link,
    source: &SourceValue,
    mailbox: &MailboxValue,
    common: FieldSet,
) -> Action {
    let task = meant(source, Some(link));
    let at_source = source_edits(link, source, common);
    let in_mailbox = mailbox_edits(link, mailbox, common);
    let differing = changed(&Agreed::of(&mailbox_form(&task)), &mailbox.task, common);
    if at_source.is_empty() && in_mailbox.is_empty() || differing.is_empty() {
        return remember_over(
            key,
            link,
            source,
            (&mailbox.id, &mailbox.change_key),
            &task,
            common,
        );
    }
    if at_source.is_empty() {
        return update_source(key, source.version.clone(), mailbox, in_mailbox, None);
    }
    if in_mailbox.is_empty() {
        return update_mailbox(key, source, task, mailbox, at_source, None);
    }
    // Both were edited, differently: the later edit wins the whole task, not single fields.
    let outgoing = differing.and(travelling(mailbox, common));
    if mailbox_is_later(source, mailbox) && !outgoing.is_empty() && !mailbox.task.title.trim().is_empty() {
        update_source(
            key,
            source.version.clone(),
            mailbox,
            outgoing,
            Some(Box::new(source.task.clone())),
        )
    } else {
        update_mailbox(
            key,
            source,
            task,
            mailbox,
            differing,
            Some(Box::new(mailbox.task.clone())),
        )
    }
}

/// Further items with the same key: an untouched one is a write that happened twice and goes; a changed one is a copy
/// the person made and becomes their own.
fn twins(pair: &Pair) -> Vec<Action> {
    let original = match (&pair.mailbox, &pair.link) {
        (MailboxSide::Present(value), _) => Some(Agreed::of(&value.task)),
        (MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone, Some(link)) => {
            Some(link.agreed.in_mailbox())
        }
        (MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone, None) => None,
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
