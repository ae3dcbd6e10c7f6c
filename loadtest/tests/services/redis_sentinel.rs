//! The private Redis with Sentinels.

use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use tasksync_loadtest::machine_clock::monotonic;
use tasksync_loadtest::services::{Persistence, Redis, RedisSentinel};

use super::{folder, started};

/// Connects to the server that the Sentinels report as the primary, once there is one.
async fn primary(set: &RedisSentinel) -> MultiplexedConnection {
    let url = set.url();
    let hosts = url
        .trim_start_matches("redis+sentinel://")
        .split('/')
        .next()
        .unwrap();
    let hosts = hosts.split(',').map(|host| format!("redis://{host}")).collect();
    let mut client = SentinelClient::build(hosts, "tasksync", None, SentinelServerType::Master).unwrap();
    let started = monotonic();
    loop {
        match client.get_async_connection().await {
            Ok(connection) => return connection,
            Err(error) => assert!(started.elapsed() < Duration::from_mins(1), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn role(node: &Redis) -> String {
    let client = redis::Client::open(node.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let answer: redis::Value = redis::cmd("ROLE").query_async(&mut connection).await.unwrap();
    // The first part is the role; the other parts depend on the role.
    let redis::Value::Array(parts) = answer else {
        panic!("{answer:?}")
    };
    redis::from_redis_value(parts.into_iter().next().unwrap()).unwrap()
}

#[tokio::test]
async fn the_replica_takes_over_from_a_killed_primary_which_comes_back_beside_it() {
    let Some(set) = started(RedisSentinel::start(&folder(), Persistence::Always).await) else {
        return;
    };
    let [first, second] = set.nodes();
    let mut redis = primary(&set).await;
    let () = redis.set("answer", 42).await.unwrap();
    let copies: u32 = redis::cmd("WAIT")
        .arg(1)
        .arg(10_000)
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(
        (copies, role(first).await.as_str(), role(second).await.as_str()),
        (1, "master", "slave")
    );

    first.kill();
    let mut redis = primary(&set).await;
    assert_eq!(redis.get::<_, Option<u32>>("answer").await.unwrap(), Some(42));
    assert_eq!(role(second).await, "master");

    first.restart().await.unwrap();
    set.wait_until_whole().await.unwrap();
    // If the machine stalls for a second, the Sentinels may promote the first node again.
    let mut roles = [role(first).await, role(second).await];
    roles.sort();
    assert_eq!(roles, ["master", "slave"]);
    let mut redis = primary(&set).await;
    assert_eq!(redis.get::<_, Option<u32>>("answer").await.unwrap(), Some(42));
    assert!(set.pids().len() >= 5, "two nodes and three Sentinels");
}
