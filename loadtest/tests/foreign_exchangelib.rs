//! A foreign client, exchangelib for Python, takes a task through its life on the simulated Exchange.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by failing"
)]

#[path = "foreign/python.rs"]
mod python;

use std::process::Stdio;
use std::sync::Arc;

use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::exchange::{DateZone, Exchange, ExchangeSettings, MailboxSpec, TaskStatus};
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::tls::SimTls;
use tokio::io::AsyncWriteExt as _;

const OWN: &str = "svc@contoso.example";
const PERSON: &str = "ana@contoso.example";

async fn task_lifecycle(time_zone: &str, date_zone: DateZone) {
    let python = tokio::task::spawn_blocking(python::interpreter).await.unwrap();
    let exchange = Exchange::new(ExchangeSettings {
        date_zone,
        ..ExchangeSettings::default()
    });
    for smtp in [OWN, PERSON, "ben@contoso.example"] {
        exchange.add_mailbox(MailboxSpec {
            time_zone: time_zone.to_owned(),
            ..MailboxSpec::new(smtp, smtp)
        });
    }
    exchange.add_account(ServiceAccount {
        user: OWN.to_owned(),
        password: "secret".to_owned(),
        rights: AccountRights {
            impersonate: MailboxScope::List(vec![PERSON.to_owned()]),
            full_access: MailboxScope::None,
        },
    });
    let tls = SimTls::generate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &tls.identity.authority).unwrap();
    let listener = Listener::start(Arc::clone(&exchange), Some(&tls)).await.unwrap();
    let settings = serde_json::json!({
        "url": format!("{}/EWS/Exchange.asmx", listener.base_url()),
        "user": OWN,
        "password": "secret",
        "smtp": OWN,
        "person": PERSON,
        "stranger": "ben@contoso.example",
        "zone": time_zone,
        "ca": authority.to_str().unwrap(),
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/exchangelib_life.py");
    let mut child = tokio::process::Command::new(python)
        .arg(script)
        .env("NO_PROXY", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(settings.to_string().as_bytes())
        .await
        .unwrap();
    let output = child.wait_with_output().await.unwrap();
    listener.stop().await;
    assert!(
        output.status.success(),
        "the script failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for smtp in [OWN, PERSON] {
        let items = exchange.items(smtp);
        let [kept, deleted] = items.as_slice() else {
            panic!("{smtp} holds {items:?}")
        };
        assert_eq!((kept.subject.as_str(), kept.in_deleted_items), ("Kept", false));
        assert_eq!(kept.due.unwrap().to_string(), "2026-03-29");
        assert_eq!(
            kept.named.get("TaskSyncSourceKey").map(String::as_str),
            Some("sp|kept")
        );
        assert_eq!(
            (deleted.subject.as_str(), deleted.in_deleted_items),
            ("Order parts (2)", true)
        );
        assert_eq!(deleted.status, TaskStatus::Completed);
        assert_eq!(deleted.due.unwrap().to_string(), "2026-12-05");
        let names: Vec<String> = exchange
            .folders(smtp)
            .into_iter()
            .map(|folder| folder.display_name)
            .collect();
        assert!(names.contains(&"Without marker".to_owned()));
        assert!(!names.contains(&"Renamed".to_owned()));
    }
    let stats = exchange.stats.snapshot();
    assert!(
        stats.operations.iter().all(|(_, requests)| *requests > 0),
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchangelib_lives_a_tasks_life_in_utc() {
    task_lifecycle("UTC", DateZone::Mailbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchangelib_lives_a_tasks_life_in_berlin() {
    task_lifecycle("Europe/Berlin", DateZone::Mailbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchangelib_lives_a_tasks_life_in_the_zone_of_the_request() {
    task_lifecycle("Asia/Tokyo", DateZone::Request).await;
}
