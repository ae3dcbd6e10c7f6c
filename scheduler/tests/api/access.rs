//! Access to the API and how requests are refused. The matrix is made from the reference page, which is made from the
//! router.

use serde_json::json;

use crate::harness::{Service, TOKEN, ana, opt_in, tenant};

/// Every method and address of the API.
fn endpoints() -> Vec<(String, String)> {
    let found: Vec<_> = tasksync_scheduler::api::markdown()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .split_once('`')
                .map(|(call, _)| call.to_owned())
        })
        .filter_map(|call| {
            call.split_once(' ')
                .map(|(method, path)| (method.to_owned(), path.to_owned()))
        })
        .collect();
    assert!(found.len() >= 15, "{found:?}");
    found
}

fn body_for(method: &str, path: &str) -> Option<serde_json::Value> {
    match method {
        "PUT" if path.contains("/users/") => Some(opt_in("ana")),
        "POST" if path.ends_with("/users") => Some(json!({ "users": [] })),
        "PUT" => Some(tenant("contoso")),
        "POST" if path.ends_with("/test") => Some(tenant("contoso")),
        _ => None,
    }
}

#[tokio::test]
async fn nothing_is_answered_and_nothing_happens_without_the_right_token() {
    let service = Service::with_ana().await;
    for (method, path) in endpoints() {
        let path = format!(
            "/api/v1{}",
            path.replace("{tenant}", "contoso").replace("{user}", "ana")
        );
        for token in [
            None,
            Some("Bearer "),
            Some("Bearer 0123456789abcdef-tokem"),
            Some("Bearer 0123456789abcdef-token-and-more"),
            Some("Basic 0123456789abcdef-token"),
            Some(TOKEN),
        ] {
            let mut request = service.request(&method, &path);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            if let Some(body) = body_for(&method, &path) {
                request = request.json(&body);
            }
            let answer = service.send(request).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}");
            assert_eq!(answer.code(), "unauthorized");
        }
    }
    assert!(service.registry.enrolment(&ana()).await.unwrap().is_some());
    assert!(
        !service
            .registry
            .take_deletion_permit(&ana(), "p", jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap()
    );
    // A stranger cannot tell an unknown address from a known one.
    let answer = service.send(service.request("GET", "/api/v1/nonsense")).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_service_without_a_token_is_closed_but_lives() {
    let service = Service::start_with(None).await;
    for (method, path) in endpoints() {
        let path = format!("/api/v1{}", path.replace(['{', '}'], ""));
        let answer = service
            .send(service.request(&method, &path).bearer_auth(TOKEN))
            .await;
        assert_eq!(answer.status, 503, "{method} {path}");
        assert_eq!(answer.code(), "token-not-configured");
        assert!(answer.body["action"].as_str().unwrap().contains("TASKSYNC_TOKEN"));
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(service.send(service.request("GET", path)).await.status, 200);
    }
}

#[tokio::test]
async fn unknown_tenants_and_users_are_not_found_everywhere() {
    let service = Service::with_ana().await;
    for (method, path) in endpoints() {
        if !path.contains('{') {
            continue;
        }
        let needs_no_tenant = path == "/tenants/{tenant}/test";
        let creates_tenant = needs_no_tenant || method == "PUT" && path == "/tenants/{tenant}";
        let creates_user = method == "PUT" && path == "/tenants/{tenant}/users/{user}";
        let body = body_for(&method, &path);
        if !creates_tenant {
            let unknown_tenant = path
                .replace("{tenant}", "fabrikam")
                .replace("{user}", "ana")
                .replace("{id}", "fabrikam");
            let answer = service.call(&method, &unknown_tenant, body.as_ref()).await;
            assert_eq!(
                (answer.status, answer.code()),
                (404, "not-found"),
                "{method} {path}"
            );
            if path.contains("{tenant}") {
                assert!(answer.body["detail"].as_str().unwrap().contains("fabrikam"));
            }
        }
        if path.contains("{user}") && !creates_user {
            let unknown_user = path.replace("{tenant}", "contoso").replace("{user}", "ben");
            let answer = service.call(&method, &unknown_user, body.as_ref()).await;
            assert_eq!(
                (answer.status, answer.code()),
                (404, "not-found"),
                "{method} {path}"
            );
        }
    }
    for path in ["/status", "/alerts", "/doctor"] {
        let answer = service.get(&format!("{path}?tenant=fabrikam")).await;
        assert_eq!((answer.status, answer.code()), (404, "not-found"), "{path}");
    }
}

#[tokio::test]
async fn a_forgotten_or_misspelt_tenant_is_an_error_and_never_a_wider_result() {
    let service = Service::with_ana().await;
    for path in ["/status", "/alerts", "/doctor"] {
        for query in [
            "?tenant=",
            "?tenannt=contoso",
            "?tenant=Contoso",
            "?tenant=contoso&x=1",
        ] {
            let answer = service.get(&format!("{path}{query}")).await;
            assert_eq!(
                (answer.status, answer.code()),
                (400, "bad-request"),
                "{path}{query}"
            );
        }
    }
    for path in [
        "/tenants/",
        "/tenants//users",
        "/tenants//users/ana",
        "/tenants/contoso/users/",
    ] {
        let status = service.get(path).await.status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    let answer = service.get("/tenants?limit=0").await;
    assert_eq!(answer.status, 400);
    let answer = service.get("/tenants?limit=1001").await;
    assert!(answer.body["detail"].as_str().unwrap().contains("1000"));
}

#[tokio::test]
async fn bodies_are_refused_with_what_was_wrong() {
    let service = Service::start().await;
    let mut wrong = tenant("contoso");
    wrong["displayname"] = json!("x");
    let answer = service.put("/tenants/contoso", &wrong).await;
    assert_eq!((answer.status, answer.code()), (400, "bad-request"));
    assert!(
        answer.body["detail"].as_str().unwrap().contains("displayname"),
        "{}",
        answer.body
    );

    let mut wrong = tenant("contoso");
    wrong["source"]["sites"] = json!("no list");
    let answer = service.put("/tenants/contoso", &wrong).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body["detail"].as_str().unwrap().contains("source"),
        "{}",
        answer.body
    );

    for (field, value, expected) in [
        ("id", json!("fabrikam"), "fabrikam"),
        ("time_zone", json!("Mars/Olympus"), "time_zone"),
        ("display_name", json!(" "), "display_name"),
    ] {
        let mut wrong = tenant("contoso");
        wrong[field] = value;
        let answer = service.put("/tenants/contoso", &wrong).await;
        assert_eq!(answer.status, 400, "{field}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains(expected),
            "{}",
            answer.body
        );
    }
    for (address, expected) in [
        ("ftp://sp.contoso.example/", "https://"),
        ("https://svc:secret@sp.contoso.example/", "credentials"),
    ] {
        let mut wrong = tenant("contoso");
        wrong["source"]["sites"] = json!([address]);
        let answer = service.put("/tenants/contoso", &wrong).await;
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(
            detail.contains("source.sites[0]") && detail.contains(expected),
            "{detail}"
        );
        assert!(!detail.contains("secret"), "{detail}");
    }
    let mut wrong = tenant("contoso");
    wrong["displayname"] = json!("x");
    wrong["enabled"] = json!("yes");
    let answer = service.put("/tenants/contoso", &wrong).await;
    let fields: Vec<&str> = answer.body["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["displayname", "enabled"], "{}", answer.body);
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("did you mean display_name?") && detail.contains("must be true or false"),
        "{detail}"
    );
    let answer = service.get("/tenants?limits=3").await;
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("did you mean limit?"), "{detail}");
    let answer = service.get("/tenants?limit=many").await;
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("limit must be a whole number"), "{detail}");
    let no_json = service
        .request("PUT", "/api/v1/tenants/contoso")
        .bearer_auth(TOKEN)
        .body("{}");
    let answer = service.send(no_json).await;
    assert_eq!((answer.status, answer.code()), (415, "not-json"));
    let large = service
        .request("PUT", "/api/v1/tenants/contoso")
        .bearer_auth(TOKEN)
        .header("content-type", "application/json")
        .body("x".repeat(1024 * 1024 + 1));
    let answer = service.send(large).await;
    assert_eq!((answer.status, answer.code()), (413, "body-too-large"));
    let answer = service.call("PATCH", "/tenants", None).await;
    assert_eq!((answer.status, answer.code()), (405, "method-not-allowed"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert_eq!(detail, "PATCH is not possible here; allowed: GET");
    let answer = service.get("/nonsense").await;
    assert_eq!((answer.status, answer.code()), (404, "no-such-address"));
    assert!(service.registry.tenants(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn every_answer_carries_a_request_id() {
    let service = Service::start().await;
    let answer = service
        .request("GET", "/api/v1/tenants")
        .header("x-request-id", "abc-1")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    assert_eq!(answer.headers()["x-request-id"], "abc-1");
    let made = service.request("GET", "/livez").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 36);
}
