//! The status and the doctor.

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tasksync_common::error::Code;
use tasksync_common::model::TenantId;

use super::ApiState;
use super::error::ApiError;
use super::extract::{QueryParams, limit};
use super::status_view::StatusView;
use super::tenants::require_tenant;
use crate::doctor;
use crate::status::{ask, problems, read_facts};
use crate::tenant_ranking::{TenantRank, rank_tenants};

/// Most tenants shown of each kind.
const MAXIMUM_TOP: u32 = 50;
/// Most tenants whose late users are read.
const LATE_TENANTS: u32 = 1_000;

/// One tenant; `None` for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantParams {
    tenant: Option<TenantId>,
}

pub(super) async fn status(
    State(api): State<ApiState>,
    QueryParams(TenantParams { tenant }): QueryParams<TenantParams>,
) -> Result<Json<StatusView>, ApiError> {
    let parts = &api.parts;
    if let Some(tenant) = &tenant {
        // Without the registry, whatever else is known of the tenant is shown.
        match ask(Code::RegistryUnavailable, parts.registry.tenant(tenant)).await {
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => drop(require_tenant(parts, tenant).await?),
        }
    }
    let facts = read_facts(parts, tenant.as_ref()).await;
    let found = problems(&facts, parts.settings.schedule.maximum_time_between_user_syncs);
    let leads_here = parts.leading.borrow().map(|epoch| epoch.0);
    Ok(Json(StatusView::new(
        tenant,
        &facts,
        found,
        leads_here,
        parts.clock.now(),
    )))
}

/// How many tenants are shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopParams {
    limit: Option<u32>,
}

/// The tenants that stand out.
#[derive(Serialize)]
pub(super) struct TopTenants {
    tenants: Vec<TenantRank>,
    /// False if the registry does not answer, so that late users are not known.
    late_known: bool,
    at: Timestamp,
}

pub(super) async fn top(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<TopParams>,
) -> Result<Json<TopTenants>, ApiError> {
    let parts = &api.parts;
    let limit = limit(params.limit, 10, MAXIMUM_TOP)?;
    let now = parts.clock.now();
    let late_after =
        SignedDuration::try_from(parts.settings.schedule.late_after).unwrap_or(SignedDuration::MAX);
    let before = now.checked_sub(late_after).unwrap_or(Timestamp::MIN);
    let (members, late) = tokio::join!(
        ask(Code::ScheduleUnavailable, parts.fleet.members()),
        ask(
            Code::RegistryUnavailable,
            parts.registry.late(before, LATE_TENANTS)
        ),
    );
    Ok(Json(TopTenants {
        late_known: late.is_ok(),
        tenants: rank_tenants(&members?, &late.unwrap_or_default(), limit as usize),
        at: now,
    }))
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
