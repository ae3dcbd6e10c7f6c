//! Large answers, many at once.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tasksync_common::clock::SystemClock;
use tasksync_common::error::Code;
use tasksync_common::metrics::record::Server as Kind;
use tasksync_common::registry::{Access, Credentials, SecretRef};
use tasksync_worker::auth::Authenticator;
use tasksync_worker::http::Http;
use tasksync_worker::mailbox::ews::{EwsConnection, EwsLimits, EwsMailbox};
use tasksync_worker::mailbox::{Mailbox as _, Owner};
use tasksync_worker::throttle::{MailboxLocks, Servers};

use crate::server::{Reply, Server, settings};

const BOMBS: usize = 64;
const MOST_KIB: usize = 512 * 1024;

/// An answer of 15 MiB.
fn bomb() -> bytes::Bytes {
    const LENGTH: usize = 15 * 1024 * 1024;
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {LENGTH}\r\n\r\n<html>")
            .into_bytes();
    answer.resize(answer.len() - "<html>".len() + LENGTH, b' ');
    answer.into()
}

/// Most memory that this process has used, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Memory is measured in a process of its own.
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
    let bomb = bomb();
    let hostile = Server::plain(move |_, _| Reply::Share(bomb.clone())).await;
    let honest = Server::plain(|_, _| Reply::answer(401, "", "")).await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret").unwrap();
    let clock = Arc::new(SystemClock);
    let http = Http::new(settings(), clock.clone()).unwrap();
    let servers = Servers::new(BOMBS, clock.clone());
    let mailbox = |tenant: &str, server: &Server| {
        let url = server.url("/EWS/Exchange.asmx");
        let limits = servers.of(&url, Kind::Ews, tenant);
        EwsMailbox::new(
            http.clone(),
            Authenticator::new(http.clone()),
            EwsConnection {
                tenant: tenant.parse().unwrap(),
                url,
                credentials: Credentials::Basic {
                    user: "svc".to_owned(),
                    password: SecretRef::File(password.clone()),
                },
                access: Access::Delegate,
            },
            clock.clone(),
            EwsLimits::default(),
            limits,
            MailboxLocks::new(clock.clone()),
        )
    };
    let owner = |number: usize| Owner {
        mailbox: format!("p{number}@contoso.example").parse().unwrap(),
        zone: TimeZone::UTC,
        marker: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
            .parse()
            .unwrap(),
    };
    let before = peak_kib();
    let bombed = Arc::new(mailbox("contoso", &hostile));
    let mut bombs = tokio::task::JoinSet::new();
    for number in 0..BOMBS {
        let (bombed, owner) = (Arc::clone(&bombed), owner(number));
        bombs.spawn(async move { bombed.folders(&owner).await });
    }
    // Others are served meanwhile.
    let others = mailbox("fabrikam", &honest);
    for number in 0..20 {
        let failure = others.folders(&owner(number)).await.unwrap_err();
        assert_eq!(failure.code, Code::ExchangeSignInRefused, "{failure}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(result) = bombs.join_next().await {
        let failure = result.unwrap().unwrap_err();
        let expected = [Code::ExchangeBadAnswer, Code::ExchangeTimeout];
        assert!(expected.contains(&failure.code), "{failure}");
    }
    let peak = peak_kib();
    assert!(peak < MOST_KIB, "{peak} KiB, {before} KiB before");
    println!("{peak} KiB at most, {before} KiB before");
}
