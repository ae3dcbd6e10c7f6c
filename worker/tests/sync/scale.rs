//! Many lists and tasks in small pages, and a time limit that is too short for all of them.

use std::time::Duration;

use tasksync_loadtest::exchange::ExchangeSettings;
use tasksync_worker::work::{Survey, UserSync};

use crate::rig::{Rig, Spec};

async fn large(lists: usize, tasks: usize) -> Rig {
    let mut rig = Rig::new(Spec {
        exchange: ExchangeSettings {
            sync_page: 7,
            find_page: 9,
            restricted_find_page: 9,
            ..ExchangeSettings::default()
        },
        limits: |source, mailbox| {
            source.page_size = 7;
            mailbox.changes_per_page = 7;
        },
        ..Spec::default()
    })
    .await;
    let lists: Vec<_> = (0..lists)
        .map(|number| rig.tasks_list(&format!("List {number}")))
        .collect();
    for number in 0..tasks {
        rig.add_task(lists[number % lists.len()], 0, &format!("Task {number}"));
    }
    rig
}

/// With pages of seven entries, none of twenty lists' five hundred tasks is missing.
#[tokio::test]
async fn pages_hide_nothing() {
    let rig = large(20, 500).await;
    rig.cycle(0).await.report();
    rig.assert_settled().await;
}

/// docs/benchmarks.md states these numbers: the requests for one person with ten tasks in three lists.
#[tokio::test]
async fn requests_of_a_full_check_and_of_a_comparison_of_all_values() {
    let mut rig = Rig::plain().await;
    let lists: Vec<_> = (0..3)
        .map(|number| rig.tasks_list(&format!("List {number}")))
        .collect();
    for number in 0..10 {
        rig.add_task(lists[number % 3], 0, &format!("Task {number}"));
    }
    rig.cycle(0).await.report();
    rig.assert_settled().await;
    let requests = || {
        (
            rig.farm.exchange.stats.snapshot().total,
            rig.farm.sharepoint.stats.requests(),
        )
    };
    let before = requests();
    rig.try_thorough_cycle(0).await.unwrap();
    let full = requests();
    rig.thorough.preview(&rig.user(0)).await.unwrap();
    let deep = requests();
    assert_eq!((full.0 - before.0, full.1 - before.1), (6, 3), "a full check");
    assert_eq!(
        (deep.0 - full.0, deep.1 - full.1),
        (9, 2),
        "a comparison of all values"
    );
}

/// Time runs out in the middle. What was done is kept, the user is due again, and the rest follows without duplicates.
#[tokio::test]
async fn an_unfinished_sync_is_continued() {
    let rig = large(2, 60).await;
    let user = rig.user(0);
    let mut unfinished = 0;
    let mut failed = 0;
    for round in 1..200_u64 {
        let Survey::Work(work) = rig.survey(0).await.unwrap() else {
            break;
        };
        match rig
            .engine
            .sync(&user, work, Duration::from_millis(60 + 10 * round))
            .await
        {
            Ok(report) if report.unfinished => unfinished += 1,
            Ok(_) => break,
            // Not even the reading was finished.
            Err(_) => failed += 1,
        }
    }
    assert!(unfinished + failed > 0);
    rig.cycle(0).await;
    rig.assert_settled().await;
}
