//! The operator token: one secret for the whole API, compared in constant time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::ApiState;
use super::error::{ApiCode, ApiError};
use crate::door::ClientConnection;

/// Shortest token, in bytes.
pub const MINIMUM_TOKEN_LENGTH: usize = 16;
/// Longest token, in bytes.
const MAXIMUM_TOKEN_LENGTH: usize = 1_024;

/// Why a token was refused. Shows nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too short or too long.
    #[error(
        "the operator token has {0} characters; {MINIMUM_TOKEN_LENGTH} to {MAXIMUM_TOKEN_LENGTH} are allowed"
    )]
    Length(usize),
    /// Has a character that cannot be sent in a header.
    #[error("the operator token contains a blank or a character that is not printable ASCII")]
    Character,
}

/// The operator token. It cannot be shown, logged or serialised.
#[derive(Clone)]
pub struct ApiToken(Arc<str>);

impl ApiToken {
    /// Reads a token. Blanks and line breaks at its ends are not part of it.
    ///
    /// # Errors
    /// The token is too short, too long, or has characters that cannot be sent.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if !(MINIMUM_TOKEN_LENGTH..=MAXIMUM_TOKEN_LENGTH).contains(&text.len()) {
            return Err(TokenError::Length(text.len()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        Ok(Self(text.into()))
    }

    /// Returns the value of an `Authorization` header, for clients.
    #[must_use]
    pub fn header_value(&self) -> String {
        format!("Bearer {}", self.0)
    }

    fn matches(&self, given: &[u8]) -> bool {
        constant_time_eq(self.0.as_bytes(), given)
    }
}

/// Compares without stopping at the first difference, so that the time depends only on the length of `given`.
fn constant_time_eq(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    let endless = secret.iter().cycle();
    for (left, right) in endless.zip(given) {
        difference |= usize::from(std::hint::black_box(left ^ right));
    }
    std::hint::black_box(difference) == 0 && !secret.is_empty()
}

/// Passes requests that carry the token, and refuses all others. Too many wrong tokens of one client are answered late;
/// a right one never is.
pub(super) async fn require(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Some(token) = &state.token else {
        return ApiError::new(
            ApiCode::TokenNotConfigured,
            "neither TASKSYNC_TOKEN nor TASKSYNC_TOKEN_FILE is set",
        )
        .into_response();
    };
    // Absent only where a router is called without a listener.
    let connection = request.extensions().get::<ClientConnection>().cloned();
    let Some(value) = request.headers().get(AUTHORIZATION) else {
        // No token was tried, so there is nothing to slow down.
        return ApiError::new(ApiCode::Unauthorized, "the request has no Authorization header")
            .into_response();
    };
    let refusal = match value.as_bytes().split_at_checked(7) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            if token.matches(given) {
                let _at_work = connection.as_ref().map(ClientConnection::begin_request);
                return next.run(request).await;
            }
            "the token is not the one the service was started with"
        }
        _ => "the Authorization header is not of the form Bearer TOKEN",
    };
    if let Some(connection) = connection {
        let client = connection.client(request.headers());
        if let Some(retry_after) = connection.refuse_token(client).await {
            return ApiError::new(
                ApiCode::TooManyWrongTokens,
                format!("{refusal}; {client} sent too many wrong tokens"),
            )
            .retry_after(retry_after)
            .into_response();
        }
    }
    ApiError::new(ApiCode::Unauthorized, refusal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_token_matches() {
        let token = ApiToken::new("0123456789abcdef\n").unwrap();
        assert!(token.matches(b"0123456789abcdef"));
        for wrong in [
            &b""[..],
            b"0123456789abcdeF",
            b"0123456789abcde",
            b"0123456789abcdef0123456789abcdef",
            b"0123456789abcdef ",
        ] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn weak_and_unsendable_tokens_are_refused_without_showing_them() {
        assert_eq!(ApiToken::new("short").err(), Some(TokenError::Length(5)));
        assert_eq!(
            ApiToken::new("0123456789 abcdef").err(),
            Some(TokenError::Character)
        );
        assert_eq!(
            ApiToken::new(&"x".repeat(2_000)).err(),
            Some(TokenError::Length(2_000))
        );
    }
}
