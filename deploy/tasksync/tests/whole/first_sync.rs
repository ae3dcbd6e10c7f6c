//! Forty people opt in while their mail server does not answer, and the process is killed. After the restart all of
//! them are due, and the list of users shows why they are not synced.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tasksync_loadtest::sim::faults::{Fault, Rule};
use tasksync_loadtest::trial::{Farm, Ledger, Service};

use crate::faulty_proxy::{FaultyProxy, ProxyMode};
use crate::rig::{ask, eventually_async, farm, import_people, spec, wait_until_settled};

const PEOPLE: usize = 40;

/// Shortest time between two syncs of one person; the longest is the same.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns what `user list --json` shows of each person's failures.
fn failing(service: &Service, tenant: &str) -> BTreeMap<String, Value> {
    let listed = ask(service, &["--json", "user", "list", tenant]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let answer: Value = serde_json::from_str(&listed.out).unwrap();
    let users = answer["users"].as_array().unwrap();
    assert_eq!(users.len(), PEOPLE);
    users
        .iter()
        .filter(|user| !user["failing"].is_null())
        .map(|user| (user["user"].as_str().unwrap().to_owned(), user["failing"].clone()))
        .collect()
}

async fn get(service: &Service, path: &str) -> Value {
    let path = format!("/api/v1/{path}");
    service.call(Method::GET, &path, None).await.unwrap()
}

/// Returns the codes of the tenant's alerts that name no person.
async fn alerts_of_the_tenant(service: &Service) -> Vec<String> {
    let alerts = get(service, "alerts").await;
    let alerts = alerts["alerts"].as_array().unwrap();
    let of_all = alerts.iter().filter(|alert| alert["user"].is_null());
    of_all
        .map(|alert| alert["failure"]["code"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_whose_first_sync_was_killed_are_due_at_once_and_their_failures_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(51, 1, PEOPLE, 2.0).await;
    let tenant = &farm.population.tenants[0];
    let slug = tenant.slug.as_str();
    let more = "request_timeout = \"3s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"6s\"\n";
    let mut spec = spec(
        env!("CARGO_BIN_EXE_tasksync").into(),
        folder.path(),
        INTERVAL,
        more,
    );
    spec.maximum_interval = INTERVAL;
    let late_after = ("TASKSYNC_SCHEDULE__LATE_AFTER".to_owned(), "1s".to_owned());
    spec.environment.push(late_after);
    let service = Service::start(spec, &farm).await.unwrap();

    let server = farm.ews_url().split('/').nth(2).unwrap().parse().unwrap();
    let gate = FaultyProxy::before(server).await;
    gate.set(ProxyMode::Silent);
    let (_, password) = farm.write_secrets(folder.path()).unwrap();
    let mut settings = farm.tenant_settings(tenant, &password);
    settings["mailbox"]["url"] = json!(format!("http://{}/EWS/Exchange.asmx", gate.authority()));
    let path = format!("/api/v1/tenants/{slug}");
    service.call(Method::PUT, &path, Some(settings)).await.unwrap();
    import_people(&service, tenant, folder.path());
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.kill().await;
    service.restart().await.unwrap();

    // They are due at once: far less than the time between two syncs has passed.
    let mut counted = 0;
    eventually_async("that all users are due or being synced", async || {
        let summary = get(&service, "status").await["summary"].clone();
        counted = summary["due"].as_u64().unwrap() + summary["claimed"].as_u64().unwrap();
        counted > 0
    })
    .await;
    assert_eq!(counted, PEOPLE as u64);

    // The first failure is already shown with its reason.
    eventually_async("the reason of a first failure", async || {
        !failing(&service, slug).is_empty()
    })
    .await;
    for (user, reason) in failing(&service, slug) {
        assert_eq!(reason["failure"]["code"], "exchange-timeout", "{user}: {reason}");
    }

    // The server is back; only one mailbox still fails.
    let unlucky = &tenant.people[7];
    farm.exchange.faults.add(Rule {
        operation: None,
        subject: Some(unlucky.smtp.clone()),
        fault: Fault::Error("ErrorMailboxStoreUnavailable".to_owned()),
        remaining: u64::MAX,
    });
    gate.set(ProxyMode::Open);
    let unlucky = Farm::user_name(unlucky);
    eventually_async(
        "that all others are synced, and this one failed twice",
        async || {
            let failing = failing(&service, slug);
            failing.len() == 1
                && failing.get(&unlucky).is_some_and(|reason| {
                    reason["failure"]["code"] == "exchange-mailbox-unavailable"
                        && reason["attempts"].as_u64() >= Some(2)
                })
        },
    )
    .await;
    let before = failing(&service, slug)[&unlucky].clone();
    service.kill().await;
    service.restart().await.unwrap();
    let after = failing(&service, slug)[&unlucky].clone();
    assert_eq!(after["since"], before["since"]);
    assert!(after["attempts"].as_u64() >= before["attempts"].as_u64());
    let path = format!("tenants/{slug}/users/{unlucky}");
    let mut status = Value::Null;
    eventually_async("the person's place in the order", async || {
        status = get(&service, &path).await;
        !status["schedule"].is_null()
    })
    .await;
    assert!(
        status["schedule"]["failures"].as_u64() >= before["attempts"].as_u64(),
        "{status}"
    );
    assert_eq!(status["enrolment"]["state"], "enabled");
    // The alert about late syncs does not depend on the number of failures.
    eventually_async("the alert", async || {
        alerts_of_the_tenant(&service).await == ["syncs-late"]
    })
    .await;

    farm.exchange.faults.clear();
    let sync_now = format!("/api/v1/{path}/sync");
    service.call(Method::POST, &sync_now, None).await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    farm.stop().await;
}
