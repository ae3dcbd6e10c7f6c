//! People are synced by an earlier build, then by this one, and by both side by side. Needs the executable of that
//! build, so it is started by hand:
//!
//! `TASKSYNC_TEST_EARLIER=PATH cargo test -p tasksync --test whole upgrade -- --ignored --nocapture`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tasksync_loadtest::trial::{Farm, Installation, Ledger, Service, secrets_folder};

use crate::rig::{People, assert_no_writes, farm, spec, wait_until_settled};
use crate::shared_stores::SharedStores;

/// Returns the numbers of items and folders of all mailboxes and of tasks at the source, without deleted ones.
fn counts(farm: &Farm) -> (usize, usize, usize) {
    let (mut items, mut folders, mut tasks) = (0, 0, 0);
    for (tenant, applied) in farm.population.tenants.iter().zip(&farm.applied) {
        for person in &tenant.people {
            let mine = farm.exchange.items(&person.smtp);
            items += mine.iter().filter(|item| !item.in_deleted_items).count();
            folders += farm.exchange.folders(&person.smtp).len();
        }
        for (list, _) in &applied.lists {
            let found = farm.sharepoint.items(&tenant.site, *list).unwrap();
            tasks += found.iter().filter(|item| !item.recycled).count();
        }
    }
    (items, folders, tasks)
}

/// Returns how many items and folders are tasksync's, and how many of them name their owner.
fn markers(farm: &Farm) -> (usize, usize) {
    let (mut marked, mut with_owner) = (0, 0);
    for person in farm.population.tenants.iter().flat_map(|tenant| &tenant.people) {
        let folders = farm.exchange.folders(&person.smtp).into_iter();
        let items = farm.exchange.items(&person.smtp).into_iter();
        for properties in folders
            .map(|folder| folder.named)
            .chain(items.map(|item| item.named))
        {
            let is_ours =
                properties.contains_key("TaskSyncLocation") || properties.contains_key("TaskSyncSourceKey");
            marked += usize::from(is_ours);
            with_owner += usize::from(properties.contains_key("TaskSyncOwner"));
        }
    }
    (marked, with_owner)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the other executable is named by the environment"
)]
fn earlier() -> PathBuf {
    std::env::var("TASKSYNC_TEST_EARLIER")
        .expect("TASKSYNC_TEST_EARLIER names the executable of an earlier build")
        .into()
}

/// Full checks come often, so that markers are completed while the test waits.
const OFTEN: &str = "\n[worker]\nfull_check_interval = \"5s\"\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the executable of an earlier build"]
async fn an_earlier_build_is_replaced_by_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(11, 2, 50, 2.0).await;
    let start = async |executable: PathBuf| {
        let mut spec = spec(executable, folder.path(), Duration::from_secs(1), OFTEN);
        spec.is_earlier_build = spec.executable == earlier();
        Service::start(spec, &farm).await.unwrap()
    };
    let service = start(earlier()).await;
    service.enrol(&farm).await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let before = counts(&farm);
    println!(
        "earlier build: items, folders, tasks {before:?}, markers {:?}",
        markers(&farm)
    );
    service.terminate().await.unwrap();
    let service = start(env!("CARGO_BIN_EXE_tasksync").into()).await;
    let (mut marked, mut with_owner) = markers(&farm);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (marked, with_owner) = markers(&farm);
        if with_owner == marked {
            break;
        }
    }
    assert_eq!(
        (counts(&farm), with_owner),
        (before, marked),
        "{}",
        service.log_tail(40)
    );
    assert_no_writes(&farm).await;
    println!(
        "this build: items, folders, tasks {:?}, markers {:?}",
        counts(&farm),
        markers(&farm)
    );
    let people = People::start(&farm, 11);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut ledger = people.stop();
    wait_until_settled(&farm, &service, &mut ledger).await;
    service.terminate().await.unwrap();
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the executable of an earlier build"]
async fn workers_of_an_earlier_build_and_of_this_one_share_the_people() {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let farm: Arc<Farm> = farm(12, 2, 50, 2.0).await;
    let start = async |executable: PathBuf, folder: &std::path::Path| {
        let mut spec = stores.installation(folder, 1, 1, OFTEN);
        spec.service.is_earlier_build = executable == earlier();
        spec.service.executable = executable;
        // The tenants name the files that the earlier build was given.
        spec.environment.push((
            "TASKSYNC_SECRETS__FOLDER".to_owned(),
            secrets_folder(folders[0].path()).display().to_string(),
        ));
        if spec.service.is_earlier_build {
            spec.environment.clear();
        }
        Installation::start(spec, &farm).await.unwrap()
    };
    let old = start(earlier(), folders[0].path()).await;
    old.enrol(0, &farm).await.unwrap();
    wait_until_settled(&farm, &old, &mut Ledger::default()).await;
    let before = counts(&farm);
    println!(
        "earlier build: items, folders, tasks {before:?}, markers {:?}",
        markers(&farm)
    );
    let new = start(env!("CARGO_BIN_EXE_tasksync").into(), folders[1].path()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!(
        "both builds: items, folders, tasks {:?}, markers {:?}",
        counts(&farm),
        markers(&farm)
    );
    assert_eq!(counts(&farm), before, "{}", new.log_tail(20));
    let people = People::start(&farm, 12);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut ledger = people.stop();
    wait_until_settled(&farm, &new, &mut ledger).await;
    assert_no_writes(&farm).await;
    println!("edits: {}, markers {:?}", ledger.len(), markers(&farm));
    new.terminate().await.unwrap();
    wait_until_settled(&farm, &old, &mut ledger).await;
    old.terminate().await.unwrap();
    farm.stop().await;
    stores.close().await;
}
