//! Users.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tasksync_common::clock::{Clock as _, SystemClock};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{FieldSet, LocationKey, Task};
use tasksync_common::plan::{Agreed, HeldDeletions, Side, held_digest};
use tasksync_common::registry::{Alert, EnrolmentState, JournalEntry, JournalKind};
use tasksync_common::state::{Link, LocationState, SyncState};

use crate::harness::{Service, ana, contoso, opt_in, tenant};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn failure(class: ErrorClass, code: Code) -> Failure {
    Failure::new(class, code, "as the test set it")
}

#[tokio::test]
async fn opting_in_asks_the_servers_and_makes_the_user_due() {
    let service = Service::with_ana().await;
    assert_eq!(*service.servers.asked.lock().unwrap(), 1);
    let shown = service.get("/tenants/contoso/users/ANA").await.body;
    assert_eq!(shown["enrolment"]["state"], "enabled");
    assert_eq!(shown["enrolment"]["mailbox"], "ana@contoso.example");
    assert_eq!(shown["next_sync"]["state"], "due");
    assert_eq!(service.schedule.summary(None).await.unwrap().due, 1);
    let again = service.put("/tenants/contoso/users/ana", &opt_in("ana")).await;
    assert_eq!((again.status, &again.body["result"]), (200, &json!("updated")));
    assert_eq!(
        again.body["user"]["opted_in_at"],
        shown["enrolment"]["opted_in_at"]
    );
}

#[tokio::test]
async fn a_person_or_mailbox_the_servers_refuse_is_not_enrolled_unless_unchecked() {
    let service = Service::with_ana().await;
    *service.servers.mailbox.lock().unwrap() =
        Some(failure(ErrorClass::Refused, Code::ExchangeMailboxMissing));
    let answer = service.put("/tenants/contoso/users/ben", &opt_in("ben")).await;
    assert_eq!((answer.status, answer.code()), (422, "exchange-mailbox-missing"));
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("ben@contoso.example")
    );
    *service.servers.person.lock().unwrap() = Some(failure(ErrorClass::Transient, Code::SharePointTimeout));
    let answer = service.put("/tenants/contoso/users/ben", &opt_in("ben")).await;
    assert_eq!((answer.status, answer.code()), (503, "sharepoint-timeout"));
    assert_eq!(service.get("/tenants/contoso/users/ben").await.status, 404);
    let asked = *service.servers.asked.lock().unwrap();
    let answer = service
        .put("/tenants/contoso/users/ben?unchecked=true", &opt_in("ben"))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(*service.servers.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn a_mailbox_belongs_to_one_user_of_the_installation() {
    let service = Service::with_ana().await;
    service.put("/tenants/fabrikam", &tenant("fabrikam")).await;
    let answer = service.put("/tenants/fabrikam/users/eve", &opt_in("ana")).await;
    assert_eq!((answer.status, answer.code()), (409, "mailbox-taken"));
    assert!(answer.body["detail"].as_str().unwrap().contains("contoso/ana"));
    assert_eq!(service.get("/tenants/fabrikam/users/eve").await.status, 404);
}

#[tokio::test]
async fn a_sign_in_name_belongs_to_one_user_of_the_tenant() {
    let service = Service::with_ana().await;
    let mut second = opt_in("eve");
    second["source_login"] = json!("CONTOSO\\Ana");
    let answer = service.put("/tenants/contoso/users/eve", &second).await;
    assert_eq!((answer.status, answer.code()), (409, "login-taken"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("contoso/ana") && detail.contains("CONTOSO\\Ana"),
        "{detail}"
    );
    assert!(
        answer.body["action"]
            .as_str()
            .unwrap()
            .contains("Opt the other user out")
    );
    assert_eq!(service.get("/tenants/contoso/users/eve").await.status, 404);
    let people = json!({ "users": [
        { "user": "eve", "source_login": "contoso\\ana", "mailbox": "eve@contoso.example" },
        { "user": "finn", "source_login": "contoso\\finn", "mailbox": "finn@contoso.example" },
    ] });
    let answer = service
        .call("POST", "/tenants/contoso/users", Some(&people))
        .await;
    assert_eq!(answer.body["added"], 1, "{}", answer.body);
    assert_eq!(answer.body["refused"][0]["code"], "login-taken");
}

#[tokio::test]
async fn wrong_opt_ins_are_refused() {
    let service = Service::with_ana().await;
    for (field, value) in [
        ("mailbox", json!("nobody")),
        ("source_login", json!("")),
        ("source_login", json!("a\nb")),
        ("time_zone", json!("Nowhere")),
        ("mailbx", json!("x")),
    ] {
        let mut body = opt_in("ben");
        body[field] = value;
        let answer = service.put("/tenants/contoso/users/ben", &body).await;
        assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{body}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains(field),
            "{}",
            answer.body
        );
    }
    let answer = service
        .put("/tenants/contoso/users/ben%2Fana", &opt_in("ben"))
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_disabled_user_is_shown_with_the_reason_and_comes_back_by_opting_in() {
    let service = Service::with_ana().await;
    let disabled = EnrolmentState::Disabled {
        failure: failure(ErrorClass::Refused, Code::ExchangeMailboxDenied),
        since: at("2026-03-01T12:00:00Z"),
    };
    service
        .registry
        .set_enrolment_state(&ana(), &disabled)
        .await
        .unwrap();
    let alert = Alert {
        since: at("2026-03-01T12:00:00Z"),
        tenant: contoso(),
        user: Some(ana().user),
        location: None,
        failure: failure(ErrorClass::Refused, Code::ExchangeMailboxDenied),
        evidence: None,
    };
    service.registry.raise_alert(&alert).await.unwrap();
    let shown = service.get("/tenants/contoso/users/ana").await.body;
    assert_eq!(shown["enrolment"]["failure"]["code"], "exchange-mailbox-denied");
    assert_eq!(
        shown["enrolment"]["failure"]["action"],
        Code::ExchangeMailboxDenied.action()
    );
    assert_eq!(service.get("/status").await.body["disabled"], 1);
    assert_eq!(
        service
            .put("/tenants/contoso/users/ana", &opt_in("ana"))
            .await
            .status,
        200
    );
    let enrolment = service.registry.enrolment(&ana()).await.unwrap().unwrap();
    assert_eq!(enrolment.state, EnrolmentState::Enabled);
    assert_eq!(service.get("/alerts").await.body["alerts"], json!([]));
}

#[tokio::test]
async fn opting_out_leaves_both_stores() {
    let service = Service::with_ana().await;
    let answer = service.call("DELETE", "/tenants/contoso/users/ana", None).await;
    assert_eq!(answer.status, 200);
    assert!(service.schedule.status(&ana()).await.unwrap().is_none());
    assert_eq!(service.get("/tenants/contoso/users/ana").await.status, 404);
    let users = service.get("/tenants/contoso/users").await.body;
    assert_eq!(users["users"], json!([]));
}

#[tokio::test]
async fn sync_now_finds_a_user_that_the_schedule_lost() {
    let service = Service::with_ana().await;
    service.schedule.withdraw(&ana()).await.unwrap();
    let answer = service
        .call("POST", "/tenants/contoso/users/ana/sync", None)
        .await;
    assert_eq!((answer.status, &answer.body["result"]), (202, &json!("due")));
    assert_eq!(service.schedule.summary(None).await.unwrap().due, 1);
}

#[tokio::test]
async fn sync_now_has_a_budget_per_tenant() {
    let service = Service::with_ana().await;
    let mut refused = None;
    for _ in 0..=tasksync_scheduler::REQUESTS_PER_MINUTE * 2 {
        let answer = service
            .call("POST", "/tenants/contoso/users/ana/sync", None)
            .await;
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.code()), (429, "too-many-requests"));
}

/// Returns the alert about Ana's held deletions and the name of their plan.
fn held_alert() -> (Alert, String) {
    let held_deletions = HeldDeletions {
        side: Side::Source,
        keys: (1..12)
            .map(|id| LocationKey::sharepoint_list("l").task(id))
            .collect(),
        of: 20,
        emptied: Vec::new(),
    };
    let plan = held_digest(std::slice::from_ref(&held_deletions));
    let alert = Alert {
        since: at("2026-03-01T12:00:00Z"),
        tenant: ana().tenant,
        user: Some(ana().user),
        location: None,
        failure: Failure::new(ErrorClass::Transient, Code::GuardHeld, "11 of 20"),
        evidence: serde_json::to_value([held_deletions]).ok(),
    };
    (alert, plan)
}

/// Without held deletions there is nothing to allow. A plan other than the one shown is refused. A permit is for one
/// plan and one day.
#[tokio::test]
async fn allowing_deletions_gives_one_permit_for_the_plan_that_is_held() {
    let service = Service::with_ana().await;
    let path = "/tenants/contoso/users/ana/deletions/allow";
    let refused = service.call("POST", path, None).await;
    assert_eq!((refused.status, refused.code()), (409, "nothing-held"));
    let (alert, plan) = held_alert();
    service.registry.raise_alert(&alert).await.unwrap();
    let other = service.call("POST", &format!("{path}?plan=0123"), None).await;
    assert_eq!((other.status, other.code()), (409, "plan-changed"));
    let day = SignedDuration::from_hours(24);
    let earliest = SystemClock.now() + day;
    let allowed = service.call("POST", &format!("{path}?plan={plan}"), None).await;
    let latest = SystemClock.now() + day;
    assert_eq!(
        (allowed.status, &allowed.body["deletions"]),
        (202, &serde_json::json!(11))
    );
    let until: Timestamp = allowed.body["until"].as_str().unwrap().parse().unwrap();
    assert!((earliest..=latest).contains(&until), "{until} is not in one day");
    assert!(
        !service
            .registry
            .take_deletion_permit(&ana(), "another", until - SignedDuration::from_secs(1))
            .await
            .unwrap()
    );
    assert!(
        !service
            .registry
            .take_deletion_permit(&ana(), &plan, until)
            .await
            .unwrap()
    );
    assert!(
        service
            .registry
            .take_deletion_permit(&ana(), &plan, until - SignedDuration::from_secs(1))
            .await
            .unwrap()
    );
}

/// Neither a colleague's held deletions nor an alert with another code can be allowed.
#[tokio::test]
async fn only_the_deletions_that_are_held_of_the_person_can_be_allowed() {
    let service = Service::with_ana().await;
    let ben = service.put("/tenants/contoso/users/ben", &opt_in("ben")).await;
    assert_eq!(ben.status, 201);
    let (alert, _) = held_alert();
    let of_ben = Alert {
        user: Some("ben".parse().unwrap()),
        ..alert.clone()
    };
    let of_another_kind = Alert {
        failure: failure(ErrorClass::Refused, Code::ExchangeMailboxDenied),
        ..alert
    };
    for other in [of_ben, of_another_kind] {
        service.registry.raise_alert(&other).await.unwrap();
    }
    let refused = service
        .call("POST", "/tenants/contoso/users/ana/deletions/allow", None)
        .await;
    assert_eq!((refused.status, refused.code()), (409, "nothing-held"));
}

/// A person with a permit is due at once. The people of a disabled tenant stay out of the schedule.
#[tokio::test]
async fn a_permit_makes_the_person_due_unless_the_tenant_is_disabled() {
    for enabled in [true, false] {
        let service = Service::with_ana().await;
        let mut settings = tenant("contoso");
        settings["enabled"] = json!(enabled);
        assert_eq!(service.put("/tenants/contoso", &settings).await.status, 200);
        service.registry.raise_alert(&held_alert().0).await.unwrap();
        service.schedule.withdraw(&ana()).await.unwrap();
        let allowed = service
            .call("POST", "/tenants/contoso/users/ana/deletions/allow", None)
            .await;
        assert_eq!(allowed.status, 202);
        let due = service.schedule.summary(None).await.unwrap().due;
        assert_eq!(due, u64::from(enabled), "enabled: {enabled}");
    }
}

#[tokio::test]
async fn journal_and_alerts_are_shown() {
    let service = Service::with_ana().await;
    let entries: Vec<_> = (0..3)
        .map(|number| JournalEntry {
            at: at(&format!("2026-03-01T12:00:0{number}Z")),
            user: ana(),
            task: LocationKey::sharepoint_list("3F1C2F0E-0000-4000-8000-000000000001").task(number),
            kind: JournalKind::ConflictLostAtSource,
            before: Some(json!({ "title": "old" })),
            after: None,
        })
        .collect();
    service.registry.journal(&entries).await.unwrap();
    let alert = Alert {
        since: at("2026-03-01T12:00:00Z"),
        tenant: contoso(),
        user: Some(ana().user),
        location: None,
        failure: failure(ErrorClass::Refused, Code::GuardHeld),
        evidence: Some(json!({ "deletions": 12 })),
    };
    service.registry.raise_alert(&alert).await.unwrap();
    let journal = service
        .get("/tenants/contoso/users/ana/journal?limit=2")
        .await
        .body;
    let journal = journal["journal"].as_array().unwrap();
    assert_eq!(journal.len(), 2);
    assert_eq!(journal[0]["task"], "sp|3f1c2f0e-0000-4000-8000-000000000001|2");
    let shown = service.get("/tenants/contoso/users/ana").await.body;
    assert_eq!(shown["journal"].as_array().unwrap().len(), 3);
    assert_eq!(shown["alerts"][0]["failure"]["code"], "guard-held");
    for path in ["/alerts", "/alerts?tenant=contoso"] {
        let alerts = service.get(path).await.body;
        assert_eq!(alerts["alerts"][0]["evidence"]["deletions"], 12, "{path}");
        assert_eq!(alerts["alerts"][0]["failure"]["who_acts"], "the operator");
    }
    // The journal outlives the opt-out, so that what happened can still be looked up.
    service.call("DELETE", "/tenants/contoso/users/ana", None).await;
    let journal = service.get("/tenants/contoso/users/ana/journal").await;
    assert_eq!(journal.body["journal"].as_array().unwrap().len(), 3);
}

/// The status of a user with read-only rights names the task and the missing right.
#[tokio::test]
async fn what_was_set_back_is_shown_with_the_task_and_the_missing_right() {
    let service = Service::with_ana().await;
    let location = LocationKey::sharepoint_list("3F1C2F0E-0000-4000-8000-000000000001");
    let task = location.task(7);
    let location_state = LocationState {
        name: "Projects - Plan".to_owned(),
        name_read_from_folder: false,
        holds: FieldSet::ALL,
        folder: "folder".to_owned(),
        cursor: None,
        signs: None,
    };
    let link = Link {
        version: "1".to_owned(),
        agreed: Agreed::of(&Task {
            title: "Budget".to_owned(),
            ..Task::default()
        }),
        ..Link::unagreed("item", "ck", None)
    };
    let mut state = SyncState::default();
    state.locations.insert(location, location_state);
    state.links.insert(task.clone(), link);
    let enrolment = service.registry.enrolment(&ana()).await.unwrap().unwrap();
    let (fingerprint, blob) = (state.fingerprint().encode().unwrap(), state.encode().unwrap());
    service
        .registry
        .save_sync_state(&enrolment, 0, &fingerprint, &blob)
        .await
        .unwrap();
    let kinds = [
        JournalKind::SetBackInMailbox,
        JournalKind::DeletionSetBackInMailbox,
    ];
    let entries = kinds.map(|kind| JournalEntry {
        at: at("2026-03-01T12:00:00Z"),
        user: ana(),
        task: task.clone(),
        kind,
        before: Some(json!({ "due": "2026-03-02" })),
        after: None,
    });
    service.registry.journal(&entries).await.unwrap();
    for path in ["/tenants/contoso/users/ana", "/tenants/contoso/users/ana/journal"] {
        let shown = service.get(path).await.body;
        let shown = shown["journal"].as_array().unwrap();
        assert_eq!(shown.len(), 2, "{path}");
        for entry in shown {
            assert_eq!(
                (&entry["title"], &entry["list"]),
                (&json!("Budget"), &json!("Projects - Plan"))
            );
            let meaning = entry["meaning"].as_str().unwrap();
            assert!(meaning.contains("no right to edit"), "{meaning}");
        }
    }
}

#[tokio::test]
async fn many_users_are_opted_in_at_once_and_due_in_the_order_of_the_list() {
    let service = Service::with_ana().await;
    let people: Vec<_> = (0..1_000)
        .map(|at| {
            json!({
                "user": format!("user{at:04}"),
                "source_login": format!("contoso\\user{at:04}"),
                "mailbox": format!("user{at:04}@contoso.example"),
                "time_zone": "Europe/Berlin",
            })
        })
        .collect();
    let asked = *service.servers.asked.lock().unwrap();
    let body = json!({ "users": people });
    let answer = service.call("POST", "/tenants/contoso/users", Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.body,
        json!({ "added": 1_000, "updated": 0, "refused": [], "scheduled": true })
    );
    assert_eq!(*service.servers.asked.lock().unwrap(), asked);
    assert_eq!(service.schedule.summary(None).await.unwrap().due, 1_001);
    let now = service.schedule.now().await.unwrap();
    let oldest = service.schedule.oldest(&contoso(), now, 2_000).await.unwrap();
    let names: Vec<_> = oldest
        .iter()
        .map(|(user, _)| user.as_str())
        .filter(|name| *name != "ana")
        .collect();
    assert!(names.is_sorted() && names.len() == 1_000, "{names:?}");
    let again = service.call("POST", "/tenants/contoso/users", Some(&body)).await;
    assert_eq!(
        (&again.body["added"], &again.body["updated"]),
        (&json!(0), &json!(1_000))
    );
}

#[tokio::test]
async fn an_import_names_who_was_refused_and_takes_no_more_than_it_says() {
    let service = Service::with_ana().await;
    let person =
        |user: &str, mailbox: &str| json!({ "user": user, "source_login": user, "mailbox": mailbox });
    let body =
        json!({ "users": [person("ben", "ana@contoso.example"), person("cleo", "cleo@contoso.example")] });
    let answer = service.call("POST", "/tenants/contoso/users", Some(&body)).await;
    assert_eq!((answer.status, &answer.body["added"]), (200, &json!(1)));
    assert_eq!(answer.body["refused"][0]["user"], "ben");
    assert_eq!(answer.body["refused"][0]["code"], "mailbox-taken");
    assert_eq!(service.get("/tenants/contoso/users/ben").await.status, 404);
    let many: Vec<_> = (0..1_001)
        .map(|at| person(&format!("u{at}"), &format!("u{at}@contoso.example")))
        .collect();
    let refused = service
        .call("POST", "/tenants/contoso/users", Some(&json!({ "users": many })))
        .await;
    assert_eq!((refused.status, refused.code()), (400, "bad-request"));
    let body = json!({ "users": [person("dora", "dora@contoso.example"), { "user": "e", "source_login": " ", "mailbox": "e@contoso.example" }] });
    let refused = service.call("POST", "/tenants/contoso/users", Some(&body)).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body["detail"]
            .as_str()
            .unwrap()
            .contains("users[1].source_login")
    );
    assert_eq!(service.get("/tenants/contoso/users/dora").await.status, 404);
    let unknown = service
        .call("POST", "/tenants/fabrikam/users", Some(&json!({ "users": [] })))
        .await;
    assert_eq!((unknown.status, unknown.code()), (404, "not-found"));
}
