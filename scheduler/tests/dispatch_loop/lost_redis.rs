//! The leader over a Redis of the test's own that loses what it holds, in real time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasksync_common::contract::redis::{PrivateRedis, own_prefix};
use tasksync_common::fleet::MemoryFleet;
use tasksync_common::model::UserId;
use tasksync_common::queue::{JobQueue as _, MemoryQueue, QueueName};
use tasksync_common::redis::{RedisOptions, RedisStore, Repeat};
use tasksync_common::schedule::{RedisSchedule, Schedule as _};
use tasksync_common::settings::Settings;
use tasksync_scheduler::{DispatchLimits, DispatchMetrics, Scheduler, Stores};
use tokio_util::sync::CancellationToken;

use crate::refusing_queue::RefusingQueue;
use crate::support::{MemoryRegistry, TokioClock, key, user_id};

const CLAIM: Duration = Duration::from_secs(2);

struct Rig {
    store: RedisStore,
    order: Arc<RedisSchedule>,
    queue: Arc<RefusingQueue>,
    metrics: Arc<DispatchMetrics>,
    stop: CancellationToken,
}

impl Rig {
    async fn start(server: &PrivateRedis) -> Self {
        let mut settings = Settings::default();
        settings.schedule.run_interval = Duration::from_millis(200);
        settings.schedule.top_up_interval = Duration::from_millis(100);
        settings.schedule.claim_lifetime = CLAIM;
        settings.schedule.leader_lifetime = Duration::from_secs(1);
        let store = RedisStore::new("test", &server.url(), RedisOptions::default()).unwrap();
        let order = Arc::new(RedisSchedule::new(
            store.clone(),
            &own_prefix(),
            settings.schedule.minimum_time_between_user_syncs,
        ));
        let clock = TokioClock::start();
        let registry: Arc<MemoryRegistry> = Arc::default();
        let users: Vec<UserId> = (0..5).map(|user| user_id(&format!("u{user}"))).collect();
        registry.add("contoso", &users, "2020-01-01T00:00:00Z".parse().unwrap());
        let queue = RefusingQueue::over(MemoryQueue::new(&settings.queue));
        // A worker that takes jobs and does nothing: their claims run out.
        let mut consumer = queue.consume(QueueName::Background, 10).await.unwrap();
        tokio::spawn(async move {
            while let Some(delivery) = consumer.next().await {
                delivery.acknowledge().await.unwrap();
            }
        });
        let metrics: Arc<DispatchMetrics> = Arc::default();
        let stores = Stores {
            schedule: order.clone(),
            queue: queue.clone(),
            registry,
            fleet: Arc::new(MemoryFleet::new(clock.clone())),
            clock,
        };
        let scheduler = Scheduler::new(stores, DispatchLimits::of(&settings), "one", metrics.clone());
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move { scheduler.run(stopping).await });
        Self {
            store,
            order,
            queue,
            metrics,
            stop,
        }
    }
}

/// Waits until something is so; much longer than it should take, so that a slow machine fails no test.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came");
}

impl Rig {
    async fn all_are_in(&self) -> bool {
        for user in 0..5 {
            if !matches!(
                self.order.status(&key("contoso", &format!("u{user}"))).await,
                Ok(Some(_))
            ) {
                return false;
            }
        }
        true
    }

    /// Whether a job was sent whose users were claimed after this moment of Redis' time.
    fn sent_after(&self, moment: u64) -> bool {
        self.queue.taken().iter().any(|(_, job)| job.token.0 > moment)
    }
}

#[tokio::test]
async fn an_emptied_redis_is_filled_again_and_nobody_is_sent_before_old_claims_have_run_out() {
    let Some(mut server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::start(&server).await;
    until("the first job", async || rig.sent_after(0)).await;
    for restart in [false, true] {
        let lost = Instant::now();
        if restart {
            server.down();
            server.up();
        } else {
            let flush = redis::cmd("FLUSHALL");
            rig.store
                .command::<()>("testing", flush, Repeat::Yes)
                .await
                .unwrap();
        }
        let mut moment = rig.order.now().await;
        while moment.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            moment = rig.order.now().await;
        }
        let moment = u64::try_from(moment.unwrap().as_microsecond()).unwrap();
        until("everybody", async || rig.all_are_in().await).await;
        until("a job after the loss", async || rig.sent_after(moment)).await;
        assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    }
    assert!(rig.metrics.users_found.get() >= 15);
    rig.stop.cancel();
}

#[tokio::test]
async fn a_tenant_that_vanished_is_put_in_again() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let rig = Rig::start(&server).await;
    until("the first job", async || rig.sent_after(0)).await;
    let lost = Instant::now();
    let keys = rig.store.keys_of_all_nodes("*{contoso}*").await.unwrap();
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(keys);
    rig.store
        .command::<i64>("testing", unlink, Repeat::Yes)
        .await
        .unwrap();
    let moment = u64::try_from(rig.order.now().await.unwrap().as_microsecond()).unwrap();
    until("everybody", async || rig.all_are_in().await).await;
    until("a job after the loss", async || rig.sent_after(moment)).await;
    assert!(lost.elapsed() >= CLAIM, "{:?}", lost.elapsed());
    rig.stop.cancel();
}
