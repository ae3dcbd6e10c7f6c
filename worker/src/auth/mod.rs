//! Proving who tasksync is: Basic, and OAuth 2.0 client credentials with a secret or a certificate.

use base64::Engine as _;
use reqwest::header::HeaderValue;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::registry::{Credentials, SecretRef};

use crate::http::{Http, secret_header};

/// Makes `Authorization` headers; keeps tokens until shortly before they expire.
#[derive(Clone)]
pub struct Authenticator {
    #[expect(dead_code, reason = "token endpoints are called through it")]
    http: Http,
}

impl Authenticator {
    /// An authenticator that calls token endpoints through `http`.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self { http }
    }

    /// The `Authorization` header for these credentials.
    ///
    /// # Errors
    /// `SecretUnavailable`, `TokenRefused` (both tenant-permanent), `TokenUnreachable` (transient).
    pub async fn header(&self, credentials: &Credentials) -> Result<HeaderValue, Failure> {
        match credentials {
            Credentials::Basic { user, password } => {
                let password = read_secret(password)?;
                let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                secret_header(&format!("Basic {text}")).map_err(|error| {
                    Failure::new(
                        ErrorClass::TenantPermanent,
                        Code::SecretUnavailable,
                        error.to_string(),
                    )
                })
            }
            Credentials::OauthSecret { .. } | Credentials::OauthCertificate { .. } => Err(Failure::new(
                ErrorClass::TenantPermanent,
                Code::TokenRefused,
                "token endpoints are not asked yet",
            )),
        }
    }

    /// Forgets a token that a server refused, so that the next call asks for a new one. `false` when there is nothing
    /// to renew (Basic), so that trying again makes no sense.
    pub async fn renew(&self, credentials: &Credentials) -> bool {
        match credentials {
            Credentials::Basic { .. } => false,
            Credentials::OauthSecret { .. } | Credentials::OauthCertificate { .. } => true,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where secrets are read from the environment"
)]
fn read_secret(reference: &SecretRef) -> Result<String, Failure> {
    let missing = |reason: String| {
        Failure::new(
            ErrorClass::TenantPermanent,
            Code::SecretUnavailable,
            format!("{reference}: {reason}"),
        )
    };
    match reference {
        SecretRef::Environment(name) => std::env::var(name).map_err(|error| missing(error.to_string())),
        SecretRef::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| missing(error.to_string()))?;
            Ok(text
                .strip_suffix('\n')
                .map_or_else(|| text.clone(), |line| line.trim_end_matches('\r').to_owned()))
        }
    }
}
