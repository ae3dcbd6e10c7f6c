//! Reading back what was written into a mailbox. One request reads created items and updates that a server
//! may accept without keeping them; another looks for deleted items.

use std::fmt::Display;

use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{Field, FieldSet, MarkerOwner, SourceKey, Task};
use tasksync_common::plan::{Action, ActionResult, Agreed, changed_fields};

use super::writer::Writer;
use crate::mailbox::{ItemRef, MailboxItem, Whereabouts};

/// A write into the mailbox that was answered as done and has to be read back.
pub(super) struct UnprovenWrite {
    action: Action,
    /// The item as the answer named it.
    item: ItemRef,
    /// When the write began.
    at: Timestamp,
}

impl UnprovenWrite {
    /// Returns a creation. The task is linked only after its item was read: if the answer named an item that
    /// does not exist, or another task's, the task would have no copy, and that would look like the person's
    /// deletion.
    pub(super) fn created(action: Action, item: ItemRef, at: Timestamp) -> Self {
        Self { action, item, at }
    }

    /// Returns an update, if it wrote a value that servers are known to accept without keeping it.
    pub(super) fn updated(action: &Action, done: &ActionResult, at: Timestamp) -> Option<Self> {
        let (Action::UpdateMailbox { task, fields, .. }, ActionResult::Item { id, change_key }) =
            (action, done)
        else {
            return None;
        };
        let doubtful = fields.iter().any(|field| may_not_be_kept(field, task));
        doubtful.then(|| Self {
            action: action.clone(),
            item: ItemRef {
                id: id.clone(),
                change_key: change_key.clone(),
            },
            at,
        })
    }
}

/// A deletion in the mailbox that was answered as done. The answer alone does not prove it.
pub(super) struct UnprovenDeletion {
    action: Action,
    item: String,
    done: ActionResult,
}

impl UnprovenDeletion {
    /// Returns the deletion of `item`. `done` is recorded as its result once the deletion is proved.
    pub(super) fn new(action: Action, item: String, done: ActionResult) -> Self {
        Self { action, item, done }
    }
}

/// Returns whether servers are known to answer success to this write and keep the old value.
fn may_not_be_kept(field: Field, task: &Task) -> bool {
    match field {
        Field::Body => true,
        Field::Start => task.start.is_none(),
        Field::Due => task.due.is_none(),
        Field::ActualWork => task.actual_work.is_none(),
        Field::TotalWork => task.total_work.is_none(),
        Field::Title | Field::Progress | Field::Importance | Field::Categories => false,
    }
}

impl Writer<'_> {
    /// Reads written items back. A creation counts if its item bears the task's key. A written value counts
    /// as not kept if the item, still at the version of the write, does not show it.
    pub(super) async fn read_back(&mut self, written: Vec<UnprovenWrite>) {
        if written.is_empty() {
            return;
        }
        let ids: Vec<String> = written.iter().map(|written| written.item.id.clone()).collect();
        let answers = match self.mailbox.items(self.owner, &ids).await {
            Ok(answers) => answers,
            Err(failure) => {
                let created = written.into_iter().map(|written| written.action);
                let created: Vec<Action> = created.filter(is_creation).collect();
                // Updates named new versions; the next comparison of values shows what they left.
                if !created.is_empty() {
                    self.report.items_failed += u32::try_from(created.len()).unwrap_or(u32::MAX);
                    self.pass.record_unconfirmed(&created, failure);
                }
                return;
            }
        };
        let mut answers = answers.into_iter();
        for UnprovenWrite { action, item, at } in written {
            let answer = answers.next();
            if let Some(Ok(read)) = &answer
                && read.item == item
            {
                self.mailbox.learn_clock(read.modified, at);
            }
            if is_creation(&action) {
                match is_copy_of(action.key(), &self.owner.marker, answer) {
                    Ok(()) => self
                        .pass
                        .record_success(&action, super::writer::write_result(item)),
                    Err(failure) => self.record_failed(&action, failure),
                }
            } else if let Some(Ok(read)) = answer {
                self.compare(&action, &item, &read);
            }
        }
    }

    /// Looks up by id where deleted items are. A deletion counts if its item does not exist or is in the
    /// deleted items.
    pub(super) async fn prove_deleted(&mut self, deleted: Vec<UnprovenDeletion>) {
        if deleted.is_empty() {
            return;
        }
        let ids: Vec<String> = deleted.iter().map(|deleted| deleted.item.clone()).collect();
        let whereabouts = match self.mailbox.whereabouts(self.owner, &ids).await {
            Ok(whereabouts) => whereabouts,
            Err(failure) => {
                self.report.items_failed += u32::try_from(deleted.len()).unwrap_or(u32::MAX);
                let actions: Vec<Action> = deleted.into_iter().map(|deleted| deleted.action).collect();
                self.pass.record_unconfirmed(&actions, failure);
                return;
            }
        };
        let mut whereabouts = whereabouts.into_iter();
        for UnprovenDeletion { action, done, .. } in deleted {
            let outcome_unknown = |reason: &dyn Display| {
                let text = format!("the copy deleted for {} {reason}", action.key());
                Failure::new(ErrorClass::OutcomeUnknown, Code::AnswersDisagree, text).about(Scope::Item)
            };
            match whereabouts.next() {
                Some(Ok(Whereabouts::NotFound | Whereabouts::Deleted)) => {
                    self.pass.record_success(&action, done);
                }
                Some(Ok(Whereabouts::In(_))) => {
                    self.record_failed(&action, outcome_unknown(&"is still in its folder"));
                }
                Some(Err(failure)) => {
                    self.record_failed(
                        &action,
                        outcome_unknown(&format_args!("cannot be looked up: {failure}")),
                    );
                }
                None => self.record_failed(
                    &action,
                    outcome_unknown(&"was not answered when it was looked up"),
                ),
            }
        }
    }

    /// Compares an update with what the item shows. If a person changed the item meanwhile, the next sync
    /// decides.
    fn compare(&mut self, action: &Action, written: &ItemRef, read: &MailboxItem) {
        let Action::UpdateMailbox {
            key, task, fields, ..
        } = action
        else {
            return;
        };
        if read.item != *written {
            return;
        }
        let own_start = read.task.start.filter(|_| !fields.contains(Field::Start));
        let intended = Agreed::of(&self.mailbox.canonical(task, own_start));
        let doubtful = fields.iter().filter(|field| may_not_be_kept(*field, task));
        let doubtful = doubtful.fold(FieldSet::EMPTY, FieldSet::with);
        let not_kept = changed_fields(&intended, &read.task, doubtful);
        if not_kept.is_empty() {
            return;
        }
        let names: Vec<&str> = not_kept.iter().map(Field::name).collect();
        let failure = Failure::new(
            ErrorClass::Transient,
            Code::AnswersDisagree,
            format!(
                "{key} in {}: the server answered success and kept the old value of: {}",
                self.owner.mailbox,
                names.join(", ")
            ),
        );
        self.pass
            .record_unkept_fields(action, &read.task, not_kept, failure.about(Scope::Item));
    }
}

fn is_creation(action: &Action) -> bool {
    matches!(action, Action::CreateInMailbox { .. })
}

/// Checks that the item read back after a creation is the copy of `key` for this owner.
///
/// # Errors
/// The outcome of the creation is unknown: the next pass searches for the item by its key.
fn is_copy_of(
    key: &SourceKey,
    owner: &MarkerOwner,
    answer: Option<Result<MailboxItem, Failure>>,
) -> Result<(), Failure> {
    let unknown = |reason: &dyn Display| {
        Failure::new(
            ErrorClass::OutcomeUnknown,
            Code::AnswersDisagree,
            format!("the item created for {key} {reason}"),
        )
        .about(Scope::Item)
    };
    match answer {
        Some(Ok(item)) => match item.marker {
            Some(marker) if marker.key != *key => {
                Err(unknown(&format_args!("is the copy of {}", marker.key)))
            }
            Some(marker) if !marker.may_be_of(owner) => Err(unknown(&"bears another owner's marker")),
            Some(_) => Ok(()),
            None => Err(unknown(&"bears no key")),
        },
        Some(Err(failure)) => Err(unknown(&format_args!("cannot be read: {failure}"))),
        None => Err(unknown(&"was not answered when it was read")),
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::model::LocationKey;

    use super::*;
    use crate::mailbox::{MarkedFor, Marker};

    fn item(marker: Option<Marker<SourceKey>>) -> MailboxItem {
        MailboxItem {
            item: ItemRef {
                id: "item".to_owned(),
                change_key: "ck".to_owned(),
            },
            marker,
            folder: None,
            task: Task::default(),
            modified: Timestamp::UNIX_EPOCH,
            created: Timestamp::UNIX_EPOCH,
            recurring: false,
            private: false,
            write_id: None,
        }
    }

    #[test]
    fn a_created_item_is_the_copy_of_the_task_whose_key_it_bears_for_its_owner() {
        let key = |number: i64| LocationKey::sharepoint_list("a").task(number);
        let owner: MarkerOwner = "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
            .parse()
            .unwrap();
        let marked = |number, marked_for| {
            let key = key(number);
            Some(Ok(item(Some(Marker { key, marked_for }))))
        };
        let ben = owner.to_string().replace("/ana", "/ben").parse().unwrap();
        for marked_for in [MarkedFor::Owner(owner.clone()), MarkedFor::Unnamed] {
            assert!(is_copy_of(&key(1), &owner, marked(1, marked_for)).is_ok());
        }
        let refused = Failure::new(ErrorClass::Refused, Code::ExchangeItemRefused, "x");
        for answer in [
            marked(2, MarkedFor::Owner(owner.clone())),
            marked(1, MarkedFor::Owner(ben)),
            Some(Ok(item(None))),
            Some(Err(refused)),
            None,
        ] {
            let failure = is_copy_of(&key(1), &owner, answer).unwrap_err();
            assert_eq!(
                (failure.class, failure.scope),
                (ErrorClass::OutcomeUnknown, Scope::Item)
            );
        }
    }
}
