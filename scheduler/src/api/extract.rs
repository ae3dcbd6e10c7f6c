//! Reads requests: names in paths, query parameters and JSON bodies. Each refusal says what is wrong.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tasksync_common::model::{TenantId, UserId, UserKey, zone_named};

use super::MAXIMUM_BODY_BYTES;
use super::error::{ApiCode, ApiError};
use super::problems::{query_problem, read_body};

/// Entries of a page when the request has no limit.
const DEFAULT_PAGE: u32 = 100;
/// Most entries of a page.
const MAXIMUM_PAGE: u32 = 1_000;

/// A JSON body. Its type refuses unknown fields.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unread_body(&rejection))?;
        read_body(&bytes).map(Self).map_err(ApiError::of_problems)
    }
}

/// Refuses a body that is not declared as JSON.
fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |found: &str| {
        let detail = format!("Content-Type {found}; write Content-Type: application/json");
        Err(ApiError::new(ApiCode::NotJson, detail))
    };
    let Some(declared) = headers.get(CONTENT_TYPE) else {
        return refuse("is missing");
    };
    let text = declared.to_str().unwrap_or_default().to_ascii_lowercase();
    let kind = text.split(';').next().unwrap_or_default().trim();
    let is_json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if is_json {
        Ok(())
    } else {
        let shown: String = kind.chars().take(60).collect();
        refuse(&format!("is \"{shown}\""))
    }
}

fn unread_body(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("the body has more than {MAXIMUM_BODY_BYTES} bytes, which is the limit");
        ApiError::new(ApiCode::BodyTooLarge, detail)
    } else {
        ApiError::bad_request("the connection ended before the whole body arrived")
    }
}

/// Query parameters. The type refuses unknown ones, so that a misspelt `tenant` never widens a result.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                // The part before the colon only says that it is about the query.
                let reason = text
                    .split_once("query string: ")
                    .map_or(&*text, |(_, reason)| reason);
                Err(ApiError::of_problems(vec![query_problem(reason)]))
            }
        }
    }
}

/// No query parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// Parameters of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams<Name> {
    after: Option<Name>,
    limit: Option<u32>,
}

impl<Name> PageParams<Name> {
    /// Returns the name after which the page begins, and how many entries it may have.
    pub(super) fn read(self) -> Result<(Option<Name>, u32), ApiError> {
        Ok((self.after, limit(self.limit, DEFAULT_PAGE, MAXIMUM_PAGE)?))
    }
}

/// Returns the limit if it is within its bounds. A limit outside is refused, not clamped.
pub(super) fn limit(given: Option<u32>, default: u32, maximum: u32) -> Result<u32, ApiError> {
    match given {
        None => Ok(default),
        Some(limit) if (1..=maximum).contains(&limit) => Ok(limit),
        Some(limit) => Err(ApiError::bad_request(format!(
            "limit is {limit}; 1 to {maximum} are allowed"
        ))),
    }
}

/// The tenant named in the path.
pub(super) struct TenantPath(pub(super) TenantId);

impl<S: Send + Sync> FromRequestParts<S> for TenantPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(tenant) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable_path())?;
        tenant.parse().map(Self).map_err(ApiError::bad_request)
    }
}

/// The user named in the path, together with the tenant.
pub(super) struct UserPath(pub(super) UserKey);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((tenant, user)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| unreadable_path())?;
        let tenant: TenantId = tenant.parse().map_err(ApiError::bad_request)?;
        let user: UserId = user.parse().map_err(ApiError::bad_request)?;
        Ok(Self(UserKey::new(tenant, user)))
    }
}

fn unreadable_path() -> ApiError {
    ApiError::bad_request("a name in the path is not valid UTF-8 after its percent signs are decoded")
}

/// Refuses a time zone that is neither an IANA nor a Windows name.
pub(super) fn check_time_zone(field: &str, name: &str) -> Result<(), ApiError> {
    if zone_named(name).is_some() {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!(
            "{field}: \"{name}\" is no time zone; write an IANA name such as Europe/Berlin or a Windows name such as W. Europe Standard Time"
        )))
    }
}

/// Refuses a text for people that is empty, longer than `maximum` bytes, or has control characters.
pub(super) fn check_text(field: &str, text: &str, maximum: usize) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::bad_request(format!("{field}: is empty")));
    }
    if text.len() > maximum {
        return Err(ApiError::bad_request(format!(
            "{field}: has {} bytes; at most {maximum} are allowed",
            text.len()
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!(
            "{field}: contains a control character"
        )));
    }
    Ok(())
}
