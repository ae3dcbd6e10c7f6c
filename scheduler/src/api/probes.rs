//! The liveness and readiness probes, which need no token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tasksync_common::health::{Health, UnmetRequirement};

use super::extract::{NoParams, QueryParams};

/// Whether answers say what exactly is wrong and what to do. That can name hosts and paths, so it must be hidden on
/// an address that anyone can reach. There the doctor reports it, to clients that have the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Code and message only.
    Hidden,
    /// Also the detail and what to do.
    Shown,
}

#[derive(Clone)]
struct ProbeState {
    health: Health,
    detail: Detail,
}

/// Returns the probes. `GET /livez` answers 200, or 503 with the loops that are stuck. `GET /readyz` answers 200, or
/// 503 with what the process still needs.
pub fn probes(health: Health, detail: Detail) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(ProbeState { health, detail })
}

async fn live(State(watched): State<ProbeState>, _: QueryParams<NoParams>) -> Response {
    let stuck = watched.health.stuck();
    if stuck.is_empty() {
        return "alive\n".into_response();
    }
    let lines: Vec<_> = stuck
        .iter()
        .map(|(name, silent)| format!("{name} has sent no heartbeat for {} s\n", silent.as_secs()))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}

async fn ready(State(watched): State<ProbeState>, _: QueryParams<NoParams>) -> (StatusCode, Json<Value>) {
    let missing = watched.health.unmet_requirements().await;
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let missing_views: Vec<_> = missing.iter().map(|one| view(one, watched.detail)).collect();
    (
        status,
        Json(json!({ "ready": missing.is_empty(), "missing": missing_views })),
    )
}

fn view(missing: &UnmetRequirement, detail: Detail) -> Value {
    let why = missing.why.as_ref();
    let mut view = json!({
        "what": missing.what,
        "code": why.map(|why| why.code.as_str()),
        "message": why.map(|why| why.code.message()),
    });
    if let (Detail::Shown, Some(why), Some(fields)) = (detail, why, view.as_object_mut()) {
        fields.insert("detail".to_owned(), why.detail.clone().into());
        fields.insert("action".to_owned(), why.code.action().into());
    }
    view
}
