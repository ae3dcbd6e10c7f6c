//! Backups of either database, and filling either from them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::super::backup::TABLES;
use super::super::{Pools, Tables};
use super::server::TestDatabase;
use crate::contract::{key, tenant_id};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{LocationKey, SourceKey};
use crate::plan::Policy;
use crate::registry::backup::{BackupReader, BackupRecord};
use crate::registry::topics::*;
use crate::registry::{
    Access, Alert, Credentials, DeletionPermit, Enrolment, EnrolmentState, FilledFrom, JournalEntry,
    JournalKind, MailboxConnection, RegistryContents, RestoreAs, SaveResult, SharePointConnection,
    SourceConnection, SqlRegistry, Tenant, TransferError, fill_from_backup, write_backup,
};
use crate::schedule::{FailureStreak, SavedStamp, digest_of, digest_of_all};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond(1_795_000_000_000_123 + seconds * 1_000_000).unwrap()
}

fn failure() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeMailboxMissing,
        "GetFolder: \"ana\"",
    )
}

fn tenant(name: &str) -> Tenant {
    let credentials = Credentials::Basic {
        user: "svc".to_owned(),
        password: "env:PASSWORD".parse().unwrap(),
    };
    Tenant {
        id: tenant_id(name),
        display_name: name.to_owned(),
        enabled: name != "c",
        time_zone: "UTC".to_owned(),
        source: SourceConnection::SharePoint(SharePointConnection {
            sites: vec!["https://sp.example/".parse().unwrap()],
            credentials: credentials.clone(),
        }),
        mailbox: MailboxConnection::Ews {
            url: "https://mail.example/EWS/Exchange.asmx".parse().unwrap(),
            credentials,
            access: Access::Auto,
        },
        policy: Policy::default(),
        test: None,
    }
}

fn enrolment(tenant: &str, user: &str) -> Enrolment {
    Enrolment {
        key: key(tenant, user),
        source_login: format!("i:0#.w|{tenant}\\{user}"),
        mailbox: format!("{user}@{tenant}.example").parse().unwrap(),
        time_zone: (user == "ana").then(|| "W. Europe Standard Time".to_owned()),
        opted_in_at: at(0),
        state: EnrolmentState::Enabled,
    }
}

/// Number of people of the tenant `a`: more than one page.
const PEOPLE: usize = 230;

/// Stores something in every table.
async fn store_everything(registry: &SqlRegistry) {
    for name in ["a", "b", "c"] {
        registry.put_tenant(&tenant(name)).await.unwrap();
    }
    let mut people: Vec<Enrolment> = (0..PEOPLE)
        .map(|number| enrolment("a", &format!("u{number}")))
        .collect();
    people.extend(["a", "b"].map(|name| enrolment(name, "ana")));
    registry.enrol_many(&people).await.unwrap();
    for (number, person) in people.iter().enumerate() {
        let bytes = vec![u8::try_from(number % 251).unwrap(); number];
        registry
            .save_sync_state(person, 0, b"sign", &bytes)
            .await
            .unwrap();
        if number % 7 == 0 {
            registry
                .save_sync_state(person, 1, b"signs", &bytes)
                .await
                .unwrap();
        }
    }
    // A dropped state keeps its version.
    let moved = Enrolment {
        mailbox: "elsewhere@a.example".parse().unwrap(),
        ..enrolment("a", "u7")
    };
    registry.enrol(&moved).await.unwrap();
    let stamps: Vec<SavedStamp> = (0..PEOPLE)
        .map(|number| SavedStamp {
            user: format!("u{number}").parse().unwrap(),
            stamp: at(i64::try_from(number).unwrap()),
            last_success: (number % 3 > 0).then(|| at(100)),
            failing: (number % 5 == 0).then(|| FailureStreak {
                since: at(200),
                attempts: 4,
                failure: failure(),
            }),
        })
        .collect();
    registry.save_stamps(&tenant_id("a"), &stamps).await.unwrap();
    let disabled = EnrolmentState::Disabled {
        failure: failure(),
        since: at(60),
    };
    registry
        .set_enrolment_state(&key("a", "u3"), &disabled)
        .await
        .unwrap();
    let permit = DeletionPermit {
        plan: "abc".to_owned(),
        until: at(500),
    };
    registry.allow_deletions(&key("a", "u4"), &permit).await.unwrap();
    let alert = Alert {
        since: at(1),
        tenant: tenant_id("a"),
        user: None,
        location: None,
        failure: failure(),
        evidence: Some(json!({"deletions": [1, 2], "text": "ü\u{1f600}"})),
    };
    let of_person = Alert {
        user: Some("ana".parse().unwrap()),
        evidence: None,
        ..alert.clone()
    };
    let of_list = Alert {
        location: Some(LocationKey::from_stored("sp|list")),
        evidence: None,
        ..alert.clone()
    };
    for alert in [alert, of_person, of_list] {
        registry.raise_alert(&alert).await.unwrap();
    }
    let entries: Vec<JournalEntry> = (0..1_200)
        .map(|number| JournalEntry {
            at: at(number),
            // The journal outlives tenants and people.
            user: key(if number % 2 == 0 { "a" } else { "gone" }, "ana"),
            task: SourceKey::from_stored(&format!("sp|list|{number}")),
            kind: JournalKind::OverwrittenAtSource,
            before: Some(json!({"title": format!("{number}")})),
            after: None,
        })
        .collect();
    registry.journal(&entries).await.unwrap();
}

/// Returns a complete backup file of the registry.
async fn backup(registry: &SqlRegistry) -> Vec<u8> {
    let mut snapshot = registry.snapshot(at(1_000), false).await.unwrap();
    let (file, summary) = write_backup(&mut snapshot, Vec::new()).await.unwrap();
    snapshot.close().await.unwrap();
    assert_eq!(summary.header.records["person"], PEOPLE as u64 + 2);
    file
}

fn records(file: &[u8]) -> Vec<BackupRecord> {
    let mut reader = BackupReader::open(file).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record);
    }
    records
}

/// Fills the registry from the file and checks that it then has the same content.
async fn fill(registry: &SqlRegistry, file: &[u8]) {
    let mut filling = registry.begin_filling().await.unwrap();
    filling.clear().await.unwrap();
    let reader = BackupReader::open(file).unwrap();
    let summary = fill_from_backup(reader, &mut filling, RestoreAs::Original)
        .await
        .unwrap();
    let contents = RegistryContents {
        tenants: 3,
        people: PEOPLE as u64 + 2,
        journal_entries: 1_200,
    };
    assert_eq!(filling.contents().await.unwrap(), contents);
    let installation = summary.header.installation;
    let from = FilledFrom {
        installation,
        made_at: summary.header.made_at,
        filled_at: at(2_000),
    };
    filling.commit(from).await.unwrap();
    assert_eq!(registry.installation().await.unwrap(), installation);
    assert_eq!(registry.last_backup().await.unwrap(), Some(at(1_000)));
    let back = backup(registry).await;
    assert_eq!(records(&back), records(file));
    // The leader compares it with the order of work.
    let active = registry.active_tenants(None, 10).await.unwrap();
    let names = (0..PEOPLE)
        .map(|number| format!("u{number}"))
        .chain(["ana".to_owned()]);
    let digest = digest_of_all(names.map(|name| digest_of(&name.parse().unwrap())));
    assert_eq!(active[0].1.names, Some(digest));
}

async fn in_file(folder: &tempfile::TempDir, name: &str) -> SqlRegistry {
    SqlRegistry::open_sqlite(&url(folder, name)).await.unwrap()
}

fn url(folder: &tempfile::TempDir, name: &str) -> String {
    format!("sqlite:{}", folder.path().join(name).display())
}

#[tokio::test]
async fn a_registry_is_the_same_in_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = in_file(&folder, "first").await;
    store_everything(&first).await;
    let file = backup(&first).await;
    let second = in_file(&folder, "second").await;
    fill(&second, &file).await;
    // Versions go on where they were, also that of a dropped state.
    assert_eq!(
        second.sync_state(&key("a", "u0")).await.unwrap().unwrap().version,
        2
    );
    let dropped = second.enrolment(&key("a", "u7")).await.unwrap().unwrap();
    let saved = second.save_sync_state(&dropped, 0, b"", b"new").await.unwrap();
    assert_eq!(saved, SaveResult::Stored(3));
}

#[tokio::test]
async fn a_registry_moves_to_postgresql_and_back() {
    let Some(database) = TestDatabase::new().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = in_file(&folder, "first").await;
    store_everything(&first).await;
    let postgres = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    // What was there before is replaced.
    postgres.put_tenant(&tenant("b")).await.unwrap();
    fill(&postgres, &backup(&first).await).await;
    fill(&in_file(&folder, "second").await, &backup(&postgres).await).await;
    postgres.close().await;
}

/// A snapshot shows one moment, whatever is changed while it is read.
async fn assert_one_moment(registry: &SqlRegistry) {
    store_everything(registry).await;
    let expected = records(&backup(registry).await);
    let mut snapshot = registry.snapshot(at(1_000), false).await.unwrap();
    let mut read = snapshot.next_page().await.unwrap();
    registry.remove_tenant(&tenant_id("a")).await.unwrap();
    registry.put_tenant(&tenant("d")).await.unwrap();
    registry.prune_journal(at(600), 1_000).await.unwrap();
    loop {
        let page = snapshot.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    snapshot.close().await.unwrap();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_backup_of_a_running_file_shows_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    assert_one_moment(&in_file(&folder, "registry").await).await;
}

#[tokio::test]
async fn a_backup_of_running_postgresql_shows_one_moment() {
    let Some(database) = TestDatabase::new().await else {
        return;
    };
    let registry = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    assert_one_moment(&registry).await;
    registry.close().await;
}

/// A filling that is cut off, or whose file is damaged at its very end, changes nothing.
async fn assert_all_or_nothing(registry: &SqlRegistry, file: &[u8]) {
    let before = registry.installation().await.unwrap();
    let mut filling = registry.begin_filling().await.unwrap();
    let cut = &file[..file.len() - 20];
    let reader = BackupReader::open(cut).unwrap();
    let refused = fill_from_backup(reader, &mut filling, RestoreAs::Original).await;
    assert!(matches!(refused, Err(TransferError::File(_))), "{refused:?}");
    assert_eq!(filling.contents().await.unwrap().people, PEOPLE as u64 + 2);
    filling.cancel().await.unwrap();
    let mut filling = registry.begin_filling().await.unwrap();
    assert!(filling.contents().await.unwrap().is_empty());
    let reader = BackupReader::open(file).unwrap();
    fill_from_backup(reader, &mut filling, RestoreAs::Original)
        .await
        .unwrap();
    // The process ends before the commit.
    drop(filling);
    let mut filling = registry.begin_filling().await.unwrap();
    assert!(filling.contents().await.unwrap().is_empty());
    filling.cancel().await.unwrap();
    assert_eq!(registry.installation().await.unwrap(), before);
}

#[tokio::test]
async fn a_cut_import_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let first = in_file(&folder, "first").await;
    store_everything(&first).await;
    let file = backup(&first).await;
    assert_all_or_nothing(&in_file(&folder, "second").await, &file).await;
    if let Some(database) = TestDatabase::new().await {
        let registry = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
        assert_all_or_nothing(&registry, &file).await;
        registry.close().await;
    }
}

/// Every table and column is in the backup, or is left out for a reason.
fn assert_complete(columns: &[(String, String)], of_both: bool) {
    let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (table, column) in columns {
        tables.entry(table).or_default().insert(column);
    }
    for (table, columns) in &tables {
        let Some((_, rule)) = TABLES.iter().find(|(name, _)| name == table) else {
            panic!("no backup has the table {table}: add it, or say in TABLES why a backup can do without it")
        };
        if let Ok(held) = rule {
            let held: BTreeSet<&str> = held.iter().copied().collect();
            assert_eq!(
                columns, &held,
                "{table}: a column is not in the backup, or is gone"
            );
        }
    }
    for (table, _) in TABLES {
        assert!(
            tables.contains_key(table) || (of_both && *table == "compatibility"),
            "there is no table {table}"
        );
    }
}

#[tokio::test]
async fn every_table_and_column_is_in_the_backup_or_left_out_for_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let registry = in_file(&folder, "registry").await;
    let Pools::Sqlite { writer, .. } = &registry.pools else {
        panic!("this is SQLite")
    };
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c \
        WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(writer)
    .await
    .unwrap();
    assert_complete(&columns, true);
    if let Some(database) = TestDatabase::new().await {
        let registry = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
        let mut connection = registry.read("test").await.unwrap();
        let columns: Vec<(String, String)> = connection
            .query(
                "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'",
            )
            .fetch_all()
            .await
            .unwrap();
        drop(connection);
        assert_complete(&columns, false);
        registry.close().await;
    }
}

#[tokio::test]
async fn only_a_registry_with_the_tables_of_this_build_is_read_for_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = async |name: &str| {
        let opened = SqlRegistry::open_sqlite_with(&url(&folder, name), Tables::AsTheyAre).await;
        opened.unwrap_err().detail
    };
    let detail = refusal("missing").await;
    assert!(detail.contains("missing"), "{detail}");
    assert!(!folder.path().join("missing").exists(), "it was created");
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let detail = refusal("empty").await;
    assert!(detail.contains("-wal file"), "{detail}");
    let registry = in_file(&folder, "registry").await;
    SqlRegistry::open_sqlite_with(&url(&folder, "registry"), Tables::AsTheyAre)
        .await
        .unwrap()
        .close()
        .await;
    for (change, expected) in [
        (
            "DELETE FROM _sqlx_migrations WHERE version = 8",
            "start this build on it once",
        ),
        (
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            VALUES (8, 'x', 1, x'00', 0), (9999, 'x', 1, x'00', 0)",
            "use the build that runs on it",
        ),
    ] {
        let mut transaction = registry.transaction("test").await.unwrap();
        transaction.query(change).execute().await.unwrap();
        registry.commit("test", transaction).await.unwrap();
        let detail = refusal("registry").await;
        assert!(detail.contains(expected), "{detail}");
    }
}

#[tokio::test]
async fn after_a_checkpoint_the_file_alone_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let registry = in_file(&folder, "registry").await;
    store_everything(&registry).await;
    let log = folder.path().join("registry-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    let Pools::Sqlite { writer, .. } = &registry.pools else {
        panic!("this is SQLite")
    };
    sqlx::query("PRAGMA busy_timeout = 0")
        .execute(writer)
        .await
        .unwrap();
    let mut snapshot = registry.snapshot(at(0), false).await.unwrap();
    snapshot.next_page().await.unwrap();
    registry.put_tenant(&tenant("d")).await.unwrap();
    let refused = registry.checkpoint().await.unwrap_err();
    assert!(refused.detail.contains("-wal"), "{refused}");
    snapshot.close().await.unwrap();
    registry.checkpoint().await.unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    std::fs::copy(folder.path().join("registry"), folder.path().join("copy")).unwrap();
    let copy = in_file(&folder, "copy").await;
    assert_eq!(copy.tenants(None, 10).await.unwrap().len(), 4);
}
