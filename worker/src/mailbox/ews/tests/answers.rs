//! Answers in the many forms that servers use, and texts that are not answers.

use jiff::civil::date;
use jiff::tz::TimeZone;
use std::time::Duration;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::model::{BodyKind, Importance, Percent, Status};

use super::super::envelope::{self, SoapReply};
use super::super::paging::Paging;
use super::super::response_messages::ResponseMessage;
use super::super::xml::{BadAnswer, Parsed};
use super::super::{create_item, find_folder, find_item, folders, get_folder, get_item, sync_folder_items};
use super::{fault, folder, refusal, response, success};
use crate::http::service::Intent;
use crate::mailbox::{ItemChange, ItemRef, MailboxItem};

fn get_items(
    answer: &str,
    ids: &[&str],
) -> Parsed<Vec<ResponseMessage<Option<super::super::task_fields::ReadItem>>>> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    envelope::read(answer.as_bytes(), "GetItemResponse", |xml| {
        let messages = get_item::read(xml, ids.len(), &zone)?;
        if get_item::is_foreign(&messages, ids) {
            return Err(BadAnswer("another item".to_owned()));
        }
        Ok(messages)
    })
    .map(|reply| reply.outcome.unwrap())
}

fn get_one(item: &str) -> Result<MailboxItem, tasksync_common::error::Failure> {
    let answer = response(
        "GetItem",
        &[success("GetItem", &format!("<m:Items>{item}</m:Items>"))],
    );
    let mut messages = get_items(&answer, &["AAMkA="]).unwrap();
    messages.remove(0).unwrap().unwrap().into_item()
}

#[test]
fn a_task_is_read_whatever_the_order_of_its_parts() {
    let parts = [
        "<x:ItemId ChangeKey='EwAA' Id='AAMkA='/>",
        "<x:Subject>Order &amp; parts</x:Subject>",
        "<x:Sensitivity>Confidential</x:Sensitivity>",
        "<x:Body BodyType='HTML' IsTruncated='false'>&lt;html&gt;&lt;body&gt;&lt;script&gt;1&lt;/script&gt;&lt;p&gt;See&lt;/p&gt;&lt;/body&gt;&lt;/html&gt;</x:Body>",
        "<x:Categories><x:String>Red</x:String><x:String>Blue</x:String></x:Categories>",
        "<x:Importance>High</x:Importance>",
        "<x:DateTimeCreated>2026-11-20T08:00:00Z</x:DateTimeCreated>",
        "<x:LastModifiedTime>2026-11-22T15:00:00.5+01:00</x:LastModifiedTime>",
        "<x:Unknown><x:Subject>no</x:Subject></x:Unknown>",
        "<x:ExtendedProperty><x:Value>sp|1|2</x:Value><x:ExtendedFieldURI PropertyType='String' PropertyName='TaskSyncSourceKey' PropertySetId='7D0C8F4E-53B1-4B6E-9F0A-2C5A1E8B9D41'/></x:ExtendedProperty>",
        "<x:ExtendedProperty><x:ExtendedFieldURI PropertySetId='7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41' PropertyName='TaskSyncWriteId' PropertyType='String'/><x:Value>4f0c</x:Value></x:ExtendedProperty>",
        "<x:ActualWork>60</x:ActualWork><x:TotalWork>240</x:TotalWork>",
        "<x:CompleteDate>2026-11-22T10:00:00Z</x:CompleteDate>",
        "<x:DueDate>2026-12-03T23:00:00Z</x:DueDate><x:StartDate>2026-11-30T23:00:00.000Z</x:StartDate>",
        "<x:PercentComplete>33.333333</x:PercentComplete>",
        "<x:Status>Deferred</x:Status>",
        "<x:IsRecurring>false</x:IsRecurring>",
    ];
    for reversed in [false, true] {
        let mut parts = parts.to_vec();
        if reversed {
            parts.reverse();
        }
        let item = get_one(&format!("<x:Task xmlns:x='t'>{}</x:Task>", parts.concat())).unwrap();
        assert_eq!(
            item.item,
            ItemRef {
                id: "AAMkA=".into(),
                change_key: "EwAA".into()
            }
        );
        assert_eq!(item.marker.unwrap().key.as_str(), "sp|1|2");
        assert_eq!(item.write_id.as_deref(), Some("4f0c"));
        assert!(item.private && !item.recurring);
        assert_eq!(item.created.to_string(), "2026-11-20T08:00:00Z");
        assert_eq!(item.modified.to_string(), "2026-11-22T14:00:00.5Z");
        let task = item.task;
        assert_eq!(task.title, "Order & parts");
        let body = task.body.unwrap();
        assert_eq!((body.kind, body.content.as_str()), (BodyKind::Html, "<p>See</p>"));
        assert_eq!(
            (task.start, task.due),
            (Some(date(2026, 12, 1)), Some(date(2026, 12, 4)))
        );
        assert_eq!(
            (task.status, task.percent),
            (Status::Deferred, Percent::from_percent(33.33))
        );
        assert_eq!(task.importance, Importance::High);
        assert_eq!((task.actual_work, task.total_work), (Some(60), Some(240)));
        assert!(task.completed_at.is_some());
        assert_eq!(task.categories.len(), 2);
    }
}

#[test]
fn what_is_missing_stays_at_its_default() {
    let item = get_one("<t:Task><t:ItemId Id='AAMkA='/></t:Task>").unwrap();
    assert_eq!(item.task, tasksync_common::model::Task::default());
    assert_eq!((item.marker, item.item.change_key.as_str()), (None, ""));
    let empty = get_one(
        "<t:Task><t:ItemId Id='AAMkA='/><t:Body BodyType='HTML'>&lt;html&gt;&lt;body&gt; &amp;nbsp;&lt;/body&gt;&lt;/html&gt;</t:Body><t:DueDate/></t:Task>",
    );
    assert_eq!(empty.unwrap().task.body, None);
    let text = get_one(
        "<t:Task><t:ItemId Id='AAMkA='/><t:Body BodyType='Text'>a &lt;b&gt;&#13;\nc</t:Body></t:Task>",
    );
    let body = text.unwrap().task.body.unwrap();
    assert_eq!((body.kind, body.content.as_str()), (BodyKind::Text, "a <b>\nc"));
}

#[test]
fn an_item_that_cannot_be_read_is_refused_alone() {
    for wrong in [
        "<t:Message><t:ItemId Id='AAMkA='/></t:Message>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:DueDate>soon</t:DueDate></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:ActualWork>99999999999</t:ActualWork></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:Status>Dreaming</t:Status></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:PercentComplete>12,5</t:PercentComplete></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:PercentComplete>NaN</t:PercentComplete></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:PercentComplete>101</t:PercentComplete></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:Importance>Extreme</t:Importance></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:Sensitivity>Secret</t:Sensitivity></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:IsRecurring>perhaps</t:IsRecurring></t:Task>",
        "<t:Task><t:ItemId Id='AAMkA='/><t:Body BodyType='RTF'>x</t:Body></t:Task>",
        "<t:Task><t:Subject>an item without id</t:Subject></t:Task>",
    ] {
        let failure = get_one(wrong).unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Refused, Code::ExchangeItemRefused),
            "{wrong}"
        );
    }
    let recurring =
        get_one("<t:Task><t:ItemId Id='AAMkA='/><t:Recurrence><t:DailyRecurrence/></t:Recurrence></t:Task>");
    assert!(recurring.unwrap().recurring);
}

#[test]
fn an_answer_that_does_not_belong_to_its_request_is_refused() {
    let item = |id: &str| {
        success(
            "GetItem",
            &format!("<m:Items><t:Task><t:ItemId Id='{id}'/></t:Task></m:Items>"),
        )
    };
    assert!(get_items(&response("GetItem", &[item("a"), item("b")]), &["a", "b"]).is_ok());
    let wrong = [
        response("GetItem", &[item("a")]),
        response("GetItem", &[item("a"), item("b"), item("c")]),
        response("GetItem", &[item("b"), item("a")]),
        response("GetItem", &[item("a"), item("B")]),
        response("GetItem", &[item("a"), success("GetFolder", "")]),
        response("GetFolder", &[item("a"), item("b")]),
        response("GetItem", &[item("a"), "<m:GetItemResponseMessage/>".to_owned()]),
    ];
    for answer in wrong {
        assert!(get_items(&answer, &["a", "b"]).is_err(), "{answer}");
    }
}

#[test]
fn garbage_is_named() {
    let complete = response("GetItem", &[success("GetItem", "")]);
    let rows = [
        ("", "no XML"),
        ("Service unavailable", "XML"),
        ("<html><body>Sign in</body></html>", "SOAP envelope"),
        (
            "<!DOCTYPE html><html><body>Sign in</body></html>",
            "document type",
        ),
        (&complete[..complete.len() / 2], ""),
        ("<s:Envelope/>", "without body"),
        ("<s:Envelope><s:Body/></s:Envelope>", "empty"),
        (
            "<s:Envelope><s:Body><x/></s:Body></s:Envelope>",
            "x where GetItemResponse",
        ),
    ];
    for (answer, words) in rows {
        let reason = get_items(answer, &["a"]).unwrap_err().0;
        assert!(reason.contains(words), "{answer}: {reason}");
    }
    let deep = super::envelope(&"<a>".repeat(200));
    assert!(get_items(&deep, &["a"]).is_err());
}

#[test]
fn errors_are_read_in_both_places() {
    let busy = "<t:MessageXml xmlns:t='t'><t:Value Name='Policy'>ConcurrentSyncCalls</t:Value><t:Value Name='BackOffMilliseconds'>297749</t:Value></t:MessageXml>";
    let in_fault = envelope::read(
        fault("ErrorServerBusy", busy).as_bytes(),
        "GetItemResponse",
        |_| Ok(()),
    );
    let in_fault = in_fault.unwrap().outcome.unwrap_err();
    let message = refusal("SyncFolderItems", "ErrorServerBusy").replace(
        "</m:SyncFolderItemsResponseMessage>",
        &format!("{busy}<m:IncludesLastItemInRange>true</m:IncludesLastItemInRange></m:SyncFolderItemsResponseMessage>"),
    );
    let answer = response("SyncFolderItems", &[message]);
    let in_message = envelope::read(
        answer.as_bytes(),
        "SyncFolderItemsResponse",
        sync_folder_items::read,
    );
    let in_message = in_message.unwrap().outcome.unwrap().remove(0).unwrap_err();
    for error in [in_fault, in_message] {
        assert_eq!(error.code, "ErrorServerBusy");
        let failure = error.into_error(Intent::Write).failure;
        assert_eq!(
            failure.class,
            ErrorClass::Throttled {
                retry_after: Some(Duration::from_millis(297_749))
            }
        );
        assert!(failure.detail.contains("ConcurrentSyncCalls"), "{failure}");
    }
}

#[test]
fn a_back_off_of_nothing_is_left_to_the_callers_floor() {
    for value in ["0", "", "soon", "-5"] {
        let busy = format!(
            "<t:MessageXml xmlns:t='t'><t:Value Name='BackOffMilliseconds'>{value}</t:Value></t:MessageXml>"
        );
        let reply: SoapReply<()> = envelope::read(
            fault("ErrorServerBusy", &busy).as_bytes(),
            "GetItemResponse",
            |_| Ok(()),
        )
        .unwrap();
        assert_eq!(
            reply.outcome.unwrap_err().into_error(Intent::Read).failure.class,
            ErrorClass::Throttled { retry_after: None }
        );
    }
}

#[test]
fn a_fault_without_detail_is_named_by_its_code() {
    let bare =
        super::envelope("<s:Fault><faultcode>s:Client</faultcode><faultstring>no</faultstring></s:Fault>");
    let reply: SoapReply<()> = envelope::read(bare.as_bytes(), "GetItemResponse", |_| Ok(())).unwrap();
    let failure = reply.outcome.unwrap_err().into_error(Intent::Read).failure;
    assert_eq!(
        (failure.class, failure.code, failure.detail.as_str()),
        (ErrorClass::Transient, Code::ExchangeError, "Client: no")
    );
}

#[test]
fn an_error_names_the_property_to_blame() {
    let extra = "<t:MessageXml xmlns:t='t'><t:FieldURI FieldURI='task:PercentComplete'/></t:MessageXml>";
    let reply: SoapReply<()> = envelope::read(
        fault("ErrorInvalidPercentCompleteValue", extra).as_bytes(),
        "UpdateItemResponse",
        |_| Ok(()),
    )
    .unwrap();
    let failure = reply.outcome.unwrap_err().into_error(Intent::Write).failure;
    assert_eq!(failure.class, ErrorClass::Refused);
    assert!(failure.detail.contains("task:PercentComplete"), "{failure}");
}

#[test]
fn changes_of_tasks_are_read_and_others_passed_over() {
    let changes = "<m:SyncState> H4sIAAB= </m:SyncState><m:Changes>\
        <t:Create><t:Task><t:ItemId Id='a' ChangeKey='1'/><t:Subject>x</t:Subject></t:Task></t:Create>\
        <t:Update><t:Task><t:ItemId Id='b' ChangeKey='2'/></t:Task></t:Update>\
        <t:Create><t:Message><t:ItemId Id='m' ChangeKey='3'/></t:Message></t:Create>\
        <t:Delete><t:ItemId Id='c' ChangeKey='4'/></t:Delete>\
        <t:ReadFlagChange><t:ItemId Id='d' ChangeKey='5'/><t:IsRead>true</t:IsRead></t:ReadFlagChange>\
        </m:Changes><m:IncludesLastItemInRange>false</m:IncludesLastItemInRange>";
    let read = |payload: &str| {
        let answer = response("SyncFolderItems", &[success("SyncFolderItems", payload)]);
        let reply = envelope::read(
            answer.as_bytes(),
            "SyncFolderItemsResponse",
            sync_folder_items::read,
        )?;
        reply.outcome.unwrap().remove(0).unwrap().into_page()
    };
    let page = read(changes).unwrap();
    let item = |id: &str, version: &str| {
        ItemChange::Present(ItemRef {
            id: id.into(),
            change_key: version.into(),
        })
    };
    assert_eq!(
        page.changes,
        [
            item("a", "1"),
            item("b", "2"),
            ItemChange::Gone { id: "c".into() }
        ]
    );
    assert_eq!((page.cursor.as_str(), page.last), ("H4sIAAB=", false));
    let quiet = read(
        "<m:SyncState>s</m:SyncState><m:IncludesLastItemInRange>1</m:IncludesLastItemInRange><m:Changes/>",
    )
    .unwrap();
    assert!(quiet.last && quiet.changes.is_empty());
    assert!(read("<m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>").is_err());
    assert!(
        read("<m:SyncState>s</m:SyncState><m:IncludesLastItemInRange>yes</m:IncludesLastItemInRange>")
            .is_err()
    );
    assert!(
        read("<m:SyncState>s</m:SyncState><m:Changes><t:Create><t:Task/></t:Create></m:Changes>").is_err()
    );
}

#[test]
fn signs_of_change_are_read_and_missing_ones_are_no_signs() {
    let read = |payload: &str| {
        let answer = response("GetFolder", &[success("GetFolder", payload)]);
        let reply = envelope::read(answer.as_bytes(), "GetFolderResponse", |xml| {
            let messages = get_folder::read(xml, 1)?;
            if get_folder::is_foreign(&messages, &["a"]) {
                return Err(BadAnswer("another folder".to_owned()));
            }
            Ok(messages)
        })?;
        assert!(reply.version.unwrap().to_string().contains("15.2.2562.17"));
        let folder = reply.outcome.unwrap().remove(0).unwrap();
        Ok::<_, BadAnswer>(folder.and_then(|folder| folder.signs()))
    };
    let probe = read(&folder("a", 7)).unwrap().unwrap();
    assert_eq!(
        (probe.deletions, probe.latest_commit_us),
        (7, 1_795_356_000_000_000)
    );
    assert_eq!(read(&folder("a", 7).replace("0x670b", "0x0001")).unwrap(), None);
    assert_eq!(
        read(&folder("a", 7).replace("2026-11-22T14:00:00Z", "?")).unwrap(),
        None
    );
    assert!(read(&folder("b", 7)).is_err());
    // A success without a folder, or without its id, gives no signs.
    assert_eq!(read("").unwrap(), None);
    let nameless = folder("a", 7).replace("<t:FolderId Id=\"a\" ChangeKey=\"AQAA\"/>", "");
    assert_eq!(read(&nameless).unwrap(), None);
}

#[test]
fn a_listing_keeps_task_folders_and_their_markers() {
    let payload = "<m:RootFolder TotalItemsInView='4' IndexedPagingOffset='4' IncludesLastItemInRange='false'><t:Folders>\
        <t:TasksFolder><t:FolderId Id='a'/><t:DisplayName>A &amp; B</t:DisplayName><t:ExtendedProperty><t:ExtendedFieldURI PropertySetId='7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41' PropertyName='TaskSyncLocation' PropertyType='String'/><t:Value>sp|x</t:Value></t:ExtendedProperty></t:TasksFolder>\
        <t:Folder><t:FolderClass>IPF.Task</t:FolderClass><t:FolderId Id='b'/></t:Folder>\
        <t:Folder><t:FolderClass>IPF.Note</t:FolderClass><t:FolderId Id='c'/></t:Folder>\
        <t:SearchFolder><t:FolderId Id='d'/></t:SearchFolder></t:Folders></m:RootFolder>";
    let answer = response("FindFolder", &[success("FindFolder", payload)]);
    let reply = envelope::read(answer.as_bytes(), "FindFolderResponse", |xml| {
        find_folder::read(xml, 1)
    })
    .unwrap();
    let page = reply.outcome.unwrap().remove(0).unwrap();
    assert_eq!(page.folders.len(), 4);
    let next = Paging::new(4, 9).after(page.end, 4, true, "FindFolder").unwrap();
    assert_eq!(next.map(|next| next.offset), Some(4));
    let found: Vec<_> = page
        .folders
        .into_iter()
        .filter_map(folders::ReadFolder::into_folder)
        .collect();
    let summary: Vec<_> = found
        .iter()
        .map(|folder| {
            (
                folder.id.0.as_str(),
                folder.name.as_str(),
                folder.marker.is_some(),
            )
        })
        .collect();
    assert_eq!(summary, [("a", "A & B", true), ("b", "", false)]);
}

#[test]
fn found_and_created_items_are_read() {
    let payload = "<m:RootFolder IncludesLastItemInRange='true'><t:Items><t:Task><t:DateTimeCreated>2026-11-22T14:00:00Z</t:DateTimeCreated><t:ItemId Id='a' ChangeKey='1'/></t:Task><t:Message/></t:Items></m:RootFolder>";
    let answer = response("FindItem", &[success("FindItem", payload)]);
    let reply = envelope::read(answer.as_bytes(), "FindItemResponse", |xml| {
        find_item::read(xml, 1)
    })
    .unwrap();
    let page = reply.outcome.unwrap().remove(0).unwrap();
    assert!(page.items.len() == 1 && page.items[0].created.is_some());
    assert_eq!(Paging::new(1, 9).after(page.end, 1, true, "FindItem"), Ok(None));
    let payload = "<m:Items><t:Task><t:ItemId Id='n' ChangeKey='1'/></t:Task></m:Items>";
    let answer = response("CreateItem", &[success("CreateItem", payload)]);
    let reply = envelope::read(answer.as_bytes(), "CreateItemResponse", create_item::read).unwrap();
    assert_eq!(reply.outcome.unwrap().remove(0).unwrap().unwrap().id, "n");
}
