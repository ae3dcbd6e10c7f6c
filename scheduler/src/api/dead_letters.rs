//! Dead letters, the jobs that workers gave up on: list, replay, discard.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tasksync_common::queue::Letters;

use super::Shared;
use super::error::{ApiCode, ApiError};
use super::extract::{Nothing, Params, limit};
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
    State(shared): State<Shared>,
    Params(params): Params<Limit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, DEFAULT, MAXIMUM)?;
    let letters = shared.parts.queue.dead_letters(limit as usize).await?;
    let letters: Vec<_> = letters.iter().map(DeadLetterView::from).collect();
    Ok(Json(json!({ "dead_letters": letters })))
}

pub(super) async fn replay(
    State(shared): State<Shared>,
    Params(params): Params<NamedLimit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(Some(params.limit), DEFAULT, MAXIMUM)?;
    let which = Letters::Oldest(limit as usize);
    let replayed = shared.parts.queue.replay_dead_letters(&which).await?;
    Ok(Json(json!({ "replayed": replayed })))
}

pub(super) async fn replay_one(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    _: Params<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let which = Letters::Id(id.clone());
    let replayed = shared.parts.queue.replay_dead_letters(&which).await?;
    found(&id, replayed)?;
    Ok(Json(json!({ "replayed": replayed })))
}

pub(super) async fn discard(
    State(shared): State<Shared>,
    Params(params): Params<NamedLimit>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(Some(params.limit), DEFAULT, MAXIMUM)?;
    let which = Letters::Oldest(limit as usize);
    let discarded = shared.parts.queue.discard_dead_letters(&which).await?;
    Ok(Json(json!({ "discarded": discarded })))
}

pub(super) async fn discard_one(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    _: Params<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let which = Letters::Id(id.clone());
    let discarded = shared.parts.queue.discard_dead_letters(&which).await?;
    found(&id, discarded)?;
    Ok(Json(json!({ "discarded": discarded })))
}

fn found(id: &str, count: u64) -> Result<(), ApiError> {
    if count == 0 {
        return Err(ApiError::new(
            ApiCode::NotFound,
            format!("there is no dead letter {id}; it may have been replayed or discarded already"),
        ));
    }
    Ok(())
}
