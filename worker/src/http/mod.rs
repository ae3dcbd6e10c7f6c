//! Calls to the tenants' servers: one shared client, explicit limits, and a distinct error for each way to
//! fail.

mod address;
mod answer_memory;
mod body;
mod bound;
mod bound_connection;
pub(crate) mod budget;
mod client;
mod dial;
mod explain;
mod framed;
mod header_times;
mod look;
mod resolver;
mod schemes;
mod server_clock;
pub(crate) mod service;
mod text;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;
use tasksync_common::error::Failure;
pub(crate) use tasksync_common::fleet::host_of;
use tasksync_common::metrics::record::{Outcome, Server};
pub use tasksync_common::settings::{Network, NetworkError};
use url::Url;

use header::{HeaderMap, HeaderName, HeaderValue};

pub use address::{AddressRefusal, AddressRules};
pub use bound::{ConnectionSignIn, Handshake, SignInToken};
pub use client::{Http, HttpSetupError};
pub use header_times::{LONGEST_NAMED_PAUSE, named_pause, pause_in_milliseconds, retry_after};
pub(crate) use look::LookError;
pub use reqwest::{Method, header};
pub use resolver::{Lookup, SystemLookup};
pub(crate) use schemes::{offer_in_words, offered_schemes};
pub(crate) use server_clock::ServerClock;
pub(crate) use text::for_message;

/// Time after which an unused connection is closed. IIS closes them after two minutes; a request on a
/// connection that the server is closing has an unknown outcome.
const IDLE_CONNECTION: Duration = Duration::from_mins(1);

/// Header lines of one answer. The client's read buffer (about 400 KiB) bounds their size.
const HEADER_LINES: usize = 100;

/// One request.
#[derive(Clone)]
pub struct HttpRequest {
    /// GET, POST, …
    pub method: Method,
    /// The address.
    pub url: Url,
    /// The kind of server, for metrics and traces.
    pub server: Server,
    /// The owner of the room that a large answer takes: the tenant, or the server if many tenants share what
    /// is asked for.
    pub payer: Arc<str>,
    /// The operation, for traces: the protocol's own word, never a path.
    pub operation: &'static str,
    /// Header lines, `Authorization` included (marked sensitive).
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// Timeout of the whole call; limited by the settings' `request_timeout`.
    pub timeout: Duration,
    /// How the connection is signed in, if it is the connection that is; else `headers` has the sign-in, if there is
    /// one.
    pub sign_in: Option<Arc<dyn ConnectionSignIn>>,
}

/// Shows neither path, header values nor body: they contain names, tasks and secrets.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Call")
            .field("method", &self.method)
            .field("host", &host_of(&self.url))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: HeaderMap,
    /// The whole body, at most `maximum_answer_bytes`.
    pub body: Bytes,
    /// The server's clock minus ours, from its `Date` header and the middle of the call; whole seconds at best.
    pub clock_offset: Option<SignedDuration>,
}

impl HttpAnswer {
    /// Returns a header's text, if it exists and is readable.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Shows neither header values nor body: they contain tasks and tokens.
impl fmt::Debug for HttpAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("clock_offset", &self.clock_offset)
            .finish()
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The address is not allowed; nothing was sent.
    #[error("{0}")]
    AddressRefused(String),
    /// The connection could not be signed in; the request was not sent.
    #[error("{0}")]
    SignIn(Failure),
    /// The sign-in of a connection was not completed; the request was not carried out.
    #[error("the sign-in at {host} was not completed: {reason}")]
    NotSignedIn {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// No connection was made (name, TCP, TLS); nothing was sent.
    #[error("no connection to {host}: {reason}")]
    NotConnected {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// The call timed out. The request may have been carried out.
    #[error("no answer from {host} within {seconds} s")]
    TimedOut {
        /// Host and port.
        host: String,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// The connection broke after the request was sent, or the answer was cut. The request may have been
    /// carried out.
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// The answer is larger than allowed; reading was stopped. The request was carried out.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Host and port.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is small on the wire and inflates to far more; reading was stopped. The request was carried out.
    #[error(
        "the answer of {host} inflates to more than {} times its size",
        body::MOST_INFLATED
    )]
    Inflates {
        /// Host and port.
        host: String,
    },
    /// The answers to one piece of work exceed its budget of bytes; reading was stopped. The request was
    /// carried out.
    #[error("{host} sent more bytes than the answers to one sync may have")]
    OverBudget {
        /// Host and port.
        host: String,
    },
}

impl CallError {
    /// Returns whether the server may have carried out the request.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::AddressRefused(_)
            | Self::SignIn(_)
            | Self::NotSignedIn { .. }
            | Self::NotConnected { .. } => false,
            Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Inflates { .. }
            | Self::OverBudget { .. } => true,
        }
    }

    /// Returns the error's label in metrics and traces.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::AddressRefused(_) => Outcome::AddressRefused,
            Self::SignIn(_) | Self::NotSignedIn { .. } | Self::NotConnected { .. } => Outcome::NotConnected,
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::Broken { .. } => Outcome::Broken,
            Self::TooLarge { .. } | Self::Inflates { .. } | Self::OverBudget { .. } => Outcome::TooLarge,
        }
    }
}

/// Returns a header value that is never printed.
///
/// # Errors
/// The text cannot be a header value.
pub fn secret_header(text: &str) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}
