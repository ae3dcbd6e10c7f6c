//! Dead letters, the jobs that workers gave up on: list, replay, discard.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tasksync_common::queue::DeadLetterSelection;

use super::ApiState;
use super::error::{ApiCode, ApiError};
use super::extract::{NoParams, QueryParams, limit};
use super::views::DeadLetterView;

/// Dead letters of a list when the request has no limit, and most of one request.
const DEFAULT: u32 = 50;
const MAXIMUM: u32 = 500;

/// How many dead letters to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    limit: Option<u32>,
}

/// How many dead letters to change. Required, because a change of all of them must not happen by omission.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedLimit {
    limit: u32,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<Limit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, DEFAULT, MAXIMUM)?;
    let letters = api.parts.queue.dead_letters(limit as usize).await?;
    let letters: Vec<_> = letters.iter().map(DeadLetterView::from).collect();
    Ok(Json(json!({ "dead_letters": letters })))
}

pub(super) async fn replay(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<NamedLimit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(Some(params.limit), DEFAULT, MAXIMUM)?;
    let which = DeadLetterSelection::Oldest(limit as usize);
    let replayed = api.parts.queue.replay_dead_letters(&which).await?;
    Ok(Json(json!({ "replayed": replayed })))
}

pub(super) async fn replay_one(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    _: QueryParams<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let which = DeadLetterSelection::Id(id.clone());
    let replayed = api.parts.queue.replay_dead_letters(&which).await?;
    require_changed(&id, replayed)?;
    Ok(Json(json!({ "replayed": replayed })))
}

pub(super) async fn discard(
    State(api): State<ApiState>,
    QueryParams(params): QueryParams<NamedLimit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(Some(params.limit), DEFAULT, MAXIMUM)?;
    let which = DeadLetterSelection::Oldest(limit as usize);
    let discarded = api.parts.queue.discard_dead_letters(&which).await?;
    Ok(Json(json!({ "discarded": discarded })))
}

pub(super) async fn discard_one(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    _: QueryParams<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let which = DeadLetterSelection::Id(id.clone());
    let discarded = api.parts.queue.discard_dead_letters(&which).await?;
    require_changed(&id, discarded)?;
    Ok(Json(json!({ "discarded": discarded })))
}

fn require_changed(id: &str, count: u64) -> Result<(), ApiError> {
    if count == 0 {
        return Err(ApiError::new(
            ApiCode::NotFound,
            format!("there is no dead letter {id}; it may have been replayed or discarded already"),
        ));
    }
    Ok(())
}
