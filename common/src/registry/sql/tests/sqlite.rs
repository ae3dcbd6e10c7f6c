//! The behaviour of the SQLite registry alone.

use crate::registry::topics::*;
use crate::tasks::spawn;
use std::path::Path;
use std::sync::Arc;

use super::super::enrolments::OWNERS;
use super::super::{Pools, SqlConnection};
use super::{ana, with_ana};
use crate::contract::{RegistryBench, key};
use crate::error::{Code, ErrorClass};
use crate::registry::{
    Enrolment, EnrolmentResult, Registry, SaveResult, SqlRegistry, Tenant, sqlite_file, sqlite_url,
};

struct Bench {
    registry: Arc<SqlRegistry>,
    folder: Option<tempfile::TempDir>,
}

impl RegistryBench for Bench {
    fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("registry.sqlite").display())
}

#[test]
fn the_url_of_a_file_names_this_file_whatever_signs_its_name_has() {
    for name in ["/var/lib/t.sqlite", "/a b/100%/50%25/#1?/é&=t.sqlite", "t.sqlite"] {
        let url = sqlite_url(Path::new(name));
        assert_eq!(sqlite_file(&url).as_deref(), Some(Path::new(name)), "{url}");
    }
    assert_eq!(sqlite_url(Path::new("/srv/a b/t")), "sqlite:/srv/a b/t");
    for other in ["sqlite::memory:", "sqlite:", "postgres://db/t"] {
        assert_eq!(sqlite_file(other), None, "{other}");
    }
}

async fn in_file() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(SqlRegistry::open_sqlite(&url(&folder)).await.unwrap());
    Bench {
        registry,
        folder: Some(folder),
    }
}

async fn in_memory() -> Bench {
    Bench {
        registry: Arc::new(SqlRegistry::open_sqlite("sqlite::memory:").await.unwrap()),
        folder: None,
    }
}

mod contract_in_file {
    crate::registry_contract!(super::in_file());
}

mod contract_in_memory {
    crate::registry_contract!(super::in_memory());
}

fn writer(registry: &SqlRegistry) -> &sqlx::SqlitePool {
    let Pools::Sqlite { writer, .. } = &registry.pools else {
        panic!("this is SQLite")
    };
    writer
}

async fn pragma(pool: &sqlx::SqlitePool, name: &'static str) -> String {
    let value: String = match name {
        "journal_mode" => sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(pool)
            .await
            .unwrap(),
        "synchronous" => sqlx::query_scalar::<_, i64>("PRAGMA synchronous")
            .fetch_one(pool)
            .await
            .unwrap()
            .to_string(),
        _ => sqlx::query_scalar::<_, i64>("PRAGMA foreign_keys")
            .fetch_one(pool)
            .await
            .unwrap()
            .to_string(),
    };
    value
}

#[tokio::test]
async fn what_was_committed_is_on_the_disk() {
    let bench = in_file().await;
    assert_eq!(pragma(writer(&bench.registry), "journal_mode").await, "wal");
    assert_eq!(pragma(writer(&bench.registry), "synchronous").await, "2", "FULL");
    assert_eq!(pragma(writer(&bench.registry), "foreign_keys").await, "1");
}

#[tokio::test]
async fn two_processes_share_one_file_and_start_together() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder);
    let (one, other) = tokio::join!(SqlRegistry::open_sqlite(&url), SqlRegistry::open_sqlite(&url));
    let (one, other) = (one.unwrap(), other.unwrap());
    with_ana(&one).await;
    let ana = ana();
    assert_eq!(
        other.save_sync_state(&ana, 0, b"f", b"other's").await.unwrap(),
        SaveResult::Stored(1)
    );
    assert_eq!(
        one.save_sync_state(&ana, 0, b"f", b"one's").await.unwrap(),
        SaveResult::VersionConflict
    );
    assert_eq!(one.sync_state(&ana.key).await.unwrap().unwrap().blob, b"other's");
    // Both write at once; the versions have no gap, and none is given twice.
    let write_twenty = |registry: SqlRegistry| {
        let ana = ana.clone();
        spawn(async move {
            let mut stored = Vec::new();
            while stored.len() < 20 {
                let version = registry.sync_state(&ana.key).await.unwrap().unwrap().version;
                if let SaveResult::Stored(version) =
                    registry.save_sync_state(&ana, version, b"f", b"x").await.unwrap()
                {
                    stored.push(version);
                }
            }
            stored
        })
        .detach()
    };
    let (first, second) = tokio::join!(write_twenty(one.clone()), write_twenty(other));
    let mut versions = [first.unwrap(), second.unwrap()].concat();
    versions.sort_unstable();
    assert_eq!(versions, (2..=41).collect::<Vec<u64>>());
}

#[tokio::test]
async fn it_is_still_there_after_closing() {
    let bench = in_file().await;
    with_ana(&bench.registry).await;
    bench
        .registry
        .save_sync_state(&ana(), 0, b"f", b"state")
        .await
        .unwrap();
    bench.registry.close().await;
    let closed = bench.registry.check_writable().await.unwrap_err();
    assert!(closed.detail.contains("closed"), "{closed}");
    let again = SqlRegistry::open_sqlite(&url(bench.folder.as_ref().unwrap()))
        .await
        .unwrap();
    assert_eq!(
        again.sync_state(&key("a", "ana")).await.unwrap().unwrap().blob,
        b"state"
    );
}

#[tokio::test]
async fn two_users_of_an_earlier_build_keep_one_sign_in_name_until_the_next_opt_in() {
    let bench = in_file().await;
    with_ana(&bench.registry).await;
    let ben = Enrolment {
        key: key("a", "ben"),
        source_login: "ben".to_owned(),
        mailbox: "ben@a.example".parse().unwrap(),
        ..ana()
    };
    bench.registry.enrol(&ben).await.unwrap();
    for statement in [
        "UPDATE enrolments SET source_login = 'i:0#.w|a\\Ana'",
        "DROP INDEX enrolments_login",
        "DROP TABLE backups",
        "DELETE FROM _sqlx_migrations WHERE version >= 7",
    ] {
        sqlx::query(statement)
            .execute(writer(&bench.registry))
            .await
            .unwrap();
    }
    bench.registry.close().await;
    let upgraded = SqlRegistry::open_sqlite(&url(bench.folder.as_ref().unwrap()))
        .await
        .unwrap();
    assert_eq!(
        upgraded.enrolments(&ben.key.tenant, None, 9).await.unwrap().len(),
        2
    );
    let again = Enrolment {
        source_login: "a\\ana".to_owned(),
        ..ben.clone()
    };
    assert_eq!(
        upgraded.enrol(&again).await.unwrap(),
        EnrolmentResult::LoginTaken(key("a", "ana"))
    );
    assert_eq!(upgraded.enrol(&ben).await.unwrap(), EnrolmentResult::Updated);
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "EXPLAIN QUERY PLAN {}",
        OWNERS.sqlite
    )))
    .fetch_all(writer(&upgraded))
    .await
    .unwrap();
    let steps: Vec<_> = plan.iter().map(|(_, _, _, step)| step.as_str()).collect();
    assert!(
        steps.iter().any(|step| step.contains("enrolments_login")),
        "{steps:?}"
    );
}

#[tokio::test]
async fn a_full_disk_is_reported_and_changes_nothing() {
    let bench = in_file().await;
    with_ana(&bench.registry).await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(writer(&bench.registry))
        .await
        .unwrap();
    // The database's own limit fails like a full disk.
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "PRAGMA max_page_count = {}",
        pages + 2
    )))
    .execute(writer(&bench.registry))
    .await
    .unwrap();
    let failure = bench
        .registry
        .save_sync_state(&ana(), 0, b"f", &vec![7; 100_000])
        .await
        .unwrap_err();
    assert_eq!(failure.class, ErrorClass::Transient);
    assert_eq!(failure.code, Code::RegistryFull);
    assert!(
        failure.detail.contains("disk is full") && failure.detail.contains("registry.sqlite"),
        "{failure}"
    );
    assert_eq!(bench.registry.sync_state(&key("a", "ana")).await.unwrap(), None);
    assert_eq!(
        bench
            .registry
            .save_sync_state(&ana(), 0, b"f", b"small")
            .await
            .unwrap(),
        SaveResult::Stored(1)
    );
}

#[tokio::test]
async fn without_room_no_tenant_and_no_opt_in_is_stored_in_part_and_both_are_once_there_is_room() {
    let bench = in_file().await;
    let registry = &bench.registry;
    with_ana(registry).await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(writer(registry))
        .await
        .unwrap();
    let limit = async |pages: i64| {
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
            .execute(writer(registry))
            .await
            .unwrap();
    };
    let people: Vec<Enrolment> = (0..2_000)
        .map(|number| Enrolment {
            key: key("a", &format!("person-{number}")),
            source_login: format!("{number}-{}", "x".repeat(200)),
            mailbox: format!("person-{number}@a.example").parse().unwrap(),
            ..ana()
        })
        .collect();
    let mut tenant: Tenant = toml::from_str(include_str!(
        "../../../../../deploy/tasksync/examples/tenant.toml"
    ))
    .unwrap();
    tenant.display_name = "x".repeat(100_000);
    limit(pages).await;
    let of_tenant = registry.put_tenant(&tenant).await.map(drop).unwrap_err();
    // After such a failure the registry opens a new connection, which has no limit.
    registry.check_writable().await.unwrap();
    limit(pages).await;
    let of_people = registry.enrol_many(&people).await.map(drop).unwrap_err();
    let refused = [of_tenant, of_people];
    for failure in refused {
        assert_eq!(failure.code, Code::RegistryFull, "{failure}");
        let said = format!("{failure} {}", failure.code.action());
        for expected in [
            "nothing was stored",
            "registry.sqlite",
            "Make room",
            "send it again",
        ] {
            assert!(said.contains(expected), "{said}");
        }
    }
    assert_eq!(registry.tenant(&tenant.id).await.unwrap(), None);
    assert_eq!(registry.enrolment_counts(None).await.unwrap().enabled, 1);
    registry.check_writable().await.unwrap();
    registry.put_tenant(&tenant).await.unwrap();
    registry.enrol_many(&people).await.unwrap();
    assert_eq!(registry.enrolment_counts(None).await.unwrap().enabled, 2_001);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_those_beside_it_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let bench = in_file().await;
    with_ana(&bench.registry).await;
    let folder = bench.folder.as_ref().unwrap().path();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its -wal and its -shm");
}

#[tokio::test]
async fn a_locked_file_is_reported() {
    let bench = in_file().await;
    sqlx::query("PRAGMA busy_timeout = 1")
        .execute(writer(&bench.registry))
        .await
        .unwrap();
    let other = SqlRegistry::open_sqlite(&url(bench.folder.as_ref().unwrap()))
        .await
        .unwrap();
    let writing = other.transaction("holding it").await.unwrap();
    assert!(matches!(writing, SqlConnection::SqliteTransaction(_)));
    let failure = bench.registry.check_writable().await.unwrap_err();
    assert!(failure.detail.contains("another process locked it"), "{failure}");
    other.rollback("giving it back", writing).await.unwrap();
    bench.registry.check_writable().await.unwrap();
}

#[tokio::test]
async fn a_registry_that_cannot_be_written_is_reported() {
    let bench = in_file().await;
    sqlx::query("PRAGMA query_only = ON")
        .execute(writer(&bench.registry))
        .await
        .unwrap();
    let failure = bench.registry.check_writable().await.unwrap_err();
    assert!(failure.detail.contains("read-only"), "{failure}");
}

#[tokio::test]
async fn what_is_no_database_or_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("registry.sqlite"), vec![b'x'; 4096]).unwrap();
    let failure = SqlRegistry::open_sqlite(&url(&folder)).await.unwrap_err();
    assert!(
        failure.detail.contains("not an SQLite database") && failure.detail.contains("registry.sqlite"),
        "{failure}"
    );
    let missing = format!("sqlite:{}/no/such/folder/x.sqlite", folder.path().display());
    let failure = SqlRegistry::open_sqlite(&missing).await.unwrap_err();
    assert!(
        failure.detail.contains("cannot be opened") && failure.detail.contains("x.sqlite"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_damaged_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.sqlite");
    let registry = SqlRegistry::open_sqlite(&url(&folder)).await.unwrap();
    with_ana(&registry).await;
    registry.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let page = bytes.len() / 2;
    for byte in bytes.iter_mut().skip(page.min(4096)) {
        *byte = 0xa5;
    }
    std::fs::write(&path, bytes).unwrap();
    let failure = match SqlRegistry::open_sqlite(&url(&folder)).await {
        Err(failure) => failure,
        Ok(registry) => registry.tenants(None, 10).await.unwrap_err(),
    };
    assert!(failure.detail.contains("damaged"), "{failure}");
}

#[tokio::test]
async fn a_file_of_a_newer_build_is_refused() {
    let bench = in_file().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(writer(&bench.registry))
    .await
    .unwrap();
    bench.registry.close().await;
    let failure = SqlRegistry::open_sqlite(&url(bench.folder.as_ref().unwrap()))
        .await
        .unwrap_err();
    assert!(
        failure.detail.contains("9999") && failure.detail.contains("newer build"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_impossible_stored_value_is_a_failure_and_not_a_panic() {
    let bench = in_memory().await;
    with_ana(&bench.registry).await;
    let failure = bench.registry.tenant(&"a".parse().unwrap()).await.unwrap_err();
    assert!(failure.detail.contains("tenant a cannot be read"), "{failure}");
}
