use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use tasksync_common::clock::{Clock as _, ManualClock};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::{
    Fleet as _, FleetParticipant as _, FleetReport, Member, MemoryFleet, Role, ServerName,
};
use tasksync_common::registry::{Credentials, SecretRef};
use tasksync_common::settings::OutboundSettings;
use tasksync_common::tasks::spawn;
use tasksync_worker::auth::Authenticator;
use tasksync_worker::http::Http;
use tasksync_worker::throttle::Servers;
use url::Url;

use crate::server::{Reply, Server, secrets, settings};

fn authenticator() -> (Authenticator, Arc<ManualClock>) {
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let http = Http::new(settings(), clock.clone()).unwrap();
    (Authenticator::new(http, secrets()), clock)
}

fn secret(folder: &Path, name: &str, value: &str) -> SecretRef {
    let path = folder.join(name);
    std::fs::write(&path, value).unwrap();
    SecretRef::File(path)
}

fn application(token_url: Url, secret: SecretRef) -> Credentials {
    Credentials::OauthSecret {
        token_url,
        client_id: "app-1".to_owned(),
        scope: "https://outlook.office365.com/.default".to_owned(),
        secret,
    }
}

fn token_reply(number: usize) -> Reply {
    Reply::answer(
        200,
        "Content-Type: application/json\r\n",
        &format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"token-{number}"}}"#),
    )
}

/// Requests the header fifty times at once, each time in a separate task.
async fn at_once(
    authenticator: &Authenticator,
    credentials: &Credentials,
) -> Vec<Result<HeaderValue, Failure>> {
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (authenticator, credentials) = (authenticator.clone(), credentials.clone());
            spawn(async move { authenticator.header(&credentials).await }).detach()
        })
        .collect();
    let mut results = Vec::new();
    for caller in callers {
        results.push(caller.await.unwrap());
    }
    results
}

#[tokio::test]
async fn many_callers_cost_one_request_until_the_token_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| token_reply(number)).await;
    let (authenticator, clock) = authenticator();
    let reference = secret(folder.path(), "secret", "first secret\n");
    let credentials = application(server.url("/token"), reference);
    for header in at_once(&authenticator, &credentials).await {
        let header = header.unwrap();
        assert_eq!(header, "Bearer token-0");
        assert!(header.is_sensitive());
    }
    assert_eq!(server.requests().len(), 1);
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
    assert!(
        request
            .to_ascii_lowercase()
            .contains("content-type: application/x-www-form-urlencoded\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with(
            "grant_type=client_credentials&client_id=app-1\
             &scope=https%3A%2F%2Foutlook.office365.com%2F.default&client_secret=first+secret"
        ),
        "{request}"
    );
    // Renewal is due five minutes before the token expires; the secret was rotated in the meantime.
    secret(folder.path(), "secret", "the second secret");
    clock.advance(SignedDuration::from_secs(3300));
    at_once(&authenticator, &credentials).await;
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests()[1].ends_with("client_secret=the+second+secret"));
    assert_eq!(
        authenticator.header(&credentials).await.unwrap(),
        "Bearer token-1"
    );
}

#[tokio::test]
async fn many_callers_share_one_failure() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| match number {
        0 => Reply::answer(
            401,
            "",
            r#"{"error":"invalid_client","error_description":"AADSTS7000222: expired"}"#,
        ),
        1 => Reply::answer(429, "Retry-After: 90\r\n", ""),
        _ => token_reply(number),
    })
    .await;
    let (authenticator, clock) = authenticator();
    let credentials = application(
        server.url("/token"),
        secret(folder.path(), "secret", "hunter2-hunter2"),
    );
    for result in at_once(&authenticator, &credentials).await {
        let failure = result.unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Refused, Code::TokenRefused)
        );
        assert!(
            failure
                .detail
                .contains("answered 401: invalid_client AADSTS7000222: expired"),
            "{}",
            failure.detail
        );
    }
    assert_eq!(server.requests().len(), 1);
    clock.advance(SignedDuration::from_secs(60));
    for result in at_once(&authenticator, &credentials).await {
        assert_eq!(
            result.unwrap_err().class,
            ErrorClass::Throttled {
                retry_after: Some(Duration::from_secs(90))
            }
        );
    }
    assert_eq!(server.requests().len(), 2);
    clock.advance(SignedDuration::from_secs(90));
    assert_eq!(
        authenticator.header(&credentials).await.unwrap(),
        "Bearer token-2"
    );
}

/// The endpoint's pause is shared like those of other servers, and ends when the operator ends it.
#[tokio::test]
async fn a_pause_of_the_endpoint_is_shared_by_all_workers_and_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| match number {
        0 => Reply::answer(429, "Retry-After: 86400\r\n", ""),
        _ => token_reply(number),
    })
    .await;
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let http = Http::new(settings(), clock.clone()).unwrap();
    let servers = Servers::new(25, clock.clone());
    let authenticator = Authenticator::with_pauses_in(http, secrets(), servers.clone());
    let credentials = application(server.url("/token"), secret(folder.path(), "secret", "value"));
    let name = [ServerName::of_token_endpoint(&credentials).unwrap()];
    for _ in 0..2 {
        let failure = authenticator.header(&credentials).await.unwrap_err();
        let day = Some(Duration::from_hours(24));
        assert_eq!(failure.class, ErrorClass::Throttled { retry_after: day });
    }
    assert_eq!(server.requests().len(), 1);

    let fleet = MemoryFleet::new(clock.clone());
    let mut report = FleetReport {
        number: 1,
        lifetime: Duration::from_mins(1),
        member: Member::new("w1", Role::Worker, clock.now()),
        servers: Vec::new(),
        circuits: Vec::new(),
        circuits_version: 0,
    };
    for ends in [true, false] {
        servers.add_to_report(&mut report);
        let answer = fleet.exchange(&report).await.unwrap();
        servers.apply_answer(&report, &answer);
        report.number += 1;
        report.servers.clear();
        assert_eq!(fleet.pauses(&name).await.unwrap()[0].is_some(), ends);
        assert_eq!(fleet.end_pauses(&name).await.unwrap(), usize::from(ends));
    }
    assert_eq!(
        authenticator.header(&credentials).await.unwrap(),
        "Bearer token-1"
    );
}

#[tokio::test]
async fn a_refused_token_is_replaced_but_not_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| token_reply(number)).await;
    let (authenticator, clock) = authenticator();
    let credentials = application(
        server.url("/token"),
        secret(folder.path(), "secret", "hunter2-hunter2"),
    );
    let header = async || authenticator.header(&credentials).await.unwrap();
    assert_eq!(header().await, "Bearer token-0");
    clock.advance(SignedDuration::from_secs(600));
    // Every user of the batch was refused.
    for _ in 0..10 {
        assert!(authenticator.renew(&credentials));
        assert_eq!(header().await, "Bearer token-1");
    }
    clock.advance(SignedDuration::from_secs(31));
    assert!(!authenticator.renew(&credentials));
    assert_eq!(header().await, "Bearer token-1");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_old_token_serves_while_the_endpoint_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| match number {
        0 => token_reply(0),
        _ => Reply::answer(503, "", "<html>"),
    })
    .await;
    let (authenticator, clock) = authenticator();
    let credentials = application(
        server.url("/token"),
        secret(folder.path(), "secret", "hunter2-hunter2"),
    );
    authenticator.header(&credentials).await.unwrap();
    clock.advance(SignedDuration::from_secs(3400));
    for header in at_once(&authenticator, &credentials).await {
        assert_eq!(header.unwrap(), "Bearer token-0");
    }
    assert_eq!(server.requests().len(), 2, "one request, then a pause");
    clock.advance(SignedDuration::from_secs(195));
    let failure = authenticator.header(&credentials).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::TokenUnreachable)
    );
}

#[tokio::test]
async fn a_server_that_is_no_endpoint_is_distinguished_from_one_that_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|_, request| {
        if request.starts_with("POST /page") {
            Reply::answer(200, "", "<html>Sign in</html>")
        } else if request.starts_with("POST /moved") {
            Reply::answer(302, "Location: http://127.0.0.1:1/\r\n", "")
        } else if request.starts_with("POST /cut") {
            Reply::SendAndClose(Vec::new())
        } else {
            Reply::answer(404, "", "")
        }
    })
    .await;
    let (authenticator, _) = authenticator();
    let reference = secret(folder.path(), "secret", "hunter2-hunter2");
    for path in ["/page", "/moved", "/cut", "/missing"] {
        let failure = authenticator
            .header(&application(server.url(path), reference.clone()))
            .await
            .unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::TokenUnreachable),
            "{path}: {failure}"
        );
    }
    // Addresses of token endpoints are checked like all others.
    let metadata: Url = "http://169.254.169.254/metadata/identity/oauth2/token"
        .parse()
        .unwrap();
    let failure = authenticator
        .header(&application(metadata, reference))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::AddressRefused)
    );
}

#[tokio::test]
async fn a_certificate_signs_an_assertion() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::plain(|number, _| token_reply(number)).await;
    let (authenticator, _) = authenticator();
    let pem = include_str!("../../src/auth/fixtures/test-key.pem");
    let key = rcgen::KeyPair::from_pem_and_sign_algo(pem, &rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["tasksync.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    let with = |private_key: &str| Credentials::OauthCertificate {
        token_url: server.url("/token"),
        client_id: "app-1".to_owned(),
        scope: "https://contoso.sharepoint.com/.default".to_owned(),
        private_key: secret(folder.path(), "key.pem", private_key),
        certificate: secret(folder.path(), "certificate.pem", &certificate),
    };
    assert_eq!(authenticator.header(&with(pem)).await.unwrap(), "Bearer token-0");
    let request = &server.requests()[0];
    let (_, assertion) = request.split_once("&client_assertion=").unwrap();
    assert_eq!(assertion.split('.').count(), 3, "{assertion}");
    assert!(!request.contains("PRIVATE"));
    // An unusable key is for the operator to replace and not a failure of the endpoint.
    let (fresh, _) = self::authenticator();
    let failure = fresh.header(&with("not a key")).await.unwrap_err();
    assert_eq!(failure.code, Code::SecretUnavailable);
    assert!(
        failure.detail.contains("key.pem: it holds no private key"),
        "{}",
        failure.detail
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn basic_credentials_follow_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let (authenticator, clock) = authenticator();
    let basic = |user: &str| Credentials::Basic {
        user: user.to_owned(),
        password: SecretRef::File(folder.path().join("password")),
    };
    let credentials = basic("Aladdin");
    let failure = authenticator.header(&credentials).await.unwrap_err();
    assert_eq!(failure.code, Code::SecretUnavailable);
    secret(folder.path(), "password", "open sesame\n");
    let header = authenticator.header(&credentials).await.unwrap();
    assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(header.is_sensitive());
    assert!(!authenticator.renew(&credentials), "still the same");
    secret(folder.path(), "password", "open barley\n");
    clock.advance(SignedDuration::from_secs(61));
    assert!(authenticator.renew(&credentials));
    assert_ne!(authenticator.header(&credentials).await.unwrap(), header);
    assert!(authenticator.header(&basic("a:b")).await.is_err());
}

#[test]
fn the_defaults_allow_no_inner_network() {
    assert!(OutboundSettings::default().allowed_networks.is_empty());
    assert!(!OutboundSettings::default().allow_plain_http);
}
