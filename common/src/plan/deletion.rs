//! A task that is gone on one side: what that means for the other side.

use jiff::Timestamp;

use super::action::{Action, Memo, Removal, ReplacedValues, ValueOrigin};
use super::agreed::changed_fields;
use super::decide::{Creation, Decider, TaskChange};
use super::edits::normalized_source_task;
use super::interrupted_write::may_hide_interrupted_write;
use super::policy::DeletionPolicy;
use super::sides::{Absence, MailboxValue, SourceValue};
use crate::model::{Percent, Status, Task};
use crate::state::{LetGo, LetGoReason, Link};

impl Decider<'_> {
    /// Decides about a task whose copy the person deleted while the task still exists.
    pub(super) fn decide_deleted_copy(&self, link: &Link, source: &SourceValue) -> TaskChange {
        let edited = self.is_edited_at_source(link, source);
        if link.removing {
            // tasksync removed the copy itself, and the task is the person's again.
            return self.create(source, Some(link), Creation::New);
        }
        if self.was_completed_long_ago(link, source) {
            return self.let_task_go(link, source, LetGoReason::Archived);
        }
        if edited {
            // The task was edited at the source since: the edit wins.
            return self.create(source, Some(link), Creation::Restored);
        }
        match self.rules.policy.mailbox_deletions {
            DeletionPolicy::Ignore => self.let_task_go(link, source, LetGoReason::Ignored),
            // With read-only access a person can neither delete nor complete the task.
            DeletionPolicy::Propagate | DeletionPolicy::Complete if !source.writable => {
                self.create(source, Some(link), Creation::NotPermitted)
            }
            DeletionPolicy::Propagate => TaskChange::Write(Action::DeleteAtSource {
                key: self.pair.key.clone(),
                version: source.version.clone(),
                task: Box::new(source.task.clone()),
            }),
            DeletionPolicy::Complete => self.complete_at_source(link, source),
        }
    }

    /// Decides about a task whose copy lies in the mailbox's archive.
    pub(super) fn decide_archived_copy(&self, link: &Link, source: &SourceValue) -> TaskChange {
        let comes_back = self.is_edited_at_source(link, source) && !self.was_completed_long_ago(link, source);
        if link.removing || comes_back {
            self.create(source, Some(link), Creation::restored_if(comes_back))
        } else {
            self.let_task_go(link, source, LetGoReason::Archived)
        }
    }

    fn is_edited_at_source(&self, link: &Link, source: &SourceValue) -> bool {
        may_hide_interrupted_write(self.pair) || !self.source_edits(link, source).is_empty()
    }

    fn was_completed_long_ago(&self, link: &Link, source: &SourceValue) -> bool {
        let task = normalized_source_task(source, Some(link));
        let long_ago = |at: Timestamp| self.rules.now.duration_since(at) > self.rules.policy.archived_after;
        task.status == Status::Completed
            && [Some(source.modified), link.completed_at, task.completed_at]
                .into_iter()
                .flatten()
                .any(long_ago)
    }

    /// Returns whether a task whose copy was let go still needs none: nothing changed at the source, or the
    /// task is still completed.
    pub(super) fn needs_no_copy(&self, let_go: &LetGo, source: &SourceValue) -> bool {
        let task = normalized_source_task(source, Some(&let_go.link));
        let unchanged = changed_fields(&let_go.link.agreed, &task, self.common).is_empty();
        unchanged
            || match let_go.why {
                LetGoReason::Archived | LetGoReason::Completed => task.status == Status::Completed,
                LetGoReason::Ignored => false,
            }
    }

    fn let_task_go(&self, link: &Link, source: &SourceValue, why: LetGoReason) -> TaskChange {
        let link = self.agreed_with_source(link, source);
        TaskChange::Memo(Memo::LetGo {
            key: self.pair.key.clone(),
            let_go: Box::new(LetGo { link, why }),
        })
    }

    fn complete_at_source(&self, link: &Link, source: &SourceValue) -> TaskChange {
        let before = normalized_source_task(source, Some(link));
        if before.status == Status::Completed {
            return self.let_task_go(link, source, LetGoReason::Completed);
        }
        let task = Task {
            status: Status::Completed,
            percent: Percent::DONE,
            ..before.clone()
        };
        let mut agreed = link.agreed.clone();
        agreed.take(&task, self.common);
        let link = Link {
            version: source.version.clone(),
            source_progress: agreed.progress(),
            agreed,
            ..link.clone()
        };
        TaskChange::Write(Action::CompleteAtSource {
            key: self.pair.key.clone(),
            version: source.version.clone(),
            task: Box::new(task),
            link: Box::new(link),
            replaces: Box::new(ReplacedValues::from_read(&before, ValueOrigin::Agreed)),
        })
    }

    pub(super) fn remove(&self, mailbox: &MailboxValue, absence: Absence, origin: ValueOrigin) -> TaskChange {
        TaskChange::Write(Action::RemoveFromMailbox {
            key: self.pair.key.clone(),
            item: mailbox.id.clone(),
            change_key: mailbox.change_key.clone(),
            absence,
            removal: self.removal(absence),
            replaces: Box::new(ReplacedValues::from_read(&mailbox.task, origin)),
        })
    }

    /// Returns how a copy is removed. A task that is no longer the person's always leaves the mailbox.
    pub(super) fn removal(&self, absence: Absence) -> Removal {
        match (absence, self.rules.policy.source_deletions) {
            (Absence::NotAssigned | Absence::NoAccess, _)
            | (Absence::Deleted | Absence::LocationGone, DeletionPolicy::Propagate) => Removal::Delete,
            (Absence::Deleted | Absence::LocationGone, DeletionPolicy::Complete) => Removal::Complete,
            (Absence::Deleted | Absence::LocationGone, DeletionPolicy::Ignore) => Removal::Leave,
        }
    }
}
