//! Certificate files for the tests' own servers, issued by authorities that no machine trusts.

use std::path::PathBuf;

use tasksync_loadtest::services;

use crate::random::unique_id;

/// A certificate authority of one test, in a temporary folder that is deleted with it.
pub(crate) struct PrivateAuthority {
    folder: tempfile::TempDir,
    authority: services::PrivateAuthority,
}

impl PrivateAuthority {
    /// Creates an authority with a unique name, so that certificates of one authority are unknown to every
    /// other.
    pub(crate) fn new() -> Self {
        let name = format!("authority {}", unique_id());
        let private = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: services::PrivateAuthority::named(&name).unwrap(),
        };
        std::fs::write(private.file(), private.authority.pem()).unwrap();
        private
    }

    /// Returns the path of the authority's own certificate, a PEM file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Returns a certificate for these names and addresses, followed by its key, as one PEM text.
    pub(crate) fn issue(&self, names: &[&str]) -> String {
        let services::ServerCertificate { certificate, key } = self.authority.certify(names).unwrap();
        format!("{certificate}{key}")
    }

    /// Writes what [`Self::issue`] returns to a file and returns its path.
    pub(crate) fn issue_file(&self, names: &[&str]) -> PathBuf {
        let path = self.folder.path().join(format!("{}.pem", unique_id()));
        std::fs::write(&path, self.issue(names)).unwrap();
        path
    }
}
