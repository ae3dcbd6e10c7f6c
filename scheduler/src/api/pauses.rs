//! The pauses of a tenant's servers: list and end.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tasksync_common::fleet::ServerName;

use super::Shared;
use super::error::{ApiCode, ApiError};
use super::extract::{Nothing, Params, TenantPath};
use super::tenants::known;
use crate::pauses::{self, Ended, Pause};

/// The servers that are paused.
#[derive(Serialize)]
pub(super) struct PauseList {
    pauses: Vec<Pause>,
}

/// Which pauses to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Host and port of one server; `None` for all of the tenant's servers.
    server: Option<String>,
}

pub(super) async fn list(
    State(shared): State<Shared>,
    TenantPath(id): TenantPath,
    _: Params<Nothing>,
) -> Result<Json<PauseList>, ApiError> {
    let tenant = known(&shared.parts, &id).await?;
    let pauses = pauses::of_tenant(&shared.parts, &tenant).await?;
    Ok(Json(PauseList { pauses }))
}

pub(super) async fn end(
    State(shared): State<Shared>,
    TenantPath(id): TenantPath,
    Params(which): Params<Which>,
) -> Result<Json<Ended>, ApiError> {
    let tenant = known(&shared.parts, &id).await?;
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
    let ended = pauses::end(&shared.parts, &id, &servers).await?;
    tracing::info!(tenant = %id, server = which.server, ended = ended.ended, due = ended.due, "pauses were ended");
    Ok(Json(ended))
}
