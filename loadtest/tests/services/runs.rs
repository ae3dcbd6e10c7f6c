//! A run that is terminated or killed from outside leaves no process running.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::{eventually, state};

const RUN: &[&str] = &["run", "smoke"];
const DEMO: &[&str] = &["demo", "--tenants", "1", "--users", "1"];

/// Creates a program that takes tasksync's place. It writes down its process id, never becomes ready and ignores
/// signals.
fn signal_ignoring_program(folder: &Path) -> PathBuf {
    let path = folder.join("stubborn");
    let script = "#!/bin/sh\ntrap '' INT TERM HUP\necho $$ >\"$0.new\" && mv \"$0.new\" \"$0.pid\"\nwhile :; do sleep 1; done\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// Starts a command with such a program and sends it this signal once the program runs. Waits until the program has
/// ended, too. Returns the command's exit status, and whether it left anything in the folder for temporary files.
async fn ended(command: &[&str], signal: &str) -> (ExitStatus, bool) {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let program = signal_ignoring_program(folder.path());
    // The command would inherit the signals that the tests ignore: SIGHUP under `nohup`, SIGINT in a background job of
    // a shell.
    let mut owner = Command::new("env")
        .arg("--default-signal=INT,TERM,HUP")
        .arg(env!("CARGO_BIN_EXE_tasksync-loadtest"))
        .args(command)
        .arg("--tasksync")
        .arg(&program)
        .current_dir(folder.path())
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = None;
    eventually("the program was not started", || {
        pid = std::fs::read_to_string(folder.path().join("stubborn.pid"))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        pid.is_some()
    })
    .await;
    let sent = Command::new("kill")
        .args(["-s", signal, &owner.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let mut status = None;
    eventually("the command did not end", || {
        status = owner.try_wait().unwrap();
        status.is_some()
    })
    .await;
    eventually("the program still runs", || pid.and_then(state).is_none()).await;
    let left = std::fs::read_dir(&temporary).unwrap().next().is_some();
    (status.unwrap(), left)
}

#[tokio::test]
async fn a_terminated_run_leaves_no_process_and_no_file() {
    for (command, signal, code) in [(RUN, "TERM", 143), (RUN, "INT", 130), (DEMO, "HUP", 129)] {
        let (status, left) = ended(command, signal).await;
        assert_eq!(status.code(), Some(code), "{command:?}");
        assert!(!left, "{command:?} left files behind after SIG{signal}");
    }
}

#[tokio::test]
async fn a_killed_run_leaves_no_process() {
    for command in [RUN, DEMO] {
        ended(command, "KILL").await;
    }
}
