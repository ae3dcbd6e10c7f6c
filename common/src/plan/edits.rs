//! Which fields were edited on a side, and which fields travel between the sides.

use jiff::civil::Date;

use super::agreed::{Agreed, Progress, changed_fields, progress_of};
use super::decide::Canonical;
use super::sides::{MailboxValue, SourceValue};
use crate::model::{Field, FieldSet, Task};
use crate::state::Link;

/// Returns the source's task with status and percent reconciled.
pub(super) fn normalized_source_task(source: &SourceValue, link: Option<&Link>) -> Task {
    let raw = raw_progress(source);
    // Unchanged at the source: the agreed values still hold.
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

/// Returns the fields that the person edited in the mailbox and that may travel.
pub(super) fn mailbox_edits(
    link: &Link,
    mailbox: &MailboxValue,
    common: FieldSet,
    canonical: Canonical<'_>,
) -> FieldSet {
    let travelling = travelling_fields(mailbox, common);
    let edits = changed_fields(
        &link.agreed.in_mailbox(own_start(mailbox, common), canonical),
        &mailbox.task,
        travelling,
    );
    // An empty title is dropped, because sources refuse it.
    let edits = if mailbox.task.title.trim().is_empty() {
        edits.without(Field::Title)
    } else {
        edits
    };
    with_moved_date(edits, &link.agreed, mailbox, travelling)
}

/// Returns `fields`. If a date is among them, it adds each date that differs from the source's: Exchange may
/// move one date when the other is set.
pub(super) fn with_moved_date(
    fields: FieldSet,
    source: &Agreed,
    mailbox: &MailboxValue,
    travelling: FieldSet,
) -> FieldSet {
    if fields.and(DATES).is_empty() {
        fields
    } else {
        fields.or(changed_fields(source, &mailbox.task, travelling.and(DATES)))
    }
}

/// Start and due; a mailbox keeps them in order.
const DATES: FieldSet = FieldSet::EMPTY.with(Field::Start).with(Field::Due);

/// Returns the fields of an item that belong to the person and do not travel.
pub(super) fn personal_fields(mailbox: &MailboxValue) -> FieldSet {
    let mut fields = FieldSet::EMPTY;
    if mailbox.private {
        fields = fields.with(Field::Title).with(Field::Body);
    }
    if mailbox.recurring {
        fields = fields.or(DATES).with(Field::Progress);
    }
    fields
}

/// Returns the item's start if the source cannot hold one.
pub(super) fn own_start(mailbox: &MailboxValue, common: FieldSet) -> Option<Date> {
    mailbox.task.start.filter(|_| !common.contains(Field::Start))
}

/// Returns the fields that travel between this item and the source.
pub(super) fn travelling_fields(mailbox: &MailboxValue, common: FieldSet) -> FieldSet {
    common.except(personal_fields(mailbox))
}

/// Returns `fields`. If a date is among them, it adds the other one if the source holds it: a mailbox may
/// move one date with the other, so both are written together.
pub(super) fn with_both_dates(fields: FieldSet, common: FieldSet) -> FieldSet {
    if fields.and(DATES).is_empty() {
        fields
    } else {
        fields.or(DATES.and(common))
    }
}
