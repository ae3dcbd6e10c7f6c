//! Whom a TLS connection to Redis trusts.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use redis::TlsCertificates;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Code, ErrorClass, Failure};
use crate::settings::read_authorities;

/// The setting that names the file.
pub(super) const SETTING: &str = "schedule.authorities";

/// The machine's own authorities and those of the file.
///
/// # Errors
/// The file cannot be read or holds something else than certificates of authorities.
pub(super) fn certificates(path: &Path) -> Result<TlsCertificates, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(
            ErrorClass::TenantPermanent,
            Code::SettingsWrong,
            format!("{SETTING} {}: {why}", path.display()),
        )
    };
    let text = read_authorities(SETTING, path)?;
    let further = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&error))?;
    for certificate in &further {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| wrong(&error))?;
    }
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
