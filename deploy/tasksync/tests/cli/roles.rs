//! Scheduler and worker without servers: refusals, probes, waiting for stores.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Running, Standalone, TOKEN, example, run, tasksync};
use tasksync_common::clock::monotonic;

/// Longer than anything here takes, because the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sends a GET without an HTTP client. Returns status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// Returns the command of a role whose stores are at addresses where nothing listens.
fn without_stores(role: &str) -> Command {
    let mut command = tasksync();
    command
        .arg(role)
        .env("TASKSYNC_TOKEN", TOKEN)
        .env("TASKSYNC_API__LISTEN", "127.0.0.1:0")
        .env("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:0")
        .env(
            "TASKSYNC_REGISTRY__URL",
            "postgres://tasksync:geheim@127.0.0.1:1/tasksync",
        )
        .env("TASKSYNC_SCHEDULE__URL", "redis://:geheim@127.0.0.1:1")
        .env("TASKSYNC_QUEUE__URL", "amqp://tasksync:geheim@127.0.0.1:1/%2f");
    command
}

#[test]
fn roles_refuse_stores_that_one_process_keeps_for_itself() {
    for role in ["scheduler", "worker"] {
        for (name, value, setting) in [
            ("TASKSYNC_REGISTRY__URL", "sqlite:tasksync.sqlite", "registry.url"),
            ("TASKSYNC_SCHEDULE__URL", "memory:", "schedule.url"),
            ("TASKSYNC_QUEUE__URL", "memory:", "queue.url"),
        ] {
            let refused = run(without_stores(role).env(name, value));
            assert_eq!(refused.code, 2, "{refused:?}");
            assert!(
                refused.err.starts_with(&format!("tasksync: {setting} is ")) && refused.err.contains(name),
                "{refused:?}"
            );
        }
    }
    let settings = example("settings.toml");
    let checked = run(tasksync()
        .args(["config", "check", "--role", "worker"])
        .arg(settings));
    assert_eq!(checked.code, 2);
    assert!(checked.err.contains("registry.url"), "{checked:?}");
}

#[test]
fn wrong_settings_end_a_role_at_once() {
    for (name, value, expected) in [
        ("TASKSYNC_REGISTRY__URL", "mysql://root:geheim@db/x", "mysql:"),
        ("TASKSYNC_SCHEDULE__URL", "etcd://root:geheim@db", "etcd:"),
        ("TASKSYNC_QUEUE__URL", "kafka://root:geheim@db", "kafka:"),
        (
            "TASKSYNC_QUEUE__CONSUMER_TIMEOUT",
            "60s",
            "queue.consumer_timeout",
        ),
        (
            "TASKSYNC_OUTBOUND__ALLOWED_NETWORKS",
            "[\"everything\"]",
            "everything",
        ),
    ] {
        let ended = run(without_stores("worker").env(name, value));
        assert_eq!(ended.code, 2, "{name}: {ended:?}");
        let last = ended.err.lines().last().unwrap();
        assert!(
            last.starts_with("tasksync: ") && last.contains(expected),
            "{ended:?}"
        );
        assert!(!ended.err.contains("geheim"), "{ended:?}");
    }
}

#[test]
fn a_role_without_its_stores_lives_names_them_and_ends_when_stopped() {
    for role in ["scheduler", "worker"] {
        let mut command = without_stores(role);
        let (process, line) = Running::start(&mut command, "tasksync starts");
        let health = line["health"].as_str().unwrap();
        let started = monotonic();
        let missing = loop {
            let (status, body) = get(health, "/readyz");
            assert_eq!(status, 503, "{body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            let missing = body["missing"].as_array().unwrap().clone();
            let reported = missing
                .iter()
                .filter(|one| one["detail"] != "not asked yet")
                .count();
            if reported == 3 {
                break missing;
            }
            assert!(started.elapsed() < PATIENCE, "{body}");
            std::thread::sleep(Duration::from_millis(50));
        };
        for (missing, (what, code)) in missing.iter().zip([
            ("registry", "registry-unavailable"),
            ("schedule", "redis-unavailable"),
            ("queue", "queue-unavailable"),
        ]) {
            assert_eq!((&missing["what"], &missing["code"]), (&what.into(), &code.into()));
            let detail = missing["detail"].as_str().unwrap();
            assert!(
                detail.contains("127.0.0.1:1") && !detail.contains("geheim"),
                "{missing}"
            );
            assert!(!missing["action"].as_str().unwrap().is_empty(), "{missing}");
        }
        assert_eq!(get(health, "/livez").0, 200);
        let asked = run(tasksync().arg("health").env("TASKSYNC_HEALTH__LISTEN", health));
        assert_eq!(asked.code, 1);
        assert!(
            asked.out.contains("not ready") && asked.out.contains("what to do"),
            "{asked:?}"
        );
        let asked = run(tasksync()
            .args(["health", "--live"])
            .env("TASKSYNC_HEALTH__LISTEN", health));
        assert_eq!((asked.code, asked.out.as_str()), (0, "alive\n"));
        assert_eq!(process.terminate(), Some(0));
    }
}

#[test]
fn the_api_of_a_scheduler_that_waits_says_so() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = without_stores("scheduler");
    command.env("TASKSYNC_API__LISTEN", port.to_string());
    let (process, _) = Running::start(&mut command, "tasksync starts");
    let asked = run(tasksync()
        .arg("status")
        .env("TASKSYNC_URL", format!("http://{port}"))
        .env("TASKSYNC_TOKEN", TOKEN));
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(asked.err.contains("starting"), "{asked:?}");
    // The API's own address names what is missing, without details.
    let (status, body) = get(&port.to_string(), "/readyz");
    assert!(
        status == 503 && body.contains("registry") && !body.contains("127.0.0.1"),
        "{body}"
    );
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn health_follows_a_standalone_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let ask = |address: &str, more: &[&str]| {
        run(tasksync()
            .arg("health")
            .args(more)
            .env("TASKSYNC_HEALTH__LISTEN", address))
    };
    let address = service.health.clone();
    let started = monotonic();
    // The consumers open a moment after the log line "tasksync runs".
    while ask(&address, &[]).code != 0 {
        assert!(started.elapsed() < PATIENCE, "{:?}", ask(&address, &[]));
    }
    assert_eq!(ask(&address, &[]).out, "ready\n");
    assert_eq!(ask(&address, &["--live"]).code, 0);
    assert_eq!(service.terminate(), Some(0));
    let gone = ask(&address, &[]);
    assert_eq!(gone.code, 1);
    assert!(gone.out.contains("health.listen"), "{gone:?}");
}
