//! A sync that is dropped at any await point neither loses nor duplicates anything.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Poll;

use tasksync_loadtest::sharepoint::people::{ItemId, ListId};
use tasksync_worker::work::{Survey, UserSync};

use crate::rig::{BUDGET, Rig};

async fn prepared_rig() -> (Rig, ListId, Vec<ItemId>) {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let items: Vec<ItemId> = (0..7)
        .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
        .collect();
    rig.cycle(0).await;
    rig.assert_settled().await;
    (rig, list, items)
}

/// Creates work of every kind. Every eighth round also adds a list.
fn stir(rig: &mut Rig, list: ListId, items: &[ItemId], round: usize) {
    if round.is_multiple_of(8) {
        let new = rig.tasks_list(&format!("List {round}"));
        rig.add_task(new, 0, "In a new folder");
    }
    rig.add_task(list, 0, &format!("New {round}"));
    rig.retitle_original(list, items[round % 5], &format!("Source {round}"));
    rig.retitle_copy(0, list, items[(round + 1) % 5], &format!("Mailbox {round}"));
    match round {
        10 => rig.delete_original(list, items[5]),
        20 => rig.delete_copy(0, list, items[6]),
        _ => {}
    }
}

/// Polls a sync at most `polls` times and drops it. Returns `true` if it ended by itself.
async fn drop_after_polls(rig: &Rig, polls: usize) -> bool {
    let user = rig.user(0);
    let Survey::Work(work) = rig.survey(0).await.unwrap() else {
        return true;
    };
    let mut sync: Pin<Box<_>> = Box::pin(rig.engine.sync(&user, work, BUDGET));
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        sync.as_mut().poll(context).map(|result| {
            result.unwrap();
            true
        })
    })
    .await
}

#[tokio::test]
async fn a_sync_may_be_dropped_anywhere() {
    let (mut rig, list, items) = prepared_rig().await;
    let mut dropped = 0;
    // Small passes are dropped after 1, 2, 3, … polls, so that every await point is reached. Then larger ones are
    // dropped among their many writes.
    let large = (1..150).step_by(9);
    for (round, polls) in (1..30).chain(1..30).chain(large).enumerate() {
        stir(&mut rig, list, &items, round);
        for number in 0..if round < 58 { 0 } else { 12 } {
            rig.add_task(list, 0, &format!("Bulk {round} {number}"));
        }
        if !drop_after_polls(&rig, polls).await {
            dropped += 1;
        }
    }
    assert!(dropped > 40, "only {dropped} syncs were dropped");
    rig.cycle(0).await;
    rig.cycle(0).await;
    rig.assert_settled().await;
    assert!(rig.original(list, items[6]).recycled && rig.copies(0, list, items[5]).is_empty());
    for item in &items[..5] {
        assert!(!rig.original(list, *item).recycled);
        assert_eq!(rig.copies(0, list, *item).len(), 1);
    }
}
