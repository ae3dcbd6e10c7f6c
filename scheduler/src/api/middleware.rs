//! Middleware of every request: its id, its log line, its time limit, and the answer when its handler panics.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use tracing::Instrument as _;

use super::error::{ApiCode, ApiError, defect};
use tasksync_common::random::ordered_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, logs changes and failures, and turns a panic into an answer.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    // The matched route, not the path, because names of users must not be in every log line.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %method, path);
    let answered = AssertUnwindSafe(next.run(request).instrument(span.clone()))
        .catch_unwind()
        .await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(parent: &span, "a request handler panicked");
        defect().into_response()
    });
    let status = response.status();
    if status.is_server_error() {
        tracing::warn!(parent: &span, status = status.as_u16(), "request failed");
    } else if method == Method::GET || method == Method::HEAD {
        tracing::debug!(parent: &span, status = status.as_u16(), "request answered");
    } else {
        tracing::info!(parent: &span, status = status.as_u16(), "request answered");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(REQUEST_ID)
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        })
        .cloned()
        .or_else(|| HeaderValue::from_str(&ordered_id().to_string()).ok())
        .unwrap_or_else(|| HeaderValue::from_static("-"))
}

/// Stops a request at its time limit. The time to read its body counts.
pub(super) async fn time_limit(State(time): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(ApiCode::TimedOut, format!("stopped after {} s", time.as_secs())).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_over_only_when_it_is_harmless() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(with("abc-1"), "abc-1");
        for wrong in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert_ne!(with(wrong), wrong);
        }
    }
}
