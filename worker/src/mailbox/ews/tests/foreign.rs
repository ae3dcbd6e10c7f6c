//! Answers that belong to another request or to another person are refused, and nothing in them is used.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{FieldSet, Task};
use tasksync_common::registry::Access;

use super::optional::{answer, folder, task};
use super::rig::{Rig, ask, ok, owner};
use super::{envelope, listing, own_folders};
use crate::mailbox::{
    FolderId, FolderPresence, ItemChanges, ItemRef, Mailbox as _, MarkedFor, Probed, Whereabouts,
};

const PAGE: &str = "IncludesLastItemInRange=\"true\"";

/// Returns the answer of another person's mailbox to the same operation. Everything in it has the mark `ben`.
fn answer_of_ben(request: &str) -> String {
    let folders = format!("<m:Folders>{}</m:Folders>", folder("ben", 2));
    let item = task("ben", 22).replace("folder-a", "folder-ben");
    let asks = |operation: &str| request.contains(&format!("<m:{operation}"));
    if asks("GetFolder") && request.contains("<t:DistinguishedFolderId") {
        return own_folders();
    }
    envelope(&if asks("GetFolder") {
        answer("GetFolder", &[folders])
    } else if asks("FindFolder") {
        let page = format!(
            "<m:RootFolder {PAGE}><t:Folders>{}</t:Folders></m:RootFolder>",
            folder("ben", 2)
        );
        answer("FindFolder", &[page.clone(), page])
    } else if asks("CreateFolder") {
        answer("CreateFolder", &[folders])
    } else if asks("UpdateFolder") {
        answer("UpdateFolder", &[folders])
    } else if asks("SyncFolderItems") {
        let changes = format!(
            "<m:SyncState>state-ben</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>\
             <m:Changes><t:Create>{item}</t:Create></m:Changes>"
        );
        answer("SyncFolderItems", &[changes])
    } else if asks("GetItem") {
        answer("GetItem", &[format!("<m:Items>{item}</m:Items>")])
    } else if asks("FindItem") {
        let count = request.matches("FolderId Id=").count();
        let page = format!("<m:RootFolder {PAGE}><t:Items>{item}</t:Items></m:RootFolder>");
        answer("FindItem", &vec![page; count])
    } else {
        answer("UpdateItem", &[format!("<m:Items>{item}</m:Items>")])
    })
}

fn assert_foreign<T: std::fmt::Debug>(answer: Result<T, Failure>) {
    let failure = answer.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::ExchangeForeignAnswer)
    );
}

#[tokio::test]
async fn the_answer_of_another_mailbox_is_refused_by_every_operation() {
    let rig = Rig::new(Access::Delegate, |request| ok(answer_of_ben(request))).await;
    let (mailbox, ana) = (&rig.mailbox, owner("ana"));
    let (folder, id) = (FolderId("folder-ana".to_owned()), "item-ana".to_owned());
    assert_foreign(mailbox.probe(&[ask("ana", &["folder-ana"])]).await.remove(0));
    assert_foreign(mailbox.folders(&ana).await);
    assert_foreign(mailbox.changes(&ana, &folder, Some("state-ana")).await);
    assert_foreign(mailbox.items(&ana, std::slice::from_ref(&id)).await);
    assert_foreign(mailbox.whereabouts(&ana, std::slice::from_ref(&id)).await);
    assert_foreign(mailbox.folders_exist(&ana, std::slice::from_ref(&folder)).await);
    assert_foreign(
        mailbox
            .find(&ana, std::slice::from_ref(&folder), &super::key())
            .await,
    );
    assert_foreign(mailbox.list_deleted(&ana).await);
    // The mailbox's own folders were forgotten, and are requested again.
    assert_foreign(mailbox.whereabouts(&ana, std::slice::from_ref(&id)).await);
    assert_foreign(mailbox.list_marked(&ana, &[]).await);
    // If a write's answer is about another item, the outcome for ours is unknown.
    let item = ItemRef {
        id,
        change_key: "c".to_owned(),
    };
    let changes = ItemChanges {
        task: Task::default(),
        fields: FieldSet::ALL,
        write_id: "w".to_owned(),
    };
    for failure in [
        mailbox.update(&ana, &item, &changes).await.unwrap_err(),
        mailbox.disown(&ana, &item).await.unwrap_err(),
        mailbox.rename_folder(&ana, &folder, "name").await.unwrap_err(),
        mailbox
            .create_folder(&ana, "name", &super::location())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::OutcomeUnknown, Code::ExchangeForeignAnswer)
        );
    }
}

#[tokio::test]
async fn two_folders_of_a_mailbox_with_one_id_are_another_requests() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<m:GetFolder>") {
            return ok(own_folders().replace("\"deleted\"", "\"tasks\""));
        }
        ok(listing("", PAGE))
    })
    .await;
    assert_foreign(rig.mailbox.folders(&owner("ana")).await);
}

/// A folder id that the server never issued names nothing: the folder is found by its marker, or created
/// again.
#[tokio::test]
async fn what_an_invented_id_names_is_gone_by_every_reading() {
    let rig = Rig::new(Access::Impersonation, |request| {
        let asks = |operation: &str| request.contains(&format!("<m:{operation}"));
        if asks("GetFolder") && request.contains("<t:DistinguishedFolderId") {
            return ok(own_folders());
        }
        let operation = ["GetFolder", "GetItem", "SyncFolderItems"]
            .into_iter()
            .find(|operation| asks(operation))
            .unwrap();
        ok(super::response(
            operation,
            &[super::refusal(operation, "ErrorInvalidIdMalformed")],
        ))
    })
    .await;
    let (mailbox, ana) = (&rig.mailbox, owner("ana"));
    let folder = FolderId("invented".to_owned());
    let probed = mailbox.probe(&[ask("ana", &["invented"])]).await.remove(0);
    assert_eq!(probed.unwrap(), [Probed::Gone]);
    let changes = mailbox.changes(&ana, &folder, None).await.unwrap_err();
    assert_eq!(
        (changes.class, changes.code),
        (ErrorClass::Gone, Code::ExchangeFolderGone)
    );
    let exist = mailbox.folders_exist(&ana, &[folder]).await.unwrap();
    assert_eq!(exist, [Ok(FolderPresence::NotFound)]);
    let whereabouts = mailbox.whereabouts(&ana, &["invented".to_owned()]).await.unwrap();
    assert_eq!(whereabouts, [Ok(Whereabouts::NotFound)]);
}

#[tokio::test]
async fn an_update_that_leaves_the_version_as_it_was_is_not_done() {
    let rig = Rig::new(Access::Delegate, |_| {
        let shown = "<m:Items><t:Task><t:ItemId Id=\"a\" ChangeKey=\"old\"/></t:Task></m:Items>";
        ok(super::response(
            "UpdateItem",
            &[super::success("UpdateItem", shown)],
        ))
    })
    .await;
    let item = ItemRef {
        id: "a".to_owned(),
        change_key: "old".to_owned(),
    };
    let changes = ItemChanges {
        task: Task::default(),
        fields: FieldSet::ALL,
        write_id: "w".to_owned(),
    };
    let ana = owner("ana");
    let updated = rig.mailbox.update(&ana, &item, &changes).await.unwrap_err();
    assert_eq!(updated.class, ErrorClass::OutcomeUnknown);
    let disowned = rig.mailbox.disown(&ana, &item).await.unwrap_err();
    assert_eq!(disowned.class, ErrorClass::OutcomeUnknown);
    let completed = rig.mailbox.complete_item_markers(&ana, &[item]).await.unwrap();
    assert_eq!(
        completed[0].as_ref().unwrap_err().class,
        ErrorClass::OutcomeUnknown
    );
}

/// Returns an owner property with this text.
fn owned_by(text: &str) -> String {
    format!(
        "<t:ExtendedProperty><t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\" \
         PropertyName=\"TaskSyncOwner\" PropertyType=\"String\"/><t:Value>{text}</t:Value></t:ExtendedProperty>"
    )
}

#[tokio::test]
async fn markers_are_written_with_their_owner_and_read_back_by_every_operation() {
    let ana = owner("ana");
    let ben = ana.marker.to_string().replace("/ana", "/ben");
    let rows = [
        (String::new(), MarkedFor::Unnamed),
        (
            owned_by(&ana.marker.to_string()),
            MarkedFor::Owner(ana.marker.clone()),
        ),
        (owned_by(&ben), MarkedFor::Owner(ben.parse().unwrap())),
        (owned_by("me"), MarkedFor::Unreadable("me".to_owned())),
    ];
    for (property, expected) in rows {
        let served = property.clone();
        let rig = Rig::new(Access::Delegate, move |request| {
            let folder = folder("a", 1).replace("</t:DisplayName>", &format!("</t:DisplayName>{served}"));
            let item = task("a", 1).replace("</t:DateTimeCreated>", &format!("</t:DateTimeCreated>{served}"));
            if request.contains("<m:GetFolder>") {
                return ok(own_folders());
            }
            ok(if request.contains("<m:FindFolder ") {
                listing(&folder, PAGE)
            } else if request.contains("<m:FindItem ") {
                let page = format!("<m:RootFolder {PAGE}><t:Items>{item}</t:Items></m:RootFolder>");
                envelope(&answer("FindItem", &[page]))
            } else {
                envelope(&answer("GetItem", &[format!("<m:Items>{item}</m:Items>")]))
            })
        })
        .await;
        let folders = rig.mailbox.folders(&ana).await.unwrap();
        let marker = folders[0].marker.clone().unwrap();
        assert_eq!(
            (marker.key.as_str(), &marker.marked_for),
            ("sp|list-a", &expected)
        );
        let items = rig.mailbox.items(&ana, &["item-a".to_owned()]).await.unwrap();
        let marker = items[0].clone().unwrap().marker.unwrap();
        assert_eq!(
            (marker.key.as_str(), &marker.marked_for),
            ("sp|list-a|1", &expected)
        );
        let folder = [FolderId("folder-a".to_owned())];
        let found = rig.mailbox.find(&ana, &folder, &marker.key).await.unwrap();
        assert_eq!(found.is_empty(), !marker.may_be_of(&ana.marker), "{expected:?}");
        let deleted = rig.mailbox.list_deleted(&ana).await;
        assert_eq!(
            deleted.unwrap_err().code,
            Code::ExchangeForeignAnswer,
            "in folder-a"
        );
    }
}

#[tokio::test]
async fn markers_of_earlier_builds_are_completed_together_and_each_on_proof() {
    let ana = owner("ana");
    let rig = Rig::new(Access::Delegate, |request| {
        let shown = |id: &str| {
            format!("<m:Items><t:Task><t:ItemId Id=\"{id}\" ChangeKey=\"new\"/></t:Task></m:Items>")
        };
        ok(if request.contains("<m:UpdateItem ") {
            super::response(
                "UpdateItem",
                &[
                    super::success("UpdateItem", &shown("a")),
                    super::refusal("UpdateItem", "ErrorIrresolvableConflict"),
                    super::success("UpdateItem", "<m:Items/>"),
                ],
            )
        } else {
            envelope(&answer(
                "UpdateFolder",
                &[
                    format!("<m:Folders>{}</m:Folders>", folder("a", 1)),
                    String::new(),
                ],
            ))
        })
    })
    .await;
    let items = ["a", "b", "c"].map(|id| ItemRef {
        id: id.to_owned(),
        change_key: "old".to_owned(),
    });
    let written = rig.mailbox.complete_item_markers(&ana, &items).await.unwrap();
    assert_eq!(written[0].as_ref().unwrap().change_key, "new");
    assert_eq!(written[1].as_ref().unwrap_err().class, ErrorClass::Conflict);
    assert_eq!(written[2].as_ref().unwrap_err().class, ErrorClass::OutcomeUnknown);
    assert_eq!(rig.count(), 1);
    let request = rig.last();
    assert_eq!(
        request
            .matches(&format!("<t:Value>{}</t:Value>", ana.marker))
            .count(),
        3
    );
    assert!(request.contains("ConflictResolution=\"NeverOverwrite\""));
    assert!(
        !request.contains("TaskSyncSourceKey"),
        "searches by key see what they always saw"
    );
    let folders = ["folder-a", "folder-b"].map(|id| FolderId(id.to_owned()));
    let written = rig.mailbox.complete_folder_markers(&ana, &folders).await.unwrap();
    assert!(written[0].is_ok());
    assert_eq!(written[1].as_ref().unwrap_err().class, ErrorClass::OutcomeUnknown);
}

/// Returns a server that answers `GetFolder` with this folder, and other requests with `written`.
async fn rig_showing(folder: String, operation: &'static str, written: String) -> Rig {
    Rig::new(Access::Delegate, move |request| {
        if request.contains("<t:DistinguishedFolderId") && request.contains("<m:GetFolder>") {
            return ok(own_folders());
        }
        let (operation, shown) = if request.contains("<m:GetFolder>") {
            ("GetFolder", &folder)
        } else {
            (operation, &written)
        };
        let payload = format!("<m:Folders>{shown}</m:Folders>");
        ok(super::response(operation, &[super::success(operation, &payload)]))
    })
    .await
}

fn task_folder(id: &str, rest: &str) -> String {
    format!("<t:TasksFolder><t:FolderId Id=\"{id}\"/>{rest}</t:TasksFolder>")
}

#[tokio::test]
async fn a_new_folder_counts_when_it_is_read_back_below_the_mailboxs_own() {
    let below = |parent: &str| format!("<t:ParentFolderId Id=\"{parent}\"/>");
    for (shown, proves) in [
        (task_folder("new", &below("tasks")), true),
        (task_folder("new", &below("bens")), false),
        (task_folder("other", &below("tasks")), false),
        (task_folder("new", ""), false),
    ] {
        let rig = rig_showing(shown.clone(), "CreateFolder", task_folder("new", "")).await;
        let made = rig
            .mailbox
            .create_folder(&owner("ana"), "name", &super::location())
            .await;
        match (made, proves) {
            (Ok(id), true) => assert_eq!(id.0, "new"),
            (Err(failure), false) => assert_eq!(failure.class, ErrorClass::OutcomeUnknown, "{shown}"),
            (made, _) => panic!("{shown}: {made:?}"),
        }
    }
}

#[tokio::test]
async fn a_folder_is_renamed_when_it_shows_its_new_name() {
    let named = |name: &str| format!("<t:DisplayName>{name}</t:DisplayName>");
    for (shown, proves) in [
        (task_folder("f", &named("new")), true),
        (task_folder("f", &named("old")), false),
        (task_folder("other", &named("new")), false),
    ] {
        let rig = rig_showing(shown.clone(), "UpdateFolder", task_folder("f", "")).await;
        let folder = FolderId("f".to_owned());
        let renamed = rig.mailbox.rename_folder(&owner("ana"), &folder, "new").await;
        assert_eq!(renamed.is_ok(), proves, "{shown}");
        if let Err(failure) = renamed {
            assert_eq!(failure.class, ErrorClass::OutcomeUnknown);
        }
    }
}

#[tokio::test]
async fn markers_that_were_completed_elsewhere_are_not_ours() {
    let item = "<m:Items><t:Task><t:ItemId Id=\"b\" ChangeKey=\"new\"/></t:Task></m:Items>";
    let rig = Rig::new(Access::Delegate, move |request| {
        ok(if request.contains("<m:UpdateItem ") {
            super::response("UpdateItem", &[super::success("UpdateItem", item)])
        } else {
            let folder = format!("<m:Folders>{}</m:Folders>", task_folder("g", ""));
            super::response("UpdateFolder", &[super::success("UpdateFolder", &folder)])
        })
    })
    .await;
    let ana = owner("ana");
    let items = [ItemRef {
        id: "a".to_owned(),
        change_key: "old".to_owned(),
    }];
    let items = rig.mailbox.complete_item_markers(&ana, &items).await.unwrap_err();
    let folders = [FolderId("f".to_owned())];
    let folders = rig
        .mailbox
        .complete_folder_markers(&ana, &folders)
        .await
        .unwrap_err();
    for failure in [items, folders] {
        assert_eq!(failure.code, Code::ExchangeForeignAnswer);
    }
}

#[tokio::test]
async fn a_folder_with_our_name_and_another_owners_marker_is_not_adopted() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<m:FindFolder ") {
            let bens = owner("ana").marker.to_string().replace("/ana", "/ben");
            let location =
                owned_by(&super::location().to_string()).replace("TaskSyncOwner", "TaskSyncLocation");
            return ok(listing(
                &task_folder("bens", &format!("{location}{}", owned_by(&bens))),
                PAGE,
            ));
        }
        if request.contains("<m:GetFolder>") {
            let below = "<t:ParentFolderId Id=\"tasks\"/>";
            let new = format!("<m:Folders>{}</m:Folders>", task_folder("new", below));
            let is_new = request.contains("<t:FolderId Id=\"new\"/>");
            return ok(if is_new {
                super::response("GetFolder", &[super::success("GetFolder", &new)])
            } else {
                own_folders()
            });
        }
        let made = format!("<m:Folders>{}</m:Folders>", task_folder("new", ""));
        ok(super::response(
            "CreateFolder",
            &[if request.contains("<t:DisplayName>Tasks (2)</t:DisplayName>") {
                super::success("CreateFolder", &made)
            } else {
                super::refusal("CreateFolder", "ErrorFolderExists")
            }],
        ))
    })
    .await;
    let made = rig
        .mailbox
        .create_folder(&owner("ana"), "Tasks", &super::location())
        .await;
    assert_eq!(made.unwrap().0, "new");
}

/// An answer without an id says neither that the object exists nor that it is gone.
#[tokio::test]
async fn what_bears_no_id_is_neither_there_nor_gone() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<t:DistinguishedFolderId") {
            return ok(own_folders());
        }
        let parent = "<t:ParentFolderId Id=\"tasks\"/>";
        ok(if request.contains("<m:GetFolder>") {
            let folder = format!("<m:Folders><t:TasksFolder>{parent}</t:TasksFolder></m:Folders>");
            super::response("GetFolder", &[super::success("GetFolder", &folder)])
        } else {
            let item = format!("<m:Items><t:Task>{parent}</t:Task></m:Items>");
            super::response("GetItem", &[super::success("GetItem", &item)])
        })
    })
    .await;
    let ana = owner("ana");
    let items = rig.mailbox.whereabouts(&ana, &["a".to_owned()]).await.unwrap();
    assert_eq!(items[0].as_ref().unwrap_err().class, ErrorClass::Transient);
    let folders = [FolderId("f".to_owned())];
    let folders = rig.mailbox.folders_exist(&ana, &folders).await.unwrap();
    assert_eq!(folders[0].as_ref().unwrap_err().class, ErrorClass::Transient);
}
