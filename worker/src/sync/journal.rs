//! Journal entries for what a plan overwrites or deletes. They are saved before the plan is carried out.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tasksync_common::model::{Field, FieldSet, Task, UserKey};
use tasksync_common::plan::{Action, Plan, Removal, Replaced, Standing};
use tasksync_common::registry::{JournalEntry, JournalKind};

/// Returns the entries for what this plan overwrites or deletes.
pub(super) fn entries(user: &UserKey, at: Timestamp, plan: &Plan) -> Vec<JournalEntry> {
    plan.actions
        .iter()
        .filter_map(|(_, action)| {
            let (kind, before, after) = recorded(action)?;
            Some(JournalEntry {
                at,
                user: user.clone(),
                task: action.key().clone(),
                kind,
                before,
                after,
            })
        })
        .collect()
}

/// Returns what is recorded of an action: the kind, the values before and the values after. Returns `None`
/// for a new copy, which replaces nothing.
fn recorded(action: &Action) -> Option<(JournalKind, Option<Value>, Option<Value>)> {
    let all = FieldSet::ALL;
    let recorded = match action {
        Action::CreateInMailbox { restored: false, .. } => return None,
        Action::CreateInMailbox {
            task,
            restored: true,
            not_permitted,
            ..
        } => {
            let kind = if *not_permitted {
                JournalKind::DeletionSetBackInMailbox
            } else {
                JournalKind::RestoredInMailbox
            };
            (kind, None, Some(values(task, all)))
        }
        Action::RemoveFromMailbox {
            removal, replaces, ..
        } => {
            let kind = match (removal, replaces.standing) {
                (Removal::Delete, Standing::Agreed) => JournalKind::RemovedFromMailbox,
                (Removal::Delete, Standing::Edited | Standing::NotPermitted) => {
                    JournalKind::EditRemovedFromMailbox
                }
                (Removal::Complete, _) => JournalKind::CompletedInMailbox,
                (Removal::Leave, _) => JournalKind::LeftInMailbox,
            };
            (kind, Some(replaced(replaces, all)), None)
        }
        Action::DeleteAtSource { task, .. } => (JournalKind::DeletedAtSource, Some(values(task, all)), None),
        Action::CompleteAtSource { task, replaces, .. } => {
            let progress = FieldSet::EMPTY.with(Field::Progress);
            let before = Some(replaced(replaces, progress));
            (
                JournalKind::CompletedAtSource,
                before,
                Some(values(task, progress)),
            )
        }
        Action::UpdateSource {
            task,
            fields,
            replaces,
            ..
        } => {
            let kind = match replaces.standing {
                Standing::Agreed => JournalKind::OverwrittenAtSource,
                Standing::Edited | Standing::NotPermitted => JournalKind::ConflictLostAtSource,
            };
            (
                kind,
                Some(replaced(replaces, *fields)),
                Some(values(task, *fields)),
            )
        }
        Action::UpdateMailbox {
            task,
            fields,
            replaces,
            ..
        } => {
            let kind = match replaces.standing {
                Standing::Agreed => JournalKind::OverwrittenInMailbox,
                Standing::Edited => JournalKind::ConflictLostInMailbox,
                Standing::NotPermitted => JournalKind::SetBackInMailbox,
            };
            (
                kind,
                Some(replaced(replaces, *fields)),
                Some(values(task, *fields)),
            )
        }
        Action::RemoveTwin { .. } => (JournalKind::SecondCopyRemoved, None, None),
        Action::DisownTwin { .. } => (JournalKind::SecondCopyLeft, None, None),
    };
    Some(recorded)
}

/// Returns the values of these fields. A description that was not read is left out: only its digest is remembered.
fn replaced(replaces: &Replaced, fields: FieldSet) -> Value {
    let known = if replaces.remembered {
        fields.without(Field::Body)
    } else {
        fields
    };
    values(&replaces.values, known)
}

/// Returns an object with a member for each value of these fields, named as in [`Task`].
fn values(task: &Task, fields: FieldSet) -> Value {
    let Ok(Value::Object(all)) = serde_json::to_value(task) else {
        return Value::Null;
    };
    let wanted: Vec<&str> = fields.iter().flat_map(members).copied().collect();
    let kept: Map<String, Value> = all
        .into_iter()
        .filter(|(name, _)| wanted.contains(&name.as_str()))
        .collect();
    Value::Object(kept)
}

/// Returns the members of a serialised task that belong to a field.
fn members(field: Field) -> &'static [&'static str] {
    match field {
        Field::Title => &["title"],
        Field::Body => &["body"],
        Field::Start => &["start"],
        Field::Due => &["due"],
        Field::Progress => &["status", "percent"],
        Field::Importance => &["importance"],
        Field::ActualWork => &["actual_work"],
        Field::TotalWork => &["total_work"],
        Field::Categories => &["categories"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_that_are_written_are_recorded_and_a_description_that_was_not_read_is_left_out() {
        let task = Task {
            title: "Old".to_owned(),
            ..Task::default()
        };
        let fields = FieldSet::of(&[Field::Title, Field::Body, Field::Progress]);
        let read = replaced(&Replaced::read(&task, Standing::Edited), fields);
        let expected =
            serde_json::json!({"title": "Old", "body": null, "status": "NotStarted", "percent": 0});
        assert_eq!(read, expected);
        let mut remembered = Replaced::read(&task, Standing::Agreed);
        remembered.remembered = true;
        let expected = serde_json::json!({"title": "Old", "status": "NotStarted", "percent": 0});
        assert_eq!(replaced(&remembered, fields), expected);
    }
}
