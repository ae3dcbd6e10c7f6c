//! The private PostgreSQL.

use sqlx::{Connection as _, PgConnection};
use tasksync_loadtest::services::Postgres;

use super::{folder, started, state};

async fn connect(server: &Postgres) -> PgConnection {
    PgConnection::connect(&server.url()).await.unwrap()
}

async fn rows(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(connection)
        .await
}

#[tokio::test]
async fn keeps_committed_rows_over_a_kill_and_loses_them_in_a_wipe() {
    let Some(server) = started(Postgres::start(&folder()).await) else {
        return;
    };
    let mut database = connect(&server).await;
    let fsync: String = sqlx::query_scalar("SHOW fsync")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(fsync, "on");
    let superuser: String = sqlx::query_scalar("SHOW is_superuser")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(superuser, "on");
    sqlx::query("CREATE TABLE kept (id integer)")
        .execute(&mut database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO kept VALUES (1)")
        .execute(&mut database)
        .await
        .unwrap();

    let (pid, pids) = (server.pid().unwrap(), server.pids());
    assert!(pids.len() > 1 && pids.contains(&pid), "{pids:?}");
    server.kill();
    assert!(pids.iter().all(|pid| state(*pid).is_none()), "{pids:?}");
    assert!(rows(&mut database).await.is_err());
    assert!(!owns_shared_memory(pid));

    let url = server.url();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(rows(&mut connect(&server).await).await.unwrap(), 1);

    // The restart is graceful although a client is connected.
    let _client = connect(&server).await;
    server.restart().await.unwrap();
    assert_eq!(rows(&mut connect(&server).await).await.unwrap(), 1);

    server.wipe().await.unwrap();
    assert_eq!(server.url(), url);
    assert!(rows(&mut connect(&server).await).await.is_err());

    let pid = server.pid().unwrap();
    drop(server);
    assert_eq!(state(pid), None);
    assert!(!owns_shared_memory(pid));
}

/// Returns whether a System V segment created by `pid` still exists.
fn owns_shared_memory(pid: u32) -> bool {
    std::fs::read_to_string("/proc/sysvipc/shm")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split_whitespace().nth(4) == Some(pid.to_string().as_str()))
}
