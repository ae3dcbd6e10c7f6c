//! Decides which values stand where the two sides of a task differ.

use jiff::Timestamp;

use super::action::{ReplacedValues, ValueOrigin};
use super::agreed::{Agreed, changed_fields};
use super::decide::{Decider, TaskChange, remember};
use super::edits::{
    normalized_source_task, own_start, personal_fields, travelling_fields, with_both_dates, with_moved_date,
};
use super::interrupted_write::may_hide_interrupted_write;
use super::policy::ConflictPolicy;
use super::sides::{MailboxValue, SourceValue};
use crate::model::{FieldSet, Task};
use crate::state::Link;

/// Returns `now`, the link after a write to the source, with the fields that the mailbox did not keep as they
/// were in `link`.
fn with_unkept_fields(now: Link, link: &Link, unkept: FieldSet) -> Link {
    let mut now = Link {
        not_kept: unkept,
        ..now
    };
    now.agreed.take_agreed(&link.agreed, unkept);
    now
}

/// The side whose values stand for the whole task.
#[derive(Clone, Copy)]
enum Winner {
    Mailbox,
    /// The source's values stand; the origin is that of the mailbox's values.
    Source(ValueOrigin),
}

/// Returns whether the item is unchanged since its creation, which may take a second longer.
fn is_untouched(mailbox: &MailboxValue) -> bool {
    mailbox.modified.as_second() <= mailbox.created.as_second().saturating_add(1)
}

/// Returns whether one side may differ from the agreed values although its version is unchanged. Such a
/// difference is not an edit: an earlier reading was wrong.
fn was_misread(link: &Link, source: &SourceValue, mailbox: &MailboxValue) -> bool {
    let same_item = mailbox.change_key == link.change_key && mailbox.id == link.item && !link.unsent;
    same_item || source.version == link.version && link.not_kept.is_empty()
}

/// Returns the origin of the source's values that the mailbox's edits of these fields replace. After a
/// merge, an edit of the source may be there that loses.
pub(super) fn origin_of_unsent(link: &Link, fields: FieldSet) -> ValueOrigin {
    if link.unsent && !link.disputed.and(fields).is_empty() {
        ValueOrigin::Edited
    } else {
        ValueOrigin::Agreed
    }
}

impl Decider<'_> {
    /// Decides a linked task that both sides have: nothing to do, an edit of one side to write to the other, or a
    /// conflict to resolve.
    pub(super) fn decide_both_present(
        &self,
        link: &Link,
        source: &SourceValue,
        mailbox: &MailboxValue,
    ) -> TaskChange {
        let task = normalized_source_task(source, Some(link));
        let at_source = self.source_edits(link, source).except(personal_fields(mailbox));
        let in_mailbox = self.mailbox_edits(link, mailbox);
        let now = self.link_of(Some(link), source, mailbox, &task);
        if !source.writable && !in_mailbox.is_empty() {
            // With read-only access a person cannot change the task from the mailbox: the copy is set back.
            return self.resolve(mailbox, task, now, Winner::Source(ValueOrigin::NotPermitted));
        }
        if may_hide_interrupted_write(self.pair) && !in_mailbox.is_empty() {
            return self.resolve(mailbox, task, now, self.winner(source, mailbox));
        }
        let now = if self.compares_source(link, source) {
            now
        } else {
            // Values that were not compared are not agreed on.
            Link {
                agreed: link.agreed.clone(),
                source_progress: link.source_progress,
                ..now
            }
        };
        // Values that the mailbox did not keep are not an edit, so they dispute no edit of the person.
        let unkept = link.not_kept.except(in_mailbox);
        match (at_source.is_empty(), in_mailbox.is_empty()) {
            (true, true) => remember(&self.pair.key, now),
            (_, false) if at_source.except(unkept).is_empty() => {
                let replaces = ReplacedValues::from_read(&task, origin_of_unsent(link, in_mailbox));
                self.update_source(
                    mailbox,
                    in_mailbox,
                    with_unkept_fields(now, link, unkept),
                    replaces,
                )
            }
            (false, true) => {
                let incoming = with_both_dates(at_source, travelling_fields(mailbox, self.common));
                let replaces = ReplacedValues::from_read(&mailbox.task, ValueOrigin::Agreed);
                self.update_mailbox(mailbox, task, incoming, FieldSet::EMPTY, now, replaces)
            }
            // Only one side was edited. Both values stand, whatever the policy.
            (_, false) if was_misread(link, source, mailbox) => {
                self.merge(link, source, mailbox, at_source, in_mailbox)
            }
            (_, false) => match self.rules.policy.conflicts {
                ConflictPolicy::LatestTask | ConflictPolicy::SourceWins | ConflictPolicy::MailboxWins => {
                    match self.winner(source, mailbox) {
                        Winner::Mailbox => {
                            let now = with_unkept_fields(now, link, unkept);
                            self.resolve(mailbox, task, now, Winner::Mailbox)
                        }
                        source @ Winner::Source(_) => self.resolve(mailbox, task, now, source),
                    }
                }
                ConflictPolicy::Merge => self.merge(link, source, mailbox, at_source, in_mailbox),
            },
        }
    }

    /// Keeps edits of different fields on both sides. The source's edits are written into the mailbox first.
    /// The link then records that the mailbox still has edits to send, and the next pass sends them.
    fn merge(
        &self,
        link: &Link,
        source: &SourceValue,
        mailbox: &MailboxValue,
        at_source: FieldSet,
        in_mailbox: FieldSet,
    ) -> TaskChange {
        let task = normalized_source_task(source, Some(link));
        let travelling = travelling_fields(mailbox, self.common);
        let at_source = with_both_dates(at_source, travelling);
        let in_mailbox = with_both_dates(in_mailbox, travelling);
        let form = (self.rules.canonical)(&task, own_start(mailbox, self.common));
        let disputed = with_both_dates(
            changed_fields(&Agreed::of(&form), &mailbox.task, at_source.and(in_mailbox)),
            travelling,
        );
        let mailbox_wins = self.mailbox_wins(source, mailbox);
        let incoming = if mailbox_wins {
            at_source.except(in_mailbox)
        } else {
            at_source
        };
        let outgoing = if mailbox_wins {
            in_mailbox
        } else {
            in_mailbox.except(at_source)
        };
        // An edit is lost only if both sides changed the same field to different values.
        let origin = |loses: bool| {
            if loses && !disputed.is_empty() {
                ValueOrigin::Edited
            } else {
                ValueOrigin::Agreed
            }
        };
        let mut agreed = link.agreed.clone();
        // For fields that are still to be sent, the mailbox's edits are compared with the source's present
        // values.
        agreed.take(&task, self.common);
        let now = Link {
            agreed,
            ..self.link_of(Some(link), source, mailbox, &task)
        };
        if incoming.is_empty() {
            let replaces = ReplacedValues::from_read(&task, origin(mailbox_wins));
            return self.update_source(mailbox, outgoing, now, replaces);
        }
        let now = Link {
            unsent: !outgoing.is_empty(),
            disputed: if mailbox_wins {
                disputed.and(outgoing)
            } else {
                FieldSet::EMPTY
            },
            ..now
        };
        let replaces = ReplacedValues::from_read(&mailbox.task, origin(!mailbox_wins));
        self.update_mailbox(mailbox, task, incoming, outgoing, now, replaces)
    }

    fn winner(&self, source: &SourceValue, mailbox: &MailboxValue) -> Winner {
        if self.mailbox_wins(source, mailbox) {
            Winner::Mailbox
        } else {
            Winner::Source(ValueOrigin::Edited)
        }
    }

    /// Returns whether the mailbox's edit wins a conflict under a policy that takes one side as a whole. An
    /// edit that cannot be sent never wins.
    fn mailbox_wins(&self, source: &SourceValue, mailbox: &MailboxValue) -> bool {
        let may_be_sent = source.writable && !mailbox.task.title.trim().is_empty();
        may_be_sent
            && match self.rules.policy.conflicts {
                ConflictPolicy::LatestTask | ConflictPolicy::Merge => {
                    self.is_later(mailbox.modified, source.modified)
                }
                ConflictPolicy::SourceWins => false,
                ConflictPolicy::MailboxWins => true,
            }
    }

    /// Returns whether the mailbox's time is later than the source's. On a tie the source wins.
    fn is_later(&self, mailbox: Timestamp, source: Timestamp) -> bool {
        let step = self.rules.precision.as_millis().max(1);
        let steps = |at: Timestamp| i128::from(at.as_millisecond()).div_euclid(step);
        steps(mailbox) > steps(source) && mailbox.duration_since(source) > self.rules.uncertainty
    }

    /// Links a task that both sides have without a link. Where they differ, the later edit wins.
    pub(super) fn link_copy(&self, source: &SourceValue, mailbox: &MailboxValue) -> TaskChange {
        let task = normalized_source_task(source, None);
        let link = self.link_of(None, source, mailbox, &task);
        // An item that was not changed after its creation only lacks what was changed at the source later. If
        // a person did edit it within that second, the journal has the edit.
        let winner = if is_untouched(mailbox) {
            Winner::Source(ValueOrigin::Edited)
        } else {
            self.winner(source, mailbox)
        };
        self.resolve(mailbox, task, link, winner)
    }

    /// Resolves different values on both sides: one side wins the whole task, not single fields.
    fn resolve(&self, mailbox: &MailboxValue, task: Task, link: Link, winner: Winner) -> TaskChange {
        let travelling = travelling_fields(mailbox, self.common);
        let form = (self.rules.canonical)(&task, own_start(mailbox, self.common));
        let differing = changed_fields(&Agreed::of(&form), &mailbox.task, travelling);
        if differing.is_empty() {
            return remember(&self.pair.key, link);
        }
        match winner {
            Winner::Mailbox => {
                let outgoing = with_moved_date(
                    differing.except(link.not_kept),
                    &Agreed::of(&task),
                    mailbox,
                    travelling,
                );
                let replaces = ReplacedValues::from_read(&task, ValueOrigin::Edited);
                self.update_source(mailbox, outgoing, link, replaces)
            }
            Winner::Source(origin) => {
                let incoming = with_both_dates(differing, travelling);
                let replaces = ReplacedValues::from_read(&mailbox.task, origin);
                self.update_mailbox(mailbox, task, incoming, FieldSet::EMPTY, link, replaces)
            }
        }
    }
}
