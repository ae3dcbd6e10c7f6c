//! Whether the secrets of credentials can be used, for the doctor. No value leaves this module.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use tasksync_common::error::Failure;
use tasksync_common::facts::{CertificateFacts, SecretCheck};
use tasksync_common::registry::{Credentials, SecretRef};
use tasksync_common::x509::certificate_facts;

use super::Authenticator;
use super::secret::unavailable;

impl Authenticator {
    /// Returns for each secret of the credentials whether it can be read, and what it says if it is a certificate.
    pub(crate) fn check_secrets(&self, credentials: &Credentials) -> Vec<SecretCheck> {
        let certificate = match credentials {
            Credentials::OauthCertificate { certificate, .. } => Some(certificate),
            Credentials::Basic { .. }
            | Credentials::Ntlm { .. }
            | Credentials::Kerberos { .. }
            | Credentials::Negotiate { .. }
            | Credentials::OauthSecret { .. } => None,
        };
        credentials
            .secrets()
            .into_iter()
            .map(|(key, secret)| SecretCheck {
                key: key.to_owned(),
                reference: secret.to_string(),
                result: self.check_secret(secret, certificate == Some(secret)),
            })
            .collect()
    }

    fn check_secret(
        &self,
        reference: &SecretRef,
        is_certificate: bool,
    ) -> Result<Option<CertificateFacts>, Failure> {
        let secret = self.inner.secrets.read(reference, self.now())?;
        if !is_certificate {
            return Ok(None);
        }
        let der = CertificateDer::from_pem_slice(secret.expose_secret().as_bytes())
            .map_err(|_| unavailable(reference, "it holds no certificate in PEM (BEGIN CERTIFICATE)"))?;
        certificate_facts(&der)
            .map(Some)
            .map_err(|reason| unavailable(reference, &reason))
    }
}
