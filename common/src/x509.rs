//! Reading certificates.

use jiff::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

use crate::facts::CertificateFacts;

/// Names of a certificate that are kept.
const NAMES: usize = 20;
/// Characters of a name that are kept.
const CHARACTERS: usize = 120;

/// Returns what a certificate in DER says.
///
/// # Errors
/// The reason, if the bytes are not a certificate.
pub fn certificate_facts(der: &[u8]) -> Result<CertificateFacts, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("it is not a certificate: {error}"))?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(name_of)
        .take(NAMES)
        .collect();
    let expires_at = Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|error| format!("the end of its life cannot be read: {error}"))?;
    Ok(CertificateFacts {
        expires_at,
        names,
        issuer: certificate
            .issuer()
            .to_string()
            .chars()
            .take(CHARACTERS)
            .collect(),
    })
}

/// The hash function of a certificate's channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Returns the hash function with which a certificate in DER becomes a `tls-server-end-point` channel binding (RFC
/// 5929, section 4.1): that of its signature, and SHA-256 instead of MD5 and SHA-1. Signatures without one hash
/// function, such as Ed25519, leave it undefined there; they get SHA-256.
///
/// # Errors
/// The reason, if the bytes are not a certificate.
pub fn binding_hash(der: &[u8]) -> Result<BindingHash, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("it is not a certificate: {error}"))?;
    let algorithm = &certificate.signature_algorithm;
    let oid = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        Ok(_) | Err(_) => algorithm.algorithm.to_id_string(),
    };
    Ok(match oid.as_str() {
        // RSA, ECDSA, and the hash function itself.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => BindingHash::Sha384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => BindingHash::Sha512,
        _ => BindingHash::Sha256,
    })
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.chars().take(CHARACTERS).collect()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|four| std::net::Ipv4Addr::from(four).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|all| std::net::Ipv6Addr::from(all).to_string()),
            _ => None,
        },
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use tasksync_loadtest::services::PrivateAuthority;

    use super::*;

    #[test]
    fn a_certificate_says_for_whom_it_is_and_by_whom() {
        let authority = PrivateAuthority::named("authority of one test").unwrap();
        let issued = authority.certify(&["mail.contoso.example", "127.0.0.1"]).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let facts = certificate_facts(&der).unwrap();
        assert_eq!(facts.names, ["mail.contoso.example", "127.0.0.1"]);
        assert!(facts.issuer.contains("authority of one test"), "{facts:?}");
        assert!(facts.expires_at > Timestamp::UNIX_EPOCH);
        assert!(certificate_facts(b"-----BEGIN").is_err());
    }
}
