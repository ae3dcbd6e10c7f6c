//! Dispatch: users are chosen, claimed and sent; the queue is kept short, because a job chosen late is chosen right.

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

/// Giving back the users of a job that was not taken may take this long; then their claim runs out by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Jobs on their way to the queue at once.
const SENT_AT_ONCE: usize = 32;

/// Users taken back per call, and calls per run, when claims ran out.
const RECLAIM_GROUP: usize = 1_000;
const RECLAIM_ROUNDS: usize = 100;

/// Chooses, claims and sends.
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

/// How a look at the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many users were sent.
    Users(usize),
    /// Nobody is due.
    Nobody,
    /// A newer leader exists.
    StaleEpoch,
}

impl Filled {
    /// Both together.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Users(one), Self::Users(other)) => Self::Users(one + other),
            (Self::Users(users), Self::Nobody) | (Self::Nobody, Self::Users(users)) => Self::Users(users),
            (Self::Nobody, Self::Nobody) => Self::Nobody,
            (Self::StaleEpoch, _) | (_, Self::StaleEpoch) => Self::StaleEpoch,
        }
    }
}

/// One round of selecting and sending.
struct Round {
    filled: Filled,
    jobs: usize,
    end: End,
}

/// Whether tenants are synced; asked once per run.
pub(crate) type KnownTenants = HashMap<TenantId, bool>;

/// How many jobs the queue can take now: as many as workers would take at once and those they will have ended when the
/// leader looks again (`ahead`), less those that wait already. So no worker that is fast waits for the next look, and no job
/// waits for longer than from one look to the next. A classic timer job (`top_up` off) makes a whole run's work at once,
/// because nobody looks again before the next run.
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

/// How long a user with this stamp has been due.
fn waited(stamp: Timestamp, now: Timestamp, minimum: Duration) -> Duration {
    Duration::try_from(now.duration_since(stamp))
        .unwrap_or_default()
        .saturating_sub(minimum)
}

impl Dispatcher {
    /// Looks how many jobs the workers want, and sends those who waited longest. Stops between two jobs when `lost` is
    /// cancelled.
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

    /// Selects and sends until the room is used or nobody else is due, and says whether a tenant was limited in it. One
    /// selection takes users of so many tenants; where the users of many are due one by one, another follows at once, or
    /// workers would wait for the next look. A classic timer job selects once.
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
        // Whole after every change, so a panic elsewhere does not spoil it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the workers do now.
    pub(crate) async fn load(&self) -> Result<Load, Failure> {
        Load::read(self.fleet.as_ref()).await
    }

    /// Whether another job somebody waits for may be sent for this tenant, so that those of others find a worker. When
    /// nobody knows, it may.
    pub(crate) async fn may_send_interactive(&self, tenant: &TenantId) -> bool {
        match timeout(RELEASE, self.load()).await {
            Ok(Ok(load)) => {
                let cap = load.interactive_cap();
                cap == 0 || self.memory().interactive(&load, tenant, Instant::now()) < cap
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Which tenants may have only so many batches while others wait.
    fn batch_limit(&self, load: &Load, in_flight: &fair::Running) -> BatchLimit {
        let percent = self.limits.tenant_share_percent;
        fair::limit(load.background.permits, percent, &self.memory().usage, in_flight)
    }

    /// What of the room that is left may be given to tenants that have their part already.
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

    /// Selects and sends at most so many jobs.
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
                // Those before it are sent all the same.
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

    /// Sends jobs in order, several on their way at once: the queue confirms many together for little more than one. None
    /// follows when one was not sent or the leadership is lost, and every one that was begun is seen to its end, so that
    /// nobody stays claimed without a job.
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

    /// Sends a job unless it is over, which it is when this one cannot be sent.
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

    /// What bounds one look: as many users as fit into the jobs the queue has room for.
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

    /// Whether the tenant is synced. One that is disabled or gone is taken out of the order, so that it does not stand
    /// in the way of others.
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

    /// Takes a tenant out of the order.
    pub(crate) async fn withdraw(&self, tenant: &TenantId) -> Result<(), Failure> {
        let users = self.schedule.withdraw_tenant(tenant).await?;
        if users > 0 {
            self.metrics.users_withdrawn.add(users);
            tracing::info!(%tenant, users, "the tenant is disabled or gone and is not synced any more");
        }
        Ok(())
    }

    /// Gives back users whose claims ran out.
    pub(crate) async fn reclaim(&self) -> Result<(), Failure> {
        for _ in 0..RECLAIM_ROUNDS {
            let users = self.schedule.reclaim(RECLAIM_GROUP).await?;
            if !users.is_empty() {
                self.metrics.users_reclaimed.add_len(users.len());
                tracing::warn!(users = users.len(), "claims ran out, their users are due again");
            }
            if users.len() < RECLAIM_GROUP {
                break;
            }
        }
        Ok(())
    }
}
