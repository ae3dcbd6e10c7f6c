//! Sends secrets in every way that can fail, with every log line enabled. No secret may appear anywhere.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use tasksync_common::clock::SystemClock;
use tasksync_common::metrics::record;
use tasksync_common::registry::{Access, ChannelBinding, Credentials, SecretRef, SharePointConnection};
use tasksync_worker::auth::Authenticator;
use tasksync_worker::http::{Http, HttpRequest, secret_header};
use tasksync_worker::mailbox::ews::{EwsConnection, EwsLimits, EwsMailbox};
use tasksync_worker::mailbox::{Mailbox as _, Owner};
use tasksync_worker::source::sharepoint::{SharePointSettings, SharePointSource};
use tasksync_worker::source::{Person, Source as _};
use tasksync_worker::throttle::{MailboxLocks, Servers};
use url::Url;

use crate::server::{Authority, Names, Reply, Server, secrets, settings};

const CANARY: &str = "canary-7f3a9c-Zwitscher";
const TOKEN: &str = "token-5d1e-Piepmatz";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reply(request: &str) -> Reply {
    let granted = format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{TOKEN}"}}"#);
    let echoed = format!(r#"{{"error":"invalid_client","error_description":"you sent {CANARY}"}}"#);
    match request.split(' ').nth(1).unwrap_or_default() {
        "/granted" => Reply::answer(200, "", &granted),
        "/echo" => Reply::answer(401, &format!("X-Echo: {CANARY}\r\n"), &echoed),
        "/half" => Reply::answer(200, "", &granted[..granted.len() - 2]),
        "/busy" => Reply::answer(429, "Retry-After: 5\r\n", CANARY),
        "/error" => Reply::answer(500, "", CANARY),
        "/moved" => Reply::answer(302, &format!("Location: https://x.example/{CANARY}\r\n"), ""),
        "/cut" => Reply::SendAndClose(
            format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{CANARY}").into_bytes(),
        ),
        "/broken" => Reply::SendAndClose(format!("{CANARY}\r\n\r\n").into_bytes()),
        "/zip" => Reply::answer(200, "Content-Encoding: gzip\r\n", CANARY),
        "/large" => Reply::answer(200, "", &CANARY.repeat(10_000)),
        _ => Reply::Hang,
    }
}

/// A challenge as NTLM servers send it. It asks for a proof of the password.
const CHALLENGE: &str = "TlRMTVNTUAACAAAABAAEADgAAAA1goriOc/zesgRZWUAAAAAAAAAADoAOgA8AAAAAAwEAAAAAA9WAE0AAQAEAFYATQACABYAVwBPAFIASwBTAFQAQQBUAEkATwBOAAMABAB2AG0ABwAIABQTbyxQgd0BAAAAAA==";

/// Returns an answer that repeats the secrets of the request, each time in another of the forms that an answer can
/// have.
fn repeat(number: usize, request: &str) -> Reply {
    // The first NTLM message proves nothing.
    if request.contains("NTLM TlRMTVNTUAAB") {
        return Reply::answer(401, &format!("WWW-Authenticate: NTLM {CHALLENGE}\r\n"), "");
    }
    let said = request
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization"))
        .unwrap_or_default();
    let said = format!("you sent {said} and {CANARY}");
    let json = serde_json::json!({"odata.error": {"code": "-1, X", "message": {"value": said}}}).to_string();
    let fault = format!(
        "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><s:Fault><faultstring>{said}</faultstring>\
         <detail><ResponseCode>{said}</ResponseCode></detail></s:Fault></s:Body></s:Envelope>"
    );
    match number % 6 {
        0 => Reply::answer(500, "Content-Type: text/html\r\n", &said),
        1 => Reply::answer(
            200,
            &format!("Content-Type: {said}\r\n"),
            &format!("<html>{said}"),
        ),
        2 => Reply::answer(400, "Content-Type: application/json\r\n", &json),
        3 => Reply::answer(403, &format!("X-CasErrorCode: {said}\r\n"), &said),
        4 => Reply::answer(200, &format!("client-request-id: {CANARY}\r\n"), "{}"),
        _ => Reply::answer(500, "Content-Type: text/xml\r\n", &fault),
    }
}

/// Calls both servers through the adapters and returns the texts of their failures.
async fn through_the_adapters(
    http: &Http,
    authenticator: &Authenticator,
    credentials: Credentials,
) -> String {
    let server = Server::plain(repeat).await;
    let clock = Arc::new(SystemClock);
    let servers = Servers::new(25, clock.clone());
    let url = server.url("/EWS/Exchange.asmx");
    let limits = servers.limits_of(&url, record::Server::Ews, "");
    let mailbox = EwsMailbox::new(
        http.clone(),
        authenticator.clone(),
        EwsConnection {
            tenant: "contoso".parse().unwrap(),
            url,
            credentials: credentials.clone(),
            access: Access::Delegate,
        },
        clock.clone(),
        EwsLimits::default(),
        limits,
        MailboxLocks::new(clock.clone()),
    );
    let owner = Owner {
        mailbox: "ana@contoso.example".parse().unwrap(),
        zone: jiff::tz::TimeZone::UTC,
        marker: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
            .parse()
            .unwrap(),
    };
    let source = SharePointSource::new(
        http.clone(),
        authenticator.clone(),
        SharePointConnection {
            sites: vec![server.url("/sites/p")],
            credentials,
        },
        "contoso".parse().unwrap(),
        clock,
        servers,
        SharePointSettings {
            feed_window: Duration::ZERO,
            ..SharePointSettings::default()
        },
    );
    let mut said = String::new();
    for _ in 0..12 {
        let failure = mailbox.folders(&owner).await.unwrap_err();
        writeln!(said, "{failure} {failure:?}").unwrap();
        let person = Person::new("ana");
        let failure = source.everything(&person).await.unwrap_err();
        writeln!(said, "{failure} {failure:?}").unwrap();
    }
    assert!(said.contains("you sent") && said.contains("[secret]"), "{said}");
    said
}

/// Returns addresses of every kind of answer, and addresses that must not be called or do not answer.
fn targets(plain: &Server, tls: &Server) -> Vec<Url> {
    let answering = [
        "/granted", "/echo", "/half", "/busy", "/error", "/moved", "/cut", "/broken", "/zip", "/large",
        "/hang",
    ];
    let others = [
        format!("https://mail.contoso.example:{}/granted", tls.address.port()),
        "http://169.254.169.254/".to_owned(),
        "http://127.0.0.1:1/".to_owned(),
        format!("http://user:{CANARY}@127.0.0.1/"),
        "ftp://mail.contoso.example/".to_owned(),
    ];
    answering
        .iter()
        .map(|path| plain.url(path))
        .chain(others.iter().map(|text| text.parse::<Url>().unwrap()))
        .collect()
}

#[tokio::test]
async fn no_secret_shows_up_in_logs_errors_or_debug_output() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .try_init()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, CANARY).unwrap();
    let secret = SecretRef::File(path.clone());

    let plain = Server::plain(|_, request| reply(request)).await;
    let identity = Authority::new("unknown").issue("mail.contoso.example", |_| {});
    let tls = Server::tls(&identity, |_, request| reply(request)).await;
    let mut settings = settings();
    settings.maximum_answer_bytes = 100_000;
    settings.request_timeout = Duration::from_millis(300);
    let http = Http::with_lookup(settings, Arc::new(SystemClock), Names::new(&[&["127.0.0.1"]])).unwrap();
    let authenticator = Authenticator::new(http.clone(), secrets());

    let mut seen = String::new();
    for target in &targets(&plain, &tls) {
        // As a password, in a body and in a query.
        let basic = Credentials::Basic {
            user: "svc".to_owned(),
            password: secret.clone(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authenticator.header(&basic).await.unwrap());
        headers.insert("x-extra", secret_header(CANARY).unwrap());
        let mut url = target.clone();
        url.set_query(Some(&format!("key={CANARY}")));
        let call = HttpRequest {
            method: reqwest::Method::POST,
            url,
            server: record::Server::Ews,
            payer: "contoso".into(),
            operation: "GetFolder",
            headers,
            body: Bytes::from(format!("password={CANARY}")),
            timeout: Duration::from_secs(5),
            sign_in: None,
        };
        writeln!(seen, "{call:?} {:?}", call.headers.get(AUTHORIZATION)).unwrap();
        match http.send(call).await {
            Ok(answer) => writeln!(seen, "{answer:?}").unwrap(),
            Err(error) => writeln!(seen, "{error} {error:?}").unwrap(),
        }
        // As a client secret. An address with a password in it would be printed as the administrator wrote it.
        let oauth = Credentials::OauthSecret {
            token_url: target.clone(),
            client_id: "app".to_owned(),
            scope: "scope".to_owned(),
            secret: secret.clone(),
        };
        match authenticator.header(&oauth).await {
            Ok(header) => writeln!(seen, "{header:?}").unwrap(),
            Err(failure) => writeln!(seen, "{failure} {failure:?}").unwrap(),
        }
        // As a private key that is not valid.
        let certificate = Credentials::OauthCertificate {
            token_url: target.clone(),
            client_id: "app".to_owned(),
            scope: "scope".to_owned(),
            private_key: secret.clone(),
            certificate: secret.clone(),
        };
        let failure = authenticator.header(&certificate).await.unwrap_err();
        writeln!(seen, "{failure} {failure:?}").unwrap();
    }
    let basic = Credentials::Basic {
        user: "svc".to_owned(),
        password: secret.clone(),
    };
    let oauth = Credentials::OauthSecret {
        token_url: plain.url("/granted"),
        client_id: "app".to_owned(),
        scope: "scope".to_owned(),
        secret: secret.clone(),
    };
    let ntlm = Credentials::Ntlm {
        user: "svc".to_owned(),
        password: secret.clone(),
        channel_binding: ChannelBinding::Send,
    };
    for credentials in [basic, oauth, ntlm] {
        seen.push_str(&through_the_adapters(&http, &authenticator, credentials).await);
    }
    // Check that the servers did receive the secret.
    assert!(plain.requests().iter().any(|request| request.contains(CANARY)));

    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        log.contains("TRACE") && log.contains("hyper"),
        "nothing was logged"
    );
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("svc:{CANARY}"));
    for (place, text) in [("log", &log), ("errors and Debug", &seen)] {
        // The last is how every proof of a password by NTLM begins.
        for secret in [CANARY, TOKEN, encoded.as_str(), &encoded[..12], "TlRMTVNTUAAD"] {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                panic!("{secret} in {place}: {line}");
            }
        }
    }
}
