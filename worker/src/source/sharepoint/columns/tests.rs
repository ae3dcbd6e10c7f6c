use jiff::tz::TimeZone;
use proptest::prelude::*;
use tasksync_common::model::{Body, BodyKind, Importance};

use super::*;

fn field(id: Uuid, name: &str, schema: &str) -> Value {
    json!({"Id": id.to_string().to_uppercase(), "InternalName": name, "SchemaXml": schema})
}

/// Returns the columns of a list as they are read.
fn read_columns(german: bool) -> TaskColumns {
    TaskColumns::read(&columns(german).into()).unwrap()
}

/// Returns an item with every column that `columns` reads; those not given are empty.
fn item(columns: &TaskColumns, given: &Value) -> Cell {
    let mut item = given.clone();
    for property in columns.properties() {
        if item.get(&property).is_none() {
            item[&property] = Value::Null;
        }
    }
    item.into()
}

/// Returns the columns of a list: built-in names in English, or renamed columns in German.
pub(in super::super) fn columns(german: bool) -> Value {
    let (status, due, status_choices, priority_choices) = if german {
        (
            "TaskStatus",
            "TaskDueDate",
            [
                "Nicht begonnen",
                "In Bearbeitung",
                "Erledigt",
                "Zurückgestellt",
                "Wartet auf jemanden",
            ],
            ["(1) Hoch", "(2) Normal", "(3) Niedrig"],
        )
    } else {
        (
            "Status",
            "DueDate",
            STATUS_WORDS,
            ["(1) High", "(2) Normal", "(3) Low"],
        )
    };
    let mut status = field(STATUS, status, "<Field/>");
    status["Choices"] = if german {
        json!({"results": status_choices})
    } else {
        json!(status_choices)
    };
    let mut priority = field(PRIORITY, "Priority", "<Field/>");
    priority["Choices"] = json!(priority_choices);
    let mut due = field(DUE, due, "<Field/>");
    due["DisplayFormat"] = json!(0);
    json!({"value": [
        field(TITLE, "Title", "<Field/>"),
        field(BODY, "Body", r#"<Field RichText="TRUE" RichTextMode="FullHtml"/>"#),
        field(START, "StartDate", r#"<Field Format="DateOnly"/>"#),
        due, status, priority,
        field(PERCENT, "PercentComplete", "<Field/>"),
        field(ASSIGNED, "AssignedTo", "<Field/>"),
        field(COMPLETED, "_DateCompleted", r#"<Field Format="DateTime"/>"#),
        field(ACTUAL_WORK, "ActualWork", "<Field/>"),
    ]})
}

const STATUS_WORDS: [&str; 5] = [
    "Not Started",
    "In Progress",
    "Completed",
    "Deferred",
    "Waiting on someone else",
];

fn berlin() -> Zone {
    Zone::Known(TimeZone::get("Europe/Berlin").unwrap())
}

#[test]
fn the_same_task_in_both_languages() {
    for german in [false, true] {
        let columns = read_columns(german);
        let (status, due, in_progress, high) = if german {
            ("TaskStatus", "TaskDueDate", "In Bearbeitung", "(1) Hoch")
        } else {
            ("Status", "DueDate", "In Progress", "(1) High")
        };
        assert!(columns.select().contains(due) && columns.select().contains("OData__DateCompleted"));
        assert!(!columns.holds(Some(&berlin())).contains(Field::TotalWork));
        let item = item(
            &columns,
            &json!({
                "Id": 17, "Title": " Order parts", "Body": "<div class=\"ExternalClass1\"><p>x</p></div>",
                "StartDate": "2026-11-30T23:00:00Z", due: "2026-12-03T23:00:00Z", status: in_progress,
                "PercentComplete": 0.25, "Priority": high, "AssignedToId": [12, 13], "ActualWork": 90.0,
            }),
        );
        let task = columns.read_task(&item, Some(&berlin())).unwrap();
        assert_eq!(task.title, "Order parts");
        assert_eq!(task.body.as_ref().unwrap().content, "<p>x</p>");
        assert_eq!(task.start, Some("2026-12-01".parse().unwrap()));
        assert_eq!(task.due, Some("2026-12-04".parse().unwrap()));
        assert_eq!(
            (task.status, task.percent.hundredths()),
            (Status::InProgress, 2_500)
        );
        assert_eq!((task.importance, task.actual_work), (Importance::High, Some(90)));
        assert_eq!(columns.assignees(&item).unwrap(), [12, 13]);
        let written = columns.write_task(&task, FieldSet::ALL, Some(&berlin()), &HashMap::new());
        assert_eq!(written["StartDate"], "2026-11-30T23:00:00Z");
        assert_eq!(written[due], "2026-12-03T23:00:00Z");
        assert_eq!(written[status], in_progress);
        assert_eq!(written["PercentComplete"], 0.25);
        assert_eq!(written["Priority"], high);
        assert_eq!(written["OData__DateCompleted"], Value::Null);
        assert!(!written.contains_key("TotalWork"));
    }
}

#[test]
fn only_the_requested_fields_are_written_and_progress_writes_both_columns() {
    let columns = read_columns(false);
    let task = Task {
        title: "t".into(),
        status: Status::Completed,
        percent: Percent::DONE,
        completed_at: Some("2026-11-22T14:00:00.5Z".parse().unwrap()),
        ..Task::default()
    };
    let written = columns.write_task(
        &task,
        FieldSet::of(&[Field::Progress]),
        Some(&berlin()),
        &HashMap::new(),
    );
    let names: Vec<_> = written.keys().map(String::as_str).collect();
    assert_eq!(names, ["OData__DateCompleted", "PercentComplete", "Status"]);
    assert_eq!(written["OData__DateCompleted"], "2026-11-22T14:00:00Z");
    assert_eq!(
        (&written["Status"], &written["PercentComplete"]),
        (&json!("Completed"), &json!(1.0))
    );
    let unknown = Task {
        completed_at: None,
        ..task
    };
    let written = columns.write_task(
        &unknown,
        FieldSet::of(&[Field::Progress]),
        Some(&berlin()),
        &HashMap::new(),
    );
    assert!(!written.contains_key("OData__DateCompleted"));
    let cleared = columns.write_task(
        &Task::default(),
        FieldSet::of(&[Field::Due, Field::Body]),
        Some(&berlin()),
        &HashMap::new(),
    );
    assert_eq!(cleared.get("DueDate"), Some(&Value::Null));
    assert_eq!(cleared.get("Body"), Some(&Value::Null));
}

#[test]
fn a_status_of_the_lists_own_is_read_from_the_percent() {
    let columns = read_columns(false);
    for (percent, status) in [
        (0.0, Status::NotStarted),
        (0.5, Status::InProgress),
        (1.0, Status::Completed),
    ] {
        let item = item(
            &columns,
            &json!({"Status": "Blocked", "PercentComplete": percent}),
        );
        assert_eq!(columns.read_task(&item, Some(&berlin())).unwrap().status, status);
    }
}

#[test]
fn a_zone_only_the_server_knows_asks_for_each_date() {
    let columns = read_columns(false);
    let zone = Zone::read(
        &json!({"Information": {"Bias": -60, "DaylightBias": -60}}).into(),
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let task = Task {
        due: Some("2026-07-04".parse().unwrap()),
        ..Task::default()
    };
    let fields = FieldSet::of(&[Field::Due]);
    assert_eq!(
        columns.unknown_midnights(&task, fields, Some(&zone)),
        [task.due.unwrap()]
    );
    let answers = HashMap::from([(task.due.unwrap(), "2026-07-03T22:00:00Z".parse().unwrap())]);
    assert_eq!(
        columns.write_task(&task, fields, Some(&zone), &answers)["DueDate"],
        "2026-07-03T22:00:00Z"
    );
}

#[test]
fn plain_text_append_only_and_long_titles() {
    let mut value = columns(false);
    value["value"][1]["SchemaXml"] = json!("<Field RichText=\"FALSE\"/>");
    let plain = TaskColumns::read(&value.clone().into()).unwrap();
    let task = Task {
        title: "😀".repeat(200),
        body: Some(Body {
            kind: BodyKind::Html,
            content: "<p>a</p>".into(),
        }),
        ..Task::default()
    };
    let written = plain.write_task(&task, FieldSet::ALL, Some(&berlin()), &HashMap::new());
    assert_eq!(written["Body"], "a");
    assert_eq!(written["Title"].as_str().unwrap().encode_utf16().count(), 254);
    value["value"][1]["SchemaXml"] = json!("<Field AppendOnly=\"TRUE\"/>");
    assert!(
        !TaskColumns::read(&value.into())
            .unwrap()
            .holds(None)
            .contains(Field::Body)
    );
    assert!(TaskColumns::read(&json!({"value": []}).into()).is_none());
}

#[test]
fn a_value_that_cannot_be_read_is_a_problem_and_never_an_empty_value() {
    let columns = read_columns(false);
    let good = json!({"Title": "t", "PercentComplete": 0.5});
    assert!(columns.read_task(&item(&columns, &good), Some(&berlin())).is_ok());
    for (name, value) in [
        ("Title", json!("x".repeat(256))),
        ("PercentComplete", json!("12,5")),
        ("DueDate", json!("soon")),
        ("ActualWork", json!(1e300)),
        ("Status", json!({"a": 1})),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        let problem = columns
            .read_task(&item(&columns, &bad), Some(&berlin()))
            .unwrap_err();
        assert!(problem.contains(name), "{problem}");
    }
    // SharePoint answers an empty column with null; a column that is missing was lost in transit.
    for name in columns.properties() {
        if matches!(
            name.as_str(),
            "Id" | "Modified" | "HasUniqueRoleAssignments" | "AssignedToId"
        ) {
            continue;
        }
        let mut missing = item(&columns, &good);
        missing.take(&name);
        let problem = columns.read_task(&missing, Some(&berlin())).unwrap_err();
        assert!(problem.contains(&name), "{problem}");
    }
}

#[test]
fn without_a_zone_no_date_is_read_or_written() {
    let columns = read_columns(false);
    let holds = columns.holds(None);
    assert!(!holds.contains(Field::Due) && !holds.contains(Field::Start) && holds.contains(Field::Title));
    let task = columns
        .read_task(
            &item(
                &columns,
                &json!({"Title": "t", "DueDate": "2026-12-03T23:00:00Z"}),
            ),
            None,
        )
        .unwrap();
    assert_eq!(task.due, None);
    let due = Task {
        due: Some("2026-12-04".parse().unwrap()),
        ..task
    };
    assert!(
        columns
            .write_task(&due, FieldSet::of(&[Field::Due]), None, &HashMap::new())
            .is_empty()
    );
}

#[test]
fn a_view_asks_for_the_columns_that_are_read_and_no_other() {
    let fields = read_columns(false).view_fields();
    for name in ["ID", "owshiddenversion", "AssignedTo", "_DateCompleted", "Body"] {
        assert!(fields.contains(&format!("<FieldRef Name='{name}'/>")), "{fields}");
    }
}

proptest! {
    #[test]
    fn no_item_panics(text in ".{0,40}", number in any::<f64>(), whole in any::<i64>()) {
        let columns = read_columns(true);
        for value in [json!(text), json!(number), json!(whole), json!([text]), json!({"results": [whole]})] {
            let item = Cell::from(json!({"Title": value, "Body": value, "TaskDueDate": value, "TaskStatus": value, "PercentComplete": value, "Priority": value, "ActualWork": value, "AssignedToId": value, "OData__DateCompleted": value}));
            let task = columns.read_task(&item, Some(&berlin())).unwrap_or_default();
            let _ = columns.write_task(&task, FieldSet::ALL, Some(&berlin()), &HashMap::new());
            let _ = columns.assignees(&item);
        }
    }
}
