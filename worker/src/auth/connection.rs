//! Signing connections in with an account and its password: NTLM, Kerberos and Negotiate.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use secrecy::SecretString;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::TenantId;
use tasksync_common::registry::{Credentials, SecretRef};
use tokio::sync::OwnedMutexGuard;
use url::Url;

use super::Authenticator;
use super::password_history::{Attempt, PasswordHistory};
use super::security_context::SecurityContext;
use crate::http::header::HeaderValue;
use crate::http::service::{self, Intent, sign_in_refused};
use crate::http::{CallError, ConnectionSignIn, Handshake, SignInToken, host_of};

/// How a request is signed in.
pub enum SignIn {
    /// By this `Authorization` header.
    Header(HeaderValue),
    /// By its connection.
    Connection(Arc<dyn ConnectionSignIn>),
}

/// Steps of handshakes at the same time. Each holds a thread of the runtime's blocking pool (512 threads).
pub(super) const HANDSHAKES_AT_ONCE: usize = 64;

/// Accounts at servers whose passwords' history is kept. Beyond this number those that are not in use are forgotten.
const MAXIMUM_ACCOUNTS: usize = 10_000;

impl Authenticator {
    /// Returns how requests of the tenant to `url` are signed in with these credentials.
    ///
    /// # Errors
    /// Those of [`Self::header`]. The sign-in of a connection fails only when a connection is opened.
    pub async fn sign_in(
        &self,
        tenant: &TenantId,
        credentials: &Arc<Credentials>,
        server: Server,
        url: &Url,
    ) -> Result<SignIn, Failure> {
        match &**credentials {
            Credentials::Basic { .. }
            | Credentials::OauthSecret { .. }
            | Credentials::OauthCertificate { .. } => self.header(credentials).await.map(SignIn::Header),
            Credentials::Ntlm { password, .. }
            | Credentials::Kerberos { password, .. }
            | Credentials::Negotiate { password, .. } => {
                // Everything that the credentials say, so that no two identities share a connection.
                let identity = format!("{tenant}\0{credentials:?}");
                Ok(SignIn::Connection(Arc::new(AccountSignIn {
                    auth: self.clone(),
                    tenant: tenant.clone(),
                    credentials: Arc::clone(credentials),
                    password: password.clone(),
                    server,
                    host: url.host_str().unwrap_or_default().to_owned(),
                    account: self.account(format!("{identity}\0{}", host_of(url))),
                    identity,
                })))
            }
        }
    }

    fn account(&self, name: String) -> Arc<Account> {
        let mut accounts = self.inner.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MAXIMUM_ACCOUNTS && !accounts.contains_key(&name) {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        Arc::clone(accounts.entry(name).or_default())
    }
}

/// Why a sign-in cannot go on.
pub(super) enum ContextError {
    /// This build has no NTLM and Kerberos.
    #[cfg_attr(
        feature = "sspi",
        expect(dead_code, reason = "builds without the feature make it")
    )]
    NotBuilt,
    /// The credentials are not in a form that the protocol has.
    Credentials(String),
    /// No key distribution centre answered a question.
    KdcUnreachable(String),
    /// A key distribution centre gave no ticket, because of the account or its password, or for another reason.
    KdcRefused { reason: String, account: bool },
    /// The server's token cannot be used.
    Token(String),
}

/// An account at a server, as all its connections share it.
#[derive(Default)]
pub(super) struct Account {
    history: Mutex<PasswordHistory>,
    /// Held by the one handshake that tries a password of which nothing is known yet. Ten requests at once must not
    /// try a wrong password ten times.
    trial: Arc<tokio::sync::Mutex<()>>,
    /// The position of the key distribution centre that answered last. It is asked first.
    kdc: Arc<AtomicUsize>,
}

impl Account {
    fn history(&self) -> MutexGuard<'_, PasswordHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An account that signs connections to one host in.
#[derive(Clone)]
struct AccountSignIn {
    auth: Authenticator,
    tenant: TenantId,
    credentials: Arc<Credentials>,
    password: SecretRef,
    server: Server,
    host: String,
    identity: String,
    account: Arc<Account>,
}

impl AccountSignIn {
    /// Checks that the password may be tried now.
    fn check(&self, password: &SecretString) -> Result<(), Failure> {
        match self.account.history().refusal(password, self.auth.now()) {
            None => Ok(()),
            Some(refusal) => {
                let often = match refusal.times {
                    1 => "once".to_owned(),
                    times => format!("{times} times in a row"),
                };
                let mut failure = refusal.failure;
                failure.detail = format!(
                    "not tried again before {}, because repeated attempts lock an account out; the present password was \
                     refused {often}: {}",
                    refusal.until, failure.detail
                );
                Err(failure)
            }
        }
    }
}

#[async_trait]
impl ConnectionSignIn for AccountSignIn {
    fn identity(&self) -> &str {
        &self.identity
    }

    async fn begin(&self) -> Result<Box<dyn Handshake>, Failure> {
        let password = self.auth.inner.secrets.read(&self.password, self.auth.now())?;
        self.check(&password)?;
        let mut trial = None;
        if !self.account.history().is_proven(&password) {
            let turn = Arc::clone(&self.account.trial).lock_owned().await;
            // The handshake before may have proven or disproven the password.
            self.check(&password)?;
            trial = (!self.account.history().is_proven(&password)).then_some(turn);
        }
        let context = SecurityContext::new(
            &self.credentials,
            &self.host,
            &password,
            self.auth.inner.http.clone(),
            Arc::clone(&self.account.kdc),
            Arc::clone(&self.auth.inner.handshakes),
        )
        .map_err(|error| self.failure(error))?;
        Ok(Box::new(AccountHandshake {
            sign_in: self.clone(),
            attempt: self.account.history().begin(),
            password,
            context,
            shown: false,
            _trial: trial,
        }))
    }
}

impl AccountSignIn {
    fn failure(&self, error: ContextError) -> Failure {
        let host = &self.host;
        match error {
            ContextError::NotBuilt => Failure::new(
                ErrorClass::Refused,
                Code::SignInNotBuilt,
                format!(
                    "{host}: this build has no NTLM and Kerberos; build tasksync with its default features"
                ),
            ),
            ContextError::Credentials(reason) => sign_in_refused(
                self.server,
                format!("{host}: the credentials cannot be used: {reason}"),
            ),
            ContextError::KdcUnreachable(reason) => Failure::new(
                ErrorClass::Transient,
                Code::KdcUnreachable,
                format!("{host}: no ticket: {reason}"),
            )
            .about(Scope::Server),
            ContextError::KdcRefused { reason, .. } => Failure::new(
                ErrorClass::Refused,
                Code::KdcRefused,
                format!("{host}: the key distribution centre gives no ticket: {reason}"),
            )
            .about(Scope::Server),
            ContextError::Token(reason) => {
                let error = CallError::NotSignedIn {
                    host: host.clone(),
                    reason: format!("the server's part cannot be used: {reason}"),
                };
                service::no_answer(self.server, &error, Intent::Read)
            }
        }
    }
}

/// The sign-in of one connection.
struct AccountHandshake {
    sign_in: AccountSignIn,
    attempt: Attempt,
    password: SecretString,
    context: SecurityContext,
    /// Whether a token that proves the password by NTLM was given. Domain controllers count its refusals.
    shown: bool,
    _trial: Option<OwnedMutexGuard<()>>,
}

#[async_trait]
impl Handshake for AccountHandshake {
    fn scheme(&self) -> &'static str {
        self.sign_in.credentials.scheme()
    }

    async fn step(
        &mut self,
        given: Option<String>,
        certificate: Option<Vec<u8>>,
    ) -> Result<SignInToken, Failure> {
        match self.context.step(given, certificate).await {
            Ok(token) => {
                self.shown |= token.may_complete && self.context.uses_ntlm();
                Ok(token)
            }
            Err(error) => {
                let (failure, is_of_the_account) = match error {
                    // A server may refuse a password with a token that says so.
                    ContextError::Token(reason) if self.shown => {
                        let detail =
                            format!("{}: refused after {}: {reason}", self.sign_in.host, self.scheme());
                        (sign_in_refused(self.sign_in.server, detail), true)
                    }
                    ContextError::KdcRefused { account, .. } => (self.sign_in.failure(error), account),
                    ContextError::Token(_)
                    | ContextError::NotBuilt
                    | ContextError::Credentials(_)
                    | ContextError::KdcUnreachable(_) => (self.sign_in.failure(error), false),
                };
                if is_of_the_account {
                    self.record_refusal(failure.clone());
                }
                Err(failure)
            }
        }
    }

    fn end(self: Box<Self>, accepted: bool) {
        if accepted {
            self.sign_in.account.history().accept(self.password.clone());
        } else if self.shown {
            let detail = format!("{}: HTTP 401 after {}", self.sign_in.host, self.scheme());
            self.record_refusal(sign_in_refused(self.sign_in.server, detail));
        }
    }
}

impl AccountHandshake {
    fn record_refusal(&self, failure: Failure) {
        let sign_in = &self.sign_in;
        tracing::warn!(
            tenant = %sign_in.tenant,
            host = sign_in.host,
            code = %failure.code,
            detail = failure.detail,
            "a sign-in was refused"
        );
        let now = sign_in.auth.now();
        sign_in
            .account
            .history()
            .refuse(self.attempt, self.password.clone(), failure, now);
    }
}
