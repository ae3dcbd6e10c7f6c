//! Requests to one tenant's SharePoint: form digests, the two forms of JSON, and the meaning of answers. The
//! session handles the rest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};
use tasksync_common::fleet::account;
use tasksync_common::metrics::record::Server;
use tasksync_common::model::TenantId;
use tasksync_common::registry::Credentials;
use url::Url;

use super::errors::{RequestSubject, SharePointCode};
use super::wire::{
    RestAnswer, RestRequest, SharePointRefusal, Verb, accept, json_body, json_type, refuse, reply,
    wants_verbose,
};
use super::{locked, odata};
use crate::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use crate::http::service::Intent;
use crate::http::{HttpAnswer, Method};
use crate::session::{Judge, Judgement, Request, ServerCondition, Session, SessionLimits, SessionServices};
use crate::throttle::Servers;

/// Time before its expiry at which a form digest is renewed.
const DIGEST_MARGIN: Duration = Duration::from_mins(2);

type DigestCell = Arc<tokio::sync::Mutex<Option<(SecretString, Timestamp)>>>;

/// Sends requests to one tenant's SharePoint.
pub(super) struct SharePointClient {
    session: Session,
    pub(super) batch_size: usize,
    digests: Mutex<HashMap<String, DigestCell>>,
    /// Whether the server answers only `odata=verbose` (SharePoint 2013 without its first service pack).
    verbose: AtomicBool,
    /// Whether `$batch` was refused. It is tried again after each walk of the lists.
    pub(super) batch_refused: AtomicBool,
}

/// The settings of a [`SharePointClient`].
pub(super) struct ClientSettings {
    pub(super) tenant: TenantId,
    pub(super) credentials: Credentials,
    pub(super) servers: Servers,
    pub(super) timeout: Duration,
    pub(super) batch_size: usize,
}

/// A request to a web, ready to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) web: &'a str,
    /// Path and query after `/_api/`.
    pub(super) path: &'a str,
    /// The request's name in messages.
    pub(super) name: &'a str,
    pub(super) intent: Intent,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl SharePointClient {
    pub(super) fn new(services: SessionServices, settings: ClientSettings) -> Self {
        let limits = SessionLimits::PerServer {
            servers: settings.servers,
            account: account(&settings.tenant, &settings.credentials),
        };
        Self {
            session: Session::new(
                services,
                Server::SharePoint,
                settings.tenant,
                settings.credentials,
                settings.timeout,
                limits,
            ),
            batch_size: settings.batch_size.min(100),
            digests: Mutex::default(),
            verbose: AtomicBool::new(false),
            batch_refused: AtomicBool::new(false),
        }
    }

    /// Returns the time by our clock.
    pub(super) fn now(&self) -> Timestamp {
        self.session.now()
    }

    /// Returns the server's time, by the last measured offset.
    pub(super) fn server_now(&self) -> Timestamp {
        self.session.server_now()
    }

    /// Returns the server's clock minus ours; `None` while it is not known.
    pub(super) fn clock_offset(&self) -> Option<SignedDuration> {
        self.session.clock_offset()
    }

    /// Learns the server's clock from a write of ours.
    pub(super) fn learn_clock(&self, server: Timestamp, local_time: Timestamp) {
        self.session.learn_clock(server, local_time);
    }

    /// Counts an answer that is about something other than what was asked, if that is what the failure says.
    pub(super) fn note_foreign(&self, failure: &Failure) {
        self.session.note_foreign(failure);
    }

    /// Returns whether request bodies need `__metadata`.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose.load(Ordering::Relaxed)
    }

    /// Lets `$batch` be tried again.
    pub(super) fn forget_batch_refusal(&self) {
        self.batch_refused.store(false, Ordering::Relaxed);
    }

    /// Sends one request and reads its JSON.
    pub(super) async fn send(&self, request: &RestRequest) -> Result<RestAnswer, SharePointRefusal> {
        let verbose = self.is_verbose();
        match self.send_as(request, verbose).await {
            Err(refusal) if !verbose && wants_verbose(&refusal) => {
                let reply = self.send_as(request, true).await;
                if reply.is_ok() {
                    self.verbose.store(true, Ordering::Relaxed);
                }
                reply
            }
            other => other,
        }
    }

    async fn send_as(&self, request: &RestRequest, verbose: bool) -> Result<RestAnswer, SharePointRefusal> {
        let name = request.name();
        let (body, content_type) = match &request.verb {
            Verb::Get => (Bytes::new(), None),
            Verb::Post(value) | Verb::Merge(value, _) => {
                (Bytes::from(json_body(value, verbose)), Some(json_type(verbose)))
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static(accept(request.metadata, verbose)),
        );
        if content_type.is_some() && body.is_empty() {
            // The HTTP library leaves the header out, and IIS answers 411 without it.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let method = match &request.verb {
            Verb::Get => Method::GET,
            Verb::Post(_) => Method::POST,
            Verb::Merge(_, version) => {
                headers.insert(
                    HeaderName::from_static("x-http-method"),
                    HeaderValue::from_static("MERGE"),
                );
                let etag = HeaderValue::from_str(&odata::etag_of(version)).map_err(|error| {
                    Failure::new(
                        ErrorClass::Conflict,
                        Code::SharePointConflict,
                        format!("{name}: version: {error}"),
                    )
                })?;
                headers.insert(header::IF_MATCH, etag);
                Method::POST
            }
        };
        let outgoing = Outgoing {
            web: &request.web,
            path: &request.path,
            name: &name,
            intent: request.intent,
            method,
            headers,
            body,
        };
        self.deliver(&outgoing, || RestJudge {
            name: name.clone(),
            scope: request.scope,
            intent: request.intent,
        })
        .await
    }

    /// Sends the request. Renews the form digest once if the server refuses it.
    pub(super) async fn deliver<J: Judge<Refusal = SharePointRefusal>>(
        &self,
        outgoing: &Outgoing<'_>,
        judge: impl Fn() -> J,
    ) -> Result<J::Value, SharePointRefusal> {
        let url = parse_url(outgoing.web, outgoing.path)?;
        // A token proves that the client meant to send the request. A password does not: browsers send it
        // with any request.
        let needs_digest = outgoing.method == Method::POST
            && outgoing.path != CONTEXT_INFO
            && self.session.signs_with_password();
        let mut digest_renewed = false;
        loop {
            let mut headers = outgoing.headers.clone();
            headers.insert(
                header::USER_AGENT,
                HeaderValue::from_static(concat!("NONISV|tasksync|tasksync/", env!("CARGO_PKG_VERSION"))),
            );
            if needs_digest {
                let digest = Box::pin(self.digest(outgoing.web)).await?;
                headers.insert(HeaderName::from_static("x-requestdigest"), digest);
            }
            let request = Request {
                name: outgoing.name,
                operation: operation(outgoing.path, &outgoing.method),
                method: outgoing.method.clone(),
                url: url.clone(),
                headers,
                body: outgoing.body.clone(),
                intent: outgoing.intent,
                mailboxes: &[],
            };
            match self.session.send(request, judge()).await {
                Err(refusal)
                    if refusal.sharepoint_code == SharePointCode::StaleDigest
                        && needs_digest
                        && !digest_renewed =>
                {
                    digest_renewed = true;
                    *self.digest_cell(outgoing.web).lock().await = None;
                }
                result => return result,
            }
        }
    }

    fn digest_cell(&self, web: &str) -> DigestCell {
        let mut digests = locked(&self.digests);
        if digests.len() > 10_000 {
            digests.clear();
        }
        Arc::clone(digests.entry(web.to_owned()).or_default())
    }

    /// Returns the form digest of the web. It is requested once for all callers that wait.
    async fn digest(&self, web: &str) -> Result<HeaderValue, SharePointRefusal> {
        let cell = self.digest_cell(web);
        let mut cached_digest = cell.lock().await;
        let now = self.now();
        if let Some((digest, until)) = &*cached_digest
            && now < *until
            && let Ok(value) = crate::http::secret_header(digest.expose_secret())
        {
            return Ok(value);
        }
        let request = RestRequest::query(web, CONTEXT_INFO, Value::Null, RequestSubject::Site);
        let reply = self.send(&request).await?;
        let answer = reply.read(&["FormDigestValue", "FormDigestTimeoutSeconds"])?;
        let info = odata::result_of(&answer, "GetContextWebInformation");
        let value = odata::text(info, "FormDigestValue")
            .and_then(|digest| Some((crate::http::secret_header(&digest).ok()?, digest)));
        let Some((header, digest)) = value else {
            let detail = format!("{}: no form digest in the answer", request.name());
            return Err(Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail).into());
        };
        let seconds = odata::integer(info, "FormDigestTimeoutSeconds")
            .unwrap_or(1_800)
            .clamp(0, 86_400);
        let lifetime = Duration::from_secs(seconds.unsigned_abs()).saturating_sub(DIGEST_MARGIN);
        let until = SignedDuration::try_from(lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add(lifetime).ok())
            .unwrap_or(now);
        let digest = SecretString::from(digest);
        self.session.keep_secret(digest.clone());
        *cached_digest = Some((digest, until));
        Ok(header)
    }
}

/// Judges the answer to one request; any 2xx is a success.
pub(super) struct RestJudge {
    pub(super) name: String,
    pub(super) scope: RequestSubject,
    pub(super) intent: Intent,
}

impl Judge for RestJudge {
    type Value = RestAnswer;
    type Refusal = SharePointRefusal;

    fn judge(self, answer: &HttpAnswer, _server_now: Timestamp) -> Judgement<RestAnswer, SharePointRefusal> {
        if !(200..300).contains(&answer.status) {
            let refusal = refuse(&self.name, answer.status, &answer.body, self.scope, self.intent);
            return Judgement::refused(refusal, ServerCondition::Served);
        }
        let version = answer.header(header::ETAG).and_then(odata::version_of);
        let content_type = answer.header(header::CONTENT_TYPE);
        match reply(&self.name, content_type, &answer.body, version, self.intent) {
            Ok(reply) => Judgement::served(reply),
            Err(failure) => Judgement::refused(failure, ServerCondition::Unreadable),
        }
    }

    fn texts(result: &mut Result<RestAnswer, SharePointRefusal>) -> Vec<&mut String> {
        result.as_mut().err().map(words_of).into_iter().collect()
    }
}

/// Returns the server's text in a refusal.
pub(super) fn words_of(refusal: &mut SharePointRefusal) -> &mut String {
    &mut refusal.failure.detail
}

/// The path at which a form digest is requested.
const CONTEXT_INFO: &str = "contextinfo";

/// Returns the operation's name for traces. The path itself names lists and people.
fn operation(path: &str, method: &Method) -> &'static str {
    match path.split(['?', '(', '/']).next() {
        Some("$batch") => "batch",
        Some(CONTEXT_INFO) => CONTEXT_INFO,
        _ if path.to_ascii_lowercase().contains("getchanges") => "GetChanges",
        _ if method == Method::GET => "read",
        _ => "write",
    }
}

fn parse_url(web: &str, path: &str) -> Result<Url, Failure> {
    Url::parse(&format!("{web}/_api/{path}")).map_err(|error| {
        let detail = format!("{web}: {error}");
        Failure::new(ErrorClass::Refused, Code::SharePointSiteMissing, detail).about(Whose::Server)
    })
}
