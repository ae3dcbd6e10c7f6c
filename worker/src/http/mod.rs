//! Calls to the tenants' servers: one shared client, every limit explicit, every outcome told apart.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::SignedDuration;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tasksync_common::clock::SharedClock;
use tasksync_common::settings::OutboundSettings;
use url::Url;

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// GET, POST, …
    pub method: reqwest::Method,
    /// Where to.
    pub url: Url,
    /// Header lines, `Authorization` included (marked sensitive).
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// The whole call may take this long; cut to the settings' `request_timeout`.
    pub timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: HeaderMap,
    /// The whole body, at most `maximum_answer_bytes`.
    pub body: Bytes,
    /// The server's clock minus ours, from its `Date` header and the middle of the call; whole seconds at best.
    pub clock_offset: Option<SignedDuration>,
}

impl Answer {
    /// A header's text, when it is there and readable.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The address is not allowed; nothing was sent.
    #[error("{0}")]
    AddressRefused(String),
    /// No connection came about (name, TCP, TLS); nothing was sent.
    #[error("no connection to {host}: {reason}")]
    NotConnected {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// The time ran out. The request may have been carried out.
    #[error("no answer from {host} within {seconds} s")]
    TimedOut {
        /// Host and port.
        host: String,
        /// The time given, in seconds.
        seconds: u64,
    },
    /// The connection broke after the request was sent, or the answer was cut. The request may have been carried out.
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
}

impl CallError {
    /// Whether the server may have carried the request out.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::AddressRefused(_) | Self::NotConnected { .. } => false,
            Self::TimedOut { .. } | Self::Broken { .. } | Self::TooLarge { .. } => true,
        }
    }
}

/// The process's one HTTP client.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    settings: Arc<OutboundSettings>,
    clock: SharedClock,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("outbound HTTP: {0}")]
pub struct HttpSetupError(String);

impl Http {
    /// Makes the client; loads trust anchors once.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(settings: OutboundSettings, clock: SharedClock) -> Result<Self, HttpSetupError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(settings.requests_per_server)
            .http1_only()
            .https_only(!settings.allow_plain_http);
        if let Some(path) = &settings.authorities {
            let pem = std::fs::read(path).map_err(|error| {
                HttpSetupError(format!("outbound.authorities {}: {error}", path.display()))
            })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
                HttpSetupError(format!("outbound.authorities {}: {error}", path.display()))
            })?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder
            .build()
            .map_err(|error| HttpSetupError(error.to_string()))?;
        Ok(Self {
            client,
            settings: Arc::new(settings),
            clock,
        })
    }

    /// Sends one request and reads the whole answer. Redirects are answers, not followed.
    ///
    /// # Errors
    /// Tells apart what certainly did not happen and what may have happened.
    pub async fn send(&self, call: Call) -> Result<Answer, CallError> {
        let host = host_of(&call.url);
        let timeout = call.timeout.min(self.settings.request_timeout);
        let before = self.clock.now();
        match tokio::time::timeout(timeout, self.exchange(call, &host)).await {
            Ok(Ok((status, headers, body))) => {
                let middle = before + before.duration_until(self.clock.now()) / 2;
                let clock_offset = clock_offset(&headers, middle);
                Ok(Answer {
                    status,
                    headers,
                    body,
                    clock_offset,
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::TimedOut {
                host,
                seconds: timeout.as_secs(),
            }),
        }
    }

    async fn exchange(&self, call: Call, host: &str) -> Result<(u16, HeaderMap, Bytes), CallError> {
        let limit = self.settings.maximum_answer_bytes;
        let too_large = || CallError::TooLarge {
            host: host.to_owned(),
            limit,
        };
        let mut request = self.client.request(call.method, call.url).headers(call.headers);
        if !call.body.is_empty() {
            request = request.body(call.body);
        }
        let mut response = request.send().await.map_err(|error| sort_error(&error, host))?;
        if response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| sort_error(&error, host))? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body.freeze()))
    }
}

/// Host and port for messages; never the path, which may name people.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("an address without host");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn sort_error(error: &reqwest::Error, host: &str) -> CallError {
    let host = host.to_owned();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() || error.is_builder() {
        CallError::NotConnected { host, reason }
    } else {
        CallError::Broken { host, reason }
    }
}

fn clock_offset(headers: &HeaderMap, middle: jiff::Timestamp) -> Option<SignedDuration> {
    let date = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    let server = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(middle.duration_until(server))
}

/// A header value that is never printed.
///
/// # Errors
/// When the text cannot be a header value.
pub fn secret_header(text: &str) -> Result<HeaderValue, reqwest::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}
