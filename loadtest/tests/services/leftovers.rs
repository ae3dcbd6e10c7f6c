//! However the owner ends, no process and no file is left behind.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tasksync_loadtest::services::{Persistence, Redis, Services, ServicesPlan};

use super::{eventually, folder, started, state};

#[tokio::test]
async fn dropped_servers_leave_no_process_and_no_file() {
    let Some(services) = started(Services::start(&ServicesPlan::distributed()).await) else {
        return;
    };
    let (pids, folder) = (services.pids(), services.folder().to_path_buf());
    assert!(pids.len() > 3, "{pids:?}");
    assert!(folder.exists());
    assert!(services.redis_cluster().is_err());
    services.redis().unwrap().kill();
    services.redis().unwrap().restart().await.unwrap();
    services.rabbitmq().unwrap().pause();
    let pids: Vec<u32> = pids.into_iter().chain(services.pids()).collect();
    drop(services);
    eventually("processes are left", || {
        pids.iter().all(|pid| state(*pid).is_none())
    })
    .await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn the_folder_lives_as_long_as_one_of_its_servers() {
    let folder = folder();
    let path = folder.path().to_path_buf();
    let Some(server) = started(Redis::start(&folder, Persistence::None).await) else {
        return;
    };
    drop(folder);
    assert!(path.exists());
    server.restart().await.unwrap();
    drop(server);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_killed_owner_leaves_no_process_and_no_file() {
    if started(installed()).is_none() {
        return;
    }
    let mut owner = program().arg("services").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(owner.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let last = line.contains("until Ctrl-C");
        lines.push(line);
        if last {
            break;
        }
    }
    for name in [
        "REDIS_URL",
        "REDIS_CLUSTER_URL",
        "AMQP_URL",
        "RABBITMQ_API_URL",
        "POSTGRES_URL",
    ] {
        let start = format!("export TASKSYNC_TEST_{name}='");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{name}: {lines:?}"
        );
    }
    let folder = lines
        .iter()
        .find_map(|line| line.strip_prefix("# Data and logs: "))
        .map(PathBuf::from)
        .unwrap();
    let below = descendants(owner.id());
    assert!(below.len() > 6, "{below:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("processes are left", || {
        below.iter().all(|pid| state(*pid).is_none())
    })
    .await;
    eventually("files are left", || !folder.exists()).await;
}

#[tokio::test]
async fn a_command_gets_the_urls_and_its_exit_code_is_passed_on() {
    if started(installed()).is_none() {
        return;
    }
    let script = "test -n \"$TASKSYNC_TEST_REDIS_URL\" && test -z \"$TASKSYNC_TEST_AMQP_URL\" && \
                  test \"$TASKSYNC_TEST_SERVICES\" = required && exit 7";
    let mut command = program();
    command
        .args(["services", "--redis", "--", "sh", "-c", script])
        .env_remove("TASKSYNC_TEST_AMQP_URL");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tasksync-loadtest"))
}

/// Checks that the programs of all servers are installed.
fn installed() -> Result<(), tasksync_loadtest::services::ServiceError> {
    tasksync_loadtest::services::Binaries::default().check(&ServicesPlan::all())
}

/// Returns every process below `root`.
fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let tasks = std::fs::read_dir(Path::new("/proc").join(parent.to_string()).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    found.remove(0);
    found
}
