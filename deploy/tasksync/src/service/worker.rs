//! The worker's part of a process: takes jobs, syncs users and saves their stamps.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::error::Code;
use tasksync_common::fleet::Nudge;
use tasksync_common::schedule::StampSaver;
use tasksync_scheduler::Stores;
use tasksync_worker::work::{UserSync, WorkLimits, WorkMetrics, Worker};

use super::RoleProcess;

/// Time between two saves of stamps. After a crash, users finished since the last save are synced once too early.
pub(super) const STAMP_INTERVAL: Duration = Duration::from_secs(10);
/// Number of stamps that triggers an early save, and most stamps that wait for one.
const STAMP_BATCH: usize = 1_000;
const STAMPS_WAITING: usize = 100_000;

/// Creates the worker. The caller saves its stamps, also for a while after it has ended.
pub(super) fn prepare<S: UserSync>(
    process: &RoleProcess,
    stores: &Stores,
    sync: Arc<S>,
    nudge: &Arc<Nudge>,
) -> Worker<S> {
    let limits = WorkLimits::of(&process.settings);
    let metrics: Arc<WorkMetrics> = Arc::default();
    let stamps = Arc::new(StampSaver::new(
        Arc::clone(&stores.registry),
        STAMP_BATCH,
        STAMPS_WAITING,
    ));
    stamps.register(&process.metrics);
    metrics.register(&process.metrics);
    let worker = Worker::new(stores.clone(), stamps, sync, limits, metrics, Arc::clone(nudge));
    let consumers = &worker.consumers;
    for pulse in consumers.pulses() {
        process.health.watch(pulse);
    }
    let asked = Arc::clone(consumers);
    process
        .health
        .add_probe("consumer", Code::QueueUnavailable, move || {
            std::future::ready(asked.check_open())
        });
    worker
}
