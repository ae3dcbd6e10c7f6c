//! A certificate for the simulated servers, issued by a self-signed authority for loopback names only.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The TLS configuration of a listener, and the authority that a client has to trust.
#[derive(Clone)]
pub struct SimTls {
    /// The server side's configuration.
    pub server: Arc<ServerConfig>,
    /// The authority's certificate in PEM, for the client's trust store.
    pub authority_pem: String,
}

impl SimTls {
    /// Generates a new authority and a certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    /// Names the step that failed, if the key or a certificate cannot be made.
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
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate.der().clone()], private)
            })
            .map_err(|error| format!("TLS settings: {error}"))?;
        Ok(Self {
            server: Arc::new(server),
            authority_pem: issuer.pem(),
        })
    }
}
