//! Decides what to do about one task.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::action::{Action, Memo, ReplacedValues, ValueOrigin};
use super::agreed::{Agreed, changed_fields};
use super::conflict::origin_of_unsent;
use super::edits::{mailbox_edits, normalized_source_task, personal_fields, raw_progress, with_both_dates};
use super::interrupted_write::with_interrupted_write;
use super::policy::Policy;
use super::sides::{MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
use super::twins::twins;
use crate::model::{Field, FieldSet, SourceKey, Task};
use crate::state::Link;

/// Returns the task as the mailbox shows it after it was written. The date is the item's start where the
/// source cannot hold one.
pub type Canonical<'a> = &'a (dyn Fn(&Task, Option<Date>) -> Task + Send + Sync);

/// What the tenant and the two back ends allow, as values.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Fields the mailbox can hold.
    pub mailbox_fields: FieldSet,
    /// The mailbox's rules about values.
    pub canonical: Canonical<'a>,
    /// Two edits within one step of this length count as simultaneous. It is the coarser precision of both
    /// sides.
    pub precision: SignedDuration,
    /// How far the two clocks may differ after correction; zero if both were measured.
    pub uncertainty: SignedDuration,
    /// The tenant's policies.
    pub policy: Policy,
    /// When the pass began.
    pub now: Timestamp,
}

/// Why a copy is created.
#[derive(Clone, Copy)]
pub(super) enum Creation {
    /// There is no copy, and the person did not delete one.
    New,
    /// The person deleted the copy, and the task was edited at the source since.
    Restored,
    /// The person deleted the copy and has no right to delete the task.
    NotPermitted,
}

impl Creation {
    pub(super) fn restored_if(deleted: bool) -> Self {
        if deleted { Self::Restored } else { Self::New }
    }
}

/// The decision about one task, in the order in which it is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Actions on further items of the task.
    pub twins: Vec<Action>,
    /// The change of the state that is saved before anything is written.
    pub memo: Option<Memo>,
    /// The write.
    pub action: Option<Action>,
}

/// Decides what to do about one task.
#[must_use]
pub fn decide(pair: &Pair, rules: Rules<'_>) -> Decision {
    let twins = twins(pair, rules.canonical);
    if is_parked(pair) {
        return Decision {
            twins,
            ..Decision::default()
        };
    }
    // Only fields that both sides can hold are compared and written. A field that one side cannot hold stays
    // as it is on the other and is never cleared. Labels in the mailbox belong to the person.
    let common = pair
        .source_holds
        .and(rules.mailbox_fields)
        .without(Field::Categories);
    let counted = with_interrupted_write(pair, common);
    let now = counted.as_ref().unwrap_or(pair);
    let decider = Decider {
        pair: now,
        common,
        rules,
    };
    let verdict = decider
        .decide_change()
        .or_else(|| pair.writing.as_ref().and_then(|_| memo_without_work(now)));
    match verdict {
        None => Decision {
            twins,
            ..Decision::default()
        },
        Some(TaskChange::Memo(memo)) => Decision {
            twins,
            memo: Some(memo),
            action: None,
        },
        Some(TaskChange::Write(action)) => {
            // Saved before the write, so that the copy is found again and the agreed values are known,
            // whatever happens to the write.
            let removing = matches!(action, Action::RemoveFromMailbox { .. });
            Decision {
                twins,
                memo: memo_before_write(pair.link.as_ref(), now, removing),
                action: Some(action),
            }
        }
    }
}

/// The decision about the task itself: a change of the state, or one write.
pub(super) enum TaskChange {
    Memo(Memo),
    Write(Action),
}

/// Returns the memo that ends an interrupted write after which no work is left.
fn memo_without_work(pair: &Pair) -> Option<TaskChange> {
    if pair.source == SourceSide::Unchanged {
        return None;
    }
    Some(match &pair.link {
        Some(link) => remember(&pair.key, link.clone()),
        None => forget(&pair.key),
    })
}

/// Returns a `Remember` that must be saved before the write, in three cases: a copy was found that has no
/// link; the linked copy has a new id because it was moved; an interrupted write turned out to have happened.
/// `known` is the link as stored.
fn memo_before_write(stored: Option<&Link>, pair: &Pair, removing: bool) -> Option<Memo> {
    let link = match (&pair.link, &pair.mailbox) {
        (None, MailboxSide::Present(mailbox)) => Link {
            removing,
            ..Link::unagreed(&mailbox.id, &mailbox.change_key, mailbox.other_folder.clone())
        },
        (Some(link), MailboxSide::Present(mailbox)) if link.item != mailbox.id => Link {
            item: mailbox.id.clone(),
            other_folder: mailbox.other_folder.clone(),
            removing: link.removing || removing,
            ..link.clone()
        },
        // A new item that was deleted at once has no id to remember.
        (Some(link), _)
            if !link.item.is_empty() && stored.is_none_or(|stored| stored.agreed != link.agreed) =>
        {
            link.clone()
        }
        (None | Some(_), _) => return None,
    };
    Some(Memo::Remember {
        key: pair.key.clone(),
        link: Box::new(link),
    })
}

/// Returns whether a refused task is left alone, which lasts until one side changes or until the next full
/// check.
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
        MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived => false,
    };
    source_same && mailbox_same
}

pub(super) fn remember(key: &SourceKey, link: Link) -> TaskChange {
    TaskChange::Memo(Memo::Remember {
        key: key.clone(),
        link: Box::new(link),
    })
}

fn forget(key: &SourceKey) -> TaskChange {
    TaskChange::Memo(Memo::Forget { key: key.clone() })
}

/// One task, the fields that travel, and the rules.
pub(super) struct Decider<'a> {
    pub(super) pair: &'a Pair,
    pub(super) common: FieldSet,
    pub(super) rules: Rules<'a>,
}

impl Decider<'_> {
    fn decide_change(&self) -> Option<TaskChange> {
        let pair = self.pair;
        if let Some(link) = &pair.link
            && !link.is_agreed()
        {
            return self.decide_unagreed(link);
        }
        match (&pair.link, &pair.source, &pair.mailbox) {
            // --- Nothing to decide ---
            // Not linked, and the source reported nothing.
            (None, SourceSide::Unchanged, _)
            // Linked: neither side reported anything, or the mailbox lost the copy and the source was not read,
            // so nothing may be deleted or created on a guess.
            | (
                Some(_),
                SourceSide::Unchanged,
                MailboxSide::Unchanged
                | MailboxSide::Gone
                | MailboxSide::FolderGone
                | MailboxSide::Archived,
            ) => None,

            // --- Not linked ---
            // A new task, or one whose folder was lost together with the state.
            (
                None,
                SourceSide::Present(source),
                MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            ) => match &pair.let_go {
                Some(let_go) if self.needs_no_copy(let_go, source) => None,
                let_go => Some(self.create(source, None, Creation::restored_if(let_go.is_some()))),
            },
            // Both sides have it and there is no link: found again after a loss of state, or created just
            // before a crash.
            (None, SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
                Some(self.link_copy(source, mailbox))
            }
            // The copy's task is gone from the source.
            (None, SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => {
                Some(self.remove(mailbox, *absence, ValueOrigin::Edited))
            }
            (
                None,
                SourceSide::Absent(_),
                MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            ) => pair.let_go.is_some().then(|| forget(&pair.key)),

            // --- Linked, gone from the source ---
            (
                Some(_),
                SourceSide::Absent(_),
                MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            ) => Some(forget(&pair.key)),
            (Some(link), SourceSide::Absent(absence), MailboxSide::Unchanged) => {
                Some(TaskChange::Write(Action::RemoveFromMailbox {
                    key: pair.key.clone(),
                    item: link.item.clone(),
                    change_key: link.change_key.clone(),
                    absence: *absence,
                    removal: self.removal(*absence),
                    replaces: Box::new(ReplacedValues::from_agreed(&link.agreed)),
                }))
            }
            (Some(link), SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => {
                let origin = if self.mailbox_edits(link, mailbox).is_empty() {
                    ValueOrigin::Agreed
                } else {
                    ValueOrigin::Edited
                };
                Some(self.remove(mailbox, *absence, origin))
            }

            // --- Linked, gone from the mailbox ---
            // The folder is gone or was replaced, so the person did not delete the copy. It is recreated.
            (Some(link), SourceSide::Present(source), MailboxSide::FolderGone) => {
                Some(self.create(source, Some(link), Creation::New))
            }
            (Some(link), SourceSide::Present(source), MailboxSide::Gone) => {
                Some(self.decide_deleted_copy(link, source))
            }
            (Some(link), SourceSide::Present(source), MailboxSide::Archived) => {
                Some(self.decide_archived_copy(link, source))
            }

            // --- Linked, on both sides ---
            (Some(link), SourceSide::Present(source), MailboxSide::Unchanged) => {
                self.source_changed(link, source)
            }
            (Some(link), SourceSide::Unchanged, MailboxSide::Present(mailbox)) => {
                Some(self.mailbox_changed(link, mailbox))
            }
            (Some(link), SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
                Some(self.decide_both_present(link, source, mailbox))
            }
        }
    }

    /// Decides about a copy that was found earlier and on which the sides have not agreed yet.
    fn decide_unagreed(&self, link: &Link) -> Option<TaskChange> {
        let key = &self.pair.key;
        match (&self.pair.source, &self.pair.mailbox) {
            // The sides differ, or they would have agreed. One side was not read, so nothing is decided on a
            // guess.
            (SourceSide::Unchanged, _) | (_, MailboxSide::Unchanged) => None,
            (SourceSide::Present(source), MailboxSide::Present(mailbox)) => {
                Some(self.link_copy(source, mailbox))
            }
            // The sides never agreed, so the deletion of the copy does not end an agreement.
            (
                SourceSide::Present(source),
                MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived,
            ) => Some(self.create(source, None, Creation::restored_if(!link.removing))),
            (SourceSide::Absent(absence), MailboxSide::Present(mailbox)) => {
                Some(self.remove(mailbox, *absence, ValueOrigin::Edited))
            }
            (SourceSide::Absent(_), MailboxSide::Gone | MailboxSide::FolderGone | MailboxSide::Archived) => {
                Some(forget(key))
            }
        }
    }

    pub(super) fn create(&self, source: &SourceValue, link: Option<&Link>, why: Creation) -> TaskChange {
        let task = normalized_source_task(source, link);
        let link = Link {
            version: source.version.clone(),
            agreed: Agreed::of(&task),
            source_progress: raw_progress(source),
            ..Link::unagreed("", "", None)
        };
        TaskChange::Write(Action::CreateInMailbox {
            key: self.pair.key.clone(),
            task,
            version: source.version.clone(),
            web_url: source.web_url.clone(),
            link: Box::new(link),
            restored: !matches!(why, Creation::New),
            not_permitted: matches!(why, Creation::NotPermitted),
        })
    }

    /// Returns the link of an item after both sides agree on `task` in the common fields.
    pub(super) fn link_of(
        &self,
        link: Option<&Link>,
        source: &SourceValue,
        mailbox: &MailboxValue,
        task: &Task,
    ) -> Link {
        let agreed = match link {
            // Agreed fields that the source cannot hold are kept.
            Some(link) => {
                let mut agreed = link.agreed.clone();
                agreed.take(task, self.common);
                agreed
            }
            None => Agreed::of(task),
        };
        Link {
            version: source.version.clone(),
            agreed,
            source_progress: raw_progress(source),
            personal_fields: personal_fields(mailbox),
            ..Link::unagreed(&mailbox.id, &mailbox.change_key, mailbox.other_folder.clone())
        }
    }

    /// Returns the link with the source's version, and with the source's values in the common fields as the
    /// agreed ones.
    pub(super) fn agreed_with_source(&self, link: &Link, source: &SourceValue) -> Link {
        let mut agreed = link.agreed.clone();
        agreed.take(&normalized_source_task(source, Some(link)), self.common);
        Link {
            version: source.version.clone(),
            agreed,
            source_progress: raw_progress(source),
            ..link.clone()
        }
    }

    /// Returns whether the source's values are compared with the agreed ones. At an unchanged version only a
    /// deep check compares them: a difference there comes from a wrong reading, for which not everything is
    /// rewritten.
    pub(super) fn compares_source(&self, link: &Link, source: &SourceValue) -> bool {
        source.version != link.version || !link.not_kept.is_empty() || self.pair.deep
    }

    pub(super) fn source_edits(&self, link: &Link, source: &SourceValue) -> FieldSet {
        if self.compares_source(link, source) {
            changed_fields(
                &link.agreed,
                &normalized_source_task(source, Some(link)),
                self.common,
            )
        } else {
            FieldSet::EMPTY
        }
    }

    pub(super) fn mailbox_edits(&self, link: &Link, mailbox: &MailboxValue) -> FieldSet {
        let same = mailbox.change_key == link.change_key && mailbox.id == link.item;
        if same && !link.unsent && !self.pair.deep {
            return FieldSet::EMPTY;
        }
        mailbox_edits(link, mailbox, self.common, self.rules.canonical)
    }

    fn source_changed(&self, link: &Link, source: &SourceValue) -> Option<TaskChange> {
        let task = normalized_source_task(source, Some(link));
        let fields = self.source_edits(link, source).except(link.personal_fields);
        let base = if self.compares_source(link, source) {
            self.agreed_with_source(link, source)
        } else {
            link.clone()
        };
        let updated = Link {
            removing: false,
            not_kept: FieldSet::EMPTY,
            ..base
        };
        if fields.is_empty() {
            // At most the version changed.
            return (updated != *link).then(|| remember(&self.pair.key, updated));
        }
        Some(TaskChange::Write(Action::UpdateMailbox {
            key: self.pair.key.clone(),
            item: link.item.clone(),
            change_key: link.change_key.clone(),
            task: Box::new(task),
            fields: with_both_dates(fields, self.common),
            sends_next: FieldSet::EMPTY,
            version: source.version.clone(),
            link: Box::new(updated),
            replaces: Box::new(ReplacedValues::from_agreed(&link.agreed)),
        }))
    }

    fn mailbox_changed(&self, link: &Link, mailbox: &MailboxValue) -> TaskChange {
        let fields = self.mailbox_edits(link, mailbox);
        let replaces = ReplacedValues {
            origin: origin_of_unsent(link, fields),
            ..ReplacedValues::from_agreed(&link.agreed)
        };
        let link = Link {
            item: mailbox.id.clone(),
            change_key: mailbox.change_key.clone(),
            removing: false,
            unsent: false,
            disputed: FieldSet::EMPTY,
            personal_fields: personal_fields(mailbox),
            other_folder: mailbox.other_folder.clone(),
            ..link.clone()
        };
        if fields.is_empty() {
            remember(&self.pair.key, link)
        } else {
            self.update_source(mailbox, fields, link, replaces)
        }
    }

    /// Returns the update of the source. `link` is the link without this write.
    pub(super) fn update_source(
        &self,
        mailbox: &MailboxValue,
        fields: FieldSet,
        mut link: Link,
        replaces: ReplacedValues,
    ) -> TaskChange {
        let version = link.version.clone();
        link.agreed.take(&mailbox.task, fields);
        if fields.contains(Field::Progress) {
            link.source_progress = link.agreed.progress();
        }
        TaskChange::Write(Action::UpdateSource {
            key: self.pair.key.clone(),
            version,
            task: Box::new(mailbox.task.clone()),
            fields,
            change_key: mailbox.change_key.clone(),
            item: mailbox.id.clone(),
            link: Box::new(link),
            replaces: Box::new(replaces),
        })
    }

    pub(super) fn update_mailbox(
        &self,
        mailbox: &MailboxValue,
        task: Task,
        fields: FieldSet,
        sends_next: FieldSet,
        link: Link,
        replaces: ReplacedValues,
    ) -> TaskChange {
        TaskChange::Write(Action::UpdateMailbox {
            key: self.pair.key.clone(),
            item: mailbox.id.clone(),
            change_key: mailbox.change_key.clone(),
            task: Box::new(task),
            fields,
            sends_next,
            version: link.version.clone(),
            link: Box::new(link),
            replaces: Box::new(replaces),
        })
    }
}
