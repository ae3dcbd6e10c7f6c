//! Dispatch: users are chosen, claimed and sent; the queue is kept short, because a job chosen late is chosen right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{TenantId, UserId};
use tasksync_common::queue::{Depth, JobQueue, QueueName, Reason, SyncJob, VERSION, Workload};
use tasksync_common::registry::Registry;
use tasksync_common::schedule::select::{Batch, Limits, select};
use tasksync_common::schedule::{ClaimAnswer, Claimed, Epoch, Schedule, Token};
use tasksync_common::trace::TraceContext;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::{NoContext, Uuid};

use crate::continuity::Continuity;
use crate::limits::DispatchLimits;
use crate::metrics::DispatchMetrics;

/// The queue must take responsibility for a job within this time.
const PUBLISH: Duration = Duration::from_secs(10);

/// Giving back the users of a job that was not taken may take this long; then their claim runs out by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Users taken back per call, and calls per run, when claims ran out.
const RECLAIM_GROUP: usize = 1_000;
const RECLAIM_ROUNDS: usize = 100;

/// Chooses, claims and sends.
pub(crate) struct Dispatcher {
    pub(crate) schedule: Arc<dyn Schedule>,
    pub(crate) queue: Arc<dyn JobQueue>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) clock: SharedClock,
    pub(crate) limits: DispatchLimits,
    pub(crate) metrics: Arc<DispatchMetrics>,
    pub(crate) continuity: Continuity,
}

/// What became of users that were to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many are claimed and in a job the queue took.
    Published(usize),
    /// All were gone or claimed already.
    Nobody,
    /// A newer leader exists; nothing was claimed.
    StaleEpoch,
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

/// Whether tenants are synced; asked once per run.
pub(crate) type KnownTenants = HashMap<TenantId, bool>;

/// How many jobs the queue can take now: as many as workers would take at once, less those that wait already. A classic
/// timer job (`top_up` off) makes a whole run's work at once, because nobody looks again before the next run.
pub(crate) fn room(depth: Depth, limits: &DispatchLimits) -> usize {
    let wanted = usize::try_from(depth.wanted).unwrap_or(usize::MAX);
    let ready = usize::try_from(depth.ready).unwrap_or(usize::MAX);
    let target = if limits.top_up_interval.is_zero() {
        wanted.max(limits.tenants_per_run)
    } else {
        wanted
    };
    target.saturating_sub(ready)
}

impl Dispatcher {
    /// Claims these users and sends them in one job. When the queue does not take it, the users go back at once.
    pub(crate) async fn send(
        &self,
        epoch: Epoch,
        queue: QueueName,
        reason: Reason,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Sent, Failure> {
        let answer = self
            .schedule
            .claim(epoch, tenant, users, self.limits.claim_lifetime)
            .await?;
        let (token, users) = match answer {
            ClaimAnswer::StaleEpoch => {
                self.metrics.stale_epochs.add(1);
                return Ok(Sent::StaleEpoch);
            }
            ClaimAnswer::Claimed { token, users } => (token, users),
        };
        if users.is_empty() {
            return Ok(Sent::Nobody);
        }
        let users: Vec<UserId> = users.into_iter().map(|Claimed { user, .. }| user).collect();
        let count = users.len();
        let job = self.job(tenant, reason, token, users);
        let published = timeout(PUBLISH, self.queue.publish(queue, &job, &TraceContext::default()))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorClass::OutcomeUnknown,
                    Code::QueueUnavailable,
                    format!("the queue did not confirm a job within {} s", PUBLISH.as_secs()),
                ))
            });
        match published {
            Ok(()) => {
                self.metrics.jobs_published.add(1);
                self.metrics.users_dispatched.add_len(count);
                Ok(Sent::Published(count))
            }
            Err(failure) => {
                self.metrics.publish_failures.add(1);
                // Should the job have arrived after all, its worker finds no claim and does nothing.
                let release = self.schedule.release(tenant, token, &job.users);
                if !matches!(timeout(RELEASE, release).await, Ok(Ok(_))) {
                    tracing::warn!(%tenant, users = job.users.len(), "users of a job that was not sent stay claimed until the claim runs out");
                }
                Err(failure.within(format!("job for {count} users of {tenant}")))
            }
        }
    }

    fn job(&self, tenant: &TenantId, reason: Reason, token: Token, users: Vec<UserId>) -> SyncJob {
        let now = self.clock.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        SyncJob {
            version: VERSION,
            id: Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)),
            tenant: tenant.clone(),
            workload: Workload::Tasks,
            reason,
            token,
            users,
            issued_at: now,
        }
    }

    /// Looks how many jobs the workers want, and sends those who waited longest. Stops between two jobs when `lost` is
    /// cancelled.
    pub(crate) async fn fill(
        &self,
        epoch: Epoch,
        known: &mut KnownTenants,
        lost: &CancellationToken,
    ) -> Result<Filled, Failure> {
        let room = room(self.queue.depth(QueueName::Background).await?, &self.limits);
        if room == 0 {
            return Ok(Filled::Users(0));
        }
        let now = self.schedule.now().await?;
        let chosen = select(self.schedule.as_ref(), self.selection(room), now).await?;
        if chosen.batches.is_empty() {
            return Ok(Filled::Nobody);
        }
        let mut sent = 0;
        for Batch { tenant, users, .. } in chosen.batches {
            if lost.is_cancelled() {
                break;
            }
            if !self.is_synced(&tenant, known).await? {
                continue;
            }
            match self
                .send(epoch, QueueName::Background, Reason::Scheduled, &tenant, &users)
                .await?
            {
                Sent::Published(users) => sent += users,
                Sent::Nobody => {}
                Sent::StaleEpoch => return Ok(Filled::StaleEpoch),
            }
        }
        Ok(Filled::Users(sent))
    }

    /// What bounds one look: as many users as fit into the jobs the queue has room for.
    fn selection(&self, room: usize) -> Limits {
        let limits = &self.limits;
        Limits {
            minimum: limits.minimum_time_between_user_syncs,
            tenants: limits.tenants_per_run,
            users_per_batch: limits.users_per_batch,
            users: room.saturating_mul(limits.users_per_batch),
            tenant_in_flight: limits.tenant_in_flight,
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
