//! The one way to send requests to a tenant's servers. A [`Session`] handles what every request needs in any
//! protocol: a permit among the requests in flight, the mailbox lock, the sign-in and its one renewal, the
//! server's clock, pauses, and answers that are missing or belong to another request. A protocol judges
//! answers ([`Judge`]) and does nothing else.

mod judge;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::metrics::record::{self, Server};
use tasksync_common::model::{MailboxAddress, TenantId};
use tasksync_common::random::unique_id;
use tasksync_common::registry::Credentials;
use url::Url;

use crate::auth::{Authenticator, SignIn};
use crate::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use crate::http::service::{self, Intent};
use crate::http::{
    Http, HttpAnswer, HttpRequest, Method, ServerClock, for_message, offer_in_words, retry_after,
};
use crate::large;
use crate::throttle::{self, MailboxGuard, MailboxLocks, ServerLimits, Servers};

pub(crate) use judge::{Judge, Judgement, ServerCondition};

const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const RETURN_REQUEST_ID: HeaderName = HeaderName::from_static("return-client-request-id");

/// Time after which an `Authorization` header is made anew. Making one reads the file of the secret.
const AUTHORIZATION_KEPT: SignedDuration = SignedDuration::from_secs(1);

/// Secrets given by a server that are remembered. Each site gives one that is used for half an hour.
const GIVEN_SECRETS: usize = 256;

/// What sessions share with other parts of the process.
#[derive(Clone)]
pub(crate) struct SessionServices {
    pub(crate) http: Http,
    pub(crate) auth: Authenticator,
    pub(crate) clock: SharedClock,
}

/// The limits and pauses that apply to a request.
pub(crate) enum SessionLimits {
    /// The limits of one server.
    Of(Arc<ServerLimits>),
    /// The limits of each address's server, for the account.
    PerServer { servers: Servers, account: String },
}

/// Sends requests to one server of a tenant; see the module's documentation.
pub(crate) struct Session {
    services: SessionServices,
    server: Server,
    tenant: TenantId,
    /// The tenant, against whose part of the memory large answers count.
    payer: Arc<str>,
    credentials: Arc<Credentials>,
    timeout: Duration,
    limits: SessionLimits,
    /// If present, at most one request is in flight for a mailbox.
    mailboxes: Option<MailboxLocks>,
    server_clock: ServerClock,
    /// Consecutive answers that asked for a pause. They determine its length if the server names none.
    busy_in_a_row: AtomicU32,
    authorization: Mutex<Option<(HeaderValue, Timestamp)>>,
    /// Secrets that the server gave, the latest last.
    server_secrets: Mutex<VecDeque<SecretString>>,
}

/// One request.
pub(crate) struct Request<'a> {
    /// The request's name in messages.
    pub(crate) name: &'a str,
    /// The request's name in traces: the protocol's own word, never a path.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) intent: Intent,
    /// The mailboxes that the request concerns.
    pub(crate) mailboxes: &'a [&'a MailboxAddress],
}

impl Session {
    /// Returns a session of `tenant` with its `server`. A request may take `timeout`, and as long again to
    /// get its permits.
    pub(crate) fn new(
        services: SessionServices,
        server: Server,
        tenant: TenantId,
        credentials: Credentials,
        timeout: Duration,
        limits: SessionLimits,
    ) -> Self {
        Self {
            services,
            server,
            payer: tenant.as_str().into(),
            tenant,
            credentials: Arc::new(credentials),
            timeout,
            limits,
            mailboxes: None,
            server_clock: ServerClock::default(),
            busy_in_a_row: AtomicU32::new(0),
            authorization: Mutex::default(),
            server_secrets: Mutex::default(),
        }
    }

    /// Returns the session with at most one request in flight for a mailbox.
    pub(crate) fn one_request_per_mailbox(mut self, locks: MailboxLocks) -> Self {
        self.mailboxes = Some(locks);
        self
    }

    /// Returns the time by our clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// Returns the time by the server's clock, as far as its offset is known.
    pub(crate) fn server_now(&self) -> Timestamp {
        self.server_clock.at(self.now())
    }

    /// Returns the server's clock minus ours; `None` while it is not known.
    pub(crate) fn clock_offset(&self) -> Option<SignedDuration> {
        self.server_clock.offset()
    }

    /// Learns the server's clock from a write of ours, made at `local_time`, to which the server gave the time
    /// `server`.
    pub(crate) fn learn_clock(&self, server: Timestamp, local_time: Timestamp) {
        self.server_clock.add_write(server, local_time);
    }

    /// Returns whether an account with a password signs in, rather than an application with a token.
    pub(crate) fn signs_with_password(&self) -> bool {
        self.credentials.user().is_some()
    }

    /// Sends one request and returns its answer as read by `judge`. During a pause nothing is sent, and the
    /// failure has the rest of the pause. No text in the result contains a secret that was sent.
    pub(crate) async fn send<J: Judge>(
        &self,
        request: Request<'_>,
        judge: J,
    ) -> Result<J::Value, J::Refusal> {
        let limits = self.limits_of(&request.url);
        let mut result = match self.exchange(&request, &limits).await {
            Ok(answer) => self.send_and_judge(&request, answer, judge, &limits).await,
            Err(failure) => Err(J::Refusal::from(failure.within(request.name))),
        };
        for text in J::texts(&mut result) {
            *text = self.without_secrets(std::mem::take(text));
        }
        result
    }

    /// Remembers a secret that the server gave and that requests carry, so that no text shows it.
    pub(crate) fn keep_secret(&self, secret: SecretString) {
        let mut given = self.server_secrets();
        if given.len() >= GIVEN_SECRETS {
            given.pop_front();
        }
        given.push_back(secret);
    }

    fn server_secrets(&self) -> MutexGuard<'_, VecDeque<SecretString>> {
        self.server_secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn without_secrets(&self, text: String) -> String {
        if text.is_empty() {
            return text;
        }
        let given: Vec<SecretString> = self.server_secrets().iter().cloned().collect();
        self.services.auth.hide_secrets(&self.credentials, &given, text)
    }

    /// Returns the failure of an answer about something other than what was asked. Counts the answer and
    /// gives up its connection.
    pub(crate) fn foreign_answer(&self, operation: &str, intent: Intent, what: &str) -> Failure {
        let failure = service::foreign_answer(self.server, intent, what).within(operation);
        self.note_foreign(&failure);
        failure
    }

    /// If the failure says that an answer was about something other than what was asked, counts the answer
    /// and gives up its connection.
    pub(crate) fn note_foreign(&self, failure: &Failure) {
        if failure.code == service::foreign_code(self.server) {
            self.services.http.distrust();
            record::foreign_answer(self.server);
            let detail = self.without_secrets(failure.detail.clone());
            tracing::warn!(tenant = %self.tenant, detail, "an answer was refused");
        }
    }

    async fn send_and_judge<J: Judge>(
        &self,
        request: &Request<'_>,
        answer: HttpAnswer,
        judge: J,
        limits: &ServerLimits,
    ) -> Result<J::Value, J::Refusal> {
        let (bytes, status, server_now) = (answer.body.len(), answer.status, self.server_now());
        let offer = (status == 401).then(|| offer_in_words(self.credentials.scheme(), &answer.headers));
        let judgement = large::parse_off_thread(bytes, move || judge.judge(&answer, server_now)).await;
        let mut judgement = judgement.map_err(J::Refusal::from)?;
        if let Some(offer) = offer.filter(|_| judgement.result.is_err()) {
            for text in J::texts(&mut judgement.result) {
                text.push_str("; ");
                text.push_str(&offer);
            }
        }
        match judgement.condition {
            ServerCondition::Served => {
                if judgement.result.is_ok() {
                    self.busy_in_a_row.store(0, Ordering::Relaxed);
                }
            }
            ServerCondition::Busy(named) => self.pause(limits, request, status, named),
            // The same connection may bring such an answer to the next request.
            ServerCondition::Unreadable => {
                self.services.http.distrust();
            }
        }
        judgement.result
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        limits: &Arc<ServerLimits>,
    ) -> Result<HttpAnswer, Failure> {
        let wait = SignedDuration::try_from(self.timeout).unwrap_or(SignedDuration::MAX);
        let deadline = self.now().checked_add(wait).unwrap_or(Timestamp::MAX);
        limits.check()?;
        let _mailboxes = self.lock(request.mailboxes, deadline).await?;
        let _place = limits.acquire(deadline).await?;
        let mut answer = self.call(request).await?;
        if answer.status == 401 && self.renew() {
            answer = self.call(request).await?;
        }
        if matches!(answer.status, 429 | 503) {
            let named = retry_after(&answer.headers, self.server_now());
            self.pause(limits, request, answer.status, named);
            let detail = format!("HTTP {}: the server asks for a pause", answer.status);
            return Err(service::busy_failure(self.server, named, detail));
        }
        Ok(answer)
    }

    async fn call(&self, request: &Request<'_>) -> Result<HttpAnswer, Failure> {
        let mut headers = request.headers.clone();
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = &*unique_id().hyphenated().encode_lower(&mut id);
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID, id);
            headers.insert(RETURN_REQUEST_ID, HeaderValue::from_static("true"));
        }
        let sign_in = match self.sign_in(&request.url).await? {
            SignIn::Header(authorization) => {
                headers.insert(header::AUTHORIZATION, authorization);
                None
            }
            SignIn::Connection(sign_in) => Some(sign_in),
        };
        let call = HttpRequest {
            method: request.method.clone(),
            url: request.url.clone(),
            server: self.server,
            payer: Arc::clone(&self.payer),
            operation: request.operation,
            headers,
            body: request.body.clone(),
            timeout: self.timeout,
            sign_in,
        };
        let answer = self
            .services
            .http
            .send(call)
            .await
            .map_err(|error| service::no_answer(self.server, &error, request.intent))?;
        self.server_clock.note(answer.clock_offset);
        match answer.header(REQUEST_ID) {
            Some(other) if !other.trim().eq_ignore_ascii_case(id) => {
                let what = format!(
                    "the answer belongs to another request: its client-request-id is \"{}\"",
                    for_message(other, 40)
                );
                let failure = service::foreign_answer(self.server, request.intent, &what);
                self.note_foreign(&failure);
                Err(failure)
            }
            Some(_) | None => Ok(answer),
        }
    }

    /// Returns how a request to `url` is signed in. An `Authorization` header is made at most once a second.
    async fn sign_in(&self, url: &Url) -> Result<SignIn, Failure> {
        let now = self.now();
        if let Some((header, made)) = &*self.kept_authorization() {
            let age = made.duration_until(now);
            if !age.is_negative() && age < AUTHORIZATION_KEPT {
                return Ok(SignIn::Header(header.clone()));
            }
        }
        let auth = &self.services.auth;
        let sign_in = auth
            .sign_in(&self.tenant, &self.credentials, self.server, url)
            .await?;
        if let SignIn::Header(header) = &sign_in {
            *self.kept_authorization() = Some((header.clone(), now));
        }
        Ok(sign_in)
    }

    /// Forgets the header that was refused. Returns whether another attempt makes sense.
    fn renew(&self) -> bool {
        *self.kept_authorization() = None;
        self.services.auth.renew(&self.credentials)
    }

    fn kept_authorization(&self) -> MutexGuard<'_, Option<(HeaderValue, Timestamp)>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits_of(&self, url: &Url) -> Arc<ServerLimits> {
        match &self.limits {
            SessionLimits::Of(limits) => Arc::clone(limits),
            SessionLimits::PerServer { servers, account } => servers.limits_of(url, self.server, account),
        }
    }

    /// Holds back all requests to the server. A pause without a named length grows with each that follows it.
    fn pause(&self, limits: &ServerLimits, request: &Request<'_>, status: u16, named: Option<Duration>) {
        record::pause(self.server);
        let attempt = self.busy_in_a_row.fetch_add(1, Ordering::Relaxed);
        let seed = u64::from_le_bytes(*unique_id().as_bytes().first_chunk().unwrap_or(&[0; 8]));
        let pause =
            SignedDuration::try_from(throttle::pause(named, attempt, seed)).unwrap_or(SignedDuration::MAX);
        let until = self.now().checked_add(pause).unwrap_or(Timestamp::MAX);
        let asked = match named {
            Some(named) => format!("named {} s", named.as_secs_f64().ceil()),
            None => "named no length".to_owned(),
        };
        let why = format!(
            "{} was answered with HTTP {status}: the server is busy and {asked}",
            request.operation
        );
        limits.pause_until(until, Some(&self.tenant), why);
    }

    /// Locks the mailboxes for one request. The order is the same everywhere, so that two requests for
    /// several mailboxes never wait for each other.
    async fn lock(
        &self,
        mailboxes: &[&MailboxAddress],
        deadline: Timestamp,
    ) -> Result<Vec<MailboxGuard>, Failure> {
        let Some(locks) = &self.mailboxes else {
            return Ok(Vec::new());
        };
        let mut sorted = mailboxes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut guards = Vec::with_capacity(sorted.len());
        for mailbox in sorted {
            guards.push(locks.lock(&self.tenant, mailbox.as_str(), deadline).await?);
        }
        Ok(guards)
    }
}
