//! EWS requests as the session sends them, and the meaning of their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::MailboxAddress;
use tasksync_common::versions::ExchangeBuild;

use super::envelope;
use super::operation::Operation;
use super::response_code::Meaning;
use super::response_messages::{EwsError, ResponseMessage, ServerError};
use super::xml::{Parsed, Xml};
use super::{EwsConnection, http_status};
use crate::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use crate::http::service::Intent;
use crate::http::{HttpAnswer, Method};
use crate::session::{Judge, Judgement, Request, ServerCondition, Session, SessionServices};
use crate::throttle::{MailboxLocks, ServerLimits};

const ANCHOR: HeaderName = HeaderName::from_static("x-anchormailbox");
const SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");

/// Sends EWS requests for one tenant.
pub(super) struct EwsClient {
    session: Session,
    url: url::Url,
    /// Whether the tenant's last request was served. It distinguishes a closed mailbox from a closed
    /// organisation.
    served: Arc<AtomicBool>,
    headers: HeaderMap,
}

/// An answer's messages and the server's build.
#[derive(Debug)]
pub(super) struct EwsAnswer<T> {
    pub(super) messages: Vec<ResponseMessage<T>>,
    pub(super) version: Option<ExchangeBuild>,
}

impl EwsClient {
    pub(super) fn new(
        services: SessionServices,
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
            services,
            Server::Ews,
            connection.tenant,
            connection.credentials,
            timeout,
            crate::session::SessionLimits::Of(server),
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
    pub(super) fn learn_clock(&self, server: Timestamp, local_time: Timestamp) {
        self.session.learn_clock(server, local_time);
    }

    /// Returns the failure of an answer about something other than what was asked.
    pub(super) fn foreign_answer(&self, operation: &Operation, what: &str) -> Failure {
        self.session
            .foreign_answer(operation.name, operation.intent, what)
    }

    /// Sends one request about these mailboxes and reads its answer with `read`.
    pub(super) async fn send<T: Send + 'static>(
        &self,
        operation: &'static Operation,
        mailboxes: &[&MailboxAddress],
        body: Bytes,
        read: impl FnOnce(&mut Xml<'_>) -> Parsed<Vec<ResponseMessage<T>>> + Send + 'static,
    ) -> Result<EwsAnswer<T>, EwsError> {
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
        let judge = EwsJudge {
            operation,
            read,
            served: Arc::clone(&self.served),
        };
        self.session.send(request, judge).await
    }
}

/// Reads the answer to one request.
struct EwsJudge<R> {
    operation: &'static Operation,
    read: R,
    served: Arc<AtomicBool>,
}

impl<T, R> Judge for EwsJudge<R>
where
    T: Send + 'static,
    R: FnOnce(&mut Xml<'_>) -> Parsed<Vec<ResponseMessage<T>>> + Send + 'static,
{
    type Value = EwsAnswer<T>;
    type Refusal = EwsError;

    fn judge(self, answer: &HttpAnswer, _server_now: Timestamp) -> Judgement<EwsAnswer<T>, EwsError> {
        let Self {
            operation,
            read,
            served,
        } = self;
        let intent = operation.intent;
        let refused = |failure: Failure, finding| Judgement::refused(failure.within(operation.name), finding);
        if !matches!(answer.status, 200 | 400 | 500) {
            let works = served.swap(false, Ordering::Relaxed);
            return refused(
                http_status::failure(answer, intent, works),
                ServerCondition::Served,
            );
        }
        let reply = match envelope::read(&answer.body, operation.response, read) {
            Ok(reply) => reply,
            Err(reason) => {
                let failure = if answer.status == 200 {
                    http_status::bad_answer(answer, intent, &reason.0)
                } else {
                    http_status::failure(answer, intent, false)
                };
                return refused(failure, ServerCondition::Unreadable);
            }
        };
        match reply.outcome {
            Ok(messages) => {
                served.store(true, Ordering::Relaxed);
                Judgement {
                    condition: condition_of(&messages),
                    result: Ok(EwsAnswer {
                        messages,
                        version: reply.version,
                    }),
                }
            }
            Err(fault) => {
                let mut error = fault.into_error(intent);
                error.failure = error.failure.within(operation.name);
                let finding = match error.failure.class {
                    ErrorClass::Throttled { retry_after } => ServerCondition::Busy(retry_after),
                    ErrorClass::Transient
                    | ErrorClass::Conflict
                    | ErrorClass::Gone
                    | ErrorClass::Refused
                    | ErrorClass::CursorInvalid
                    | ErrorClass::OutcomeUnknown => ServerCondition::Served,
                };
                Judgement::refused(error, finding)
            }
        }
    }

    fn texts(result: &mut Result<EwsAnswer<T>, EwsError>) -> Vec<&mut String> {
        match result {
            Ok(answered) => answered
                .messages
                .iter_mut()
                .filter_map(|message| message.as_mut().err())
                .flat_map(ServerError::texts)
                .collect(),
            Err(error) => vec![&mut error.failure.detail],
        }
    }
}

/// Returns [`ServerCondition::Busy`] with the longest pause that the messages of an answer ask for, or
/// [`ServerCondition::Served`] if none asks for one.
fn condition_of<T>(messages: &[ResponseMessage<T>]) -> ServerCondition {
    messages
        .iter()
        .filter_map(|message| message.as_ref().err())
        .filter(|error| is_busy(error))
        .map(|error| error.back_off)
        .max()
        .map_or(ServerCondition::Served, ServerCondition::Busy)
}

/// Returns the first message that asks for a pause, which fails the whole request.
pub(super) fn throttled<T>(messages: &[ResponseMessage<T>]) -> Option<EwsError> {
    messages
        .iter()
        .filter_map(|message| message.as_ref().err())
        .find(|error| is_busy(error))
        .map(|error| error.clone().into_error(Intent::Read))
}

fn is_busy(error: &ServerError) -> bool {
    error.meaning() == Meaning::Throttled || error.back_off.is_some()
}
