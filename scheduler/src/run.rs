//! The scheduler's life cycle: election, leading, stopping.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::fleet::{FleetAnswer, FleetParticipant, FleetReport};
use tasksync_common::health::Pulse;
use tasksync_common::metrics::Metrics;
use tasksync_common::metrics::record::{self, Dispatch};
use tasksync_common::schedule::Epoch;
use tasksync_common::stores::Stores;
use tasksync_common::telemetry::spans;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::compare::{COMPARE_INTERVAL, Comparison, ComparisonOutcome};
use crate::continuity::Continuity;
use crate::dispatch::{Dispatcher, FillResult, SyncedTenants};
use crate::housekeeping::PRUNE_INTERVAL;
use crate::leader::LeaderCandidate;
use crate::limits::DispatchLimits;
use crate::metrics::DispatchMetrics;
use crate::observer::InstallationObserver;
use crate::requests::Requests;

/// First and longest pause before a retry, after a store or the queue did not answer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The election's loop counts as stuck after this many lease lifetimes. Each of its steps is shorter than one.
const LEASES_SILENT: u32 = 5;
/// The dispatch loop counts as stuck after this time, or after this many run intervals if that is longer. One run may
/// publish many jobs to a slow queue.
const DISPATCH_SILENT: Duration = Duration::from_mins(15);
const RUNS_SILENT: u32 = 10;

/// Reports to the fleet whether this process leads.
struct LeadershipReporter(watch::Receiver<Option<Epoch>>);

impl FleetParticipant for LeadershipReporter {
    fn add_to_report(&self, report: &mut FleetReport) {
        report.member.leads = self.0.borrow().is_some();
    }

    fn apply_answer(&self, _report: &FleetReport, _answer: &FleetAnswer) {}

    fn on_no_answer(&self, _report: &FleetReport) {}

    fn on_store_lost(&self, _workers: u32) {}

    fn end(&self) {}
}

/// The scheduler of one process.
pub struct Scheduler {
    dispatcher: Arc<Dispatcher>,
    observer: InstallationObserver,
    candidate: LeaderCandidate,
    requests: Arc<Requests>,
    /// Triggers a comparison of registry and schedule now.
    search: Notify,
    /// Heartbeat of the dispatch loop.
    pulse: Pulse,
}

impl Scheduler {
    /// Returns a scheduler that takes part in the election as `holder`, a name that no other process and no earlier
    /// start has.
    ///
    /// A schedule in memory must be rebuilt from the registry before [`Self::run`].
    #[must_use]
    pub fn new(
        stores: Stores,
        limits: DispatchLimits,
        holder: impl Into<String>,
        metrics: Arc<DispatchMetrics>,
    ) -> Self {
        let (leading, leading_receiver) = watch::channel(None);
        let dispatch_limit = (limits.run_interval * RUNS_SILENT).max(DISPATCH_SILENT);
        let candidate = LeaderCandidate {
            schedule: Arc::clone(&stores.schedule),
            holder: holder.into(),
            lifetime: limits.leader_lifetime,
            metrics: Arc::clone(&metrics),
            leading,
            pulse: Pulse::new("election", limits.leader_lifetime * LEASES_SILENT),
        };
        let observer = InstallationObserver::new(stores.clone());
        let continuity = Continuity::new(limits.claim_lifetime);
        let dispatcher = Arc::new(Dispatcher {
            continuity,
            schedule: stores.schedule,
            queue: stores.queue,
            registry: stores.registry,
            fleet: stores.fleet,
            memory: Mutex::default(),
            clock: stores.clock,
            limits,
            metrics,
        });
        let requests = Arc::new(Requests::new(Arc::clone(&dispatcher), leading_receiver));
        Self {
            dispatcher,
            observer,
            candidate,
            requests,
            search: Notify::new(),
            pulse: Pulse::new("dispatch", dispatch_limit),
        }
    }

    /// The heartbeats of the two loops.
    #[must_use]
    pub fn pulses(&self) -> [Pulse; 2] {
        [self.candidate.pulse.clone(), self.pulse.clone()]
    }

    /// Returns what takes "sync now" in this process. It works while the stores do, whether this process leads or
    /// not.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Registers this scheduler's metrics with the process's.
    pub fn register(&self, metrics: &Metrics) {
        self.dispatcher.metrics.register(metrics);
        self.observer.register(metrics);
    }

    /// Returns a receiver of the epoch under which this process leads, if it does.
    #[must_use]
    pub fn leading_epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.candidate.leading.subscribe()
    }

    /// Returns the scheduler's part of the process's heartbeat, which reports whether this process leads.
    #[must_use]
    pub fn heartbeat_part(&self) -> Arc<dyn FleetParticipant> {
        Arc::new(LeadershipReporter(self.leading_epoch()))
    }

    /// Runs until `stop` is cancelled. Returns when the last job is sent and the leadership is given up.
    ///
    /// Never fails: a store that cannot be reached is retried with growing pauses.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(self.candidate.run(&stop), self.lead_when_elected(&stop));
        self.candidate.resign().await;
    }

    async fn lead_when_elected(&self, stop: &CancellationToken) {
        let mut leading = self.leading_epoch();
        loop {
            let elected = stop.run_until_cancelled(leading.wait_for(Option::is_some));
            let epoch = match elected.await {
                Some(Ok(epoch)) => *epoch,
                // The sender lives in `self`, so it is never gone while this runs.
                Some(Err(_)) | None => return,
            };
            let Some(epoch) = epoch else { continue };
            let lost = stop.child_token();
            let watch = async {
                let changed = leading.wait_for(|now| *now != Some(epoch));
                let _ = stop.run_until_cancelled(changed).await;
                lost.cancel();
            };
            tokio::join!(watch, self.lead(epoch, &lost));
        }
    }

    /// Leads under one epoch until `lost` is cancelled.
    async fn lead(&self, epoch: Epoch, lost: &CancellationToken) {
        let housekeeping = async {
            tokio::join!(
                self.search_loop(),
                self.compare_loop(),
                self.prune_loop(),
                self.observer.observe_loop()
            );
        };
        tokio::join!(
            async {
                self.dispatch_loop(epoch, lost).await;
                self.pulse.mark_ended();
            },
            // Safe to drop at any await point: each change is complete in itself, and the next leader does the rest.
            lost.run_until_cancelled(housekeeping),
        );
    }

    async fn dispatch_loop(&self, epoch: Epoch, lost: &CancellationToken) {
        let limits = &self.dispatcher.limits;
        let metrics = &self.dispatcher.metrics;
        let mut next_run = monotonic();
        let mut synced_tenants = SyncedTenants::new();
        let mut failures = 0_u32;
        while !lost.is_cancelled() {
            self.pulse.beat();
            let began = monotonic();
            let result = if began >= next_run {
                next_run = began + limits.run_interval;
                synced_tenants.clear();
                metrics.runs.add(1);
                let run = self.run_once(epoch, &mut synced_tenants, lost);
                traced_tick(Dispatch::Run, epoch, run).await
            } else if !self.dispatcher.continuity.may_dispatch(epoch) {
                Ok(FillResult::Users(0))
            } else {
                metrics.top_ups.add(1);
                let fill = self.dispatcher.fill(epoch, &mut synced_tenants, lost);
                traced_tick(Dispatch::TopUp, epoch, fill).await
            };
            let next = match result {
                Ok(FillResult::StaleEpoch) => {
                    tracing::warn!(
                        epoch = epoch.0,
                        "a newer leader exists; this process sends no more jobs"
                    );
                    self.pulse.mark_ended();
                    lost.cancelled().await;
                    return;
                }
                Ok(FillResult::Users(_) | FillResult::NoUserDue) => {
                    if failures > 0 {
                        tracing::info!("dispatch works again");
                    }
                    failures = 0;
                    if limits.top_up_interval.is_zero() {
                        next_run
                    } else {
                        next_run.min(began + limits.top_up_interval)
                    }
                }
                Err(failure) => {
                    metrics.runs_failed.add(1);
                    if failures == 0 {
                        tracing::warn!(%failure, "dispatch fails, retrying");
                    }
                    let pause = FIRST_PAUSE
                        .saturating_mul(1_u32 << failures.min(8))
                        .min(LONGEST_PAUSE);
                    failures = failures.saturating_add(1);
                    // Starts with a full run: the failed store may have lost data.
                    next_run = monotonic();
                    monotonic() + pause
                }
            };
            // At least 10 ms between two looks, whatever the intervals are.
            let next = next.max(monotonic() + Duration::from_millis(10));
            if lost.run_until_cancelled(sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    async fn run_once(
        &self,
        epoch: Epoch,
        synced_tenants: &mut SyncedTenants,
        lost: &CancellationToken,
    ) -> Result<FillResult, Failure> {
        let Dispatcher {
            continuity,
            schedule,
            registry,
            ..
        } = &*self.dispatcher;
        if continuity
            .check(epoch, schedule.as_ref(), registry.as_ref())
            .await?
        {
            self.search.notify_one();
        }
        self.dispatcher.reclaim().await?;
        if continuity.is_dispatch_paused() {
            return Ok(FillResult::Users(0));
        }
        let filled = self.dispatcher.fill(epoch, synced_tenants, lost).await?;
        if filled == FillResult::NoUserDue && self.schedule_is_lost().await? {
            self.search.notify_one();
        }
        Ok(filled)
    }

    /// Returns whether the schedule is empty although users are opted in. The schedule is read before and after the
    /// registry: the second read finds a user whose opt-in was completed in between, so that this does not count as a
    /// loss.
    async fn schedule_is_lost(&self) -> Result<bool, Failure> {
        if !self.dispatcher.schedule.is_empty().await? {
            return Ok(false);
        }
        let active = self.dispatcher.registry.active_tenants(None, 1).await?;
        if active.is_empty() {
            return Ok(false);
        }
        self.dispatcher.schedule.is_empty().await
    }

    /// Compares registry and schedule when leading begins, at every interval, and when the schedule was found empty.
    async fn search_loop(&self) {
        let mut failures = 0_u32;
        loop {
            let next = match self.search_once().await {
                Ok(()) => {
                    failures = 0;
                    self.dispatcher.limits.tenant_search_interval
                }
                Err(failure) => {
                    if failures == 0 {
                        tracing::warn!(%failure, "the registry could not be compared with the schedule, retrying");
                    }
                    let pause = FIRST_PAUSE
                        .saturating_mul(1_u32 << failures.min(8))
                        .min(LONGEST_PAUSE);
                    failures = failures.saturating_add(1);
                    pause
                }
            };
            tokio::select! {
                () = sleep(next) => {}
                () = self.search.notified() => {}
            }
        }
    }

    async fn search_once(&self) -> Result<(), Failure> {
        // A schedule with this process's mark lost nothing: users were opted in just now and are not in it yet.
        if !self.dispatcher.continuity.bears_own_mark() && self.schedule_is_lost().await? {
            // Workers may still run under claims of the lost schedule, so no user is sent before those have expired.
            self.dispatcher.continuity.pause_dispatch();
            tracing::warn!(
                pause_s = self.dispatcher.limits.claim_lifetime.as_secs(),
                "the schedule was lost and is rebuilt from the registry"
            );
        }
        self.dispatcher.search().await.map(drop)
    }

    /// Compares the schedule with itself continuously, a part of the tenants at each look.
    async fn compare_loop(&self) {
        let mut comparison = Comparison::default();
        let mut failing = false;
        loop {
            match self.dispatcher.compare(&mut comparison).await {
                Ok(found) => {
                    failing = false;
                    if found == ComparisonOutcome::Lost {
                        self.search.notify_one();
                    }
                }
                Err(failure) => {
                    if !failing {
                        tracing::warn!(%failure, "the schedule could not be compared with the registry, retrying");
                    }
                    failing = true;
                }
            }
            sleep(COMPARE_INTERVAL).await;
        }
    }

    async fn prune_loop(&self) {
        loop {
            if let Err(failure) = self.dispatcher.prune().await {
                tracing::warn!(%failure, "old journal entries could not be deleted, retrying later");
            }
            sleep(PRUNE_INTERVAL).await;
        }
    }
}

/// Runs one look of the leader as the root of a trace, and records its duration.
async fn traced_tick(
    kind: Dispatch,
    epoch: Epoch,
    fill: impl Future<Output = Result<FillResult, Failure>>,
) -> Result<FillResult, Failure> {
    let span = tracing::info_span!(
        target: spans::TARGET,
        parent: None,
        "tick",
        otel.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
        tasksync.kind = kind.name(),
        tasksync.epoch = spans::number(epoch.0),
        tasksync.users = tracing::field::Empty,
    );
    let began = monotonic();
    let result = fill.instrument(span.clone()).await;
    record::dispatch(kind, began.elapsed());
    match &result {
        Ok(FillResult::Users(users)) => {
            span.record("tasksync.users", spans::number(*users));
        }
        Ok(FillResult::NoUserDue) => {
            span.record("tasksync.users", 0_i64);
        }
        Ok(FillResult::StaleEpoch) => spans::mark_failed(&span, "stale_epoch"),
        Err(failure) => spans::mark_failed(&span, failure.code.as_str()),
    }
    result
}
