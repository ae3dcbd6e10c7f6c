//! The whole source against a small server with canned answers: its requests, their number, and the results.

mod answers;
mod cursors;
mod fake;
mod foreign;
mod gone;
mod limits;
mod lists;
mod pages;
mod session;
mod writes;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_common::clock::ManualClock;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::model::{Field, FieldSet, LocationKey, Percent, SourceKey, Status, Task};
use tasksync_common::registry::{Credentials, SecretRef};
use tasksync_common::settings::{OutboundSettings, SecretsSettings};
use tasksync_common::tasks::spawn;

use super::*;
use crate::source::Absence;

use fake::{Answer, Fake, LIST, SITE, error, serve, token};

struct Stage {
    fake: Arc<Fake>,
    source: SharePointSource,
    clock: Arc<ManualClock>,
    _secret: tempfile::NamedTempFile,
}

async fn stage(batches: bool) -> Stage {
    stage_with(batches, SharePointSettings::default()).await
}

/// Returns a stage whose answers may have `bytes` bytes.
async fn stage_limited(bytes: usize) -> Stage {
    stage_within(false, SharePointSettings::default(), bytes).await
}

async fn stage_with(batches: bool, settings: SharePointSettings) -> Stage {
    stage_within(
        batches,
        settings,
        OutboundSettings::default().maximum_answer_bytes,
    )
    .await
}

async fn stage_within(batches: bool, settings: SharePointSettings, maximum_answer_bytes: usize) -> Stage {
    let fake = Arc::new(Fake {
        requests: Mutex::default(),
        items: Mutex::default(),
        changes: Mutex::default(),
        permissions: Mutex::new(HashMap::from([("ana".into(), 5), ("bo".into(), 1)])),
        special: Mutex::default(),
        batches,
        digests: AtomicUsize::new(0),
        verbose: AtomicBool::new(false),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(serve(Arc::clone(&fake), listener)).detach();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "pw").unwrap();
    let clock = ManualClock::at("2026-11-22T14:00:00Z".parse().unwrap());
    let outbound = OutboundSettings {
        allow_plain_http: true,
        allowed_networks: vec!["127.0.0.0/8".into()],
        maximum_answer_bytes,
        ..OutboundSettings::default()
    };
    let http = Http::new(outbound, clock.clone()).unwrap();
    let connection = SharePointConnection {
        sites: vec![format!("http://{address}/sites/p/").parse().unwrap()],
        credentials: Credentials::Basic {
            user: "svc".into(),
            password: SecretRef::File(secret.path().into()),
        },
    };
    let source = SharePointSource::new(
        http.clone(),
        Authenticator::new(
            http,
            SecretsSettings {
                folder: std::env::temp_dir(),
                ..SecretsSettings::default()
            },
        ),
        connection,
        "contoso".parse().unwrap(),
        clock.clone(),
        Servers::new(25, clock.clone()),
        settings,
    );
    Stage {
        fake,
        source,
        clock,
        _secret: secret,
    }
}

fn person(login: &str) -> Person {
    Person::new(login)
}

fn key(id: i64) -> SourceKey {
    LocationKey::sharepoint_list(LIST).task(id)
}

/// Returns the changes that complete a task.
fn progress() -> TaskChanges {
    TaskChanges {
        task: Task {
            status: Status::Completed,
            percent: Percent::DONE,
            ..Task::default()
        },
        fields: FieldSet::of(&[Field::Progress]),
    }
}

fn present(changes: &SourceChanges) -> Vec<(i64, bool)> {
    changes
        .tasks
        .iter()
        .filter_map(|(key, presence)| match presence {
            TaskPresence::Present(item) => Some((key.item_id().unwrap(), item.writable)),
            TaskPresence::Absent(_) | TaskPresence::Unreadable(_) => None,
        })
        .collect()
}

impl Stage {
    fn pass_five_minutes(&self) {
        self.clock.advance(SignedDuration::from_secs(300));
    }

    async fn changes(&self, login: &str, cursor: &str, linked: &[i64]) -> SourceChanges {
        let linked: BTreeSet<SourceKey> = linked.iter().map(|id| key(*id)).collect();
        self.source.refresh(&[cursor]).await.unwrap();
        self.source
            .changes(&person(login), cursor, &linked)
            .await
            .unwrap()
    }
}
