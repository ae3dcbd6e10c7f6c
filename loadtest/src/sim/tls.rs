//! A certificate for the simulated servers, issued by a self-signed authority for loopback names only.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
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
    /// The authority's key, for further certificates; empty from earlier builds.
    #[serde(default)]
    authority_key: String,
}

impl TlsIdentity {
    /// Generates a new authority and a certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Errors
    /// Names the step that failed, if a key or a certificate cannot be made.
    pub fn generate() -> Result<Self, String> {
        let authority_key = KeyPair::generate().map_err(|error| format!("authority key: {error}"))?;
        let authority_key_pem = authority_key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(authority_params()?, authority_key)
            .map_err(|error| format!("authority certificate: {error}"))?;
        let key = KeyPair::generate().map_err(|error| format!("server key: {error}"))?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &issuer))
            .map_err(|error| format!("server certificate: {error}"))?;
        Ok(Self {
            authority: issuer.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority_key: authority_key_pem,
        })
    }

    /// Returns an identity of these parts in PEM.
    #[must_use]
    pub fn of(authority: String, certificate: String, key: String) -> Self {
        Self {
            authority,
            certificate,
            key,
            authority_key: String::new(),
        }
    }

    /// Returns the server's certificate.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns an identity whose certificate the same authority issued, for these names and until this day.
    ///
    /// # Errors
    /// Names the step that failed. An identity of an earlier build has no authority's key.
    pub fn certified(&self, names: &[&str], until: (i32, u8, u8)) -> Result<Self, String> {
        let authority_key =
            KeyPair::from_pem(&self.authority_key).map_err(|error| format!("authority key: {error}"))?;
        let issuer = Issuer::new(authority_params()?, authority_key);
        let key = KeyPair::generate().map_err(|error| format!("server key: {error}"))?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (year, month, day) = until;
        let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params
            .signed_by(&key, &issuer)
            .map_err(|error| format!("server certificate: {error}"))?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            ..self.clone()
        })
    }
}

fn authority_params() -> Result<CertificateParams, String> {
    let mut authority = CertificateParams::new(Vec::<String>::new()).map_err(|error| error.to_string())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // If issuer and subject had the same name, OpenSSL would take the server's certificate for a self-signed one.
    authority
        .distinguished_name
        .push(DnType::CommonName, "tasksync simulated authority");
    Ok(authority)
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
