//! How a protocol reads answers, the only thing in which two protocols differ for a [`super::Session`].

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::Failure;

use crate::http::HttpAnswer;

/// What an answer shows about the server and the connection, beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerCondition {
    /// The server processed the request.
    Served,
    /// The server asks for a pause; `None` if it names no length.
    Busy(Option<Duration>),
    /// The answer is not from the protocol's own server, or was cut.
    Unreadable,
}

/// An answer as the protocol read it.
#[derive(Debug)]
pub(crate) struct Judgement<V, R> {
    pub(crate) result: Result<V, R>,
    pub(crate) condition: ServerCondition,
}

impl<V, R> Judgement<V, R> {
    /// Returns a success of a server that asks for no pause.
    pub(crate) fn served(value: V) -> Self {
        Self {
            result: Ok(value),
            condition: ServerCondition::Served,
        }
    }

    /// Returns a refusal.
    pub(crate) fn refused(refusal: impl Into<R>, condition: ServerCondition) -> Self {
        Self {
            result: Err(refusal.into()),
            condition,
        }
    }
}

/// Reads the answer to one request. Pure; large answers are judged off the async threads.
pub(crate) trait Judge: Send + 'static {
    /// The value of a success.
    type Value: Send + 'static;
    /// The value of every other answer.
    type Refusal: From<Failure> + Send + 'static;

    /// Returns what the answer means. The session has already handled 429, 503 and a first 401. `server_now`
    /// is the time by the server's clock.
    fn judge(self, answer: &HttpAnswer, server_now: Timestamp) -> Judgement<Self::Value, Self::Refusal>;

    /// Returns the texts in a result that came from the server. The session removes secrets from them.
    fn texts(result: &mut Result<Self::Value, Self::Refusal>) -> Vec<&mut String>;
}
