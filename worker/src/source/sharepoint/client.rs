//! Requests to one tenant's SharePoint: sign-in, form digest, pauses, batches; every answer sorted before it is used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};
use tasksync_common::metrics::record::{self, Server};
use tasksync_common::registry::Credentials;
use url::Url;

use super::batch::{self, Part, PartAnswer};
use super::errors::{self, Intent, Known, Scope};
use super::wire::{Ask, Refusal, Reply, Verb, accept, json_body, json_type, refuse, reply, wants_verbose};
use super::{locked, odata};
use crate::auth::Authenticator;
use crate::http::{self, Answer, Call, Http, ServerClock};
use crate::throttle::{self, ServerLimits, Servers};

/// A pause that the server does not name is as long as after so many failures: 4 to 8 seconds.
const UNNAMED_PAUSE: u32 = 2;
/// A digest is renewed this long before it runs out.
const DIGEST_MARGIN: Duration = Duration::from_secs(120);
/// Single requests in flight where a batch is not possible.
const SINGLES_AT_ONCE: usize = 6;

type DigestCell = Arc<tokio::sync::Mutex<Option<(String, Timestamp)>>>;

/// See the module.
pub(super) struct Client {
    http: Http,
    auth: Authenticator,
    credentials: Credentials,
    clock: SharedClock,
    servers: Servers,
    timeout: Duration,
    batch_size: usize,
    server_clock: ServerClock,
    digests: Mutex<HashMap<String, DigestCell>>,
    /// The server answers only `odata=verbose` (SharePoint 2013 without its first service pack).
    verbose: AtomicBool,
    /// `$batch` was refused; asked again after each walk of the lists.
    batch_refused: AtomicBool,
}

impl Client {
    pub(super) fn new(
        http: Http,
        auth: Authenticator,
        credentials: Credentials,
        clock: SharedClock,
        servers: Servers,
        timeout: Duration,
        batch_size: usize,
    ) -> Self {
        Self {
            http,
            auth,
            credentials,
            clock,
            servers,
            timeout,
            batch_size: batch_size.min(100),
            server_clock: ServerClock::default(),
            digests: Mutex::default(),
            verbose: AtomicBool::new(false),
            batch_refused: AtomicBool::new(false),
        }
    }

    /// Our time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The server's time, by the last measured offset.
    pub(super) fn server_now(&self) -> Timestamp {
        self.server_clock.at(self.now())
    }

    /// The server's clock minus ours; `None` while no answer told a time.
    pub(super) fn clock_offset(&self) -> Option<SignedDuration> {
        self.server_clock.offset()
    }

    /// Whether bodies have to carry `__metadata`.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose.load(Ordering::Relaxed)
    }

    /// Lets `$batch` be tried again.
    pub(super) fn forget_batch_refusal(&self) {
        self.batch_refused.store(false, Ordering::Relaxed);
    }

    /// Sends one request and reads its JSON.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Reply, Refusal> {
        let verbose = self.is_verbose();
        let reply = match self.send_as(ask, verbose).await {
            Err(refusal) if !verbose && wants_verbose(&refusal) => {
                let reply = self.send_as(ask, true).await;
                if reply.is_ok() {
                    self.verbose.store(true, Ordering::Relaxed);
                }
                reply
            }
            other => other,
        };
        reply.map_err(|refusal| self.without_secrets(refusal))
    }

    /// The refusal without secrets in its text: a server may repeat what it was sent.
    fn without_secrets(&self, mut refusal: Refusal) -> Refusal {
        refusal.failure = self.auth.without_secrets(&self.credentials, refusal.failure);
        refusal
    }

    async fn send_as(&self, ask: &Ask, verbose: bool) -> Result<Reply, Refusal> {
        let name = ask.name();
        let (body, content_type) = match &ask.verb {
            Verb::Get => (Bytes::new(), None),
            Verb::Post(value) | Verb::Merge(value, _) => {
                (Bytes::from(json_body(value, verbose)), Some(json_type(verbose)))
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static(accept(ask.metadata, verbose)),
        );
        if content_type.is_some() && body.is_empty() {
            // Left out by the HTTP library, and IIS answers 411 without it.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let method = match &ask.verb {
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
        let answer = self
            .deliver(
                &ask.web, &ask.path, method, headers, body, &name, ask.scope, ask.intent,
            )
            .await?;
        let version = answer.header(header::ETAG).and_then(odata::version_of);
        let content_type = answer.header(header::CONTENT_TYPE);
        reply(&name, content_type, &answer.body, version, ask.intent).map_err(Into::into)
    }

    /// Sends reads of one web together, as few requests as possible; the answers come in the order asked for.
    pub(super) async fn send_to_web(
        &self,
        site: &str,
        asks: Vec<Ask>,
    ) -> Result<Vec<Result<Reply, Refusal>>, Failure> {
        let mut replies = Vec::with_capacity(asks.len());
        for chunk in asks.chunks(self.batch_size.max(1)) {
            let together = chunk.len() > 1
                && self.batch_size > 1
                && !self.is_verbose()
                && !self.batch_refused.load(Ordering::Relaxed);
            if together {
                let batch = self.send_batch(site, chunk).await;
                match batch.map_err(|refusal| self.without_secrets(refusal)) {
                    Ok(answers) => {
                        let answers = answers.into_iter();
                        replies.extend(
                            answers.map(|reply| reply.map_err(|refusal| self.without_secrets(refusal))),
                        );
                        continue;
                    }
                    Err(refusal)
                        if refusal.is_unsupported() || refusal.failure.code == Code::SharePointBadAnswer =>
                    {
                        tracing::debug!(site, failure = %refusal.failure, "batch refused, single requests instead");
                        self.batch_refused.store(true, Ordering::Relaxed);
                    }
                    // Together too large, perhaps not one by one.
                    Err(refusal) if refusal.failure.code == Code::SharePointAnswerTooLarge => {}
                    Err(refusal) => return Err(refusal.failure),
                }
            }
            let singles: Vec<_> = chunk.iter().map(|ask| self.send(ask)).collect();
            let singles = futures::stream::iter(singles).buffered(SINGLES_AT_ONCE);
            replies.extend(singles.collect::<Vec<_>>().await);
        }
        Ok(replies)
    }

    async fn send_batch(&self, site: &str, asks: &[Ask]) -> Result<Vec<Result<Reply, Refusal>>, Refusal> {
        let name = format!("POST {site}/_api/$batch");
        let boundary = format!("batch_{}", uuid::Uuid::now_v7().simple());
        let parts: Vec<Part> = asks
            .iter()
            .map(|ask| Part {
                method: if ask.verb == Verb::Get { "GET" } else { "POST" },
                url: format!("{}/_api/{}", ask.web, ask.path),
                accept: accept(ask.metadata, false),
                body: match &ask.verb {
                    Verb::Get => None,
                    Verb::Post(value) | Verb::Merge(value, _) => {
                        Some((json_body(value, false), json_type(false)))
                    }
                },
            })
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("multipart/mixed"));
        let content_type = HeaderValue::from_str(&format!("multipart/mixed; boundary=\"{boundary}\""));
        headers.insert(
            header::CONTENT_TYPE,
            content_type.map_err(|error| {
                Failure::new(
                    ErrorClass::Transient,
                    Code::SharePointError,
                    format!("{name}: {error}"),
                )
            })?,
        );
        let body = Bytes::from(batch::write(&boundary, &parts));
        let answer = self
            .deliver(
                site,
                "$batch",
                Method::POST,
                headers,
                body,
                &name,
                Scope::Site,
                Intent::Read,
            )
            .await?;
        let content_type = answer.header(header::CONTENT_TYPE).unwrap_or_default();
        let bad = |reason: String| {
            Failure::new(
                ErrorClass::Transient,
                Code::SharePointBadAnswer,
                format!("{name}: {reason}"),
            )
        };
        let answers = batch::parse(content_type, &answer.body).map_err(bad)?;
        if answers.len() != asks.len() {
            return Err(bad(format!("{} answers to {} requests", answers.len(), asks.len())).into());
        }
        let server = self.server(site)?;
        Ok(asks
            .iter()
            .zip(answers)
            .map(|(ask, answer)| self.sort_part(&server, ask, &answer))
            .collect())
    }

    fn sort_part(&self, server: &ServerLimits, ask: &Ask, answer: &PartAnswer) -> Result<Reply, Refusal> {
        let name = format!("{} (in a batch)", ask.name());
        if matches!(answer.status, 429 | 503) {
            return Err(self.throttle(server, answer.header("retry-after"), &name));
        }
        if !(200..300).contains(&answer.status) {
            return Err(refuse(&name, answer.status, &answer.body, ask.scope, ask.intent));
        }
        let version = answer.header("etag").and_then(odata::version_of);
        let content_type = answer.header("content-type");
        reply(&name, content_type, &answer.body, version, ask.intent).map_err(Into::into)
    }

    /// The limits of the web's server. A SharePoint server serves one company, so all accounts share them.
    fn server(&self, web: &str) -> Result<Arc<ServerLimits>, Failure> {
        Ok(self.servers.of(&parse_url(web, "")?, Server::SharePoint, ""))
    }

    /// Sends, renewing the token or the digest once when the server refuses it; a success is any 2xx.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one request; the callers are in this file"
    )]
    async fn deliver(
        &self,
        web: &str,
        path: &str,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        name: &str,
        scope: Scope,
        intent: Intent,
    ) -> Result<Answer, Refusal> {
        let (mut token_renewed, mut digest_renewed) = (false, false);
        // At most three rounds: each reason to go round again is used once.
        loop {
            let authorization = self.auth.header(&self.credentials).await?;
            let bearer = authorization
                .to_str()
                .is_ok_and(|text| text.starts_with("Bearer "));
            let mut headers = headers.clone();
            headers.insert(header::AUTHORIZATION, authorization);
            if method == Method::POST && !bearer && path != "contextinfo" {
                let digest = Box::pin(self.digest(web)).await?;
                headers.insert(HeaderName::from_static("x-requestdigest"), digest);
            }
            let answer = self
                .once(web, path, method.clone(), headers, body.clone(), name, intent)
                .await?;
            if (200..300).contains(&answer.status) {
                return Ok(answer);
            }
            if answer.status == 401 && !token_renewed && self.auth.renew(&self.credentials).await {
                token_renewed = true;
                continue;
            }
            let refusal = refuse(name, answer.status, &answer.body, scope, intent);
            if refusal.known == Known::StaleDigest && !digest_renewed {
                digest_renewed = true;
                *self.digest_cell(web).lock().await = None;
                continue;
            }
            return Err(refusal);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one request; the only caller is above"
    )]
    async fn once(
        &self,
        web: &str,
        path: &str,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
        name: &str,
        intent: Intent,
    ) -> Result<Answer, Refusal> {
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("NONISV|tasksync|tasksync/", env!("CARGO_PKG_VERSION"))),
        );
        let url = parse_url(web, path)?;
        let operation = operation(path, &method);
        let deadline = SignedDuration::try_from(self.timeout)
            .ok()
            .and_then(|timeout| self.now().checked_add(timeout).ok())
            .unwrap_or(Timestamp::MAX);
        let server = self.server(web)?;
        let permit = server
            .acquire(deadline)
            .await
            .map_err(|failure| failure.within(name))?;
        let call = Call {
            method,
            url,
            server: Server::SharePoint,
            operation,
            headers,
            body,
            timeout: self.timeout,
        };
        let answer = match self.http.send(call).await {
            Ok(answer) => answer,
            Err(error) => return Err(errors::unanswered(&error, intent).within(name).into()),
        };
        self.server_clock.note(answer.clock_offset);
        if matches!(answer.status, 429 | 503) {
            return Err(self.throttle(permit.server(), answer.header(header::RETRY_AFTER), name));
        }
        Ok(answer)
    }

    fn throttle(&self, server: &ServerLimits, retry_after: Option<&str>, name: &str) -> Refusal {
        let now = self.now();
        let named = retry_after.and_then(|text| http::named_pause(text, self.server_now()));
        // The clock's fraction differs between processes and requests.
        let pause = throttle::pause(
            named,
            UNNAMED_PAUSE,
            now.subsec_nanosecond().unsigned_abs().into(),
        );
        let until = SignedDuration::try_from(pause)
            .ok()
            .and_then(|pause| now.checked_add(pause).ok());
        if let Some(until) = until {
            record::pause(Server::SharePoint);
            server.pause_until(until);
        }
        errors::throttled(named, format!("{name}: the server asks for a pause")).into()
    }

    fn digest_cell(&self, web: &str) -> DigestCell {
        let mut digests = locked(&self.digests);
        if digests.len() > 10_000 {
            digests.clear();
        }
        Arc::clone(digests.entry(web.to_owned()).or_default())
    }

    /// The form digest of the web; asked for once for everybody who waits.
    async fn digest(&self, web: &str) -> Result<HeaderValue, Refusal> {
        let cell = self.digest_cell(web);
        let mut held = cell.lock().await;
        let now = self.now();
        if let Some((digest, until)) = &*held
            && now < *until
            && let Ok(value) = crate::http::secret_header(digest)
        {
            return Ok(value);
        }
        let ask = Ask::query(web, "contextinfo", Value::Null, Scope::Site);
        let reply = self.send(&ask).await?;
        let answer = reply.read(&["FormDigestValue", "FormDigestTimeoutSeconds"])?;
        let info = odata::result_of(&answer, "GetContextWebInformation");
        let value = odata::text(info, "FormDigestValue")
            .and_then(|digest| Some((crate::http::secret_header(&digest).ok()?, digest)));
        let Some((header, digest)) = value else {
            let detail = format!("{}: no form digest in the answer", ask.name());
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
        *held = Some((digest, until));
        Ok(header)
    }
}

/// What is asked for, for traces; the path itself names lists and people.
fn operation(path: &str, method: &Method) -> &'static str {
    match path.split(['?', '(', '/']).next() {
        Some("$batch") => "batch",
        Some("contextinfo") => "contextinfo",
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
