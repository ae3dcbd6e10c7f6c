use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, LOCATION};
use tasksync_common::clock::{ManualClock, SystemClock};
use tasksync_common::metrics::record;
use tasksync_common::settings::OutboundSettings;
use tasksync_common::tasks::spawn;
use tasksync_worker::http::{CallError, Http, HttpAnswer, HttpRequest};
use url::Url;

use crate::server::{Authority, Names, Reply, Server, settings};

fn get(url: Url) -> HttpRequest {
    HttpRequest {
        method: reqwest::Method::GET,
        url,
        server: record::Server::Ews,
        payer: "contoso".into(),
        operation: "GetFolder",
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(20),
        sign_in: None,
    }
}

fn client(settings: OutboundSettings) -> Http {
    Http::new(settings, Arc::new(SystemClock)).unwrap()
}

fn client_with_names(settings: OutboundSettings, names: &Arc<Names>) -> Http {
    Http::with_lookup(settings, Arc::new(SystemClock), names.clone()).unwrap()
}

fn refusal_text(result: Result<HttpAnswer, CallError>) -> String {
    match result {
        Err(error @ CallError::AddressRefused(_)) => {
            assert!(!error.may_have_happened());
            error.to_string()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_given_back_whole() {
    let server = Server::plain(|_, _| {
        Reply::answer(
            201,
            "Date: Mon, 02 Nov 2026 10:00:10 GMT\r\nX-Kind: test\r\n",
            "hello",
        )
    })
    .await;
    let clock = ManualClock::at("2026-11-02T10:00:00Z".parse::<Timestamp>().unwrap());
    let http = Http::new(settings(), clock).unwrap();
    let mut call = get(server.url("/path?query=1"));
    call.method = reqwest::Method::POST;
    call.body = Bytes::from_static(b"question");
    let answer = http.send(call).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (201, &b"hello"[..]));
    assert_eq!(
        answer.header(reqwest::header::HeaderName::from_static("x-kind")),
        Some("test")
    );
    assert_eq!(answer.clock_offset, Some(SignedDuration::from_secs(10)));
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /path?query=1 HTTP/1.1\r\n") && request.ends_with("\r\n\r\nquestion"),
        "{request}"
    );
}

#[tokio::test]
async fn refused_addresses_are_never_connected_to() {
    let server = Server::plain(|_, _| Reply::answer(200, "", "")).await;
    let port = server.address.port();
    let strict = OutboundSettings {
        allowed_networks: Vec::new(),
        ..settings()
    };
    let http = client(strict.clone());
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        let reason = refusal_text(http.send(get(url)).await);
        assert!(reason.contains("outbound.allowed_networks"), "{host}: {reason}");
    }
    // Names whose owner points them to internal addresses.
    for answer in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:7f00:1", "fd00::1"] {
        let http = client_with_names(strict.clone(), &Names::new(&[&[answer]]));
        let reason = refusal_text(
            http.send(get(format!("http://mail.contoso.example:{port}/")
                .parse()
                .unwrap()))
                .await,
        );
        assert!(
            reason.starts_with("mail.contoso.example leads to"),
            "{answer}: {reason}"
        );
    }
    // A metadata address blocks even a name that also has an allowed address.
    let http = client_with_names(settings(), &Names::new(&[&["127.0.0.1", "169.254.169.254"]]));
    let reason = refusal_text(
        http.send(get(format!("http://mail.contoso.example:{port}/")
            .parse()
            .unwrap()))
            .await,
    );
    assert!(reason.contains("never connects there"), "{reason}");
    assert_eq!(server.connections(), 0);
    // The same address is allowed by these settings.
    assert!(client(settings()).send(get(server.url("/"))).await.is_ok());
}

#[tokio::test]
async fn a_name_that_changes_between_calls_is_checked_for_each_connection() {
    let server = Server::plain(|_, _| {
        Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec())
    })
    .await;
    let names = Names::new(&[
        &["127.0.0.1"],
        &["169.254.169.254"],
        &["10.0.0.1"],
        &["127.0.0.1"],
    ]);
    let http = client_with_names(settings(), &names);
    let url: Url = format!("http://sp.contoso.example:{}/", server.address.port())
        .parse()
        .unwrap();
    assert!(http.send(get(url.clone())).await.is_ok());
    assert_eq!(names.asked(), 1, "checked and connected with one lookup");
    refusal_text(http.send(get(url.clone())).await);
    refusal_text(http.send(get(url.clone())).await);
    assert!(http.send(get(url)).await.is_ok());
    assert_eq!((server.connections(), names.asked()), (2, 4));
}

#[tokio::test]
async fn plain_http_needs_the_trial_setting() {
    let server = Server::plain(|_, _| Reply::answer(200, "", "")).await;
    let http = client(OutboundSettings {
        allow_plain_http: false,
        ..settings()
    });
    let reason = refusal_text(http.send(get(server.url("/secret-plans"))).await);
    assert!(
        reason.contains("allow_plain_http") && !reason.contains("secret-plans"),
        "{reason}"
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn redirects_are_answers() {
    let target = Server::plain(|_, _| Reply::answer(200, "", "stolen")).await;
    let location = target.url("/");
    let server =
        Server::plain(move |_, _| Reply::answer(302, &format!("Location: {location}\r\n"), "")).await;
    let answer = client(settings()).send(get(server.url("/"))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header(LOCATION), Some(target.url("/").as_str()));
    assert_eq!(target.connections(), 0);
}

/// Returns a gzip file of `megabytes` zero bytes: one literal, then matches of 258 bytes at distance 1, in fixed
/// Huffman codes.
fn bomb(megabytes: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut buffer, mut filled) = (0_u8, 0_u32);
    let mut put = |bits: &[u8]| {
        for bit in bits {
            buffer |= *bit << filled;
            filled += 1;
            if filled == 8 {
                bytes.push(buffer);
                (buffer, filled) = (0, 0);
            }
        }
    };
    // Header of the last block with fixed codes; then the literal 0.
    put(&[1, 1, 0]);
    put(&[0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..megabytes * 1024 * 1024 / 258 {
        // Length code 285, distance code 0.
        put(&[1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    // End of block, padded.
    put(&[0; 15]);
    bytes
}

#[tokio::test]
async fn large_answers_are_cut_off_also_when_they_are_inflated() {
    const LIMIT: usize = 1024 * 1024;
    let server = Server::plain(|_, request| {
        if request.starts_with("GET /bomb") {
            let bomb = bomb(20);
            assert!(bomb.len() < LIMIT);
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            )
            .into_bytes();
            answer.extend_from_slice(&bomb);
            Reply::Send(answer)
        } else if request.starts_with("GET /announced") {
            Reply::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n".to_vec())
        } else if request.starts_with("GET /endless") {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..20 {
                answer.extend_from_slice(b"10000\r\n");
                answer.resize(answer.len() + 0x10000, b'x');
                answer.extend_from_slice(b"\r\n");
            }
            Reply::Send(answer)
        } else {
            Reply::answer(200, "", &"x".repeat(LIMIT))
        }
    })
    .await;
    let http = client(OutboundSettings {
        maximum_answer_bytes: LIMIT,
        ..settings()
    });
    let host = || server.address.to_string();
    let too_large = || CallError::TooLarge {
        host: host(),
        limit: LIMIT,
    };
    let inflates = CallError::Inflates { host: host() };
    for (path, expected) in [
        ("/bomb", inflates),
        ("/announced", too_large()),
        ("/endless", too_large()),
    ] {
        let error = http.send(get(server.url(path))).await.unwrap_err();
        assert_eq!(error, expected, "{path}");
        assert!(error.may_have_happened());
    }
    let answer = http.send(get(server.url("/exactly"))).await.unwrap();
    assert_eq!(answer.body.len(), LIMIT);
}

#[tokio::test]
async fn failures_are_distinguished_by_whether_anything_was_sent() {
    let server = Server::plain(|_, request| {
        if request.starts_with("GET /hang") {
            Reply::Hang
        } else if request.starts_with("GET /cut") {
            Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
        } else if request.starts_with("GET /nothing") {
            Reply::SendAndClose(Vec::new())
        } else if request.starts_with("GET /headers") {
            Reply::SendAndClose(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)).into_bytes())
        } else {
            Reply::SendAndClose(b"what is HTTP?\r\n\r\n".to_vec())
        }
    })
    .await;
    let http = client(settings());
    for path in ["/cut", "/nothing", "/headers", "/nonsense"] {
        let error = http.send(get(server.url(path))).await.unwrap_err();
        assert!(matches!(error, CallError::Broken { .. }), "{path}: {error}");
        assert!(error.may_have_happened());
        assert!(!error.to_string().contains(path), "{error}");
    }
    let mut call = get(server.url("/hang"));
    call.timeout = Duration::from_millis(50);
    let error = http.send(call).await.unwrap_err();
    assert!(
        matches!(error, CallError::TimedOut { seconds: 1, .. }) && error.may_have_happened(),
        "{error}"
    );
    // The settings cut the time that a caller allows.
    let short = OutboundSettings {
        request_timeout: Duration::from_millis(50),
        ..settings()
    };
    let mut call = get(server.url("/hang"));
    call.timeout = Duration::from_secs(3);
    let error = client(short).send(call).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { seconds: 1, .. }), "{error}");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = http
        .send(get(format!("http://{free}/").parse().unwrap()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CallError::NotConnected { .. }) && !error.may_have_happened(),
        "{error}"
    );
}

#[tokio::test]
async fn certificates_are_checked_and_the_reason_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("trusted");
    let trusted = folder.path().join("authorities.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let trusting = OutboundSettings {
        authorities: Some(trusted),
        allow_plain_http: false,
        ..settings()
    };
    let ok = || |_: usize, _: &str| Reply::answer(200, "", "fine");
    let call = async |settings: OutboundSettings, port: u16| {
        let http = client_with_names(settings, &Names::new(&[&["127.0.0.1"]]));
        let url = format!("https://mail.contoso.example:{port}/").parse().unwrap();
        http.send(get(url)).await
    };
    let good = authority.issue("mail.contoso.example", |_| {});
    let server = Server::tls(&good, ok()).await;
    let answer = call(trusting.clone(), server.address.port()).await.unwrap();
    assert_eq!(&answer.body[..], b"fine");

    let expect = |result: Result<HttpAnswer, CallError>, words: &str| match result {
        Err(error @ CallError::NotConnected { .. }) => {
            assert!(
                error.to_string().contains(words),
                "{error} does not say {words:?}"
            );
        }
        other => panic!("expected {words:?}: {other:?}"),
    };
    expect(
        call(
            OutboundSettings {
                authorities: None,
                ..trusting.clone()
            },
            server.address.port(),
        )
        .await,
        "add the authority's certificate to the file of outbound.authorities",
    );
    let table = [
        (
            authority.issue("other.example", |_| {}),
            "its certificate is for another host name",
        ),
        (
            authority.issue("mail.contoso.example", |params| {
                params.not_after = rcgen::date_time_ymd(2024, 6, 1);
            }),
            "its certificate has expired",
        ),
        (
            authority.issue("mail.contoso.example", |params| {
                params.not_before = rcgen::date_time_ymd(2098, 1, 1);
            }),
            "its certificate is not valid yet",
        ),
        (
            Authority::new("unknown").issue("mail.contoso.example", |_| {}),
            "authority that is not trusted",
        ),
    ];
    for (identity, words) in table {
        let server = Server::tls(&identity, ok()).await;
        expect(call(trusting.clone(), server.address.port()).await, words);
        assert_eq!(server.requests().len(), 0);
    }
    // Nothing in a TLS greeting ends the head of a request, so this server sends first.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaking = spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.shutdown().await;
    });
    expect(call(trusting, port).await, "does not speak TLS");
    speaking.await.unwrap();
}

#[tokio::test]
async fn distrusted_connections_serve_no_further_request() {
    let server = Server::plain(|_, _| Reply::answer(200, "", "")).await;
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let http = Http::new(settings(), clock.clone()).unwrap();
    let send = async || http.send(get(server.url("/"))).await.map(|_| ()).unwrap();
    send().await;
    send().await;
    assert_eq!(server.connections(), 1, "connections are kept");
    clock.advance(SignedDuration::from_secs(11));
    assert!(http.distrust());
    send().await;
    assert_eq!(server.connections(), 2);
    // Too soon: the request is remembered and takes effect later.
    assert!(!http.distrust());
    send().await;
    assert_eq!(server.connections(), 2);
    clock.advance(SignedDuration::from_secs(10));
    send().await;
    assert_eq!(server.connections(), 3);
    send().await;
    assert_eq!(server.connections(), 3);
}

#[test]
fn settings_that_cannot_be_used_are_named_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let table = [
        (
            OutboundSettings {
                allowed_networks: vec!["10.1.0.0/8".to_owned()],
                ..settings()
            },
            "outbound.allowed_networks: \"10.1.0.0/8\" has bits set after its prefix; did you mean 10.0.0.0/8?",
        ),
        (
            OutboundSettings {
                authorities: Some(folder.path().join("missing.pem")),
                ..settings()
            },
            "missing.pem: No such file",
        ),
        (
            OutboundSettings {
                authorities: Some(empty),
                ..settings()
            },
            "empty.pem: holds no certificate in PEM",
        ),
    ];
    for (settings, words) in table {
        let error = Http::new(settings, Arc::new(SystemClock))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Runs in a child process, which the test below starts with proxies in its environment.
#[tokio::test]
async fn child_with_proxies_in_its_environment() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how the parent tells its child the address"
    )]
    let Ok(url) = std::env::var("TASKSYNC_TEST_URL") else {
        return;
    };
    let answer = client(settings()).send(get(url.parse().unwrap())).await.unwrap();
    assert_eq!(&answer.body[..], b"direct");
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let proxy = Server::plain(|_, _| Reply::answer(200, "", "by proxy")).await;
    let server = Server::plain(|_, _| Reply::answer(200, "", "direct")).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "http::child_with_proxies_in_its_environment"]);
    child.env("TASKSYNC_TEST_URL", server.url("/").as_str());
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        child.env(name, proxy.url("/").as_str());
    }
    let output = child.output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
}
