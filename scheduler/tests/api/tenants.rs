//! Tenants.

use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::plan::Policy;

use crate::harness::{Service, ana, contoso, tenant};

#[tokio::test]
async fn a_tenant_is_added_shown_changed_listed_and_removed() {
    let service = Service::start().await;
    let answer = service.put("/tenants/contoso", &tenant("contoso")).await;
    assert_eq!((answer.status, &answer.body["result"]), (201, &json!("added")));
    let answer = service.put("/tenants/contoso", &tenant("contoso")).await;
    assert_eq!((answer.status, &answer.body["result"]), (200, &json!("updated")));
    let shown = service.get("/tenants/contoso").await;
    assert_eq!(shown.body["enabled"], true);
    // The answer of a GET is a valid body for a PUT.
    assert_eq!(service.put("/tenants/contoso", &shown.body).await.status, 200);
    let answer = service.call("DELETE", "/tenants/contoso", None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(service.call("DELETE", "/tenants/contoso", None).await.status, 404);
    assert!(service.registry.tenant(&contoso()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_tenant_whose_secret_is_not_a_tenants_secret_is_refused_with_the_place_for_it() {
    let service = Service::start().await;
    for (name, place) in [
        ("file:/etc/shadow", "/run/secrets/tenants"),
        ("file:/proc/self/environ", "/run/secrets/tenants"),
        ("file:/run/secrets/tenants/../token/token", "/run/secrets/tenants"),
        ("env:TASKSYNC_TOKEN", "TASKSYNC_SECRET_"),
        ("env:PGPASSWORD", "TASKSYNC_SECRET_"),
    ] {
        for side in ["source", "mailbox"] {
            let mut body = tenant("contoso");
            body[side]["credentials"]["password"] = json!(name);
            let answer = service.put("/tenants/contoso", &body).await;
            assert_eq!(
                (answer.status, answer.code()),
                (422, "secret-not-allowed"),
                "{name}"
            );
            let detail = answer.body["detail"].as_str().unwrap();
            for part in [name, place, &format!("{side}.credentials.password")] {
                assert!(detail.contains(part), "{part}: {detail}");
            }
        }
    }
    assert_eq!(service.get("/tenants/contoso").await.status, 404);
    let mut body = tenant("contoso");
    body["mailbox"]["credentials"]["password"] = json!("file:contoso");
    assert_eq!(service.put("/tenants/contoso", &body).await.status, 201);
}

#[tokio::test]
async fn a_tenant_is_tested_without_being_stored_and_a_mailbox_that_was_not_opened_is_no_success() {
    let service = Service::start().await;
    let result = async |body: &Value, check: &str| {
        let answer = service.call("POST", "/tenants/contoso/test", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(service.get("/tenants/contoso").await.status, 404);
        let checks = answer.body["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|found| found["id"] == check).unwrap()
    };
    let without = tenant("contoso");
    let found = result(&without, "mailbox-server").await;
    assert_eq!(found["result"], "warning");
    let (explanation, solution) = (found["explanation"].as_str(), found["solution"].as_str());
    assert!(explanation.unwrap().contains("NOT tested"), "{found}");
    assert!(solution.unwrap().contains("--test-mailbox"), "{found}");
    assert_eq!(result(&without, "people-known").await["result"], "not_applicable");
    let mut with = tenant("contoso");
    with["test"] = json!({ "mailbox": "test@contoso.example", "source_login": "contoso\\test" });
    for check in ["mailbox-server", "mailbox-access", "people-known", "source-sites"] {
        assert_eq!(result(&with, check).await["result"], "ok", "{check}");
    }
    let refused = Failure::new(ErrorClass::Refused, Code::ExchangeSignInRefused, "401");
    *service.servers.mailbox.lock().unwrap() = Some(refused);
    for body in [&without, &with] {
        let found = result(body, "mailbox-server").await;
        assert_eq!(found["result"], "failed");
        assert!(
            found["explanation"]
                .as_str()
                .unwrap()
                .contains("exchange-sign-in-refused")
        );
    }
    let mut outside = tenant("contoso");
    outside["source"]["credentials"]["password"] = json!("file:/etc/shadow");
    let answer = service
        .call("POST", "/tenants/contoso/test", Some(&outside))
        .await;
    assert_eq!((answer.status, answer.code()), (422, "secret-not-allowed"));
    // The doctor uses the stored test person while no person is opted in.
    *service.servers.mailbox.lock().unwrap() = None;
    assert_eq!(service.put("/tenants/contoso", &with).await.status, 201);
    let report = service.get("/doctor?tenant=contoso").await.body;
    let checks = report["checks"].as_array().unwrap();
    let mailbox = checks
        .iter()
        .find(|check| check["id"] == "mailbox-server")
        .unwrap();
    assert_eq!(mailbox["result"], "ok", "{mailbox}");
}

#[tokio::test]
async fn a_refused_body_names_the_key_and_repeats_no_value() {
    let service = Service::start().await;
    for (pointer, value) in [
        ("/mailbox/credentials/password", json!("hunter2-Kanari")),
        ("/mailbox/credentials/kind", json!("hunter2-Kanari")),
        ("/mailbox/url", json!("hunter2-Kanari")),
        ("/mailbox/access", json!("hunter2-Kanari")),
        ("/source/sites/0", json!("hunter2-Kanari")),
        ("/source/credentials", json!("hunter2-Kanari")),
        ("/enabled", json!("hunter2-Kanari")),
    ] {
        let mut body = tenant("contoso");
        body["enabled"] = json!(true);
        body["mailbox"]["access"] = json!("auto");
        *body.pointer_mut(pointer).unwrap() = value;
        let answer = service.put("/tenants/contoso", &body).await;
        assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{pointer}");
        let shown = answer.body.to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("Kanari"), "{shown}");
        let key = pointer.split('/').nth(1).unwrap();
        assert!(shown.contains(key), "{pointer}: {shown}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_without_gaps_or_repetitions() {
    let service = Service::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        service.put(&format!("/tenants/{name}"), &tenant(name)).await;
    }
    let mut found = Vec::new();
    let mut path = "/tenants?limit=2".to_owned();
    loop {
        let page = service.get(&path).await.body;
        let tenants = page["tenants"].as_array().unwrap();
        assert!(tenants.len() <= 2);
        found.extend(
            tenants
                .iter()
                .map(|tenant| tenant["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/tenants?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    assert!(service.get("/tenants?limit=5").await.body["next"].is_null());
}

#[tokio::test]
async fn a_disabled_tenant_leaves_the_schedule_and_comes_back() {
    let service = Service::with_ana().await;
    assert!(service.schedule.status(&ana()).await.unwrap().is_some());
    let mut body = tenant("contoso");
    body["enabled"] = json!(false);
    assert_eq!(service.put("/tenants/contoso", &body).await.status, 200);
    assert!(service.schedule.status(&ana()).await.unwrap().is_none());
    let answer = service
        .call("POST", "/tenants/contoso/users/ana/sync", None)
        .await;
    assert_eq!((answer.status, answer.code()), (409, "tenant-disabled"));
    assert!(service.schedule.status(&ana()).await.unwrap().is_none());
    assert_eq!(
        service.put("/tenants/contoso", &tenant("contoso")).await.status,
        200
    );
    assert!(service.schedule.status(&ana()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_removed_tenant_takes_its_users_along() {
    let service = Service::with_ana().await;
    assert_eq!(service.call("DELETE", "/tenants/contoso", None).await.status, 200);
    assert!(service.registry.enrolment(&ana()).await.unwrap().is_none());
    assert!(service.schedule.status(&ana()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_policy_is_stored_as_it_was_sent_and_a_misspelt_one_is_refused() {
    let service = Service::with_ana().await;
    let mut body = tenant("contoso");
    body["policy"] = json!({
        "conflicts": "merge",
        "mailbox_deletions": "ignore",
        "source_deletions": "complete",
        "archived_after": "90d",
    });
    assert_eq!(service.put("/tenants/contoso", &body).await.status, 200);
    let stored = service.get("/tenants/contoso").await.body;
    let policy = serde_json::from_value::<Policy>(stored["policy"].clone()).unwrap();
    let sent = serde_json::from_value::<Policy>(body["policy"].clone()).unwrap();
    assert_eq!(policy, sent);
    body["policy"] = json!({ "mailbox_deletions": "archive" });
    assert_eq!(service.put("/tenants/contoso", &body).await.status, 400);
}

#[tokio::test]
async fn the_installation_id_is_replaced_only_without_opt_ins_or_when_confirmed() {
    let service = Service::start().await;
    let first = service.get("/installation").await.body;
    assert_eq!(first["people"], 0);
    let id = "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa";
    let answer = service.put("/installation", &json!({ "id": id })).await;
    assert_eq!((answer.status, &answer.body["id"]), (200, &json!(id)));
    let answer = service.put("/installation", &json!({ "id": "7" })).await;
    assert_eq!((answer.status, answer.code()), (400, "bad-request"));
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("expected a UUID")
    );

    let service = Service::with_ana().await;
    let present = service.get("/installation").await.body;
    assert_eq!(present["people"], 1);
    let answer = service.put("/installation", &json!({ "id": id })).await;
    assert_eq!((answer.status, answer.code()), (409, "people-enrolled"));
    assert_eq!(service.get("/installation").await.body, present);
    // Putting the id that is already set changes nothing.
    assert_eq!(
        service
            .put("/installation", &json!({ "id": present["id"] }))
            .await
            .status,
        200
    );
    let confirmed = json!({ "id": id, "confirmed": true });
    assert_eq!(service.put("/installation", &confirmed).await.body["id"], id);
}
