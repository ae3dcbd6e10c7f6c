//! Open alerts: the list, and the same by cause.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tasksync_common::error::Code;
use tasksync_common::model::{TenantId, UserId};
use tasksync_common::registry::{AlertCursor, AlertFilter};

use super::error::ApiError;
use super::extract::{QueryParams, limit};
use super::tenants::require_tenant;
use super::views::AlertView;
use super::{ApiState, MAXIMUM_ALERTS};
use crate::alert_causes::{AlertCauses, read_causes};
use crate::status::{self, StatusProblem};

/// Which alerts, and which part of their list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertListParams {
    tenant: Option<TenantId>,
    user: Option<UserId>,
    code: Option<Code>,
    since: Option<Timestamp>,
    after: Option<AlertCursor>,
    limit: Option<u32>,
}

/// Which alerts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertCauseParams {
    tenant: Option<TenantId>,
    code: Option<Code>,
    since: Option<Timestamp>,
}

/// A part of the list of alerts.
#[derive(Serialize)]
pub(super) struct AlertList {
    alerts: Vec<AlertView>,
    /// Place to ask on after; nothing follows when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AlertCursor>,
}

/// The alerts by cause.
#[derive(Serialize)]
pub(super) struct AlertCauseList {
    /// What is wrong with the installation itself and needs the operator. Left out where one tenant, code or time
    /// is asked about.
    installation: Vec<StatusProblem>,
    #[serde(flatten)]
    found: AlertCauses,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<AlertListParams>,
) -> Result<Json<AlertList>, ApiError> {
    let limit = limit(params.limit, 100, MAXIMUM_ALERTS)?;
    if let Some(tenant) = &params.tenant {
        require_tenant(&api.parts, tenant).await?;
    }
    let filter = AlertFilter {
        tenant: params.tenant,
        user: params.user,
        code: params.code,
        since: params.since,
    };
    let page = api
        .parts
        .registry
        .find_alerts(&filter, params.after.as_ref(), limit)
        .await?;
    Ok(Json(AlertList {
        alerts: page.alerts.iter().map(AlertView::from).collect(),
        next: page.next,
    }))
}

pub(super) async fn causes(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<AlertCauseParams>,
) -> Result<Json<AlertCauseList>, ApiError> {
    let parts = &api.parts;
    if let Some(tenant) = &params.tenant {
        require_tenant(parts, tenant).await?;
    }
    let filter = AlertFilter {
        tenant: params.tenant,
        user: None,
        code: params.code,
        since: params.since,
    };
    let installation = if filter == AlertFilter::default() {
        let facts = status::read_facts(parts, None).await;
        status::problems(&facts, parts.settings.schedule.maximum_time_between_user_syncs)
            .into_iter()
            // The alerts themselves follow.
            .filter(|problem| problem.needs_operator && problem.id != status::ALERTS_FOR_OPERATOR)
            .collect()
    } else {
        Vec::new()
    };
    Ok(Json(AlertCauseList {
        installation,
        found: read_causes(&*parts.registry, &filter).await?,
    }))
}
