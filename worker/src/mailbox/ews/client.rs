//! EWS requests as the session sends them, and the meaning of their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::MailboxAddress;

use super::envelope::{self, ServerVersion};
use super::messages::{EwsError, Message, ServerError};
use super::operation::Operation;
use super::response_code::Meaning;
use super::xml::{Parsed, Xml};
use super::{EwsConnection, http_status};
use crate::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use crate::http::service::Intent;
use crate::http::{Answer, Method};
use crate::session::{Finding, Judge, Judgement, Request, Session, Shared};
use crate::throttle::{MailboxLocks, ServerLimits};

const ANCHOR: HeaderName = HeaderName::from_static("x-anchormailbox");
const SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");

/// Sends EWS requests for one tenant.
pub(super) struct Client {
    session: Session,
    url: url::Url,
    /// Whether the tenant's last request was served. It distinguishes a closed mailbox from a closed
    /// organisation.
    served: Arc<AtomicBool>,
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
        shared: Shared,
        connection: EwsConnection,
        timeout: std::time::Duration,
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
        let session = Session::new(
            shared,
            Server::Ews,
            connection.tenant,
            connection.credentials,
            timeout,
            crate::session::Limits::Of(server),
        );
        Self {
            session: session.one_request_per_mailbox(mailboxes),
            url: connection.url,
            served: Arc::default(),
            headers,
        }
    }

    /// Returns the server's clock minus ours; `None` while it is not known.
    pub(super) fn clock_offset(&self) -> Option<SignedDuration> {
        self.session.clock_offset()
    }

    /// Learns the server's clock from a write of ours.
    pub(super) fn learn_clock(&self, server: Timestamp, ours: Timestamp) {
        self.session.learn_clock(server, ours);
    }

    /// Returns the failure of an answer about something other than what was asked.
    pub(super) fn foreign(&self, operation: &Operation, what: &str) -> Failure {
        self.session.foreign(operation.name, operation.intent, what)
    }

    /// Sends one request about these mailboxes and reads its answer with `read`.
    pub(super) async fn send<T: Send + 'static>(
        &self,
        operation: &'static Operation,
        mailboxes: &[&MailboxAddress],
        body: Bytes,
        read: impl FnOnce(&mut Xml<'_>) -> Parsed<Vec<Message<T>>> + Send + 'static,
    ) -> Result<Answered<T>, EwsError> {
        let mut headers = self.headers.clone();
        headers.insert(SOAP_ACTION, HeaderValue::from_static(operation.action));
        if let &[mailbox] = mailboxes
            && let Ok(anchor) = HeaderValue::from_str(mailbox.as_str())
        {
            headers.insert(ANCHOR, anchor);
        }
        let request = Request {
            name: operation.name,
            operation: operation.name,
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body,
            intent: operation.intent,
            mailboxes,
        };
        let judge = Reading {
            operation,
            read,
            served: Arc::clone(&self.served),
        };
        self.session.send(request, judge).await
    }
}

/// Reads the answer to one request.
struct Reading<R> {
    operation: &'static Operation,
    read: R,
    served: Arc<AtomicBool>,
}

impl<T, R> Judge for Reading<R>
where
    T: Send + 'static,
    R: FnOnce(&mut Xml<'_>) -> Parsed<Vec<Message<T>>> + Send + 'static,
{
    type Value = Answered<T>;
    type Refusal = EwsError;

    fn judge(self, answer: &Answer, _server_now: Timestamp) -> Judgement<Answered<T>, EwsError> {
        let Self {
            operation,
            read,
            served,
        } = self;
        let intent = operation.intent;
        let refused = |failure: Failure, finding| Judgement::refused(failure.within(operation.name), finding);
        if !matches!(answer.status, 200 | 400 | 500) {
            let works = served.swap(false, Ordering::Relaxed);
            return refused(http_status::failure(answer, intent, works), Finding::Served);
        }
        let reply = match envelope::read(&answer.body, operation.response, read) {
            Ok(reply) => reply,
            Err(reason) => {
                let failure = if answer.status == 200 {
                    http_status::bad_answer(answer, intent, &reason.0)
                } else {
                    http_status::failure(answer, intent, false)
                };
                return refused(failure, Finding::Unreadable);
            }
        };
        match reply.outcome {
            Ok(messages) => {
                served.store(true, Ordering::Relaxed);
                Judgement {
                    finding: busy_message(&messages).map_or(Finding::Served, Finding::Busy),
                    result: Ok(Answered {
                        messages,
                        version: reply.version,
                    }),
                }
            }
            Err(fault) => {
                let mut error = fault.into_error(intent);
                error.failure = error.failure.within(operation.name);
                let finding = match error.failure.class {
                    ErrorClass::Throttled { retry_after } => Finding::Busy(retry_after),
                    ErrorClass::Transient
                    | ErrorClass::Conflict
                    | ErrorClass::Gone
                    | ErrorClass::Refused
                    | ErrorClass::CursorInvalid
                    | ErrorClass::OutcomeUnknown => Finding::Served,
                };
                Judgement::refused(error, finding)
            }
        }
    }

    fn words(result: &mut Result<Answered<T>, EwsError>) -> Vec<&mut String> {
        match result {
            Ok(answered) => answered
                .messages
                .iter_mut()
                .filter_map(|message| message.as_mut().err())
                .flat_map(ServerError::words)
                .collect(),
            Err(error) => vec![&mut error.failure.detail],
        }
    }
}

/// Returns the longest pause that the messages of an answer ask for; `None` if none asks for one.
fn busy_message<T>(messages: &[Message<T>]) -> Option<Option<std::time::Duration>> {
    messages
        .iter()
        .filter_map(|message| message.as_ref().err())
        .filter(|error| is_busy(error))
        .map(|error| error.back_off)
        .max()
}

/// Returns the first message that asks for a pause, which fails the whole request.
pub(super) fn throttled<T>(messages: &[Message<T>]) -> Option<EwsError> {
    messages
        .iter()
        .filter_map(|message| message.as_ref().err())
        .find(|error| is_busy(error))
        .map(|error| error.clone().into_error(Intent::Read))
}

fn is_busy(error: &ServerError) -> bool {
    error.meaning() == Meaning::Throttled || error.back_off.is_some()
}
