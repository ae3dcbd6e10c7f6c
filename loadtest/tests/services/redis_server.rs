//! The private Redis, as a single node and as a cluster.

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use tasksync_loadtest::services::{Persistence, Redis, RedisCluster};

use super::{eventually, folder, started, state};

async fn connect(server: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn keeps_its_data_over_a_kill_and_loses_it_in_a_wipe() {
    let Some(server) = started(Redis::start(&folder(), Persistence::Always).await) else {
        return;
    };
    let mut redis = connect(&server).await;
    let () = redis.set("answer", 42).await.unwrap();

    let pid = server.pid().unwrap();
    server.kill();
    assert_eq!(state(pid), None);
    assert_eq!(server.pid(), None);
    assert!(redis.get::<_, u32>("answer").await.is_err());

    let url = server.url();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    let mut redis = connect(&server).await;
    assert_eq!(redis.get::<_, Option<u32>>("answer").await.unwrap(), Some(42));

    server.wipe().await.unwrap();
    assert_eq!(server.url(), url);
    let mut redis = connect(&server).await;
    assert_eq!(redis.get::<_, Option<u32>>("answer").await.unwrap(), None);

    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
    assert!(server.log_tail(5).contains("bye bye"), "{}", server.log_tail(5));
}

#[tokio::test]
async fn a_volatile_one_is_empty_after_a_kill() {
    let Some(server) = started(Redis::start(&folder(), Persistence::None).await) else {
        return;
    };
    let () = connect(&server).await.set("answer", 42).await.unwrap();
    server.kill();
    server.restart().await.unwrap();
    let found: Option<u32> = connect(&server).await.get("answer").await.unwrap();
    assert_eq!(found, None);
}

#[tokio::test]
async fn scripts_may_ask_for_the_time() {
    let Some(server) = started(Redis::start(&folder(), Persistence::EverySecond).await) else {
        return;
    };
    let script =
        redis::Script::new("local t = redis.call('TIME')[1]; redis.call('SET', KEYS[1], t); return t");
    let mut redis = connect(&server).await;
    let time: u64 = script.key("time").invoke_async(&mut redis).await.unwrap();
    assert!(time > 1_700_000_000, "{time}");
}

#[tokio::test]
async fn stands_still_while_paused_and_goes_on_afterwards() {
    let Some(server) = started(Redis::start(&folder(), Persistence::EverySecond).await) else {
        return;
    };
    let mut redis = connect(&server).await;
    let pid = server.pid().unwrap();
    server.pause();
    eventually("it is not frozen", || state(pid) == Some('T')).await;
    server.resume();
    eventually("it stays frozen", || state(pid).is_some_and(|state| state != 'T')).await;
    let () = redis.set("answer", 42).await.unwrap();
    // A frozen server can be stopped gracefully.
    server.pause();
    server.stop().await.unwrap();
    assert_eq!(state(pid), None);
}

#[tokio::test]
async fn two_sets_side_by_side_do_not_meet() {
    let (one, two) = (folder(), folder());
    let start = |folder| Redis::start(folder, Persistence::EverySecond);
    let (Some(one), Some(two)) = (started(start(&one).await), started(start(&two).await)) else {
        return;
    };
    assert_ne!(one.url(), two.url());
    let () = connect(&one).await.set("answer", 42).await.unwrap();
    assert_eq!(
        connect(&two).await.get::<_, Option<u32>>("answer").await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_cluster_serves_every_slot_again_after_a_node_was_killed() {
    let Some(cluster) = started(RedisCluster::start(&folder(), Persistence::Always).await) else {
        return;
    };
    assert_eq!(cluster.nodes().len(), 3);
    let client = || ClusterClient::new(cluster.urls()).unwrap();
    let mut redis = client().get_async_connection().await.unwrap();
    for number in 0..50_u32 {
        let () = redis
            .set(format!("{{tenant-{number}}}:due"), number)
            .await
            .unwrap();
    }
    cluster.nodes()[1].kill();
    cluster.restart().await.unwrap();
    let mut redis = client().get_async_connection().await.unwrap();
    for number in 0..50_u32 {
        let found: Option<u32> = redis.get(format!("{{tenant-{number}}}:due")).await.unwrap();
        assert_eq!(found, Some(number));
    }

    cluster.wipe().await.unwrap();
    let mut redis = client().get_async_connection().await.unwrap();
    let found: Option<u32> = redis.get("{tenant-7}:due").await.unwrap();
    assert_eq!(found, None);
    let () = redis.set("{tenant-7}:due", 1).await.unwrap();
}
