//! Deletions on either side, deletions that compete with edits, and the guard.

use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::Clock as _;
use tasksync_common::error::Code;
use tasksync_common::plan::{HeldDeletions, held_digest};
use tasksync_common::registry::DeletionPermit;
use tasksync_loadtest::sharepoint::people::ItemId;

use crate::rig::{Rig, Spec};

/// A deletion is carried over, and both products keep the deleted object where people look for it.
#[tokio::test]
async fn a_deletion_travels_and_can_be_undone() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..5)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.delete_copy(0, list, items[0]);
    let report = rig.cycle(0).await.report();
    assert_eq!(report.source_writes, 1);
    assert!(rig.original(list, items[0]).recycled);
    rig.assert_settled().await;
    rig.delete_original(list, items[1]);
    let report = rig.cycle(0).await.report();
    assert_eq!(report.mailbox_writes, 1);
    let key = tasksync_loadtest::trial::Farm::key(list, items[1]);
    let kept = rig.farm.exchange.items(rig.smtp(0));
    assert!(
        kept.iter()
            .any(|item| item.in_deleted_items && item.named.get("TaskSyncSourceKey") == Some(&key))
    );
    rig.assert_settled().await;
    // After a restore from the recycle bin, it is an ordinary task again.
    rig.farm
        .sharepoint
        .person_restores(rig.site(), list, items[1])
        .unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.copies(0, list, items[1]).len(), 1);
    rig.assert_settled().await;
    // Deleted on both sides between two syncs.
    rig.delete_original(list, items[2]);
    rig.delete_copy(0, list, items[2]);
    rig.cycle(0).await;
    rig.assert_settled().await;
    assert!(rig.journal(0).await.contains(&"deleted_at_source".to_owned()));
}

/// A permanent deletion, which bypasses Deleted Items, counts as a deletion as well.
#[tokio::test]
async fn a_permanent_deletion_travels() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let copy = rig.copy(0, list, item);
    rig.farm
        .exchange
        .person_deletes(rig.smtp(0), &copy.id, false)
        .unwrap();
    rig.cycle(0).await.report();
    assert!(rig.original(list, item).recycled);
    rig.assert_settled().await;
}

/// A copy is deleted in the mailbox, and a colleague edits the task: the edit wins, the copy returns, and the journal
/// has it.
#[tokio::test]
async fn an_edit_at_the_source_outlives_a_deletion_in_the_mailbox() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.retitle_original(list, item, "Report, really");
    rig.delete_copy(0, list, item);
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, item).subject, "Report, really");
    assert!(rig.journal(0).await.contains(&"restored_in_mailbox".to_owned()));
    rig.assert_settled().await;
}

/// A task is deleted at the source, and its copy is edited: the source decides that it is gone, and the journal has
/// the edit.
#[tokio::test]
async fn a_deletion_at_the_source_takes_the_edited_copy_and_journals_it() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.delete_original(list, item);
    rig.retitle_copy(0, list, item, "My words");
    rig.cycle(0).await.report();
    assert!(rig.copies(0, list, item).is_empty());
    assert!(
        rig.journal(0)
            .await
            .contains(&"edit_removed_from_mailbox".to_owned())
    );
    rig.assert_settled().await;
}

/// More than ten deletions at once count as an accident until a permit is given. Nothing else waits for the permit.
#[tokio::test]
async fn many_deletions_wait_for_a_permit() {
    let mut rig = Rig::new(Spec::default()).await;
    let (list, other) = (rig.tasks_list("Plan"), rig.tasks_list("Other"));
    let items: Vec<ItemId> = (0..13)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    let edited = rig.add_task(other, 0, "Edited");
    rig.cycle(0).await;
    rig.assert_settled().await;
    for item in &items[..12] {
        rig.delete_copy(0, list, *item);
    }
    rig.retitle_copy(0, other, edited, "Not held up");
    for _ in 0..2 {
        let report = rig.cycle(0).await.report();
        assert_eq!(report.held, 12);
        assert_eq!(rig.original(other, edited).title, "Not held up");
        assert!(items.iter().all(|item| !rig.original(list, *item).recycled));
        let alerts = rig.registry.alerts(None, 10).await.unwrap();
        assert!(
            alerts.len() == 1 && alerts[0].failure.code == Code::GuardHeld,
            "{alerts:#?}"
        );
    }
    // A new edit is also carried over while the deletions are held.
    rig.retitle_original(list, items[12], "Also not held up");
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, items[12]).subject, "Also not held up");
    allow_what_is_held(&rig).await;
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.held), (12, 0));
    assert!(rig.registry.alerts(None, 10).await.unwrap().is_empty());
    rig.assert_settled().await;
}

/// Permits the deletions that the alert lists.
async fn allow_what_is_held(rig: &Rig) {
    allow_until(rig, rig.clock.now() + SignedDuration::from_hours(24)).await;
}

async fn allow_until(rig: &Rig, until: Timestamp) {
    let alert = rig.registry.alerts(None, 1).await.unwrap().remove(0);
    let held: Vec<HeldDeletions> = serde_json::from_value(alert.evidence.unwrap()).unwrap();
    let permit = DeletionPermit {
        plan: held_digest(&held),
        until,
    };
    assert!(rig.registry.allow_deletions(&rig.user(0), &permit).await.unwrap());
}

async fn held_detail(rig: &Rig) -> String {
    let mut alerts = rig.registry.alerts(None, 9).await.unwrap();
    alerts.retain(|alert| alert.failure.code == Code::GuardHeld);
    alerts.remove(0).failure.detail
}

/// A permit covers only the deletions that were shown. If another one joins them, all are held again.
#[tokio::test]
async fn a_permit_does_not_release_another_plan() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..24)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    for item in &items[..11] {
        rig.delete_original(list, *item);
    }
    assert_eq!(rig.cycle(0).await.report().held, 11);
    allow_what_is_held(&rig).await;
    let permitted = format!(
        "plan {}",
        rig.registry
            .deletion_permit(&rig.user(0))
            .await
            .unwrap()
            .unwrap()
            .plan
    );
    assert!(held_detail(&rig).await.ends_with(&permitted));
    rig.delete_original(list, items[11]);
    assert_eq!(rig.cycle(0).await.report().held, 12);
    // The alert says that the permit released nothing.
    let detail = held_detail(&rig).await;
    assert!(
        detail.contains(&format!("the permit for {permitted} released nothing")),
        "{detail}"
    );
    allow_what_is_held(&rig).await;
    assert_eq!(rig.cycle(0).await.report().held, 0);
    rig.assert_settled().await;
}

/// An expired permit releases nothing.
#[tokio::test]
async fn an_expired_permit_releases_nothing() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..12)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    for item in &items[..11] {
        rig.delete_original(list, *item);
    }
    assert_eq!(rig.cycle(0).await.report().held, 11);
    let day = SignedDuration::from_hours(24);
    allow_until(&rig, rig.clock.now() + day).await;
    rig.pass_time(day);
    assert_eq!(rig.cycle(0).await.report().held, 11);
    allow_until(&rig, rig.clock.now() + day).await;
    assert_eq!(rig.cycle(0).await.report().held, 0);
}

/// A permit is valid once: the next accident is held again.
#[tokio::test]
async fn a_permit_is_valid_once() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..24)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    for (from, to) in [(0, 11), (11, 22)] {
        for item in &items[from..to] {
            rig.delete_original(list, *item);
        }
        assert_eq!(rig.cycle(0).await.report().held, 11);
        allow_what_is_held(&rig).await;
        assert_eq!(rig.cycle(0).await.report().held, 0);
    }
    rig.assert_settled().await;
}

/// The deletions that empty a folder are held, however few tasks were in it. If the items are put back, the alert
/// ends.
#[tokio::test]
async fn an_emptied_folder_is_held() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..4)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    rig.assert_settled().await;
    for item in &items {
        rig.delete_copy(0, list, *item);
    }
    assert_eq!(rig.cycle(0).await.report().held, 4);
    assert!(items.iter().all(|item| !rig.original(list, *item).recycled));
    // Moved out of Deleted Items again.
    let folder = rig.our_folders(0).pop().unwrap().id;
    for item in rig.farm.exchange.items(rig.smtp(0)) {
        rig.farm
            .exchange
            .person_moves(rig.smtp(0), &item.id, &folder)
            .unwrap();
    }
    rig.cycle(0).await;
    assert!(rig.registry.alerts(None, 10).await.unwrap().is_empty());
    rig.assert_settled().await;
}
