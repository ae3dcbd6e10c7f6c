//! Stores that answer but refuse every write: the readiness probe names the store.

use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use tasksync_loadtest::services::{Persistence, PostgresVolume, Services, ServicesPlan};
use tasksync_loadtest::trial::{Editor, Installation, Ledger, TasksyncProcess};
use url::Url;

use crate::rig::{farm, wait_until_settled};
use crate::shared_stores::SharedStores;
use tasksync_common::clock::monotonic;

/// Longest time until the probe names a store that refuses writes.
const WITHIN: Duration = Duration::from_secs(10);

/// Waits until every process reports that exactly this is missing; `None` waits until every process is ready.
async fn wait_until_reported(installation: &Installation, missing: Option<&str>) {
    let asked = monotonic();
    for process in installation.schedulers.iter().chain(&installation.workers) {
        loop {
            let (status, said) = ready(installation, process).await;
            let named = said["missing"].as_array().and_then(|all| all.first()).cloned();
            let as_expected = match missing {
                None => status == 200,
                Some(store) => status == 503 && named.is_some_and(|named| named["what"] == store),
            };
            if as_expected {
                break;
            }
            assert!(asked.elapsed() < WITHIN, "{status} {said} instead of {missing:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Creates a database at the server and returns its URL.
async fn create_database(server: &str, name: &str) -> String {
    let mut admin = PgConnection::connect(server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    admin.execute(sqlx::AssertSqlSafe(create)).await.unwrap();
    let mut url: Url = server.parse().unwrap();
    url.set_path(name);
    url.into()
}

#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn ready(installation: &Installation, process: &TasksyncProcess) -> (u16, Value) {
    let url = format!("{}/readyz", process.probed());
    let answer = installation.http().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_writes_is_named_within_ten_seconds_and_forgotten_once_it_takes_them() {
    let Some(mut stores) = SharedStores::from_environment().await else {
        return;
    };
    let plan = ServicesPlan {
        redis: Some(Persistence::None),
        postgres: Some(PostgresVolume::Limited),
        ..ServicesPlan::default()
    };
    let private = Box::pin(Services::start(&plan)).await.unwrap();
    let postgres = private.postgres().unwrap();
    stores.schedule = private.redis().unwrap().url();
    stores.registry = create_database(&postgres.url(), stores.name()).await;
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(31, 1, 2, 3.0).await;
    let installation = Installation::start(stores.installation(folder.path(), 1, 1, ""), &farm)
        .await
        .unwrap();
    installation.enrol(0, &farm).await.unwrap();
    wait_until_settled(&farm, &installation, &mut Ledger::default()).await;
    wait_until_reported(&installation, None).await;

    // Its volume is full, but the probe's table has free pages: they can be written even then, and the probe must
    // still fail.
    let mut registry = PgConnection::connect(&stores.registry).await.unwrap();
    registry
        .execute("VACUUM (TRUNCATE false) write_probe")
        .await
        .unwrap();
    postgres.fill_volume(true).unwrap();
    wait_until_reported(&installation, Some("registry")).await;
    let (mut editor, mut ledger) = (Editor::resting(31, Duration::ZERO), Ledger::default());
    for _ in 0..10 {
        editor.act(&farm, &mut ledger).unwrap();
    }
    wait_until_reported(&installation, Some("registry")).await;
    postgres.fill_volume(false).unwrap();
    wait_until_reported(&installation, None).await;
    wait_until_settled(&farm, &installation, &mut ledger).await;
    registry.close().await.unwrap();

    let client = redis::Client::open(stores.schedule.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut send_command = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.exec_async(&mut redis).await.unwrap();
    };
    // A failover turned it into a replica while the processes run.
    send_command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    wait_until_reported(&installation, Some("schedule")).await;
    send_command(&["REPLICAOF", "NO", "ONE"]).await;
    wait_until_reported(&installation, None).await;
    // Its memory is full.
    send_command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    wait_until_reported(&installation, Some("schedule")).await;
    send_command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    wait_until_reported(&installation, None).await;

    // The database became read-only, like a standby; open connections are closed, as by a failover.
    let mut registry = PgConnection::connect(&stores.registry).await.unwrap();
    for (value, missing) in [("on", Some("registry")), ("off", None)] {
        let set = format!(
            "ALTER DATABASE {} SET default_transaction_read_only = {value}",
            stores.name()
        );
        registry
            .execute("SET default_transaction_read_only = off")
            .await
            .unwrap();
        registry.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
        registry
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await
            .unwrap();
        wait_until_reported(&installation, missing).await;
    }
    registry.close().await.unwrap();
    installation.terminate().await.unwrap();
    farm.stop().await;
    stores.close().await;
}
