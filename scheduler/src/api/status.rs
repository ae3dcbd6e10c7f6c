//! Status, alerts and the doctor.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tasksync_common::model::TenantId;
use tasksync_common::queue::QueueName;

use super::error::ApiError;
use super::extract::{QueryParams, limit};
use super::tenants::require_tenant;
use super::views::{AlertView, ProcessView, QueuesView, StatusView};
use super::{ApiState, MAXIMUM_ALERTS};
use crate::doctor;
use crate::load::Load;

/// Most processes shown in the status.
const PROCESSES_SHOWN: usize = 200;

/// One tenant; `None` for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantParams {
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
    State(api): State<ApiState>,
    QueryParams(TenantParams { tenant }): QueryParams<TenantParams>,
) -> Result<Json<StatusView>, ApiError> {
    let parts = &api.parts;
    if let Some(tenant) = &tenant {
        require_tenant(parts, tenant).await?;
    }
    let tenant = tenant.as_ref();
    let mut summary = parts.schedule.summary(tenant).await?;
    summary.count_success(parts.registry.oldest_success(tenant).await?, parts.clock.now());
    let counts = parts.registry.enrolment_counts(tenant).await?;
    let alerts = parts.registry.alerts(tenant, MAXIMUM_ALERTS).await?.len();
    let members = parts.fleet.members().await?;
    let load = Load::of(&members);
    let depth = |name| load.depth(parts.queue.as_ref(), parts.fleet.as_ref(), name);
    let queues = QueuesView {
        background: depth(QueueName::Background).await?.into(),
        interactive: depth(QueueName::Interactive).await?.into(),
        dead_letters: parts.queue.dead_letter_count().await?,
    };
    Ok(Json(StatusView {
        tenant: tenant.map(ToString::to_string),
        summary,
        enabled: counts.enabled,
        disabled: counts.disabled,
        alerts,
        queues,
        leader: parts.leadership().await?,
        processes: members
            .iter()
            .take(PROCESSES_SHOWN)
            .map(ProcessView::from)
            .collect(),
        workers: load.workers,
        at: parts.schedule.now().await?,
    }))
}

pub(super) async fn alerts(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<AlertParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, 100, MAXIMUM_ALERTS)?;
    if let Some(tenant) = &params.tenant {
        require_tenant(&api.parts, tenant).await?;
    }
    let alerts = api.parts.registry.alerts(params.tenant.as_ref(), limit).await?;
    let alerts: Vec<_> = alerts.iter().map(AlertView::from).collect();
    Ok(Json(json!({ "alerts": alerts })))
}

pub(super) async fn doctor(
    State(api): State<ApiState>,
    QueryParams(TenantParams { tenant }): QueryParams<TenantParams>,
) -> Result<Json<doctor::DoctorReport>, ApiError> {
    let tenant = match &tenant {
        Some(id) => Some(require_tenant(&api.parts, id).await?),
        None => None,
    };
    let _place = api.doctor_place()?;
    Ok(Json(doctor::examine(&api.parts, tenant).await))
}
