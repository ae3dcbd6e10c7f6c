//! Kills the service (SIGKILL) again and again: nothing is lost or doubled.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tasksync_loadtest::sharepoint::people::ListItemEdit;
use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::trial::{Farm, Ledger};

use crate::rig::{
    Dice, People, assert_no_writes, eventually, eventually_async, farm, service, wait_until_settled,
};

async fn killed_under_edits(seed: u64, kills: u32) {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(seed, 2, 8, 5.0).await;
    let service = service(folder.path(), &farm, "").await;
    let people = People::start(&farm, seed);
    let mut dice = Dice(seed);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(100 + dice.below(1_100))).await;
        service.kill().await;
        service.launch().unwrap();
    }
    let mut ledger = people.stop();
    service.kill().await;
    service.restart().await.unwrap();
    wait_until_settled(&farm, &service, &mut ledger).await;
    assert_no_writes(&farm).await;
    assert!(ledger.len() >= 50, "only {} edits were made", ledger.len());
    assert_eq!(service.terminate().await, Ok(Some(0)));
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_edits_lose_and_double_nothing() {
    killed_under_edits(1, 50).await;
}

/// A long first sync needs several passes. The user's time limit cuts each off, and the process is killed in between:
/// saving a pass's progress must not forget the work still to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_in_many_pieces_loses_no_task_to_kills() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(5, 1, 1, 150.0).await;
    farm.exchange.faults.next(
        Some("CreateItem"),
        u64::MAX,
        Fault::Slow(Duration::from_millis(25)),
    );
    let more = "request_timeout = \"1s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"1500ms\"\n";
    let service = service(folder.path(), &farm, more).await;
    let mut dice = Dice(5);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(900 + dice.below(2_000))).await;
        service.kill().await;
        service.restart().await.unwrap();
    }
    farm.exchange.faults.clear();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    assert_no_writes(&farm).await;
    farm.stop().await;
}

/// The saved states are lost between kills: the copies are found again in the mailbox, and none is created twice.
#[tokio::test(flavor = "multi_thread")]
async fn lost_sync_states_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(2, 1, 6, 5.0).await;
    let service = service(folder.path(), &farm, "").await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let mut dice = Dice(2);
    let file = SqliteConnectOptions::new().filename(folder.path().join("registry.sqlite"));
    for _ in 0..5 {
        // Kills at some moment after the first state was saved again.
        eventually_async("a saved state", async || {
            let mut registry = SqliteConnection::connect_with(&file).await.unwrap();
            let states: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sync_states")
                .fetch_one(&mut registry)
                .await
                .unwrap();
            registry.close().await.unwrap();
            states > 0
        })
        .await;
        tokio::time::sleep(Duration::from_millis(dice.below(1_500))).await;
        service.kill().await;
        let mut registry = SqliteConnection::connect_with(&file).await.unwrap();
        let deleted = sqlx::query("DELETE FROM sync_states")
            .execute(&mut registry)
            .await
            .unwrap();
        assert!(deleted.rows_affected() > 0);
        registry.close().await.unwrap();
        service.restart().await.unwrap();
    }
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    assert_no_writes(&farm).await;
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_deleted_before_its_folder_was_read_again_is_deleted_at_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(3, 1, 1, 5.0).await;
    let service = service(folder.path(), &farm, "").await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let (tenant, applied) = (&farm.population.tenants[0], &farm.applied[0]);
    let (person, user, list) = (&tenant.people[0], applied.users[0], applied.lists[0].0);
    let edit = ListItemEdit {
        title: Some("Here and gone".to_owned()),
        assigned_to: Some(vec![user]),
        ..ListItemEdit::default()
    };
    let item = farm
        .sharepoint
        .person_creates(&tenant.site, list, edit, user)
        .unwrap();
    let key = Farm::key(list, item);
    // Exchange never reports an item that was created and deleted between two readings. This copy is deleted as soon
    // as it exists, to be such an item.
    let copy = eventually("the copy", || {
        let copies = farm.exchange.items(&person.smtp);
        copies
            .into_iter()
            .find(|copy| copy.named.get("TaskSyncSourceKey") == Some(&key))
    })
    .await;
    farm.exchange
        .person_deletes(&person.smtp, &copy.id, true)
        .unwrap();
    eventually("the deletion at the source", || {
        let items = farm.sharepoint.items(&tenant.site, list).unwrap();
        items.into_iter().find(|found| found.id == item && found.recycled)
    })
    .await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    farm.stop().await;
}
