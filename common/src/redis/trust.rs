//! Whom a TLS connection to Redis trusts.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use redis::TlsCertificates;
use rustls::RootCertStore;

use crate::error::Failure;
use crate::settings::read_authorities;

/// The setting that names the file.
pub(super) const SETTING: &str = "schedule.authorities";

/// Returns the machine's own authorities and those of the file.
///
/// # Errors
/// The file cannot be read or holds something else than certificates of authorities.
pub(super) fn certificates(path: &Path) -> Result<TlsCertificates, Failure> {
    let further = read_authorities(SETTING, path)?;
    // The client takes either the machine's authorities or those it is given. One of the machine's that cannot be read, or
    // is none by today's rules, is left out.
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
