//! The order of work with a memory: stamps of finished users are also kept for the registry, so that a restart does not
//! sync everybody at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::schedule::{
    ClaimAnswer, Cursor, Epoch, Finish, Head, Held, Page, Schedule, StampSaver, Summary, Token, UserStatus,
};

/// A schedule whose finished users are noted by a [`StampSaver`].
pub(crate) struct StampedSchedule {
    pub(crate) inner: Arc<dyn Schedule>,
    pub(crate) saver: Arc<StampSaver>,
    /// The minimum time between syncs the schedule was opened with.
    pub(crate) minimum: Duration,
}

#[async_trait]
impl Schedule for StampedSchedule {
    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[Finish],
    ) -> Result<Vec<UserId>, Failure> {
        let finished = self.inner.finish(tenant, token, results).await?;
        // A clock that does not answer costs an early sync after the next restart, never the result itself.
        if let Ok(now) = self.inner.now().await {
            self.saver.finished(tenant, now, self.minimum, results, &finished);
        }
        Ok(finished)
    }

    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        last_success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        self.inner.enrol(user, stamp, last_success).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.withdraw(user).await
    }
    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        self.inner.withdraw_tenant(tenant).await
    }
    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.make_due(user).await
    }
    async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        self.inner.heads(limit).await
    }
    async fn oldest(
        &self,
        tenant: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, Failure> {
        self.inner.oldest(tenant, not_after, limit).await
    }
    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        self.inner.claim(epoch, tenant, users, lasts).await
    }
    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<Vec<Held>, Failure> {
        self.inner.renew(tenant, token, users, lasts).await
    }
    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        self.inner.release(tenant, token, users).await
    }
    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        self.inner.reclaim(limit).await
    }
    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        self.inner.status(user).await
    }
    async fn tenants(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        self.inner.tenants(after, limit).await
    }
    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        self.inner.users(tenant, after, limit).await
    }
    async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure> {
        self.inner.summary(tenant).await
    }
    async fn now(&self) -> Result<Timestamp, Failure> {
        self.inner.now().await
    }
    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        self.inner.lead(holder, lasts).await
    }
    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        self.inner.resign(holder).await
    }
}
