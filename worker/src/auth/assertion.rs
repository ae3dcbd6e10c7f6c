//! The signed assertion that proves the application to a token endpoint: RFC 7523 with PS256 and the
//! certificate's SHA-256 thumbprint, as Entra documents it for certificate credentials.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::Url;

use tasksync_common::random::unique_id;

/// Lifetime of an assertion, in seconds. Entra recommends 5 to 10 minutes.
const LIFETIME: i64 = 600;

/// Seconds by which `nbf` is dated back, for endpoints whose clock is behind ours.
const BACKDATED: i64 = 60;

/// The unusable part of a key pair, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    Key(String),
    Certificate(String),
}

/// Returns the assertion as a compact JWT.
pub(super) fn sign(
    token_url: &Url,
    client_id: &str,
    private_key: &SecretString,
    certificate: &SecretString,
    now: Timestamp,
) -> Result<SecretString, KeyError> {
    let certificate =
        CertificateDer::from_pem_slice(certificate.expose_secret().as_bytes()).map_err(|_| {
            KeyError::Certificate("it holds no certificate in PEM (BEGIN CERTIFICATE)".to_owned())
        })?;
    let key = key_pair(private_key)?;
    // A certificate contains the public key's DER unchanged (RFC 3279, section 2.3.1).
    let public = key.public().as_ref();
    if !certificate.windows(public.len()).any(|window| window == public) {
        return Err(KeyError::Certificate(
            "it does not belong to the private key".to_owned(),
        ));
    }
    let thumbprint = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let now = now.as_second();
    let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": BASE64.encode(thumbprint)});
    let claims = json!({
        "aud": token_url.as_str(),
        "iss": client_id,
        "sub": client_id,
        "jti": unique_id().to_string(),
        "nbf": now - BACKDATED,
        "iat": now,
        "exp": now + LIFETIME,
    });
    let message = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PSS_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .map_err(|_| KeyError::Key("signing with it failed".to_owned()))?;
    Ok(SecretString::from(format!(
        "{message}.{}",
        BASE64.encode(signature)
    )))
}

fn key_pair(pem: &SecretString) -> Result<RsaKeyPair, KeyError> {
    let pem = pem.expose_secret();
    if pem.contains("ENCRYPTED") {
        return Err(KeyError::Key(
            "it is encrypted; provide it without a pass phrase (openssl pkey -in key.pem -out plain.pem)"
                .to_owned(),
        ));
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| KeyError::Key("it holds no private key in PEM (BEGIN PRIVATE KEY)".to_owned()))?;
    let unusable = |error: ring::error::KeyRejected| {
        KeyError::Key(format!("it is not an RSA key of 2048 to 4096 bits ({error})"))
    };
    if let PrivateKeyDer::Pkcs8(key) = &der {
        RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(unusable)
    } else if let PrivateKeyDer::Pkcs1(key) = &der {
        RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(unusable)
    } else {
        Err(KeyError::Key("it is not an RSA key; PS256 needs one".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
    use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// Made for these tests; no system trusts it.
    const KEY: &str = include_str!("fixtures/test-key.pem");

    fn certificate(key: &KeyPair) -> SecretString {
        SecretString::from(
            CertificateParams::new(vec!["tasksync.example".to_owned()])
                .unwrap()
                .self_signed(key)
                .unwrap()
                .pem(),
        )
    }

    fn rsa() -> (SecretString, SecretString) {
        let key = KeyPair::from_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).unwrap();
        (SecretString::from(KEY), certificate(&key))
    }

    fn url() -> Url {
        Url::parse("https://login.example/tenant/oauth2/v2.0/token").unwrap()
    }

    fn part(text: &str) -> serde_json::Value {
        serde_json::from_slice(&BASE64.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn the_assertion_says_who_and_when_and_its_signature_holds() {
        let (key, certificate) = rsa();
        let now = Timestamp::from_second(1_795_356_000).unwrap();
        let assertion = sign(&url(), "app-1", &key, &certificate, now).unwrap();
        let parts: Vec<&str> = assertion.expose_secret().split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("{} parts", parts.len())
        };
        let der = CertificateDer::from_pem_slice(certificate.expose_secret().as_bytes()).unwrap();
        let thumbprint = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, &der));
        assert_eq!(
            part(header),
            json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint})
        );
        let claims_read = part(claims);
        assert_eq!(claims_read["aud"], url().as_str());
        assert_eq!(claims_read["iss"], "app-1");
        assert_eq!(claims_read["sub"], "app-1");
        assert_eq!(claims_read["nbf"], 1_795_355_940);
        assert_eq!(claims_read["iat"], 1_795_356_000);
        assert_eq!(claims_read["exp"], 1_795_356_600);
        let pair = key_pair(&key).unwrap();
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, pair.public().as_ref())
            .verify(
                format!("{header}.{claims}").as_bytes(),
                &BASE64.decode(signature).unwrap(),
            )
            .unwrap();
        // Every assertion has its own id; otherwise an endpoint could take the second for a replay.
        let again = sign(&url(), "app-1", &key, &certificate, now).unwrap();
        let again = part(again.expose_secret().split('.').nth(1).unwrap());
        assert_ne!(again["jti"], claims_read["jti"]);
    }

    #[test]
    fn keys_that_cannot_sign_are_distinguished() {
        let (key, good) = rsa();
        let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let now = Timestamp::from_second(1_795_356_000).unwrap();
        let secret = |text: &str| SecretString::from(text.to_owned());
        let table = [
            (secret("hunter2"), good.clone(), "no private key"),
            (good.clone(), good.clone(), "no private key"),
            (
                secret("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
                good.clone(),
                "encrypted",
            ),
            (secret(&elliptic.serialize_pem()), good.clone(), "not an RSA key"),
            (key.clone(), secret("hunter2"), "no certificate"),
            (key.clone(), key.clone(), "no certificate"),
            (key.clone(), certificate(&elliptic), "does not belong"),
        ];
        for (key, certificate, reason) in table {
            match sign(&url(), "app-1", &key, &certificate, now).map(|_| ()) {
                Err(KeyError::Key(text) | KeyError::Certificate(text)) => {
                    assert!(text.contains(reason), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
                Ok(()) => panic!("signed although: {reason}"),
            }
        }
    }
}
