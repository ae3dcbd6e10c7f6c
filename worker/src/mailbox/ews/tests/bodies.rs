//! Every request is valid against Microsoft's schema.

use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use tasksync_common::model::{Body, BodyKind, Field, FieldSet, Percent, Status, Task};

use super::super::envelope::Header;
use super::super::find_folder::{FolderKind, Root};
use super::super::find_item::SearchFolder;
use super::super::paging::Paging;
use super::super::{
    create_folder, create_item, delete_item, find_folder, find_item, get_folder, get_item, resolve_names,
    sync_folder_items, update_folder, update_item,
};
use super::{NASTY, ana, headers, key, location, rich_task};
use crate::mailbox::{ItemChanges, ItemRef, NewItem};

const OWNER: &str = "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana@contoso.example";

/// Every request that the client can send, with minimal and rich values.
fn requests() -> Vec<Bytes> {
    let mailbox = ana();
    let item = ItemRef {
        id: "AAMkA=".into(),
        change_key: "EwAA".into(),
    };
    let ids: Vec<String> = (0..100).map(|number| format!("AAMkFolder{number}==")).collect();
    let many: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut second = Paging::new(250, 2);
    second.offset = 250;
    let mut all = Vec::new();
    for header in &headers(&mailbox) {
        all.push(get_folder::request(header, &["AAMk="]));
        all.push(get_folder::request(header, &many));
        all.push(get_folder::request_tasks_folder(header));
        all.push(resolve_names::request(header, &mailbox));
        for kind in [FolderKind::Any, FolderKind::Tasks] {
            let both = [Root::Top, Root::DeletedItems];
            all.push(find_folder::request(header, &both, kind, Paging::new(250, 2)));
            for root in [Root::Top, Root::Tasks, Root::DeletedItems, Root::Archive] {
                all.push(find_folder::request(header, &[root], kind, second));
            }
        }
        all.push(create_folder::request(
            header,
            "Team site - Tasks",
            &location(),
            OWNER,
        ));
        all.push(create_folder::request(header, NASTY, &location(), NASTY));
        all.push(update_folder::request(header, "AAMk=", NASTY));
        all.push(get_folder::request_roots(header));
        all.push(update_folder::request_owner(header, &many, OWNER));
        all.push(update_item::request_owner(
            header,
            &[item.clone(), item.clone()],
            NASTY,
        ));
        all.push(get_item::request_parents(header, &many));
        all.push(sync_folder_items::request(header, "AAMk=", None, 512));
        all.push(sync_folder_items::request(
            header,
            "AAMk=",
            Some("H4sIAAA="),
            9_999,
        ));
        all.push(get_item::request(header, &["AAMk="]));
        all.push(get_item::request(header, &many));
        let twenty: Vec<SearchFolder<'_>> = many[..20].iter().map(|id| SearchFolder::Folder(id)).collect();
        let key_wanted = key();
        for wanted in [find_item::Wanted::Key(&key_wanted), find_item::Wanted::AnyKey] {
            for places in [
                &[SearchFolder::Folder("AAMk=")][..],
                &[SearchFolder::Tasks, SearchFolder::Folder("AAMk=")],
                &[SearchFolder::DeletedItems],
            ] {
                all.push(find_item::request(header, places, wanted, Paging::new(50, 2)));
            }
            all.push(find_item::request(header, &twenty, wanted, second));
        }
        all.push(create(header, &Task::default(), None));
        let link = "https://sp.contoso.example/t?a=1&b=2";
        all.push(create(header, &rich_task(), Some(link)));
        all.push(update_item::request_disown(header, &item));
        all.push(delete_item::request(header, &item));
        for task in [rich_task(), Task::default()] {
            for fields in Field::ALL
                .iter()
                .map(|&field| FieldSet::of(&[field]))
                .chain([FieldSet::ALL])
            {
                let changes = ItemChanges {
                    task: task.clone(),
                    fields,
                    write_id: NASTY.to_owned(),
                };
                all.push(update_item::request(header, &item, &changes));
            }
        }
        for status in [
            Status::NotStarted,
            Status::InProgress,
            Status::Completed,
            Status::WaitingOnOthers,
            Status::Deferred,
        ] {
            for percent in [0.0, 0.01, 50.0, 100.0] {
                let task = Task {
                    status,
                    percent: Percent::from_percent(percent),
                    body: Some(Body {
                        kind: BodyKind::Text,
                        content: NASTY.to_owned(),
                    }),
                    ..Task::default()
                };
                all.push(create(header, &task, None));
            }
        }
    }
    all
}

fn create(header: &Header<'_>, task: &Task, web_link: Option<&str>) -> Bytes {
    let key = key();
    let item = NewItem {
        key: &key,
        task,
        web_link,
        write_id: "4f0c",
    };
    create_item::request(header, "AAMk=", &item, OWNER)
}

/// The elements inside `<s:Header>` and `<s:Body>`, each as a document of its own.
fn parts(request: &Bytes) -> Vec<String> {
    let text = std::str::from_utf8(request).unwrap();
    let between = |from: &str, to: &str| {
        let start = text.find(from).unwrap() + from.len();
        &text[start..text.find(to).unwrap()]
    };
    let declarations = " xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
                        xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"";
    let document = |element: &str| {
        let name_end = element.find([' ', '>', '/']).unwrap();
        format!("{}{declarations}{}", &element[..name_end], &element[name_end..])
    };
    let mut parts = vec![document(between("<s:Body>", "</s:Body>"))];
    let mut header = between("<s:Header>", "</s:Header>");
    for (name, end) in [
        ("<t:RequestServerVersion", "/>"),
        ("<t:ExchangeImpersonation", "</t:ExchangeImpersonation>"),
        ("<t:TimeZoneContext", "</t:TimeZoneContext>"),
        ("<t:DateTimePrecision", "</t:DateTimePrecision>"),
    ] {
        if header.starts_with(name) {
            let length = header.find(end).unwrap() + end.len();
            parts.push(document(&header[..length]));
            header = &header[length..];
        }
    }
    assert_eq!(header, "", "an unknown header element");
    parts
}

/// Returns the folder of Microsoft's schema; reports if it does not exist.
pub(super) fn schema_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("TASKSYNC_EWS_XSD").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/ews-xsd")),
        PathBuf::from,
    );
    if folder.join("driver.xsd").is_file() {
        return Some(folder);
    }
    println!("SKIPPED: no schema at {}; set TASKSYNC_EWS_XSD", folder.display());
    None
}

#[test]
fn every_request_is_valid_against_the_schema() {
    let Some(folder) = schema_folder() else { return };
    let driver = folder.join("driver.xsd");
    if Command::new("xmllint").arg("--version").output().is_err() {
        println!("SKIPPED: xmllint is not installed");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut documents = std::collections::BTreeSet::new();
    for request in requests() {
        documents.extend(parts(&request));
    }
    let mut command = Command::new("xmllint");
    command.arg("--noout").arg("--nonet").arg("--schema").arg(&driver);
    for (number, document) in documents.iter().enumerate() {
        let path = scratch.path().join(format!("{number}.xml"));
        std::fs::write(&path, document).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let wrong: Vec<&str> = messages
        .lines()
        .filter(|line| !line.ends_with(" validates"))
        .collect();
    assert!(
        output.status.success() && wrong.is_empty(),
        "{}",
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert!(documents.len() > 50, "{}", documents.len());
}

fn update(task: Task, fields: &[Field]) -> String {
    let item = ItemRef {
        id: "i".into(),
        change_key: "c".into(),
    };
    let changes = ItemChanges {
        task,
        fields: FieldSet::of(fields),
        write_id: "4f0c".to_owned(),
    };
    let request = update_item::request(&headers(&ana())[1], &item, &changes);
    String::from_utf8(request.to_vec()).unwrap()
}

/// Returns the properties that an update touches, in order; deletions with a minus.
fn touched_fields(request: &str) -> Vec<String> {
    request
        .split("<t:")
        .filter_map(|part| {
            let uri = part.strip_prefix("FieldURI FieldURI=\"")?;
            Some(uri[..uri.find('"')?].to_owned())
        })
        .zip(request.match_indices("ItemField><t:FieldURI").map(|(at, _)| {
            if request[..at].ends_with("Delete") {
                "-"
            } else {
                ""
            }
        }))
        .map(|(uri, sign)| format!("{sign}{uri}"))
        .collect()
}

#[test]
fn progress_is_written_so_that_the_last_word_is_right() {
    let rows: &[(Status, f64, &[&str])] = &[
        (Status::NotStarted, 0.0, &["task:Status"]),
        (Status::NotStarted, 20.0, &["task:Status", "task:PercentComplete"]),
        (Status::InProgress, 0.0, &["task:Status", "task:PercentComplete"]),
        (Status::InProgress, 20.0, &["task:Status", "task:PercentComplete"]),
        (Status::InProgress, 100.0, &["task:Status"]),
        (Status::Completed, 100.0, &["task:Status"]),
        (Status::Completed, 0.0, &["task:Status"]),
        (
            Status::WaitingOnOthers,
            0.0,
            &["task:PercentComplete", "task:Status"],
        ),
        (Status::Deferred, 20.0, &["task:PercentComplete", "task:Status"]),
        (Status::Deferred, 100.0, &["task:Status"]),
    ];
    for &(status, percent, expected) in rows {
        let task = Task {
            status,
            percent: Percent::from_percent(percent),
            ..Task::default()
        };
        let request = update(task, &[Field::Progress]);
        assert_eq!(touched_fields(&request), expected, "{status:?} {percent}");
        assert!(!request.contains("CompleteDate"));
        let last = match status {
            _ if percent >= 100.0 => "<t:Status>Completed",
            Status::NotStarted | Status::InProgress if percent > 0.0 => "<t:PercentComplete>20",
            Status::NotStarted => "<t:Status>NotStarted",
            Status::InProgress => "<t:PercentComplete>1<",
            Status::Completed => "<t:Status>Completed",
            Status::WaitingOnOthers => "<t:Status>WaitingOnOthers",
            Status::Deferred => "<t:Status>Deferred",
        };
        let values = request
            .rfind("<t:Status>")
            .max(request.rfind("<t:PercentComplete>"));
        assert!(
            request[values.unwrap()..].starts_with(last),
            "{status:?} {percent}"
        );
    }
}

#[test]
fn an_empty_description_is_set_other_empty_values_are_deleted_and_days_stay_in_order() {
    let all = [
        Field::Body,
        Field::Start,
        Field::Due,
        Field::ActualWork,
        Field::TotalWork,
        Field::Categories,
    ];
    assert_eq!(
        touched_fields(&update(Task::default(), &all)),
        [
            "item:Body",
            "-task:StartDate",
            "-task:DueDate",
            "-task:ActualWork",
            "-task:TotalWork",
            "-item:Categories"
        ]
    );
    let reversed = Task {
        start: Some(jiff::civil::date(2026, 12, 4)),
        due: Some(jiff::civil::date(2026, 12, 1)),
        ..Task::default()
    };
    for fields in [&[Field::Start][..], &[Field::Due], &[Field::Start, Field::Due]] {
        let request = update(reversed.clone(), fields);
        assert!(
            request.contains("<t:DueDate>2026-12-04T00:00:00</t:DueDate>"),
            "{request}"
        );
        assert!(!request.contains("2026-12-01"), "{request}");
        assert!(request.contains("TimeZoneDefinition Id=\"W. Europe Standard Time\""));
    }
}

#[test]
fn a_link_stands_in_its_own_property_only() {
    let link = "https://sp.contoso.example/t/1";
    let request = create(&headers(&ana())[0], &rich_task(), Some(link));
    let text = std::str::from_utf8(&request).unwrap();
    assert_eq!(text.matches(link).count(), 1);
    assert!(text.contains("TaskSyncWebLink"));
    assert!(text.contains("<t:Value>sp|3f1c2f0e-0000-4000-8000-000000000001|17</t:Value>"));
    assert!(!text.contains('\u{1}') && !text.contains('\u{FFFE}'));
}
