//! Tenants without opted-in users cost nothing: no messages, and no calls to their servers.

use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use tasksync_loadtest::trial::{Farm, Installation, TasksyncProcess};

use crate::rig::{eventually_async, farm};
use crate::shared_stores::SharedStores;

const TENANTS: usize = 10_000;
/// Tenants added concurrently, fewer than the registry has connections.
const AT_ONCE: usize = 4;
/// Attempts to add a tenant while the registry is too busy.
const TRIES: usize = 10;

/// Returns the sum of all series whose names begin with `series`, as the process itself reports them.
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn metric(http: &reqwest::Client, process: &TasksyncProcess, series: &str) -> f64 {
    let url = format!("{}/metrics", process.probed());
    let text = http.get(url).send().await.unwrap().text().await.unwrap();
    text.lines()
        .filter(|line| line.starts_with(series))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|value| value.parse::<f64>().ok())
                .unwrap()
        })
        .sum()
}

/// Calls the service until it succeeds, as a client would: a registry on a busy disk may answer that it is busy.
async fn patiently(
    installation: &Installation,
    path: &str,
    body: serde_json::Value,
) -> Result<serde_json::Value, String> {
    let put = || installation.call(0, Method::PUT, path, Some(body.clone()));
    for _ in 0..TRIES {
        match put().await {
            Err(error) if error.contains("registry-unavailable") => {}
            answer => return answer,
        }
    }
    put().await
}

async fn add_all(installation: &Installation, farm: &Farm, folder: &std::path::Path) {
    let (_, password) = farm.write_secrets(folder).unwrap();
    futures::stream::iter(&farm.population.tenants)
        .map(|tenant| {
            let body = farm.tenant_settings(tenant, &password);
            let path = format!("/api/v1/tenants/{}", tenant.slug);
            async move { patiently(installation, &path, body).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tenants_without_enrolments_cause_no_message_and_no_remote_call() {
    let Some(stores) = SharedStores::from_environment().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(41, TENANTS, 1, 1.0).await;
    let mut spec = stores.installation(folder.path(), 1, 1, "");
    // The shortest intervals allowed, so that everything periodic happens several times.
    for (name, value) in [("RUN_INTERVAL", "1s"), ("TENANT_SEARCH_INTERVAL", "2s")] {
        spec.environment
            .push((format!("TASKSYNC_SCHEDULE__{name}"), value.to_owned()));
    }
    let installation = Installation::start(spec, &farm).await.unwrap();
    let http = installation.http().clone();
    add_all(&installation, &farm, folder.path()).await;
    let runs = async || {
        metric(
            &http,
            &installation.schedulers[0],
            "tasksync_dispatches_total{kind=\"run\"",
        )
        .await
    };
    let before = runs().await;
    eventually_async("ten more runs", async || runs().await >= before + 10.0).await;

    let published = async || {
        metric(
            &http,
            &installation.schedulers[0],
            "tasksync_queue_published_total",
        )
        .await
    };
    let answer = installation
        .call(0, Method::GET, "/api/v1/tenants?limit=1", None)
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    assert!(published().await.abs() < f64::EPSILON, "messages were sent");
    assert_eq!(farm.requests(), (0, 0), "servers were asked");

    // The same loops do find work: one person opts in and is synced.
    let tenant = &farm.population.tenants[TENANTS / 2];
    let person = &tenant.people[0];
    let path = format!(
        "/api/v1/tenants/{}/users/{}",
        tenant.slug,
        Farm::user_name(person)
    );
    let body = serde_json::json!({
        "source_login": person.login, "mailbox": person.smtp, "time_zone": person.time_zone,
    });
    installation
        .call(0, Method::PUT, &path, Some(body))
        .await
        .unwrap();
    eventually_async("a message", async || published().await >= 1.0).await;
    eventually_async("a call", async || farm.requests().0 > 0).await;
    assert_eq!(
        installation.terminate().await,
        Ok(vec![Some(0); 2]),
        "{}",
        installation.log_tail(20)
    );
    farm.stop().await;
    stores.close().await;
}
