//! The id of the installation.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tasksync_common::model::InstallationId;

use super::ApiState;
use super::error::{ApiCode, ApiError};
use super::extract::{JsonBody, NoParams, QueryParams};

/// The installation.
#[derive(Serialize)]
pub(super) struct InstallationView {
    id: InstallationId,
    /// How many people are opted in.
    people: u64,
}

/// Body of a replacement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replacement {
    id: InstallationId,
    /// Replaces the id even though people are opted in.
    #[serde(default)]
    confirmed: bool,
}

pub(super) async fn show(
    State(api): State<ApiState>,
    _: QueryParams<NoParams>,
) -> Result<Json<InstallationView>, ApiError> {
    let registry = &api.parts.registry;
    let counts = registry.enrolment_counts(None).await?;
    Ok(Json(InstallationView {
        id: registry.installation().await?,
        people: counts.enabled + counts.disabled,
    }))
}

pub(super) async fn replace(
    State(api): State<ApiState>,
    JsonBody(body): JsonBody<Replacement>,
) -> Result<Json<InstallationView>, ApiError> {
    let registry = &api.parts.registry;
    let counts = registry.enrolment_counts(None).await?;
    let people = counts.enabled + counts.disabled;
    let present = registry.installation().await?;
    if body.id != present {
        if people > 0 && !body.confirmed {
            return Err(ApiError::new(
                ApiCode::PeopleEnrolled,
                format!("{people} people are opted in under {present}; nothing was changed"),
            ));
        }
        registry.set_installation(body.id).await?;
        tracing::warn!(before = %present, now = %body.id, people, "the installation's id was replaced");
    }
    Ok(Json(InstallationView { id: body.id, people }))
}
