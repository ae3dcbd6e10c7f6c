//! People move from a standalone service to schedulers and workers and back, and a copy is made beside a living
//! installation: no second first sync, no write, and no mailbox taken from the original.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tasksync_common::clock::{Clock as _, SystemClock, monotonic};
use tasksync_common::registry::topics::*;
use tasksync_common::registry::{SqlRegistry, open_for_backup};
use tasksync_common::settings::RegistrySettings;
use tasksync_loadtest::trial::{Farm, Installation, Ledger, Oracle, Service, secrets_folder};

use crate::rig::{
    Ended, PATIENCE, People, eventually_async, farm, import_people, run, spec, start, tasksync,
    wait_until_settled, writes,
};
use crate::shared_stores::SharedStores;

/// Shortest time between two syncs of one person.
const INTERVAL: Duration = Duration::from_secs(1);

/// Short deadlines, because the leader waits for one claim lifetime before it sends from a schedule it had to fill.
const DEADLINES: &str = "request_timeout = \"2s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"5s\"\nbatch_budget = \"6s\"\n";

fn registry_of(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("registry.sqlite").display())
}

/// Returns the setting that names the secrets' folder of the first service: the tenants name files in it.
fn secrets_of(folder: &Path) -> (String, String) {
    let secrets = secrets_folder(folder).display().to_string();
    ("TASKSYNC_SECRETS__FOLDER".to_owned(), secrets)
}

/// Starts a service with the registry in `folder`, whose tenants have their secrets below `first`.
async fn start_with_secrets_of(first: &Path, folder: &Path, farm: &Farm) -> Service {
    let mut spec = spec(env!("CARGO_BIN_EXE_tasksync").into(), folder, INTERVAL, "");
    spec.environment.push(secrets_of(first));
    Service::start(spec, farm).await.unwrap()
}

/// Runs a command on the registry itself.
fn on_registry(url: &str, arguments: &[&str]) -> Ended {
    let ended = run(tasksync().args(arguments).env("TASKSYNC_REGISTRY__URL", url));
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended
}

async fn open(url: &str) -> SqlRegistry {
    let settings = RegistrySettings {
        url: url.to_owned(),
        ..RegistrySettings::default()
    };
    open_for_backup(&settings).await.unwrap()
}

/// Checks that every person was synced after `at`.
async fn assert_all_synced_since(url: &str, at: Timestamp) {
    let registry = open(url).await;
    let late = registry.late(at, 10).await.unwrap();
    assert!(late.is_empty(), "not synced since {at}: {late:?}");
    registry.close().await;
}

/// Waits until as many syncs were done from now on as there are people. The oldest go first, so each has a turn.
async fn wait_for_a_turn_of_all(people: usize, mut status: impl AsyncFnMut() -> Value) {
    let mut attempts = async || status().await["summary"]["attempts"].as_u64().unwrap();
    let enough = attempts().await + u64::try_from(people).unwrap();
    eventually_async("a sync of each person", async || attempts().await >= enough).await;
}

/// Syncs each person once with a standalone service in the folder, which then ends.
async fn sync_all_once(service: &Service, url: &str, people: usize) {
    let began = SystemClock.now();
    wait_for_a_turn_of_all(people, async || {
        service.call(Method::GET, "/api/v1/status", None).await.unwrap()
    })
    .await;
    assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(40));
    assert_all_synced_since(url, began).await;
}

fn assert_settled(farm: &Farm, writes_before: u64, logs: &str) {
    assert_eq!(writes(farm), writes_before, "something was written: {logs}");
    let verdict = Oracle::new(farm).compare_sides();
    assert!(verdict.agrees(), "{}", verdict.lines(20).join("\n"));
}

/// Waits until both sides agree, for a time that grows with the number of people.
async fn wait_for_first_syncs(farm: &Farm, service: &Service, people: usize) {
    let oracle = Oracle::new(farm);
    let patience = PATIENCE + Duration::from_secs(u64::try_from(people).unwrap() / 2);
    let began = monotonic();
    while !oracle.compare_sides().agrees() {
        assert!(
            began.elapsed() < patience,
            "the first syncs do not end:\n{}",
            service.log_tail(40)
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn status_of(installation: &Installation) -> Value {
    installation
        .call(0, Method::GET, "/api/v1/status", None)
        .await
        .unwrap()
}

async fn move_there_and_back(people: usize) {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, many, last] = [folders[0].path(), folders[1].path(), folders[2].path()];
    let tenants = 2;
    let farm = farm(77, tenants, people / tenants, 1.0).await;
    let service = start(first, &farm, INTERVAL, "").await;
    let (_, password) = farm.write_secrets(first).unwrap();
    for tenant in &farm.population.tenants {
        let path = format!("/api/v1/tenants/{}", tenant.slug);
        let settings = farm.tenant_settings(tenant, &password);
        service.call(Method::PUT, &path, Some(settings)).await.unwrap();
        import_people(&service, tenant, first);
    }
    wait_for_first_syncs(&farm, &service, people).await;
    assert_eq!(service.terminate().await, Ok(Some(0)));
    service.restart().await.unwrap();
    // The second sync of each person sees what the first one wrote.
    sync_all_once(&service, &registry_of(first), people).await;
    let settled = writes(&farm);

    let file = first.join("move.jsonl").display().to_string();
    on_registry(&registry_of(first), &["export", "--move", &file]);
    on_registry(&stores.registry, &["import", &file]);
    let began = SystemClock.now();
    let mut spec_of_many = stores.installation(many, 1, 1, DEADLINES);
    let claim_lifetime = ("TASKSYNC_SCHEDULE__CLAIM_LIFETIME".to_owned(), "12s".to_owned());
    spec_of_many
        .environment
        .extend([claim_lifetime, secrets_of(first)]);
    let installation = Installation::start(spec_of_many, &farm).await.unwrap();
    wait_for_a_turn_of_all(people, async || status_of(&installation).await).await;
    assert_settled(&farm, settled, &installation.log_tail(40));
    // They are synced indeed: edits arrive.
    let editing = People::start(&farm, 77);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut ledger = editing.stop();
    wait_until_settled(&farm, &installation, &mut ledger).await;
    wait_for_a_turn_of_all(people, async || status_of(&installation).await).await;
    assert_eq!(installation.terminate().await, Ok(vec![Some(0); 2]));
    assert_all_synced_since(&stores.registry, began).await;
    let settled = writes(&farm);

    let file = many.join("move.jsonl").display().to_string();
    on_registry(&stores.registry, &["export", "--move", &file]);
    on_registry(&registry_of(last), &["import", &file]);
    let service = start_with_secrets_of(first, last, &farm).await;
    let counts = service.call(Method::GET, "/api/v1/status", None).await.unwrap();
    assert_eq!(counts["summary"]["users"].as_u64(), u64::try_from(people).ok());
    sync_all_once(&service, &registry_of(last), people).await;
    assert_settled(&farm, settled, &service.log_tail(40));
    farm.stop().await;
    stores.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_move_to_many_machines_and_back_without_a_write() {
    Box::pin(move_there_and_back(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `make move-trial` runs it"]
async fn a_thousand_people_move_to_many_machines_and_back_without_a_write() {
    Box::pin(move_there_and_back(1_000)).await;
}

/// Returns the codes of the failures that the service shows for the tenant's people.
async fn failures(service: &Service, tenant: &str) -> Vec<String> {
    let path = format!("/api/v1/tenants/{tenant}/users");
    let listed = service.call(Method::GET, &path, None).await.unwrap();
    let users = listed["users"].as_array().unwrap();
    let codes = users
        .iter()
        .filter_map(|user| user["failing"]["failure"]["code"].as_str());
    codes.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_leaves_the_original_s_mailboxes_alone() {
    const PEOPLE: usize = 6;
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [original, copy] = [folders[0].path(), folders[1].path()];
    let farm: Arc<Farm> = farm(78, 1, PEOPLE, 2.0).await;
    let tenant = farm.population.tenants[0].slug.clone();
    let service = crate::rig::service(original, &farm, "").await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let file = original.join("backup.jsonl").display().to_string();
    on_registry(&registry_of(original), &["backup", &file]);
    assert_eq!(service.terminate().await, Ok(Some(0)));
    on_registry(&registry_of(copy), &["restore", "--as-copy", &file]);
    let settled = writes(&farm);

    let beside = start_with_secrets_of(original, copy, &farm).await;
    let path = format!("/api/v1/tenants/{tenant}");
    let mut settings = beside.call(Method::GET, &path, None).await.unwrap();
    assert_eq!(settings["enabled"], false);
    settings["enabled"] = json!(true);
    beside.call(Method::PUT, &path, Some(settings)).await.unwrap();
    eventually_async("the refusal of each mailbox", async || {
        failures(&beside, &tenant).await == vec!["mailbox-of-another-installation"; PEOPLE]
    })
    .await;
    assert_eq!(writes(&farm), settled, "{}", beside.log_tail(40));
    assert_eq!(beside.terminate().await, Ok(Some(0)));

    // The original goes on as if nothing had been.
    service.restart().await.unwrap();
    sync_all_once(&service, &registry_of(original), PEOPLE).await;
    assert_settled(&farm, settled, &service.log_tail(40));
    farm.stop().await;
}
