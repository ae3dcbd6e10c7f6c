//! Certificates for the tests' own servers, of authorities nobody else trusts.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority of the test's own, in a folder that goes with it.
pub(crate) struct PrivateAuthority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl PrivateAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With one name for issuer and subject, OpenSSL takes the server's certificate for a self-signed one.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", uuid::Uuid::new_v4()));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self {
            folder: tempfile::tempdir().unwrap(),
            issuer,
        };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    /// The authority's own certificate, a PEM file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A certificate for these names and addresses, with its key: one PEM text.
    pub(crate) fn issue(&self, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    /// As [`Self::issue`], as a file.
    pub(crate) fn issue_file(&self, names: &[&str]) -> PathBuf {
        let path = self.folder.path().join(format!("{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, self.issue(names)).unwrap();
        path
    }
}
