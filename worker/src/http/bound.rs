//! Requests on connections that are signed in themselves, as NTLM and Negotiate do (RFC 4559). A connection belongs to
//! one identity at one server, is signed in by a handshake of its own, and carries one request at a time.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use tasksync_common::error::Failure;
use url::Url;

use super::bound_connection::{BoundConnection, IdleConnections, Unanswered};
use super::dial::OutboundDialer;
use super::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use super::schemes::given_token;
use super::{CallError, HttpRequest, Method, secret_header};

/// Requests of one handshake. NTLM needs two, NTLM inside Negotiate after a refused Kerberos ticket three.
const MOST_STEPS: usize = 5;

/// Bytes of an answer between the steps of a handshake that are read. The answer is an error page.
const STEP_ANSWER_BYTES: usize = 256 * 1024;

/// Signs connections in for one identity at one server.
#[async_trait]
pub trait ConnectionSignIn: Send + Sync {
    /// Returns the name under which connections are kept. It contains everything that distinguishes one identity from
    /// another, the tenant included.
    fn identity(&self) -> &str;

    /// Begins the handshake for one new connection.
    ///
    /// # Errors
    /// The sign-in cannot be tried now.
    async fn begin(&self) -> Result<Box<dyn Handshake>, Failure>;
}

/// The sign-in of one connection.
#[async_trait]
pub trait Handshake: Send {
    /// Returns the scheme in `Authorization` and `WWW-Authenticate`.
    fn scheme(&self) -> &'static str;

    /// Returns the next token for the server, given the token of its last answer (base64; `None` at the beginning).
    /// `certificate` is what the server showed on this connection (DER; `None` without encryption).
    ///
    /// # Errors
    /// The server's token cannot be used, or a key distribution centre gives no ticket.
    async fn step(
        &mut self,
        given: Option<String>,
        certificate: Option<Vec<u8>>,
    ) -> Result<SignInToken, Failure>;

    /// Records whether the server accepted the sign-in.
    fn end(self: Box<Self>, accepted: bool);
}

/// A token for the server.
pub struct SignInToken {
    /// The token in base64.
    pub value: String,
    /// Whether the server may accept the sign-in after this token, so that the request itself goes with it.
    pub may_complete: bool,
}

/// Opens connections, and keeps those that are signed in and carry no request.
pub(super) struct BoundConnections {
    dialer: OutboundDialer,
    idle: Arc<IdleConnections>,
}

/// An answer whose body is not read yet, and its connection.
pub(super) struct BoundAnswer {
    pub(super) response: reqwest::Response,
    pub(super) connection: UsedConnection,
}

/// A connection whose answer is being read. Closed when dropped.
pub(super) struct UsedConnection {
    idle: Arc<IdleConnections>,
    name: String,
    connection: BoundConnection,
    /// Whether the connection can carry further requests of its identity.
    is_signed_in: bool,
}

impl UsedConnection {
    /// Makes the connection available for the next request if it is signed in. The body of the answer has been read.
    pub(super) fn release(self) {
        if self.is_signed_in && !self.connection.is_closed() {
            self.idle.put(self.name, self.connection);
        }
    }
}

impl BoundConnections {
    /// Returns no connection yet. At most `most_idle` unused connections are kept for an identity at a server.
    pub(super) fn new(dialer: OutboundDialer, most_idle: usize) -> Self {
        Self {
            dialer,
            idle: Arc::new(IdleConnections::new(most_idle)),
        }
    }

    /// Sends the request on a connection of the identity. A connection on which the server asks for a sign-in again is
    /// given up, and the request goes once more on a new one: the server did not carry it out.
    pub(super) async fn send(
        &self,
        call: &HttpRequest,
        sign_in: &dyn ConnectionSignIn,
        host: &str,
    ) -> Result<BoundAnswer, CallError> {
        let name = format!("{}\0{}://{host}", sign_in.identity(), call.url.scheme());
        while let Some(mut connection) = self.idle.take(&name) {
            match connection.send(request(call, None, true), host).await {
                Ok(response) if response.status() != hyper::StatusCode::UNAUTHORIZED => {
                    return Ok(self.answer(name, connection, response, true));
                }
                Ok(_) => break,
                Err(Unanswered::NotSent) => {}
                Err(Unanswered::Failed(error)) => return Err(error),
            }
        }
        self.send_on_new(call, sign_in, name, host).await
    }

    /// Opens a connection and signs it in. The request goes with each token after which the sign-in may be complete.
    async fn send_on_new(
        &self,
        call: &HttpRequest,
        sign_in: &dyn ConnectionSignIn,
        name: String,
        host: &str,
    ) -> Result<BoundAnswer, CallError> {
        let mut handshake = sign_in.begin().await.map_err(CallError::SignIn)?;
        let mut connection = self.open(&call.url, host).await?;
        let scheme = handshake.scheme();
        let mut given = None;
        for _ in 0..MOST_STEPS {
            let token = handshake
                .step(given.take(), connection.certificate.clone())
                .await
                .map_err(CallError::SignIn)?;
            let authorization = secret_header(&format!("{scheme} {}", token.value))
                .map_err(|error| interrupted(host, &error.to_string()))?;
            let sent = request(call, Some(authorization), token.may_complete);
            let response = match (connection.send(sent, host).await, token.may_complete) {
                (Ok(response), _) => response,
                (Err(Unanswered::Failed(error)), true) => return Err(error),
                (Err(Unanswered::Failed(error)), false) => return Err(interrupted(host, &error.to_string())),
                (Err(Unanswered::NotSent), _) => {
                    return Err(interrupted(host, "the server closed the connection"));
                }
            };
            let next = given_token(scheme, response.headers()).map(str::to_owned);
            match next_step(response.status().as_u16(), next, token.may_complete) {
                NextStep::Continue(next) => {
                    given = Some(next);
                    drain(response, host)
                        .await
                        .map_err(|error| interrupted(host, &error.to_string()))?;
                }
                NextStep::Refused => {
                    handshake.end(false);
                    return Ok(self.answer(name, connection, response, false));
                }
                NextStep::NotSignedIn => return Ok(self.answer(name, connection, response, false)),
                NextStep::Accepted => {
                    handshake.end(true);
                    return Ok(self.answer(name, connection, response, true));
                }
                NextStep::Answered => return Ok(self.answer(name, connection, response, true)),
                NextStep::Unexpected => return Err(unexpected(host, response.status().as_u16())),
            }
        }
        handshake.end(false);
        Err(unexpected(host, hyper::StatusCode::UNAUTHORIZED.as_u16()))
    }

    fn answer(
        &self,
        name: String,
        connection: BoundConnection,
        response: Response<hyper::body::Incoming>,
        is_signed_in: bool,
    ) -> BoundAnswer {
        BoundAnswer {
            response: plain(response),
            connection: UsedConnection {
                idle: Arc::clone(&self.idle),
                name,
                connection,
                is_signed_in,
            },
        }
    }

    async fn open(&self, url: &Url, host: &str) -> Result<BoundConnection, CallError> {
        let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(CallError::AddressRefused(format!("{host} is no address")));
        };
        if url.scheme() == "https" {
            let stream = self.dialer.tls(name, port).await?;
            let certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|leaf| leaf.to_vec());
            BoundConnection::over(stream, certificate, host).await
        } else {
            BoundConnection::over(self.dialer.tcp(name, port).await?, None, host).await
        }
    }
}

/// What an answer to a step of a handshake means.
#[derive(Debug, PartialEq, Eq)]
enum NextStep {
    /// The server gave this token for the next step.
    Continue(String),
    /// The server refused the sign-in.
    Refused,
    /// The server refused before it saw a proof of the password, or is busy. The answer is the call's.
    NotSignedIn,
    /// The server accepted the sign-in and answered the request.
    Accepted,
    /// The server answered the request with an error, which does not show whether it accepted the sign-in.
    Answered,
    /// The server answered a request without its body.
    Unexpected,
}

/// Returns the meaning of an answer with this status and token. `may_complete` says whether the request itself was
/// sent, with a token that proves the password.
fn next_step(status: u16, token: Option<String>, may_complete: bool) -> NextStep {
    match (status, token, may_complete) {
        (401, Some(token), _) => NextStep::Continue(token),
        (401, None, true) => NextStep::Refused,
        // A busy server asks for a pause whatever it is asked.
        (401, None, false) | (429 | 503, _, false) => NextStep::NotSignedIn,
        (_, _, false) => NextStep::Unexpected,
        (200..=399, _, true) => NextStep::Accepted,
        (_, _, true) => NextStep::Answered,
    }
}

/// Returns the request in the form that a server (not a proxy) receives; without its body if `whole` is false.
fn request(call: &HttpRequest, authorization: Option<HeaderValue>, whole: bool) -> Request<Full<Bytes>> {
    let body = if whole { call.body.clone() } else { Bytes::new() };
    let is_empty = body.is_empty();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = call.method.clone();
    let target = match call.url.query() {
        Some(query) => format!("{}?{query}", call.url.path()),
        None => call.url.path().to_owned(),
    };
    // The parser of URLs has encoded everything that is not allowed here.
    *request.uri_mut() = target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    *headers = call.headers.clone();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Ok(host) = HeaderValue::from_str(&authority(&call.url)) {
        headers.insert(HOST, host);
    }
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    if is_empty {
        headers.remove(CONTENT_TYPE);
        if call.method != Method::GET {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    request
}

/// Returns host and port as the `Host` header has them: without the scheme's own port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns the answer in the form in which the shared client gives its answers.
fn plain(response: Response<hyper::body::Incoming>) -> reqwest::Response {
    response.map(reqwest::Body::wrap).into()
}

/// Reads an answer to its end, after which the connection can carry the next step.
async fn drain(response: Response<hyper::body::Incoming>, host: &str) -> Result<(), CallError> {
    let mut response = plain(response);
    let mut read = 0;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| super::explain::call_error(error, host))?
    {
        read += chunk.len();
        if read > STEP_ANSWER_BYTES {
            return Err(CallError::TooLarge {
                host: host.to_owned(),
                limit: STEP_ANSWER_BYTES,
            });
        }
    }
    Ok(())
}

fn unexpected(host: &str, status: u16) -> CallError {
    interrupted(host, &format!("the server answered with HTTP {status}"))
}

/// Returns the error of a sign-in that ended before the request was carried out.
fn interrupted(host: &str, why: &str) -> CallError {
    CallError::NotSignedIn {
        host: host.to_owned(),
        reason: why.to_owned(),
    }
}

impl fmt::Debug for BoundConnections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BoundConnections").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_proof_of_the_password_can_be_refused_or_accepted() {
        let token = || Some("TlRMTVNTUAAC".to_owned());
        for (status, given, may_complete, meaning) in [
            (401, token(), false, NextStep::Continue("TlRMTVNTUAAC".to_owned())),
            (401, token(), true, NextStep::Continue("TlRMTVNTUAAC".to_owned())),
            (401, None, false, NextStep::NotSignedIn),
            (401, None, true, NextStep::Refused),
            (200, None, true, NextStep::Accepted),
            (200, token(), true, NextStep::Accepted),
            (404, None, true, NextStep::Answered),
            (500, None, true, NextStep::Answered),
            (503, None, false, NextStep::NotSignedIn),
            (504, None, false, NextStep::Unexpected),
            (200, None, false, NextStep::Unexpected),
            (404, None, false, NextStep::Unexpected),
            (403, None, false, NextStep::Unexpected),
        ] {
            assert_eq!(
                next_step(status, given, may_complete),
                meaning,
                "{status} {may_complete}"
            );
        }
    }

    #[test]
    fn a_step_that_completes_nothing_goes_without_the_body() {
        let call = HttpRequest {
            method: Method::POST,
            url: "https://mail.example:8443/EWS/Exchange.asmx?a=b".parse().unwrap(),
            server: tasksync_common::metrics::record::Server::Ews,
            payer: "contoso".into(),
            operation: "GetItem",
            headers: [(CONTENT_TYPE, HeaderValue::from_static("text/xml"))]
                .into_iter()
                .collect(),
            body: Bytes::from_static(b"<soap/>"),
            timeout: Duration::from_secs(1),
            sign_in: None,
        };
        let empty = request(&call, Some(HeaderValue::from_static("NTLM x")), false);
        assert_eq!(empty.headers()[CONTENT_LENGTH], "0");
        assert!(!empty.headers().contains_key(CONTENT_TYPE));
        let whole = request(&call, None, true);
        assert_eq!(whole.uri(), "/EWS/Exchange.asmx?a=b");
        assert_eq!(whole.headers()[HOST], "mail.example:8443");
        assert_eq!(whole.headers()[CONTENT_TYPE], "text/xml");
        assert!(!whole.headers().contains_key(AUTHORIZATION));
    }
}
