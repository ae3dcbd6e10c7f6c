//! Requests, answers, and the forms of JSON that SharePoint's versions expect. Pure.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;
use tasksync_common::error::{Code, ErrorClass, Failure};

use super::errors::{self, RequestSubject, SharePointCode, SharePointErrorBody};
use super::json::{self, Cell};
use super::odata;
use crate::http::service::Intent;

/// The amount of `OData` metadata in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    /// None; this gives the smallest answers.
    None,
    /// The entity tags of entries.
    Minimal,
}

/// The method of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    /// POST with a JSON body.
    Post(Value),
    /// POST that tunnels MERGE, on the condition that the version still matches.
    Merge(Value, String),
}

/// One request, relative to a web.
#[derive(Debug, Clone)]
pub(super) struct RestRequest {
    /// Address of the web, without a final slash.
    pub(super) web: String,
    /// Path and query after `/_api/`.
    pub(super) path: String,
    pub(super) verb: Verb,
    /// The metadata to answer with.
    pub(super) metadata: Metadata,
    pub(super) scope: RequestSubject,
    /// Whether it reads or writes.
    pub(super) intent: Intent,
}

impl RestRequest {
    /// Returns a GET about `scope`.
    pub(super) fn get(web: &str, path: impl Into<String>, scope: RequestSubject) -> Self {
        Self {
            web: web.to_owned(),
            path: path.into(),
            verb: Verb::Get,
            metadata: Metadata::None,
            scope,
            intent: Intent::Read,
        }
    }

    /// Returns a POST that changes nothing: a query, or an operation that may be repeated without harm.
    pub(super) fn query(web: &str, path: impl Into<String>, body: Value, scope: RequestSubject) -> Self {
        Self {
            verb: Verb::Post(body),
            ..Self::get(web, path, scope)
        }
    }

    /// Returns the request with entity tags in its answer.
    pub(super) fn with_versions(mut self) -> Self {
        self.metadata = Metadata::Minimal;
        self
    }

    /// Returns the request's name for messages, without the query, which may name a person.
    pub(super) fn name(&self) -> String {
        let verb = match self.verb {
            Verb::Get => "GET",
            Verb::Post(_) => "POST",
            Verb::Merge(..) => "MERGE",
        };
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{verb} {}/_api/{path}", self.web)
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub(super) struct RestAnswer {
    /// The entity tag in the header, as a version.
    pub(super) version: Option<String>,
    /// The body; empty if there is none.
    body: Bytes,
    /// The request's name for messages.
    name: String,
}

/// Entries of a list in an answer, unless its reader sets another limit.
const ENTRIES: usize = 5_000;

impl RestAnswer {
    /// Reads the properties `names` of the answer, with `d` unwrapped. Returns [`Cell::Null`] if there is no
    /// body.
    ///
    /// # Errors
    /// The body is not JSON, or larger in memory than any answer of SharePoint.
    pub(super) fn read(&self, names: &[&str]) -> Result<Cell, Failure> {
        self.read_entries(names, ENTRIES)
    }

    /// Does the same, with at most `entries` entries in each list.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_entries(&self, names: &[&str], entries: usize) -> Result<Cell, Failure> {
        if self.is_empty() {
            return Ok(Cell::Null);
        }
        json::read(&self.body, names, entries)
            .map(odata::unwrap)
            .map_err(|reason| {
                Failure::new(
                    ErrorClass::Transient,
                    Code::SharePointBadAnswer,
                    format!("{}: the answer cannot be read: {reason}", self.name),
                )
            })
    }

    /// Returns the number of bytes of the body.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Returns whether there is no body.
    pub(super) fn is_empty(&self) -> bool {
        self.body.trim_ascii().is_empty()
    }
}

/// An unsuccessful answer, with the details by which some callers choose another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharePointRefusal {
    /// The classified failure.
    pub(super) failure: Failure,
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// SharePoint's code.
    pub(super) sharepoint_code: SharePointCode,
}

impl SharePointRefusal {
    /// Returns whether the server understood the request and does not offer what was requested.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.status, Some(400 | 404 | 405 | 415 | 500 | 501))
            && self.sharepoint_code != SharePointCode::TokenRefused
    }
}

impl From<Failure> for SharePointRefusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            status: None,
            sharepoint_code: SharePointCode::Absent,
        }
    }
}

impl From<SharePointRefusal> for Failure {
    fn from(refusal: SharePointRefusal) -> Self {
        refusal.failure
    }
}

/// Returns whether the server refused the request because it supports only `odata=verbose`.
pub(super) fn wants_verbose(refusal: &SharePointRefusal) -> bool {
    match refusal.status {
        Some(406) => true,
        Some(400 | 415) => {
            let detail = refusal.failure.detail.to_ascii_lowercase();
            detail.contains("accept is missing")
                || detail.contains("header accept")
                || detail.contains("nometadata")
        }
        _ => false,
    }
}

/// Returns the `Accept` header for JSON.
pub(super) fn accept(metadata: Metadata, verbose: bool) -> &'static str {
    match (verbose, metadata) {
        (true, _) => "application/json;odata=verbose",
        (false, Metadata::None) => "application/json;odata=nometadata",
        (false, Metadata::Minimal) => "application/json;odata=minimalmetadata",
    }
}

/// Returns the `Content-Type` of a JSON body.
pub(super) fn json_type(verbose: bool) -> &'static str {
    if verbose {
        "application/json;odata=verbose"
    } else {
        "application/json;odata=nometadata"
    }
}

/// Returns the body as text. Every caller writes `__metadata`; it is removed if the server does not expect
/// it.
pub(super) fn json_body(value: &Value, verbose: bool) -> String {
    if value.is_null() {
        return String::new();
    }
    if verbose {
        value.to_string()
    } else {
        without_metadata(value).to_string()
    }
}

fn without_metadata(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, _)| name.as_str() != "__metadata")
                .map(|(name, inner)| (name.clone(), without_metadata(inner)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_metadata).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Classifies an unsuccessful answer.
pub(super) fn refuse(
    name: &str,
    status: u16,
    body: &[u8],
    scope: RequestSubject,
    intent: Intent,
) -> SharePointRefusal {
    let error: SharePointErrorBody = errors::read_body(body);
    let (class, code) = errors::classify(status, &error, scope, intent);
    let stops = scope.stops(status, class, code);
    let mut detail = format!("{name}: HTTP {status}");
    if let Some(number) = error.code {
        let _ = write!(detail, ", {number} {}", error.kind);
    }
    if !error.message.is_empty() {
        let _ = write!(detail, ": {}", error.message);
    }
    SharePointRefusal {
        failure: Failure::new(class, code, detail).about(stops),
        status: Some(status),
        sharepoint_code: errors::sharepoint_code(error.code),
    }
}

/// Returns a successful answer to the request `name`, whose body the caller reads. A write whose answer is
/// not JSON may have happened; its caller looks for proof.
///
/// # Errors
/// The answer to a read is not JSON.
pub(super) fn reply(
    name: &str,
    content_type: Option<&str>,
    body: &Bytes,
    version: Option<String>,
    intent: Intent,
) -> Result<RestAnswer, Failure> {
    let text = body.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match (text.first(), intent) {
        (None | Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9'), _)
        | (Some(_), Intent::Write) => Ok(RestAnswer {
            version,
            body: body.clone(),
            name: name.to_owned(),
        }),
        (Some(_), Intent::Read) => Err(errors::bad_answer(name, content_type, body)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_written_only_for_verbose_servers() {
        let body = json!({"query": {"__metadata": {"type": "SP.CamlQuery"}, "ViewXml": "<View/>"}});
        assert_eq!(json_body(&body, false), r#"{"query":{"ViewXml":"<View/>"}}"#);
        assert!(json_body(&body, true).contains("SP.CamlQuery"));
        assert_eq!(json_body(&Value::Null, true), "");
    }

    #[test]
    fn the_name_of_a_request_leaves_the_query_out() {
        let request = RestRequest::get("https://h/s", "web/x(@u)?@u='ana'", RequestSubject::Person);
        assert_eq!(request.name(), "GET https://h/s/_api/web/x(@u)");
    }

    #[test]
    fn a_list_in_an_answer_has_a_limit() {
        let of = |entries: usize| {
            let body = format!("{{\"value\":[{}0]}}", "0,".repeat(entries - 1));
            let reply = reply("GET x", None, &Bytes::from(body), None, Intent::Read).unwrap();
            reply.read(&[])
        };
        assert!(of(ENTRIES).is_ok());
        let failure = of(ENTRIES + 1).unwrap_err();
        assert_eq!(failure.code, Code::SharePointBadAnswer);
    }

    #[test]
    fn a_page_instead_of_json_is_a_bad_answer_and_leaves_a_write_open() {
        let page = Bytes::from_static(b" <html>");
        let failure = reply("GET x", Some("text/html"), &page, None, Intent::Read).unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::SharePointBadAnswer)
        );
        let write = reply("POST x", Some("text/html"), &page, None, Intent::Write).unwrap();
        assert!(!write.is_empty() && write.read(&[]).is_err());
        let empty = reply("GET x", None, &Bytes::new(), None, Intent::Read).unwrap();
        assert!(empty.read(&[]).unwrap().is_null());
    }
}
