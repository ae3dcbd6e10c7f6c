//! One worker with its stores and its sync.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::Clock as _;
use tasksync_common::clock::monotonic;
use tasksync_common::fleet::{Fleet, MemoryFleet};
use tasksync_common::model::{UserId, UserKey};
use tasksync_common::queue::{JobQueue as _, MemoryQueue, QueueName, Reason, SyncJob, VERSION, Workload};
use tasksync_common::registry::topics::*;
use tasksync_common::registry::{Alert, EnrolmentState};
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{ClaimAnswer, Epoch, MemorySchedule, StampSaver, Token, UserStatus};
use tasksync_common::settings::Settings;
use tasksync_common::stores::Stores;
use tasksync_common::tasks::spawn;
use tasksync_worker::work::{Consumers, WorkLimits, WorkMetrics, WorkSnapshot, Worker, run};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ending_queue::EndingQueue;
use crate::look_ups::LookUps;
use crate::support::{Act, FakeSync, FaultySchedule, MemoryRegistry, TokioClock, key, tenant_id, user_id};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

pub(crate) struct Bench {
    pub(crate) began: Instant,
    pub(crate) clock: Arc<TokioClock>,
    /// The schedule itself.
    pub(crate) order: Arc<MemorySchedule>,
    /// The schedule as the worker sees it.
    pub(crate) schedule: Arc<FaultySchedule>,
    pub(crate) memory: MemoryQueue,
    pub(crate) queue: Arc<EndingQueue>,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) sync: Arc<FakeSync>,
    /// The sync as the worker sees it.
    pub(crate) look_ups: Arc<LookUps>,
    pub(crate) metrics: Arc<WorkMetrics>,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) stamps: Arc<StampSaver>,
    pub(crate) limits: WorkLimits,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) stop: CancellationToken,
}

impl Bench {
    pub(crate) fn new(otherwise: Act) -> Self {
        let settings = Settings::default();
        let clock = TokioClock::start();
        let minimum = settings.schedule.minimum_time_between_user_syncs;
        let order = Arc::new(MemorySchedule::new(clock.clone(), minimum));
        let memory = MemoryQueue::new(&settings.queue);
        let registry = Arc::new(MemoryRegistry::default());
        let sync = FakeSync::new(otherwise);
        Self {
            began: monotonic(),
            schedule: FaultySchedule::over(order.clone()),
            order,
            queue: EndingQueue::over(memory.clone()),
            memory,
            stamps: Arc::new(StampSaver::new(registry.clone(), 1_000, 10_000)),
            registry,
            look_ups: LookUps::of(sync.clone()),
            sync,
            metrics: Arc::default(),
            consumers: Arc::new(Consumers::new(&WorkLimits::of(&settings))),
            limits: WorkLimits::of(&settings),
            fleet: Arc::new(MemoryFleet::new(clock.clone())),
            stop: CancellationToken::new(),
            clock,
        }
    }

    pub(crate) fn start(&self) -> JoinHandle<()> {
        let stores = Stores {
            schedule: self.schedule.store(),
            queue: self.queue.clone(),
            registry: self.registry.clone(),
            fleet: self.fleet.clone(),
            clock: self.clock.clone(),
        };
        let mut worker = Worker::new(
            stores,
            self.stamps.clone(),
            self.look_ups.clone(),
            self.limits.clone(),
            self.metrics.clone(),
            Arc::default(),
        );
        worker.consumers = self.consumers.clone();
        spawn(run(worker, self.stop.clone())).detach()
    }

    /// Returns the stamp of a tenant's user number `index`. All users are due, one microsecond apart.
    pub(crate) fn stamp(index: usize) -> Timestamp {
        let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        start + SignedDuration::from_micros(i64::try_from(index).unwrap())
    }

    /// Enrols users `u000`, `u001`, … of a tenant.
    pub(crate) async fn enrol(&self, tenant: &str, count: usize) -> Vec<UserId> {
        let users: Vec<_> = (0..count).map(|index| user_id(&format!("u{index:03}"))).collect();
        self.registry.add(tenant, &users, Self::stamp(0));
        for (index, user) in users.iter().enumerate() {
            let key = key(tenant, user.as_str());
            self.order.enrol(&key, Self::stamp(index), None).await.unwrap();
        }
        users
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Claims users and sends them as one job.
    pub(crate) async fn send(&self, tenant: &str, users: &[UserId]) -> Token {
        let epoch = self.lead().await;
        let lasts = self.limits.claim_lifetime;
        let tenant = tenant_id(tenant);
        let claim = self.order.claim(epoch, &tenant, users, lasts);
        let ClaimAnswer::Claimed { token, users } = claim.await.unwrap() else {
            panic!("the bench leads")
        };
        let job = SyncJob {
            version: VERSION,
            id: Uuid::from_u128(1),
            tenant,
            workload: Workload::Tasks,
            reason: Reason::Scheduled,
            token,
            users: users.into_iter().map(|claimed| claimed.user).collect(),
            issued_at: self.clock.now(),
        };
        self.memory
            .publish(
                QueueName::Background,
                &job,
                &tasksync_common::trace::TraceContext::default(),
            )
            .await
            .unwrap();
        token
    }

    pub(crate) async fn lead(&self) -> Epoch {
        self.order.lead("bench", MINUTE * 600).await.unwrap().unwrap()
    }

    /// Waits until no job is waiting or unacknowledged.
    pub(crate) async fn wait_until_idle(&self) {
        for _ in 0..100_000 {
            let depth = self.memory.depth(QueueName::Background).await.unwrap();
            if depth.ready + depth.unacknowledged.unwrap() == 0 {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("there are still jobs");
    }

    pub(crate) async fn status(&self, tenant: &str, user: &UserId) -> UserStatus {
        let status = self.order.status(&key(tenant, user.as_str())).await.unwrap();
        status.expect("the user is in the schedule")
    }

    pub(crate) async fn open_alerts(&self) -> Vec<Alert> {
        self.registry.alerts(None, 100).await.unwrap()
    }

    pub(crate) async fn enrolment_state(&self, user: &UserKey) -> EnrolmentState {
        self.registry.enrolment(user).await.unwrap().unwrap().state
    }

    pub(crate) fn metrics_snapshot(&self) -> WorkSnapshot {
        self.metrics.snapshot()
    }
}
