//! Journal entries for what a plan overwrites or deletes. They are saved before the plan is carried out.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tasksync_common::model::{Field, FieldSet, Task, UserKey};
use tasksync_common::plan::{Action, Plan, Removal, ReplacedValues, ValueOrigin};
use tasksync_common::registry::{JournalEntry, JournalKind};

/// Returns the entries for what this plan overwrites or deletes.
pub(super) fn entries(user: &UserKey, at: Timestamp, plan: &Plan) -> Vec<JournalEntry> {
    plan.actions
        .iter()
        .filter_map(|(_, action)| {
            let (kind, before, after) = journal_values(action)?;
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
fn journal_values(action: &Action) -> Option<(JournalKind, Option<Value>, Option<Value>)> {
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
            let kind = match (removal, replaces.origin) {
                (Removal::Delete, ValueOrigin::Agreed) => JournalKind::RemovedFromMailbox,
                (Removal::Delete, ValueOrigin::Edited | ValueOrigin::NotPermitted) => {
                    JournalKind::EditRemovedFromMailbox
                }
                (Removal::Complete, _) => JournalKind::CompletedInMailbox,
                (Removal::Leave, _) => JournalKind::LeftInMailbox,
            };
            (kind, Some(replaced_values(replaces, all)), None)
        }
        Action::DeleteAtSource { task, .. } => (JournalKind::DeletedAtSource, Some(values(task, all)), None),
        Action::CompleteAtSource { task, replaces, .. } => {
            let progress = FieldSet::EMPTY.with(Field::Progress);
            let before = Some(replaced_values(replaces, progress));
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
            let kind = match replaces.origin {
                ValueOrigin::Agreed => JournalKind::OverwrittenAtSource,
                ValueOrigin::Edited | ValueOrigin::NotPermitted => JournalKind::ConflictLostAtSource,
            };
            (
                kind,
                Some(replaced_values(replaces, *fields)),
                Some(values(task, *fields)),
            )
        }
        Action::UpdateMailbox {
            task,
            fields,
            replaces,
            ..
        } => {
            let kind = match replaces.origin {
                ValueOrigin::Agreed => JournalKind::OverwrittenInMailbox,
                ValueOrigin::Edited => JournalKind::ConflictLostInMailbox,
                ValueOrigin::NotPermitted => JournalKind::SetBackInMailbox,
            };
            (
                kind,
                Some(replaced_values(replaces, *fields)),
                Some(values(task, *fields)),
            )
        }
        Action::RemoveTwin { .. } => (JournalKind::SecondCopyRemoved, None, None),
        Action::DisownTwin { .. } => (JournalKind::SecondCopyLeft, None, None),
    };
    Some(recorded)
}

/// Returns the values of these fields. A description that was not read is left out: only its digest is remembered.
fn replaced_values(replaces: &ReplacedValues, fields: FieldSet) -> Value {
    let known_fields = if replaces.remembered {
        fields.without(Field::Body)
    } else {
        fields
    };
    values(&replaces.values, known_fields)
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
    fn every_kind_of_the_journal_is_written_by_some_action() {
        let product = include_str!("journal.rs").split("#[cfg(test)]").next().unwrap();
        for kind in JournalKind::ALL {
            let name = format!("JournalKind::{kind:?}");
            let written = product.match_indices(&name).any(|(at, _)| {
                let next = product[at + name.len()..].chars().next();
                next.is_some_and(|next| !next.is_alphanumeric())
            });
            assert!(written, "no action writes {name}");
        }
    }

    #[test]
    fn only_the_fields_that_are_written_are_recorded_and_a_description_that_was_not_read_is_left_out() {
        let task = Task {
            title: "Old".to_owned(),
            ..Task::default()
        };
        let fields = FieldSet::of(&[Field::Title, Field::Body, Field::Progress]);
        let read = replaced_values(&ReplacedValues::from_read(&task, ValueOrigin::Edited), fields);
        let expected =
            serde_json::json!({"title": "Old", "body": null, "status": "NotStarted", "percent": 0});
        assert_eq!(read, expected);
        let mut remembered = ReplacedValues::from_read(&task, ValueOrigin::Agreed);
        remembered.remembered = true;
        let expected = serde_json::json!({"title": "Old", "status": "NotStarted", "percent": 0});
        assert_eq!(replaced_values(&remembered, fields), expected);
    }
}
