//! The authorities that a TLS connection to Redis trusts.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use redis::TlsCertificates;
use rustls::RootCertStore;

use crate::error::Failure;
use crate::settings::read_authorities;

/// The setting that names the file.
pub(super) const SETTING: &str = "schedule.authorities";

/// Returns the machine's authorities and those in the file.
///
/// # Errors
/// The file cannot be read, or holds something other than certificates of authorities.
pub(super) fn certificates(path: &Path) -> Result<TlsCertificates, Failure> {
    let further = read_authorities(SETTING, path)?;
    // The client takes either the machine's authorities or given ones, so both are passed. Certificates of
    // the machine that cannot be read, or that today's rules refuse, are skipped.
    let machine = rustls_native_certs::load_native_certs().certs;
    let usable = machine
        .into_iter()
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    let all: String = usable
        .chain(further)
        .map(|certificate| pem(&certificate))
        .collect();
    Ok(TlsCertificates {
        client_tls: None,
        root_cert: Some(all.into_bytes()),
    })
}

fn pem(certificate: &[u8]) -> String {
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        BASE64_STANDARD.encode(certificate)
    )
}
