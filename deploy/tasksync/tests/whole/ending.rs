//! SIGTERM under load: the process ends in order and in time, and nothing is lost.

use std::time::Duration;

use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::trial::Ledger;

use crate::rig::{
    People, as_process_1, assert_no_writes, farm, service, start_as, terminate_process_1, wait_until_settled,
};

use tasksync_common::clock::monotonic;

/// Settings with a short drain; the process takes a little longer to end.
const DRAIN: &str = "request_timeout = \"3s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"5s\"\ndrain = \"8s\"\ngrace_period = \"20s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_in_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(12, 2, 6, 8.0).await;
    farm.exchange
        .faults
        .next(None, u64::MAX, Fault::Slow(Duration::from_millis(40)));
    let service = service(folder.path(), &farm, DRAIN).await;
    let people = People::start(&farm, 12);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let asked = monotonic();
        assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
        // The grace period, after which a platform would kill the process.
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        service.restart().await.unwrap();
    }
    let mut ledger = people.stop();
    farm.exchange.faults.clear();
    wait_until_settled(&farm, &service, &mut ledger).await;
    assert_no_writes(&farm).await;
    farm.stop().await;
}

/// Runs as the first process of a container, where signals have no default action.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_on_sigterm_as_process_1() {
    let folder = tempfile::tempdir().unwrap();
    let Some(script) = as_process_1(folder.path()) else {
        return;
    };
    let farm = farm(13, 1, 2, 3.0).await;
    let second = Duration::from_secs(1);
    let service = start_as(script, folder.path(), &farm, second, DRAIN).await;
    service.enrol(&farm).await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    terminate_process_1(service.process_id().unwrap(), || service.log_tail(20)).await;
    assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
    farm.stop().await;
}
