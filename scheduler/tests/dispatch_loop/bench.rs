//! Schedulers and workers over the same stores.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::Clock as _;
use tasksync_common::clock::monotonic;
use tasksync_common::fleet::{Heartbeat, Member, MemoryFleet, Nudge, Role};
use tasksync_common::model::{UserId, UserKey};
use tasksync_common::queue::MemoryQueue;
use tasksync_common::random::unique_id;
use tasksync_common::registry::topics::*;
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{MemorySchedule, StampSaver, UserStatus};
use tasksync_common::settings::Settings;
use tasksync_common::tasks::spawn;
use tasksync_scheduler::{DispatchLimits, DispatchMetrics, Scheduler, Stores};
use tasksync_worker::work::{WorkLimits, WorkMetrics, Worker};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::refusing_queue::RefusingQueue;
use crate::support::{Act, FakeSync, FaultySchedule, MemoryRegistry, TokioClock, key, tenant_id, user_id};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

pub(crate) struct Bench {
    pub(crate) began: Instant,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) order: Arc<MemorySchedule>,
    pub(crate) queue: Arc<RefusingQueue>,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) sync: Arc<FakeSync>,
    pub(crate) fleet: MemoryFleet,
    pub(crate) work: Arc<WorkMetrics>,
}

/// A running scheduler.
pub(crate) struct Process {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) schedule: Arc<FaultySchedule>,
    pub(crate) metrics: Arc<DispatchMetrics>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Bench {
    pub(crate) fn new(otherwise: Act) -> Self {
        let settings = Settings::default();
        let clock = TokioClock::start();
        let minimum = settings.schedule.minimum_time_between_user_syncs;
        Self {
            began: monotonic(),
            order: Arc::new(MemorySchedule::new(clock.clone(), minimum)),
            queue: RefusingQueue::over(MemoryQueue::new(&settings.queue)),
            registry: Arc::default(),
            sync: FakeSync::new(otherwise),
            fleet: MemoryFleet::new(clock.clone()),
            work: Arc::default(),
            clock,
            settings,
        }
    }

    pub(crate) fn scheduler(&self, holder: &str) -> Process {
        let schedule = FaultySchedule::over(self.order.clone());
        let stores = Stores {
            schedule: schedule.store(),
            queue: self.queue.clone(),
            registry: self.registry.clone(),
            fleet: Arc::new(self.fleet.clone()),
            clock: self.clock.clone(),
        };
        let metrics: Arc<DispatchMetrics> = Arc::default();
        let limits = DispatchLimits::of(&self.settings);
        let scheduler = Arc::new(Scheduler::new(stores, limits, holder, metrics.clone()));
        let stop = CancellationToken::new();
        let task = {
            let (scheduler, stop) = (scheduler.clone(), stop.clone());
            spawn(async move { scheduler.run(stop).await }).detach()
        };
        Process {
            scheduler,
            schedule,
            metrics,
            stop,
            task,
        }
    }

    pub(crate) fn worker(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        let nudge: Arc<Nudge> = Arc::default();
        let fleet = Arc::new(self.fleet.clone());
        let worker = Worker::new(
            Stores {
                schedule: self.order.clone(),
                queue: self.queue.clone(),
                registry: self.registry.clone(),
                fleet: fleet.clone(),
                clock: self.clock.clone(),
            },
            Arc::new(StampSaver::new(self.registry.clone(), 1_000, 10_000)),
            self.sync.clone(),
            WorkLimits::of(&self.settings),
            self.work.clone(),
            nudge.clone(),
        );
        let heartbeat = Heartbeat {
            fleet,
            member: Member::new(unique_id().to_string(), Role::Worker, Timestamp::UNIX_EPOCH),
            clock: self.clock.clone(),
            participants: vec![worker.fleet_member.clone()],
            interval: self.settings.schedule.heartbeat_interval,
            lifetime: self.settings.schedule.heartbeat_lifetime,
            nudge,
        };
        let beating = stop.clone();
        spawn(async move { heartbeat.run(beating).await }).detach();
        // As in the product, the stamps reach the registry.
        let (stamps, saving) = (worker.stamps.clone(), stop.clone());
        spawn(async move { stamps.run(SECOND * 10, saving).await }).detach();
        spawn(tasksync_worker::work::run(worker, stop.clone())).detach();
        stop
    }

    /// Opts in users `u000`, `u001`, … of a tenant. Their opt-ins lie two hours back, one second apart.
    pub(crate) async fn enrol(&self, tenant: &str, count: usize) -> Vec<UserKey> {
        let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let users: Vec<UserId> = (0..count).map(|index| user_id(&format!("u{index:03}"))).collect();
        self.registry.add(tenant, &users, start);
        let mut keys = Vec::new();
        for (seconds, user) in (0..).zip(&users) {
            let key = key(tenant, user.as_str());
            let stamp = start + SignedDuration::from_secs(seconds);
            self.order.enrol(&key, stamp, None).await.unwrap();
            keys.push(key);
        }
        keys
    }

    /// Opts in users of a tenant who become due one by one, evenly over the time `over` that begins now.
    pub(crate) async fn enrol_scattered(&self, tenant: &str, count: u32, over: Duration) {
        let users: Vec<UserId> = (0..count).map(|index| user_id(&format!("u{index:03}"))).collect();
        let due = self.clock.now() - self.settings.schedule.minimum_time_between_user_syncs;
        self.registry.add(tenant, &users, due);
        for (index, user) in (0..).zip(&users) {
            let key = key(tenant, user.as_str());
            let stamp = due + over * index / count;
            self.order.enrol(&key, stamp, Some(stamp)).await.unwrap();
        }
    }

    pub(crate) async fn set_enabled(&self, tenant: &str, enabled: bool) {
        let mut changed = self.registry.tenant(&tenant_id(tenant)).await.unwrap().unwrap();
        changed.enabled = enabled;
        self.registry.put_tenant(&changed).await.unwrap();
    }

    pub(crate) async fn status(&self, user: &UserKey) -> UserStatus {
        self.order
            .status(user)
            .await
            .unwrap()
            .expect("the user is in the order")
    }
}

impl Process {
    pub(crate) fn leads(&self) -> bool {
        self.scheduler.leading_epoch().borrow().is_some()
    }
}
