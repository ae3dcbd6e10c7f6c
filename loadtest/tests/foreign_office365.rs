//! A foreign client, Office365-REST-Python-Client, takes a task through its life on the simulated SharePoint over TLS.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "test code outside test functions: a panic is how it fails"
)]

#[path = "foreign/python.rs"]
mod python;

use std::sync::Arc;

use tasksync_loadtest::sharepoint::people::{ListSpec, SiteSpec};
use tasksync_loadtest::sharepoint::{Language, Settings, SharePoint};
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::tls::SimTls;
use tasksync_loadtest::sim::token::TokenServer;

const SITE: &str = "/sites/contoso";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_leads_a_task_through_its_life() {
    let tls = SimTls::generate().unwrap();
    let tokens = TokenServer::new();
    tokens.add_secret("client", "secret");
    let token_listener = Listener::start(Arc::clone(&tokens), Some(&tls)).await.unwrap();
    let sharepoint = SharePoint::new(Settings::default());
    sharepoint.accept_tokens(tokens.validator());
    let spec = SiteSpec {
        path: SITE.to_owned(),
        title: "Contoso".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        language: Language::English,
    };
    sharepoint.add_site(&spec).unwrap();
    let ana = sharepoint
        .add_user(SITE, "i:0#.w|contoso\\ana", "Ana", "ana@contoso.example")
        .unwrap();
    let list = sharepoint.add_list(SITE, &ListSpec::new("Tasks", 171)).unwrap();
    let listener = sharepoint.serve(Some(&tls)).await.unwrap();

    let python = tokio::task::spawn_blocking(python::interpreter).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, &tls.identity.authority).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/office365_life.py");
    let output = tokio::process::Command::new(python)
        .arg(script)
        .env("SITE_URL", format!("{}{SITE}", listener.base_url()))
        .env(
            "TOKEN_URL",
            format!("{}/contoso/oauth2/v2.0/token", token_listener.base_url()),
        )
        .env("CLIENT_ID", "client")
        .env("CLIENT_SECRET", "secret")
        .env("REQUESTS_CA_BUNDLE", authority)
        .env("NO_PROXY", "*")
        .output()
        .await
        .unwrap();
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{printed}");

    let items = sharepoint.items(SITE, list).unwrap();
    assert_eq!(items.len(), 7, "{printed}");
    let task = &items[0];
    assert_eq!(
        (task.title.as_str(), task.version, task.status, task.percent),
        ("Order more parts", 2, 2, 0.25)
    );
    assert_eq!(task.due, Some(jiff::civil::date(2026, 12, 4)));
    assert_eq!(task.assigned_to, [ana]);
    assert!(items[1].recycled && items[1].title == "Throw away");
    assert!(
        items[2..]
            .iter()
            .all(|item| !item.recycled && item.title.starts_with("Page "))
    );
}
