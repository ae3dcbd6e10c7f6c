//! Freshness, alerts, dead letters, the doctor, and whether the process lives and is ready.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tasksync_common::error::Failure;
use tasksync_common::model::TenantId;
use tasksync_common::queue::QueueName;

use super::error::{ApiCode, ApiError, ErrorBody};
use super::extract::{Nothing, Params, limit};
use super::tenants::known;
use super::views::{AlertView, QueuesView, StatusView};
use super::{MAXIMUM_ALERTS, Parts, Shared};
use crate::doctor;

/// A store that does not answer readiness within this time is missing.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer about readiness holds this long, so that whoever may ask without a token cannot keep the stores busy.
const READINESS_LIFETIME: Duration = Duration::from_secs(1);

/// One tenant, or all when it is not named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfTenant {
    tenant: Option<TenantId>,
}

/// Parameters of the list of alerts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertParams {
    tenant: Option<TenantId>,
    limit: Option<u32>,
}

pub(super) async fn status(
    State(shared): State<Shared>,
    Params(OfTenant { tenant }): Params<OfTenant>,
) -> Result<Json<StatusView>, ApiError> {
    let parts = &shared.parts;
    if let Some(tenant) = &tenant {
        known(parts, tenant).await?;
    }
    let tenant = tenant.as_ref();
    let summary = parts.schedule.summary(tenant).await?;
    let counts = parts.registry.enrolment_counts(tenant).await?;
    let alerts = parts.registry.alerts(tenant, MAXIMUM_ALERTS).await?.len();
    let queues = QueuesView {
        background: parts.queue.depth(QueueName::Background).await?.into(),
        interactive: parts.queue.depth(QueueName::Interactive).await?.into(),
        dead_letters: parts.queue.dead_letter_count().await?,
    };
    Ok(Json(StatusView {
        tenant: tenant.map(ToString::to_string),
        summary,
        enabled: counts.enabled,
        disabled: counts.disabled,
        alerts,
        queues,
        leader: parts.leadership(),
        at: parts.schedule.now().await?,
    }))
}

pub(super) async fn alerts(
    State(shared): State<Shared>,
    Params(params): Params<AlertParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, 100, MAXIMUM_ALERTS)?;
    if let Some(tenant) = &params.tenant {
        known(&shared.parts, tenant).await?;
    }
    let alerts = shared
        .parts
        .registry
        .alerts(params.tenant.as_ref(), limit)
        .await?;
    let alerts: Vec<_> = alerts.iter().map(AlertView::from).collect();
    Ok(Json(json!({ "alerts": alerts })))
}

pub(super) async fn doctor(
    State(shared): State<Shared>,
    Params(OfTenant { tenant }): Params<OfTenant>,
) -> Result<Json<doctor::Report>, ApiError> {
    let tenant = match &tenant {
        Some(id) => Some(known(&shared.parts, id).await?),
        None => None,
    };
    let _place = shared
        .doctors
        .try_acquire()
        .map_err(|_| ApiError::new(ApiCode::Busy, "other doctors are at work; they ask many servers"))?;
    Ok(Json(doctor::examine(&shared.parts, tenant).await))
}

pub(super) async fn live(_: Params<Nothing>) -> &'static str {
    "alive\n"
}

/// What was last found out about readiness.
#[derive(Default)]
pub(super) struct Readiness(tokio::sync::Mutex<Option<(Timestamp, Vec<Missing>)>>);

#[derive(Clone)]
struct Missing {
    what: &'static str,
    why: Option<ErrorBody>,
}

pub(super) async fn ready(State(shared): State<Shared>, _: Params<Nothing>) -> (StatusCode, Json<Value>) {
    let parts = &shared.parts;
    let mut missing = shared.readiness.now(parts).await;
    if parts.stopping.is_cancelled() {
        missing.push(Missing {
            what: "the service is stopping",
            why: None,
        });
    }
    if missing.is_empty() {
        return (StatusCode::OK, Json(json!({ "ready": true, "missing": [] })));
    }
    // Details may name paths and servers: they are for the doctor, who asks with a token.
    let missing: Vec<_> = missing
        .iter()
        .map(|missing| {
            json!({
                "what": missing.what,
                "code": missing.why.as_ref().map(|why| &why.code),
                "message": missing.why.as_ref().map(|why| &why.message),
            })
        })
        .collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({ "ready": false, "missing": missing })),
    )
}

impl Readiness {
    async fn now(&self, parts: &Parts) -> Vec<Missing> {
        let mut last = self.0.lock().await;
        let now = parts.clock.now();
        if let Some((at, missing)) = &*last
            && (0..READINESS_LIFETIME.as_millis() as i128).contains(&now.duration_since(*at).as_millis())
        {
            return missing.clone();
        }
        let missing = ask_stores(parts).await;
        *last = Some((now, missing.clone()));
        missing
    }
}

async fn ask_stores(parts: &Parts) -> Vec<Missing> {
    let (registry, schedule, queue) = futures::join!(
        answers(parts.registry.check_writable()),
        answers(parts.schedule.now()),
        answers(parts.queue.depth(QueueName::Background)),
    );
    [("registry", registry), ("schedule", schedule), ("queue", queue)]
        .into_iter()
        .filter_map(|(what, answer)| answer.err().map(|why| Missing { what, why }))
        .collect()
}

async fn answers<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<(), Option<ErrorBody>> {
    match tokio::time::timeout(READINESS_TIMEOUT, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(Some((&failure).into())),
        Err(_) => Err(None),
    }
}
