//! Pauses of a tenant's servers: listed, named by the doctor and by "sync now", and ended.

use std::time::Duration;

use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::{FleetReport, Member, PauseReport, Role, ServerName, ServerReport};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::UserId;
use tasksync_common::schedule::{ClaimAnswer, FinishedAttempt, History};

use crate::harness::{Service, ana, contoso, opt_in, tenant};

const HOUR_MS: u64 = 3_600_000;

/// Reports, as a worker does, a pause of one hour that Exchange asked for.
async fn pause_exchange(service: &Service) {
    let url = "https://mail.contoso.example/EWS/Exchange.asmx".parse().unwrap();
    let report = FleetReport {
        number: 1,
        lifetime: Duration::from_mins(1),
        member: Member::new("w1", Role::Worker, jiff::Timestamp::UNIX_EPOCH),
        servers: vec![ServerReport {
            name: ServerName::new(&url, Server::Ews, "contoso\\svc").to_string(),
            limit: 25,
            holds: 0,
            wants: 0,
            demand: 0,
            pause: Some(PauseReport {
                left_ms: HOUR_MS,
                ago_ms: 0,
                tenant: Some(contoso()),
                why: "GetFolder was answered with HTTP 503".to_owned(),
            }),
        }],
        circuits: Vec::new(),
        circuits_version: 0,
    };
    service.fleet.exchange(&report).await.unwrap();
}

/// Ends Ana's sync with that pause, which puts her off until its end.
async fn put_ana_off(service: &Service) {
    let schedule = &service.schedule;
    let epoch = schedule
        .lead("test", Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();
    let users: [UserId; 1] = [ana().user];
    let claimed = schedule
        .claim(epoch, &contoso(), &users, Duration::from_mins(1))
        .await
        .unwrap();
    let ClaimAnswer::Claimed { token, .. } = claimed else {
        panic!("{claimed:?}")
    };
    let wait = Duration::from_millis(HOUR_MS);
    let finish = FinishedAttempt {
        user: ana().user,
        result: Err(Failure::new(
            ErrorClass::Throttled {
                retry_after: Some(wait),
            },
            Code::ExchangeBusy,
            "mail.contoso.example:443 asked for a pause",
        )),
        history: History::default(),
        due_after: wait,
    };
    let finished = schedule.finish(&contoso(), token, &[finish]).await.unwrap();
    assert_eq!(finished.len(), 1);
}

#[tokio::test]
async fn a_paused_server_is_shown_with_start_end_and_reason_to_every_tenant_whose_account_it_pauses() {
    let service = Service::with_ana().await;
    service.put("/tenants/fabrikam", &tenant("fabrikam")).await;
    let mut other_account = tenant("tailspin");
    other_account["mailbox"]["credentials"]["user"] = json!("tailspin\\svc");
    service.put("/tenants/tailspin", &other_account).await;
    let none = service.get("/tenants/contoso/pauses").await.body;
    assert_eq!(none, json!({ "pauses": [] }));
    pause_exchange(&service).await;
    for name in ["contoso", "fabrikam"] {
        let shown = service.get(&format!("/tenants/{name}/pauses")).await.body;
        let [pause] = shown["pauses"].as_array().unwrap().as_slice() else {
            panic!("SharePoint is another service: {shown}")
        };
        assert_eq!(
            (
                &pause["server"],
                &pause["service"],
                &pause["account"],
                &pause["met_by"],
                &pause["why"]
            ),
            (
                &"mail.contoso.example:443".into(),
                &"ews".into(),
                &"contoso\\svc".into(),
                &"contoso".into(),
                &"GetFolder was answered with HTTP 503".into()
            )
        );
        let time = |field: &str| pause[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(
            time("since").duration_until(time("until")).as_millis(),
            i128::from(HOUR_MS)
        );
        let report = service.get(&format!("/doctor?tenant={name}")).await.body;
        let found = checks(&report, "tenant-pauses");
        assert_eq!(found["result"], "warning", "{found}");
        let named = found["additional_information"][0].as_str().unwrap();
        for part in ["mail.contoso.example:443", "HTTP 503", "until 2"] {
            assert!(named.contains(part), "{named}");
        }
    }
    let others = service.get("/tenants/tailspin/pauses").await.body;
    assert_eq!(others, json!({ "pauses": [] }), "another account");
    let report = service.get("/doctor?tenant=tailspin").await.body;
    assert_eq!(checks(&report, "tenant-pauses")["result"], "ok");
    assert_eq!(service.get("/tenants/nobody/pauses").await.status, 404);
}

fn checks<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == id)
        .unwrap_or_else(|| panic!("no check {id}: {report}"))
}

#[tokio::test]
async fn sync_now_during_a_pause_says_until_when_it_waits_and_why() {
    let service = Service::with_ana().await;
    let sync = "/tenants/contoso/users/ana/sync";
    let answer = service.call("POST", sync, None).await.body;
    assert_eq!(
        (&answer["pauses"], &answer["waits_until"]),
        (&json!([]), &Value::Null)
    );
    pause_exchange(&service).await;
    let answer = service.call("POST", sync, None).await;
    assert_eq!(answer.status, 202);
    let [pause] = answer.body["pauses"].as_array().unwrap().as_slice() else {
        panic!("{}", answer.body)
    };
    assert_eq!(answer.body["waits_until"], pause["until"]);
    assert_eq!(pause["why"], "GetFolder was answered with HTTP 503");
}

#[tokio::test]
async fn an_ended_pause_makes_the_users_due_who_waited_for_it() {
    let service = Service::with_ana().await;
    service.put("/tenants/contoso/users/ben", &opt_in("ben")).await;
    pause_exchange(&service).await;
    put_ana_off(&service).await;
    let shown = |answer: crate::harness::Answer| answer.body["next_sync"]["state"].clone();
    let path = "/tenants/contoso/users/ana";
    assert_eq!(shown(service.get(path).await), "waiting");
    let wrong = service
        .call("DELETE", "/tenants/contoso/pauses?server=other.example:443", None)
        .await;
    assert_eq!(wrong.status, 404);
    assert!(
        wrong.body["detail"]
            .as_str()
            .unwrap()
            .contains("mail.contoso.example:443")
    );
    let other = "/tenants/contoso/pauses?server=sp.contoso.example:443";
    let answer = service.call("DELETE", other, None).await.body;
    assert_eq!(answer, json!({ "ended": 0, "due": 0 }));
    let answer = service.call("DELETE", "/tenants/contoso/pauses", None).await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({ "ended": 1, "due": 1 }))
    );
    assert_eq!(shown(service.get(path).await), "due");
    let none = service.get("/tenants/contoso/pauses").await.body;
    assert_eq!(none, json!({ "pauses": [] }));
}
