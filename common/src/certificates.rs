//! Files of certificates for the tests' own servers, of authorities nobody else trusts.

use std::path::PathBuf;

use tasksync_loadtest::services;

/// An authority of the test's own, in a folder that goes with it.
pub(crate) struct PrivateAuthority {
    folder: tempfile::TempDir,
    authority: services::PrivateAuthority,
}

impl PrivateAuthority {
    /// Each has a name of its own: what another one signed comes from a stranger.
    pub(crate) fn new() -> Self {
        let name = format!("authority {}", uuid::Uuid::new_v4());
        let private = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: services::PrivateAuthority::named(&name).unwrap(),
        };
        std::fs::write(private.file(), private.authority.pem()).unwrap();
        private
    }

    /// The authority's own certificate, a PEM file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A certificate for these names and addresses, with its key: one PEM text.
    pub(crate) fn issue(&self, names: &[&str]) -> String {
        let services::ServerCertificate { certificate, key } = self.authority.certify(names).unwrap();
        format!("{certificate}{key}")
    }

    /// As [`Self::issue`], as a file.
    pub(crate) fn issue_file(&self, names: &[&str]) -> PathBuf {
        let path = self.folder.path().join(format!("{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&path, self.issue(names)).unwrap();
        path
    }
}
