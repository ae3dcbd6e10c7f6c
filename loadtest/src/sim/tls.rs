//! A certificate for the simulated servers, issued by a self-signed authority for loopback names only.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// An authority's certificate, and a server's certificate with its key, in PEM. It can be kept for the next start.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsIdentity {
    /// The authority's certificate, for the client's trust store.
    pub authority: String,
    certificate: String,
    key: String,
}

impl TlsIdentity {
    /// Generates a new authority and a certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    /// Names the step that failed, if a key or a certificate cannot be made.
    pub fn generate() -> Result<Self, String> {
        let authority_key = KeyPair::generate().map_err(|error| format!("authority key: {error}"))?;
        let mut authority =
            CertificateParams::new(Vec::<String>::new()).map_err(|error| error.to_string())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // If issuer and subject had the same name, OpenSSL would take the server's certificate for a self-signed one.
        authority
            .distinguished_name
            .push(DnType::CommonName, "tasksync simulated authority");
        let issuer = CertifiedIssuer::self_signed(authority, authority_key)
            .map_err(|error| format!("authority certificate: {error}"))?;
        let key = KeyPair::generate().map_err(|error| format!("server key: {error}"))?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &issuer))
            .map_err(|error| format!("server certificate: {error}"))?;
        Ok(Self {
            authority: issuer.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The TLS configuration of a listener, and the identity that it was made from.
#[derive(Clone)]
pub struct SimTls {
    /// The server side's configuration.
    pub server: Arc<ServerConfig>,
    /// The certificates and the key.
    pub identity: TlsIdentity,
}

impl SimTls {
    /// Returns the configuration of a server with a new identity.
    ///
    /// # Errors
    /// As [`TlsIdentity::generate`] and [`Self::with_identity`].
    pub fn generate() -> Result<Self, String> {
        Self::with_identity(TlsIdentity::generate()?)
    }

    /// Returns the configuration of a server with a kept identity.
    ///
    /// # Errors
    /// Names the part that is not the PEM of a certificate or key, or that does not fit the others.
    pub fn with_identity(identity: TlsIdentity) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())
            .map_err(|error| format!("server certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
            .map_err(|error| format!("server key: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)
            })
            .map_err(|error| format!("TLS settings: {error}"))?;
        Ok(Self {
            server: Arc::new(server),
            identity,
        })
    }
}
