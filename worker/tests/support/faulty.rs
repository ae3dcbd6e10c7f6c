//! A schedule that can be made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::schedule::SavedStamp;
use tasksync_common::schedule::{
    ClaimAnswer, Cursor, Epoch, Finish, Head, Inspected, Marked, Page, Renewed, Schedule, Summary, Token,
    UserStatus,
};

fn down() -> Failure {
    Failure::new(ErrorClass::Transient, Code::ScheduleUnavailable, "made to fail")
}

/// A schedule one of whose users sees it fail, while another does not.
pub(crate) struct FaultySchedule {
    inner: Arc<dyn Schedule>,
    down: AtomicBool,
}

impl FaultySchedule {
    pub(crate) fn over(inner: Arc<dyn Schedule>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            down: AtomicBool::new(false),
        })
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn up(&self) -> Result<&Arc<dyn Schedule>, Failure> {
        if self.down.load(Ordering::SeqCst) {
            return Err(down());
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl Schedule for FaultySchedule {
    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        self.up()?.enrol(user, stamp, success).await
    }
    async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure> {
        self.up()?.enrol_many(tenant, users).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.up()?.withdraw(user).await
    }
    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        self.up()?.withdraw_tenant(tenant).await
    }
    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        self.up()?.make_due(user).await
    }
    async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        self.up()?.heads(limit).await
    }
    async fn oldest(
        &self,
        tenant: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, Failure> {
        self.up()?.oldest(tenant, not_after, limit).await
    }
    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        self.up()?.claim(epoch, tenant, users, lasts).await
    }
    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<Renewed, Failure> {
        self.up()?.renew(tenant, token, users, lasts).await
    }
    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[Finish],
    ) -> Result<Vec<UserId>, Failure> {
        self.up()?.finish(tenant, token, results).await
    }
    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        self.up()?.release(tenant, token, users).await
    }
    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        self.up()?.reclaim(limit).await
    }
    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        self.up()?.status(user).await
    }
    async fn tenants(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        self.up()?.tenants(after, limit).await
    }
    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        self.up()?.users(tenant, after, limit).await
    }
    async fn is_empty(&self) -> Result<bool, Failure> {
        self.up()?.is_empty().await
    }
    async fn mark(&self) -> Result<Option<Marked>, Failure> {
        self.up()?.mark().await
    }
    async fn inspect(&self, limit: usize) -> Result<Inspected, Failure> {
        self.up()?.inspect(limit).await
    }
    async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure> {
        self.up()?.summary(tenant).await
    }
    async fn now(&self) -> Result<Timestamp, Failure> {
        self.up()?.now().await
    }
    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        self.up()?.lead(holder, lasts).await
    }
    async fn leader(&self) -> Result<Option<String>, Failure> {
        self.up()?.leader().await
    }
    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        self.up()?.resign(holder).await
    }
}
