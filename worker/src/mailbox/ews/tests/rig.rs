//! A client with a server that gives prepared answers and records its requests.

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use tasksync_common::clock::ManualClock;
use tasksync_common::metrics::record::Server;
use tasksync_common::registry::{Access, Credentials, SecretRef};
use tasksync_common::settings::{OutboundSettings, SecretsSettings};
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::{EwsConnection, EwsLimits, EwsMailbox};
use crate::auth::Authenticator;
use crate::http::Http;
use crate::mailbox::{FolderId, Owner, ProbeRequest};
use crate::throttle::{MailboxLocks, ServerLimits, Servers};

/// Status, header lines, body.
pub(super) type Canned = (u16, String, String);

pub(super) fn ok(body: String) -> Canned {
    (200, "content-type: text/xml\r\n".to_owned(), body)
}

pub(super) struct Rig {
    pub(super) mailbox: EwsMailbox,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) server: Arc<ServerLimits>,
    secrets: tempfile::TempDir,
    _task: AbortOnDropHandle<()>,
}

impl Rig {
    /// Returns a client and a server that answers each request with `answer`; a status of 0 closes the
    /// connection.
    pub(super) async fn new(access: Access, answer: impl Fn(&str) -> Canned + Send + Sync + 'static) -> Self {
        Self::limited(access, OutboundSettings::default().maximum_answer_bytes, answer).await
    }

    /// As [`Self::new`], with a client that reads at most `maximum_answer_bytes` of an answer.
    pub(super) async fn limited(
        access: Access,
        maximum_answer_bytes: usize,
        answer: impl Fn(&str) -> Canned + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = spawn(async move {
            let answer = Arc::new(answer);
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                spawn(async move {
                    let mut bytes = Vec::new();
                    let mut chunk = [0; 8192];
                    let request = loop {
                        match stream.read(&mut chunk).await {
                            Ok(0) | Err(_) => return,
                            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                        }
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else {
                            continue;
                        };
                        let length = head
                            .lines()
                            .find_map(|line| {
                                line.to_ascii_lowercase()
                                    .strip_prefix("content-length: ")?
                                    .parse::<usize>()
                                    .ok()
                            })
                            .unwrap();
                        if body.len() >= length {
                            break text;
                        }
                    };
                    let (status, headers, body) = answer(&request);
                    seen.lock().unwrap().push(request);
                    if status != 0 {
                        let reply = format!(
                            "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = stream.write_all(reply.as_bytes()).await;
                    }
                    let _ = stream.shutdown().await;
                }).detach();
            }
        });
        let secrets = tempfile::tempdir().unwrap();
        let password = secrets.path().join("password");
        std::fs::write(&password, "secret\n").unwrap();
        let clock = ManualClock::at("2026-11-22T14:00:00Z".parse().unwrap());
        let settings = OutboundSettings {
            allow_plain_http: true,
            allowed_networks: vec!["127.0.0.0/8".to_owned()],
            maximum_answer_bytes,
            ..OutboundSettings::default()
        };
        let http = Http::new(settings, clock.clone()).unwrap();
        let connection = EwsConnection {
            tenant: "contoso".parse().unwrap(),
            url: format!("http://127.0.0.1:{port}/EWS/Exchange.asmx")
                .parse()
                .unwrap(),
            credentials: Credentials::Basic {
                user: "svc".to_owned(),
                password: SecretRef::File(password),
            },
            access,
        };
        let server = Servers::new(25, clock.clone()).limits_of(&connection.url, Server::Ews, "");
        Self {
            mailbox: EwsMailbox::new(
                http.clone(),
                Authenticator::new(
                    http,
                    SecretsSettings {
                        folder: secrets.path().to_owned(),
                        ..SecretsSettings::default()
                    },
                ),
                connection,
                clock.clone(),
                EwsLimits::default(),
                Arc::clone(&server),
                MailboxLocks::new(clock.clone()),
            ),
            requests,
            clock,
            server,
            secrets,
            _task: task,
        }
    }

    pub(super) fn set_password(&self, password: &str) {
        std::fs::write(self.secrets.path().join("password"), password).unwrap();
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(super) fn last(&self) -> String {
        self.requests.lock().unwrap().last().unwrap().clone()
    }
}

pub(super) fn owner(name: &str) -> Owner {
    Owner {
        mailbox: format!("{name}@contoso.example").parse().unwrap(),
        zone: TimeZone::UTC,
        marker: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
            .parse()
            .unwrap(),
    }
}

pub(super) fn ask(name: &str, folders: &[&str]) -> ProbeRequest {
    ProbeRequest {
        mailbox: owner(name).mailbox,
        folders: folders.iter().map(|&id| FolderId(id.to_owned())).collect(),
    }
}

pub(super) fn impersonates(request: &str) -> bool {
    request.contains("ExchangeImpersonation")
}
