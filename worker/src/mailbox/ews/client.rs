//! The request loop: places and pauses, headers, one renewal of the token, and the meaning of every way to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Server};
use tasksync_common::model::MailboxAddress;

use super::envelope::{self, ServerVersion};
use super::messages::{EwsError, Message, ServerError};
use super::operation::Operation;
use super::response_code::Meaning;
use super::xml::{Parsed, Xml, for_message};
use super::{EwsConnection, EwsLimits, http_status};
use crate::auth::Authenticator;
use crate::http::{Answer, Call, Http, ServerClock};
use crate::throttle::{self, MailboxGuard, MailboxLocks, ServerLimits};

const ANCHOR: HeaderName = HeaderName::from_static("x-anchormailbox");
const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const RETURN_REQUEST_ID: HeaderName = HeaderName::from_static("return-client-request-id");
const SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");

/// Sends requests for one tenant.
pub(super) struct Client {
    http: Http,
    auth: Authenticator,
    connection: EwsConnection,
    clock: SharedClock,
    timeout: Duration,
    server: Arc<ServerLimits>,
    mailboxes: MailboxLocks,
    /// Busy answers in a row, for the pause when the server names none.
    busy_in_a_row: AtomicU32,
    server_clock: ServerClock,
    /// Whether the tenant's last request was served: tells a closed mailbox from a closed organisation.
    served: AtomicBool,
    headers: HeaderMap,
}

/// An answer's messages and the server's build.
#[derive(Debug)]
pub(super) struct Answered<T> {
    pub(super) messages: Vec<Message<T>>,
    pub(super) version: Option<ServerVersion>,
}

impl Client {
    pub(super) fn new(
        http: Http,
        auth: Authenticator,
        connection: EwsConnection,
        clock: SharedClock,
        limits: &EwsLimits,
        server: Arc<ServerLimits>,
        mailboxes: MailboxLocks,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tasksync/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
        headers.insert(RETURN_REQUEST_ID, HeaderValue::from_static("true"));
        Self {
            http,
            auth,
            connection,
            clock,
            timeout: limits.request_timeout,
            server,
            mailboxes,
            busy_in_a_row: AtomicU32::new(0),
            server_clock: ServerClock::default(),
            served: AtomicBool::new(false),
            headers,
        }
    }

    /// The server's clock minus ours; `None` while no answer told a time.
    pub(super) fn clock_offset(&self) -> Option<SignedDuration> {
        self.server_clock.offset()
    }

    /// Gives up the connections made so far: one of them brought an answer that belongs to another request.
    pub(super) fn distrust(&self) {
        self.http.distrust();
    }

    /// Sends one request about these mailboxes and reads its answer with `read`.
    ///
    /// One request is in flight per mailbox, and a limited number per server; while the server wants a pause, nothing
    /// is sent and the failure names what is left of it.
    pub(super) async fn send<T>(
        &self,
        operation: &'static Operation,
        mailboxes: &[&MailboxAddress],
        body: Bytes,
        read: impl FnOnce(&mut Xml<'_>) -> Parsed<Vec<Message<T>>> + Send,
    ) -> Result<Answered<T>, EwsError> {
        let answer = self
            .exchange(operation, mailboxes, body)
            .await
            .map_err(|failure| self.without_secrets(failure.within(operation.name)))?;
        let result = self.understand(operation, &answer, read).map_err(|mut error| {
            error.failure = self.without_secrets(error.failure);
            error
        });
        self.keep_pause(&result);
        result
    }

    /// The failure without secrets in its text: a server may repeat what it was sent.
    fn without_secrets(&self, failure: Failure) -> Failure {
        self.auth.without_secrets(&self.connection.credentials, failure)
    }

    async fn exchange(
        &self,
        operation: &'static Operation,
        mailboxes: &[&MailboxAddress],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let wait = SignedDuration::try_from(self.timeout).unwrap_or(SignedDuration::MAX);
        let deadline = self.clock.now().checked_add(wait).unwrap_or(jiff::Timestamp::MAX);
        self.server.check()?;
        let _locks = self.lock(mailboxes, deadline).await?;
        let _permit = self.server.acquire(deadline).await?;
        let answer = self.call(operation, mailboxes, body.clone()).await?;
        if answer.status == 401 && self.auth.renew(&self.connection.credentials).await {
            return self.call(operation, mailboxes, body).await;
        }
        Ok(answer)
    }

    async fn call(
        &self,
        operation: &'static Operation,
        mailboxes: &[&MailboxAddress],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut headers = self.headers.clone();
        headers.insert(SOAP_ACTION, HeaderValue::from_static(operation.action));
        if let &[mailbox] = mailboxes
            && let Ok(anchor) = HeaderValue::from_str(mailbox.as_str())
        {
            headers.insert(ANCHOR, anchor);
        }
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = &*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut id);
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(
            AUTHORIZATION,
            self.auth.header(&self.connection.credentials).await?,
        );
        let call = Call {
            method: reqwest::Method::POST,
            url: self.connection.url.clone(),
            server: Server::Ews,
            operation: operation.name,
            headers,
            body,
            timeout: self.timeout,
        };
        let answer = self
            .http
            .send(call)
            .await
            .map_err(|error| http_status::no_answer(&error, operation.writes))?;
        self.server_clock.note(answer.clock_offset);
        if let Some(other) = answer.header(REQUEST_ID)
            && !other.trim().eq_ignore_ascii_case(id)
        {
            return Err(self.of_another_request(operation, other));
        }
        Ok(answer)
    }

    /// The answer names another request: nothing in it is believed, and the connection serves no further request.
    fn of_another_request(&self, operation: &'static Operation, other: &str) -> Failure {
        self.http.distrust();
        let (class, code) = http_status::interrupted(operation.writes, Code::ExchangeBadAnswer);
        let detail = format!(
            "the answer belongs to another request: its client-request-id is \"{}\"",
            for_message(other, 40)
        );
        tracing::warn!(operation = operation.name, tenant = %self.connection.tenant, detail, "an answer was refused");
        Failure::new(class, code, detail)
    }

    fn understand<T>(
        &self,
        operation: &'static Operation,
        answer: &Answer,
        read: impl FnOnce(&mut Xml<'_>) -> Parsed<Vec<Message<T>>>,
    ) -> Result<Answered<T>, EwsError> {
        let parsed = match answer.status {
            200 | 400 | 500 => envelope::read(&answer.body, operation.response, read),
            _ => {
                let works = self.served.swap(false, Ordering::Relaxed);
                return Err(http_status::failure(
                    answer,
                    operation.writes,
                    works,
                    self.server_clock.at(self.clock.now()),
                )
                .within(operation.name)
                .into());
            }
        };
        match parsed {
            Ok(reply) => match reply.outcome {
                Ok(mut messages) => {
                    self.served.store(true, Ordering::Relaxed);
                    for error in messages.iter_mut().filter_map(|message| message.as_mut().err()) {
                        let text = std::mem::take(&mut error.text);
                        error.text = self.auth.hide_secrets(&self.connection.credentials, text);
                    }
                    Ok(Answered {
                        messages,
                        version: reply.version,
                    })
                }
                Err(fault) => {
                    let mut error = fault.into_error(operation.writes);
                    error.failure = error.failure.within(operation.name);
                    Err(error)
                }
            },
            Err(reason) => {
                // Whoever answered so may answer the next request on the same connection.
                self.http.distrust();
                let failure = if answer.status == 200 {
                    http_status::bad_answer(answer, operation.writes, &reason.0)
                } else {
                    http_status::failure(
                        answer,
                        operation.writes,
                        false,
                        self.server_clock.at(self.clock.now()),
                    )
                };
                Err(failure.within(operation.name).into())
            }
        }
    }

    /// A busy answer, wherever in it, stops everybody's requests to this server for as long as it says.
    fn keep_pause<T>(&self, result: &Result<Answered<T>, EwsError>) {
        let busy = |class: ErrorClass| match class {
            ErrorClass::Throttled { retry_after } => Some(retry_after),
            ErrorClass::Transient
            | ErrorClass::Conflict
            | ErrorClass::Gone
            | ErrorClass::Refused
            | ErrorClass::CursorInvalid
            | ErrorClass::OutcomeUnknown => None,
        };
        let named = match result {
            Ok(answered) => answered
                .messages
                .iter()
                .filter_map(|message| message.as_ref().err())
                .filter(|error| is_busy(error))
                .map(|error| error.back_off)
                .max(),
            Err(error) => busy(error.failure.class),
        };
        let Some(named) = named else {
            if result.is_ok() {
                self.busy_in_a_row.store(0, Ordering::Relaxed);
            }
            return;
        };
        record::pause(Server::Ews);
        let attempt = self.busy_in_a_row.fetch_add(1, Ordering::Relaxed);
        let seed = u64::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 8]));
        let pause =
            SignedDuration::try_from(throttle::pause(named, attempt, seed)).unwrap_or(SignedDuration::MAX);
        self.server.pause_until(
            self.clock
                .now()
                .checked_add(pause)
                .unwrap_or(jiff::Timestamp::MAX),
        );
    }

    /// Takes the mailboxes for one request. They are taken in one order everywhere, so that two requests for several
    /// mailboxes never wait for each other.
    async fn lock(
        &self,
        mailboxes: &[&MailboxAddress],
        deadline: jiff::Timestamp,
    ) -> Result<Vec<MailboxGuard>, Failure> {
        let mut sorted = mailboxes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut guards = Vec::with_capacity(sorted.len());
        for mailbox in sorted {
            guards.push(
                self.mailboxes
                    .lock(&self.connection.tenant, mailbox.as_str(), deadline)
                    .await?,
            );
        }
        Ok(guards)
    }
}

/// The first message that asks for a pause: it stands for the whole request.
pub(super) fn throttled<T>(messages: &[Message<T>]) -> Option<EwsError> {
    messages
        .iter()
        .filter_map(|message| message.as_ref().err())
        .find(|error| is_busy(error))
        .map(|error| error.clone().into_error(false))
}

fn is_busy(error: &ServerError) -> bool {
    error.meaning() == Meaning::Throttled || error.back_off.is_some()
}
