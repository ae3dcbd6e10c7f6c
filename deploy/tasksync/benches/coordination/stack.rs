//! The real loops: one scheduler that leads and one worker. Each has its own connections and runtime, as if they were
//! two processes. The people's tasks never change.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::clock::monotonic;
use tasksync_common::clock::{SharedClock, SystemClock};
use tasksync_common::error::Failure;
use tasksync_common::fleet::{FleetParticipant, Heartbeat, Member, Nudge, Role, open_fleet};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::queue::open_queue;
use tasksync_common::random::ordered_id;
use tasksync_common::registry::open_registry;
use tasksync_common::schedule::{StampSaver, open_schedule};
use tasksync_common::settings::Settings;
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_scheduler::{DispatchLimits, DispatchMetrics, Scheduler, Stores};
use tasksync_worker::work::{Survey, SyncReport, UserSync, WorkLimits, WorkMetrics, Worker, run};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::text;

/// The same values as in the executable.
const STAMP_INTERVAL: Duration = Duration::from_secs(10);
const STAMP_BATCH: usize = 1_000;
const STAMPS_WAITING: usize = 100_000;
/// Longest time to start, including the comparison of registry and schedule.
const START: Duration = Duration::from_mins(5);

/// A sync that never finds anything to do and queries no server.
struct Idle;

#[async_trait]
impl UserSync for Idle {
    type LookedUp = ();
    type Work = ();

    async fn look_up(&self, _tenant: &TenantId, users: &[UserId]) -> Vec<Result<(), Failure>> {
        users.iter().map(|_| Ok(())).collect()
    }

    async fn survey(&self, _tenant: &TenantId, users: Vec<(UserId, ())>) -> Vec<Result<Survey<()>, Failure>> {
        users.iter().map(|_| Ok(Survey::Idle)).collect()
    }

    async fn sync(&self, _user: &UserKey, (): (), _budget: Duration) -> Result<SyncReport, Failure> {
        Ok(SyncReport::default())
    }
}

/// Running loops.
pub(crate) struct Stack {
    stop: CancellationToken,
    parts: Vec<AbortOnDropHandle<()>>,
    pub(crate) dispatch: Arc<DispatchMetrics>,
    pub(crate) work: Arc<WorkMetrics>,
}

impl Stack {
    /// Starts both. Returns when the scheduler leads and has compared registry and schedule.
    ///
    /// # Errors
    /// A store cannot be opened, or starting takes too long.
    pub(crate) async fn start(
        settings: &Arc<Settings>,
        scheduler: &Handle,
        worker: &Handle,
    ) -> Result<Self, String> {
        let stop = CancellationToken::new();
        let (dispatch, mut parts) =
            joined(scheduler.spawn(schedule(Arc::clone(settings), stop.clone()))).await?;
        let (work, more) = joined(worker.spawn(work(Arc::clone(settings), stop.clone()))).await?;
        parts.extend(more);
        let stack = Self {
            stop,
            parts,
            dispatch,
            work,
        };
        let began = monotonic();
        while stack.dispatch.tenant_searches.get() == 0 {
            if began.elapsed() > START {
                return Err(format!(
                    "the scheduler did not lead and compare within {} s",
                    START.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(stack)
    }

    /// Returns the number of users whose sync ended.
    pub(crate) fn done(&self) -> u64 {
        self.work.users_idle.get()
    }

    /// Stops both in order.
    ///
    /// # Errors
    /// A part panicked, or a call of either loop failed.
    pub(crate) async fn stop(self) -> Result<(), String> {
        self.stop.cancel();
        for part in self.parts {
            part.await.map_err(text)?;
        }
        let failures = self.dispatch.runs_failed.get()
            + self.dispatch.publish_failures.get()
            + self.work.reports_failed.get()
            + self.work.batches_requeued.get();
        if failures > 0 {
            return Err(format!(
                "{failures} calls failed: {:?} {:?}",
                self.dispatch, self.work
            ));
        }
        Ok(())
    }
}

async fn joined<T>(task: JoinHandle<Result<T, String>>) -> Result<T, String> {
    task.await.map_err(text)?
}

async fn stores(settings: &Settings) -> Result<Stores, String> {
    let clock: SharedClock = Arc::new(SystemClock);
    Ok(Stores {
        schedule: open_schedule(&settings.schedule, Arc::clone(&clock))
            .await
            .map_err(text)?,
        queue: open_queue(&settings.queue, settings.schedule.claim_lifetime)
            .await
            .map_err(text)?,
        registry: open_registry(&settings.registry).await.map_err(text)?,
        fleet: open_fleet(&settings.schedule, Arc::clone(&clock)).map_err(text)?,
        clock,
    })
}

fn heartbeat(
    settings: &Settings,
    stores: &Stores,
    role: Role,
    part: Arc<dyn FleetParticipant>,
    nudge: Arc<Nudge>,
) -> Heartbeat {
    Heartbeat {
        fleet: Arc::clone(&stores.fleet),
        member: Member::new(format!("{role:?}-{}", ordered_id()), role, stores.clock.now()),
        clock: Arc::clone(&stores.clock),
        participants: vec![part],
        interval: settings.schedule.heartbeat_interval,
        lifetime: settings.schedule.heartbeat_lifetime,
        nudge,
    }
}

/// The tasks of one side, and its counters.
type Running<M> = (Arc<M>, Vec<AbortOnDropHandle<()>>);

async fn schedule(
    settings: Arc<Settings>,
    stop: CancellationToken,
) -> Result<Running<DispatchMetrics>, String> {
    let stores = stores(&settings).await?;
    let metrics: Arc<DispatchMetrics> = Arc::default();
    let scheduler = Scheduler::new(
        stores.clone(),
        DispatchLimits::of(&settings),
        ordered_id().to_string(),
        Arc::clone(&metrics),
    );
    let heartbeat = heartbeat(
        &settings,
        &stores,
        Role::Scheduler,
        scheduler.heartbeat_part(),
        Arc::default(),
    );
    let beating = stop.clone();
    let parts = vec![
        spawn(async move { scheduler.run(stop).await }),
        spawn(async move { heartbeat.run(beating).await }),
    ];
    Ok((metrics, parts))
}

async fn work(settings: Arc<Settings>, stop: CancellationToken) -> Result<Running<WorkMetrics>, String> {
    let stores = stores(&settings).await?;
    let limits = WorkLimits::of(&settings);
    let metrics: Arc<WorkMetrics> = Arc::default();
    let nudge: Arc<Nudge> = Arc::default();
    let stamps = Arc::new(StampSaver::new(
        Arc::clone(&stores.registry),
        STAMP_BATCH,
        STAMPS_WAITING,
    ));
    let worker = Worker::new(
        stores.clone(),
        Arc::clone(&stamps),
        Arc::new(Idle),
        limits,
        Arc::clone(&metrics),
        Arc::clone(&nudge),
    );
    let fleet_member = Arc::clone(&worker.fleet_member);
    let heartbeat = heartbeat(&settings, &stores, Role::Worker, fleet_member, nudge);
    let (beating, saving) = (stop.clone(), stop.clone());
    let parts = vec![
        spawn(async move { run(worker, stop).await }),
        spawn(async move { heartbeat.run(beating).await }),
        spawn(async move { stamps.run(STAMP_INTERVAL, saving).await }),
    ];
    Ok((metrics, parts))
}
