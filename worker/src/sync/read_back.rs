//! Reading back what a server may accept and not keep: values that were cleared, and descriptions.

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{Field, FieldSet, Task};
use tasksync_common::plan::{Action, Agreed, Done, changed};

use super::writer::Writer;

/// A write into the mailbox that was answered as done.
pub(super) struct Written {
    action: Action,
    /// Id and version of the item, as the answer gave them.
    id: String,
    change_key: String,
}

impl Written {
    /// Returns the write, if its values have to be read back.
    pub(super) fn to_be_read_back(action: &Action, done: &Done) -> Option<Self> {
        let (Action::UpdateMailbox { task, fields, .. }, Done::Item { id, change_key }) = (action, done)
        else {
            return None;
        };
        let doubtful = fields.iter().any(|field| may_be_kept(field, task));
        doubtful.then(|| Self {
            action: action.clone(),
            id: id.clone(),
            change_key: change_key.clone(),
        })
    }
}

/// Returns whether servers are known to answer this write with a success and to keep the old value.
fn may_be_kept(field: Field, task: &Task) -> bool {
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
    /// Reads the written items in one request. Where an item is still at the version of the write and shows another value, the
    /// write of that value does not count. An item that a person changed meanwhile is the next sync's.
    pub(super) async fn read_back(&mut self, written: Vec<Written>) {
        if written.is_empty() {
            return;
        }
        let ids: Vec<String> = written.iter().map(|written| written.id.clone()).collect();
        let Ok(answers) = self.mailbox.items(self.owner, &ids).await else {
            // The answers to the writes named new versions; the next comparison of values sees what they left.
            return;
        };
        for (written, answer) in written.iter().zip(answers) {
            let (
                Ok(item),
                Action::UpdateMailbox {
                    key, task, fields, ..
                },
            ) = (answer, &written.action)
            else {
                continue;
            };
            if item.item.id != written.id || item.item.change_key != written.change_key {
                continue;
            }
            let own_start = item.task.start.filter(|_| !fields.contains(Field::Start));
            let meant = self.mailbox.canonical(task, own_start);
            let read_back = fields.iter().filter(|field| may_be_kept(*field, task));
            let read_back = read_back.fold(FieldSet::EMPTY, FieldSet::with);
            let kept = changed(&Agreed::of(&meant), &item.task, read_back);
            if !kept.is_empty() {
                let names: Vec<&str> = kept.iter().map(Field::name).collect();
                let failure = Failure::new(
                    ErrorClass::Transient,
                    Code::AnswersDisagree,
                    format!(
                        "{key} in {}: the server answered success and kept the old value of: {}",
                        self.owner.mailbox,
                        names.join(", ")
                    ),
                )
                .about(Scope::Item);
                self.pass.not_kept(&written.action, &item.task, kept, failure);
            }
        }
    }
}
