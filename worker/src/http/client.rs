//! The process's one HTTP client.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};
use tasksync_common::clock::SharedClock;
use tasksync_common::clock::monotonic;
use tasksync_common::metrics::record::{self, Outcome};
use tasksync_common::settings::OutboundSettings;
use tasksync_common::telemetry::spans;
use tracing::Instrument as _;

use super::address::AddressRules;
use super::answer_memory::AnswerMemory;
use super::body::{BodyReader, BodyRefusal};
use super::budget;
use super::explain::{call_error, reason_of};
use super::header_times::clock_offset;
use super::resolver::{CheckedResolver, Lookup, SystemLookup};
use super::{CallError, HttpAnswer, HttpRequest, host_of};

/// Shortest time between two replacements of all connections, whatever servers do.
const DISTRUST_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// Time after which an unused connection is closed. IIS closes them after two minutes; a request on a
/// connection that the server is closing has an unknown outcome.
const IDLE_CONNECTION: Duration = Duration::from_mins(1);

/// Header lines of one answer. The client's read buffer (about 400 KiB) bounds their size.
const HEADER_LINES: usize = 100;

/// The process's one HTTP client. Cheap to clone; clones share connections.
///
/// - It connects only to addresses that the operator's rules allow ([`AddressRules`]).
/// - It ignores proxies named in the environment (`HTTPS_PROXY` and the like): a proxy would resolve names
///   itself and so bypass these rules.
/// - It returns redirects as answers and never follows them. It sends nothing twice, except on a connection
///   that broke before the first byte was written.
/// - It inflates gzip to at most 100 times what was sent. The limit of an answer counts inflated bytes.
/// - Large answers wait for room, so that all of them together fit into memory.
#[derive(Clone)]
pub struct Http {
    inner: Arc<HttpInner>,
}

struct HttpInner {
    current: RwLock<Current>,
    settings: OutboundSettings,
    authorities: Vec<reqwest::Certificate>,
    rules: Arc<AddressRules>,
    lookup: Arc<dyn Lookup>,
    clock: SharedClock,
    answer_memory: AnswerMemory,
}

struct Current {
    client: reqwest::Client,
    since: Timestamp,
    distrusted: bool,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("outbound HTTP: {0}")]
pub struct HttpSetupError(String);

impl Http {
    /// Makes the client. Trust anchors and allowed networks are read once.
    ///
    /// # Errors
    /// The error names the setting that cannot be used.
    pub fn new(settings: OutboundSettings, clock: SharedClock) -> Result<Self, HttpSetupError> {
        Self::with_lookup(settings, clock, Arc::new(SystemLookup::default()))
    }

    /// As [`Self::new`], with another way to look up host names.
    ///
    /// # Errors
    /// The error names the setting that cannot be used.
    pub fn with_lookup(
        settings: OutboundSettings,
        clock: SharedClock,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, HttpSetupError> {
        // A second installation fails; the first one stays in effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = AddressRules::new(&settings.allowed_networks, settings.allow_plain_http)
            .map_err(|error| HttpSetupError(format!("outbound.allowed_networks: {error}")))?;
        let rules = Arc::new(rules);
        let authorities = read_authorities(&settings)?;
        let client = build(&settings, &authorities, &rules, &lookup)?;
        let current = RwLock::new(Current {
            client,
            since: clock.now(),
            distrusted: false,
        });
        Ok(Self {
            inner: Arc::new(HttpInner {
                current,
                settings,
                authorities,
                rules,
                lookup,
                clock,
                answer_memory: AnswerMemory::default(),
            }),
        })
    }

    /// Returns the clock with which calls are measured.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    /// Returns the rules for addresses, for checks before anything is sent.
    #[must_use]
    pub fn rules(&self) -> &AddressRules {
        &self.inner.rules
    }

    /// Marks all present connections as untrusted, after an answer that did not belong to its request. They
    /// serve no further request; requests in flight finish on theirs.
    ///
    /// Returns `true` if the connections were replaced at once. They are replaced at most once in 10 seconds;
    /// an earlier call takes effect before the first request after that time.
    pub fn distrust(&self) -> bool {
        let due = {
            let mut current = self.inner.current.write().unwrap_or_else(PoisonError::into_inner);
            current.distrusted = true;
            self.exchange_due(&current)
        };
        due && self.exchange_connections()
    }

    /// Returns a client under the same rules that keeps no connection and shows the server's certificate.
    pub(super) fn looking_client(&self) -> Result<reqwest::Client, HttpSetupError> {
        let inner = &self.inner;
        builder(&inner.settings, &inner.authorities, &inner.rules, &inner.lookup)
            .tls_info(true)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| HttpSetupError(reason_of(&error)))
    }

    fn exchange_due(&self, current: &Current) -> bool {
        let age = current.since.duration_until(self.inner.clock.now());
        // A clock that was set back must not keep an untrusted connection in use.
        current.distrusted && (age >= DISTRUST_INTERVAL || age.is_negative())
    }

    fn exchange_connections(&self) -> bool {
        let inner = &self.inner;
        // Built outside the lock: loading the system's root certificates takes about 2 ms.
        let built = build(&inner.settings, &inner.authorities, &inner.rules, &inner.lookup);
        let mut current = inner.current.write().unwrap_or_else(PoisonError::into_inner);
        if !self.exchange_due(&current) {
            return true;
        }
        // The next attempt waits after a failure, too.
        current.since = inner.clock.now();
        match built {
            Ok(client) => {
                current.client = client;
                current.distrusted = false;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "connections that are no longer trusted cannot be replaced yet");
                false
            }
        }
    }

    fn client(&self) -> reqwest::Client {
        let read = || {
            let current = self.inner.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.client.clone(), self.exchange_due(&current))
        };
        let (client, due) = read();
        if !due {
            return client;
        }
        self.exchange_connections();
        read().0
    }

    /// Sends one request and reads the whole answer. Redirects are returned, not followed.
    ///
    /// # Errors
    /// The error distinguishes requests that were certainly not carried out from those that may have been.
    pub async fn send(&self, call: HttpRequest) -> Result<HttpAnswer, CallError> {
        let server = call.server;
        // The span has neither path nor query: they name people and tasks.
        let span = tracing::info_span!(
            target: spans::TARGET,
            "request",
            otel.name = format!("{} {}", server.name(), call.operation),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            http.request.method = call.method.as_str(),
            http.response.status_code = tracing::field::Empty,
            server.address = call.url.host_str(),
            server.port = call.url.port_or_known_default().map(i64::from),
            tasksync.server = server.name(),
            tasksync.operation = call.operation,
        );
        let began = monotonic();
        let result = self.deliver(call).instrument(span.clone()).await;
        let outcome = match &result {
            Ok(answer) => {
                span.record("http.response.status_code", i64::from(answer.status));
                Outcome::of_status(answer.status)
            }
            Err(error) => error.outcome(),
        };
        if outcome != Outcome::Ok {
            spans::mark_failed(&span, outcome.name());
        }
        record::request(server, outcome, began.elapsed());
        result
    }

    async fn deliver(&self, call: HttpRequest) -> Result<HttpAnswer, CallError> {
        // IP addresses are checked here; names are checked when they are resolved.
        self.inner
            .rules
            .check_url(&call.url)
            .map_err(CallError::AddressRefused)?;
        let host = host_of(&call.url);
        let timeout = call.timeout.min(self.inner.settings.request_timeout);
        match tokio::time::timeout(timeout, self.exchange(call, &host)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut {
                host,
                seconds: timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0),
            }),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one way out; it limits time and size"
    )]
    async fn exchange(&self, call: HttpRequest, host: &str) -> Result<HttpAnswer, CallError> {
        let limit = self.inner.settings.maximum_answer_bytes;
        let too_large = || CallError::TooLarge {
            host: host.to_owned(),
            limit,
        };
        let mut request = self
            .client()
            .request(call.method, call.url)
            .headers(call.headers)
            .header(ACCEPT_ENCODING, "gzip");
        if !call.body.is_empty() {
            request = request.body(call.body);
        }
        let sent = self.inner.clock.now();
        let mut response = request.send().await.map_err(|error| call_error(error, host))?;
        let clock_offset = clock_offset(response.headers(), sent, self.inner.clock.now());
        // Compressed answers have no announced length; the count below limits them.
        if response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        let gzip = response
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"gzip"));
        let refused = |refused| match refused {
            BodyRefusal::TooLarge => too_large(),
            BodyRefusal::Inflates => CallError::Inflates {
                host: host.to_owned(),
            },
            BodyRefusal::Malformed => CallError::Broken {
                host: host.to_owned(),
                reason: "the answer is announced as gzip and is not gzip".to_owned(),
            },
        };
        let mut body = BodyReader::new(gzip, limit, self.inner.answer_memory.clone(), call.payer);
        while let Some(chunk) = response.chunk().await.map_err(|error| call_error(error, host))? {
            body.add(&chunk).await.map_err(refused)?;
        }
        let body = body.finish().map_err(refused)?;
        if !budget::spend(body.len()) {
            return Err(CallError::OverBudget {
                host: host.to_owned(),
            });
        }
        Ok(HttpAnswer {
            status: response.status().as_u16(),
            headers: std::mem::take::<HeaderMap>(response.headers_mut()),
            body,
            clock_offset,
        })
    }
}

fn read_authorities(settings: &OutboundSettings) -> Result<Vec<reqwest::Certificate>, HttpSetupError> {
    let Some(path) = &settings.authorities else {
        return Ok(Vec::new());
    };
    let certificates = tasksync_common::settings::read_authorities("outbound.authorities", path)
        .map_err(|failure| HttpSetupError(failure.detail))?;
    certificates
        .iter()
        .map(|certificate| {
            reqwest::Certificate::from_der(certificate).map_err(|error| HttpSetupError(reason_of(&error)))
        })
        .collect()
}

fn build(
    settings: &OutboundSettings,
    authorities: &[reqwest::Certificate],
    rules: &Arc<AddressRules>,
    lookup: &Arc<dyn Lookup>,
) -> Result<reqwest::Client, HttpSetupError> {
    builder(settings, authorities, rules, lookup)
        .build()
        .map_err(|error| HttpSetupError(reason_of(&error)))
}

fn builder(
    settings: &OutboundSettings,
    authorities: &[reqwest::Certificate],
    rules: &Arc<AddressRules>,
    lookup: &Arc<dyn Lookup>,
) -> reqwest::ClientBuilder {
    let mut builder = reqwest::Client::builder()
        .dns_resolver(CheckedResolver {
            lookup: Arc::clone(lookup),
            rules: Arc::clone(rules),
        })
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_gzip()
        .https_only(!settings.allow_plain_http)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(settings.requests_per_server)
        .tcp_nodelay(true)
        .http1_only()
        .http1_max_headers(HEADER_LINES);
    for certificate in authorities {
        builder = builder.add_root_certificate(certificate.clone());
    }
    builder
}
