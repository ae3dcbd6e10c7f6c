//! The plan of a user's next sync, as JSON and as text.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tasksync_common::model::{Field, FieldSet, UserKey};
use tasksync_common::plan::{Action, HeldDeletions, Memo, Plan, Step, held_digest};
use tasksync_worker::sync::PlanNames;

use crate::journal::value;
use crate::show::{cell, entries, held_deletions, list_name, task_in};

/// The fields of a task in plans, with the names people know.
const FIELDS: [(&str, &[&str]); Field::ALL.len()] = [
    ("title", &["title"]),
    ("body", &["body"]),
    ("start", &["start"]),
    ("due", &["due"]),
    ("progress", &["status", "percent"]),
    ("importance", &["importance"]),
    ("actual_work", &["actual_work"]),
    ("total_work", &["total_work"]),
    ("categories", &["categories"]),
];

/// The plan as the API answers it.
pub(crate) fn json(
    user: &UserKey,
    plan: &Plan,
    held_deletions: &[HeldDeletions],
    names: &PlanNames,
) -> Value {
    let agreed = plan.agreed.iter().map(one_memo);
    let actions = plan.actions.iter().map(|(step, action)| one_step(*step, action));
    let steps: Vec<Value> = agreed.chain(actions).collect();
    json!({
        "tenant": user.tenant.as_str(),
        "user": user.user.as_str(),
        "writes_nothing": plan.writes_nothing(),
        "folders": plan.folders,
        "steps": steps,
        "held": held_deletions,
        "names": names_in(plan, held_deletions, names),
        "held_plan": (!held_deletions.is_empty()).then(|| held_digest(held_deletions)),
    })
}

/// Returns title and list of each task, and the name of each list, that the plan shows.
fn names_in(plan: &Plan, held_deletions: &[HeldDeletions], names: &PlanNames) -> Value {
    let let_go = plan.agreed.iter().filter_map(|memo| match memo {
        Memo::LetGo { key, .. } => Some(key),
        Memo::Remember { .. } | Memo::Forget { .. } => None,
    });
    let held = held_deletions.iter().flat_map(|deletions| &deletions.keys);
    let tasks = plan.actions.iter().map(|(_, action)| action.key());
    let tasks = tasks.chain(let_go).chain(held).map(|key| {
        let list = names.lists.get(&key.location());
        (
            key.to_string(),
            json!({ "title": names.titles.get(key), "list": list }),
        )
    });
    let emptied = held_deletions.iter().flat_map(|deletions| &deletions.emptied);
    let lists = plan
        .folders
        .iter()
        .chain(emptied)
        .map(|list| (list.to_string(), json!({ "list": names.lists.get(list) })));
    Value::Object(tasks.chain(lists).collect())
}

fn one_memo(memo: &Memo) -> Value {
    let mut value = match memo {
        Memo::LetGo { key, let_go } => {
            return json!({"step": Step::MailboxDeletions, "action": "let_go", "key": key, "why": let_go.why});
        }
        Memo::Remember { .. } | Memo::Forget { .. } => {
            serde_json::to_value(memo).unwrap_or_else(|_| json!({ "key": memo.key() }))
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("step".to_owned(), json!("agreed"));
    }
    value
}

fn one_step(step: Step, action: &Action) -> Value {
    let mut value = serde_json::to_value(action).unwrap_or_else(|_| json!({ "key": action.key() }));
    if let Some(object) = value.as_object_mut() {
        object.insert("step".to_owned(), json!(step));
        // Names instead of the bits they are stored as.
        let mut name = |key: &str, fields: &FieldSet| {
            let names: Vec<&str> = fields.iter().map(Field::name).collect();
            object.insert(key.to_owned(), json!(names));
        };
        if let Action::UpdateSource { fields, .. } | Action::UpdateMailbox { fields, .. } = action {
            name("fields", fields);
        }
        if let Action::UpdateMailbox { sends_next, .. } = action {
            name("sends_next", sends_next);
        }
    }
    value
}

/// The plan for people.
pub(crate) fn text(answer: &Value) -> String {
    let mut text = format!(
        "What a sync of {} of {} would do now (nothing was written):\n",
        cell(&answer["user"]),
        cell(&answer["tenant"])
    );
    let names = &answer["names"];
    for folder in entries(answer, "folders") {
        let _ = writeln!(
            text,
            "new_locations        make a folder for {}",
            list_name(names, folder)
        );
    }
    let mut agreed = 0_usize;
    for step in entries(answer, "steps") {
        if step["step"] == "agreed" {
            agreed += 1;
            continue;
        }
        text.push_str(&line(step, names));
    }
    for deletions in entries(answer, "held") {
        let _ = writeln!(
            text,
            "HELD BACK on the side of the {}",
            held_deletions(deletions, names).trim_end()
        );
    }
    if answer["writes_nothing"] == true && entries(answer, "held").is_empty() {
        text.push_str("Nothing.\n");
    }
    if agreed > 0 {
        let _ = writeln!(
            text,
            "{agreed} tasks are the same on both sides; only their versions would be remembered."
        );
    }
    if !entries(answer, "held").is_empty() {
        let _ = writeln!(
            text,
            "If this is meant: tasksync user allow-deletions {} {} --plan {}",
            cell(&answer["tenant"]),
            cell(&answer["user"]),
            cell(&answer["held_plan"])
        );
    }
    text
}

fn line(step: &Value, names: &Value) -> String {
    let (task, replaces) = (&step["task"], &step["replaces"]);
    let mut text = format!(
        "{:<20} {}: {}",
        cell(&step["step"]),
        words(step),
        task_in(names, &step["key"], &task["title"])
    );
    if !step["absence"].is_null() {
        let _ = write!(text, " ({})", cell(&step["absence"]));
    }
    if step["not_permitted"] == true {
        text.push_str(
            " (was deleted in the mailbox, but the person has no right to delete it at the source)",
        );
    } else if step["restored"] == true {
        text.push_str(" (was deleted in the mailbox, but changed at the source since)");
    }
    text.push('\n');
    let sent_fields: Vec<&str> = entries(step, "fields").iter().filter_map(Value::as_str).collect();
    for (field, values) in FIELDS {
        // A new task is shown with everything it has.
        let sent = if step["fields"].is_array() {
            sent_fields.contains(&field)
        } else {
            step["action"] == "create_in_mailbox" && has(task, values)
        };
        if !sent {
            continue;
        }
        let _ = write!(text, "    {field}: {}", format_values(task, values));
        let is_value_known = !(replaces["remembered"] == true && field == "body");
        if replaces.is_object() && is_value_known {
            let word = if replaces["standing"] == "agreed" {
                "was"
            } else {
                "loses"
            };
            let _ = write!(text, "  ({word}: {})", format_values(&replaces["values"], values));
        }
        text.push('\n');
    }
    let next: Vec<&str> = entries(step, "sends_next")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (field, values) in FIELDS.iter().filter(|(field, _)| next.contains(field)) {
        let sent = format_values(&replaces["values"], values);
        let _ = writeln!(text, "    then written to the source: {field}: {sent}");
    }
    if !step["removal"].is_null() && replaces["standing"] == "edited" {
        text.push_str("    the copy was edited in the mailbox; the edit goes to the journal\n");
    }
    text
}

fn has(task: &Value, values: &[&str]) -> bool {
    values
        .iter()
        .any(|name| !task[*name].is_null() && task[*name] != json!([]))
}

fn format_values(task: &Value, values: &[&str]) -> String {
    let all: Vec<String> = values.iter().map(|name| value(name, &task[*name])).collect();
    all.join(", ")
}

fn words(step: &Value) -> &str {
    match step["action"].as_str().unwrap_or_default() {
        "create_in_mailbox" => "create in the mailbox",
        "remove_from_mailbox" => match step["removal"].as_str() {
            Some("complete") => "complete in the mailbox and leave to the person",
            Some("leave") => "leave in the mailbox to the person",
            _ => "move to the mailbox's deleted items",
        },
        "complete_at_source" => "complete at the source",
        "let_go" => match step["why"].as_str() {
            Some("archived") => "keep at the source without a copy, which was archived",
            _ => "keep at the source without a copy, which was deleted",
        },
        "delete_at_source" => "move to the source's recycle bin",
        "update_source" => "write to the source",
        "update_mailbox" => "write to the mailbox",
        "remove_twin" => "remove a second copy",
        "disown_twin" => "leave an edited copy to the person",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::model::{FieldSet, LocationKey, Task};
    use tasksync_common::plan::{Removal, ReplacedValues, Side, ValueOrigin};
    use tasksync_common::state::Link;

    use super::*;

    #[test]
    fn a_plan_is_told_task_by_task_and_field_by_field() {
        let list = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000001");
        let user = UserKey::new("contoso".parse().unwrap(), "ana".parse().unwrap());
        let task = Task {
            title: "New title".to_owned(),
            due: Some(jiff::civil::date(2026, 3, 1)),
            ..Task::default()
        };
        let removed = Action::RemoveFromMailbox {
            key: list.task(2),
            item: "i2".to_owned(),
            change_key: "c2".to_owned(),
            absence: tasksync_common::plan::Absence::NotAssigned,
            removal: Removal::Delete,
            replaces: Box::new(ReplacedValues::from_read(&task, ValueOrigin::Edited)),
        };
        // The source changed the due date, the mailbox the title.
        let merged = Action::UpdateMailbox {
            key: list.task(3),
            item: "i3".to_owned(),
            change_key: "c3".to_owned(),
            task: Box::new(task.clone()),
            fields: FieldSet::of(&[Field::Due]),
            sends_next: FieldSet::of(&[Field::Title]),
            version: "v3".to_owned(),
            link: Box::new(Link::unagreed("i3", "c3", None)),
            replaces: Box::new(ReplacedValues::from_read(
                &Task {
                    title: "Title of the mailbox".to_owned(),
                    ..Task::default()
                },
                ValueOrigin::Agreed,
            )),
        };
        let plan = Plan {
            folders: vec![list.clone()],
            agreed: vec![Memo::Forget { key: list.task(9) }],
            actions: vec![(Step::SourceDeletions, removed), (Step::Conflicts, merged)],
        };
        let held_deletions = HeldDeletions {
            side: Side::Source,
            keys: vec![list.task(7)],
            of: 3,
            emptied: vec![list.clone()],
        };
        let names = PlanNames {
            titles: [
                (list.task(7), "Order paint".to_owned()),
                (list.task(2), "Old".to_owned()),
            ]
            .into(),
            lists: [(list.clone(), "Projects - Plan".to_owned())].into(),
        };
        let mut answer = json(&user, &plan, &[held_deletions], &names);
        let id = "sp|3f1c2f0e-0000-4000-8000-000000000001";
        assert_eq!(answer["writes_nothing"], false);
        // As an update looks, whatever else it carries.
        let update = json!({
            "step": "conflicts", "action": "update_source", "key": list.task(1), "task": task,
            "fields": FieldSet::of(&[Field::Title, Field::Due]).iter().map(Field::name).collect::<Vec<_>>(),
            "replaces": ReplacedValues::from_read(&Task { title: "Old title".to_owned(), ..Task::default() }, ValueOrigin::Edited),
        });
        answer["steps"].as_array_mut().unwrap().push(update);
        let shown = text(&answer);
        for expected in [
            &format!("make a folder for \"Projects - Plan\" ({id})\n"),
            &format!(
                "move to the mailbox's deleted items: \"Old\" ({id}|2) in \"Projects - Plan\" (NotAssigned)"
            ),
            "the copy was edited",
            &format!("write to the source: \"New title\" ({id}|1)\n"),
            &format!("write to the mailbox: \"New title\" ({id}|3) in \"Projects - Plan\"\n"),
            "    title: New title  (loses: Old title)\n    due: 2026-03-01  (loses: none)\n",
            "    due: 2026-03-01  (was: none)\n    then written to the source: title: Title of the mailbox\n",
            "HELD BACK on the side of the source: 1 of 3",
            &format!("    \"Order paint\" ({id}|7) in \"Projects - Plan\"\n"),
            &format!("    would lose everything: \"Projects - Plan\" ({id})\n"),
            "1 tasks are the same",
            "tasksync user allow-deletions contoso ana",
        ] {
            assert!(shown.contains(expected), "{expected:?} in:\n{shown}");
        }
        assert!(!shown.contains("importance"), "{shown}");
    }

    #[test]
    fn an_answer_of_another_form_never_panics() {
        for answer in [
            json!(null),
            json!({"steps": 1}),
            json!({"steps": [null, {"fields": 3}], "held": [1]}),
        ] {
            assert!(!text(&answer).is_empty());
        }
    }
}
