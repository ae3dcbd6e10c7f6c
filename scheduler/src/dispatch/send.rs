//! Claims users and sends them in one job.

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record;
use tasksync_common::model::{TenantId, UserId};
use tasksync_common::queue::{QueueName, Reason, SyncJob, VERSION, Workload};
use tasksync_common::schedule::{ClaimAnswer, ClaimedUser, Epoch, Token};
use tasksync_common::telemetry::spans;
use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::{NoContext, Uuid};

use super::{Dispatcher, RELEASE, time_overdue};

/// Timeout for the queue to confirm a job.
const PUBLISH: Duration = Duration::from_secs(10);

/// Result of sending users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendResult {
    /// This many users are claimed and in a job that the queue took.
    Published(usize),
    /// All users were gone or already claimed.
    NoneClaimed,
    /// A newer leader exists; nothing was claimed.
    StaleEpoch,
}

/// Returns how long a user waited after becoming due. `None` for a user who was put ahead of others: the stamp then
/// says nothing about a wait.
fn time_waited(reason: Reason, stamp: Timestamp, now: Timestamp, minimum: Duration) -> Option<Duration> {
    match reason {
        Reason::Scheduled => Some(time_overdue(stamp, now, minimum)),
        Reason::Requested | Reason::Hint => None,
    }
}

impl Dispatcher {
    /// Claims these users and sends them in one job. Releases them at once if the queue does not take it.
    pub(crate) async fn send(
        &self,
        epoch: Epoch,
        queue: QueueName,
        reason: Reason,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<SendResult, Failure> {
        let answer = self
            .schedule
            .claim(epoch, tenant, users, self.limits.claim_lifetime)
            .await?;
        let (token, users) = match answer {
            ClaimAnswer::StaleEpoch => {
                self.metrics.stale_epochs.add(1);
                return Ok(SendResult::StaleEpoch);
            }
            ClaimAnswer::Claimed { token, users } => (token, users),
        };
        if users.is_empty() {
            return Ok(SendResult::NoneClaimed);
        }
        let now = self.clock.now();
        let minimum = self.limits.minimum_time_between_user_syncs;
        users
            .iter()
            .filter_map(|user| time_waited(reason, user.stamp, now, minimum))
            .for_each(record::claim_delay);
        let users: Vec<UserId> = users.into_iter().map(|ClaimedUser { user, .. }| user).collect();
        let count = users.len();
        let job = new_job(now, tenant, reason, token, users);
        let remembered = self
            .continuity
            .save_latest_mark(self.schedule.as_ref(), self.registry.as_ref());
        if let Err(failure) = remembered.await {
            self.release_job(&job).await;
            return Err(failure.within(format!("job for {count} users of {tenant}")));
        }
        match self.publish(queue, &job).await {
            Ok(()) => {
                self.lock_memory().record_sent(queue, tenant, count, monotonic());
                self.metrics.jobs_published.add(1);
                self.metrics.users_dispatched.add_len(count);
                Ok(SendResult::Published(count))
            }
            Err(failure) => {
                self.metrics.count_unpublished(&failure);
                // If the job arrived after all, its worker finds no claim and does nothing.
                self.release_job(&job).await;
                Err(failure.within(format!("job for {count} users of {tenant}")))
            }
        }
    }

    /// Releases the users of a job that was not sent.
    async fn release_job(&self, job: &SyncJob) {
        let SyncJob {
            tenant, token, users, ..
        } = job;
        let release = self.schedule.release(tenant, *token, users);
        if !matches!(timeout(RELEASE, release).await, Ok(Ok(_))) {
            tracing::warn!(%tenant, users = users.len(), "the users of a job that was not sent stay claimed until the claim expires");
        }
    }

    /// Publishes a job. The trace it was chosen in travels with it.
    async fn publish(&self, queue: QueueName, job: &SyncJob) -> Result<(), Failure> {
        let span = tracing::info_span!(
            target: spans::TARGET,
            "publish job",
            otel.name = format!("publish {}", queue.name()),
            otel.kind = "producer",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            messaging.operation.type = "send",
            messaging.destination.name = queue.name(),
            messaging.message.id = %job.id,
            tasksync.tenant = %job.tenant,
            tasksync.users = spans::number(job.users.len()),
        );
        let trace = spans::context_of(&span);
        let publishing = timeout(PUBLISH, self.queue.publish(queue, job, &trace));
        let published = publishing.instrument(span.clone()).await.unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorClass::OutcomeUnknown,
                Code::QueueUnavailable,
                format!("the queue did not confirm a job within {} s", PUBLISH.as_secs()),
            ))
        });
        if let Err(failure) = &published {
            spans::mark_failed(&span, failure.code.as_str());
        }
        published
    }
}

/// Returns a new job for users of a tenant.
fn new_job(now: Timestamp, tenant: &TenantId, reason: Reason, token: Token, users: Vec<UserId>) -> SyncJob {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_was_put_ahead_of_others_has_no_wait() {
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let stamp: Timestamp = "2026-12-01T11:00:00Z".parse().unwrap();
        let waited = |reason| time_waited(reason, stamp, now, Duration::from_mins(5));
        assert_eq!(waited(Reason::Scheduled), Some(Duration::from_mins(55)));
        assert_eq!([waited(Reason::Requested), waited(Reason::Hint)], [None; 2]);
    }
}
