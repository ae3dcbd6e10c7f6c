//! Many large answers at once.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use tasksync_common::clock::SystemClock;
use tasksync_common::error::{Code, Failure};
use tasksync_common::metrics::record::Server as Kind;
use tasksync_common::registry::{Access, Credentials, SecretRef, SharePointConnection};
use tasksync_worker::auth::Authenticator;
use tasksync_worker::http::Http;
use tasksync_worker::mailbox::ews::{EwsConnection, EwsLimits, EwsMailbox};
use tasksync_worker::mailbox::{Mailbox as _, Owner};
use tasksync_worker::source::sharepoint::{SharePointSettings, SharePointSource};
use tasksync_worker::source::{Person, Source as _};
use tasksync_worker::throttle::{MailboxLocks, Servers};

use crate::server::{Reply, Server, secrets, settings};

const BOMBS: usize = 64;
const MOST_KIB: usize = 512 * 1024;
const MIB: usize = 1024 * 1024;
const LENGTH: usize = 15 * MIB;

/// Returns an answer of this type that announces 15 MiB and contains `sent` bytes: `first`, then `again` repeated.
fn bomb(kind: &str, first: &str, again: &str, sent: usize) -> bytes::Bytes {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
    let length = answer.len() + sent;
    answer.extend_from_slice(first.as_bytes());
    answer.extend_from_slice(again.repeat(sent / again.len() + 1).as_bytes());
    answer.truncate(length);
    answer.into()
}

/// Returns an answer of this type that is small on the wire and inflates to 15 MiB: `first`, then `again` repeated.
fn packed_bomb(kind: &str, first: &str, again: &str) -> bytes::Bytes {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(first.as_bytes()).unwrap();
    packed
        .write_all(again.repeat((LENGTH - first.len()) / again.len()).as_bytes())
        .unwrap();
    let body = packed.finish().unwrap();
    assert!(body.len() < 64 * 1024, "{} bytes", body.len());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat().into()
}

/// Returns the peak memory of this process in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The parts of a process that all its tenants share.
struct Rig {
    http: Http,
    servers: Servers,
    clock: Arc<SystemClock>,
    password: tempfile::NamedTempFile,
}

impl Rig {
    fn new() -> Self {
        let clock = Arc::new(SystemClock);
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "secret").unwrap();
        Self {
            http: Http::new(settings(), clock.clone()).unwrap(),
            servers: Servers::new(BOMBS, clock.clone()),
            clock,
            password,
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials::Basic {
            user: "svc".to_owned(),
            password: SecretRef::File(self.password.path().to_owned()),
        }
    }

    fn mailbox(&self, tenant: &str, server: &Server) -> EwsMailbox {
        let url = server.url("/EWS/Exchange.asmx");
        let limits = self.servers.limits_of(&url, Kind::Ews, tenant);
        EwsMailbox::new(
            self.http.clone(),
            Authenticator::new(self.http.clone(), secrets()),
            EwsConnection {
                tenant: tenant.parse().unwrap(),
                url,
                credentials: self.credentials(),
                access: Access::Delegate,
            },
            self.clock.clone(),
            EwsLimits::default(),
            limits,
            MailboxLocks::new(self.clock.clone()),
        )
    }

    fn source(&self, tenant: &str, server: &Server) -> SharePointSource {
        SharePointSource::new(
            self.http.clone(),
            Authenticator::new(self.http.clone(), secrets()),
            SharePointConnection {
                sites: vec![server.url("/sites/p")],
                credentials: self.credentials(),
            },
            tenant.parse().unwrap(),
            self.clock.clone(),
            self.servers.clone(),
            SharePointSettings {
                feed_window: Duration::ZERO,
                ..SharePointSettings::default()
            },
        )
    }
}

fn owner(number: usize) -> Owner {
    Owner {
        mailbox: format!("p{number}@contoso.example").parse().unwrap(),
        zone: TimeZone::UTC,
        marker: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
            .parse()
            .unwrap(),
    }
}

/// The measurement needs a process of its own, because it reads the peak memory of the whole process.
#[test]
fn a_worker_survives_many_bombs_at_once() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "bombs::many_bombs_at_once"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a process of its own, started by a_worker_survives_many_bombs_at_once"]
async fn many_bombs_at_once() {
    let page = bomb("text/xml", "<html>", " ", LENGTH);
    let tree = bomb("application/json", "{\"value\":[", "{\"\":0},", LENGTH);
    println!("{} KiB at most", many_at_once(page, tree).await);
    let page = packed_bomb("text/xml", "<html>", " ");
    let tree = packed_bomb("application/json", "{\"value\":[", "{\"\":0},");
    println!("{} KiB at most", many_at_once(page, tree).await);
}

/// Lets Exchange answer each request with `page` and SharePoint with `tree`. Returns the peak memory in KiB.
async fn many_at_once(page: bytes::Bytes, tree: bytes::Bytes) -> usize {
    let hostile = Server::plain(move |_, request| {
        Reply::Share(if request.contains("/_api/") {
            tree.clone()
        } else {
            page.clone()
        })
    })
    .await;
    let healthy = Server::plain(|_, _| Reply::answer(401, "", "")).await;
    let rig = Rig::new();
    let before = peak_kib();
    let mailbox = Arc::new(rig.mailbox("contoso", &hostile));
    let mut bombs = tokio::task::JoinSet::<Result<(), Failure>>::new();
    for number in 0..BOMBS {
        if number % 8 != 0 {
            let mailbox = Arc::clone(&mailbox);
            bombs.spawn(async move { mailbox.folders(&owner(number)).await.map(drop) });
        } else {
            // A source queries its site once for all people, so each source is a separate tenant.
            let source = rig.source(&format!("contoso-{number}"), &hostile);
            let person = Person::new("ana");
            bombs.spawn(async move { source.everything(&person).await.map(drop) });
        }
    }
    // Other tenants are served in the meantime.
    let others = rig.mailbox("fabrikam", &healthy);
    for number in 0..20 {
        let failure = others.folders(&owner(number)).await.unwrap_err();
        assert_eq!(failure.code, Code::ExchangeSignInRefused, "{failure}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(result) = bombs.join_next().await {
        let failure = result.unwrap().unwrap_err();
        let expected = [
            Code::ExchangeBadAnswer,
            Code::ExchangeAnswerTooLarge,
            Code::ExchangeTimeout,
            Code::SharePointBadAnswer,
            Code::SharePointAnswerTooLarge,
            Code::SharePointTimeout,
        ];
        assert!(expected.contains(&failure.code), "{failure}");
    }
    let peak = peak_kib();
    assert!(peak < MOST_KIB, "{peak} KiB, {before} KiB before");
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_begins_many_large_answers_and_ends_none_leaves_room_for_those_of_others() {
    let begun = bomb("text/xml", "<html>", " ", 2 * MIB);
    let hostile = Server::plain(move |_, _| Reply::Share(begun.clone())).await;
    let large = format!("<html>{}", " ".repeat(2 * MIB));
    let healthy = Server::plain(move |_, _| Reply::answer(200, "Content-Type: text/html\r\n", &large)).await;
    let rig = Rig::new();
    let mailbox = Arc::new(rig.mailbox("contoso", &hostile));
    let mut begun = tokio::task::JoinSet::new();
    for number in 0..BOMBS {
        let mailbox = Arc::clone(&mailbox);
        begun.spawn(async move { mailbox.folders(&owner(number)).await.map(drop) });
    }
    while hostile.requests.lock().unwrap().len() < BOMBS {
        tokio::task::yield_now().await;
    }
    let others = rig.mailbox("fabrikam", &healthy);
    for number in 0..8 {
        let failure = others.folders(&owner(number)).await.unwrap_err();
        assert_eq!(
            failure.code,
            Code::ExchangeBadAnswer,
            "read to its end: {failure}"
        );
    }
    assert!(
        begun.try_join_next().is_none(),
        "all of them still wait for their end"
    );
}
