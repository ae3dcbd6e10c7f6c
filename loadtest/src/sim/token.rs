//! A simulated OAuth 2.0 token endpoint: Entra's client credentials grant, with a secret or a signed assertion.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use ring::{digest, signature};
use serde_json::{Value, json};

use super::answers::Answer as Sent;
use super::clock::SimClock;
use super::faults::{Fault, Faults};
use super::http::{Handler, Reply, ReplyFuture};
use super::x509::{pem_content, rsa_public_key};
use crate::random::unique_id;

/// Returns the name of the client that a bearer token was issued to, or `None` if the token is not valid.
pub type TokenValidator = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Maximum number of tokens that are remembered. Beyond it, the tokens that expire first are forgotten.
const MAXIMUM_TOKENS: usize = 100_000;
/// Longest validity of an assertion that is accepted.
const MAXIMUM_ASSERTION_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// How far the clocks may differ when the times of an assertion are checked.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A client's certificate as registered.
#[derive(Debug, Clone)]
struct Certificate {
    /// `RSAPublicKey` in DER.
    public_key: Vec<u8>,
    /// base64url of SHA-1 and SHA-256 over the certificate.
    sha1: String,
    sha256: String,
}

#[derive(Debug, Default)]
struct Client {
    secrets: Vec<String>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Clone)]
struct Issued {
    client: String,
    audience: String,
    by_certificate: bool,
    expires: Timestamp,
}

#[derive(Debug, Default)]
struct TokenServerState {
    tenants: Vec<String>,
    clients: HashMap<String, Client>,
    tokens: HashMap<String, Issued>,
    issued: u64,
    lifetime: Option<SignedDuration>,
}

/// The endpoint: `POST /{tenant}/oauth2/v2.0/token`.
///
/// Faults: the operation is `token`, the subject the tenant.
#[derive(Debug, Default)]
pub struct TokenServer {
    /// The endpoint's clock.
    pub clock: SimClock,
    /// Faults on demand.
    pub faults: Faults,
    state: Mutex<TokenServerState>,
}

/// An error answer of the endpoint.
struct TokenRefusal {
    status: u16,
    error: &'static str,
    number: u32,
    text: String,
}

impl TokenRefusal {
    fn new(status: u16, error: &'static str, number: u32, text: impl Into<String>) -> Self {
        Self {
            status,
            error,
            number,
            text: text.into(),
        }
    }

    fn missing(parameter: &str) -> Self {
        let text = format!("The request body must contain the following parameter: '{parameter}'.");
        Self::new(400, "invalid_request", 900_144, text)
    }
}

impl TokenServer {
    /// Returns an endpoint without clients. It accepts every tenant.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a tenant that the endpoint accepts. As long as no tenant was added, it accepts every tenant.
    pub fn add_tenant(&self, tenant: &str) {
        self.state().tenants.push(tenant.to_lowercase());
    }

    /// Registers a client secret.
    pub fn add_secret(&self, client_id: &str, secret: &str) {
        self.state()
            .clients
            .entry(client_id.to_lowercase())
            .or_default()
            .secrets
            .push(secret.to_owned());
    }

    /// Registers a client's X.509 certificate with an RSA key.
    ///
    /// # Errors
    /// Reports a text that is not a PEM certificate, or a key that is not RSA.
    pub fn add_certificate(&self, client_id: &str, pem: &str) -> Result<(), String> {
        let der = pem_content(pem).ok_or("the text is not a PEM certificate")?;
        let certificate = Certificate {
            public_key: rsa_public_key(&der).ok_or("the certificate has no readable RSA public key")?,
            sha1: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der)),
            sha256: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der)),
        };
        self.state()
            .clients
            .entry(client_id.to_lowercase())
            .or_default()
            .certificates
            .push(certificate);
        Ok(())
    }

    /// Sets how long new tokens are valid; the default is 3599 s.
    pub fn set_lifetime(&self, lifetime: SignedDuration) {
        self.state().lifetime = Some(lifetime);
    }

    /// Invalidates every token issued so far.
    pub fn revoke_all(&self) {
        self.state().tokens.clear();
    }

    /// Returns how many tokens were issued.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.state().issued
    }

    /// Returns a validator for servers. It returns the client id of a valid token, whatever scope the token was issued
    /// for.
    #[must_use]
    pub fn validator(self: &Arc<Self>) -> TokenValidator {
        let server = Arc::clone(self);
        Arc::new(move |token| server.owner(token, None, false))
    }

    /// Returns a stricter validator: the token must be for `audience` (the scope without `/.default`) and, with
    /// `certificate_only`, must have been issued for a certificate, as SharePoint Online requires.
    #[must_use]
    pub fn validator_for(self: &Arc<Self>, audience: &str, certificate_only: bool) -> TokenValidator {
        let (server, audience) = (Arc::clone(self), audience.trim_end_matches('/').to_owned());
        Arc::new(move |token| server.owner(token, Some(&audience), certificate_only))
    }

    fn owner(&self, token: &str, audience: Option<&str>, certificate_only: bool) -> Option<String> {
        let now = self.clock.now();
        let state = self.state();
        let issued = state.tokens.get(token).filter(|issued| issued.expires > now)?;
        if certificate_only && !issued.by_certificate
            || audience.is_some_and(|wanted| wanted != issued.audience)
        {
            return None;
        }
        Some(issued.client.clone())
    }

    fn state(&self) -> MutexGuard<'_, TokenServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, tenant: &str, url: &str, body: &[u8]) -> Result<Value, TokenRefusal> {
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| {
            form.get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let tenant_exists = {
            let state = self.state();
            state.tenants.is_empty() || state.tenants.contains(&tenant.to_lowercase())
        };
        if !tenant_exists {
            let text =
                format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.");
            return Err(TokenRefusal::new(400, "invalid_request", 90_002, text));
        }
        match field("grant_type") {
            Some("client_credentials") => {}
            Some(other) => {
                let text = format!("The app requested an unsupported grant type '{other}'.");
                return Err(TokenRefusal::new(400, "unsupported_grant_type", 70_003, text));
            }
            None => return Err(TokenRefusal::missing("grant_type")),
        }
        let client_id = field("client_id")
            .ok_or_else(|| TokenRefusal::missing("client_id"))?
            .to_lowercase();
        let scope = field("scope").ok_or_else(|| TokenRefusal::missing("scope"))?;
        let audience = scope.strip_suffix("/.default").ok_or_else(|| {
            let text = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a \
                                scope value with /.default suffixed to the resource identifier."
            );
            TokenRefusal::new(400, "invalid_scope", 1_002_012, text)
        })?;
        let audience = audience.trim_end_matches('/').to_owned();
        let now = self.clock.now();
        let mut state = self.state();
        let client = state.clients.get(&client_id).ok_or_else(|| {
            let text = format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'."
            );
            TokenRefusal::new(400, "unauthorized_client", 700_016, text)
        })?;
        let by_certificate = match (field("client_secret"), field("client_assertion")) {
            (Some(secret), None) => {
                if !client.secrets.iter().any(|stored| stored == secret) {
                    let text = format!(
                        "Invalid client secret provided. Ensure the secret being sent in the request is the \
                                        client secret value, not the client secret ID, for a secret added to app \
                                        '{client_id}'."
                    );
                    return Err(TokenRefusal::new(401, "invalid_client", 7_000_215, text));
                }
                false
            }
            (None, Some(assertion)) => {
                let kind = field("client_assertion_type");
                if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
                    return Err(TokenRefusal::missing("client_assertion_type"));
                }
                check_assertion(client, &client_id, url, assertion, now)?;
                true
            }
            (Some(_), Some(_)) => {
                let text = "Both a client secret and a client assertion were sent; only one is allowed.";
                return Err(TokenRefusal::new(400, "invalid_request", 90_023, text));
            }
            (None, None) => {
                let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
                return Err(TokenRefusal::new(401, "invalid_client", 7_000_218, text));
            }
        };
        let lifetime = state.lifetime.unwrap_or(SignedDuration::from_secs(3599));
        let expires = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let token = format!("sim.{}", unique_id().simple());
        if state.tokens.len() >= MAXIMUM_TOKENS {
            state.tokens.retain(|_, issued| issued.expires > now);
            let soonest = state
                .tokens
                .iter()
                .min_by_key(|(_, issued)| issued.expires)
                .map(|(token, _)| token.clone());
            if let Some(soonest) = soonest.filter(|_| state.tokens.len() >= MAXIMUM_TOKENS) {
                state.tokens.remove(&soonest);
            }
        }
        state.issued += 1;
        state.tokens.insert(
            token.clone(),
            Issued {
                client: client_id,
                audience,
                by_certificate,
                expires,
            },
        );
        let seconds = lifetime.as_secs();
        Ok(
            json!({ "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token }),
        )
    }
}

impl Handler for TokenServer {
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            let date = self.clock.header();
            let mut reply = self.respond(request).await;
            if let (Reply::Answer(response), Some(date)) = (&mut reply, date) {
                response.headers_mut().insert(hyper::header::DATE, date);
            }
            reply
        })
    }
}

impl TokenServer {
    fn respond(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let host = request
                .headers()
                .get("host")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let Some(tenant) = path
                .strip_prefix('/')
                .and_then(|rest| rest.strip_suffix("/oauth2/v2.0/token"))
            else {
                return Reply::Answer(answer(404, &json!({ "error": "not_found" })));
            };
            if request.method() != hyper::Method::POST {
                return Reply::Answer(answer(405, &json!({ "error": "invalid_request" })));
            }
            let (mut lose, mut tamper) = (false, None);
            match self.faults.take("token", tenant, String::new) {
                None | Some(Fault::ExpireCursor | Fault::IgnoreFields(_)) => {}
                Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
                Some(Fault::Cut) => return Reply::Cut,
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::Instead(instead) | Fault::Afterwards(instead)) => {
                    return Reply::Answer(instead.into_response());
                }
                Some(Fault::Tamper(change)) => tamper = Some(change),
                Some(Fault::LoseResponse) => lose = true,
                Some(Fault::Status(status)) => return Reply::Answer(answer(status, &json!({}))),
                Some(Fault::Busy { pause, status, .. }) => {
                    let mut response = answer(
                        if status == 503 { 503 } else { 429 },
                        &json!({ "error": "temporarily_unavailable" }),
                    );
                    if let Some(pause) = pause {
                        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
                        response
                            .headers_mut()
                            .insert(hyper::header::RETRY_AFTER, seconds.into());
                    }
                    return Reply::Answer(response);
                }
                Some(Fault::Error(code)) => return Reply::Answer(answer(400, &json!({ "error": code }))),
                Some(Fault::Garbage) => {
                    let mut response = answer(200, &Value::Null);
                    *response.body_mut() = Bytes::from_static(b"<html>not a token");
                    return Reply::Answer(response);
                }
                Some(Fault::Huge(length)) => {
                    let prefix = Bytes::from_static(b"{\"access_token\":\"");
                    return Reply::Huge {
                        prefix,
                        length,
                        content_type: "application/json; charset=utf-8",
                    };
                }
            }
            let result = self.issue(tenant, &format!("{host}{path}"), request.body());
            if lose {
                return Reply::Cut;
            }
            let response = match result {
                Ok(token) => answer(200, &token),
                Err(refusal) => {
                    let time = self.clock.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                    let (trace, correlation) = (unique_id(), unique_id());
                    let description = format!(
                        "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
                        refusal.number, refusal.text
                    );
                    let body = json!({
                        "error": refusal.error,
                        "error_description": description,
                        "error_codes": [refusal.number],
                        "timestamp": time,
                        "trace_id": trace.to_string(),
                        "correlation_id": correlation.to_string(),
                    });
                    answer(refusal.status, &body)
                }
            };
            Reply::Answer(match tamper {
                Some(tamper) => tamper.apply(Sent::of(response)).into_response(),
                None => response,
            })
        })
    }
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::OK);
    let json = hyper::header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// Checks a client assertion; `url` is the endpoint's address without scheme.
fn check_assertion(
    client: &Client,
    client_id: &str,
    url: &str,
    assertion: &str,
    now: Timestamp,
) -> Result<(), TokenRefusal> {
    let malformed = || {
        TokenRefusal::new(
            401,
            "invalid_client",
            50_027,
            "JWT token is invalid or malformed.",
        )
    };
    let mut parts = assertion.splitn(3, '.');
    let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let json =
        |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (head, body) = (
        json(header).ok_or_else(malformed)?,
        json(claims).ok_or_else(malformed)?,
    );
    let sealed = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let algorithm: &dyn signature::VerificationAlgorithm = match text(&head, "alg").as_str() {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        _ => return Err(malformed()),
    };
    let (sha1, sha256) = (text(&head, "x5t"), text(&head, "x5t#S256"));
    let named = |certificate: &&Certificate| certificate.sha1 == sha1 || certificate.sha256 == sha256;
    let unknown = |reason: &str| {
        let shown = if sha256.is_empty() { &sha1 } else { &sha256 };
        let text = format!(
            "The certificate with identifier used to sign the client assertion is not registered on \
                            application. [Reason - {reason}, Thumbprint of key used by client: '{shown}']"
        );
        TokenRefusal::new(401, "invalid_client", 700_027, text)
    };
    let certificate = client
        .certificates
        .iter()
        .find(named)
        .ok_or_else(|| unknown("The key was not found."))?;
    let signed = format!("{header}.{claims}");
    signature::UnparsedPublicKey::new(algorithm, &certificate.public_key)
        .verify(signed.as_bytes(), &sealed)
        .map_err(|_| unknown("The signature is invalid."))?;
    let wrong_claims = |text: String| TokenRefusal::new(401, "invalid_client", 700_021, text);
    for claim in ["iss", "sub"] {
        if !text(&body, claim).eq_ignore_ascii_case(client_id) {
            return Err(wrong_claims(format!(
                "Client assertion claim '{claim}' does not match the client id."
            )));
        }
    }
    let audience = text(&body, "aud");
    if audience.split_once("://").map(|(_, rest)| rest) != Some(url) {
        let text = format!("Assertion audience claim does not match Realm issuer: '{audience}'.");
        return Err(TokenRefusal::new(401, "invalid_client", 700_023, text));
    }
    let time = |name: &str| {
        body.get(name)
            .and_then(Value::as_i64)
            .and_then(|second| Timestamp::from_second(second).ok())
    };
    let expires = time("exp").ok_or_else(malformed)?;
    let starts = time("nbf").unwrap_or(now);
    let late = now.duration_since(expires) > CLOCK_TOLERANCE;
    let early = starts.duration_since(now) > CLOCK_TOLERANCE;
    if late || early || expires.duration_since(starts) > MAXIMUM_ASSERTION_LIFETIME {
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {now}, expiry time of \
                            assertion: {expires}."
        );
        return Err(TokenRefusal::new(401, "invalid_client", 700_024, text));
    }
    Ok(())
}
