//! A private certificate authority for tests, and certificates for private servers.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::ServiceError;

/// A self-signed authority. A client trusts it only if it is configured to.
pub struct PrivateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and key with which a server proves its name, in PEM.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl PrivateAuthority {
    /// Generates an authority with the default common name, `tasksync private authority`.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn generate() -> Result<Self, ServiceError> {
        Self::named("tasksync private authority")
    }

    /// Generates an authority with this common name.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn named(name: &str) -> Result<Self, ServiceError> {
        let key = KeyPair::generate().map_err(failed("the authority's key"))?;
        let mut authority =
            CertificateParams::new(Vec::<String>::new()).map_err(failed("the authority's certificate"))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // If issuer and subject had the same name, OpenSSL would take the server's certificate for a self-signed one.
        authority.distinguished_name.push(DnType::CommonName, name);
        let issuer =
            CertifiedIssuer::self_signed(authority, key).map_err(failed("the authority's certificate"))?;
        Ok(Self { issuer })
    }

    /// Returns the authority's certificate in PEM, for a client's trust store.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these host names or IP addresses.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn certify(&self, names: &[&str]) -> Result<ServerCertificate, ServiceError> {
        let key = KeyPair::generate().map_err(failed("the server's key"))?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .and_then(|wanted| wanted.signed_by(&key, &self.issuer))
            .map_err(failed("the server's certificate"))?;
        Ok(ServerCertificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for PrivateAuthority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PrivateAuthority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerCertificate")
            .finish_non_exhaustive()
    }
}

fn failed(what: &'static str) -> impl FnOnce(rcgen::Error) -> ServiceError {
    move |error| ServiceError::System {
        what: format!("cannot create {what}"),
        source: std::io::Error::other(error),
    }
}
