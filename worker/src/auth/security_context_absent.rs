//! Stands in for NTLM and Kerberos in builds without the cargo feature `sspi`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use secrecy::SecretString;
use tasksync_common::registry::Credentials;

use crate::http::{Http, SignInToken};

/// Why a sign-in cannot go on.
pub(super) enum ContextError {
    NotBuilt,
    Credentials(String),
    KdcUnreachable(String),
    KdcRefused(String),
    Token(String),
}

pub(super) struct SecurityContext;

impl SecurityContext {
    pub(super) fn new(
        _credentials: &Credentials,
        _host: &str,
        _password: &SecretString,
        _http: Http,
        _first_kdc: Arc<AtomicUsize>,
    ) -> Result<Self, ContextError> {
        Err(ContextError::NotBuilt)
    }

    pub(super) async fn step(
        &mut self,
        _given: Option<String>,
        _certificate: Option<Vec<u8>>,
    ) -> Result<SignInToken, ContextError> {
        Err(ContextError::NotBuilt)
    }
}
