//! PEM files of certificate authorities that settings name.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Code, ErrorClass, Failure};

/// Largest file of authorities that is read, in bytes.
const MAXIMUM_AUTHORITIES: u64 = 16 * 1024 * 1024;

/// Returns the certificates in the file. `setting` names the file in errors.
///
/// # Errors
/// The file cannot be read, is too large, holds no certificate in PEM form, or holds a damaged one.
pub fn read_authorities(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    certificates(path).map_err(|why| {
        Failure::new(
            ErrorClass::Refused,
            Code::SettingsWrong,
            format!("{setting} {}: {why}", path.display()),
        )
    })
}

/// Returns the certificates in the file, or why there are none. The reason names neither file nor setting.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAXIMUM_AUTHORITIES {
        return Err(format!("{size} bytes are too many for certificates"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        // The library's text shows a part of the file, which may be a private key.
        .map_err(|_| "is damaged, or not in PEM form".to_owned())?;
    if certificates.is_empty() {
        return Err("holds no certificate in PEM form".to_owned());
    }
    // Where the certificates are used, damaged ones would be skipped without an error.
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&certificates) {
        store
            .add(certificate.clone())
            .map_err(|error| format!("certificate {number} in it cannot be used: {error}"))?;
    }
    Ok(certificates)
}
