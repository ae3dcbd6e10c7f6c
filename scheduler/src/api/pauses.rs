//! The pauses of a tenant's servers: list and end.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tasksync_common::fleet::ServerName;

use super::ApiState;
use super::error::{ApiCode, ApiError};
use super::extract::{NoParams, QueryParams, TenantPath};
use super::tenants::require_tenant;
use crate::pauses::{self, EndedPauses, TenantPause};

/// The servers that are paused.
#[derive(Serialize)]
pub(super) struct PauseList {
    pauses: Vec<TenantPause>,
}

/// Which pauses to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndPauseParams {
    /// Host and port of one server; `None` for all of the tenant's servers.
    server: Option<String>,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    _: QueryParams<NoParams>,
) -> Result<Json<PauseList>, ApiError> {
    let tenant = require_tenant(&api.parts, &id).await?;
    let pauses = pauses::pauses_of_tenant(&api.parts, &tenant).await?;
    Ok(Json(PauseList { pauses }))
}

pub(super) async fn end(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    QueryParams(which): QueryParams<EndPauseParams>,
) -> Result<Json<EndedPauses>, ApiError> {
    let tenant = require_tenant(&api.parts, &id).await?;
    let mut servers = ServerName::of_tenant(&tenant);
    if let Some(wanted) = &which.server {
        let names: Vec<String> = servers.iter().map(|server| server.host.clone()).collect();
        servers.retain(|server| server.host == *wanted);
        if servers.is_empty() {
            return Err(ApiError::new(
                ApiCode::NotFound,
                format!(
                    "server: {id} has no server \"{wanted}\"; it has {}",
                    names.join(", ")
                ),
            ));
        }
    }
    let ended = pauses::end_pauses(&api.parts, &id, &servers).await?;
    tracing::info!(tenant = %id, server = which.server, ended = ended.ended, due = ended.due, "pauses were ended");
    Ok(Json(ended))
}
