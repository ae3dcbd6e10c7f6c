//! The token endpoint (RFC 6749, section 4.4): its requests and the meaning of its answers.

use std::time::Duration;

use crate::http::header::HeaderMap;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tasksync_common::error::{Code, ErrorClass, Failure};
use url::Url;
use url::form_urlencoded::Serializer;

use super::token::AccessToken;
use crate::http::{host_of, retry_after, secret_header};

/// Bytes of the largest answer that is read. Tokens with many roles reach some 10 KiB.
const MAXIMUM_BYTES: usize = 256 * 1024;

/// Characters of an endpoint's error text that are shown.
const SHOWN: usize = 200;

/// Lifetime in seconds of a token whose answer names none (RFC 6749 only recommends naming it).
const DEFAULT_LIFE: i64 = 300;

/// Longest lifetime of a token in seconds, whatever the endpoint says.
const LONGEST_LIFE: i64 = 24 * 3600;

/// How the application proves its identity.
pub(super) enum Proof {
    /// `client_secret`.
    Secret(SecretString),
    /// `client_assertion`, a signed JWT.
    Assertion(SecretString),
}

impl Proof {
    fn value(&self) -> &str {
        match self {
            Self::Secret(value) | Self::Assertion(value) => value.expose_secret(),
        }
    }
}

/// Returns the request's body.
pub(super) fn form(client_id: &str, scope: &str, proof: &Proof) -> Bytes {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("scope", scope);
    match proof {
        Proof::Secret(secret) => form.append_pair("client_secret", secret.expose_secret()),
        Proof::Assertion(assertion) => form
            .append_pair(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            )
            .append_pair("client_assertion", assertion.expose_secret()),
    };
    Bytes::from(form.finish())
}

// No `Debug`: the value contains the token.
#[derive(Deserialize)]
struct Granted {
    token_type: String,
    access_token: String,
    expires_in: Option<Seconds>,
}

/// Some endpoints (AD FS, older Entra) write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn whole_seconds(&self) -> Option<i64> {
        let seconds = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // A number out of bounds becomes the greatest one; the lifetime is bounded afterwards.
        (seconds >= 1.0).then(|| {
            Duration::try_from_secs_f64(seconds.floor())
                .ok()
                .and_then(|lifetime| i64::try_from(lifetime.as_secs()).ok())
                .unwrap_or(i64::MAX)
        })
    }
}

#[derive(Deserialize)]
struct EndpointRefusal {
    error: String,
    error_description: Option<String>,
}

/// Reads an answer of the endpoint that arrived at `now`.
pub(super) fn read(
    url: &Url,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    proof: &Proof,
    now: Timestamp,
) -> Result<AccessToken, Failure> {
    let host = host_of(url);
    let body = if body.len() > MAXIMUM_BYTES { &[] } else { body };
    if status == 200 {
        return read_token(body, now).ok_or_else(|| {
            unreachable(format!(
                "the answer of {host} is not a token; does the tenant's token address name a token endpoint?"
            ))
        });
    }
    let refused: Option<EndpointRefusal> = serde_json::from_slice(body).ok();
    let said = refused
        .as_ref()
        .map(|refused| format!(": {}", refusal_text(refused, proof)))
        .unwrap_or_default();
    let detail = format!("{host} answered {status}{said}");
    let pause = retry_after(headers, now);
    match (status, refused.as_ref().map(|refused| refused.error.as_str())) {
        (429 | 503, _) if status == 429 || pause.is_some() => Err(Failure::new(
            ErrorClass::Throttled { retry_after: pause },
            Code::TokenUnreachable,
            detail,
        )),
        (500.., _) | (_, Some("temporarily_unavailable" | "server_error") | None) => Err(unreachable(detail)),
        (_, Some(_)) => Err(Failure::new(ErrorClass::Refused, Code::TokenRefused, detail)),
    }
}

fn read_token(body: &[u8], now: Timestamp) -> Option<AccessToken> {
    let granted: Granted = serde_json::from_slice(body).ok()?;
    let token = granted.access_token.as_str();
    if !granted.token_type.eq_ignore_ascii_case("bearer")
        || token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return None;
    }
    let life = match granted.expires_in {
        Some(seconds) => seconds.whole_seconds()?,
        None => DEFAULT_LIFE,
    };
    Some(AccessToken {
        header: secret_header(&format!("Bearer {token}")).ok()?,
        obtained: now,
        expires: now
            .checked_add(SignedDuration::from_secs(life.min(LONGEST_LIFE)))
            .ok()?,
    })
}

/// Returns the endpoint's own words as one line, cut to [`SHOWN`] characters and without our secret.
fn refusal_text(refused: &EndpointRefusal, proof: &Proof) -> String {
    let description = refused.error_description.as_deref().unwrap_or_default();
    let words = format!("{} {description}", refused.error);
    let words = super::scrub::hide(words, &[proof.value()]);
    let line: Vec<&str> = words
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    line.join(" ").chars().take(SHOWN).collect()
}

fn unreachable(detail: String) -> Failure {
    Failure::new(ErrorClass::Transient, Code::TokenUnreachable, detail)
}

#[cfg(test)]
mod tests {
    use crate::http::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    const CANARY: &str = "s3cret/with+signs=";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn answer(status: u16, pause: Option<&str>, body: &str) -> Result<AccessToken, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(pause) = pause {
            headers.insert(RETRY_AFTER, HeaderValue::from_str(pause).unwrap());
        }
        let url = Url::parse("https://login.example/tenant/token").unwrap();
        let proof = Proof::Secret(SecretString::from(CANARY));
        read(&url, status, &headers, body.as_bytes(), &proof, now())
    }

    #[test]
    fn the_form_holds_the_proof() {
        let secret = form(
            "app 1",
            "https://x.example/.default",
            &Proof::Secret(SecretString::from(CANARY)),
        );
        assert_eq!(
            secret,
            "grant_type=client_credentials&client_id=app+1&scope=https%3A%2F%2Fx.example%2F.default\
             &client_secret=s3cret%2Fwith%2Bsigns%3D"
        );
        let assertion = form("app", "scope", &Proof::Assertion(SecretString::from("aa.bb.cc")));
        assert!(assertion.ends_with(
            b"&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                  &client_assertion=aa.bb.cc"
        ));
    }

    #[test]
    fn tokens_are_read_with_their_life() {
        let table = [
            (
                r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#,
                Some(3599),
            ),
            (
                r#"{"token_type":"bearer","expires_in":"3600","access_token":"abc","resource":"x"}"#,
                Some(3600),
            ),
            (r#"{"token_type":"Bearer","access_token":"abc"}"#, Some(300)),
            (
                r#"{"token_type":"Bearer","expires_in":1e300,"access_token":"abc"}"#,
                Some(86_400),
            ),
            (
                r#"{"token_type":"Bearer","expires_in":0,"access_token":"abc"}"#,
                None,
            ),
            (
                r#"{"token_type":"Bearer","expires_in":-5,"access_token":"abc"}"#,
                None,
            ),
            (
                r#"{"token_type":"Bearer","expires_in":"soon","access_token":"abc"}"#,
                None,
            ),
            (
                r#"{"token_type":"mac","expires_in":3599,"access_token":"abc"}"#,
                None,
            ),
            (
                r#"{"token_type":"Bearer","expires_in":3599,"access_token":""}"#,
                None,
            ),
            (
                r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a\r\nX: b"}"#,
                None,
            ),
            (r#"{"token_type":"Bearer","expires_in":3599}"#, None),
            ("<html>Sign in</html>", None),
            ("", None),
        ];
        for (body, life) in table {
            match (answer(200, None, body), life) {
                (Ok(token), Some(life)) => {
                    assert_eq!(token.header, "Bearer abc");
                    assert!(token.header.is_sensitive());
                    assert_eq!(
                        token.obtained.duration_until(token.expires).as_secs(),
                        life,
                        "{body}"
                    );
                }
                (Err(failure), None) => {
                    assert_eq!(
                        (failure.class, failure.code),
                        (ErrorClass::Transient, Code::TokenUnreachable)
                    );
                }
                (result, _) => panic!("{body}: {:?}", result.map(|_| ())),
            }
        }
        let large = format!(
            r#"{{"token_type":"Bearer","access_token":"{}"}}"#,
            "x".repeat(MAXIMUM_BYTES)
        );
        assert!(answer(200, None, &large).is_err());
    }

    #[test]
    fn errors_are_distinguished() {
        let refused = (ErrorClass::Refused, Code::TokenRefused);
        let transient = (ErrorClass::Transient, Code::TokenUnreachable);
        let throttled = |seconds: Option<u64>| {
            (
                ErrorClass::Throttled {
                    retry_after: seconds.map(Duration::from_secs),
                },
                Code::TokenUnreachable,
            )
        };
        let aadsts = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}"#;
        let table = [
            (401, None, aadsts, refused),
            (400, None, r#"{"error":"unauthorized_client"}"#, refused),
            (400, None, r#"{"error":"invalid_scope"}"#, refused),
            (400, None, r#"{"error":"temporarily_unavailable"}"#, transient),
            (400, None, r#"{"error":"server_error"}"#, transient),
            (400, None, "<html>", transient),
            (302, Some("5"), "", transient),
            (404, None, "not found", transient),
            (500, None, aadsts, transient),
            (502, None, "", transient),
            (503, None, "", transient),
            (503, Some("7"), "", throttled(Some(7))),
            (429, Some("120"), aadsts, throttled(Some(120))),
            (429, None, "", throttled(None)),
        ];
        for (status, pause, body, expected) in table {
            let failure = answer(status, pause, body).map(|_| ()).unwrap_err();
            assert_eq!(
                (failure.class, failure.code),
                expected,
                "{status} {pause:?} {body}"
            );
            assert!(
                failure
                    .detail
                    .starts_with(&format!("login.example:443 answered {status}")),
                "{}",
                failure.detail
            );
        }
        assert!(
            answer(401, None, aadsts)
                .map(|_| ())
                .unwrap_err()
                .detail
                .contains("AADSTS7000215")
        );
    }

    #[test]
    fn an_endpoint_that_repeats_the_secret_is_not_repeated() {
        let body = serde_json::json!({
            "error": "invalid_client",
            "error_description": format!("line 1\r\n{CANARY}\u{7} s3cret%2Fwith%2Bsigns%3D {}", "é".repeat(500)),
        });
        let failure = answer(401, None, &body.to_string()).map(|_| ()).unwrap_err();
        assert!(!failure.detail.contains("s3cret"), "{}", failure.detail);
        assert!(
            failure
                .detail
                .contains("invalid_client line 1 [secret] [secret] é")
        );
        assert!(failure.detail.chars().count() < SHOWN + 60);
        assert!(!failure.detail.chars().any(char::is_control));
    }
}
