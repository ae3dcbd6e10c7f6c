//! The SQLite registry with a count of what syncs read and write; it may stop saving, as for a process that ends.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{InstallationId, TenantId, UserId, UserKey};
use tasksync_common::registry::{
    Alert, Enrolled, Enrolment, EnrolmentCounts, EnrolmentState, JournalEntry, Registry, Saved, SqlRegistry,
    StoredState, Tenant,
};
use tasksync_common::schedule::Mark;
use tasksync_common::schedule::SavedStamp;

pub(crate) struct CountingRegistry {
    inner: SqlRegistry,
    states_read: AtomicU64,
    states_written: AtomicU64,
    look_ups: AtomicU64,
    /// Saves of states until none succeeds any more.
    saves_left: AtomicU64,
}

impl CountingRegistry {
    pub(crate) fn new(inner: SqlRegistry) -> Self {
        Self {
            inner,
            states_read: AtomicU64::new(0),
            states_written: AtomicU64::new(0),
            look_ups: AtomicU64::new(0),
            saves_left: AtomicU64::new(u64::MAX),
        }
    }

    /// So many more states are saved, and then none: what a process leaves behind that ends in the middle of a pass.
    pub(crate) fn save_only(&self, saves: u64) {
        self.saves_left.store(saves, Ordering::Relaxed);
    }

    /// Whole states read and written so far.
    pub(crate) fn states(&self) -> (u64, u64) {
        (
            self.states_read.load(Ordering::Relaxed),
            self.states_written.load(Ordering::Relaxed),
        )
    }

    /// Calls so far that read enrolments or fingerprints of users.
    pub(crate) fn look_ups(&self) -> u64 {
        self.look_ups.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Registry for CountingRegistry {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        self.inner.installation().await
    }
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        self.inner.put_tenant(tenant).await
    }
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.inner.tenant(id).await
    }
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        self.inner.tenants(after, limit).await
    }
    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        self.inner.remove_tenant(id).await
    }
    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        self.inner.active_tenants(after, limit).await
    }
    async fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure> {
        self.inner.enrol(enrolment).await
    }
    async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<Enrolled>, Failure> {
        self.inner.enrol_many(enrolments).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.withdraw(user).await
    }
    async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.enrolment(user).await
    }
    async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.enrolments_of(tenant, users).await
    }
    async fn enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        self.inner.enrolments(tenant, after, limit).await
    }
    async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        self.inner.enrolment_counts(tenant).await
    }
    async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure> {
        self.inner.set_enrolment_state(user, state).await
    }
    async fn fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, StoredState)>, Failure> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.fingerprints(tenant, users).await
    }
    async fn enrolments_with_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        self.inner.enrolments_with_fingerprints(tenant, users).await
    }
    async fn enrolment_with_state(
        &self,
        user: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        self.states_read.fetch_add(1, Ordering::Relaxed);
        self.inner.enrolment_with_state(user).await
    }
    async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        self.states_read.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_state(user).await
    }
    async fn save_sync_state(
        &self,
        of: &Enrolment,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<Saved, Failure> {
        let one_less = |left: u64| left.checked_sub(1);
        if self
            .saves_left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
        {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::RegistryUnavailable,
                "the process ends here",
            ));
        }
        self.states_written.fetch_add(1, Ordering::Relaxed);
        self.inner.save_sync_state(of, expected, fingerprint, blob).await
    }
    async fn forget_sync_state(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.forget_sync_state(user).await
    }
    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        self.inner.save_stamps(tenant, stamps).await
    }
    async fn stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        self.inner.stamps(tenant, after, limit).await
    }
    async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        self.inner.journal(entries).await
    }
    async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure> {
        self.inner.journal_of(user, limit).await
    }
    async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        self.inner.prune_journal(before, limit).await
    }
    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        self.inner.raise_alert(alert).await
    }
    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        self.inner.end_alert(tenant, user, code).await
    }
    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        self.inner.alerts(tenant, limit).await
    }
    async fn allow_deletions(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.allow_deletions(user).await
    }
    async fn take_deletion_permit(&self, user: &UserKey) -> Result<bool, Failure> {
        self.inner.take_deletion_permit(user).await
    }
    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        self.inner.mark().await
    }
    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        self.inner.save_mark(mark).await
    }
    async fn check_writable(&self) -> Result<(), Failure> {
        self.inner.check_writable().await
    }
}
