//! Dispatch: chooses users, claims them and sends jobs. The queue is kept short, because the later a job is chosen,
//! the better the choice.

mod send;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::fleet::Fleet;
use tasksync_common::model::TenantId;
use tasksync_common::queue::{Depth, JobQueue, QueueName, Reason};
use tasksync_common::registry::Registry;
use tasksync_common::schedule::fair;
use tasksync_common::schedule::select::{Batch, BatchLimit, End, Limits, select};
use tasksync_common::schedule::{Epoch, Schedule};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::continuity::Continuity;
use crate::limits::DispatchLimits;
use crate::load::{Load, Memory};
use crate::metrics::DispatchMetrics;

pub(crate) use send::Sent;

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
    pub(crate) memory: Mutex<Memory>,
    pub(crate) clock: SharedClock,
    pub(crate) limits: DispatchLimits,
    pub(crate) metrics: Arc<DispatchMetrics>,
    pub(crate) continuity: Continuity,
}

/// Result of one look at the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// This many users were sent.
    Users(usize),
    /// No user is due.
    Nobody,
    /// A newer leader exists.
    StaleEpoch,
}

impl Filled {
    /// Combines the results of two rounds.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Users(one), Self::Users(other)) => Self::Users(one + other),
            (Self::Users(users), Self::Nobody) | (Self::Nobody, Self::Users(users)) => Self::Users(users),
            (Self::Nobody, Self::Nobody) => Self::Nobody,
            (Self::StaleEpoch, _) | (_, Self::StaleEpoch) => Self::StaleEpoch,
        }
    }
}

/// Result of one round of selecting and sending.
struct Round {
    filled: Filled,
    jobs: usize,
    end: End,
}

/// Whether each tenant is synced, looked up once per run.
pub(crate) type KnownTenants = HashMap<TenantId, bool>;

/// Returns how many jobs the queue can take now: the jobs that workers would start at once, plus those they will have
/// finished by the leader's next look (`ahead`), minus those already waiting. So a fast worker never waits for the
/// next look, and a job waits at most from one look to the next. With `top_up_interval` zero (a classic timer job), a
/// run makes all of its work at once, because the next look is the next run.
pub(crate) fn room(depth: Depth, ahead: usize, limits: &DispatchLimits) -> usize {
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
fn waited(stamp: Timestamp, now: Timestamp, minimum: Duration) -> Duration {
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
        known: &mut KnownTenants,
        lost: &CancellationToken,
    ) -> Result<Filled, Failure> {
        let load = self.load().await?;
        let depth = load
            .depth(self.queue.as_ref(), self.fleet.as_ref(), QueueName::Background)
            .await?;
        let (in_flight, ahead) = {
            let waiting = usize::try_from(depth.ready).unwrap_or(usize::MAX);
            let mut memory = self.memory();
            let in_flight = memory.look(&load, waiting, Instant::now());
            (in_flight, memory.ended_within(self.limits.top_up_interval))
        };
        let room = room(depth, ahead, &self.limits);
        if room == 0 {
            return Ok(Filled::Users(0));
        }
        let (first, fair) = self.rounds(epoch, room, &load, in_flight, known, lost).await?;
        let spare = match first.filled {
            Filled::Users(_) | Filled::Nobody
                if fair && first.end == End::NobodyElseDue && !lost.is_cancelled() =>
            {
                self.spare(room.saturating_sub(first.jobs), &load).await?
            }
            Filled::Users(_) | Filled::Nobody | Filled::StaleEpoch => 0,
        };
        if spare == 0 {
            return Ok(first.filled);
        }
        let second = self.selection(spare, BatchLimit::default());
        let second = self.round(epoch, second, spare, known, lost).await?;
        Ok(first.filled.and(second.filled))
    }

    /// Selects and sends until the room is used or no other user is due. Also returns whether any tenant was limited.
    /// One selection takes users of at most `tenants_per_run` tenants. Where many tenants have one due user each,
    /// another selection follows at once, so that workers need not wait for the next look. A classic timer job
    /// selects once.
    async fn rounds(
        &self,
        epoch: Epoch,
        room: usize,
        load: &Load,
        mut in_flight: fair::Running,
        known: &mut KnownTenants,
        lost: &CancellationToken,
    ) -> Result<(Round, bool), Failure> {
        let mut all = Round {
            filled: Filled::Nobody,
            jobs: 0,
            end: End::NobodyElseDue,
        };
        loop {
            let batches = self.batch_limit(load, &in_flight);
            let fair = !batches.in_flight.is_empty();
            let limits = self.selection(room - all.jobs, batches);
            let round = self.round(epoch, limits, usize::MAX, known, lost).await?;
            all = Round {
                filled: all.filled.and(round.filled),
                jobs: all.jobs + round.jobs,
                end: round.end,
            };
            let more = round.end == End::Tenants
                && round.jobs > 0
                && round.filled != Filled::StaleEpoch
                && all.jobs < room
                && !self.limits.top_up_interval.is_zero()
                && !lost.is_cancelled();
            if !more {
                return Ok((all, fair));
            }
            in_flight = self.memory().in_flight(load, Instant::now());
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
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
                cap == 0 || self.memory().interactive(&load, tenant, Instant::now()) < cap
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Returns which tenants are limited while others wait, and to how many batches.
    fn batch_limit(&self, load: &Load, in_flight: &fair::Running) -> BatchLimit {
        let percent = self.limits.tenant_share_percent;
        fair::limit(load.background.permits, percent, &self.memory().usage, in_flight)
    }

    /// Returns how much of the remaining room may go to tenants at their cap.
    async fn spare(&self, room: usize, load: &Load) -> Result<usize, Failure> {
        if room == 0 {
            return Ok(0);
        }
        let heads = self.schedule.heads(fair::HEADS).await?;
        let now = self.schedule.now().await?;
        let mut memory = self.memory();
        let in_flight = memory.in_flight(load, Instant::now());
        Ok(fair::spare(
            room,
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
        limits: Limits,
        most: usize,
        known: &mut KnownTenants,
        lost: &CancellationToken,
    ) -> Result<Round, Failure> {
        let now = self.schedule.now().await?;
        let chosen = select(self.schedule.as_ref(), limits, now).await?;
        let mut round = Round {
            filled: Filled::Nobody,
            jobs: 0,
            end: chosen.end,
        };
        if chosen.batches.is_empty() {
            return Ok(round);
        }
        let mut batches = Vec::new();
        let mut failed = None;
        for batch in chosen.batches.into_iter().take(most) {
            match self.is_synced(&batch.tenant, known).await {
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
                Ok(Sent::Published(users)) => {
                    sent += users;
                    round.jobs += 1;
                }
                Ok(Sent::Nobody) => {}
                Ok(Sent::StaleEpoch) => {
                    round.filled = Filled::StaleEpoch;
                    return Ok(round);
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        round.filled = Filled::Users(sent);
        Ok(round)
    }

    /// Sends jobs in order, several at a time: the queue confirms many jobs in little more time than one. After a
    /// failure, or when the leadership is lost, it starts no further sends. It awaits those already started, so that
    /// no claim is left without a job.
    async fn send_all(
        &self,
        epoch: Epoch,
        batches: Vec<Batch>,
        lost: &CancellationToken,
    ) -> Vec<Result<Sent, Failure>> {
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
        Batch { tenant, users, .. }: Batch,
        over: &CancellationToken,
    ) -> Result<Sent, Failure> {
        if over.is_cancelled() {
            return Ok(Sent::Nobody);
        }
        let sent = self
            .send(epoch, QueueName::Background, Reason::Scheduled, &tenant, &users)
            .await;
        if matches!(sent, Ok(Sent::StaleEpoch) | Err(_)) {
            over.cancel();
        }
        sent
    }

    /// Returns the limits of one selection: at most as many users as fit into the jobs the queue has room for.
    fn selection(&self, room: usize, batches: BatchLimit) -> Limits {
        let limits = &self.limits;
        Limits {
            minimum: limits.minimum_time_between_user_syncs,
            tenants: limits.tenants_per_run,
            users_per_batch: limits.users_per_batch,
            users: room.saturating_mul(limits.users_per_batch),
            tenant_in_flight: limits.tenant_in_flight,
            batches,
        }
    }

    /// Returns whether the tenant is synced. Withdraws a disabled or removed tenant from the schedule, so that it
    /// does not take the place of others.
    async fn is_synced(&self, tenant: &TenantId, known: &mut KnownTenants) -> Result<bool, Failure> {
        if let Some(&synced) = known.get(tenant) {
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
        known.insert(tenant.clone(), synced);
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
