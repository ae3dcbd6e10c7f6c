//! Decisions about one task, as a table with one sentence per row.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code outside test functions: a panic is how it fails"
)]

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{Field, FieldSet, LocationKey, Percent, Status, Task};
use tasksync_common::plan::{
    Absence, Action, Agreed, ConflictPolicy, Decision, DeletionPolicy, MailboxSide, MailboxValue, Memo, Pair,
    Policy, Progress, ReplacedValues, Rules, SourceSide, SourceValue, ValueOrigin, decide,
};
use tasksync_common::state::{LetGo, LetGoReason, Link, Parked, Writing};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the fields are the columns of the table, and most rows leave them out"
)]
struct Row {
    why: String,
    link: Option<Value>,
    source: Option<Value>,
    mailbox: Option<Value>,
    #[serde(default)]
    twins: Vec<Value>,
    writing: Option<Value>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    parked: bool,
    #[serde(default)]
    deep: bool,
    holds: Option<Vec<Field>>,
    policy: Option<ConflictPolicy>,
    /// Unknown difference between the servers' clocks, in seconds.
    #[serde(default)]
    uncertainty: i64,
    /// Two edits within this many seconds count as simultaneous; the default is 1.
    precision: Option<i64>,
    #[serde(default)]
    mailbox_deletions: DeletionPolicy,
    #[serde(default)]
    source_deletions: DeletionPolicy,
    let_go: Option<Value>,
    /// The present day, in days since 1970.
    #[serde(default)]
    today: i64,
    removal: Option<String>,
    let_go_as: Option<LetGoReason>,
    #[serde(rename = "do")]
    actions: Vec<String>,
    fields: Option<Vec<Field>>,
    journal: Option<String>,
    restored: Option<bool>,
    #[serde(default)]
    not_permitted: bool,
    means: Option<(Status, f64)>,
    /// The agreed values after the action.
    agreed: Option<Value>,
    /// Whether the mailbox has edits to send after the action.
    unsent: Option<bool>,
}

fn task(value: &Value) -> Task {
    let date = |name: &str| value[name].as_str().map(|text| text.parse().unwrap());
    Task {
        title: value["title"].as_str().unwrap_or_default().to_owned(),
        start: date("start"),
        due: date("due"),
        status: serde_json::from_value(value["status"].clone()).unwrap_or_default(),
        percent: Percent::from_percent(value["percent"].as_f64().unwrap_or(0.0)),
        categories: value["category"]
            .as_str()
            .map(str::to_owned)
            .into_iter()
            .collect(),
        ..Task::default()
    }
}

/// Returns the named fields; the empty set if the value names none.
fn fields(value: &Value) -> FieldSet {
    serde_json::from_value::<Vec<Field>>(value.clone())
        .map_or(FieldSet::EMPTY, |fields| FieldSet::of(&fields))
}

fn at(value: &Value) -> jiff::Timestamp {
    jiff::Timestamp::from_second(value["at"].as_i64().unwrap_or(0)).unwrap()
}

fn version(value: &Value, base: &str) -> String {
    if let Some(version) = value["version"].as_str() {
        version.to_owned()
    } else if value["changed"].as_bool() == Some(true) {
        format!("{base}-changed")
    } else {
        base.to_owned()
    }
}

fn mailbox_value(value: &Value, id: &str) -> MailboxValue {
    MailboxValue {
        id: id.to_owned(),
        change_key: version(value, "ck"),
        task: task(value),
        modified: at(value),
        created: jiff::Timestamp::UNIX_EPOCH,
        recurring: value["recurring"].as_bool() == Some(true),
        private: value["private"].as_bool() == Some(true),
        other_folder: None,
        write_id: (value["written"].as_bool() == Some(true)).then(|| WRITE.to_owned()),
    }
}

/// The id of the interrupted write.
const WRITE: &str = "4f0c";

/// Returns an interrupted write: the side, and the values that it meant to leave there.
fn writing(value: &Value, link: Option<&Link>) -> Writing {
    let after = |version: &str, change_key: &str| Link {
        version: version.to_owned(),
        agreed: Agreed::of(&task(value)),
        ..Link::unagreed(link.map_or("", |link| &link.item), change_key, None)
    };
    match value["side"].as_str() {
        Some("source") => Writing::Source {
            link: after(link.map_or("etag", |link| &link.version), "ck-read"),
        },
        Some("mailbox") => Writing::Mailbox {
            id: WRITE.to_owned(),
            link: after("etag-read", "ck-before"),
        },
        other => panic!("{other:?}"),
    }
}

fn pair(row: &Row) -> Pair {
    Pair {
        key: LocationKey::sharepoint_list("l").task(1),
        link: row.link.as_ref().map(|value| {
            let agreed = task(value);
            let task_progress = Progress {
                status: agreed.status,
                percent: agreed.percent,
            };
            if value["found"].as_bool() == Some(true) {
                return Link::unagreed("item", "ck", None);
            }
            let raw: Option<(Status, f64)> = serde_json::from_value(value["raw"].clone()).ok();
            Link {
                item: value["item"].as_str().unwrap_or("item").to_owned(),
                // A mailbox value without "changed" is tasksync's own write under another change key.
                change_key: "ck-before".to_owned(),
                version: version(value, "etag"),
                agreed: Agreed::of(&agreed),
                source_progress: raw.map_or(task_progress, |(status, percent)| Progress {
                    status,
                    percent: Percent::from_percent(percent),
                }),
                removing: value["removing"].as_bool() == Some(true),
                personal_fields: fields(&value["own"]),
                other_folder: None,
                unsent: value["unsent"].as_bool() == Some(true),
                disputed: fields(&value["disputed"]),
                not_kept: fields(&value["not_kept"]),
                completed_at: None,
            }
        }),
        let_go: row.let_go.as_ref().map(|value| {
            let agreed = task(value);
            LetGo {
                link: Link {
                    version: "etag".to_owned(),
                    source_progress: Progress {
                        status: agreed.status,
                        percent: agreed.percent,
                    },
                    agreed: Agreed::of(&agreed),
                    ..Link::unagreed("item", "ck", None)
                },
                why: serde_json::from_value(value["why"].clone()).unwrap(),
            }
        }),
        writing: None,
        deep: row.deep,
        deleted_write_ids: row.deleted.then(|| WRITE.to_owned()).into_iter().collect(),
        parked: row.parked.then(|| Parked {
            version: Some("etag".to_owned()),
            change_key: None,
            failure: Failure::new(ErrorClass::Refused, Code::ExchangeItemRefused, "refused"),
        }),
        source_holds: row
            .holds
            .as_ref()
            .map_or(FieldSet::ALL, |fields| FieldSet::of(fields)),
        source: match &row.source {
            None => SourceSide::Unchanged,
            Some(value) => match value["absent"].as_str() {
                Some("deleted") => SourceSide::Absent(Absence::Deleted),
                Some("not_assigned") => SourceSide::Absent(Absence::NotAssigned),
                Some("no_access") => SourceSide::Absent(Absence::NoAccess),
                Some("location_gone") => SourceSide::Absent(Absence::LocationGone),
                Some(other) => panic!("{other}"),
                None => SourceSide::Present(Box::new(SourceValue {
                    version: version(value, "etag"),
                    task: task(value),
                    modified: at(value),
                    web_url: String::new(),
                    writable: value["read_only"].as_bool() != Some(true),
                })),
            },
        },
        mailbox: match &row.mailbox {
            None => MailboxSide::Unchanged,
            Some(Value::String(text)) if text == "gone" => MailboxSide::Gone,
            Some(Value::String(text)) if text == "archived" => MailboxSide::Archived,
            Some(Value::String(text)) if text == "folder_gone" => MailboxSide::FolderGone,
            Some(value) => MailboxSide::Present(Box::new(mailbox_value(value, "item"))),
        },
        twins: row
            .twins
            .iter()
            .map(|value| mailbox_value(value, "twin"))
            .collect(),
    }
}

/// Returns the task with its dates as Exchange keeps them: a task with a start and no due date is due on that
/// day, and no task is due before it starts.
fn canonical(task: &Task, own_start: Option<jiff::civil::Date>) -> Task {
    let start = task.start.or(own_start.filter(|_| task.due.is_none()));
    Task {
        start,
        due: start.map_or(task.due, |start| Some(task.due.unwrap_or(start).max(start))),
        ..task.clone()
    }
}

fn rules(row: &Row) -> Rules<'static> {
    Rules {
        mailbox_fields: FieldSet::ALL,
        canonical: &canonical,
        precision: SignedDuration::from_secs(row.precision.unwrap_or(1)),
        uncertainty: SignedDuration::from_secs(row.uncertainty),
        policy: Policy {
            conflicts: row.policy.unwrap_or_default(),
            mailbox_deletions: row.mailbox_deletions,
            source_deletions: row.source_deletions,
            ..Policy::default()
        },
        now: jiff::Timestamp::from_second(1_000 + row.today * 86_400).unwrap(),
    }
}

fn name(action: &impl serde::Serialize) -> String {
    serde_json::to_value(action).unwrap()["action"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn every_row_of_the_table_holds() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("plan_vectors.json")).unwrap();
    assert!(rows.len() >= 65);
    for row in &rows {
        let why = &row.why;
        let mut pair = pair(row);
        let link = pair.link.as_ref();
        pair.writing = row.writing.as_ref().map(|value| writing(value, link));
        let Decision { twins, memo, action } = decide(&pair, rules(row));
        let names = twins.iter().map(name).chain(memo.as_ref().map(name));
        let names: Vec<String> = names.chain(action.as_ref().map(name)).collect();
        assert_eq!(names, row.actions, "{why}");
        if let Some(wanted) = row.let_go_as {
            let let_go = match &memo {
                Some(Memo::LetGo { let_go, .. }) => Some(let_go.why),
                _ => None,
            };
            assert_eq!(let_go, Some(wanted), "{why}");
        }
        let Some(action) = action.as_ref().or(twins.last().filter(|_| memo.is_none())) else {
            continue;
        };
        let lost = |replaces: &ReplacedValues| match replaces.origin {
            ValueOrigin::Agreed => None,
            ValueOrigin::Edited | ValueOrigin::NotPermitted => Some(replaces.values.title.clone()),
        };
        let (fields, lost, means) = match action {
            Action::UpdateSource {
                fields,
                replaces,
                task,
                ..
            }
            | Action::UpdateMailbox {
                fields,
                replaces,
                task,
                ..
            } => (Some(*fields), lost(replaces), Some((task.status, task.percent))),
            Action::CompleteAtSource { task, .. } => (None, None, Some((task.status, task.percent))),
            Action::DeleteAtSource { task, .. } => (None, Some(task.title.clone()), None),
            Action::RemoveFromMailbox { replaces, .. } => (None, lost(replaces), None),
            Action::CreateInMailbox { .. } | Action::RemoveTwin { .. } | Action::DisownTwin { .. } => {
                (None, None, None)
            }
        };
        if let Action::UpdateSource { link, .. } | Action::UpdateMailbox { link, .. } = action {
            if let Some(wanted) = &row.agreed {
                assert_eq!(link.agreed, Agreed::of(&task(wanted)), "{why}");
            }
            if let Some(wanted) = row.unsent {
                assert_eq!(link.unsent, wanted, "{why}");
                if let Action::UpdateMailbox { sends_next, .. } = action {
                    assert_eq!(!sends_next.is_empty(), wanted, "{why}");
                }
            }
        }
        if let Some(wanted) = &row.removal {
            let removal = serde_json::to_value(action).unwrap()["removal"].clone();
            assert_eq!(removal.as_str(), Some(wanted.as_str()), "{why}");
        }
        if let Some(wanted) = &row.fields {
            assert_eq!(fields, Some(FieldSet::of(wanted)), "{why}");
        }
        assert_eq!(lost, row.journal, "{why}");
        if let Some(restored) = row.restored {
            assert!(
                matches!(action, Action::CreateInMailbox { restored: found, not_permitted, .. }
                    if *found == restored && *not_permitted == row.not_permitted),
                "{why}"
            );
        }
        if let Some((status, percent)) = row.means {
            assert_eq!(means, Some((status, Percent::from_percent(percent))), "{why}");
        }
    }
}
