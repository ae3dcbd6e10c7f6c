//! Status, doctor, dead letters, readiness.

use std::time::Duration;

use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::PersonLookup;
use tasksync_common::fleet::{FleetReport, Member, Permits, Role};
use tasksync_common::metrics::record::Store;
use tasksync_common::queue::{QueueName, Reason, SyncJob, VERSION, Workload};
use tasksync_common::registry::Alert;
use tasksync_common::schedule::Token;
use tasksync_common::tasks::spawn;
use tasksync_common::trace::TraceContext;

use crate::harness::{Service, TOKEN};

fn check<'a>(report: &'a Value, id: &str, subject: &str) -> &'a Value {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == id && check["subject"] == subject)
        .unwrap_or_else(|| panic!("no check {id} of {subject}: {report}"))
}

#[tokio::test]
async fn the_status_counts_users_and_queues() {
    let service = Service::with_ana().await;
    for path in ["/status", "/status?tenant=contoso"] {
        let status = service.get(path).await.body;
        assert_eq!(status["summary"]["users"], 1, "{status}");
        assert_eq!(status["summary"]["due"], 1);
        assert_eq!((&status["enabled"], &status["disabled"]), (&1.into(), &0.into()));
        assert_eq!(status["queues"]["background"]["ready"], 0);
        assert_eq!(status["leader"]["state"], "nobody");
    }
}

#[tokio::test]
async fn the_status_lists_the_live_processes() {
    let service = Service::with_ana().await;
    let status = service.get("/status").await.body;
    assert_eq!(
        (&status["workers"], &status["processes"]),
        (&0.into(), &json!([]))
    );
    let started_at: jiff::Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let report = FleetReport {
        number: 1,
        lifetime: Duration::from_mins(1),
        member: Member {
            leads: true,
            background: Permits { total: 16, free: 13 },
            users_in_flight: 21,
            running: [("contoso".parse().unwrap(), 3)].into(),
            ..Member::new("here", Role::Standalone, started_at)
        },
        servers: Vec::new(),
        circuits: Vec::new(),
        circuits_version: 0,
    };
    service.fleet.exchange(&report).await.unwrap();
    let status = service.get("/status").await.body;
    assert_eq!(status["workers"], 1);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        status["processes"],
        json!([{
            "name": "here", "role": "standalone", "version": version, "started_at": "2026-11-22T12:00:00Z",
            "leads": true, "users_in_flight": 21, "batches_running": 3, "batches_at_once": 16, "silent_seconds": 0,
            "clock_offset_ms": null,
        }])
    );
}

#[tokio::test]
async fn the_status_says_first_what_is_wrong() {
    let service = Service::with_ana().await;
    let status = service.get("/status").await.body;
    let ids = |status: &Value| -> Vec<String> {
        let problems = status["problems"].as_array().unwrap();
        problems
            .iter()
            .map(|problem| problem["id"].as_str().unwrap().to_owned())
            .collect()
    };
    // Neither a leader nor a worker runs in this test.
    assert_eq!(
        (&status["result"], ids(&status)),
        (&"attention".into(), vec!["no-leader".into(), "no-worker".into()])
    );
    assert_eq!(status["missing"], json!([]));
    let alerts = service.get("/alerts/causes").await.body;
    assert_eq!(
        alerts["installation"], status["problems"],
        "an alert is open while no worker runs"
    );
    service
        .put("/tenants/fabrikam", &crate::harness::tenant("fabrikam"))
        .await;
    service.schedule.lead("s1", Duration::from_mins(1)).await.unwrap();
    service.worker_reports().await;
    let status = service.get("/status").await.body;
    assert_eq!((&status["result"], ids(&status)), (&"ok".into(), Vec::new()));
    assert_eq!(
        status["tenants"],
        json!({"registered": 2, "enabled": 2, "with_users": 1})
    );
    assert_eq!(
        service.get("/alerts/causes").await.body["installation"],
        json!([])
    );
    for store in ["registry", "schedule", "fleet", "queue"] {
        assert!(status["as_of"][store].as_str().unwrap() <= status["at"].as_str().unwrap());
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_leaves_out_only_what_it_knows() {
    for (silent, null, shown) in [
        (Store::Registry, ["enabled", "alerts"], ["summary", "queues"]),
        (Store::Schedule, ["summary", "leader"], ["enabled", "queues"]),
        (Store::Queue, ["queues", "queues"], ["enabled", "summary"]),
    ] {
        let service = Service::start_silent(silent).await;
        for path in ["/status", "/status?tenant=contoso"] {
            let answer = service.get(path).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let status = answer.body;
            assert_eq!(status["result"], "attention");
            for field in null {
                assert!(status[field].is_null(), "{silent:?} {field}: {status}");
            }
            for field in shown {
                assert!(!status[field].is_null(), "{silent:?} {field}: {status}");
            }
            let missing = status["missing"].as_array().unwrap();
            assert_eq!(missing.len(), 1, "{status}");
            assert!(!missing[0]["failure"]["action"].as_str().unwrap().is_empty());
            let what = status["problems"][0]["what"].as_str().unwrap();
            assert!(what.contains("does not answer: stopped"), "{what}");
        }
    }
}

#[tokio::test]
async fn alerts_are_grouped_by_cause_filtered_and_read_in_pages() {
    let service = Service::with_ana().await;
    let users: Vec<Value> = (0..40)
        .map(|number| {
            let user = format!("u{number}");
            json!({"user": user, "source_login": user, "mailbox": format!("{user}@contoso.example")})
        })
        .collect();
    let answer = service
        .call("POST", "/tenants/contoso/users", Some(&json!({ "users": users })))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let alert = |user: Option<String>, second: i64, code| Alert {
        since: jiff::Timestamp::from_second(1_800_000_000 + second).unwrap(),
        tenant: crate::harness::contoso(),
        user: user.map(|user| user.parse().unwrap()),
        location: None,
        failure: Failure::new(ErrorClass::Refused, code, "for a test"),
        evidence: None,
    };
    for number in 0..40 {
        let full = alert(Some(format!("u{number}")), number, Code::ExchangeMailboxFull);
        service.registry.raise_alert(&full).await.unwrap();
    }
    let late = alert(None, 100, Code::SyncsLate);
    service.registry.raise_alert(&late).await.unwrap();
    let causes = service.get("/alerts/causes").await.body;
    let counts: Vec<(&str, u64)> = causes["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| (cause["code"].as_str().unwrap(), cause["alerts"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("syncs-late", 1), ("exchange-mailbox-full", 40)]);
    let full = service
        .get("/alerts/causes?code=exchange-mailbox-full&tenant=contoso")
        .await
        .body;
    assert_eq!((&full["alerts"], &full["installation"]), (&40.into(), &json!([])));
    let (mut seen, mut after) = (0, String::new());
    loop {
        let page = service.get(&format!("/alerts?limit=15{after}")).await.body;
        seen += page["alerts"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, 41);
    let since = service.get("/alerts?since=2027-01-15T08:01:00Z").await.body;
    assert_eq!(since["alerts"].as_array().unwrap().len(), 1, "{since}");
    assert_eq!(service.get("/alerts?code=nonsense").await.status, 400);
    let status = service.get("/status").await.body;
    let ids: Vec<&str> = status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "no-leader",
            "no-worker",
            "alerts-for-operator",
            "alerts-for-others"
        ]
    );
}

#[tokio::test]
async fn no_one_runs_while_no_worker_lives() {
    let service = Service::with_ana().await;
    let epoch = service
        .schedule
        .lead("s1", Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();
    let ana = crate::harness::ana();
    let minute = Duration::from_mins(1);
    service
        .schedule
        .claim(epoch, &ana.tenant, std::slice::from_ref(&ana.user), minute)
        .await
        .unwrap();
    let state =
        || async { service.get("/tenants/contoso/users/ana").await.body["next_sync"]["state"].clone() };
    assert_eq!(state().await, "no_worker");
    service.worker_reports().await;
    assert_eq!(state().await, "running");
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let service = Service::with_ana().await;
    let report = service.get("/doctor?tenant=contoso").await.body;
    assert_eq!(report["result"], "failed");
    // Neither a leader nor a worker runs in this test.
    for id in ["schedule-leader", "workers-consume"] {
        let failed = check(&report, id, "installation");
        assert_eq!(failed["result"], "failed", "{failed}");
        assert!(!failed["solution"].as_str().unwrap().is_empty());
    }
    for id in [
        "settings",
        "registry-writable",
        "schedule-answers",
        "queue-answers",
        "clock",
        "capacity",
    ] {
        assert_eq!(check(&report, id, "installation")["result"], "ok", "{id}");
    }
    for id in [
        "source-sites",
        "source-edit",
        "source-lists",
        "people-known",
        "mailbox-server",
    ] {
        assert_eq!(check(&report, id, "tenant contoso")["result"], "ok", "{id}");
    }
    let clock = check(&report, "tenant-clock", "tenant contoso");
    assert_eq!(clock["result"], "warning", "{clock}");
    for check in report["checks"].as_array().unwrap() {
        for field in ["what", "explanation", "applies_to", "reference"] {
            assert!(!check[field].as_str().unwrap().is_empty(), "{check}");
        }
    }
}

#[tokio::test]
async fn the_doctor_only_reads() {
    let service = Service::with_ana().await;
    let before = (
        service
            .registry
            .enrolments(&crate::harness::contoso(), None, 10)
            .await
            .unwrap(),
        service.schedule.status(&crate::harness::ana()).await.unwrap(),
    );
    service.get("/doctor").await;
    service.servers.lookups.lock().unwrap().clear();
    service.get("/doctor?tenant=contoso").await;
    assert_eq!(*service.servers.lookups.lock().unwrap(), [PersonLookup::Read]);
    let after = (
        service
            .registry
            .enrolments(&crate::harness::contoso(), None, 10)
            .await
            .unwrap(),
        service.schedule.status(&crate::harness::ana()).await.unwrap(),
    );
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_person_whom_the_site_has_not_met_is_a_warning_and_a_site_that_fails_is_none() {
    let service = Service::with_ana().await;
    for (code, expected) in [
        (Code::SharePointUserUnknown, "warning"),
        (Code::SharePointDenied, "failed"),
    ] {
        let failure = Failure::new(ErrorClass::Refused, code, "i:0#.w|contoso\\ana");
        *service.servers.person.lock().unwrap() = Some(failure);
        let report = service.get("/doctor?tenant=contoso").await.body;
        let people = check(&report, "people-known", "tenant contoso");
        assert_eq!(people["result"], expected, "{people}");
        let details = people["additional_information"].to_string();
        assert!(details.contains("ana as i:0#.w|contoso"), "{people}");
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_jobs_is_seen() {
    let service = Service::with_ana().await;
    let mut consumer = service.queue.consume(QueueName::Background, 2).await.unwrap();
    let waiting = spawn(async move { consumer.next().await.is_some() });
    loop {
        let depth = service.queue.depth(QueueName::Background).await.unwrap();
        if depth.wanted > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let report = service.get("/doctor").await.body;
    assert_eq!(check(&report, "workers-consume", "installation")["result"], "ok");
    waiting.abort();
}

#[tokio::test]
async fn there_are_no_dead_letters() {
    let service = Service::start().await;
    let answer = service.get("/dead-letters").await;
    assert_eq!(answer.body["dead_letters"], serde_json::json!([]));
    assert_eq!(service.get("/dead-letters?limit=501").await.status, 400);
}

#[tokio::test]
async fn dead_letters_are_shown_replayed_and_discarded() {
    let service = Service::start().await;
    let background = QueueName::Background;
    for number in 1..=3 {
        let job = SyncJob {
            version: VERSION,
            id: uuid::Uuid::from_u128(number),
            tenant: "contoso".parse().unwrap(),
            workload: Workload::Tasks,
            reason: Reason::Scheduled,
            token: Token(1),
            users: vec!["ana".parse().unwrap()],
            issued_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        };
        let queue = &service.queue;
        queue
            .publish(background, &job, &TraceContext::default())
            .await
            .unwrap();
        let mut consumer = queue.consume(background, 1).await.unwrap();
        consumer.next().await.unwrap().reject("because").await.unwrap();
    }
    let ask = |method: &str, path: &str| service.send(service.request(method, path).bearer_auth(TOKEN));
    let id = |number: u128| uuid::Uuid::from_u128(number);
    let shown = service.get("/dead-letters").await.body["dead_letters"].clone();
    assert_eq!(shown[0]["id"], id(1).to_string());
    assert_eq!(
        (&shown[0]["queue"], &shown[0]["reason"]),
        (&serde_json::json!("background"), &serde_json::json!("because"))
    );
    let replayed = ask("POST", &format!("/api/v1/dead-letters/{}/replay", id(2))).await;
    assert_eq!(
        (replayed.status, &replayed.body["replayed"]),
        (200, &serde_json::json!(1))
    );
    assert_eq!(service.queue.depth(background).await.unwrap().ready, 1);
    let again = ask("POST", &format!("/api/v1/dead-letters/{}/replay", id(2))).await;
    assert_eq!(again.status, 404);
    assert_eq!(
        ask("DELETE", "/api/v1/dead-letters").await.status,
        400,
        "no number, nothing"
    );
    let discarded = ask("DELETE", &format!("/api/v1/dead-letters/{}", id(1))).await;
    assert_eq!(discarded.body["discarded"], 1);
    let replayed = ask("POST", "/api/v1/dead-letters/replay?limit=5").await;
    assert_eq!(replayed.body["replayed"], 1);
    assert_eq!(service.get("/status").await.body["queues"]["dead_letters"], 0);
}

#[tokio::test]
async fn a_stopping_service_lives_but_is_not_ready() {
    let service = Service::start().await;
    let ready = service.send(service.request("GET", "/readyz")).await;
    assert_eq!((ready.status, &ready.body["ready"]), (200, &Value::Bool(true)));
    service.stopping.cancel();
    let ready = service.send(service.request("GET", "/readyz")).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body["missing"][0]["what"], "the service is stopping");
    assert_eq!(service.send(service.request("GET", "/livez")).await.status, 200);
}
