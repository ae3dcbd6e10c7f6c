//! Error answers. They always have the form `{code, message, detail, action}`, from the error catalogue or the API's
//! own codes.

use std::fmt::{self, Write as _};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tasksync_common::error::{Code, ErrorClass, Failure};

macro_rules! api_codes {
    ($($variant:ident $text:literal $status:ident $message:literal $action:literal;)*) => {
        tasksync_common::codes! {
            /// A stable code of an error that is the API's own and no server's.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub enum ApiCode {
                $($variant $text $message $action;)*
            }
        }

        impl ApiCode {
            /// Returns the HTTP status of the answer.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

api_codes! {
    BadRequest "bad-request" BAD_REQUEST
        "The request cannot be understood"
        "Correct what the detail names and send it again.";
    NotJson "not-json" UNSUPPORTED_MEDIA_TYPE
        "The request's body is not declared as JSON"
        "Send the body as JSON with the header Content-Type: application/json.";
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE
        "The request's body is too large"
        "Send less than 1 MiB.";
    Unauthorized "unauthorized" UNAUTHORIZED
        "The operator token is missing or wrong"
        "Send it as Authorization: Bearer TOKEN; the commands take it from TASKSYNC_TOKEN or from the file named by TASKSYNC_TOKEN_FILE.";
    TokenNotConfigured "token-not-configured" SERVICE_UNAVAILABLE
        "The service has no operator token, so its API is closed"
        "Set TASKSYNC_TOKEN (at least 16 characters) or TASKSYNC_TOKEN_FILE for the service and start it again.";
    NotFound "not-found" NOT_FOUND
        "The named item does not exist"
        "Check the name; `tasksync tenant list` and `tasksync user list TENANT` show the existing names.";
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED
        "The address does not support this method"
        "See docs/api.md for the methods of each address.";
    MailboxTaken "mailbox-taken" CONFLICT
        "The mailbox belongs to another user already"
        "Opt the other user out first, or name this user's own mailbox.";
    LoginTaken "login-taken" CONFLICT
        "The sign-in name belongs to another user of the tenant already"
        "Opt the other user out first, or name this user's own sign-in name: one person has one mailbox.";
    TenantDisabled "tenant-disabled" CONFLICT
        "The tenant is disabled, so none of its users is synced"
        "Enable it with `tasksync tenant enable TENANT`.";
    PeopleEnrolled "people-enrolled" CONFLICT
        "People are opted in, and their mailboxes may contain markers with the present id of the installation"
        "Set the id before the first opt-in. If you are sure that no mailbox was synced under the present id, repeat the command with --yes (API: `confirmed`).";
    NothingHeld "nothing-held" CONFLICT
        "No deletions of this user are held back"
        "There is nothing to allow. `tasksync user plan` shows what the next sync would do.";
    PlanChanged "plan-changed" CONFLICT
        "The deletions that are held back now are not those that were shown"
        "Look again with `tasksync user plan`, and allow the plan it names.";
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS
        "Too many syncs were requested in this tenant"
        "Wait for the time in the detail; scheduled syncs go on in the meantime.";
    Busy "busy" SERVICE_UNAVAILABLE
        "The service already handles as many requests of this kind as it accepts"
        "Send the request again in a moment.";
    Starting "starting" SERVICE_UNAVAILABLE
        "The service has started and waits for its stores"
        "`GET /readyz` names the missing stores; send the request again when it answers 200.";
    TimedOut "timed-out" GATEWAY_TIMEOUT
        "The request took longer than allowed and was stopped"
        "Try again; `tasksync doctor` shows which part is slow.";
}

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiErrorBody {
    /// Stable code.
    pub code: String,
    /// What happened, as a sentence.
    pub message: String,
    /// What exactly happened, and where.
    pub detail: String,
    /// What to do.
    pub action: String,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ApiErrorBody,
}

impl ApiError {
    /// Returns an error of the API's own.
    pub fn new(code: ApiCode, detail: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            body: ApiErrorBody {
                code: code.as_str().to_owned(),
                message: code.message().to_owned(),
                detail: detail.into(),
                action: code.action().to_owned(),
            },
        }
    }

    /// Returns a `bad-request` error with what is wrong with the request.
    pub(super) fn bad_request(detail: impl fmt::Display) -> Self {
        Self::new(ApiCode::BadRequest, detail.to_string())
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &ApiErrorBody {
        &self.body
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = match failure.class {
            ErrorClass::Transient
            | ErrorClass::Throttled { .. }
            | ErrorClass::Conflict
            | ErrorClass::CursorInvalid
            | ErrorClass::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
            ErrorClass::Gone | ErrorClass::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self {
            status,
            body: ApiErrorBody::from(&failure),
        }
    }
}

impl From<&Failure> for ApiErrorBody {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.as_str().to_owned(),
            message: failure.code.message().to_owned(),
            detail: failure.detail.clone(),
            action: failure.code.action().to_owned(),
        }
    }
}

/// Returns the answer to a request whose handler panicked.
pub(super) fn defect() -> ApiError {
    ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        body: ApiErrorBody {
            code: Code::Panic.as_str().to_owned(),
            message: Code::Panic.message().to_owned(),
            detail: "the request was stopped; other requests go on".to_owned(),
            action: Code::Panic.action().to_owned(),
        },
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                axum::http::header::WWW_AUTHENTICATE,
                axum::http::HeaderValue::from_static("Bearer"),
            );
        }
        response
    }
}

/// Returns the API's own codes as a part of the Markdown page of errors, to follow the error catalogue.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "\n# Answers of the API\n\nThe API answers errors as JSON: `code`, `message`, `detail`, `action`. In addition to the codes above \
         (422 if a person must act, 503 if the problem may pass by itself), the API has codes of its own.\n",
    );
    for code in ApiCode::ALL {
        let _ = writeln!(
            page,
            "\n## {code}\n\n{}.\n\n- HTTP status: {}\n- What to do: {}",
            code.message(),
            code.status().as_u16(),
            code.action()
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_beside_the_catalogue() {
        let mut names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        for code in ApiCode::ALL {
            assert!(names.insert(code.as_str()), "{code}");
            assert!(
                !code.message().ends_with('.') && code.action().ends_with('.'),
                "{code}"
            );
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }
}
