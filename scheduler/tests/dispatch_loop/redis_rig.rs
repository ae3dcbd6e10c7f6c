//! Schedulers over a private Redis, in real time. The worker takes jobs and does nothing, so that their claims
//! expire.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::contract::redis::own_prefix;
use tasksync_common::fleet::MemoryFleet;
use tasksync_common::model::UserId;
use tasksync_common::queue::{JobQueue as _, MemoryQueue, QueueName};
use tasksync_common::redis::{RedisOptions, RedisStore};
use tasksync_common::schedule::RedisSchedule;
use tasksync_common::schedule::topics::*;
use tasksync_common::settings::Settings;
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_scheduler::{DispatchLimits, DispatchMetrics, Scheduler, Stores};
use tokio_util::sync::CancellationToken;

use crate::refusing_queue::RefusingQueue;
use crate::support::{MemoryRegistry, TokioClock, key, user_id};

/// Lifetime of the rig's claims.
pub(crate) const CLAIM: Duration = Duration::from_secs(2);

/// What all processes of the rig share.
pub(crate) struct Rig {
    url: String,
    prefix: String,
    settings: Settings,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) queue: Arc<RefusingQueue>,
}

/// One process's scheduler.
pub(crate) struct Process {
    pub(crate) store: RedisStore,
    pub(crate) order: Arc<RedisSchedule>,
    pub(crate) metrics: Arc<DispatchMetrics>,
    running: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl Rig {
    /// Opts in five users of one tenant. The leader runs every `run_interval`, and looks ten times a second in
    /// between.
    pub(crate) async fn new(url: String, run_interval: Duration) -> Self {
        let mut settings = Settings::default();
        settings.schedule.run_interval = run_interval;
        settings.schedule.top_up_interval = Duration::from_millis(100);
        settings.schedule.claim_lifetime = CLAIM;
        settings.schedule.leader_lifetime = Duration::from_secs(1);
        let queue = RefusingQueue::over(MemoryQueue::new(&settings.queue));
        let mut consumer = queue.consume(QueueName::Background, 10).await.unwrap();
        spawn(async move {
            while let Some(delivery) = consumer.next().await {
                delivery.acknowledge().await.unwrap();
            }
        })
        .detach();
        let rig = Self {
            url,
            prefix: own_prefix(),
            settings,
            registry: Arc::default(),
            queue,
        };
        rig.opt_in(0..5);
        rig
    }

    /// Opts in users of the tenant, in the registry only.
    pub(crate) fn opt_in(&self, users: std::ops::Range<u32>) {
        let users: Vec<UserId> = users.map(|user| user_id(&format!("u{user}"))).collect();
        self.registry.add("contoso", &users, opted_in_at());
    }

    /// Starts another process.
    pub(crate) fn start(&self, name: &str) -> Process {
        let store = RedisStore::new("test", &self.url, RedisOptions::default()).unwrap();
        let order = Arc::new(RedisSchedule::new(
            store.clone(),
            &self.prefix,
            self.settings.schedule.minimum_time_between_user_syncs,
        ));
        let clock = TokioClock::start();
        let metrics: Arc<DispatchMetrics> = Arc::default();
        let stores = Stores {
            schedule: order.clone(),
            queue: self.queue.clone(),
            registry: self.registry.clone(),
            fleet: Arc::new(MemoryFleet::new(clock.clone())),
            clock,
        };
        let limits = DispatchLimits::of(&self.settings);
        let scheduler = Scheduler::new(stores, limits, name, metrics.clone());
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let running = spawn(async move { scheduler.run(stopping).await });
        Process {
            store,
            order,
            metrics,
            running,
            stop,
        }
    }

    /// Returns the tokens of the jobs whose users were claimed after this moment of Redis' time, in order. A token is
    /// at least the time of its claim in microseconds.
    pub(crate) fn tokens_after(&self, moment: Timestamp) -> Vec<u64> {
        let moment = u64::try_from(moment.as_microsecond()).unwrap();
        let taken = self.queue.taken();
        let tokens = taken.iter().map(|(_, job)| job.token.0);
        tokens.filter(|token| *token > moment).collect()
    }

    /// Returns true if a job with this user was sent.
    pub(crate) fn has_sent(&self, user: &str) -> bool {
        let user = user_id(user);
        self.queue
            .taken()
            .iter()
            .any(|(_, job)| job.users.contains(&user))
    }
}

impl Process {
    /// Returns true if these users of the tenant are in the schedule.
    pub(crate) async fn has(&self, users: std::ops::Range<u32>) -> bool {
        for user in users {
            if !matches!(
                self.order.status(&key("contoso", &format!("u{user}"))).await,
                Ok(Some(_))
            ) {
                return false;
            }
        }
        true
    }

    /// Returns Redis' time as soon as Redis answers.
    pub(crate) async fn now(&self) -> Timestamp {
        let mut now = self.order.now().await;
        while now.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            now = self.order.now().await;
        }
        now.unwrap()
    }

    /// Stops the process in an orderly way.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops the process as a crash does, without giving up the leadership.
    pub(crate) async fn kill(self) {
        self.running.abort();
        let ended = self.running.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }
}

pub(crate) fn opted_in_at() -> Timestamp {
    "2020-01-01T00:00:00Z".parse().unwrap()
}

/// Waits until `holds` returns true. Allows much more time than needed, so that a slow machine fails no test.
pub(crate) async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came");
}
