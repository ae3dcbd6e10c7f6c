//! "Sync now": makes a user due at once and, on the leader, sends them to the interactive queue right away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserKey};
use tasksync_common::queue::{QueueName, Reason};
use tasksync_common::schedule::Epoch;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dispatch::{Dispatcher, SendResult};

/// Requests that a tenant may make in a burst, and per minute.
pub const REQUESTS_PER_MINUTE: u32 = 30;

/// Most tenants with a bucket. When there are more, tenants without a request in the last minute are forgotten.
const MOST_TENANTS: usize = 10_000;

/// A token bucket: full at the start, refilled evenly, never above its size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: f64::from(REQUESTS_PER_MINUTE),
            at: now,
        }
    }

    /// Takes one token, or returns the time until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(REQUESTS_PER_MINUTE) / 60.0;
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * per_second).min(f64::from(REQUESTS_PER_MINUTE));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / per_second))
    }
}

/// Answer to a "sync now" request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncNowResult {
    /// The user's sync was sent to the workers.
    Sent,
    /// The user is due at once, and the leader sends the sync with its next look at the queue. Reasons: this process
    /// does not lead or may not send now, the tenant already has as many requested syncs running as it may, a worker
    /// has the user already, or the queue did not take the job.
    Due,
    /// The user is not in the schedule: not enrolled, or the tenant is disabled.
    NotEnrolled,
    /// The tenant made too many requests. The next one is taken after this time.
    TooMany(Duration),
}

/// Takes "sync now" requests. Every process has one; only the leader's sends jobs at once.
pub struct Requests {
    dispatcher: Arc<Dispatcher>,
    leading: watch::Receiver<Option<Epoch>>,
    buckets: Mutex<HashMap<TenantId, Bucket>>,
}

impl Requests {
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, leading: watch::Receiver<Option<Epoch>>) -> Self {
        Self {
            dispatcher,
            leading,
            buckets: Mutex::default(),
        }
    }

    /// Makes the user due at once, because a person asked for it or because a server hinted at a change.
    ///
    /// # Errors
    /// The schedule's failure when it does not answer. A queue that does not answer is no error: the user stays due.
    pub async fn sync_now(&self, user: &UserKey, reason: Reason) -> Result<SyncNowResult, Failure> {
        let metrics = &self.dispatcher.metrics;
        if let Err(after) = self.take(&user.tenant) {
            metrics.requests_refused.add(1);
            return Ok(SyncNowResult::TooMany(after));
        }
        if !self.dispatcher.schedule.make_due(user).await? {
            return Ok(SyncNowResult::NotEnrolled);
        }
        metrics.requests.add(1);
        let Some(epoch) = *self.leading.borrow() else {
            return Ok(SyncNowResult::Due);
        };
        if !self.dispatcher.continuity.may_dispatch(epoch) {
            return Ok(SyncNowResult::Due);
        }
        if !self.dispatcher.may_send_interactive(&user.tenant).await {
            // The tenant has its share of the permits for interactive jobs; the next look at the queue sends this
            // one.
            return Ok(SyncNowResult::Due);
        }
        let users = [user.user.clone()];
        let sent = self
            .dispatcher
            .send(epoch, QueueName::Interactive, reason, &user.tenant, &users)
            .await;
        match sent {
            Ok(SendResult::Published(_)) => Ok(SyncNowResult::Sent),
            Ok(SendResult::NoneClaimed | SendResult::StaleEpoch) => Ok(SyncNowResult::Due),
            Err(failure) => {
                tracing::warn!(%user, %failure, "a requested sync waits for the next run");
                Ok(SyncNowResult::Due)
            }
        }
    }

    fn take(&self, tenant: &TenantId) -> Result<(), Duration> {
        let now = monotonic();
        // The map is consistent after every change, so a poisoned lock is safe to use.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_TENANTS && !buckets.contains_key(tenant) {
            let minute = Duration::from_mins(1);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < minute);
            if buckets.len() >= MOST_TENANTS {
                return Err(minute);
            }
        }
        buckets
            .entry(tenant.clone())
            .or_insert_with(|| Bucket::full(now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_emptied_by_a_burst_and_refilled_evenly() {
        let start = monotonic();
        let mut bucket = Bucket::full(start);
        for _ in 0..REQUESTS_PER_MINUTE {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let wait = bucket.take(start).unwrap_err();
        assert_eq!(wait, Duration::from_mins(1) / REQUESTS_PER_MINUTE);
        assert_eq!(bucket.take(start + wait), Ok(()));
        assert!(bucket.take(start + wait).is_err());
        let later = start + Duration::from_hours(1);
        for _ in 0..REQUESTS_PER_MINUTE {
            assert_eq!(bucket.take(later), Ok(()));
        }
        assert!(bucket.take(later).is_err(), "never above its size");
    }
}
