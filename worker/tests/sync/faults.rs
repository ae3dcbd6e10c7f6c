//! Faulty servers. Whatever they do, both sides agree afterwards, and nothing is lost or duplicated.

use std::time::Duration;

use jiff::SignedDuration;
use tasksync_common::error::ErrorClass;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit};
use tasksync_loadtest::sim::answers::Tamper;
use tasksync_loadtest::sim::faults::{Aim, Fault};
use tasksync_loadtest::trial::Farm;

use crate::rig::{Rig, Spec};

/// Prepares one task for every kind of write: a new folder, a new item, an update and a deletion in the mailbox, and
/// an update and a deletion at the source.
async fn every_write(request_timeout: Duration) -> (Rig, ListId, Vec<ItemId>) {
    let mut rig = Rig::new(Spec {
        request_timeout,
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..8)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    rig.assert_settled().await;
    let second = rig.tasks_list("Second");
    rig.add_task(second, 0, "In a new folder");
    rig.add_task(list, 0, "New");
    rig.retitle_original(list, items[0], "Edited at the source");
    rig.delete_original(list, items[1]);
    rig.retitle_copy(0, list, items[2], "Edited in the mailbox");
    rig.delete_copy(0, list, items[3]);
    (rig, list, items)
}

/// Removes all faults and runs cycles until both sides agree.
async fn converge(rig: &Rig, what: &str) {
    rig.farm.exchange.faults.clear();
    rig.farm.sharepoint.faults.clear();
    for _ in 0..4 {
        rig.pass_time(SignedDuration::from_mins(10));
        match rig.try_cycle(0).await {
            Ok(_) => {}
            Err(failure) => panic!("{what}: {failure}"),
        }
    }
    rig.assert_settled().await;
}

fn done(rig: &Rig, list: ListId, items: &[ItemId], what: &str) {
    assert_eq!(
        rig.copy(0, list, items[0]).subject,
        "Edited at the source",
        "{what}"
    );
    assert!(rig.copies(0, list, items[1]).is_empty(), "{what}");
    assert_eq!(
        rig.original(list, items[2]).title,
        "Edited in the mailbox",
        "{what}"
    );
    assert!(rig.original(list, items[3]).recycled, "{what}");
    assert!(
        [4, 5, 6, 7]
            .iter()
            .all(|at| !rig.original(list, items[*at]).recycled),
        "{what}"
    );
}

const MAILBOX_WRITES: [&str; 4] = ["CreateFolder", "CreateItem", "UpdateItem", "DeleteItem"];
const SOURCE_WRITES: [&str; 2] = ["items.update", "items.recycle"];

/// A write whose answer is lost may have been carried out. It is looked for and never blindly repeated.
#[tokio::test]
async fn lost_answers_duplicate_nothing() {
    for operation in MAILBOX_WRITES {
        let (rig, list, items) = every_write(Duration::from_secs(10)).await;
        rig.farm
            .exchange
            .faults
            .next(Some(operation), 1, Fault::LoseResponse);
        let _ = rig.try_cycle(0).await;
        assert_eq!(rig.farm.exchange.stats.snapshot().faults, 1, "{operation}");
        converge(&rig, operation).await;
        done(&rig, list, &items, operation);
    }
    for operation in SOURCE_WRITES {
        let (rig, list, items) = every_write(Duration::from_secs(10)).await;
        rig.farm
            .sharepoint
            .faults
            .next(Some(operation), 1, Fault::LoseResponse);
        let _ = rig.try_cycle(0).await;
        assert_eq!(rig.farm.sharepoint.stats.faults(), 1, "{operation}");
        converge(&rig, operation).await;
        done(&rig, list, &items, operation);
    }
}

/// Every other fault of a request, on every operation.
#[tokio::test]
async fn no_fault_of_any_operation_loses_or_duplicates_a_task() {
    let faults = [
        Fault::Cut,
        Fault::Garbage,
        Fault::Huge(40_000_000),
        Fault::Status(500),
        Fault::Status(502),
        Fault::LoseResponse,
    ];
    let exchange = [
        "GetFolder",
        "FindFolder",
        "SyncFolderItems",
        "GetItem",
        "FindItem",
        "CreateFolder",
        "CreateItem",
        "UpdateItem",
        "DeleteItem",
    ];
    let sharepoint = [
        "getchanges",
        "items.update",
        "items.recycle",
        "batch",
        "getitems",
        "items.list",
    ];
    for (at, fault) in faults.iter().enumerate() {
        let (rig, list, items) = every_write(Duration::from_secs(10)).await;
        for operation in exchange {
            rig.farm.exchange.faults.next(Some(operation), 1, fault.clone());
        }
        for operation in sharepoint {
            rig.farm.sharepoint.faults.next(Some(operation), 1, fault.clone());
        }
        for _ in 0..12 {
            let _ = rig.try_cycle(0).await;
            rig.pass_time(SignedDuration::from_mins(10));
        }
        let what = format!("fault {at}: {fault:?}");
        converge(&rig, &what).await;
        done(&rig, list, &items, &what);
    }
}

/// A busy server states a pause. No request is sent before it ends, and afterwards the work continues where it
/// stopped.
#[tokio::test]
async fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let pause = Some(Duration::from_mins(2));
    for (inside, operation) in [
        (true, "UpdateItem"),
        (false, "CreateItem"),
        (false, "SyncFolderItems"),
        (true, "GetFolder"),
    ] {
        let (rig, list, items) = every_write(Duration::from_secs(10)).await;
        let busy = Fault::Busy {
            pause,
            inside,
            status: 503,
        };
        rig.farm.exchange.faults.next(Some(operation), 1, busy);
        let failure = rig.try_cycle(0).await.unwrap_err();
        assert!(matches!(failure.class, ErrorClass::Throttled { .. }), "{failure}");
        let before = rig.farm.exchange.stats.snapshot().total;
        let failure = rig.try_cycle(0).await.unwrap_err();
        assert!(matches!(failure.class, ErrorClass::Throttled { .. }), "{failure}");
        assert_eq!(
            rig.farm.exchange.stats.snapshot().total,
            before,
            "{operation}: a request during the pause"
        );
        converge(&rig, operation).await;
        done(&rig, list, &items, operation);
    }
    for (status, operation) in [(429, "getchanges"), (503, "items.update"), (429, "items.recycle")] {
        let (rig, list, items) = every_write(Duration::from_secs(10)).await;
        let busy = Fault::Busy {
            pause,
            inside: false,
            status,
        };
        rig.farm.sharepoint.faults.next(Some(operation), 1, busy);
        let failure = rig.try_cycle(0).await.unwrap_err();
        assert!(matches!(failure.class, ErrorClass::Throttled { .. }), "{failure}");
        let before = rig.farm.sharepoint.stats.requests();
        rig.try_cycle(0).await.unwrap_err();
        assert_eq!(
            rig.farm.sharepoint.stats.requests(),
            before,
            "{operation}: a request during the pause"
        );
        converge(&rig, operation).await;
        done(&rig, list, &items, operation);
    }
}

/// A person edits at the moment of a write: the write is refused, the item is read again, and a new decision is made.
#[tokio::test]
async fn an_edit_at_the_moment_of_writing_is_not_overwritten() {
    let (rig, list, items) = every_write(Duration::from_secs(10)).await;
    rig.farm.exchange.faults.next(
        Some("UpdateItem"),
        1,
        Fault::Error("ErrorIrresolvableConflict".into()),
    );
    rig.farm.exchange.faults.next(
        Some("DeleteItem"),
        1,
        Fault::Error("ErrorIrresolvableConflict".into()),
    );
    rig.farm
        .sharepoint
        .faults
        .next(Some("items.update"), 1, Fault::Status(412));
    rig.cycle(0).await.report();
    converge(&rig, "conflict").await;
    done(&rig, list, &items, "conflict");
}

/// A damaged item is set aside, and the others continue. It is tried again when it changes.
#[tokio::test]
async fn a_damaged_item_delays_no_other_item() {
    let (rig, list, items) = every_write(Duration::from_secs(10)).await;
    rig.farm
        .exchange
        .faults
        .next(Some("UpdateItem"), 1, Fault::Error("ErrorItemCorrupt".into()));
    let report = rig.cycle(0).await.report();
    assert_eq!(report.items_failed, 1);
    assert_eq!(
        rig.original(list, items[2]).title,
        "Edited in the mailbox",
        "the others continued"
    );
    let before = rig.writes();
    rig.cycle(0).await;
    assert_eq!(rig.writes(), before, "left alone until it changes");
    assert_eq!(rig.state(0).await.parked.len(), 1);
    rig.retitle_original(list, items[0], "Edited at the source");
    rig.edit_original(
        list,
        items[0],
        tasksync_loadtest::sharepoint::people::ListItemEdit {
            priority: Some(1),
            ..Default::default()
        },
    );
    rig.cycle(0).await.report();
    assert!(rig.state(0).await.parked.is_empty());
    converge(&rig, "damaged").await;
    done(&rig, list, &items, "damaged");
}

/// An item that cannot be read is left out, and the others continue. It is read again when it changes.
#[tokio::test]
async fn an_unreadable_item_delays_no_other_item() {
    let (rig, list, items) = every_write(Duration::from_secs(10)).await;
    rig.retitle_copy(0, list, items[4], "Edited as well");
    rig.farm
        .exchange
        .faults
        .next(Some("GetItem"), 1, Fault::Error("ErrorItemCorrupt".into()));
    rig.cycle(0).await.report();
    let edited = [items[2], items[4]].map(|item| rig.original(list, item).title.starts_with("Edited"));
    assert_eq!(
        edited.iter().filter(|edited| **edited).count(),
        1,
        "one of the two was read"
    );
    for (item, title) in [(items[2], "Edited in the mailbox"), (items[4], "Edited as well")] {
        rig.edit_copy(
            0,
            list,
            item,
            tasksync_loadtest::exchange::MailboxItemEdit {
                subject: Some(title.into()),
                importance: Some("High".into()),
                ..Default::default()
            },
        );
    }
    converge(&rig, "unreadable").await;
    done(&rig, list, &items, "unreadable");
    assert_eq!(rig.original(list, items[4]).title, "Edited as well");
}

/// A server reports success but keeps the old description. That description never travels back, and the task is shown
/// as refused.
#[tokio::test]
async fn a_description_that_a_server_only_seems_to_clear_does_not_come_back_to_the_source() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let edit = ListItemEdit {
        title: Some("Report".to_owned()),
        body: Some("<p>Old words</p>".to_owned()),
        assigned_to: Some(vec![rig.farm.applied[0].users[0]]),
        ..ListItemEdit::default()
    };
    let item = rig.add_task_with(list, 0, edit);
    rig.cycle(0).await;
    rig.assert_settled().await;
    let ignore = || Fault::IgnoreFields(vec!["item:Body".to_owned()]);
    rig.farm.exchange.faults.next(Some("UpdateItem"), 2, ignore());
    let cleared = ListItemEdit {
        body: Some(String::new()),
        ..ListItemEdit::default()
    };
    rig.edit_original(list, item, cleared);
    rig.cycle(0).await;
    let state = rig.state(0).await;
    assert_eq!((state.pending.len(), state.parked.len()), (1, 0), "{state:?}");
    rig.cycle(0).await;
    let state = rig.state(0).await;
    assert_eq!((state.pending.len(), state.parked.len()), (0, 1), "{state:?}");
    let refusal = &state.parked.values().next().unwrap().failure;
    assert!(refusal.detail.contains("body"), "{refusal}");
    // The person's next edit carries over only the fields that the person edited.
    rig.retitle_copy(0, list, item, "Report of May");
    rig.cycle(0).await;
    let original = rig.original(list, item);
    assert_eq!(
        (original.title.as_str(), original.body.as_str()),
        ("Report of May", "")
    );
    // Once the server stores what it receives, both sides agree.
    converge(&rig, "an honest server").await;
    assert_eq!(rig.copy(0, list, item).body.unwrap_or_default(), "");
}

/// Returns whether the decision about this task is open: the task is pending or refused, and is shown with its reason.
async fn is_left_open(rig: &Rig, list: ListId, item: ItemId) -> bool {
    let key = Farm::key(list, item);
    let state = rig.state(0).await;
    state.reasons.keys().any(|open| open.as_str() == key)
        || state.parked.keys().any(|refused| refused.as_str() == key)
}

/// The folder's changes and the search by key show the copy, but a read by its id does not find it. Nothing is
/// deleted, and the edit arrives once the read finds the copy.
#[tokio::test]
async fn a_copy_that_one_kind_of_read_calls_missing_keeps_its_task_and_its_edit() {
    for times in [Some(2), None] {
        let (rig, list, items) = Rig::with_tasks(3).await;
        let copy = rig.retitle_copy(0, list, items[0], "Edited");
        let aim = Aim::at("GetItem").containing(&copy.id);
        let aim = times.map_or_else(|| aim.clone(), |times| aim.clone().times(times));
        let missing = Fault::Error("ErrorItemNotFound".to_owned());
        rig.farm.exchange.faults.aim(aim, missing);
        let writes = rig.farm.sharepoint.stats.item_writes();
        for cycle in 0..times.map_or(3, |_| 1) {
            rig.cycle(0).await.report();
            assert!(!rig.original(list, items[0]).recycled, "{times:?}, cycle {cycle}");
            assert!(
                is_left_open(&rig, list, items[0]).await,
                "{times:?}, cycle {cycle}: {:#?}",
                rig.state(0).await
            );
        }
        assert_eq!(rig.farm.sharepoint.stats.item_writes(), writes, "{times:?}");
        rig.farm.exchange.faults.clear();
        rig.cycle(0).await.report();
        assert_eq!(rig.original(list, items[0]).title, "Edited", "{times:?}");
        rig.assert_settled().await;
    }
}

/// There is one edit, and the first read of the item fails. The edit arrives later without another edit.
#[tokio::test]
async fn an_edit_that_could_not_be_read_once_arrives_without_a_further_edit() {
    let percent = Tamper::replace(
        "<t:PercentComplete>0</t:PercentComplete>",
        "<t:PercentComplete>12,5</t:PercentComplete>",
    );
    let status = Tamper::replace("<t:Status>NotStarted</t:Status>", "<t:Status>Paused</t:Status>");
    for fault in [
        Fault::Error("ErrorItemCorrupt".to_owned()),
        Fault::Error("ErrorInvalidIdMalformed".to_owned()),
        Fault::Error("ErrorInternalServerError".to_owned()),
        Fault::Tamper(percent),
        Fault::Tamper(status),
    ] {
        let (rig, list, items) = Rig::with_tasks(3).await;
        let copy = rig.retitle_copy(0, list, items[0], "Edited");
        let aim = Aim::at("GetItem").containing(&copy.id).times(1);
        rig.farm.exchange.faults.aim(aim, fault.clone());
        rig.cycle(0).await.report();
        assert_eq!(rig.farm.exchange.stats.snapshot().faults, 1, "{fault:?}");
        if rig.original(list, items[0]).title != "Edited" {
            assert!(is_left_open(&rig, list, items[0]).await, "{fault:?}");
        }
        rig.cycle(0).await;
        rig.pass_time(SignedDuration::from_hours(7));
        rig.cycle(0).await.report();
        assert_eq!(rig.original(list, items[0]).title, "Edited", "{fault:?}");
        rig.assert_settled().await;
    }
}
