//! Saved states and cursors that are lost or too old.

use jiff::SignedDuration;
use tasksync_common::model::Field;
use tasksync_common::plan::Action;
use tasksync_loadtest::sim::answers::{Answer, Tamper};
use tasksync_loadtest::sim::faults::{Aim, Fault};
use tasksync_loadtest::trial::Farm;

use crate::rig::Rig;

/// The links are stored in the mailbox. A lost state is rebuilt from there, and nothing is written or duplicated.
#[tokio::test]
async fn a_lost_state_is_found_again_without_a_write() {
    let (rig, ..) = Rig::with_tasks(4).await;
    let before = rig.writes();
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    rig.assert_settled().await;
}

/// Changes made while there was no state are resolved: edits by time, and deletions are never guessed.
#[tokio::test]
async fn edits_made_before_a_state_is_lost_survive() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.pass_time(SignedDuration::from_mins(1));
    rig.retitle_copy(0, list, items[0], "In the mailbox");
    rig.retitle_original(list, items[1], "At the source");
    rig.delete_copy(0, list, items[2]);
    rig.delete_original(list, items[3]);
    let new = rig.add_task(list, 0, "New meanwhile");
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "In the mailbox");
    assert_eq!(rig.copy(0, list, items[1]).subject, "At the source");
    // Without a state, a missing copy does not prove a deletion: it is created again, and the task is not deleted.
    assert!(!rig.original(list, items[2]).recycled);
    assert_eq!(rig.copies(0, list, new).len(), 1);
    rig.assert_settled().await;
}

/// Exchange sometimes invalidates sync states. The folder is then listed completely, and edits and deletions are
/// found.
#[tokio::test]
async fn expired_sync_states_lose_nothing() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_copy(0, list, items[0], "Edited meanwhile");
    rig.delete_copy(0, list, items[1]);
    rig.farm.exchange.expire_sync_states(None);
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (2, 0));
    assert_eq!(rig.original(list, items[0]).title, "Edited meanwhile");
    assert!(rig.original(list, items[1]).recycled);
    rig.assert_settled().await;
}

/// A change token that is too old is refused. Everything is compared, and nothing is lost.
#[tokio::test]
async fn expired_change_tokens_lose_nothing() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_original(list, items[0], "Edited meanwhile");
    rig.delete_original(list, items[1]);
    rig.farm.sharepoint.expire_change_tokens(rig.site()).unwrap();
    rig.cycle(0).await.report();
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited meanwhile");
    assert!(rig.copies(0, list, items[1]).is_empty());
    rig.assert_settled().await;
}

/// SharePoint Online was observed to answer a token that is too old with no error and no changes. The next regular
/// full comparison finds what was missed.
#[tokio::test]
async fn silently_expired_change_tokens_are_made_good_by_the_full_comparison() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_original(list, items[0], "Edited meanwhile");
    rig.delete_original(list, items[1]);
    rig.farm.sharepoint.set_silent_expiry(true);
    rig.farm.sharepoint.expire_change_tokens(rig.site()).unwrap();
    rig.cycle(0).await;
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited meanwhile");
    assert!(rig.copies(0, list, items[1]).is_empty());
    rig.retitle_original(list, items[2], "Edited later");
    rig.cycle(0).await.report();
    rig.assert_settled().await;
}

/// A cursor that is refused once, on either side, costs one complete read and has no other effect.
#[tokio::test]
async fn a_cursor_refused_once_does_no_harm() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_original(list, items[0], "Source");
    rig.retitle_copy(0, list, items[1], "Mailbox");
    rig.farm
        .exchange
        .faults
        .next(Some("SyncFolderItems"), 1, Fault::ExpireCursor);
    rig.farm
        .sharepoint
        .faults
        .next(Some("getchanges"), 1, Fault::ExpireCursor);
    rig.cycle(0).await.report();
    rig.cycle(0).await;
    rig.assert_settled().await;
}

/// Cuts off a pass in the middle: the process is killed after a write and before it saves the result.
async fn interrupt_pass(rig: &Rig, saves: u64) {
    rig.registry.save_only(saves);
    assert!(rig.try_cycle(0).await.is_err());
    rig.registry.save_only(u64::MAX);
}

/// The write before the kill has a later time than an edit made during the write. The edit is kept.
#[tokio::test]
async fn a_write_before_a_kill_does_not_win_over_an_edit() {
    let earlier = SignedDuration::from_mins(-1);
    let (rig, list, items) = Rig::with_tasks(4).await;
    let at_source_meanwhile = |item, title| {
        rig.farm.sharepoint.clock.set_skew(earlier);
        rig.retitle_original(list, item, title);
        rig.farm.sharepoint.clock.set_skew(SignedDuration::ZERO);
    };

    rig.retitle_original(list, items[0], "First");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.copy(0, list, items[0]).subject, "First");
    at_source_meanwhile(items[0], "Second");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Second");
    assert_eq!(rig.copy(0, list, items[0]).subject, "Second");
    rig.assert_settled().await;

    // Reverting a value is an edit as well.
    rig.retitle_original(list, items[1], "First");
    interrupt_pass(&rig, 1).await;
    at_source_meanwhile(items[1], "Task 1");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[1]).title, "Task 1");
    assert_eq!(rig.copy(0, list, items[1]).subject, "Task 1");
    rig.assert_settled().await;

    rig.retitle_copy(0, list, items[2], "First");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.original(list, items[2]).title, "First");
    rig.farm.exchange.clock.set_skew(earlier);
    rig.retitle_copy(0, list, items[2], "Second");
    rig.farm.exchange.clock.set_skew(SignedDuration::ZERO);
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[2]).title, "Second");
    rig.assert_settled().await;

    // There is a new copy, and its task is edited before anything about the copy is saved.
    let new = rig.add_task(list, 0, "New");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.copy(0, list, new).subject, "New");
    at_source_meanwhile(new, "Newer");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, new).title, "Newer");
    assert_eq!(rig.copy(0, list, new).subject, "Newer");
    rig.assert_settled().await;

    // A new copy is edited in the same second in which it was created.
    let new = rig.add_task(list, 0, "Raw");
    interrupt_pass(&rig, 1).await;
    rig.retitle_copy(0, list, new, "Refined");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, new).title, "Refined");
    rig.assert_settled().await;
    assert_eq!(
        rig.conflicts(0).await,
        <[&str; 0]>::default(),
        "there was no conflict"
    );
}

/// A write at the source is cut off, and a person reverts its value there. The previous value counts as the later
/// edit.
#[tokio::test]
async fn a_value_that_is_reverted_after_a_kill_stays_reverted() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_copy(0, list, items[0], "Mine");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.original(list, items[0]).title, "Mine");
    rig.farm.sharepoint.clock.set_skew(SignedDuration::from_mins(1));
    rig.retitle_original(list, items[0], "Task 0");
    rig.farm.sharepoint.clock.set_skew(SignedDuration::ZERO);
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Task 0");
    assert_eq!(rig.copy(0, list, items[0]).subject, "Task 0");
    rig.assert_settled().await;
    // It cannot be known whether the write was carried out, so the value is kept in the journal.
    assert_eq!(rig.conflicts(0).await, ["conflict_lost_in_mailbox"]);
}

/// Our own write at the source before a kill is not a colleague's edit, which would bring a deleted copy back.
#[tokio::test]
async fn a_deletion_after_a_kill_is_a_deletion() {
    let (rig, list, items) = Rig::with_tasks(4).await;
    rig.retitle_copy(0, list, items[0], "Mine");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.original(list, items[0]).title, "Mine");
    rig.delete_copy(0, list, items[0]);
    rig.cycle(0).await.report();
    assert!(rig.original(list, items[0]).recycled);
    assert!(rig.copies(0, list, items[0]).is_empty());
    rig.assert_settled().await;

    // For a copy that was updated or created, Deleted Items show that it existed.
    rig.retitle_original(list, items[1], "Theirs");
    interrupt_pass(&rig, 1).await;
    assert_eq!(rig.copy(0, list, items[1]).subject, "Theirs");
    rig.delete_copy(0, list, items[1]);
    let new = rig.add_task(list, 0, "New");
    interrupt_pass(&rig, 1).await;
    rig.delete_copy(0, list, new);
    for _ in 0..2 {
        rig.cycle(0).await;
    }
    assert!(rig.original(list, items[1]).recycled);
    assert!(rig.original(list, new).recycled);
    rig.assert_settled().await;
}

/// If Deleted Items cannot be read, nothing is known about the copy. It is created again, and the user's sync
/// continues.
#[tokio::test]
async fn unreadable_deleted_items_stop_no_sync() {
    let (rig, list, _) = Rig::with_tasks(4).await;
    let new = rig.add_task(list, 0, "New");
    interrupt_pass(&rig, 1).await;
    rig.delete_copy(0, list, new);
    rig.farm.exchange.faults.next(
        Some("FindItem"),
        u64::MAX,
        Fault::Error("ErrorAccessDenied".to_owned()),
    );
    rig.cycle(0).await.report();
    rig.farm.exchange.faults.clear();
    assert_eq!(rig.copy(0, list, new).subject, "New");
    rig.assert_settled().await;
}

/// SharePoint shows an old value with the new version, once. Both sides have the remembered versions but differ.
#[tokio::test]
async fn a_difference_that_no_version_shows_is_in_the_plan_at_once_and_repaired_by_the_deep_check() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let misread = Tamper::replace("Edited", "Task 0");
    let faults = &rig.farm.sharepoint.faults;
    faults.aim(Aim::every_request(), Fault::Tamper(misread));
    rig.retitle_original(list, items[0], "Edited");
    rig.cycle(0).await.report();
    rig.farm.sharepoint.faults.clear();
    rig.assert_idle().await;
    assert_eq!(rig.copy(0, list, items[0]).subject, "Task 0");
    let (plan, held) = rig.engine.preview(&rig.user(0)).await.unwrap();
    assert!(held.is_empty());
    let key = Farm::key(list, items[0]);
    let [(_, action)] = &plan.actions[..] else {
        panic!("{plan:#?}");
    };
    assert!(
        matches!(action, Action::UpdateMailbox { key: found, fields, .. }
            if found.as_str() == key && fields.contains(Field::Title)),
        "{action:#?}"
    );
    rig.pass_time(SignedDuration::from_hours(8 * 24));
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited");
    rig.assert_settled().await;
}

/// Returns a listing of changes without its entries but with its cursor.
fn without_changes(answer: Answer) -> Answer {
    let text = answer.text();
    let changes = text
        .split_once("<m:Changes>")
        .and_then(|(before, rest)| Some((before, rest.split_once("</m:Changes>")?.1)));
    match changes {
        Some((before, after)) => {
            let emptied = format!("{before}<m:Changes/>{after}");
            answer.with_body(emptied)
        }
        None => answer,
    }
}

/// Exchange omits a change and advances the cursor. The next full check lists the folder from the start.
#[tokio::test]
async fn an_edit_that_a_folder_does_not_report_arrives_with_the_next_full_check() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let hidden = Fault::Tamper(Tamper::new(without_changes));
    rig.farm.exchange.faults.next(Some("SyncFolderItems"), 1, hidden);
    rig.retitle_copy(0, list, items[0], "Edited");
    rig.cycle(0).await.report();
    assert_eq!(rig.farm.exchange.stats.snapshot().faults, 1);
    rig.assert_idle().await;
    assert_eq!(rig.original(list, items[0]).title, "Task 0");
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Edited");
    rig.assert_settled().await;
}
