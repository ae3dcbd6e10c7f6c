//! Calls the REST API of a running service.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::farm::Farm;

/// The API's access token.
pub(crate) const TOKEN: &str = "trial-token-of-32-characters-000";

/// Returns a client of the API. It works on loopback only, without TLS.
pub(super) fn client() -> Result<reqwest::Client, String> {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| error.to_string())
}

/// Returns a free port on loopback.
pub(super) fn free_port() -> Result<u16, String> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// Returns whether a scheduler's status says that it is the leader.
pub(crate) fn is_leading(status: &Value) -> bool {
    status
        .pointer("/leader/state")
        .is_some_and(|state| state == "leading")
}

/// Calls the API at `url` once. Returns the JSON of the answer.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness calls a service that it started"
)]
pub(super) async fn call(
    http: &reqwest::Client,
    url: &str,
    method: reqwest::Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, String> {
    let mut request = http
        .request(method.clone(), format!("{url}{path}"))
        .bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request
        .send()
        .await
        .map_err(|error| format!("{method} {path}: {error}"))?;
    let status = answer.status();
    let text = answer
        .text()
        .await
        .map_err(|error| format!("{method} {path}: {error}"))?;
    if !status.is_success() {
        return Err(format!("{method} {path}: {status}: {text}"));
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|error| format!("{method} {path}: {error}"))
}

/// Adds every tenant and opts every user in. Writes the secrets into `folder`.
pub(super) async fn enrol(
    http: &reqwest::Client,
    url: &str,
    folder: &Path,
    farm: &Farm,
) -> Result<(), String> {
    let (_, password) = farm.write_secrets(folder)?;
    for tenant in &farm.population.tenants {
        let path = format!("/api/v1/tenants/{}", tenant.slug);
        let settings = farm.tenant_settings(tenant, &password);
        call(http, url, reqwest::Method::PUT, &path, Some(settings)).await?;
    }
    for (_, tenant, person) in farm.people() {
        let path = format!(
            "/api/v1/tenants/{}/users/{}",
            tenant.slug,
            Farm::user_name(person)
        );
        let body = json!({
            "source_login": person.login,
            "mailbox": person.smtp,
            "time_zone": person.time_zone,
        });
        call(http, url, reqwest::Method::PUT, &path, Some(body)).await?;
    }
    Ok(())
}
