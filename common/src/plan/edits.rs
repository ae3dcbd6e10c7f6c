//! What was changed on a side, and which fields travel.

use jiff::civil::Date;

use super::agreed::{Agreed, Progress, changed, progress_of};
use super::decide::Canonical;
use super::sides::{MailboxValue, SourceValue};
use crate::model::{Field, FieldSet, Task};
use crate::state::Link;

/// Returns the source's task with status and percent brought together.
pub(super) fn meant(source: &SourceValue, link: Option<&Link>) -> Task {
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

pub(super) fn raw_progress(source: &SourceValue) -> Progress {
    Progress {
        status: source.task.status,
        percent: source.task.percent,
    }
}

/// Returns the fields that the person changed in the mailbox and that may travel.
pub(super) fn mailbox_edits(
    link: &Link,
    mailbox: &MailboxValue,
    common: FieldSet,
    canonical: Canonical<'_>,
) -> FieldSet {
    let shared = shared(mailbox, common);
    let edits = changed(
        &link.agreed.in_mailbox(own_start(mailbox, common), canonical),
        &mailbox.task,
        shared,
    );
    // An empty title is no title: sources refuse it.
    let edits = if mailbox.task.title.trim().is_empty() {
        edits.without(Field::Title)
    } else {
        edits
    };
    with_moved_date(edits, &link.agreed, mailbox, shared)
}

/// Returns these fields and both dates, if one date is among them and the other differs from the source's: a mailbox may
/// move one date when the other is set.
pub(super) fn with_moved_date(
    fields: FieldSet,
    source: &Agreed,
    mailbox: &MailboxValue,
    shared: FieldSet,
) -> FieldSet {
    if fields.and(DATES).is_empty() {
        fields
    } else {
        fields.or(changed(source, &mailbox.task, shared.and(DATES)))
    }
}

/// The two dates; a mailbox keeps them in order.
const DATES: FieldSet = FieldSet::EMPTY.with(Field::Start).with(Field::Due);

/// Fields of an item that are the person's own: they travel neither way.
pub(super) fn own(mailbox: &MailboxValue) -> FieldSet {
    let mut own = FieldSet::EMPTY;
    if mailbox.private {
        own = own.with(Field::Title).with(Field::Body);
    }
    if mailbox.recurring {
        own = own.or(DATES).with(Field::Progress);
    }
    own
}

/// Returns the item's start, where the source cannot hold one.
pub(super) fn own_start(mailbox: &MailboxValue, common: FieldSet) -> Option<Date> {
    mailbox.task.start.filter(|_| !common.contains(Field::Start))
}

/// Returns the fields that travel between this item and the source.
pub(super) fn shared(mailbox: &MailboxValue, common: FieldSet) -> FieldSet {
    common.except(own(mailbox))
}

/// Returns a mailbox moves one date with the other, so both are written together, if the source holds both.
pub(super) fn with_both_dates(fields: FieldSet, common: FieldSet) -> FieldSet {
    if fields.and(DATES).is_empty() {
        fields
    } else {
        fields.or(DATES.and(common))
    }
}
