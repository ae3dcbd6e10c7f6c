//! Error answers. They always have the form `{code, message, detail, action}`, from the error catalogue or the API's
//! own codes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::problems::FieldProblem;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tasksync_common::error::{Actor, Code, ErrorClass, Failure};

macro_rules! api_codes {
    ($($variant:ident $text:literal $status:ident $actor:ident $message:literal $cause:literal $action:literal;)*) => {
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

            /// Returns the usual cause.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)* }
            }

            /// Returns who has to act.
            #[must_use]
            pub fn actor(self) -> Actor {
                match self { $(Self::$variant => Actor::$actor,)* }
            }
        }
    };
}

api_codes! {
    BadRequest "bad-request" BAD_REQUEST Operator
        "The request cannot be understood"
        "A field, a parameter or a name is missing, misspelt or not allowed, or the body is no valid JSON."
        "Correct what the detail names and send it again.";
    NotJson "not-json" UNSUPPORTED_MEDIA_TYPE Operator
        "The request's body is not declared as JSON"
        "The header Content-Type is missing or names another format."
        "Send the body as JSON with the header Content-Type: application/json.";
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE Operator
        "The request's body is too large"
        "Bodies may have at most 1 MiB."
        "Send less than 1 MiB; split a long list of users into several requests.";
    Unauthorized "unauthorized" UNAUTHORIZED Operator
        "The operator token is missing or wrong"
        "The client has no token, or another one than the service was started with."
        "Send it as Authorization: Bearer TOKEN; the commands take it from TASKSYNC_TOKEN or from the file named by TASKSYNC_TOKEN_FILE.";
    TooManyWrongTokens "too-many-wrong-tokens" TOO_MANY_REQUESTS Operator
        "Too many wrong operator tokens came from this address"
        "A client repeats a wrong token, or guesses. The right token is answered at once, whatever was sent before."
        "Correct the client's token. If you do not know the client, block its address; the log names it once a minute.";
    TooManyConnections "too-many-connections" SERVICE_UNAVAILABLE Operator
        "All connections that the service allows are in use"
        "More requests are being served at once than api.connections or api.connections_per_address allow."
        "Send the request again in a moment. If this persists, raise these settings, or list your proxy in api.trusted_proxies.";
    TokenNotConfigured "token-not-configured" SERVICE_UNAVAILABLE Operator
        "The service has no operator token, so its API is closed"
        "The service was started without TASKSYNC_TOKEN and without TASKSYNC_TOKEN_FILE."
        "Set TASKSYNC_TOKEN (at least 16 characters) or TASKSYNC_TOKEN_FILE for the service and start it again.";
    NotFound "not-found" NOT_FOUND Operator
        "The named item does not exist"
        "The name is misspelt, or the item was removed."
        "Check the name; `tasksync tenant list`, `tasksync user list TENANT` and `tasksync dead-letters list` show what exists.";
    NoSuchAddress "no-such-address" NOT_FOUND Operator
        "The API has no such address"
        "The path is misspelt, or the client is of another version than the service."
        "Compare the path with docs/api.md; `tasksync --version` and `tasksync status` show the versions.";
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED Operator
        "The address does not support this method"
        "The method is wrong, or the client is of another version than the service."
        "Use one of the methods in the detail; docs/api.md lists them.";
    MailboxTaken "mailbox-taken" CONFLICT Operator
        "The mailbox belongs to another user already"
        "Two users of the tenant were given the same mailbox."
        "Opt the other user out first, or name this user's own mailbox.";
    LoginTaken "login-taken" CONFLICT Operator
        "The sign-in name belongs to another user of the tenant already"
        "Two users of the tenant were given the same sign-in name."
        "Opt the other user out first, or name this user's own sign-in name: one person has one mailbox.";
    TenantDisabled "tenant-disabled" CONFLICT Operator
        "The tenant is disabled, so none of its users is synced"
        "An operator disabled it with `tasksync tenant disable TENANT`."
        "Enable it with `tasksync tenant enable TENANT`.";
    PeopleEnrolled "people-enrolled" CONFLICT Operator
        "People are opted in, and their mailboxes may contain markers with the present id of the installation"
        "The installation's id was to be replaced after the first opt-in."
        "Set the id before the first opt-in. If you are sure that no mailbox was synced under the present id, repeat the command with --yes (API: `confirmed`).";
    NothingHeld "nothing-held" CONFLICT Operator
        "No deletions of this user are held back"
        "They were allowed already, or the tasks have come back."
        "There is nothing to allow. `tasksync user plan` shows what the next sync would do.";
    PlanChanged "plan-changed" CONFLICT Operator
        "The deletions that are held back now are not those that were shown"
        "Tasks changed after the plan was shown."
        "Look again with `tasksync user plan`, and allow the plan it names.";
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS Operator
        "Too many syncs were requested in this tenant"
        "Requests by hand have a limit for each tenant, so that scheduled syncs stay on time."
        "Wait for the time in the detail; scheduled syncs go on in the meantime.";
    Busy "busy" SERVICE_UNAVAILABLE Nobody
        "The service already handles as many requests of this kind as it accepts"
        "Several doctor runs were started at once; each queries many servers."
        "Send the request again in a moment.";
    Starting "starting" SERVICE_UNAVAILABLE Nobody
        "The service has started and waits for its stores"
        "A store does not answer yet."
        "`GET /readyz` names the missing stores; send the request again when it answers 200.";
    TimedOut "timed-out" GATEWAY_TIMEOUT Operator
        "The request took longer than allowed and was stopped"
        "A store or a tenant's server is slow, or the client sent its body too slowly."
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
    /// Each field that is wrong, if the request's fields are; the detail has the same in one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    /// Boxed, so that results stay small.
    body: Box<ApiErrorBody>,
    /// Value of the header `Retry-After`, in seconds.
    retry_after: Option<u64>,
}

impl ApiError {
    /// Returns an error of the API's own.
    pub fn new(code: ApiCode, detail: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            body: Box::new(ApiErrorBody {
                code: code.as_str().to_owned(),
                message: code.message().to_owned(),
                detail: detail.into(),
                action: code.action().to_owned(),
                problems: Vec::new(),
            }),
            retry_after: None,
        }
    }

    /// Returns a `bad-request` error about fields of the request.
    pub(super) fn of_problems(problems: Vec<FieldProblem>) -> Self {
        let lines: Vec<String> = problems
            .iter()
            .map(|FieldProblem { field, problem }| format!("{field} {problem}"))
            .collect();
        let mut error = Self::bad_request(lines.join(". "));
        error.body.problems = problems;
        error
    }

    /// Adds the time after which the request may be sent again; it is rounded up to whole seconds.
    pub(super) fn retry_after(self, time: Duration) -> Self {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Self {
            retry_after: Some(seconds),
            ..self
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
            body: Box::new(ApiErrorBody::from(&failure)),
            retry_after: None,
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
            problems: Vec::new(),
        }
    }
}

/// Returns the answer to a request whose handler panicked.
pub(super) fn defect() -> ApiError {
    ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        body: Box::new(ApiErrorBody {
            code: Code::Panic.as_str().to_owned(),
            message: Code::Panic.message().to_owned(),
            detail: "the request was stopped; other requests go on".to_owned(),
            action: Code::Panic.action().to_owned(),
            problems: Vec::new(),
        }),
        retry_after: None,
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
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(axum::http::header::RETRY_AFTER, seconds.into());
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
            "\n## {code}\n\n{}.\n\n- Cause: {}\n- Who acts: {}\n- What to do: {}\n- HTTP status: {}",
            code.message(),
            code.cause(),
            code.actor().name(),
            code.action(),
            code.status().as_u16()
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
                !code.message().ends_with('.') && code.cause().ends_with('.') && code.action().ends_with('.'),
                "{code}"
            );
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }
}
