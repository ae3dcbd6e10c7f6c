//! The schedule in memory, for one process; it is rebuilt from the registry at start.
//!
//! Costs with `n` users of `t` tenants: every change of one user is `O(log n)`. `heads` and `oldest` are
//! `O(log n + answer)`. `summary` is `O(log n + users that became due since the last one)` for one tenant, and
//! `O(t log n + users that became due)` for all, which takes a few milliseconds with 10,000 tenants. A user takes
//! about 500 bytes.

mod state;
mod tenant;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    ClaimAnswer, ClaimRenewal, Claims, Epoch, FinishedAttempt, Freshness, Head, InspectionResult, Integrity,
    Leadership, MarkUpdate, Order, Page, PageCursor, Summary, Token, UserStatus,
};
use crate::clock::SharedClock;
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::schedule::SavedStamp;
use state::ScheduleState;

/// The schedule in one process's memory. Clones share it. No call fails or waits.
#[derive(Clone)]
pub struct MemorySchedule {
    clock: SharedClock,
    state: Arc<Mutex<ScheduleState>>,
}

impl std::fmt::Debug for MemorySchedule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MemorySchedule")
    }
}

impl MemorySchedule {
    /// Returns an empty schedule. `minimum` is `schedule.minimum_time_between_user_syncs`, the age at which a
    /// stamp is due.
    #[must_use]
    pub fn new(clock: SharedClock, minimum: Duration) -> Self {
        // Numbers start at the present time, so that those of a schedule that was lost with its process are
        // never reused.
        let first = u64::try_from(clock.now().as_microsecond()).unwrap_or(1);
        Self {
            clock,
            state: Arc::new(Mutex::new(ScheduleState::new(span(minimum), first))),
        }
    }

    /// Returns the locked state and the time of this change.
    fn lock(&self) -> (MutexGuard<'_, ScheduleState>, Timestamp) {
        // Every change leaves the state consistent before anything can panic, so a poisoned lock is safe to
        // use.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (state, now)
    }
}

/// Returns a duration that can be added to a time; longer ones are cut to a century.
fn span(duration: Duration) -> SignedDuration {
    const CENTURY: SignedDuration = SignedDuration::from_hours(100 * 365 * 24);
    SignedDuration::try_from(duration).unwrap_or(CENTURY).min(CENTURY)
}

/// Returns `at` + `by`, clamped to the range of a timestamp.
fn plus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(if by.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[async_trait]
impl Order for MemorySchedule {
    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        last_success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        let saved = SavedStamp::new(user.user.clone(), stamp, last_success);
        let (mut state, _) = self.lock();
        Ok(state.enrol(&user.tenant, &saved))
    }

    async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure> {
        let (mut state, _) = self.lock();
        Ok(users
            .iter()
            .map(|saved| u64::from(state.enrol(tenant, saved)))
            .sum())
    }

    async fn enrol_claimed(
        &self,
        tenant: &TenantId,
        users: &[SavedStamp],
        lasts: Duration,
    ) -> Result<u64, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.enrol_claimed(tenant, users, plus(now, span(lasts))))
    }

    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        let (mut state, _) = self.lock();
        Ok(state.withdraw(user))
    }

    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let (mut state, _) = self.lock();
        Ok(state.withdraw_tenant(tenant))
    }

    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.make_due(user, now))
    }

    async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        let (state, _) = self.lock();
        Ok(state.heads(limit))
    }

    async fn oldest(
        &self,
        tenant: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, Failure> {
        let (state, _) = self.lock();
        Ok(state.oldest(tenant, not_after, limit))
    }
}

#[async_trait]
impl Claims for MemorySchedule {
    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.claim(epoch, tenant, users, plus(now, span(lasts))))
    }

    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimRenewal, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.renew(tenant, token, users, plus(now, span(lasts))))
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[FinishedAttempt],
    ) -> Result<Vec<UserId>, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.finish(tenant, token, results, now))
    }

    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.release(tenant, token, users, now))
    }

    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.reclaim(limit, now))
    }
}

#[async_trait]
impl Freshness for MemorySchedule {
    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        let (state, _) = self.lock();
        Ok(state.status(user))
    }

    async fn tenants(&self, after: Option<&PageCursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        let (state, _) = self.lock();
        Ok(state.tenant_page(after, limit))
    }

    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&PageCursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        let (state, _) = self.lock();
        Ok(state.user_page(tenant, after, limit))
    }

    async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.summary(tenant, now))
    }

    async fn is_empty(&self) -> Result<bool, Failure> {
        let (state, _) = self.lock();
        Ok(state.is_empty())
    }

    async fn now(&self) -> Result<Timestamp, Failure> {
        Ok(self.clock.now())
    }
}

#[async_trait]
impl Leadership for MemorySchedule {
    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        let (mut state, now) = self.lock();
        Ok(state.lead(holder, now, span(lasts)))
    }

    async fn leader(&self) -> Result<Option<String>, Failure> {
        let (state, now) = self.lock();
        Ok(state.leader(now))
    }

    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        let (mut state, _) = self.lock();
        state.resign(holder);
        Ok(())
    }
}

#[async_trait]
impl Integrity for MemorySchedule {
    fn acknowledged(&self) -> Option<u64> {
        None
    }

    async fn mark(&self) -> Result<Option<MarkUpdate>, Failure> {
        // The data live as long as the process, so nothing can be lost.
        Ok(None)
    }

    async fn inspect(&self, _limit: usize, _lasts: Duration) -> Result<InspectionResult, Failure> {
        Ok(InspectionResult::default())
    }

    async fn differing(&self, expected: &[(TenantId, u64)]) -> Result<Vec<(TenantId, u64)>, Failure> {
        let (state, _) = self.lock();
        Ok(state.differing(expected))
    }

    async fn recount_names(&self, _: &TenantId) -> Result<(), Failure> {
        // Data in memory are never lost in part, so no digest is kept.
        Ok(())
    }

    async fn check_writable(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::contract::ScheduleBench;
    use crate::schedule::Schedule;

    struct Bench {
        clock: Arc<ManualClock>,
        schedule: Arc<MemorySchedule>,
    }

    #[async_trait]
    impl ScheduleBench for Bench {
        fn schedule(&self) -> Arc<dyn Schedule> {
            self.schedule.clone()
        }
        fn minimum(&self) -> Duration {
            Duration::from_mins(5)
        }
        fn unit(&self) -> Duration {
            Duration::from_mins(1)
        }
        async fn pass_time(&self, by: Duration) {
            self.clock.advance(span(by));
        }
    }

    fn bench() -> Bench {
        let clock = ManualClock::at("2026-11-22T14:00:00Z".parse().unwrap());
        let schedule = Arc::new(MemorySchedule::new(clock.clone(), Duration::from_mins(5)));
        Bench { clock, schedule }
    }

    crate::schedule_contract!(std::future::ready(bench()));
}
