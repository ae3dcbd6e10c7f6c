//! The behaviour of the PostgreSQL registry alone. Every test has its own database.

use crate::registry::topics::*;
use crate::tasks::spawn;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::server::{OwnServer, Relay, TestDatabase, settings, until};
use super::{ana, with_ana};
use crate::contract::{RegistryBench, key, tenant_id, user_id};
use crate::error::{Code, ErrorClass, Failure};
use crate::registry::{Enrolment, EnrolmentResult, EnrolmentState, Registry, SaveResult, SqlRegistry};
use crate::schedule::SavedStamp;

struct Bench {
    registry: Arc<SqlRegistry>,
    /// Dropped after the registry.
    database: TestDatabase,
}

impl RegistryBench for Bench {
    fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }
}

async fn bench() -> Option<Bench> {
    let database = TestDatabase::new().await?;
    let registry = Arc::new(SqlRegistry::open_postgres(&database.settings()).await.unwrap());
    Some(Bench { registry, database })
}

/// Returns the bench, or ends the test.
macro_rules! bench_or_skip {
    ($make:expr) => {
        match $make {
            Some(bench) => bench,
            None => return,
        }
    };
}

mod contract {
    crate::registry_contract!(std::future::ready(bench_or_skip!(super::bench().await)));
}

fn enrolment(user: &str, mailbox: &str) -> Enrolment {
    Enrolment {
        key: key("a", user),
        source_login: user.to_owned(),
        mailbox: mailbox.parse().unwrap(),
        time_zone: None,
        opted_in_at: Timestamp::UNIX_EPOCH,
        state: EnrolmentState::Enabled,
    }
}

#[tokio::test]
async fn a_full_disk_of_the_server_has_its_own_code_and_stores_nothing() {
    let bench = bench_or_skip!(bench().await);
    with_ana(&bench.registry).await;
    let mut transaction = bench.registry.transaction("test").await.unwrap();
    for statement in [
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' \
         USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER full_disk AFTER INSERT ON enrolments EXECUTE FUNCTION no_room()",
    ] {
        transaction.query(statement).execute().await.unwrap();
    }
    bench.registry.commit("test", transaction).await.unwrap();
    let failure = bench
        .registry
        .enrol(&enrolment("bea", "bea@a"))
        .await
        .unwrap_err();
    assert_eq!(failure.code, Code::RegistryFull, "{failure}");
    assert_eq!(bench.registry.enrolment_counts(None).await.unwrap().enabled, 1);
}

async fn open_failure(url: &url::Url) -> Failure {
    let mut settings = settings(url);
    settings.acquire_timeout = Duration::from_secs(5);
    let failure = SqlRegistry::open_postgres(&settings).await.unwrap_err();
    assert!(!failure.detail.contains("geheim"), "{failure}");
    failure
}

#[tokio::test]
async fn many_processes_start_on_an_empty_database_at_once() {
    let database = bench_or_skip!(TestDatabase::new().await);
    let opening = (0..6).map(|_| {
        let settings = database.settings();
        spawn(async move { SqlRegistry::open_postgres(&settings).await }).detach()
    });
    for opened in futures::future::join_all(opening).await {
        opened.unwrap().unwrap().check_writable().await.unwrap();
    }
}

#[tokio::test]
async fn a_build_works_on_newer_tables_until_they_need_a_newer_one() {
    let database = bench_or_skip!(TestDatabase::new().await);
    SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    database
        .run(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                VALUES (9999, 'later', TRUE, '\\x00', 0); \
             ALTER TABLE enrolments ADD COLUMN later TEXT NOT NULL DEFAULT 'x'",
        )
        .await;
    let older = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    with_ana(&older).await;
    assert_eq!(
        older.save_sync_state(&ana(), 0, b"f", b"x").await.unwrap(),
        SaveResult::Stored(1)
    );
    database
        .run("UPDATE compatibility SET minimum_migration = 9999")
        .await;
    let failure = SqlRegistry::open_postgres(&database.settings())
        .await
        .unwrap_err();
    assert!(
        failure.detail.contains("9999") && failure.detail.contains("newer build"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_changed_migration_is_reported() {
    let database = bench_or_skip!(TestDatabase::new().await);
    SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    database
        .run("UPDATE _sqlx_migrations SET checksum = '\\x00'")
        .await;
    let failure = SqlRegistry::open_postgres(&database.settings())
        .await
        .unwrap_err();
    assert!(
        failure.detail.contains("migration 1 was applied in another form"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_usual_start_needs_no_right_to_change_tables() {
    let database = bench_or_skip!(TestDatabase::new().await);
    let role = database.name().to_owned();
    database
        .on_server(&format!("CREATE ROLE {role} LOGIN PASSWORD 'geheim'"))
        .await;
    let mut url = database.url();
    url.set_username(&role).unwrap();
    url.set_password(Some("geheim")).unwrap();
    database.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let first = open_failure(&url).await;
    SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    let no_rights = open_failure(&url).await;
    database
        .run(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    let opened = SqlRegistry::open_postgres(&settings(&url)).await;
    let written = match &opened {
        Ok(registry) => registry.check_writable().await,
        Err(failure) => Err(failure.clone()),
    };
    database
        .run(&format!("REVOKE UPDATE, INSERT ON write_probe FROM {role}"))
        .await;
    let unwritable = match &opened {
        Ok(registry) => registry.check_writable().await,
        Err(failure) => Err(failure.clone()),
    };
    if let Ok(registry) = &opened {
        registry.close().await;
    }
    // Dropped before any assertion, because a role belongs to the server and not to the database.
    database
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    assert!(first.detail.contains("permission denied"), "{first}");
    assert!(no_rights.detail.contains("permission denied"), "{no_rights}");
    written.unwrap();
    let unwritable = unwritable.unwrap_err();
    assert!(unwritable.detail.contains("permission denied"), "{unwritable}");
}

#[tokio::test]
async fn what_keeps_it_from_opening_is_named_and_the_password_is_not() {
    let server = bench_or_skip!(OwnServer::start_new());
    let mut url = server.url();
    url.set_path("nowhere");
    let missing = open_failure(&url).await;
    assert!(
        missing.detail.contains("does not exist") && missing.detail.contains("nowhere"),
        "{missing}"
    );
    let mut url = server.url();
    url.set_password(Some("geheim-2")).unwrap();
    let password = open_failure(&url).await;
    assert!(
        password.detail.contains("password is wrong") && password.detail.contains("user tasksync"),
        "{password}"
    );
    assert_eq!(password.class, ErrorClass::Transient);
    assert_eq!(password.code, Code::RegistryUnavailable);
    let mut url = server.url();
    url.query_pairs_mut().append_pair("sslmode", "require");
    let plain = open_failure(&url).await;
    assert!(plain.detail.contains("sslmode"), "{plain}");
    server.crash();
    let gone = open_failure(&server.url()).await;
    assert!(gone.detail.contains("nothing listens"), "{gone}");
    for url in [
        "postgres://u:geheim@host:port/x",
        "postgres://u:geheim@host",
        "postgres://u:geheim@host/x?sslmode=never",
        "postgres:geheim@host/x",
        "postgres:u:geheim@host/x",
    ] {
        let mut settings = settings(&server.url());
        settings.url = url.to_owned();
        let failure = SqlRegistry::open_postgres(&settings).await.unwrap_err();
        assert_eq!(failure.code, Code::SettingsWrong, "{failure}");
        assert!(!failure.detail.contains("geheim"), "{failure}");
    }
}

#[tokio::test]
async fn a_restarted_server_is_used_again() {
    let server = bench_or_skip!(OwnServer::start_new());
    let mut settings = settings(&server.url());
    settings.acquire_timeout = Duration::from_secs(2);
    let registry = SqlRegistry::open_postgres(&settings).await.unwrap();
    with_ana(&registry).await;
    let ana = ana();
    registry.save_sync_state(&ana, 0, b"f", b"one").await.unwrap();
    server.crash();
    for _ in 0..2 {
        let failure = registry.save_sync_state(&ana, 1, b"f", b"two").await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Transient);
        assert_eq!(failure.code, Code::RegistryUnavailable);
        assert!(!failure.detail.contains("geheim"), "{failure}");
    }
    server.start();
    until(|| async { registry.check_writable().await.is_ok() }).await;
    assert_eq!(registry.sync_state(&ana.key).await.unwrap().unwrap().blob, b"one");
    assert_eq!(
        registry.save_sync_state(&ana, 1, b"f", b"two").await.unwrap(),
        SaveResult::Stored(2)
    );
}

#[tokio::test]
async fn a_call_that_is_cut_off_or_ended_leaves_nothing_behind() {
    let bench = bench_or_skip!(bench().await);
    let registry = &bench.registry;
    with_ana(registry).await;
    let ana = key("a", "ana");
    // Another transaction holds Ana's row; the call waits for it and is cancelled.
    let mut holding = registry.transaction("test").await.unwrap();
    holding
        .query("UPDATE enrolments SET source_login = 'held'")
        .execute()
        .await
        .unwrap();
    let permit = crate::registry::DeletionPermit {
        plan: "p".to_owned(),
        until: Timestamp::MAX,
    };
    let call = registry.allow_deletions(&ana, &permit);
    let cut = tokio::time::timeout(Duration::from_millis(200), call).await;
    assert!(cut.is_err());
    registry.rollback("test", holding).await.unwrap();
    for _ in 0..20 {
        registry.check_writable().await.unwrap();
        assert_eq!(
            registry.enrolment(&ana).await.unwrap().unwrap().source_login,
            "ana"
        );
    }
    // The server ends every connection; each idle one is reported as broken at most once.
    bench
        .database
        .on_server(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            bench.database.name()
        ))
        .await;
    until(|| async {
        match registry.check_writable().await {
            Ok(()) => true,
            Err(failure) => {
                assert_eq!(failure.class, ErrorClass::Transient, "{failure}");
                false
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_asks_the_server_once() {
    let database = bench_or_skip!(TestDatabase::new().await);
    let mut settings = database.settings();
    let mut url: url::Url = settings.url.parse().unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let relay = Relay::to(server).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(relay.port)).unwrap();
    settings.url = url.into();
    let registry = SqlRegistry::open_postgres(&settings).await.unwrap();
    with_ana(&registry).await;
    let (tenant, users) = (tenant_id("a"), [user_id("ana")]);
    let read = || registry.enrolments_with_fingerprints(&tenant, &users);
    read().await.unwrap();
    let before = relay.sent();
    for _ in 0..20 {
        assert_eq!(read().await.unwrap().len(), 1);
    }
    assert_eq!(relay.sent() - before, 20);
    // More calls than connections: they wait for each other, and none is lost.
    let reads = (0..50).map(|_| read());
    for answer in futures::future::join_all(reads).await {
        assert_eq!(answer.unwrap().len(), 1);
    }
    registry.close().await;
    assert!(read().await.unwrap_err().detail.contains("closed"));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_and_reported() {
    let database = bench_or_skip!(TestDatabase::new().await);
    let mut short = database.settings();
    short.statement_timeout = Duration::from_millis(300);
    let registry = SqlRegistry::open_postgres(&short).await.unwrap();
    let other = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    with_ana(&registry).await;
    let mut holding = other.transaction("test").await.unwrap();
    holding
        .query("UPDATE enrolments SET source_login = 'held'")
        .execute()
        .await
        .unwrap();
    let failure = registry.withdraw(&key("a", "ana")).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Transient);
    assert!(failure.detail.contains("registry.statement_timeout"), "{failure}");
    other.rollback("test", holding).await.unwrap();
    assert!(registry.withdraw(&key("a", "ana")).await.unwrap());
}

#[tokio::test]
async fn a_registry_without_the_right_to_write_is_reported() {
    let database = bench_or_skip!(TestDatabase::new().await);
    SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    database
        .on_server(&format!(
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            database.name()
        ))
        .await;
    let registry = SqlRegistry::open_postgres(&database.settings()).await.unwrap();
    let failure = registry.check_writable().await.unwrap_err();
    assert!(failure.detail.contains("read-only"), "{failure}");
    assert!(registry.tenants(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_of_many_enrolments_gets_the_mailbox() {
    let bench = bench_or_skip!(bench().await);
    with_ana(&bench.registry).await;
    for round in 0..5 {
        let enrolling = (0..8).map(|user| {
            let registry = Arc::clone(&bench.registry);
            let wanted = enrolment(&format!("u{user}"), &format!("box{round}@a"));
            spawn(async move { registry.enrol(&wanted).await.unwrap() }).detach()
        });
        let mut winners = 0;
        for answer in futures::future::join_all(enrolling).await {
            match answer.unwrap() {
                EnrolmentResult::Added | EnrolmentResult::Updated => winners += 1,
                EnrolmentResult::MailboxTaken(owner) => assert_ne!(owner, key("a", "ana")),
                EnrolmentResult::LoginTaken(owner) => panic!("{owner} has the sign-in name"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
    // A user whom many calls enrol at once is added once.
    let enrolling = (0..8).map(|_| {
        let registry = Arc::clone(&bench.registry);
        spawn(async move { registry.enrol(&enrolment("bea", "bea@a")).await.unwrap() }).detach()
    });
    let added = futures::future::join_all(enrolling)
        .await
        .into_iter()
        .filter(|answer| matches!(answer, Ok(EnrolmentResult::Added)))
        .count();
    assert_eq!(added, 1);
}

#[tokio::test]
async fn one_of_many_enrolments_gets_the_sign_in_name() {
    let bench = bench_or_skip!(bench().await);
    with_ana(&bench.registry).await;
    for round in 0..5 {
        let enrolling = (0..8).map(|user| {
            let registry = Arc::clone(&bench.registry);
            let wanted = Enrolment {
                source_login: format!("a\\person{round}"),
                ..enrolment(&format!("u{round}-{user}"), &format!("u{round}-{user}@a"))
            };
            spawn(async move { registry.enrol(&wanted).await.unwrap() }).detach()
        });
        let answers = futures::future::join_all(enrolling).await;
        let added = answers
            .iter()
            .filter(|answer| matches!(answer, Ok(EnrolmentResult::Added)))
            .count();
        let taken = answers
            .iter()
            .filter(|answer| matches!(answer, Ok(EnrolmentResult::LoginTaken(_))))
            .count();
        assert_eq!((added, taken), (1, 7), "round {round}");
    }
}

#[tokio::test]
async fn crossing_writers_all_get_through() {
    let bench = bench_or_skip!(bench().await);
    with_ana(&bench.registry).await;
    let users: Vec<String> = (0..60).map(|user| format!("u{user}")).collect();
    for user in &users {
        bench
            .registry
            .enrol(&enrolment(user, &format!("{user}@a")))
            .await
            .unwrap();
    }
    let writers = (0..8_i64).map(|writer| {
        let registry = Arc::clone(&bench.registry);
        let mut users = users.clone();
        users.rotate_left(usize::try_from(writer * 7).unwrap());
        if writer % 2 == 0 {
            users.reverse();
        }
        // A user named twice: the last stamp counts, and no known success is lost.
        users.push(users[0].clone());
        let stamps: Vec<SavedStamp> = users
            .iter()
            .enumerate()
            .map(|(index, user)| SavedStamp {
                user: user_id(user),
                stamp: Timestamp::from_second(1_000 + writer).unwrap(),
                last_success: (index < 60).then(|| Timestamp::from_second(500).unwrap()),
                failing: None,
            })
            .collect();
        spawn(async move { registry.save_stamps(&tenant_id("a"), &stamps).await }).detach()
    });
    for written in futures::future::join_all(writers).await {
        written.unwrap().unwrap();
    }
    let stamps = bench.registry.stamps(&tenant_id("a"), None, 100).await.unwrap();
    assert_eq!(stamps.len(), 61);
    for saved in stamps.iter().filter(|saved| saved.user != user_id("ana")) {
        assert_eq!(saved.last_success, Some(Timestamp::from_second(500).unwrap()));
    }
}

#[tokio::test]
async fn a_deadlock_is_run_again() {
    let bench = bench_or_skip!(bench().await);
    let registry = &bench.registry;
    with_ana(registry).await;
    let mut calls = 0;
    let answer = super::super::retry_on_conflict(|| {
        calls += 1;
        let failing = calls == 1;
        async move {
            let mut connection = registry.single("testing").await?;
            let statement = if failing {
                "DO $$ BEGIN RAISE EXCEPTION 'met' USING ERRCODE = '40P01'; END $$"
            } else {
                "UPDATE enrolments SET source_login = 'again'"
            };
            connection
                .query(statement)
                .execute()
                .await
                .map_err(|error| registry.failure("testing", &error))
        }
    })
    .await;
    assert_eq!((answer, calls), (Ok(1), 2));
    let answer: Result<(), Failure> = super::super::retry_on_conflict(|| async {
        let mut connection = registry.single("testing").await?;
        connection
            .query("DO $$ BEGIN RAISE EXCEPTION 'met' USING ERRCODE = '40001'; END $$")
            .execute()
            .await
            .map_err(|error| registry.failure("testing", &error))?;
        Ok(())
    })
    .await;
    assert_eq!(answer.unwrap_err().class, ErrorClass::Transient, "not for ever");
}
