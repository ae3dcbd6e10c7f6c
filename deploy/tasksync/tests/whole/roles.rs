//! Schedulers and workers as separate processes over real PostgreSQL, Redis and RabbitMQ.

use std::time::Duration;

use tasksync_loadtest::trial::{Installation, Ledger, Oracle};

use crate::canary::Canaries;
use crate::rig::{
    PATIENCE, People, as_process_1, assert_no_writes, farm, run, tasksync, terminate_process_1,
    wait_until_settled,
};
use crate::shared_stores::SharedStores;
use tasksync_common::clock::monotonic;

/// Short deadlines, as in `ending`, so that work is cut off soon. Claims of a killed worker expire soon, too.
const DEADLINES: &str = "request_timeout = \"3s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"5s\"\nbatch_budget = \"8s\"\ndrain = \"8s\"\ngrace_period = \"20s\"\n";

async fn leader(installation: &Installation) -> usize {
    let started = monotonic();
    loop {
        if let Some(leader) = installation.leader().await {
            return leader;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no scheduler leads:\n{}",
            installation.log_tail(20)
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns what `tasksync status` prints at one scheduler.
fn status(installation: &Installation, scheduler: usize) -> String {
    let mut command = tasksync();
    command
        .arg("status")
        .env("TASKSYNC_URL", installation.url(scheduler).unwrap())
        .env("TASKSYNC_TOKEN", installation.token());
    let ended = run(&mut command);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.out
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedulers_and_two_workers_lose_nothing_when_leader_and_worker_are_killed() {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(21, 2, 6, 5.0).await;
    let mut spec = stores.installation(folder.path(), 2, 2, DEADLINES);
    spec.environment
        .push(("TASKSYNC_SCHEDULE__CLAIM_LIFETIME".to_owned(), "15s".to_owned()));
    let installation = Installation::start(spec, &farm).await.unwrap();
    let first = leader(&installation).await;
    // Enrols at the scheduler that does not lead: any scheduler serves the API.
    installation.enrol(1 - first, &farm).await.unwrap();
    let people = People::start(&farm, 21);
    tokio::time::sleep(Duration::from_secs(4)).await;
    for scheduler in 0..2 {
        let said = status(&installation, scheduler);
        assert!(said.contains("leader:       scheduler-"), "{said}");
    }
    installation.schedulers[first].kill().await;
    let second = leader(&installation).await;
    assert_ne!(first, second);
    tokio::time::sleep(Duration::from_secs(2)).await;
    installation.workers[0].kill().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let http = installation.http().clone();
    installation.schedulers[first].restart(&http).await.unwrap();
    installation.workers[0].restart(&http).await.unwrap();
    let mut ledger = people.stop();
    wait_until_settled(&farm, &installation, &mut ledger).await;
    assert_no_writes(&farm).await;
    assert!(ledger.len() >= 20, "only {} edits were made", ledger.len());
    assert_eq!(
        installation.terminate().await,
        Ok(vec![Some(0); 4]),
        "{}",
        installation.log_tail(20)
    );
    let verdict = Oracle::new(&farm).compare_sides();
    assert!(verdict.agrees(), "{}", verdict.lines(20).join("\n"));
    farm.stop().await;
    stores.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_end_in_order_under_load_and_a_stopped_leader_is_followed() {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(22, 2, 6, 5.0).await;
    let spec = stores.installation(folder.path(), 2, 2, DEADLINES);
    let mut installation = Installation::start(spec, &farm).await.unwrap();
    installation.enrol(0, &farm).await.unwrap();
    let people = People::start(&farm, 22);
    let http = installation.http().clone();
    for round in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let stopped = leader(&installation).await;
        for process in [
            &mut installation.schedulers[stopped],
            &mut installation.workers[round],
        ] {
            let asked = monotonic();
            assert_eq!(process.terminate().await, Ok(Some(0)), "{}", process.log_tail(20));
            // The grace period, after which a platform would kill the process.
            assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        }
        assert_ne!(leader(&installation).await, stopped);
        installation.schedulers[stopped].restart(&http).await.unwrap();
        installation.workers[round].restart(&http).await.unwrap();
    }
    let mut ledger = people.stop();
    wait_until_settled(&farm, &installation, &mut ledger).await;
    assert_no_writes(&farm).await;
    assert_eq!(installation.terminate().await, Ok(vec![Some(0); 4]));
    farm.stop().await;
    stores.close().await;
}

/// Runs as the first process of a container, where signals have no default action.
#[tokio::test(flavor = "multi_thread")]
async fn both_roles_end_on_sigterm_as_process_1() {
    let folder = tempfile::tempdir().unwrap();
    let Some(script) = as_process_1(folder.path()) else {
        return;
    };
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let farm = farm(23, 1, 2, 3.0).await;
    let mut spec = stores.installation(folder.path(), 1, 1, DEADLINES);
    spec.service.executable = script;
    let mut installation = Installation::start(spec, &farm).await.unwrap();
    installation.enrol(0, &farm).await.unwrap();
    wait_until_settled(&farm, &installation, &mut Ledger::default()).await;
    let Installation {
        schedulers, workers, ..
    } = &mut installation;
    for process in schedulers.iter_mut().chain(workers) {
        terminate_process_1(process.id().unwrap(), || process.log_tail(20)).await;
        assert_eq!(process.terminate().await, Ok(Some(0)), "{}", process.log_tail(20));
    }
    farm.stop().await;
    stores.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_roles_are_ready_and_no_secret_is_in_a_store_or_an_output() {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(24, 1, 1, 1.0).await;
    let spec = stores.installation(folder.path(), 1, 1, DEADLINES);
    let installation = Installation::start(spec, &farm).await.unwrap();
    for process in installation.schedulers.iter().chain(&installation.workers) {
        let address = process.probed().trim_start_matches("http://");
        let mut command = tasksync();
        command.arg("health").env("TASKSYNC_HEALTH__LISTEN", address);
        let ended = run(&mut command);
        assert_eq!((ended.code, ended.out.as_str()), (0, "ready\n"), "{ended:?}");
    }

    let url = installation.url(0).unwrap().to_owned();
    let mut canaries = Canaries::put_through(&url, installation.token(), folder.path()).await;
    for process in installation.schedulers.iter().chain(&installation.workers) {
        canaries.hear_metrics(process.probed()).await;
    }
    // Killed, so that the next jobs stay in the queue.
    installation.workers[0].kill().await;
    canaries.ask_for_syncs(&url, installation.token()).await;
    canaries.record_output("RabbitMQ", stores.messages().await);
    canaries.record_output("Redis", stores.redis_content().await);
    canaries.record_output("PostgreSQL", stores.tables().await);
    assert_eq!(installation.schedulers[0].terminate().await, Ok(Some(0)));
    canaries.hear_logs(folder.path());
    canaries.assert_no_secret_shown();
    farm.stop().await;
    stores.close().await;
}
