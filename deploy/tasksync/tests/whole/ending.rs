//! SIGTERM under load: the process ends in order and in time, and nothing is lost.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::trial::Ledger;

use crate::rig::{PATIENCE, People, farm, service, settles, start_as, stays_quiet};

/// The drain of these trials; the end of the process takes a little longer.
const DRAIN: &str = "request_timeout = \"3s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"5s\"\ndrain = \"8s\"\ngrace_period = \"20s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_in_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(12, 2, 6, 8.0).await;
    farm.exchange
        .faults
        .next(None, u64::MAX, Fault::Slow(Duration::from_millis(40)));
    let mut service = service(folder.path(), &farm, DRAIN).await;
    let people = People::start(&farm, 12);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let asked = Instant::now();
        assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
        // The grace period, after which a platform would kill it.
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        service.restart().await.unwrap();
    }
    let mut ledger = people.stop();
    farm.exchange.faults.clear();
    settles(&farm, &service, &mut ledger).await;
    stays_quiet(&farm).await;
    farm.stop().await;
}

/// As the first process of a container: signals have no default action there.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_on_sigterm_as_process_1() {
    let permitted = Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    if !permitted.is_ok_and(|ended| ended.status.success()) {
        println!("SKIPPED: unshare --pid is not permitted here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(13, 1, 2, 3.0).await;
    let script = folder.path().join("tasksync.sh");
    let text = format!(
        "#!/bin/sh\nexec unshare --pid --fork --kill-child {} \"$@\"\n",
        env!("CARGO_BIN_EXE_tasksync")
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = Duration::from_secs(1);
    let mut service = start_as(script, folder.path(), &farm, second, DRAIN).await;
    service.enrol(&farm).await.unwrap();
    settles(&farm, &service, &mut Ledger::default()).await;
    let outer = service.process_id().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner = children.split_whitespace().next().unwrap().to_owned();
    let namespaces = std::fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
    let line = namespaces
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .unwrap();
    assert_eq!(line.split_whitespace().last(), Some("1"), "{line}");
    assert!(
        Command::new("kill")
            .args(["-TERM", &inner])
            .status()
            .unwrap()
            .success()
    );
    let asked = Instant::now();
    while !std::fs::read_to_string(format!("/proc/{outer}/stat"))
        .unwrap()
        .contains(") Z ")
    {
        assert!(asked.elapsed() < PATIENCE, "{}", service.log_tail(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
    farm.stop().await;
}
