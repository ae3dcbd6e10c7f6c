//! Stands in for NTLM and Kerberos in builds without the cargo feature `sspi`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use secrecy::SecretString;
use tasksync_common::registry::Credentials;
use tokio::sync::Semaphore;

use super::connection::ContextError;
use crate::http::{Http, SignInToken};

pub(super) use AbsentContext as SecurityContext;

/// A context that is never made.
pub(super) enum AbsentContext {}

impl AbsentContext {
    pub(super) fn new(
        _credentials: &Credentials,
        _host: &str,
        _password: &SecretString,
        _http: Http,
        _first_kdc: Arc<AtomicUsize>,
        _places: Arc<Semaphore>,
    ) -> Result<Self, ContextError> {
        Err(ContextError::NotBuilt)
    }

    pub(super) fn uses_ntlm(&self) -> bool {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as in builds with the feature")]
    pub(super) async fn step(
        &mut self,
        _given: Option<String>,
        _certificate: Option<Vec<u8>>,
    ) -> Result<SignInToken, ContextError> {
        match *self {}
    }
}
