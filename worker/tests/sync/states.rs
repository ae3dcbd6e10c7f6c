//! What was remembered is lost or too old.

use tasksync_common::registry::Registry;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId};
use tasksync_loadtest::sim::faults::Fault;

use crate::rig::Rig;

async fn four() -> (Rig, ListId, Vec<ItemId>) {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items = (0..4)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    rig.calm().await;
    (rig, list, items)
}

/// The links live in the mailbox: a lost state is found again there, and nothing is written or doubled.
#[tokio::test]
async fn a_lost_state_is_found_again_without_a_write() {
    let (rig, ..) = four().await;
    let before = rig.writes();
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    rig.calm().await;
}

/// What happened while nothing was remembered is sorted out: edits by time, deletions never guessed.
#[tokio::test]
async fn edits_meanwhile_survive_a_lost_state() {
    let (rig, list, items) = four().await;
    rig.pass_time(jiff::SignedDuration::from_mins(1));
    rig.retitle_copy(0, list, items[0], "In the mailbox");
    rig.retitle_original(list, items[1], "At the source");
    rig.delete_copy(0, list, items[2]);
    rig.delete_original(list, items[3]);
    let new = rig.add_task(list, 0, "New meanwhile");
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "In the mailbox");
    assert_eq!(rig.copy(0, list, items[1]).subject, "At the source");
    // Without memory a missing copy is no wish: it is made again, not deleted at the source.
    assert!(!rig.original(list, items[2]).recycled);
    assert_eq!(rig.copies(0, list, new).len(), 1);
    rig.calm().await;
}

/// Exchange forgets sync states now and then: the folder is listed anew, edits and deletions meanwhile are seen.
#[tokio::test]
async fn expired_sync_states_lose_nothing() {
    let (rig, list, items) = four().await;
    rig.retitle_copy(0, list, items[0], "Edited meanwhile");
    rig.delete_copy(0, list, items[1]);
    rig.farm.exchange.expire_sync_states(None);
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (2, 0));
    assert_eq!(rig.original(list, items[0]).title, "Edited meanwhile");
    assert!(rig.original(list, items[1]).recycled);
    rig.calm().await;
}

/// A change token that is too old is refused: everything is compared, nothing is lost.
#[tokio::test]
async fn expired_change_tokens_lose_nothing() {
    let (rig, list, items) = four().await;
    rig.retitle_original(list, items[0], "Edited meanwhile");
    rig.delete_original(list, items[1]);
    rig.farm.sharepoint.expire_change_tokens(rig.site()).unwrap();
    rig.cycle(0).await.report();
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited meanwhile");
    assert!(rig.copies(0, list, items[1]).is_empty());
    rig.calm().await;
}

/// SharePoint Online was seen to answer a token that is too old with no error and no changes: the full comparison that
/// comes anyway finds what was missed.
#[tokio::test]
async fn silently_expired_change_tokens_are_made_good_by_the_full_comparison() {
    let (rig, list, items) = four().await;
    rig.retitle_original(list, items[0], "Edited meanwhile");
    rig.delete_original(list, items[1]);
    rig.farm.sharepoint.set_silent_expiry(true);
    rig.farm.sharepoint.expire_change_tokens(rig.site()).unwrap();
    rig.cycle(0).await;
    rig.pass_time(jiff::SignedDuration::from_hours(7));
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited meanwhile");
    assert!(rig.copies(0, list, items[1]).is_empty());
    rig.retitle_original(list, items[2], "Edited later");
    rig.cycle(0).await.report();
    rig.calm().await;
}

/// A cursor refused once, on either side, costs one full reading and no harm.
#[tokio::test]
async fn a_cursor_refused_once_does_no_harm() {
    let (rig, list, items) = four().await;
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
    rig.calm().await;
}
