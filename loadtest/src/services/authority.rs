//! A certificate authority of a test's own, and certificates for private servers.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::ServiceError;

/// A self-signed authority nobody trusts unless told to.
pub struct PrivateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a server proves its name with, in PEM.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl PrivateAuthority {
    /// A fresh one, under the name all of them have.
    ///
    /// # Errors
    /// Which step failed.
    pub fn generate() -> Result<Self, ServiceError> {
        Self::named("tasksync private authority")
    }

    /// A fresh one under this common name.
    ///
    /// # Errors
    /// Which step failed.
    pub fn named(name: &str) -> Result<Self, ServiceError> {
        let key = KeyPair::generate().map_err(failed("the authority's key"))?;
        let mut authority =
            CertificateParams::new(Vec::<String>::new()).map_err(failed("the authority's certificate"))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With one name for issuer and subject, OpenSSL takes the server's certificate for a self-signed one.
        authority.distinguished_name.push(DnType::CommonName, name);
        let issuer =
            CertifiedIssuer::self_signed(authority, key).map_err(failed("the authority's certificate"))?;
        Ok(Self { issuer })
    }

    /// The authority's certificate in PEM, for a client's trust store.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these host names or IP addresses.
    ///
    /// # Errors
    /// Which step failed.
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
        what: format!("cannot make {what}"),
        source: std::io::Error::other(error),
    }
}
