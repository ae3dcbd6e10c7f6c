//! NTLM, Kerberos and Negotiate against servers that share no code with tasksync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tasksync_common::clock::ManualClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record;
use tasksync_common::model::TenantId;
use tasksync_common::random::unique_id;
use tasksync_common::registry::Credentials;
use tasksync_common::settings::{OutboundSettings, SecretsSettings};
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_loadtest::services::on_premises::{OnPremises, PEOPLE, REALM};
use tasksync_loadtest::services::{Binaries, PrivateAuthority, ServiceFolder, started_or_skipped};
use tasksync_worker::auth::{Authenticator, SignIn};
use tasksync_worker::http::{CallError, Http, HttpAnswer, HttpRequest};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use url::Url;

use crate::python;

/// The servers, started once for all tests.
struct Servers {
    running: OnPremises,
    authority: PathBuf,
    issuer: PrivateAuthority,
}

static SERVERS: OnceCell<Option<Servers>> = OnceCell::const_new();

async fn servers() -> Option<&'static Servers> {
    let start = async || {
        let python = tokio::task::spawn_blocking(python::interpreter).await.unwrap();
        let folder = Arc::new(ServiceFolder::new(None, Binaries::default()).unwrap());
        let issuer = PrivateAuthority::generate().unwrap();
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, issuer.pem()).unwrap();
        let servers = OnPremises::start(&folder, &python, &issuer, None).await;
        Some(Servers {
            running: started_or_skipped(servers)?,
            authority,
            issuer,
        })
    };
    SERVERS.get_or_init(start).await.as_ref()
}

/// A worker's way to the servers.
#[derive(Clone)]
struct Worker {
    http: Http,
    auth: Authenticator,
    clock: Arc<ManualClock>,
    secrets: Arc<TempDir>,
}

impl Worker {
    fn new(servers: &Servers) -> Self {
        Self::allowing(servers, &["127.0.0.0/8"])
    }

    fn allowing(servers: &Servers, networks: &[&str]) -> Self {
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let outbound = OutboundSettings {
            allowed_networks: networks.iter().map(|&network| network.to_owned()).collect(),
            allow_plain_http: true,
            authorities: Some(servers.authority.clone()),
            ..OutboundSettings::default()
        };
        let http = Http::new(outbound, clock.clone()).unwrap();
        let secrets = Arc::new(tempfile::tempdir().unwrap());
        let auth = Authenticator::new(
            http.clone(),
            SecretsSettings {
                folder: secrets.path().to_owned(),
                ..SecretsSettings::default()
            },
        );
        let worker = Self {
            http,
            auth,
            clock,
            secrets,
        };
        worker.set_password(PEOPLE[0].1);
        worker
    }

    fn set_password(&self, password: &str) {
        std::fs::write(self.secrets.path().join("password"), password).unwrap();
    }

    async fn post(
        &self,
        tenant: &str,
        credentials: &Arc<Credentials>,
        url: &str,
    ) -> Result<HttpAnswer, CallError> {
        let url: Url = url.parse().unwrap();
        let tenant: TenantId = tenant.parse().unwrap();
        let server = record::Server::Ews;
        let sign_in = self
            .auth
            .sign_in(&tenant, credentials, server, &url)
            .await
            .unwrap();
        let SignIn::Connection(sign_in) = sign_in else {
            panic!("a header signs in")
        };
        self.http
            .send(HttpRequest {
                method: reqwest::Method::POST,
                url,
                server,
                payer: "contoso".into(),
                operation: "GetItem",
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"a task"),
                timeout: Duration::from_secs(20),
                sign_in: Some(sign_in),
            })
            .await
    }

    /// Sends one request and returns the account that the server knows, after checking that the body arrived.
    async fn user(&self, credentials: &Arc<Credentials>, url: &str) -> String {
        let answer = self.post("contoso", credentials, url).await.unwrap();
        assert_eq!(answer.status, 200, "{credentials:?} {:?}", answer.headers);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["body"], "a task");
        assert_eq!(body["method"], "POST");
        body["user"].as_str().unwrap().to_owned()
    }

    async fn status(&self, credentials: &Arc<Credentials>, url: &str) -> u16 {
        self.post("contoso", credentials, url).await.unwrap().status
    }

    async fn failure(&self, credentials: &Arc<Credentials>, url: &str) -> Failure {
        match self.post("contoso", credentials, url).await {
            Err(CallError::SignIn(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

fn credentials(value: Value) -> Arc<Credentials> {
    let mut value = value;
    value["password"] = json!("file:password");
    let credentials: Credentials = serde_json::from_value(value).unwrap();
    credentials.check().unwrap();
    Arc::new(credentials)
}

fn ntlm() -> Arc<Credentials> {
    credentials(json!({ "kind": "ntlm", "user": "CORP\\svc" }))
}

fn ntlm_inside_negotiate() -> Arc<Credentials> {
    credentials(json!({ "kind": "negotiate", "user": "CORP\\svc" }))
}

fn kerberos(servers: &Servers) -> Arc<Credentials> {
    credentials(json!({ "kind": "kerberos", "user": "svc", "realm": REALM, "kdc": [servers.running.kdc()] }))
}

fn kerberos_inside_negotiate(servers: &Servers) -> Arc<Credentials> {
    credentials(json!({
        "kind": "negotiate", "user": "svc", "realm": REALM, "kdc": [servers.running.kdc()], "ntlm": false,
    }))
}

/// Returns the same credentials without a channel binding.
fn unbound(bound: &Credentials) -> Arc<Credentials> {
    let mut value = serde_json::to_value(bound).unwrap();
    value["channel_binding"] = json!("omit");
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Returns how many connections were opened for requests to `url`, and the statuses of the requests, once Apache has
/// written at least `least` of them into its log.
async fn traffic(servers: &Servers, url: &str, least: usize) -> (usize, Vec<u16>) {
    let log = async {
        loop {
            let requests = servers.running.requests(url);
            if requests.len() >= least {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let requests = tokio::time::timeout(Duration::from_secs(20), log).await.unwrap();
    let opened = requests.iter().filter(|(number, _)| *number == 0).count();
    (opened, requests.into_iter().map(|(_, status)| status).collect())
}

#[tokio::test]
async fn each_kind_signs_a_connection_in_once_and_the_body_arrives_once() {
    let Some(servers) = servers().await else { return };
    let worker = Worker::new(servers);
    let (ntlm_url, negotiate_url) = (servers.running.ntlm(), servers.running.negotiate());
    for (number, (credentials, url, user, statuses)) in [
        (ntlm(), &ntlm_url, "CORP\\svc", vec![401, 200, 200, 200]),
        (
            ntlm_inside_negotiate(),
            &ntlm_url,
            "CORP\\svc",
            vec![401, 200, 200, 200],
        ),
        (
            kerberos(servers),
            &negotiate_url,
            "svc@CORP.TEST",
            vec![200, 200, 200],
        ),
        (
            kerberos_inside_negotiate(servers),
            &negotiate_url,
            "svc@CORP.TEST",
            vec![200, 200, 200],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let url = format!("{url}once/{number}");
        for _ in 0..3 {
            assert_eq!(worker.user(&credentials, &url).await, user);
        }
        assert_eq!(
            traffic(servers, &url, statuses.len()).await,
            (1, statuses),
            "{credentials:?}"
        );
    }
}

/// A server with a certificate of the same authority that passes everything on, as an intercepting proxy does. Returns
/// its address.
async fn middleman(servers: &Servers, to: &str) -> (String, AbortOnDropHandle<()>) {
    let certificate = servers.issuer.certify(&["localhost"]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            CertificateDer::pem_slice_iter(certificate.certificate.as_bytes())
                .map(Result::unwrap)
                .collect(),
            PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let mut trusted = RootCertStore::empty();
    trusted
        .add(CertificateDer::from_pem_slice(servers.issuer.pem().as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let (acceptor, connector) = (
        TlsAcceptor::from(Arc::new(config)),
        TlsConnector::from(Arc::new(client)),
    );
    let target = format!("127.0.0.1:{}", Url::parse(to).unwrap().port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let serving = spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, connector, target) = (acceptor.clone(), connector.clone(), target.clone());
            connections.spawn(async move {
                let mut near = acceptor.accept(stream).await.unwrap();
                let far = TcpStream::connect(target).await.unwrap();
                let mut far = connector
                    .connect("localhost".try_into().unwrap(), far)
                    .await
                    .unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, serving)
}

#[tokio::test]
async fn the_channel_binding_is_that_of_the_certificate_and_a_setting_leaves_it_out() {
    let Some(servers) = servers().await else { return };
    let checker = servers.running.checker();
    let (middleman, _serving) = middleman(servers, &checker).await;
    for (credentials, unbound_status) in [
        (ntlm(), 401),
        (ntlm_inside_negotiate(), 401),
        // MIT's library checks a binding that is sent and requires none, as Extended Protection does that is allowed.
        (kerberos(servers), 200),
        (kerberos_inside_negotiate(servers), 200),
    ] {
        let path = credentials.scheme().to_lowercase();
        let (direct, intercepted) = (format!("{checker}{path}"), format!("{middleman}{path}"));
        let unbound = unbound(&credentials);
        let user = Worker::new(servers).user(&credentials, &direct).await;
        assert!(user.contains("svc"), "{user}");
        assert_eq!(
            Worker::new(servers).status(&unbound, &direct).await,
            unbound_status,
            "{unbound:?}"
        );
        assert_eq!(
            Worker::new(servers).status(&credentials, &intercepted).await,
            401,
            "{credentials:?}"
        );
        assert_eq!(
            Worker::new(servers).status(&unbound, &intercepted).await,
            unbound_status,
            "{unbound:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_its_successor_at_once() {
    let Some(servers) = servers().await else { return };
    let by_kdc = "pre-authentication information was invalid";
    for (credentials, url, tried, requests) in [
        (ntlm(), servers.running.ntlm(), "after NTLM", 2),
        (
            ntlm_inside_negotiate(),
            servers.running.ntlm(),
            "after Negotiate",
            2,
        ),
        (kerberos(servers), servers.running.negotiate(), by_kdc, 0),
        (
            kerberos_inside_negotiate(servers),
            servers.running.negotiate(),
            by_kdc,
            0,
        ),
    ] {
        let worker = Worker::new(servers);
        worker.set_password("wrong");
        let url = format!("{url}wrong/{}", unique_id().simple());
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let (worker, credentials, url) = (worker.clone(), Arc::clone(&credentials), url.clone());
                spawn(async move { worker.post("contoso", &credentials, &url).await }).detach()
            })
            .collect();
        let mut refusals = 0;
        for caller in callers {
            match caller.await.unwrap() {
                Ok(answer) => {
                    assert_eq!(answer.status, 401);
                    refusals += 1;
                }
                Err(CallError::SignIn(failure)) => {
                    assert_eq!(failure.class, ErrorClass::Refused);
                    assert!(failure.detail.contains(tried), "{failure}");
                    refusals += usize::from(!failure.detail.starts_with("not tried again"));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(refusals, 1, "{credentials:?}");
        assert_eq!(
            traffic(servers, &url, requests).await.1,
            vec![401; requests],
            "one handshake"
        );
        // The pause ends, and the password is still wrong: one more attempt.
        worker.clock.advance(SignedDuration::from_secs(301));
        let _ = worker.post("contoso", &credentials, &url).await;
        assert!(
            worker
                .failure(&credentials, &url)
                .await
                .detail
                .contains("2 times in a row")
        );
        // A new password is tried at once.
        worker.set_password(PEOPLE[0].1);
        worker.clock.advance(SignedDuration::from_secs(1));
        assert!(worker.user(&credentials, &url).await.contains("svc"));
    }
}

#[tokio::test]
async fn connections_carry_one_request_at_a_time_and_belong_to_one_identity_of_one_tenant() {
    let Some(servers) = servers().await else { return };
    let worker = Worker::new(servers);
    let url = format!("{}shared", servers.running.ntlm());
    let at_once = async |tenant: &'static str| {
        let callers: Vec<_> = (0..6)
            .map(|_| {
                let (worker, url) = (worker.clone(), url.clone());
                spawn(async move { worker.post(tenant, &ntlm(), &url).await.unwrap().status }).detach()
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), 200);
        }
    };
    at_once("contoso").await;
    let (opened, _) = traffic(servers, &url, 7).await;
    assert!((1..=6).contains(&opened), "{opened}");
    at_once("contoso").await;
    let (again, _) = traffic(servers, &url, 13).await;
    assert!(again <= 6, "{again}");
    at_once("fabrikam").await;
    let (foreign, statuses) = traffic(servers, &url, 20).await;
    assert!(foreign > again, "the other tenant has connections of its own");
    // Each connection was signed in once: one 401 for each.
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), foreign);
    // Another account of the same tenant.
    std::fs::write(worker.secrets.path().join("second"), PEOPLE[1].1).unwrap();
    let mut other = serde_json::to_value(&*ntlm()).unwrap();
    other["user"] = json!("CORP\\other");
    other["password"] = json!("file:second");
    let other = Arc::new(serde_json::from_value(other).unwrap());
    assert_eq!(worker.user(&other, &url).await, "CORP\\other");
    assert_eq!(worker.user(&ntlm(), &url).await, "CORP\\svc");
}

#[tokio::test]
async fn a_key_distribution_centre_obeys_the_rules_for_addresses_and_the_next_one_is_asked() {
    let Some(servers) = servers().await else { return };
    let url = servers.running.negotiate();
    let with = |kdc: Value, ntlm: bool| {
        credentials(json!({ "kind": "negotiate", "user": "svc", "realm": REALM, "kdc": kdc, "ntlm": ntlm }))
    };
    // Nothing listens on the first, and the second is not allowed.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = format!("127.0.0.1:{}", closed.port());
    let worker = Worker::new(servers);
    let several = with(json!([closed, "10.11.12.13", servers.running.kdc()]), false);
    assert_eq!(worker.user(&several, &url).await, "svc@CORP.TEST");
    let failure = worker.failure(&with(json!([closed]), false), &url).await;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::KdcUnreachable)
    );
    assert!(failure.detail.contains(&closed), "{failure}");
    let failure = worker.failure(&with(json!(["10.11.12.13"]), false), &url).await;
    assert_eq!(failure.code, Code::KdcUnreachable);
    assert!(failure.detail.contains("outbound.allowed_networks"), "{failure}");
    // Without Kerberos, NTLM is used if it may be.
    let ntlm_url = servers.running.ntlm();
    let mut falls_back = serde_json::to_value(&*with(json!([closed]), true)).unwrap();
    falls_back["realm"] = json!("CORP");
    let falls_back = Arc::new(serde_json::from_value(falls_back).unwrap());
    assert_eq!(worker.user(&falls_back, &ntlm_url).await, "CORP\\svc");
    // A realm that the centre does not know, and a service that it does not know.
    let other_realm = credentials(json!({
        "kind": "kerberos", "user": "svc", "realm": "OTHER.TEST", "kdc": [servers.running.kdc()],
    }));
    assert_eq!(worker.failure(&other_realm, &url).await.code, Code::KdcRefused);
    let mut other_service = serde_json::to_value(&*kerberos(servers)).unwrap();
    other_service["service"] = json!("HTTP/elsewhere.example");
    let other_service = Arc::new(serde_json::from_value(other_service).unwrap());
    let failure = worker.failure(&other_service, &url).await;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::KdcRefused)
    );
    assert!(failure.detail.contains("server not found"), "{failure}");
}
