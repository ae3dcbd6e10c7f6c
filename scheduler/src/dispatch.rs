//! Dispatch: chooses users, claims them and sends jobs. The queue is kept short, because the later a job is chosen,
//! the better the choice.

mod send;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::clock::SharedClock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::fleet::Fleet;
use tasksync_common::model::TenantId;
use tasksync_common::queue::{JobQueue, QueueDepth, QueueName, Reason};
use tasksync_common::registry::Registry;
use tasksync_common::schedule::fair;
use tasksync_common::schedule::select::{BatchLimit, SelectedBatch, SelectionEnd, SelectionLimits, select};
use tasksync_common::schedule::{Epoch, Schedule};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::continuity::Continuity;
use crate::limits::DispatchLimits;
use crate::load::{DispatchMemory, Load};
use crate::metrics::DispatchMetrics;

pub(crate) use send::SendResult;

/// Timeout for releasing the users of a job that was not sent. If it passes, their claim expires by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Most jobs being sent to the queue at once.
const SENT_AT_ONCE: usize = 32;

/// Expired claims: users taken back per call, and calls per run.
const RECLAIM_GROUP: usize = 1_000;
const RECLAIM_ROUNDS: usize = 100;

/// Chooses users, claims them and sends jobs.
pub(crate) struct Dispatcher {
    pub(crate) schedule: Arc<dyn Schedule>,
    pub(crate) queue: Arc<dyn JobQueue>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) memory: Mutex<DispatchMemory>,
    pub(crate) clock: SharedClock,
    pub(crate) limits: DispatchLimits,
    pub(crate) metrics: Arc<DispatchMetrics>,
    pub(crate) continuity: Continuity,
}

/// Result of one dispatch round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FillResult {
    /// This many users were sent.
    Users(usize),
    /// No user is due.
    NoUserDue,
    /// A newer leader exists.
    StaleEpoch,
}

impl FillResult {
    /// Combines the results of two rounds.
    fn combined_with(self, next: Self) -> Self {
        match (self, next) {
            (Self::Users(one), Self::Users(other)) => Self::Users(one + other),
            (Self::Users(users), Self::NoUserDue) | (Self::NoUserDue, Self::Users(users)) => {
                Self::Users(users)
            }
            (Self::NoUserDue, Self::NoUserDue) => Self::NoUserDue,
            (Self::StaleEpoch, _) | (_, Self::StaleEpoch) => Self::StaleEpoch,
        }
    }
}

/// Result of one round of selecting and sending.
struct RoundResult {
    filled: FillResult,
    jobs: usize,
    end: SelectionEnd,
}

/// Whether each tenant is synced, looked up once per run.
pub(crate) type SyncedTenants = HashMap<TenantId, bool>;

/// Returns how many jobs the queue can take now: the jobs that workers would start at once, plus those they will have
/// finished by the leader's next look (`ahead`), minus those already waiting. So a fast worker never waits for the
/// next look, and a job waits at most from one look to the next. With `top_up_interval` zero (a classic timer job), a
/// run makes all of its work at once, because the next look is the next run.
pub(crate) fn jobs_wanted(depth: QueueDepth, ahead: usize, limits: &DispatchLimits) -> usize {
    let wanted = usize::try_from(depth.wanted).unwrap_or(usize::MAX);
    let ready = usize::try_from(depth.ready).unwrap_or(usize::MAX);
    let target = if limits.top_up_interval.is_zero() {
        wanted.max(limits.tenants_per_run)
    } else {
        wanted.saturating_add(ahead)
    };
    target.saturating_sub(ready)
}

/// Returns how long a user with this stamp has been due.
fn time_overdue(stamp: Timestamp, now: Timestamp, minimum: Duration) -> Duration {
    Duration::try_from(now.duration_since(stamp))
        .unwrap_or_default()
        .saturating_sub(minimum)
}

impl Dispatcher {
    /// Fills the queue with as many jobs as the workers want, for the users who have waited longest. Stops between
    /// two jobs when `lost` is cancelled.
    pub(crate) async fn fill(
        &self,
        epoch: Epoch,
        synced_tenants: &mut SyncedTenants,
        lost: &CancellationToken,
    ) -> Result<FillResult, Failure> {
        let load = self.load().await?;
        let depth = load
            .depth(self.queue.as_ref(), self.fleet.as_ref(), QueueName::Background)
            .await?;
        let (in_flight, ahead) = {
            let waiting = usize::try_from(depth.ready).unwrap_or(usize::MAX);
            let mut memory = self.lock_memory();
            let in_flight = memory.observe_load(&load, waiting, monotonic());
            (
                in_flight,
                memory.expected_completions(self.limits.top_up_interval),
            )
        };
        let free_jobs = jobs_wanted(depth, ahead, &self.limits);
        if free_jobs == 0 {
            return Ok(FillResult::Users(0));
        }
        let (first, fair) = self
            .rounds(epoch, free_jobs, &load, in_flight, synced_tenants, lost)
            .await?;
        let spare = match first.filled {
            FillResult::Users(_) | FillResult::NoUserDue
                if fair && first.end == SelectionEnd::NoOtherUserDue && !lost.is_cancelled() =>
            {
                self.count_spare_jobs(free_jobs.saturating_sub(first.jobs), &load)
                    .await?
            }
            FillResult::Users(_) | FillResult::NoUserDue | FillResult::StaleEpoch => 0,
        };
        if spare == 0 {
            return Ok(first.filled);
        }
        let second = self.selection(spare, BatchLimit::default());
        let second = self.round(epoch, second, spare, synced_tenants, lost).await?;
        Ok(first.filled.combined_with(second.filled))
    }

    /// Selects and sends until the room is used or no other user is due. Also returns whether any tenant was limited.
    /// One selection takes users of at most `tenants_per_run` tenants. Where many tenants have one due user each,
    /// another selection follows at once, so that workers need not wait for the next look. A classic timer job
    /// selects once.
    async fn rounds(
        &self,
        epoch: Epoch,
        free_jobs: usize,
        load: &Load,
        mut in_flight: fair::BatchesInFlight,
        synced_tenants: &mut SyncedTenants,
        lost: &CancellationToken,
    ) -> Result<(RoundResult, bool), Failure> {
        let mut all = RoundResult {
            filled: FillResult::NoUserDue,
            jobs: 0,
            end: SelectionEnd::NoOtherUserDue,
        };
        loop {
            let batches = self.batch_limit(load, &in_flight);
            let fair = !batches.in_flight.is_empty();
            let limits = self.selection(free_jobs - all.jobs, batches);
            let round = self
                .round(epoch, limits, usize::MAX, synced_tenants, lost)
                .await?;
            all = RoundResult {
                filled: all.filled.combined_with(round.filled),
                jobs: all.jobs + round.jobs,
                end: round.end,
            };
            let more = round.end == SelectionEnd::Tenants
                && round.jobs > 0
                && round.filled != FillResult::StaleEpoch
                && all.jobs < free_jobs
                && !self.limits.top_up_interval.is_zero()
                && !lost.is_cancelled();
            if !more {
                return Ok((all, fair));
            }
            in_flight = self.lock_memory().in_flight(load, monotonic());
        }
    }

    fn lock_memory(&self) -> MutexGuard<'_, DispatchMemory> {
        // The value is consistent after every change, so a poisoned lock is safe to use.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the workers are doing now.
    pub(crate) async fn load(&self) -> Result<Load, Failure> {
        Load::read(self.fleet.as_ref()).await
    }

    /// Returns true if another interactive job may be sent for this tenant, so that other tenants' jobs find a
    /// worker. Also true if the workers' load cannot be read.
    pub(crate) async fn may_send_interactive(&self, tenant: &TenantId) -> bool {
        match timeout(RELEASE, self.load()).await {
            Ok(Ok(load)) => {
                let cap = load.interactive_cap();
                cap == 0 || self.lock_memory().interactive(&load, tenant, monotonic()) < cap
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Returns which tenants are limited while others wait, and to how many batches.
    fn batch_limit(&self, load: &Load, in_flight: &fair::BatchesInFlight) -> BatchLimit {
        let percent = self.limits.tenant_share_percent;
        fair::limit(
            load.background.permits,
            percent,
            &self.lock_memory().usage,
            in_flight,
        )
    }

    /// Returns how much of the remaining room may go to tenants at their cap.
    async fn count_spare_jobs(&self, free_jobs: usize, load: &Load) -> Result<usize, Failure> {
        if free_jobs == 0 {
            return Ok(0);
        }
        let heads = self.schedule.heads(fair::HEADS).await?;
        let now = self.schedule.now().await?;
        let mut memory = self.lock_memory();
        let in_flight = memory.in_flight(load, monotonic());
        Ok(fair::spare_jobs(
            free_jobs,
            &heads,
            &in_flight,
            &memory.usage,
            now,
            self.limits.minimum_time_between_user_syncs,
            self.limits.batch_budget,
        ))
    }

    /// Selects and sends at most `most` jobs.
    async fn round(
        &self,
        epoch: Epoch,
        limits: SelectionLimits,
        most: usize,
        synced_tenants: &mut SyncedTenants,
        lost: &CancellationToken,
    ) -> Result<RoundResult, Failure> {
        let now = self.schedule.now().await?;
        let chosen = select(self.schedule.as_ref(), limits, now).await?;
        let mut round = RoundResult {
            filled: FillResult::NoUserDue,
            jobs: 0,
            end: chosen.end,
        };
        if chosen.batches.is_empty() {
            return Ok(round);
        }
        let mut batches = Vec::new();
        let mut failed = None;
        for batch in chosen.batches.into_iter().take(most) {
            match self.is_synced(&batch.tenant, synced_tenants).await {
                Ok(true) => batches.push(batch),
                Ok(false) => {}
                // The batches before it are sent all the same.
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        let mut sent = 0;
        for outcome in self.send_all(epoch, batches, lost).await {
            match outcome {
                Ok(SendResult::Published(users)) => {
                    sent += users;
                    round.jobs += 1;
                }
                Ok(SendResult::NoneClaimed) => {}
                Ok(SendResult::StaleEpoch) => {
                    round.filled = FillResult::StaleEpoch;
                    return Ok(round);
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        round.filled = FillResult::Users(sent);
        Ok(round)
    }

    /// Sends jobs in order, several at a time: the queue confirms many jobs in little more time than one. After a
    /// failure, or when the leadership is lost, it starts no further sends. It awaits those already started, so that
    /// no claim is left without a job.
    async fn send_all(
        &self,
        epoch: Epoch,
        batches: Vec<SelectedBatch>,
        lost: &CancellationToken,
    ) -> Vec<Result<SendResult, Failure>> {
        let over = lost.child_token();
        futures::stream::iter(batches)
            .map(|batch| self.send_unless(epoch, batch, &over))
            .buffered(SENT_AT_ONCE)
            .collect()
            .await
    }

    /// Sends a job unless `over` is cancelled. Cancels it if this job cannot be sent.
    async fn send_unless(
        &self,
        epoch: Epoch,
        SelectedBatch { tenant, users, .. }: SelectedBatch,
        over: &CancellationToken,
    ) -> Result<SendResult, Failure> {
        if over.is_cancelled() {
            return Ok(SendResult::NoneClaimed);
        }
        let sent = self
            .send(epoch, QueueName::Background, Reason::Scheduled, &tenant, &users)
            .await;
        if matches!(sent, Ok(SendResult::StaleEpoch) | Err(_)) {
            over.cancel();
        }
        sent
    }

    /// Returns the limits of one selection: at most as many users as fit into the jobs the queue has room for.
    fn selection(&self, jobs: usize, batches: BatchLimit) -> SelectionLimits {
        let limits = &self.limits;
        SelectionLimits {
            minimum: limits.minimum_time_between_user_syncs,
            tenants: limits.tenants_per_run,
            users_per_batch: limits.users_per_batch,
            users: jobs.saturating_mul(limits.users_per_batch),
            tenant_in_flight: limits.tenant_in_flight,
            batches,
        }
    }

    /// Returns whether the tenant is synced. Withdraws a disabled or removed tenant from the schedule, so that it
    /// does not take the place of others.
    async fn is_synced(
        &self,
        tenant: &TenantId,
        synced_tenants: &mut SyncedTenants,
    ) -> Result<bool, Failure> {
        if let Some(&synced) = synced_tenants.get(tenant) {
            return Ok(synced);
        }
        let synced = self
            .registry
            .tenant(tenant)
            .await?
            .is_some_and(|tenant| tenant.enabled);
        if !synced {
            self.withdraw(tenant).await?;
        }
        synced_tenants.insert(tenant.clone(), synced);
        Ok(synced)
    }

    /// Withdraws a tenant from the schedule.
    pub(crate) async fn withdraw(&self, tenant: &TenantId) -> Result<(), Failure> {
        let users = self.schedule.withdraw_tenant(tenant).await?;
        if users > 0 {
            self.metrics.users_withdrawn.add(users);
            tracing::info!(%tenant, users, "the tenant is disabled or removed; its users are no longer synced");
        }
        Ok(())
    }

    /// Takes back users whose claims have expired.
    pub(crate) async fn reclaim(&self) -> Result<(), Failure> {
        for _ in 0..RECLAIM_ROUNDS {
            let users = self.schedule.reclaim(RECLAIM_GROUP).await?;
            if !users.is_empty() {
                self.metrics.users_reclaimed.add_len(users.len());
                tracing::warn!(users = users.len(), "claims expired; their users are due again");
            }
            if users.len() < RECLAIM_GROUP {
                break;
            }
        }
        Ok(())
    }
}
