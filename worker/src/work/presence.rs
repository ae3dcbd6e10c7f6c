//! What the worker's loop reports to the fleet about itself, and the circuits it shares.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tasksync_common::fleet::{Answer, Fleet, Nudge, Part, Permits, Report};
use tasksync_common::model::TenantId;
use tasksync_common::queue::QueueName;
use tokio::time::{Instant, timeout};

use super::circuit::{Circuits, PROBE, Permission};
use super::limits::{SETTLE, WorkLimits};
use super::metrics::WorkMetrics;

/// The batches of one queue that run now.
#[derive(Debug, Default)]
struct Lane {
    total: u32,
    running: u32,
    done: u64,
    by_tenant: BTreeMap<TenantId, u32>,
}

impl Lane {
    fn new(total: usize) -> Self {
        Self {
            total: u32::try_from(total).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    fn permits(&self, takes: bool) -> Permits {
        Permits {
            total: self.total,
            free: if takes {
                self.total.saturating_sub(self.running)
            } else {
                0
            },
        }
    }
}

#[derive(Debug)]
struct Lanes {
    background: Lane,
    interactive: Lane,
}

impl Lanes {
    fn of(&mut self, queue: QueueName) -> &mut Lane {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }
}

/// The worker's place in the fleet: a part of the process's [`tasksync_common::fleet::Heartbeat`].
pub struct Presence {
    pub(super) circuits: Circuits,
    fleet: Arc<dyn Fleet>,
    nudge: Arc<Nudge>,
    metrics: Arc<WorkMetrics>,
    lanes: Mutex<Lanes>,
    /// Whether the worker takes jobs: not before it runs, and not after it was stopped.
    takes: AtomicBool,
}

impl Presence {
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
            fleet,
            nudge,
            metrics,
            lanes: Mutex::new(Lanes {
                background: Lane::new(limits.batches_at_once),
                interactive: Lane::new(limits.interactive_batches_at_once),
            }),
            takes: AtomicBool::new(false),
        })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Consistent after every change, so a panic elsewhere does not spoil it.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether jobs are taken.
    pub(super) fn set_takes(&self, takes: bool) {
        self.takes.store(takes, Ordering::Release);
        self.nudge.soon();
    }

    /// Counts a batch until the returned value is dropped.
    pub(super) fn begin<'a>(&'a self, queue: QueueName, tenant: &'a TenantId) -> RunningBatch<'a> {
        {
            let mut lanes = self.lanes();
            let lane = lanes.of(queue);
            lane.running += 1;
            *lane.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        self.nudge.soon();
        RunningBatch {
            presence: self,
            queue,
            tenant,
        }
    }

    /// Returns what a batch may do for its tenant. When an open circuit is due for a probe, one process of
    /// the whole fleet sends it; if the fleet does not answer, this process does.
    pub(super) async fn ask(&self, tenant: &TenantId, urgent: bool, now: Instant) -> Permission {
        let permission = self.circuits.ask(tenant, urgent, now);
        match permission {
            Permission::Probe if !urgent && self.fleet.is_shared() => {
                match timeout(SETTLE, self.fleet.probe(tenant, PROBE)).await {
                    Ok(Ok(false)) => self.circuits.leave_to_another(tenant, now),
                    Ok(Ok(true) | Err(_)) | Err(_) => permission,
                }
            }
            Permission::Closed | Permission::Probe | Permission::Open(..) => permission,
        }
    }

    /// Makes the heartbeat report a changed circuit at once.
    pub(super) fn tell_soon(&self) {
        self.nudge.now();
    }
}

/// Counts a batch while it runs.
pub(super) struct RunningBatch<'a> {
    presence: &'a Presence,
    queue: QueueName,
    tenant: &'a TenantId,
}

impl Drop for RunningBatch<'_> {
    fn drop(&mut self) {
        {
            let mut lanes = self.presence.lanes();
            let lane = lanes.of(self.queue);
            lane.running = lane.running.saturating_sub(1);
            lane.done += 1;
            if let Some(count) = lane.by_tenant.get_mut(self.tenant) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    lane.by_tenant.remove(self.tenant);
                }
            }
        }
        self.presence.nudge.soon();
    }
}

impl Part for Presence {
    fn tell(&self, report: &mut Report) {
        let takes = self.takes.load(Ordering::Acquire);
        let member = &mut report.member;
        {
            let lanes = self.lanes();
            member.background = lanes.background.permits(takes);
            member.interactive = lanes.interactive.permits(takes);
            member.batches_done = lanes.background.done;
            member.running.clone_from(&lanes.background.by_tenant);
            member
                .running_interactive
                .clone_from(&lanes.interactive.by_tenant);
        }
        member.users_in_flight = u32::try_from(self.metrics.users_running.get()).unwrap_or(u32::MAX);
        if self.fleet.is_shared() {
            self.circuits.tell(report, Instant::now());
        }
    }

    fn learn(&self, report: &Report, answer: &Answer) {
        if self.fleet.is_shared() {
            self.circuits.learn(report, answer, Instant::now());
        }
    }

    fn unanswered(&self, report: &Report) {
        self.circuits.unanswered(report);
    }

    fn apart(&self, _workers: u32) {}

    fn end(&self) {}
}
