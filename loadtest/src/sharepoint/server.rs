//! Processes an HTTP request: credentials, faults, digest, dispatch and rendering.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::{HeaderMap, Request};

use super::auth::{Caller, CallerIdentity};
use super::errors::SpError;
use super::faults::RequestHandling;
use super::model::{Closed, Site};
use super::operations::Operation;
use super::path::{Address, Segment, percent_decode};
use super::shape::{AnswerContent, MetadataMode, Node, error_body};
use super::{SharePoint, lock};
use crate::sim::answers::Answer as Sent;
use crate::sim::http::{Handler, Reply, ReplyFuture};

/// A parsed request with everything that an operation needs to know about it.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) address: &'a Address,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Whether the body has the verbose form.
    pub(crate) verbose_body: bool,
    /// Address of the web's `_api`.
    pub(crate) service: String,
    /// The caller's name, as used in digests.
    pub(crate) name: &'a str,
    pub(crate) caller: Caller,
    /// Whether the next change token is refused as too old.
    pub(crate) expire_cursor: bool,
    /// Index of the web with which the address begins.
    pub(crate) web: usize,
}

impl Call<'_> {
    /// Returns the names in `$select`.
    pub(crate) fn select(&self) -> Vec<String> {
        self.address.names("$select")
    }

    /// Returns the names in `$expand`.
    pub(crate) fn expand(&self) -> Vec<String> {
        self.address.names("$expand")
    }

    /// Returns the error for an address that names no resource.
    pub(crate) fn nothing_here(&self) -> SpError {
        SpError::no_resource(&self.address.steps().join("/"))
    }

    /// Returns the body as JSON. An empty body is null.
    pub(crate) fn json(&self) -> Result<serde_json::Value, SpError> {
        if self.body.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(self.body).map_err(|error| SpError::query(format!("Invalid JSON. {error}")))
    }
}

/// The result of an operation.
pub(crate) struct OperationOutcome {
    pub(crate) status: u16,
    pub(crate) answer: Option<AnswerContent>,
    pub(crate) etag: Option<String>,
    pub(crate) location: Option<String>,
}

impl OperationOutcome {
    pub(crate) fn ok(answer: AnswerContent) -> Self {
        Self {
            status: 200,
            answer: Some(answer),
            etag: None,
            location: None,
        }
    }

    pub(crate) fn named(name: &'static str, node: impl Into<Node>) -> Self {
        Self::ok(AnswerContent::Named(name.into(), node.into()))
    }

    pub(crate) fn no_content(etag: Option<String>) -> Self {
        Self {
            status: 204,
            answer: None,
            etag,
            location: None,
        }
    }
}

/// An answer before it becomes an HTTP response or a part of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// The outcome for a request or for a part of a batch.
pub(crate) enum RequestResult {
    Answer(Message),
    /// An answer in its final form. The server's usual headers are added unless it is bare.
    Sent(Sent),
    Cut,
    Huge(u64),
}

/// One request inside the server. Parts of a batch are such requests too.
pub(crate) struct Incoming<'a> {
    pub(crate) method: String,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

impl Incoming<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the method, the decoded address and the body as text.
    pub(crate) fn text(&self) -> String {
        let query = self.query.unwrap_or_default();
        let address = percent_decode(&format!("{}?{query}", self.path));
        format!(
            "{} {address}\n{}",
            self.method,
            String::from_utf8_lossy(self.body)
        )
    }
}

impl Handler for SharePoint {
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            self.stats.count_request();
            let (parts, body) = request.into_parts();
            let incoming = Incoming {
                method: effective_method(parts.method.as_str(), &parts.headers),
                path: parts.uri.path(),
                query: parts.uri.query(),
                headers: &parts.headers,
                body: &body,
            };
            let host = self.public_url().unwrap_or_else(|| {
                let host = incoming.header("host").unwrap_or("localhost");
                format!("http://{host}")
            });
            match self.serve_one(&incoming, &host).await {
                RequestResult::Answer(message) => {
                    Reply::Answer(self.sent(message, &incoming).into_response())
                }
                RequestResult::Sent(answer) if answer.bare => Reply::Answer(answer.into_response()),
                RequestResult::Sent(answer) => {
                    Reply::Answer(self.with_usual_headers(answer, &incoming).into_response())
                }
                RequestResult::Cut => Reply::Cut,
                RequestResult::Huge(length) => Reply::Huge {
                    prefix: Bytes::from_static(b"{\"value\":["),
                    length,
                    content_type: "application/json;odata=nometadata;charset=utf-8",
                },
            }
        })
    }
}

/// Returns the method to use: for `POST`, the one in `X-HTTP-Method` if present. `PATCH` and `PUT` count as `MERGE`.
pub(crate) fn effective_method(method: &str, headers: &HeaderMap) -> String {
    let tunnelled = headers.get("x-http-method").and_then(|value| value.to_str().ok());
    let method = if method == "POST" {
        tunnelled.unwrap_or(method)
    } else {
        method
    };
    match method.to_ascii_uppercase().as_str() {
        "PATCH" | "PUT" => "MERGE".to_owned(),
        other => other.to_owned(),
    }
}

impl SharePoint {
    async fn serve_one(&self, incoming: &Incoming<'_>, host: &str) -> RequestResult {
        let identity = match self.identify(incoming.headers) {
            Ok(identity) => identity,
            Err(refusal) => {
                self.stats.count_refused();
                let mut headers: Vec<_> = refusal
                    .challenges
                    .into_iter()
                    .map(|challenge| ("WWW-Authenticate", challenge))
                    .collect();
                headers.extend(
                    refusal
                        .diagnostics
                        .map(|text| ("x-ms-diagnostics", text.to_owned())),
                );
                headers.push(("Content-Type", "text/plain; charset=utf-8".to_owned()));
                let body = Bytes::from_static(b"401 UNAUTHORIZED");
                return RequestResult::Answer(Message {
                    status: 401,
                    headers,
                    body,
                });
            }
        };
        let mode = MetadataMode::accepted(incoming.header("accept"));
        let shape = mode.unwrap_or(MetadataMode::Minimal);
        let address = match Address::parse(incoming.path, incoming.query) {
            Ok(address) => address,
            Err(error) => return RequestResult::Answer(error_message(&error, shape)),
        };
        let group = self.site_of(&address.web).map_or(0, |site| lock(&site).group);
        let draw = self.groups.next_conditions(group);
        if !draw.latency.is_zero() {
            tokio::time::sleep(draw.latency).await;
        }
        let handling = match self.apply_fault(draw.fault, shape).await {
            Ok(handling) => handling,
            Err(result) => return result,
        };
        let result = self
            .serve_request(incoming, &address, &identity, host, mode)
            .await;
        self.answered(handling, result, incoming)
    }

    /// Serves one request of a known caller, a batch or not.
    async fn serve_request(
        &self,
        incoming: &Incoming<'_>,
        address: &Address,
        identity: &CallerIdentity,
        host: &str,
        mode: Option<MetadataMode>,
    ) -> RequestResult {
        if Operation::of(address, &incoming.method) == Operation::Batch {
            return self.serve_batch(incoming, address, identity, host).await;
        }
        let shape = mode.unwrap_or(MetadataMode::Minimal);
        if mode.is_none() {
            let error =
                SpError::query("Only JSON is served here: send Accept: application/json;odata=verbose.");
            return RequestResult::Answer(error_message(&SpError { status: 406, ..error }, shape));
        }
        let guarded = incoming.method != "GET" && matches!(identity, CallerIdentity::Account(_));
        self.serve_part(incoming, address, identity, host, guarded).await
    }

    /// Serves one request of a known caller. With `guarded`, a write needs a form digest.
    pub(crate) async fn serve_part(
        &self,
        incoming: &Incoming<'_>,
        address: &Address,
        identity: &CallerIdentity,
        host: &str,
        guarded: bool,
    ) -> RequestResult {
        let mode = MetadataMode::accepted(incoming.header("accept")).unwrap_or(MetadataMode::Minimal);
        let operation = Operation::of(address, &incoming.method);
        self.stats.count(operation);
        let Some(site) = self.site_of(&address.web) else {
            let error = SpError::exception(404, -2_147_024_894, "The site does not exist.");
            return RequestResult::Answer(error_message(&error, mode));
        };
        let subject = lock(&site).path().to_owned();
        let fault = self.faults.take(operation.name(), &subject, || incoming.text());
        let handling = match self.apply_fault(fault, mode).await {
            Ok(handling) => handling,
            Err(result) => return result,
        };
        let done = self.execute(
            incoming,
            address,
            identity,
            host,
            guarded,
            operation,
            &mut lock(&site),
            matches!(handling, RequestHandling::Expired),
        );
        let result = RequestResult::Answer(match done {
            Ok(outcome) => outcome_message(outcome, mode, &service_url(host, &address.web)),
            Err(error) => error_message(&error, mode),
        });
        self.answered(handling, result, incoming)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used once")]
    fn execute(
        &self,
        incoming: &Incoming<'_>,
        address: &Address,
        identity: &CallerIdentity,
        host: &str,
        guarded: bool,
        operation: Operation,
        site: &mut Site,
        expire_cursor: bool,
    ) -> Result<OperationOutcome, SpError> {
        let web = site
            .web_index(&address.web)
            .ok_or_else(|| SpError::exception(404, -2_147_024_894, "The web does not exist."))?;
        let caller = site.caller(identity)?;
        let closed = site.webs.get(web).and_then(|web| web.closed);
        match closed.filter(|_| caller.full) {
            Some(Closed::Forbidden) => return Err(SpError::access_denied()),
            Some(Closed::Missing) => return Err(SpError::no_resource(&address.web)),
            None => {}
        }
        if guarded && operation != Operation::ContextInfo {
            self.check_digest(
                incoming.header("x-requestdigest"),
                identity.name(),
                self.clock.now(),
            )?;
        }
        let content_type = incoming
            .header("content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let call = Call {
            method: &incoming.method,
            address,
            if_match: incoming.header("if-match"),
            body: incoming.body,
            verbose_body: content_type.contains("odata=verbose"),
            service: service_url(host, &address.web),
            name: identity.name(),
            caller,
            expire_cursor,
            web,
        };
        self.dispatch(site, &call)
    }

    fn dispatch(&self, site: &mut Site, call: &Call<'_>) -> Result<OperationOutcome, SpError> {
        let segments = call.address.segments.as_slice();
        let Some((first, rest)) = segments.split_first() else {
            return Err(call.nothing_here());
        };
        match first.name.as_str() {
            "contextinfo" if call.method == "POST" => Ok(self.context_info(site, call)),
            "site" => self.site_resource(site, call, rest),
            "web" => match rest.first().map(|segment| segment.name.as_str()) {
                Some("lists") => self.lists_resource(site, call, rest),
                _ => self.web_resource(site, call, rest),
            },
            _ => Err(call.nothing_here()),
        }
    }

    /// Returns an answer with the headers that the server adds to each.
    pub(crate) fn sent(&self, message: Message, incoming: &Incoming<'_>) -> Sent {
        let headers = message
            .headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let answer = Sent {
            status: message.status,
            headers: headers.collect(),
            body: message.body,
            bare: false,
        };
        self.with_usual_headers(answer, incoming)
    }

    fn with_usual_headers(&self, mut answer: Sent, incoming: &Incoming<'_>) -> Sent {
        let score = self.health_score.load(Ordering::Relaxed).to_string();
        let usual = [
            ("X-SharePointHealthScore", score),
            ("MicrosoftSharePointTeamServices", self.version()),
            ("SPRequestGuid", self.new_id().to_string()),
            ("Cache-Control", "private, max-age=0".to_owned()),
        ];
        let date = self.clock.header();
        let date = date.as_ref().and_then(|date| date.to_str().ok());
        answer
            .headers
            .extend(date.map(|date| ("Date".to_owned(), date.to_owned())));
        answer
            .headers
            .extend(usual.map(|(name, value)| (name.to_owned(), value)));
        // The client's id is returned only if the client asks for it.
        let wanted = incoming.header("return-client-request-id").unwrap_or_default();
        if let Some(id) = incoming.header("client-request-id")
            && wanted.eq_ignore_ascii_case("true")
        {
            answer
                .headers
                .push(("client-request-id".to_owned(), id.to_owned()));
        }
        Sent { bare: true, ..answer }
    }
}

/// Returns the address of a web's `_api`.
pub(crate) fn service_url(host: &str, web: &str) -> String {
    format!("{host}{web}/_api")
}

/// Returns the rest of an address as a property name, if exactly one segment without argument is left.
pub(crate) fn single_name(rest: &[Segment]) -> Option<&str> {
    match rest {
        [Segment { name, argument: None }] => Some(name.as_str()),
        _ => None,
    }
}

/// Returns the answer that reports an error.
pub(crate) fn error_message(error: &SpError, mode: MetadataMode) -> Message {
    Message {
        status: error.status,
        headers: vec![("Content-Type", mode.content_type().to_owned())],
        body: Bytes::from(error_body(error, mode).to_string()),
    }
}

fn outcome_message(outcome: OperationOutcome, mode: MetadataMode, service: &str) -> Message {
    let mut headers = Vec::new();
    headers.extend(outcome.etag.map(|etag| ("ETag", etag)));
    headers.extend(outcome.location.map(|location| ("Location", location)));
    let body = match outcome.answer {
        Some(answer) => {
            headers.push(("Content-Type", mode.content_type().to_owned()));
            Bytes::from(answer.render(mode, service).to_string())
        }
        None => Bytes::new(),
    };
    Message {
        status: outcome.status,
        headers,
        body,
    }
}
