//! The request loop and the operations against a server with prepared answers.

use std::time::Duration;

use jiff::SignedDuration;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::model::{Field, FieldSet, Task};
use tasksync_common::registry::Access;

use super::probing::folders_by;
use super::rig::{Canned, Rig, ask, impersonates, ok, owner};
use super::{fault, folder, listing, location, own_folders, refusal, response, success};
use crate::mailbox::{FolderId, ItemChanges, ItemRef, Mailbox as _, NewItem};

#[tokio::test]
async fn when_neither_way_is_open_it_is_the_mailbox_not_the_tenant() {
    let rig = Rig::new(Access::Auto, |request| {
        if impersonates(request) {
            (500, String::new(), fault("ErrorImpersonationDenied", ""))
        } else {
            let gone = refusal("GetFolder", "ErrorFolderNotFound");
            ok(response("GetFolder", &[gone.clone(), gone]))
        }
    })
    .await;
    let failure = rig.mailbox.folders(&owner("ana")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::ExchangeMailboxDenied)
    );
    assert!(
        failure.detail.contains("ErrorFolderNotFound") && failure.detail.contains("ErrorImpersonationDenied"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_pause_is_kept_to_the_millisecond_and_shared() {
    let rig = Rig::new(Access::Impersonation, |request| {
        // With quotes, because a request's random id may contain the letters.
        if request.contains("\"f0\"") {
            let busy =
                "<t:MessageXml xmlns:t='t'><t:Value Name='BackOffMilliseconds'>5000</t:Value></t:MessageXml>";
            (500, String::new(), fault("ErrorServerBusy", busy))
        } else {
            folders_by(request, |_| None)
        }
    })
    .await;
    let class = |left| ErrorClass::Throttled {
        retry_after: Some(Duration::from_millis(left)),
    };
    let probe = async |id: &str| rig.mailbox.probe(&[ask("ana", &[id])]).await.remove(0);
    assert_eq!(probe("f0").await.unwrap_err().class, class(5_000));
    rig.clock.advance(SignedDuration::from_millis(4_999));
    let failure = probe("f1").await.unwrap_err();
    assert_eq!(failure.class, class(1));
    assert_eq!(rig.count(), 1);
    assert!(rig.server.check().is_err());
    rig.clock.advance(SignedDuration::from_millis(1));
    assert!(probe("f1").await.is_ok());
    assert_eq!(rig.count(), 2);
}

#[tokio::test]
async fn refused_credentials_are_the_tenants_and_basic_is_not_tried_twice() {
    let rig = Rig::new(Access::Delegate, |_| (401, String::new(), String::new())).await;
    let failure = rig.mailbox.folders(&owner("ana")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::ExchangeSignInRefused)
    );
    assert_eq!(rig.count(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_for_writes_only() {
    let rig = Rig::new(Access::Delegate, |_| (0, String::new(), String::new())).await;
    let (owner, item) = (
        owner("ana"),
        ItemRef {
            id: "i".into(),
            change_key: "c".into(),
        },
    );
    assert_eq!(
        rig.mailbox.folders(&owner).await.unwrap_err().class,
        ErrorClass::Transient
    );
    let new = NewItem {
        key: &location().task(1),
        task: &Task::default(),
        web_link: None,
        write_id: "4f0c",
    };
    let created = rig.mailbox.create(&owner, &FolderId("f".into()), &new).await;
    assert_eq!(created.unwrap_err().class, ErrorClass::OutcomeUnknown);
    assert_eq!(
        rig.mailbox.delete(&owner, &item).await.unwrap_err().class,
        ErrorClass::OutcomeUnknown
    );
}

#[tokio::test]
async fn a_page_instead_of_an_answer_is_described() {
    let rig = Rig::new(Access::Delegate, |_| {
        (
            200,
            "content-type: text/html\r\n".to_owned(),
            "<html><body>Please sign in".to_owned(),
        )
    })
    .await;
    let failure = rig.mailbox.folders(&owner("ana")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::ExchangeBadAnswer)
    );
    assert!(
        failure.detail.contains("text/html") && failure.detail.contains("Please sign in"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_taken_folder_name_is_adopted_or_numbered() {
    for is_ours in [true, false] {
        let rig = Rig::new(Access::Impersonation, move |request| {
            if request.contains("<m:FindFolder") {
                let marker = if is_ours {
                    location().to_string()
                } else {
                    "sp|other".to_owned()
                };
                let folder = format!(
                    "<t:TasksFolder><t:FolderId Id='old'/><t:ExtendedProperty><t:ExtendedFieldURI \
                     PropertySetId='7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41' PropertyName='TaskSyncLocation'/>\
                     <t:Value>{marker}</t:Value></t:ExtendedProperty></t:TasksFolder>"
                );
                return ok(listing(&folder, "IncludesLastItemInRange='true'"));
            }
            if request.contains("<t:FolderId Id=\"new\"/>") {
                let folder = "<m:Folders><t:TasksFolder><t:FolderId Id='new'/><t:ParentFolderId Id='tasks'/></t:TasksFolder></m:Folders>";
                return ok(response("GetFolder", &[success("GetFolder", folder)]));
            }
            if request.contains("<m:GetFolder>") {
                return ok(own_folders());
            }
            if request.contains("<t:DisplayName>Tasks (3)</t:DisplayName>") {
                return ok(response(
                    "CreateFolder",
                    &[success(
                        "CreateFolder",
                        "<m:Folders><t:TasksFolder><t:FolderId Id='new'/></t:TasksFolder></m:Folders>",
                    )],
                ));
            }
            ok(response(
                "CreateFolder",
                &[refusal("CreateFolder", "ErrorFolderExists")],
            ))
        })
        .await;
        let id = rig
            .mailbox
            .create_folder(&owner("ana"), "Tasks", &location())
            .await
            .unwrap();
        assert_eq!(id.0, if is_ours { "old" } else { "new" });
        assert_eq!(rig.count(), if is_ours { 3 } else { 6 });
    }
}

#[tokio::test]
async fn a_listing_without_end_is_refused() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<m:GetFolder>") {
            return ok(own_folders());
        }
        let id = request
            .split("Offset=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let page = format!(
            "<m:RootFolder IncludesLastItemInRange='false'><t:Folders><t:TasksFolder><t:FolderId Id='f{id}'/>\
             </t:TasksFolder></t:Folders></m:RootFolder>"
        );
        let roots = request.matches("<t:DistinguishedFolderId").count();
        ok(response("FindFolder", &vec![success("FindFolder", &page); roots]))
    })
    .await;
    let failure = rig.mailbox.folders(&owner("ana")).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Transient);
    // One request for the mailbox's own folders, one for the first page of both listings, and 39 more for
    // each.
    assert_eq!(rig.count(), 80);
}

/// Answers a `GetItem` with a code per item; `None` is a success.
fn items_by(request: &str, code: impl Fn(&str) -> Option<&'static str>) -> Canned {
    let messages: Vec<String> = request
        .split("<t:ItemId Id=\"")
        .skip(1)
        .map(|rest| {
            let id = &rest[..rest.find('"').unwrap()];
            match code(id) {
                Some(code) => refusal("GetItem", code),
                None => success(
                    "GetItem",
                    &format!(
                        "<m:Items><t:Task><t:ItemId Id='{id}'/><t:Subject>{id}</t:Subject></t:Task></m:Items>"
                    ),
                ),
            }
        })
        .collect();
    ok(response("GetItem", &messages))
}

#[tokio::test]
async fn batches_shrink_when_the_server_is_too_slow() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.matches("<t:ItemId ").count() > 3 {
            (500, String::new(), fault("ErrorTimeoutExpired", ""))
        } else {
            items_by(request, |id| (id == "i4").then_some("ErrorItemNotFound"))
        }
    })
    .await;
    let ids: Vec<String> = (0..12).map(|number| format!("i{number}")).collect();
    let items = rig.mailbox.items(&owner("ana"), &ids).await.unwrap();
    for (id, item) in ids.iter().zip(&items) {
        match item {
            Ok(item) => assert_eq!(&item.task.title, id),
            Err(failure) => {
                assert_eq!((id.as_str(), failure.class), ("i4", ErrorClass::Gone));
            }
        }
    }
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
}

#[tokio::test]
async fn one_closed_item_does_not_close_the_mailbox() {
    let rig = Rig::new(Access::Delegate, |request| {
        let first_closed = request.find("\"i0\"").is_some();
        items_by(request, |id| match id {
            "i0" => Some("ErrorAccessDenied"),
            _ if first_closed => Some("ErrorBatchProcessingStopped"),
            _ => None,
        })
    })
    .await;
    let ids: Vec<String> = (0..3).map(|number| format!("i{number}")).collect();
    let items = rig.mailbox.items(&owner("ana"), &ids).await.unwrap();
    assert_eq!(items[0].as_ref().unwrap_err().class, ErrorClass::Refused);
    assert!(items[1].is_ok() && items[2].is_ok());

    let closed = Rig::new(Access::Delegate, |request| {
        items_by(request, |_| Some("ErrorAccessDenied"))
    })
    .await;
    let failure = closed.mailbox.items(&owner("ana"), &ids).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Refused);
}

#[tokio::test]
async fn writes_are_conditional_and_what_is_gone_needs_no_deletion() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<m:UpdateItem") {
            ok(response(
                "UpdateItem",
                &[refusal("UpdateItem", "ErrorIrresolvableConflict")],
            ))
        } else if request.contains("<m:DeleteItem") {
            ok(response(
                "DeleteItem",
                &[refusal("DeleteItem", "ErrorItemNotFound")],
            ))
        } else {
            ok(response(
                "DeleteFolder",
                &[refusal("DeleteFolder", "ErrorFolderNotFound")],
            ))
        }
    })
    .await;
    let (owner, item) = (
        owner("ana"),
        ItemRef {
            id: "i".into(),
            change_key: "c".into(),
        },
    );
    let mut changes = ItemChanges {
        task: Task::default(),
        fields: FieldSet::EMPTY,
        write_id: "4f0c".to_owned(),
    };
    assert_eq!(rig.mailbox.update(&owner, &item, &changes).await.unwrap(), item);
    assert_eq!(rig.count(), 0);
    changes.fields = FieldSet::of(&[Field::Title]);
    let failure = rig.mailbox.update(&owner, &item, &changes).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Conflict, Code::ExchangeConflict)
    );
    assert!(rig.last().contains("ConflictResolution=\"NeverOverwrite\""));
    assert!(rig.last().contains("<t:ItemId Id=\"i\" ChangeKey=\"c\"/>"));
    rig.mailbox.delete(&owner, &item).await.unwrap();
}

#[tokio::test]
async fn items_are_found_oldest_first_and_only_with_exactly_this_key() {
    let rig = Rig::new(Access::Delegate, |_| {
        let item = |id: &str, created: &str, key: &str| {
            format!(
                "<t:Task><t:ItemId Id='{id}' ChangeKey='1'/><t:DateTimeCreated>{created}</t:DateTimeCreated><t:ExtendedProperty>\
                 <t:ExtendedFieldURI PropertySetId='7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41' PropertyName='TaskSyncSourceKey'/>\
                 <t:Value>{key}</t:Value></t:ExtendedProperty></t:Task>"
            )
        };
        let page = |items: String| {
            success(
                "FindItem",
                &format!("<m:RootFolder IncludesLastItemInRange='true'><t:Items>{items}</t:Items></m:RootFolder>"),
            )
        };
        let key = location().task(17);
        ok(response(
            "FindItem",
            &[
                page(item("young", "2026-11-22T00:00:00Z", key.as_str())),
                refusal("FindItem", "ErrorFolderNotFound"),
                page(
                    item("old", "2026-11-20T00:00:00Z", key.as_str())
                        + &item("other", "2026-11-01T00:00:00Z", "SP|X|17"),
                ),
            ],
        ))
    })
    .await;
    let folders = ["a", "b", "c"].map(|id| FolderId(id.to_owned()));
    let found = rig
        .mailbox
        .find(&owner("ana"), &folders, &location().task(17))
        .await
        .unwrap();
    let ids: Vec<&str> = found.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["old", "young"]);
}

#[tokio::test]
async fn a_lost_folder_and_a_refused_cursor_are_distinguished() {
    let rig = Rig::new(Access::Delegate, |request| {
        let code = if request.contains("SyncState") {
            "ErrorInvalidSyncStateData"
        } else {
            "ErrorItemNotFound"
        };
        ok(response("SyncFolderItems", &[refusal("SyncFolderItems", code)]))
    })
    .await;
    let folder = FolderId("f".into());
    let lost = rig
        .mailbox
        .changes(&owner("ana"), &folder, None)
        .await
        .unwrap_err();
    assert_eq!(
        (lost.class, lost.code),
        (ErrorClass::Gone, Code::ExchangeFolderGone)
    );
    let refused = rig
        .mailbox
        .changes(&owner("ana"), &folder, Some("x"))
        .await
        .unwrap_err();
    assert_eq!(refused.class, ErrorClass::CursorInvalid);
}

#[tokio::test]
async fn the_doctor_learns_version_access_and_clock() {
    let rig = Rig::new(Access::Auto, |request| {
        let body = if impersonates(request) {
            response("GetFolder", &[success("GetFolder", &folder("tasks", 1))])
        } else {
            response("GetFolder", &[refusal("GetFolder", "ErrorAccessDenied")])
        };
        (200, "date: Sun, 22 Nov 2026 14:00:30 GMT\r\n".to_owned(), body)
    })
    .await;
    let facts = rig.mailbox.check(&owner("ana")).await.unwrap();
    assert_eq!(
        facts.version,
        "Exchange Server Subscription Edition (15.2.2562.17)"
    );
    assert_eq!(
        (
            facts.access.as_str(),
            facts.shares_requests,
            facts.clock_offset.map(|offset| offset.as_millis()),
            facts.idle_check
        ),
        ("impersonation", false, Some(30_000), true)
    );
    assert_eq!(rig.mailbox.clock_offset(), Some(SignedDuration::from_secs(30)));
}
