//! Created items are linked once a read of their ids proves that they are there.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::SourceKey;
use tasksync_common::plan::Action;

use super::writer::{Writer, written};
use crate::mailbox::{ItemRef, MailboxItem};

impl Writer<'_> {
    /// Reads created items back before they are linked. An answer that names an item which was never made, or another one,
    /// would leave the task without a copy, and its absence would look like the person's deletion.
    pub(super) async fn prove(&mut self, created: Vec<(Action, ItemRef)>) {
        if created.is_empty() {
            return;
        }
        let ids: Vec<String> = created.iter().map(|(_, item)| item.id.clone()).collect();
        let answers = match self.mailbox.items(self.owner, &ids).await {
            Ok(answers) => answers,
            Err(failure) => {
                self.report.items_failed += u32::try_from(created.len()).unwrap_or(u32::MAX);
                let actions: Vec<Action> = created.into_iter().map(|(action, _)| action).collect();
                self.pass.unproven(&actions, failure);
                return;
            }
        };
        let mut answers = answers.into_iter();
        for (action, item) in created {
            match is_copy_of(action.key(), answers.next()) {
                Ok(()) => self.pass.done(&action, written(item)),
                Err(failure) => self.failed(&action, failure),
            }
        }
    }
}

/// Whether what was read back for a created item is the copy of `key`.
///
/// # Errors
/// The outcome of the creation is unknown: the item is looked for by its key in the next pass.
fn is_copy_of(key: &SourceKey, answer: Option<Result<MailboxItem, Failure>>) -> Result<(), Failure> {
    let reason = match answer {
        Some(Ok(item)) => match item.marker {
            Some(marker) if marker.key == *key => return Ok(()),
            Some(marker) => format!("is the copy of {}", marker.key),
            None => "bears no key".to_owned(),
        },
        Some(Err(failure)) => format!("cannot be read: {failure}"),
        None => "was not answered when it was read".to_owned(),
    };
    Err(Failure::new(
        ErrorClass::OutcomeUnknown,
        Code::AnswersDisagree,
        format!("the item created for {key} {reason}"),
    ))
}
