//! Any task gives a well-formed request, and no answer, however broken, causes a panic.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tasksync_common::model::{Body, BodyKind, FieldSet, Importance, Percent, Status, Task, normal_text};

use super::super::envelope;
use super::super::xml::{Parsed, Xml};
use super::super::{
    create_item, find_folder, find_item, get_folder, get_item, sync_folder_items, task_fields, update_item,
};
use super::{ana, headers, key};
use crate::mailbox::{ItemChanges, ItemRef, NewItem};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(any::<char>(), 0..40)
            .prop_map(|characters| characters.into_iter().collect()),
        "[ -~\\r\\n\\t<>&\"']{0,300}",
    ]
}

fn day() -> impl Strategy<Value = Option<jiff::civil::Date>> {
    proptest::option::of((1601_i16..=9998, 1_i8..=12, 1_i8..=28))
        .prop_map(|parts| parts.and_then(|(year, month, day)| jiff::civil::Date::new(year, month, day).ok()))
}

prop_compose! {
    fn tasks()(
        title in text(),
        body in proptest::option::of((any::<bool>(), text())),
        start in day(),
        due in day(),
        status in 0_usize..5,
        percent in 0.0_f64..=100.0,
        importance in 0_usize..3,
        actual_work in proptest::option::of(any::<i32>()),
        total_work in proptest::option::of(any::<i32>()),
        categories in proptest::collection::btree_set(text(), 0..4),
    ) -> Task {
        Task {
            title,
            body: body.map(|(html, content)| Body {
                kind: if html { BodyKind::Html } else { BodyKind::Text },
                content,
            }),
            start,
            due,
            status: [Status::NotStarted, Status::InProgress, Status::Completed, Status::WaitingOnOthers, Status::Deferred][status],
            percent: Percent::from_percent(percent),
            completed_at: None,
            importance: [Importance::Low, Importance::Normal, Importance::High][importance],
            actual_work,
            total_work,
            categories,
        }
    }
}

/// Reads a whole document, so that every tag, attribute and reference in it is checked.
fn well_formed(document: &[u8]) -> Parsed<()> {
    fn inside(xml: &mut Xml<'_>) -> Parsed<()> {
        while let Some(element) = xml.child()? {
            element.attribute("none")?;
            inside(xml)?;
        }
        Ok(())
    }
    let mut xml = Xml::new(document)?;
    xml.root()?;
    inside(&mut xml)
}

/// Reads the `t:Task` of a request as if a server had returned it.
fn read_back(request: &[u8]) -> Task {
    let text = std::str::from_utf8(request).unwrap();
    let start = text.find("<t:Task>").unwrap();
    let end = text.rfind("</t:Task>").unwrap();
    let item = format!(
        "<t:Task><t:ItemId Id=\"a\"/>{}",
        &text[start + "<t:Task>".len()..end + "</t:Task>".len()]
    );
    let mut xml = Xml::new(item.as_bytes()).unwrap();
    xml.root().unwrap();
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    task_fields::read("Task", &mut xml, &zone)
        .unwrap()
        .into_item()
        .unwrap()
        .task
}

/// Runs every reader on an answer.
fn read_by_all(answer: &[u8]) {
    let zone = TimeZone::UTC;
    let _ = envelope::read(answer, "GetItemResponse", |xml| get_item::read(xml, 1, &zone));
    let _ = envelope::read(answer, "GetFolderResponse", |xml| get_folder::read(xml, 1));
    let _ = envelope::read(answer, "FindFolderResponse", |xml| find_folder::read(xml, 1));
    let _ = envelope::read(answer, "FindItemResponse", |xml| find_item::read(xml, 1));
    if let Ok(reply) = envelope::read(answer, "SyncFolderItemsResponse", sync_folder_items::read) {
        for page in reply.outcome.into_iter().flatten().flatten() {
            let _ = page.into_page();
        }
    }
    let _ = envelope::read(answer, "CreateItemResponse", create_item::read);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_task_is_written_well_formed_and_read_back(task in tasks(), link in proptest::option::of(text())) {
        let mailbox = ana();
        for header in headers(&mailbox) {
            let (key, web_link) = (key(), link.as_deref());
            let item = NewItem { key: &key, task: &task, web_link, write_id: "4f0c" };
            let request = create_item::request(&header, "folder", &item, &task.title);
            prop_assert_eq!(well_formed(&request), Ok(()));
            let back = read_back(&request);
            prop_assert!(normal_text(&task.title).starts_with(&back.title));
            prop_assert_eq!(back.start, task.start);
            prop_assert_eq!(back.due, task.due.max(task.start));
            prop_assert_eq!(back.importance, task.importance);
            prop_assert_eq!((back.actual_work, back.total_work), (task.actual_work, task.total_work));
            let item = ItemRef { id: "i".into(), change_key: "c".into() };
            let changes = ItemChanges { task: task.clone(), fields: FieldSet::ALL, write_id: task.title.clone() };
            prop_assert_eq!(well_formed(&update_item::request(&header, &item, &changes)), Ok(()));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_by_all(&bytes);
    }

    #[test]
    fn shuffled_pieces_of_answers_never_panic(pieces in proptest::collection::vec(0_usize..PIECES.len(), 0..60)) {
        let answer: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        read_by_all(answer.as_bytes());
        read_by_all(super::envelope(&answer).as_bytes());
    }

    #[test]
    fn an_answer_cut_anywhere_is_refused(at in 0_usize..2_000) {
        let complete = super::response("GetFolder", &[super::success("GetFolder", &super::folder("a", 1))]);
        // Without the last tag all content is present; the cut must still be noticed.
        let cut = complete.get(..at.min(complete.len() - 1)).unwrap_or_default();
        let read = envelope::read(cut.as_bytes(), "GetFolderResponse", |xml| get_folder::read(xml, 1));
        prop_assert!(read.is_err());
    }
}

const PIECES: &[&str] = &[
    "<s:Envelope>",
    "</s:Envelope>",
    "<s:Body>",
    "</s:Body>",
    "<s:Header>",
    "</s:Header>",
    "<s:Fault>",
    "</s:Fault>",
    "<m:GetItemResponse>",
    "</m:GetItemResponse>",
    "<m:GetFolderResponse>",
    "</m:GetFolderResponse>",
    "<m:SyncFolderItemsResponse>",
    "</m:SyncFolderItemsResponse>",
    "<m:ResponseMessages>",
    "</m:ResponseMessages>",
    "<m:GetItemResponseMessage ResponseClass='Success'>",
    "</m:GetItemResponseMessage>",
    "<m:SyncFolderItemsResponseMessage ResponseClass='Success'>",
    "</m:SyncFolderItemsResponseMessage>",
    "<m:ResponseCode>NoError</m:ResponseCode>",
    "<m:Items>",
    "</m:Items>",
    "<t:Task>",
    "</t:Task>",
    "<t:Task/>",
    "<t:ItemId Id='a' ChangeKey='b'/>",
    "<t:ItemId/>",
    "<m:Changes>",
    "</m:Changes>",
    "<t:Create>",
    "</t:Create>",
    "<t:DueDate>9999-12-31T23:59:59Z</t:DueDate>",
    "<t:DueDate>-9999-01-01T00:00:00Z</t:DueDate>",
    "<t:PercentComplete>NaN</t:PercentComplete>",
    "<t:Body BodyType='HTML'>&lt;p",
    "</t:Body>",
    "&#0;",
    "&bad;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?pi",
    "?>",
    "<!DOCTYPE a>",
    "text",
    " a='",
    "'>",
    "<t:ExtendedProperty>",
    "<t:ExtendedFieldURI PropertyTag='0x670A'/>",
    "<t:Value>1</t:Value>",
    "</t:ExtendedProperty>",
    "\u{0}",
    "é",
];
