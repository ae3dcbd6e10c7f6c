//! The operator's commands against a running service.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use crate::harness::{Standalone, TOKEN, example, run, tasksync};

fn with_tenant() -> (tempfile::TempDir, Standalone) {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let file = example("tenant.toml");
    let added = service.ask(&["tenant", "add", "--no-test", file.to_str().unwrap()]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.out.contains("contoso was added"), "{added:?}");
    (folder, service)
}

fn opt_in(service: &Standalone, user: &str) {
    let mailbox = format!("{user}@contoso.example");
    let ended = service.ask(&[
        "user",
        "opt-in",
        "contoso",
        user,
        "--source-login",
        &format!("i:0#.w|contoso\\{user}"),
        "--mailbox",
        &mailbox,
        "--time-zone",
        "Europe/Berlin",
        "--unchecked",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("due now"), "{ended:?}");
}

#[test]
fn tenants_are_managed() {
    let (_folder, service) = with_tenant();
    let list = service.ask(&["tenant", "list"]);
    assert!(
        list.out.contains("contoso") && list.out.contains("enabled"),
        "{list:?}"
    );
    let shown = service.ask(&["tenant", "show", "contoso"]);
    assert!(shown.out.contains("EWS/Exchange.asmx"), "{shown:?}");
    assert_eq!(service.json(&["tenant", "show", "contoso"])["id"], "contoso");
    assert_eq!(service.ask(&["tenant", "disable", "contoso"]).code, 0);
    assert_eq!(service.json(&["tenant", "show", "contoso"])["enabled"], false);
    opt_in_disabled(&service);
    assert_eq!(service.ask(&["tenant", "enable", "contoso"]).code, 0);
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    let refused = service.ask(&["tenant", "remove", "contoso"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("contoso has 1 person") && refused.err.contains("--yes"),
        "{refused:?}"
    );
    assert_eq!(service.ask(&["tenant", "show", "contoso"]).code, 0);
    let removed = service.ask(&["tenant", "remove", "contoso", "--yes"]);
    assert!(
        removed.code == 0 && removed.out.contains("with 1 person"),
        "{removed:?}"
    );
    let gone = service.ask(&["tenant", "show", "contoso"]);
    assert_eq!(gone.code, 1);
    assert!(
        gone.err.contains("not-found") && gone.err.contains("tasksync tenant list"),
        "{gone:?}"
    );
    assert!(
        service
            .ask(&["tenant", "list"])
            .out
            .contains("tasksync tenant add")
    );
}

fn opt_in_disabled(service: &Standalone) {
    let ended = service.opt_in_ana();
    assert!(ended.out.contains("contoso is disabled"), "{ended:?}");
}

#[test]
fn users_are_managed() {
    let (_folder, service) = with_tenant();
    opt_in(&service, "ana");
    opt_in(&service, "ben");
    let users = service.json(&["user", "list", "contoso"]);
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    let shown = service.ask(&["user", "status", "contoso", "ana"]);
    assert!(shown.out.contains("next sync:"), "{shown:?}");
    assert_eq!(service.ask(&["sync-now", "contoso", "ana"]).code, 0);
    let pauses = service.ask(&["tenant", "pauses", "contoso"]);
    assert_eq!(pauses.out, "No server of the tenant is paused.\n");
    let ended = service.ask(&["tenant", "end-pauses", "contoso"]);
    assert!(ended.out.starts_with("0 pauses were ended"), "{ended:?}");
    let refused = service.ask(&["user", "allow-deletions", "contoso", "ana"]);
    assert!(
        refused.code != 0 && refused.err.contains("nothing-held"),
        "{refused:?}"
    );
    let journal = service.ask(&["user", "journal", "contoso", "ana"]);
    assert_eq!(journal.out, "Nothing was overwritten or deleted.\n");
    let status = service.ask(&["status", "--tenant", "contoso"]);
    assert!(status.out.contains("2 enabled, 0 disabled"), "{status:?}");
    assert_eq!(service.ask(&["alerts", "--tenant", "contoso"]).code, 0);
    assert_eq!(
        service
            .ask(&["alerts", "--list", "--since", "2h", "--limit", "5"])
            .code,
        0
    );
    let wrong = service.ask(&["alerts", "--since", "yesterday"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("2h for two hours ago"),
        "{wrong:?}"
    );
    let unknown = service.ask(&["alerts", "--code", "nonsense"]);
    assert!(
        unknown.code == 1 && unknown.err.contains("nonsense"),
        "{unknown:?}"
    );
    assert_eq!(service.ask(&["user", "opt-out", "contoso", "ana"]).code, 0);
    let gone = service.ask(&["user", "status", "contoso", "ana"]);
    assert_eq!(gone.code, 1);
    let taken = service.ask(&[
        "user",
        "opt-in",
        "contoso",
        "eve",
        "--source-login",
        "eve",
        "--mailbox",
        "ben@contoso.example",
        "--unchecked",
        "--json",
    ]);
    assert_eq!(taken.code, 1);
    assert!(taken.out.contains("\"mailbox-taken\""), "{taken:?}");
}

#[test]
fn the_doctor_fails_when_servers_cannot_be_reached() {
    let (_folder, service) = with_tenant();
    let all = service.json(&["doctor"]);
    let installation: Vec<_> = all["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["subject"] == "installation")
        .collect();
    for id in ["registry-writable", "schedule-leader", "queue-answers"] {
        let check = installation.iter().find(|check| check["id"] == id).unwrap();
        assert_eq!(check["result"], "ok", "{check}");
    }
    let ended = service.ask(&["doctor", "--tenant", "contoso"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("FAILED  Every site answers"), "{}", ended.out);
    assert!(ended.out.contains("What to do:"));
}

#[test]
fn a_missing_or_wrong_token_names_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let missing = run(tasksync().arg("status").env("TASKSYNC_URL", &service.url));
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("TASKSYNC_TOKEN_FILE"), "{missing:?}");
    let wrong = run(tasksync()
        .args(["status", "--url", &service.url])
        .env("TASKSYNC_TOKEN", format!("{TOKEN}x")));
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.err.contains("unauthorized") && wrong.err.contains("TASKSYNC_TOKEN"),
        "{wrong:?}"
    );
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    service.wait_until_well();
    let right = run(tasksync()
        .args(["status", "--url", &service.url])
        .env("TASKSYNC_TOKEN_FILE", &file));
    assert_eq!(right.code, 0, "{right:?}");
}

#[test]
fn a_missing_service_is_distinguished_from_one_that_refuses() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let ended = run(tasksync()
        .args(["status", "--url", &format!("http://127.0.0.1:{port}")])
        .env("TASKSYNC_TOKEN", TOKEN));
    assert_eq!(ended.code, 3);
    assert!(
        ended.err.contains("tasksync standalone") && ended.err.contains("TASKSYNC_URL"),
        "{ended:?}"
    );
    let ended = run(tasksync()
        .args(["status", "--url", "nonsense"])
        .env("TASKSYNC_TOKEN", TOKEN));
    assert_eq!(ended.code, 2);
}

#[test]
fn wrong_files_and_names_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenant.toml");
    let text = std::fs::read_to_string(example("tenant.toml")).unwrap();
    std::fs::write(&file, text.replace("display_name", "displayname")).unwrap();
    let ended = run(tasksync()
        .args(["tenant", "add", file.to_str().unwrap()])
        .env("TASKSYNC_TOKEN", TOKEN));
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("displayname") && ended.err.contains("tenant.toml"),
        "{ended:?}"
    );
    let ended = run(tasksync()
        .args(["tenant", "show", ""])
        .env("TASKSYNC_TOKEN", TOKEN));
    assert_eq!(ended.code, 2);
    let ended = run(tasksync().args(["tenant", "nonsense"]));
    assert_eq!(ended.code, 2);
}

#[test]
fn no_command_repeats_a_secret_that_was_written_in_the_wrong_place() {
    const CANARY: &str = "hunter2hunter2";
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let file = folder.path().join("tenant.toml");
    let text = std::fs::read_to_string(example("tenant.toml")).unwrap();
    let (before, rest) = text.split_once("password = ").unwrap();
    let (_, after) = rest[1..].split_once('"').unwrap();
    for written in [
        format!("\"{CANARY}\""),
        format!("\"env:{CANARY} \""),
        CANARY.to_owned(),
        format!("\"{CANARY}"),
        format!("[\"{CANARY}\"]"),
        "2222222222".to_owned(),
    ] {
        std::fs::write(&file, format!("{before}password = {written}{after}")).unwrap();
        let ended = service.ask(&["tenant", "add", file.to_str().unwrap()]);
        assert_eq!(ended.code, 2, "{written}: {ended:?}");
        assert!(ended.err.contains("tenant.toml:"), "{ended:?}");
        assert!(
            !ended.err.contains("hunter2") && !ended.err.contains("2222"),
            "{ended:?}"
        );
    }
    let in_url = run(tasksync()
        .args(["status", "--url", &format!("http://u:{CANARY}@127.0.0.1:1")])
        .env("TASKSYNC_TOKEN", TOKEN));
    let as_file = run(tasksync().arg("status").env("TASKSYNC_TOKEN_FILE", CANARY));
    let short = run(tasksync().arg("status").env("TASKSYNC_TOKEN", "hunter2"));
    for ended in [in_url, as_file, short] {
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(!ended.err.contains("hunter2"), "{ended:?}");
    }
}

#[test]
fn a_file_opts_many_users_in() {
    let (folder, service) = with_tenant();
    let file = folder.path().join("users.csv");
    let mut lines = vec!["user,source_login,mailbox,time_zone".to_owned()];
    lines.extend((0..600).map(|at| format!("user{at},contoso\\user{at},user{at}@contoso.example,")));
    let mut text = lines.join("\n") + "\n";
    std::fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    let ended = service.ask(&["user", "opt-in", "contoso", "--file", path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("600 users were added"), "{ended:?}");
    text.push_str("thief,contoso\\thief,user1@contoso.example,\n");
    std::fs::write(&file, &text).unwrap();
    let ended = service.ask(&["user", "opt-in", "contoso", "--file", path]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended
            .out
            .contains("thief: user1@contoso.example belongs to contoso/user1"),
        "{ended:?}"
    );
    let wrong = service.ask(&["user", "opt-in", "contoso", "ana", "--file", path]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[test]
fn the_status_begins_with_the_verdict_and_is_shown_again_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    service.wait_until_well();
    let status = service.ask(&["status"]);
    assert!(
        status.code == 0 && status.out.starts_with("All is well.\n"),
        "{status:?}"
    );
    let mut watching = service
        .command(&["status", "--watch=200ms"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        // Plain blocks where the output is no terminal.
        assert!(lines.any(|line| line.unwrap() == "All is well."));
    }
    let pid = watching.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    // Reads on, because the process would block on a full pipe.
    let rest = std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    rest.join().unwrap();
}

#[test]
fn a_requested_sync_is_waited_for_and_its_failure_is_the_exit_code() {
    let (_folder, service) = with_tenant();
    opt_in(&service, "ana");
    // The servers of the example do not exist.
    let ended = service.ask(&["sync-now", "contoso", "ana", "--wait=60s"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("The sync of ana failed at"), "{ended:?}");
    assert!(ended.out.contains("What to do:"), "{ended:?}");
}
