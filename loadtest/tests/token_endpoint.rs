//! The simulated token endpoint over HTTP.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use ring::rand::SystemRandom;
use ring::{digest, signature};
use serde_json::{Value, json};
use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::token::TokenServer;

const CLIENT: &str = "00000000-0000-4000-8000-000000000012";
const SCOPE: &str = "https://contoso.sharepoint.com/.default";

struct Endpoint {
    server: Arc<TokenServer>,
    listener: Listener,
    client: reqwest::Client,
}

impl Endpoint {
    async fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let server = TokenServer::new();
        let listener = Listener::start(Arc::clone(&server), None).await.unwrap();
        Self {
            server,
            listener,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("{}/contoso/oauth2/v2.0/token", self.listener.base_url())
    }

    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    async fn post(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let response = self.client.post(self.url()).form(form).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn by_secret(&self, secret: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("scope", SCOPE),
            ("client_secret", secret),
        ];
        self.post(&form).await
    }

    async fn by_assertion(&self, assertion: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("scope", SCOPE),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
        ];
        self.post(&form).await
    }
}

/// A key and its certificate, created with the `openssl` program.
struct Key {
    pair: signature::RsaKeyPair,
    certificate: String,
    der: Vec<u8>,
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output();
    let output = output.expect("the openssl program is needed to make RSA keys for this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn key() -> Key {
    let folder = tempfile::tempdir().unwrap();
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=tasksync";
    openssl(folder.path(), &make.split(' ').collect::<Vec<_>>());
    openssl(
        folder.path(),
        &[
            "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "key.der",
        ],
    );
    openssl(
        folder.path(),
        &["x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der"],
    );
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    Key {
        pair: signature::RsaKeyPair::from_pkcs8(&read("key.der")).unwrap(),
        certificate: String::from_utf8(read("cert.pem")).unwrap(),
        der: read("cert.der"),
    }
}

impl Key {
    /// Signs claims with PS256 and the SHA-256 thumbprint, or RS256 and the SHA-1 one.
    fn sign(&self, modern: bool, claims: &Value) -> String {
        let (name, algorithm, member, hash): (_, &dyn signature::RsaEncoding, _, _) = if modern {
            ("PS256", &signature::RSA_PSS_SHA256, "x5t#S256", &digest::SHA256)
        } else {
            (
                "RS256",
                &signature::RSA_PKCS1_SHA256,
                "x5t",
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
            )
        };
        let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(hash, &self.der));
        let header = json!({ "alg": name, "typ": "JWT", member: thumbprint });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(claims));
        let mut sealed = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(algorithm, &SystemRandom::new(), text.as_bytes(), &mut sealed)
            .unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(sealed))
    }
}

fn claims(endpoint: &Endpoint) -> Value {
    let now = endpoint.server.clock.now().as_second();
    json!({
        "aud": endpoint.url(), "iss": CLIENT, "sub": CLIENT, "jti": "1", "nbf": now, "iat": now, "exp": now + 600,
    })
}

#[tokio::test]
async fn a_secret_gets_a_token_that_can_end_and_be_revoked() {
    let endpoint = Endpoint::start().await;
    endpoint.server.add_secret(CLIENT, "s3cret");
    let (status, body) = endpoint.by_secret("s3cret").await;
    assert_eq!(
        (status, &body["token_type"], &body["expires_in"]),
        (200, &json!("Bearer"), &json!(3599))
    );
    let token = body["access_token"].as_str().unwrap();
    let validator = endpoint.server.validator();
    assert_eq!(validator(token).as_deref(), Some(CLIENT));
    assert_eq!(validator("else"), None);
    let strict = |audience: &str, only| endpoint.server.validator_for(audience, only)(token);
    assert!(strict("https://contoso.sharepoint.com", false).is_some());
    assert!(
        strict("https://contoso.sharepoint.com", true).is_none(),
        "SharePoint refuses secrets"
    );
    assert!(strict("https://outlook.office365.com", false).is_none());

    endpoint.server.clock.set_skew(SignedDuration::from_mins(61));
    assert_eq!(validator(token), None);
    endpoint.server.set_lifetime(SignedDuration::from_secs(7));
    let (_, body) = endpoint.by_secret("s3cret").await;
    assert_eq!(body["expires_in"], 7);
    assert!(validator(body["access_token"].as_str().unwrap()).is_some());
    endpoint.server.revoke_all();
    assert_eq!(validator(body["access_token"].as_str().unwrap()), None);
    assert_eq!(endpoint.server.issued(), 2);
}

#[tokio::test]
async fn an_assertion_of_either_kind_gets_a_token() {
    let endpoint = Endpoint::start().await;
    let key = key();
    endpoint.server.add_certificate(CLIENT, &key.certificate).unwrap();
    for modern in [true, false] {
        let (status, body) = endpoint.by_assertion(&key.sign(modern, &claims(&endpoint))).await;
        assert_eq!(status, 200, "{body}");
        let strict = endpoint
            .server
            .validator_for("https://contoso.sharepoint.com", true);
        assert!(strict(body["access_token"].as_str().unwrap()).is_some());
    }
    assert!(endpoint.server.add_certificate(CLIENT, "no certificate").is_err());
}

#[tokio::test]
async fn wrong_assertions_are_refused_with_their_reason() {
    let endpoint = Endpoint::start().await;
    let (registered, other) = (key(), key());
    endpoint
        .server
        .add_certificate(CLIENT, &registered.certificate)
        .unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&endpoint);
        claims[name] = value;
        registered.sign(true, &claims)
    };
    let now = endpoint.server.clock.now().as_second();
    let good = registered.sign(true, &claims(&endpoint));
    let (text, _) = good.rsplit_once('.').unwrap();
    let (_, foreign_seal) = other
        .sign(true, &claims(&endpoint))
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for (assertion, number) in [
        (other.sign(true, &claims(&endpoint)), 700_027),
        (format!("{text}.{foreign_seal}"), 700_027),
        (with("exp", json!(now - 3600)), 700_024),
        (with("nbf", json!(now + 3600)), 700_024),
        (with("aud", json!("https://elsewhere.example/token")), 700_023),
        (with("iss", json!("somebody")), 700_021),
        (with("sub", json!("somebody")), 700_021),
        ("a.b.c".to_owned(), 50_027),
        ("nonsense".to_owned(), 50_027),
    ] {
        let (status, body) = endpoint.by_assertion(&assertion).await;
        assert_eq!(
            (status, &body["error"], &body["error_codes"]),
            (401, &json!("invalid_client"), &json!([number]))
        );
        assert!(
            body["error_description"]
                .as_str()
                .unwrap()
                .starts_with(&format!("AADSTS{number}: "))
        );
    }
    assert_eq!(endpoint.server.issued(), 0);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn wrong_requests_are_refused_with_their_reason() {
    let endpoint = Endpoint::start().await;
    endpoint.server.add_secret(CLIENT, "s3cret");
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", SCOPE),
        ("client_secret", "s3cret"),
    ];
    for (name, value, status, error, number) in [
        ("client_secret", "wrong", 401, "invalid_client", 7_000_215),
        ("client_secret", "", 401, "invalid_client", 7_000_218),
        ("client_id", "unknown", 400, "unauthorized_client", 700_016),
        ("client_id", "", 400, "invalid_request", 900_144),
        ("grant_type", "password", 400, "unsupported_grant_type", 70_003),
        (
            "scope",
            "https://contoso.sharepoint.com/Sites.Read",
            400,
            "invalid_scope",
            1_002_012,
        ),
    ] {
        let form: Vec<_> = good
            .iter()
            .map(|(key, old)| (*key, if *key == name { value } else { *old }))
            .collect();
        let (got, body) = endpoint.post(&form).await;
        assert_eq!(
            (got, &body["error"], &body["error_codes"]),
            (status, &json!(error), &json!([number]))
        );
    }
    endpoint.server.add_tenant("fabrikam");
    let (status, body) = endpoint.post(&good).await;
    assert_eq!((status, &body["error_codes"]), (400, &json!([90_002])));
    endpoint.server.add_tenant("Contoso");
    endpoint.server.faults.next(Some("token"), 1, Fault::Status(503));
    assert_eq!(endpoint.post(&good).await.0, 503);
    assert_eq!(endpoint.post(&good).await.0, 200);
    let elsewhere = endpoint
        .client
        .get(format!("{}/nothing", endpoint.listener.base_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(elsewhere.status(), 404);
    assert_eq!(
        endpoint.client.get(endpoint.url()).send().await.unwrap().status(),
        405
    );
}
