//! What a protocol says about an answer: the only thing in which two protocols differ for a [`super::Session`].

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::Failure;

use crate::http::Answer;

/// What an answer shows about the server and the connection, beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The server looked at the request.
    Served,
    /// The server asks for a pause; `None` when it names no length.
    Busy(Option<Duration>),
    /// Something else than the protocol's own server answered, or the answer was cut.
    Unreadable,
}

/// A judged answer.
#[derive(Debug)]
pub(crate) struct Judgement<V, R> {
    pub(crate) result: Result<V, R>,
    pub(crate) finding: Finding,
}

impl<V, R> Judgement<V, R> {
    /// A success of a server that asks for nothing.
    pub(crate) fn served(value: V) -> Self {
        Self {
            result: Ok(value),
            finding: Finding::Served,
        }
    }

    /// A refusal.
    pub(crate) fn refused(refusal: impl Into<R>, finding: Finding) -> Self {
        Self {
            result: Err(refusal.into()),
            finding,
        }
    }
}

/// Reads the answer to one request. Pure; large answers are judged off the async threads.
pub(crate) trait Judge: Send + 'static {
    /// What a success yields.
    type Value: Send + 'static;
    /// What everything else yields.
    type Refusal: From<Failure> + Send + 'static;

    /// Returns what the answer means. The session has dealt with 429, 503 and a first 401 before. `server_now` is the
    /// time of the server's clock.
    fn judge(self, answer: &Answer, server_now: Timestamp) -> Judgement<Self::Value, Self::Refusal>;

    /// Returns the texts of the server in a result. The session removes secrets from them.
    fn words(result: &mut Result<Self::Value, Self::Refusal>) -> Vec<&mut String>;
}
