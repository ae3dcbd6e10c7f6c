//! The process's one HTTP client.

use std::sync::{Arc, PoisonError, RwLock};

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
use super::bound::{BoundAnswer, BoundConnections};
use super::budget;
use super::dial::OutboundDialer;
use super::explain::{call_error, reason_of};
use super::header_times::clock_offset;
use super::resolver::{CheckedResolver, Lookup, SystemLookup};
use super::{CallError, HEADER_LINES, HttpAnswer, HttpRequest, IDLE_CONNECTION, host_of};

/// Shortest time between two replacements of all connections, whatever servers do.
const DISTRUST_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

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
    dialer: OutboundDialer,
    clock: SharedClock,
    answer_memory: AnswerMemory,
}

struct Current {
    client: reqwest::Client,
    bound: Arc<BoundConnections>,
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
        let dialer = OutboundDialer {
            rules: Arc::new(rules),
            lookup,
            tls: Arc::new(tls_config(&settings)?),
            connect_timeout: settings.connect_timeout,
        };
        let current = RwLock::new(Current {
            client: build(&settings, &dialer)?,
            bound: bound_connections(&settings, &dialer),
            since: clock.now(),
            distrusted: false,
        });
        Ok(Self {
            inner: Arc::new(HttpInner {
                current,
                settings,
                dialer,
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
        &self.inner.dialer.rules
    }

    pub(super) fn dialer(&self) -> &OutboundDialer {
        &self.inner.dialer
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
        builder(&inner.settings, &inner.dialer)
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
        let built = build(&inner.settings, &inner.dialer);
        let mut current = inner.current.write().unwrap_or_else(PoisonError::into_inner);
        if !self.exchange_due(&current) {
            return true;
        }
        // The next attempt waits after a failure, too.
        current.since = inner.clock.now();
        match built {
            Ok(client) => {
                current.client = client;
                current.bound = bound_connections(&inner.settings, &inner.dialer);
                current.distrusted = false;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "connections that are no longer trusted cannot be replaced yet");
                false
            }
        }
    }

    /// Returns the present clients: the shared one, and the one of connections that are signed in themselves.
    fn clients(&self) -> (reqwest::Client, Arc<BoundConnections>) {
        let read = || {
            let current = self.inner.current.read().unwrap_or_else(PoisonError::into_inner);
            let clients = (current.client.clone(), Arc::clone(&current.bound));
            (clients, self.exchange_due(&current))
        };
        let (clients, due) = read();
        if !due {
            return clients;
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
        self.rules()
            .check_url(&call.url)
            .map_err(CallError::AddressRefused)?;
        let host = host_of(&call.url);
        let timeout = call.timeout.min(self.inner.settings.request_timeout);
        match tokio::time::timeout(timeout, Box::pin(self.exchange(call, &host))).await {
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
        let (client, bound) = self.clients();
        let payer = Arc::clone(&call.payer);
        let sent = self.inner.clock.now();
        if let Some(sign_in) = &call.sign_in {
            let BoundAnswer { response, connection } = bound.send(&call, &**sign_in, host).await?;
            let answer = self.read(response, sent, payer, host).await?;
            connection.release();
            return Ok(answer);
        }
        let mut request = client
            .request(call.method, call.url)
            .headers(call.headers)
            .header(ACCEPT_ENCODING, "gzip");
        if !call.body.is_empty() {
            request = request.body(call.body);
        }
        let response = request.send().await.map_err(|error| call_error(error, host))?;
        self.read(response, sent, payer, host).await
    }

    /// Reads the whole answer to a request that began at `sent`.
    async fn read(
        &self,
        mut response: reqwest::Response,
        sent: Timestamp,
        payer: Arc<str>,
        host: &str,
    ) -> Result<HttpAnswer, CallError> {
        let limit = self.inner.settings.maximum_answer_bytes;
        let too_large = || CallError::TooLarge {
            host: host.to_owned(),
            limit,
        };
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
        let mut body = BodyReader::new(gzip, limit, self.inner.answer_memory.clone(), payer);
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

/// Returns the one TLS configuration: it trusts the machine's authorities and those of `outbound.authorities`.
fn tls_config(settings: &OutboundSettings) -> Result<rustls::ClientConfig, HttpSetupError> {
    let further = match &settings.authorities {
        None => Vec::new(),
        Some(path) => tasksync_common::settings::read_authorities("outbound.authorities", path)
            .map_err(|failure| HttpSetupError(failure.detail))?,
    };
    let failed = |error: rustls::Error| HttpSetupError(reason_of(&error));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(further, Arc::clone(&provider))
        .map_err(failed)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn build(settings: &OutboundSettings, dialer: &OutboundDialer) -> Result<reqwest::Client, HttpSetupError> {
    builder(settings, dialer)
        .build()
        .map_err(|error| HttpSetupError(reason_of(&error)))
}

fn bound_connections(settings: &OutboundSettings, dialer: &OutboundDialer) -> Arc<BoundConnections> {
    Arc::new(BoundConnections::new(
        dialer.clone(),
        settings.requests_per_server,
    ))
}

fn builder(settings: &OutboundSettings, dialer: &OutboundDialer) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured((*dialer.tls).clone())
        .dns_resolver(CheckedResolver {
            lookup: Arc::clone(&dialer.lookup),
            rules: Arc::clone(&dialer.rules),
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
        .http1_max_headers(HEADER_LINES)
}
