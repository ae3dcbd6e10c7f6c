//! The part of X.509 that the token endpoint needs: reading the RSA key of a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Returns the DER content of the first certificate in a PEM text.
pub(super) fn pem_content(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (content, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let content: String = content
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .collect();
    STANDARD.decode(content).ok()
}

/// Splits off one DER element. Returns its tag, its content and the bytes after it.
fn der_element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                bytes
                    .iter()
                    .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Returns the `RSAPublicKey` of an X.509 certificate.
pub(super) fn rsa_public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    /// Object identifier 1.2.840.113549.1.1.1 (rsaEncryption) with its tag and length.
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (_, certificate, _) = der_element(certificate)?;
    let (_, mut body, _) = der_element(certificate)?;
    if body.first() == Some(&0xa0) {
        body = der_element(body)?.2;
    }
    // Skip serial number, signature algorithm, issuer, validity and subject; the key comes next.
    for _ in 0..5 {
        body = der_element(body)?.2;
    }
    let (_, key, _) = der_element(body)?;
    let (_, algorithm, rest) = der_element(key)?;
    if !algorithm.starts_with(RSA) {
        return None;
    }
    let (tag, bits, _) = der_element(rest)?;
    (tag == 0x03).then(|| bits.strip_prefix(&[0]).map(<[u8]>::to_vec))?
}
