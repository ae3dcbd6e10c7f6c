//! The meaning of unsuccessful answers: one table from HTTP status and SharePoint error code to class and
//! code.

use serde_json::Value;
use tasksync_common::error::{self, Code, ErrorClass, Failure};

use crate::http::for_message;
use crate::http::service::Intent;

/// The subject of a request. The same status has different meanings for a site and for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestSubject {
    /// The site or its webs.
    Site,
    /// The change feed.
    Feed,
    List,
    /// One item.
    Item,
    /// A person, or their permissions.
    Person,
}

impl RequestSubject {
    /// Returns what stops if a request about this subject fails with this status, class and code.
    pub(super) fn stops(self, status: u16, class: ErrorClass, code: Code) -> error::Scope {
        let subject = match (self, class) {
            // The server did not answer its gateway, which says nothing about the item that was to be
            // written.
            (_, ErrorClass::OutcomeUnknown) if matches!(status, 408 | 502 | 504) => error::Scope::Person,
            // A refusal by the site concerns all its users. A transient failure counts as one person's until
            // several meet it.
            (Self::Site | Self::Feed, ErrorClass::Refused) => error::Scope::Server,
            (Self::Person, ErrorClass::Refused) if code == Code::SharePointDenied => error::Scope::Server,
            (Self::Site | Self::Feed | Self::Person, _) => error::Scope::Person,
            (Self::List, _) => error::Scope::Container,
            (Self::Item, _) => error::Scope::Item,
        };
        let evidence = match (class, code) {
            // Another server answers at this address, whatever the request.
            (ErrorClass::Refused, Code::SharePointBadAnswer) => error::Evidence::AnyRequest,
            _ => error::Evidence::OneRequest,
        };
        error::scope_of(code, subject, evidence)
    }
}

/// SharePoint's error codes that have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SharePointCode {
    /// 0x80070005: the account is not allowed to do this.
    AccessDenied,
    /// 0x81020015, 0x81020037: another user saved first.
    SaveConflict,
    /// 0x81020016: the item does not exist.
    ItemMissing,
    /// 0x80070002: what the address names does not exist.
    FileMissing,
    /// 0x81020026: the list does not exist.
    ListMissing,
    /// 0x810200BC, 0x810200BB: a change token of the wrong form, or of another object.
    TokenRefused,
    /// 0x8102006C, 0x8102006D: the form digest is stale.
    StaleDigest,
    /// 0x80070024: the list view threshold.
    Threshold,
    /// 0x81020014 and the validation codes: a value was refused.
    InvalidData,
    /// Any other code.
    Other,
    /// No code at all: the answer may not be SharePoint's.
    Absent,
}

/// Classifies a code, which is the number before the comma in SharePoint's `code`.
pub(super) fn sharepoint_code(code: Option<i64>) -> SharePointCode {
    match code {
        Some(-2_147_024_891) => SharePointCode::AccessDenied,
        Some(-2_130_575_339 | -2_130_575_305) => SharePointCode::SaveConflict,
        Some(-2_130_575_338) => SharePointCode::ItemMissing,
        Some(-2_147_024_894) => SharePointCode::FileMissing,
        Some(-2_130_575_322) => SharePointCode::ListMissing,
        Some(-2_130_575_172 | -2_130_575_173) => SharePointCode::TokenRefused,
        Some(-2_130_575_252 | -2_130_575_251) => SharePointCode::StaleDigest,
        Some(-2_147_024_860) => SharePointCode::Threshold,
        // The last one is the exception of a list's or column's validation formula.
        Some(-2_130_575_340 | -2_130_575_163 | -2_130_575_162) => SharePointCode::InvalidData,
        Some(_) => SharePointCode::Other,
        None => SharePointCode::Absent,
    }
}

impl SharePointCode {
    /// Returns whether SharePoint answers such a request with this code. If not, the answer belongs to
    /// another request.
    fn fits_request(self, scope: RequestSubject, intent: Intent) -> bool {
        match self {
            Self::ItemMissing => scope == RequestSubject::Item,
            Self::ListMissing | Self::InvalidData => {
                matches!(scope, RequestSubject::List | RequestSubject::Item)
            }
            Self::SaveConflict => scope == RequestSubject::Item && intent == Intent::Write,
            Self::TokenRefused => scope == RequestSubject::Feed,
            Self::AccessDenied
            | Self::FileMissing
            | Self::StaleDigest
            | Self::Threshold
            | Self::Other
            | Self::Absent => true,
        }
    }
}

/// The body of an error answer, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SharePointErrorBody {
    /// SharePoint's code, if there is one.
    pub(super) code: Option<i64>,
    /// The text after the code, for example `System.UnauthorizedAccessException`.
    pub(super) kind: String,
    /// The message, cleaned and cut.
    pub(super) message: String,
}

/// Reads an error body in any of its forms: verbose, `odata.error`, OAuth's `error_description`, XML.
pub(super) fn read_body(body: &[u8]) -> SharePointErrorBody {
    let text = String::from_utf8_lossy(body.get(..body.len().min(16_384)).unwrap_or(body));
    let Ok(value) = serde_json::from_slice::<Value>(body.get(..body.len().min(65_536)).unwrap_or(body))
    else {
        return read_xml(&text);
    };
    let Some(error) = value.get("odata.error").or_else(|| value.get("error")) else {
        return SharePointErrorBody {
            message: for_message(
                value
                    .get("error_description")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
                200,
            ),
            ..SharePointErrorBody::default()
        };
    };
    let message = match error.get("message") {
        Some(Value::Object(inner)) => inner.get("value").and_then(Value::as_str).unwrap_or_default(),
        Some(Value::String(text)) => text,
        _ => error.as_str().unwrap_or_default(),
    };
    let code = match error.get("code") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    parts(&code, message)
}

fn read_xml(text: &str) -> SharePointErrorBody {
    let between = |name: &str| -> Option<&str> {
        let (_, rest) = text.split_once(&format!("{name}>")).or_else(|| {
            let (_, rest) = text.split_once(&format!("{name} "))?;
            let (_, rest) = rest.split_once('>')?;
            Some(("", rest))
        })?;
        rest.split_once('<').map(|(inner, _)| inner)
    };
    parts(
        between("<m:code")
            .or_else(|| between("<code"))
            .unwrap_or_default(),
        between("<m:message")
            .or_else(|| between("<message"))
            .unwrap_or_default(),
    )
}

fn parts(code: &str, message: &str) -> SharePointErrorBody {
    let (number, kind) = code.split_once(',').unwrap_or((code, ""));
    SharePointErrorBody {
        code: number.trim().parse().ok(),
        kind: for_message(kind, 80),
        message: for_message(message, 200),
    }
}

/// Returns whether the message says that a change token has expired; SharePoint uses a general exception for
/// that.
fn says_too_old(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("too old") || message.contains("change token") || message.contains("changetoken")
}

/// Returns class and code of an answer. The session has already handled 429 and 503.
pub(super) fn classify(
    status: u16,
    body: &SharePointErrorBody,
    scope: RequestSubject,
    intent: Intent,
) -> (ErrorClass, Code) {
    use ErrorClass::{Conflict, CursorInvalid, Gone, OutcomeUnknown, Refused, Transient};
    let missing = match scope {
        RequestSubject::Site | RequestSubject::Feed => (Refused, Code::SharePointSiteMissing),
        RequestSubject::List => (Gone, Code::SharePointListGone),
        RequestSubject::Item => (Gone, Code::SharePointItemGone),
        RequestSubject::Person => (Refused, Code::SharePointUserUnknown),
    };
    let denied = match scope {
        RequestSubject::Site | RequestSubject::Feed | RequestSubject::Person => {
            (Refused, Code::SharePointDenied)
        }
        // The next walk drops a list that was closed to the account; the tenant's other lists go on.
        RequestSubject::List => (Transient, Code::SharePointDenied),
        RequestSubject::Item => (Refused, Code::SharePointDenied),
    };
    let found = sharepoint_code(body.code);
    if !found.fits_request(scope, intent) {
        return match intent {
            Intent::Read => (Transient, Code::SharePointBadAnswer),
            Intent::Write => (OutcomeUnknown, Code::SharePointOutcomeUnknown),
        };
    }
    match found {
        SharePointCode::AccessDenied => return denied,
        SharePointCode::SaveConflict => return (Conflict, Code::SharePointConflict),
        SharePointCode::ItemMissing | SharePointCode::FileMissing => return missing,
        SharePointCode::ListMissing => return (Gone, Code::SharePointListGone),
        SharePointCode::TokenRefused => return (CursorInvalid, Code::SharePointTokenExpired),
        SharePointCode::StaleDigest | SharePointCode::Threshold => return (Transient, Code::SharePointError),
        SharePointCode::InvalidData => return (Refused, Code::SharePointItemRefused),
        SharePointCode::Other | SharePointCode::Absent => {}
    }
    if scope == RequestSubject::Feed && matches!(status, 400 | 500) && says_too_old(&body.message) {
        return (CursorInvalid, Code::SharePointTokenExpired);
    }
    match status {
        401 => (Refused, Code::SharePointSignInRefused),
        403 => denied,
        // SharePoint reports with a code of its own that an item or list is gone. A bare 404 comes from
        // something in front of it (a proxy, or a web server without its application) and must not count as a
        // deletion.
        404 | 410
            if found == SharePointCode::Absent
                && matches!(scope, RequestSubject::Item | RequestSubject::List) =>
        {
            (Transient, Code::SharePointBadAnswer)
        }
        404 => missing,
        410 => (Gone, missing.1),
        409 | 412 => (Conflict, Code::SharePointConflict),
        400 | 405 | 411 | 413 | 414 | 415 | 422 | 431 => match (scope, intent) {
            (RequestSubject::Item, _) => (Refused, Code::SharePointItemRefused),
            (RequestSubject::Person, _) => (Refused, Code::SharePointUserUnknown),
            (
                RequestSubject::Site | RequestSubject::Feed | RequestSubject::List,
                Intent::Read | Intent::Write,
            ) => (Transient, Code::SharePointError),
        },
        300..=399 => (Refused, Code::SharePointBadAnswer),
        // An error with SharePoint's code means that nothing was done. An error without it, or from a
        // gateway, leaves a write's outcome unknown.
        500 => match (scope, found, intent) {
            (RequestSubject::Person, SharePointCode::Other, _) => (Refused, Code::SharePointUserUnknown),
            (_, SharePointCode::Absent, Intent::Write) => (OutcomeUnknown, Code::SharePointOutcomeUnknown),
            _ => (Transient, Code::SharePointError),
        },
        408 | 502 | 504 => match intent {
            Intent::Read => (Transient, Code::SharePointTimeout),
            Intent::Write => (OutcomeUnknown, Code::SharePointOutcomeUnknown),
        },
        _ => (Transient, Code::SharePointError),
    }
}

/// Returns the failure of an answer that should have been JSON. It shows what was received, as far as that is
/// safe.
pub(super) fn bad_answer(what: &str, content_type: Option<&str>, body: &[u8]) -> Failure {
    let shown = for_message(
        &String::from_utf8_lossy(body.get(..body.len().min(1_000)).unwrap_or(body)),
        80,
    );
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointBadAnswer,
        format!(
            "{what}: expected JSON, got {} beginning \"{shown}\"",
            for_message(content_type.unwrap_or("no content type"), 60)
        ),
    )
}

#[cfg(test)]
mod tests;
