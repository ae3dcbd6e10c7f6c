//! What the worker's loop reports to the fleet about itself, and the circuits it shares.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tasksync_common::clock::monotonic;
use tasksync_common::fleet::{Fleet, FleetAnswer, FleetParticipant, FleetReport, Nudge, Permits};
use tasksync_common::model::TenantId;
use tasksync_common::queue::QueueName;
use tokio::time::{Instant, timeout};

use super::circuit::{Circuits, PROBE, Permission};
use super::limits::{SETTLE, WorkLimits};
use super::metrics::WorkMetrics;
use super::tenant_loads::TenantLoads;

/// The batches of one queue that run now.
#[derive(Debug, Default)]
struct RunningBatches {
    total: u32,
    running: u32,
    done: u64,
    by_tenant: BTreeMap<TenantId, u32>,
}

impl RunningBatches {
    fn new(total: usize) -> Self {
        Self {
            total: u32::try_from(total).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    fn permits(&self, accepts_jobs: bool) -> Permits {
        Permits {
            total: self.total,
            free: if accepts_jobs {
                self.total.saturating_sub(self.running)
            } else {
                0
            },
        }
    }
}

#[derive(Debug)]
struct RunningBatchesByQueue {
    background: RunningBatches,
    interactive: RunningBatches,
}

impl RunningBatchesByQueue {
    fn of(&mut self, queue: QueueName) -> &mut RunningBatches {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }
}

/// The worker's place in the fleet: a part of the process's [`tasksync_common::fleet::Heartbeat`].
pub struct FleetMember {
    pub(super) circuits: Circuits,
    pub(super) loads: TenantLoads,
    fleet: Arc<dyn Fleet>,
    nudge: Arc<Nudge>,
    metrics: Arc<WorkMetrics>,
    batches: Mutex<RunningBatchesByQueue>,
    /// Whether the worker takes jobs: not before it runs, and not after it was stopped.
    accepts_jobs: AtomicBool,
}

impl FleetMember {
    /// Returns the place of a worker with these limits and counters (the same as the [`super::Worker`]'s).
    #[must_use]
    pub fn new(
        limits: &WorkLimits,
        metrics: Arc<WorkMetrics>,
        fleet: Arc<dyn Fleet>,
        nudge: Arc<Nudge>,
    ) -> Arc<Self> {
        Arc::new(Self {
            circuits: Circuits::new(limits.pace.minimum),
            loads: TenantLoads::new(),
            fleet,
            nudge,
            metrics,
            batches: Mutex::new(RunningBatchesByQueue {
                background: RunningBatches::new(limits.batches_at_once),
                interactive: RunningBatches::new(limits.interactive_batches_at_once),
            }),
            accepts_jobs: AtomicBool::new(false),
        })
    }

    fn lock_batches(&self) -> MutexGuard<'_, RunningBatchesByQueue> {
        // Consistent after every change, so a panic elsewhere does not spoil it.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether jobs are taken.
    pub(super) fn set_accepts_jobs(&self, accepts_jobs: bool) {
        self.accepts_jobs.store(accepts_jobs, Ordering::Release);
        self.nudge.soon();
    }

    /// Counts a batch until the returned value is dropped.
    pub(super) fn begin<'a>(&'a self, queue: QueueName, tenant: &'a TenantId) -> RunningBatch<'a> {
        {
            let mut batches = self.lock_batches();
            let counts = batches.of(queue);
            counts.running += 1;
            *counts.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        self.nudge.soon();
        RunningBatch {
            fleet_member: self,
            queue,
            tenant,
            began: monotonic(),
        }
    }

    /// Returns what a batch may do for its tenant. When an open circuit is due for a probe, one process of
    /// the whole fleet sends it; if the fleet does not answer, this process does.
    pub(super) async fn circuit_permission(
        &self,
        tenant: &TenantId,
        urgent: bool,
        now: Instant,
    ) -> Permission {
        let permission = self.circuits.ask(tenant, urgent, now);
        match permission {
            Permission::Probe if !urgent && self.fleet.is_shared() => {
                match timeout(SETTLE, self.fleet.probe(tenant, PROBE)).await {
                    Ok(Ok(false)) => self.circuits.defer_to_other_prober(tenant, now),
                    Ok(Ok(true) | Err(_)) | Err(_) => permission,
                }
            }
            Permission::Closed | Permission::Probe | Permission::Open(..) => permission,
        }
    }

    /// Makes the heartbeat report a changed circuit at once.
    pub(super) fn report_now(&self) {
        self.nudge.now();
    }
}

/// Counts a batch while it runs.
pub(super) struct RunningBatch<'a> {
    fleet_member: &'a FleetMember,
    queue: QueueName,
    tenant: &'a TenantId,
    began: Instant,
}

impl Drop for RunningBatch<'_> {
    fn drop(&mut self) {
        {
            let mut batches = self.fleet_member.lock_batches();
            let counts = batches.of(self.queue);
            counts.running = counts.running.saturating_sub(1);
            counts.done += 1;
            if let Some(count) = counts.by_tenant.get_mut(self.tenant) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.by_tenant.remove(self.tenant);
                }
            }
        }
        self.fleet_member
            .loads
            .record_batch(self.tenant, self.began.elapsed());
        self.fleet_member.nudge.soon();
    }
}

impl FleetParticipant for FleetMember {
    fn add_to_report(&self, report: &mut FleetReport) {
        let accepts_jobs = self.accepts_jobs.load(Ordering::Acquire);
        let member = &mut report.member;
        {
            let batches = self.lock_batches();
            member.background = batches.background.permits(accepts_jobs);
            member.interactive = batches.interactive.permits(accepts_jobs);
            member.batches_done = batches.background.done;
            member.running.clone_from(&batches.background.by_tenant);
            member
                .running_interactive
                .clone_from(&batches.interactive.by_tenant);
        }
        (member.tenants, member.busy_ms) = self.loads.report(monotonic());
        member.users_in_flight = u32::try_from(self.metrics.users_running.get()).unwrap_or(u32::MAX);
        if self.fleet.is_shared() {
            self.circuits.add_to_report(report, monotonic());
        }
    }

    fn apply_answer(&self, report: &FleetReport, answer: &FleetAnswer) {
        if self.fleet.is_shared() {
            self.circuits.adopt(report, answer, monotonic());
        }
    }

    fn on_no_answer(&self, report: &FleetReport) {
        self.circuits.report_again(report);
    }

    fn on_store_lost(&self, _workers: u32) {}

    fn end(&self) {}
}
