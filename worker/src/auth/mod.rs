//! Signing in: Basic; OAuth 2.0 client credentials with a secret or a certificate; and NTLM, Kerberos and Negotiate,
//! which sign connections in instead of requests.

mod assertion;
mod check;
mod connection;
mod endpoint;
#[cfg(feature = "sspi")]
mod kdc;
#[cfg(feature = "sspi")]
mod kerberos_binding;
mod password_history;
mod scrub;
mod secret;
#[cfg(feature = "sspi")]
mod security_context;
#[cfg(not(feature = "sspi"))]
#[path = "security_context_absent.rs"]
mod security_context;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Server};
use tasksync_common::registry::{Credentials, SecretRef};
use tasksync_common::settings::SecretsSettings;
use tokio::sync::Semaphore;
use url::Url;

use crate::http::service::{self, Intent};
use crate::http::{Http, HttpRequest, host_of, secret_header};
use crate::throttle::{ServerLimits, Servers};
use assertion::KeyError;
pub use connection::SignIn;
use connection::{Account, HANDSHAKES_AT_ONCE};
use endpoint::Proof;
use secret::{Secrets, unavailable};
use token::{AccessToken, TokenState, TokenStep};

/// Timeout of a request to a token endpoint.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Applications whose tokens are kept. Beyond this number the token that expires first is dropped, and
/// requested again when it is needed.
const MAXIMUM_APPLICATIONS: usize = 10_000;

/// Signs requests and connections in: makes `Authorization` headers, keeps tokens until shortly before they expire, and
/// leads the handshakes of connections. Cheap to clone; clones share tokens.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<AuthenticatorInner>,
}

struct AuthenticatorInner {
    http: Http,
    /// Where the pauses of token endpoints are kept, for all workers.
    servers: Option<Servers>,
    secrets: Secrets,
    applications: Mutex<HashMap<String, Arc<Application>>>,
    /// Accounts that sign connections in, by [`crate::http::ConnectionSignIn::identity`] and host.
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    /// Places for steps of handshakes, each of which holds a thread while it asks a key distribution centre.
    handshakes: Arc<Semaphore>,
}

/// One application at one token endpoint with one scope.
#[derive(Default)]
struct Application {
    state: Mutex<TokenState>,
    /// Held by the one caller that asks the endpoint.
    request_lock: tokio::sync::Mutex<()>,
    /// The last signed assertion that was sent; it is valid for some minutes.
    assertion: Mutex<Option<SecretString>>,
}

impl Application {
    /// Remembers an assertion, because a server may repeat it.
    fn keep(&self, proof: &Proof) {
        if let Proof::Assertion(assertion) = proof {
            *self.assertion() = Some(assertion.clone());
        }
    }

    fn assertion(&self) -> MutexGuard<'_, Option<SecretString>> {
        self.assertion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials that need a token, in parts.
struct Grant<'c> {
    token_url: &'c Url,
    client_id: &'c str,
    scope: &'c str,
    key: ClientKey<'c>,
}

enum ClientKey<'c> {
    Secret(&'c SecretRef),
    Certificate {
        private_key: &'c SecretRef,
        certificate: &'c SecretRef,
    },
}

impl<'c> Grant<'c> {
    fn of(credentials: &'c Credentials) -> Option<Self> {
        match credentials {
            Credentials::Basic { .. }
            | Credentials::Ntlm { .. }
            | Credentials::Kerberos { .. }
            | Credentials::Negotiate { .. } => None,
            Credentials::OauthSecret {
                token_url,
                client_id,
                scope,
                secret,
            } => Some(Self {
                token_url,
                client_id,
                scope,
                key: ClientKey::Secret(secret),
            }),
            Credentials::OauthCertificate {
                token_url,
                client_id,
                scope,
                private_key,
                certificate,
            } => Some(Self {
                token_url,
                client_id,
                scope,
                key: ClientKey::Certificate {
                    private_key,
                    certificate,
                },
            }),
        }
    }

    /// Returns the key under which the application's token is kept. It contains everything, including the
    /// names of the secrets, so that no tenant obtains a token by knowing only an application's id.
    fn name(&self) -> String {
        let key = match self.key {
            ClientKey::Secret(secret) => secret.to_string(),
            ClientKey::Certificate {
                private_key,
                certificate,
            } => format!("{private_key}\0{certificate}"),
        };
        format!("{}\0{}\0{}\0{key}", self.token_url, self.client_id, self.scope)
    }
}

impl Authenticator {
    /// Returns an authenticator that reads secrets as `secrets` allows, and calls token endpoints through `http`.
    #[must_use]
    pub fn new(http: Http, secrets: SecretsSettings) -> Self {
        Self::with(http, secrets, None)
    }

    /// As [`Self::new`], with the endpoints' pauses kept beside those of other servers, where the operator
    /// sees them and may end them.
    #[must_use]
    pub fn with_pauses_in(http: Http, secrets: SecretsSettings, servers: Servers) -> Self {
        Self::with(http, secrets, Some(servers))
    }

    fn with(http: Http, secrets: SecretsSettings, servers: Option<Servers>) -> Self {
        Self {
            inner: Arc::new(AuthenticatorInner {
                http,
                servers,
                secrets: Secrets::new(secrets),
                applications: Mutex::default(),
                accounts: Mutex::default(),
                handshakes: Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE)),
            }),
        }
    }

    /// Returns the `Authorization` header for these credentials. One request is made, however many calls need
    /// a token at the same time.
    ///
    /// # Errors
    /// - `SecretNotAllowed`, `SecretUnavailable`, `TokenRefused`, `AddressRefused`: permanent for the tenant.
    /// - `SecretUnavailable`, too, for credentials that sign connections in, which have no header.
    /// - `TokenUnreachable`: transient, or throttled if the endpoint asks for a pause.
    ///
    /// A failure is returned again for 2 s to 1 min, or for the named pause, before the endpoint is asked
    /// again.
    pub async fn header(&self, credentials: &Credentials) -> Result<HeaderValue, Failure> {
        match Grant::of(credentials) {
            Some(grant) => self.token(&grant).await,
            None => self.basic(credentials),
        }
    }

    /// Forgets a token that a server refused, so that the next call asks for a new one. Returns `false` if
    /// another attempt makes no sense: the token is fresh (it is replaced at most once a minute), or Basic
    /// credentials are unchanged.
    #[must_use]
    pub fn renew(&self, credentials: &Credentials) -> bool {
        let now = self.now();
        match (Grant::of(credentials), credentials) {
            (Some(grant), _) => self.application(&grant, now).state().refused(now),
            (
                None,
                Credentials::Basic { password, .. }
                | Credentials::Ntlm { password, .. }
                | Credentials::Kerberos { password, .. }
                | Credentials::Negotiate { password, .. },
            ) => self.inner.secrets.renew(password, now),
            (None, Credentials::OauthSecret { .. } | Credentials::OauthCertificate { .. }) => false,
        }
    }

    /// Returns the text without the secrets of these credentials, in any form in which a server may repeat
    /// them: the password, the header in which it is sent, the application's secret, its token, its last
    /// assertion, and the secrets `given` by the server.
    #[must_use]
    pub fn hide_secrets(&self, credentials: &Credentials, given: &[SecretString], text: String) -> String {
        if text.is_empty() {
            return text;
        }
        let now = self.now();
        let read = |name| self.inner.secrets.read(name, now).ok();
        let (secret, sent) = match credentials {
            Credentials::Basic { password, .. } => (read(password), self.basic(credentials).ok()),
            Credentials::Ntlm { password, .. }
            | Credentials::Kerberos { password, .. }
            | Credentials::Negotiate { password, .. } => (read(password), None),
            Credentials::OauthSecret { secret, .. } => (read(secret), self.cached_token(credentials, now)),
            Credentials::OauthCertificate { .. } => (None, self.cached_token(credentials, now)),
        };
        let sent = sent.as_ref().and_then(|header| header.to_str().ok());
        let sent = sent
            .and_then(|header| header.split_once(' '))
            .map(|(_, sent)| sent);
        let assertion = self.last_assertion(credentials);
        let secrets: Vec<&str> = [&secret, &assertion]
            .into_iter()
            .flatten()
            .chain(given)
            .map(secrecy::ExposeSecret::expose_secret)
            .chain(sent)
            .collect();
        scrub::hide_connection_tokens(&scrub::hide(text, &secrets))
    }

    fn last_assertion(&self, credentials: &Credentials) -> Option<SecretString> {
        let application = self.application(&Grant::of(credentials)?, self.now());
        application.assertion().clone()
    }

    fn cached_token(&self, credentials: &Credentials, now: Timestamp) -> Option<HeaderValue> {
        let grant = Grant::of(credentials)?;
        match self.application(&grant, now).state().step(now) {
            TokenStep::Use(header) | TokenStep::Renew(header) => Some(header),
            TokenStep::Obtain | TokenStep::Fail(_) => None,
        }
    }

    fn now(&self) -> Timestamp {
        self.inner.http.clock().now()
    }

    fn basic(&self, credentials: &Credentials) -> Result<HeaderValue, Failure> {
        let Credentials::Basic { user, password } = credentials else {
            return Err(Failure::new(
                ErrorClass::Refused,
                Code::SecretUnavailable,
                "these credentials have no header: they sign connections in",
            ));
        };
        // RFC 7617, section 2: the first colon ends the user name.
        if user.contains(':') {
            return Err(Failure::new(
                ErrorClass::Refused,
                Code::SecretUnavailable,
                "the user name holds a colon, which Basic authentication cannot carry",
            ));
        }
        let secret = self.inner.secrets.read(password, self.now())?;
        let text =
            base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", secret.expose_secret()));
        secret_header(&format!("Basic {text}")).map_err(|error| unavailable(password, &error.to_string()))
    }

    async fn token(&self, grant: &Grant<'_>) -> Result<HeaderValue, Failure> {
        let application = self.application(grant, self.now());
        let limits = self.limits(grant);
        let limits = limits.as_deref();
        let first = self.step(&application, limits);
        let _asking = match first {
            TokenStep::Use(header) => return Ok(header),
            TokenStep::Fail(failure) => return Err(failure),
            TokenStep::Renew(header) => match application.request_lock.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(header),
            },
            TokenStep::Obtain => application.request_lock.lock().await,
        };
        // The previous caller may have obtained the token for all.
        match self.step(&application, limits) {
            TokenStep::Use(header) => return Ok(header),
            TokenStep::Fail(failure) => return Err(failure),
            TokenStep::Renew(_) | TokenStep::Obtain => {}
        }
        let result = self.ask(grant).await;
        if let Err(failure) = &result {
            tracing::warn!(
                code = %failure.code,
                class = failure.class.name(),
                detail = failure.detail,
                "no token"
            );
        }
        let now = self.now();
        let mut state = application.state();
        let recorded = state.record(result, now);
        if let (Some(limits), Some(left)) = (limits, state.pause_asked_for(now)) {
            record::pause(Server::Token);
            let until = SignedDuration::try_from(left)
                .ok()
                .and_then(|left| now.checked_add(left).ok());
            limits.pause_until(
                until.unwrap_or(Timestamp::MAX),
                None,
                "the token endpoint is busy",
            );
        }
        recorded
    }

    /// Returns what to do now. If the pauses are shared, the endpoint's pause is the one that all workers
    /// know.
    fn step(&self, application: &Application, limits: Option<&ServerLimits>) -> TokenStep {
        let now = self.now();
        let mut state = application.state();
        let Some(limits) = limits else {
            return state.step(now);
        };
        let Some(paused) = limits.pause_failure() else {
            state.end_pause();
            return state.step(now);
        };
        match state.step(now) {
            TokenStep::Renew(header) | TokenStep::Use(header) => TokenStep::Use(header),
            TokenStep::Obtain => {
                record::unsent_request(Server::Token);
                TokenStep::Fail(paused)
            }
            TokenStep::Fail(failure) => TokenStep::Fail(failure),
        }
    }

    fn limits(&self, grant: &Grant<'_>) -> Option<Arc<ServerLimits>> {
        let servers = self.inner.servers.as_ref()?;
        Some(servers.limits_of(grant.token_url, Server::Token, grant.client_id))
    }

    async fn ask(&self, grant: &Grant<'_>) -> Result<AccessToken, Failure> {
        let proof = self.proof(grant)?;
        self.application(grant, self.now()).keep(&proof);
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let call = HttpRequest {
            method: crate::http::Method::POST,
            url: grant.token_url.clone(),
            server: Server::Token,
            payer: host_of(grant.token_url).into(),
            operation: "token",
            headers,
            body: endpoint::form(grant.client_id, grant.scope, &proof),
            timeout: TOKEN_TIMEOUT,
            sign_in: None,
        };
        let answer = self.inner.http.send(call).await.map_err(|error| {
            service::no_answer(Server::Token, &error, Intent::Read).within("token endpoint")
        })?;
        endpoint::read(
            grant.token_url,
            answer.status,
            &answer.headers,
            &answer.body,
            &proof,
            self.now(),
        )
    }

    fn proof(&self, grant: &Grant<'_>) -> Result<Proof, Failure> {
        let now = self.now();
        let secrets = &self.inner.secrets;
        match grant.key {
            ClientKey::Secret(secret) => Ok(Proof::Secret(secrets.read(secret, now)?)),
            ClientKey::Certificate {
                private_key,
                certificate,
            } => assertion::sign(
                grant.token_url,
                grant.client_id,
                &secrets.read(private_key, now)?,
                &secrets.read(certificate, now)?,
                now,
            )
            .map(Proof::Assertion)
            .map_err(|error| match error {
                KeyError::Key(reason) => unavailable(private_key, &reason),
                KeyError::Certificate(reason) => unavailable(certificate, &reason),
            }),
        }
    }

    fn application(&self, grant: &Grant<'_>, now: Timestamp) -> Arc<Application> {
        let mut applications = self
            .inner
            .applications
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = grant.name();
        if let Some(application) = applications.get(&name) {
            return Arc::clone(application);
        }
        if applications.len() >= MAXIMUM_APPLICATIONS {
            evict_application(&mut applications, now);
        }
        Arc::clone(applications.entry(name).or_default())
    }
}

/// Removes every application that has no valid token and is not in use. If there is none, removes the one
/// whose token expires first.
fn evict_application(applications: &mut HashMap<String, Arc<Application>>, now: Timestamp) {
    let before = applications.len();
    let in_use = |application: &Arc<Application>| Arc::strong_count(application) > 1;
    applications.retain(|_, application| {
        in_use(application) || application.state().expires().is_some_and(|expires| expires > now)
    });
    if applications.len() < before {
        return;
    }
    let first = applications
        .iter()
        .filter(|(_, application)| !in_use(application))
        .min_by_key(|(_, application)| application.state().expires())
        .map(|(name, _)| name.clone());
    if let Some(name) = first {
        applications.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::clock::ManualClock;
    use tasksync_common::settings::OutboundSettings;

    use super::*;

    fn with_token(expires: Timestamp) -> Arc<Application> {
        let application = Arc::new(Application::default());
        let token = AccessToken {
            header: HeaderValue::from_static("Bearer x"),
            obtained: Timestamp::UNIX_EPOCH,
            expires,
        };
        application
            .state()
            .record(Ok(token), Timestamp::UNIX_EPOCH)
            .unwrap();
        application
    }

    #[test]
    fn the_number_of_applications_is_limited() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let http = Http::new(OutboundSettings::default(), ManualClock::at(now)).unwrap();
        let authenticator = Authenticator::new(http, SecretsSettings::default());
        let fill = |life: i64| {
            let mut applications = authenticator.inner.applications.lock().unwrap();
            applications.clear();
            for number in 0..MAXIMUM_APPLICATIONS {
                let expires =
                    Timestamp::from_second(1_800_000_000 + life * (1 + i64::try_from(number).unwrap()))
                        .unwrap();
                applications.insert(number.to_string(), with_token(expires));
            }
        };
        let secret = SecretRef::Environment("TASKSYNC_UNUSED".to_owned());
        let url = Url::parse("https://login.example/token").unwrap();
        let grant = Grant {
            token_url: &url,
            client_id: "app",
            scope: "scope",
            key: ClientKey::Secret(&secret),
        };
        let names = |name: &str| {
            let applications = authenticator.inner.applications.lock().unwrap();
            (applications.len(), applications.contains_key(name))
        };
        // All tokens are valid: the one that expires first is removed.
        fill(1);
        let used = authenticator.application(&grant, now);
        assert_eq!(names("0"), (MAXIMUM_APPLICATIONS, false));
        assert!(names("1").1);
        assert!(Arc::ptr_eq(&used, &authenticator.application(&grant, now)));
        // All have expired: all are removed except one that is in use.
        fill(-1);
        let application_in_use = Arc::clone(&authenticator.inner.applications.lock().unwrap()["7"]);
        authenticator.application(&grant, now);
        assert_eq!(names("7"), (2, true));
        drop(application_in_use);
    }
}
