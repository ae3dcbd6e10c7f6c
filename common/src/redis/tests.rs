//! Tests against real servers.

use super::*;
use crate::contract::redis::{CLUSTER, PrivateRedis, own_prefix, remove_prefix, url_in};

mod tls;

static COUNT: LazyScript = LazyScript::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");

fn store(url: &str) -> RedisStore {
    let options = RedisOptions {
        connect_timeout: Duration::from_millis(500),
        response_timeout: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    RedisStore::new("schedule.url", url, options).unwrap()
}

async fn count(store: &RedisStore, key: &str, repeat: Repeat) -> Result<i64, Failure> {
    store
        .script("counting", &COUNT, &[key.to_owned()], &[b"1".to_vec()], repeat)
        .await
}

/// Returns the detail of the failure of a call that must fail.
async fn refusal(store: &RedisStore) -> String {
    let failure = count(store, "n", Repeat::No).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::RedisUnavailable)
    );
    failure.detail
}

#[tokio::test]
async fn scripts_run_also_after_the_server_forgot_them() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let store = store(&server.url());
    assert_eq!(count(&store, "n", Repeat::No).await, Ok(1));
    let flush = || {
        let mut command = redis::cmd("SCRIPT");
        command.arg("FLUSH");
        command
    };
    store
        .command::<()>("flushing", flush(), Repeat::Yes)
        .await
        .unwrap();
    assert_eq!(count(&store, "n", Repeat::No).await, Ok(2));
}

#[tokio::test]
async fn it_works_again_after_the_server_was_away() {
    let Some(mut server) = PrivateRedis::start(&[]) else {
        return;
    };
    let store = store(&server.url());
    assert_eq!(count(&store, "n", Repeat::No).await, Ok(1));
    server.down();
    let detail = refusal(&store).await;
    assert!(
        detail.contains(&format!("127.0.0.1:{}", server.port())),
        "{detail}"
    );
    server.up();
    // The first errors may still be those cached after a refused connection.
    let mut answer = count(&store, "n", Repeat::No).await;
    for _ in 0..50 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = count(&store, "n", Repeat::No).await;
    }
    assert_eq!(answer, Ok(1), "an empty server");
    // A restart between two calls: a call that may be repeated does not fail at all.
    server.down();
    server.up();
    assert_eq!(count(&store, "n", Repeat::Yes).await, Ok(1));
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_response_timeout_and_works_when_it_goes_on() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let store = store(&server.url());
    assert_eq!(count(&store, "n", Repeat::No).await, Ok(1));
    server.freeze(true);
    // Many calls at once do not wait in turn.
    let calls = (0..20).map(|_| refusal(&store));
    let details = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(calls))
        .await
        .unwrap();
    assert!(
        details.iter().all(|detail| detail.contains("no answer in time")),
        "{details:?}"
    );
    server.freeze(false);
    let mut answer = count(&store, "other", Repeat::No).await;
    for _ in 0..50 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = count(&store, "other", Repeat::No).await;
    }
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_hold_no_password() {
    let Some(server) = PrivateRedis::start(&[
        "--requirepass",
        "geheim",
        "--user",
        "low",
        "on",
        ">niedrig",
        "~*",
        "-@all",
        "+get",
    ]) else {
        return;
    };
    let at = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port());
    assert_eq!(count(&store(&at(":geheim@")), "n", Repeat::No).await, Ok(1));
    assert!(refusal(&store(&at(""))).await.contains("requires a password"));
    let wrong = refusal(&store(&at(":falsch@"))).await;
    assert!(
        wrong.contains("refuses user or password") && !wrong.contains("falsch"),
        "{wrong}"
    );
    let low = refusal(&store(&at("low:niedrig@"))).await;
    assert!(
        low.contains("no permission for this") && !low.contains("niedrig"),
        "{low}"
    );
}

#[tokio::test]
async fn replicas_full_servers_and_cluster_nodes_are_distinguished() {
    let Some(master) = PrivateRedis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]) else {
        return;
    };
    assert!(refusal(&store(&master.url())).await.contains("raise maxmemory"));
    let Some(replica) = PrivateRedis::start(&["--replicaof", "127.0.0.1", "1"]) else {
        return;
    };
    assert!(refusal(&store(&replica.url())).await.contains("is a replica"));
    let Some(node) = PrivateRedis::start(&["--cluster-enabled", "yes"]) else {
        return;
    };
    assert!(
        refusal(&store(&node.url()))
            .await
            .contains("part of the cluster is down")
    );
    let Some(closed) = PrivateRedis::start(&[]) else {
        return;
    };
    let url = closed.url();
    drop(closed);
    assert!(refusal(&store(&url)).await.contains("nothing listens there"));
}

#[tokio::test]
async fn on_a_cluster_scripts_go_where_their_key_is() {
    let Some(url) = url_in(CLUSTER) else { return };
    let prefix = own_prefix();
    let store = store(&url);
    let keys: Vec<String> = (0..50).map(|number| format!("{prefix}:{{{number}}}")).collect();
    for round in 1..=2 {
        let counts = futures::future::join_all(keys.iter().map(|key| count(&store, key, Repeat::No))).await;
        assert!(counts.iter().all(|count| *count == Ok(round)), "{counts:?}");
    }
    assert_eq!(
        store
            .keys_of_all_nodes(&format!("{prefix}*"))
            .await
            .unwrap()
            .len(),
        50
    );
    remove_prefix(&url, &prefix).await;
    assert!(
        store
            .keys_of_all_nodes(&format!("{prefix}*"))
            .await
            .unwrap()
            .is_empty()
    );
}
