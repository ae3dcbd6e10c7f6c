//! The stores, measured: how long every call took and whether it worked, by operation.
//!
//! A method with a default in its seam must be handed on here too, or the default replaces the store's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

use super::record::{self, Store};
use crate::error::{Code, Failure};
use crate::model::{InstallationId, TenantId, UserId, UserKey};
use crate::queue::{Consumer, DeadLetter, Depth, JobQueue, Letters, QueueMetrics, QueueName, SyncJob};
use crate::registry::{
    Alert, Enrolled, Enrolment, EnrolmentCounts, EnrolmentState, JournalEntry, Registry, Saved, StoredState,
    Tenant,
};
use crate::schedule::SavedStamp;
use crate::schedule::{
    ClaimAnswer, Cursor, Epoch, Finish, Head, Inspected, Mark, Marked, Page, Renewed, Schedule, Summary,
    Token, UserStatus,
};
use crate::trace::TraceContext;

/// A store whose calls are measured.
pub(crate) struct Metered<T: ?Sized>(pub(crate) Arc<T>);

async fn measured<T>(
    store: Store,
    operation: &'static str,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let began = Instant::now();
    let result = call.await;
    record::call(store, operation, result.is_ok(), began.elapsed());
    result
}

#[async_trait]
impl Registry for Metered<dyn Registry> {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        measured(Store::Registry, "installation", self.0.installation()).await
    }
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        measured(Store::Registry, "put_tenant", self.0.put_tenant(tenant)).await
    }
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        measured(Store::Registry, "tenant", self.0.tenant(id)).await
    }
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        measured(Store::Registry, "tenants", self.0.tenants(after, limit)).await
    }
    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        measured(Store::Registry, "remove_tenant", self.0.remove_tenant(id)).await
    }
    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        measured(
            Store::Registry,
            "active_tenants",
            self.0.active_tenants(after, limit),
        )
        .await
    }
    async fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Failure> {
        measured(Store::Registry, "enrol", self.0.enrol(enrolment)).await
    }
    async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<Enrolled>, Failure> {
        measured(Store::Registry, "enrol_many", self.0.enrol_many(enrolments)).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(Store::Registry, "withdraw", self.0.withdraw(user)).await
    }
    async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure> {
        measured(Store::Registry, "enrolment", self.0.enrolment(user)).await
    }
    async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        measured(
            Store::Registry,
            "enrolments_of",
            self.0.enrolments_of(tenant, users),
        )
        .await
    }
    async fn enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        measured(
            Store::Registry,
            "enrolments",
            self.0.enrolments(tenant, after, limit),
        )
        .await
    }
    async fn enrolment_counts(&self, tenant: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        measured(
            Store::Registry,
            "enrolment_counts",
            self.0.enrolment_counts(tenant),
        )
        .await
    }
    async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure> {
        measured(
            Store::Registry,
            "set_enrolment_state",
            self.0.set_enrolment_state(user, state),
        )
        .await
    }
    async fn fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, StoredState)>, Failure> {
        measured(
            Store::Registry,
            "fingerprints",
            self.0.fingerprints(tenant, users),
        )
        .await
    }
    async fn enrolments_with_fingerprints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        measured(
            Store::Registry,
            "enrolments_with_fingerprints",
            self.0.enrolments_with_fingerprints(tenant, users),
        )
        .await
    }
    async fn enrolment_with_state(
        &self,
        user: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        measured(
            Store::Registry,
            "enrolment_with_state",
            self.0.enrolment_with_state(user),
        )
        .await
    }
    async fn sync_state(&self, user: &UserKey) -> Result<Option<StoredState>, Failure> {
        measured(Store::Registry, "sync_state", self.0.sync_state(user)).await
    }
    async fn save_sync_state(
        &self,
        of: &Enrolment,
        expected: u64,
        fingerprint: &[u8],
        blob: &[u8],
    ) -> Result<Saved, Failure> {
        measured(
            Store::Registry,
            "save_sync_state",
            self.0.save_sync_state(of, expected, fingerprint, blob),
        )
        .await
    }
    async fn forget_sync_state(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(
            Store::Registry,
            "forget_sync_state",
            self.0.forget_sync_state(user),
        )
        .await
    }
    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        measured(Store::Registry, "save_stamps", self.0.save_stamps(tenant, stamps)).await
    }
    async fn stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        measured(Store::Registry, "stamps", self.0.stamps(tenant, after, limit)).await
    }
    async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        measured(Store::Registry, "journal", self.0.journal(entries)).await
    }
    async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure> {
        measured(Store::Registry, "journal_of", self.0.journal_of(user, limit)).await
    }
    async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        measured(
            Store::Registry,
            "prune_journal",
            self.0.prune_journal(before, limit),
        )
        .await
    }
    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        measured(Store::Registry, "raise_alert", self.0.raise_alert(alert)).await
    }
    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        measured(Store::Registry, "end_alert", self.0.end_alert(tenant, user, code)).await
    }
    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        measured(Store::Registry, "alerts", self.0.alerts(tenant, limit)).await
    }
    async fn allow_deletions(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(Store::Registry, "allow_deletions", self.0.allow_deletions(user)).await
    }
    async fn take_deletion_permit(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(
            Store::Registry,
            "take_deletion_permit",
            self.0.take_deletion_permit(user),
        )
        .await
    }
    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        measured(Store::Registry, "mark", self.0.mark()).await
    }
    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        measured(Store::Registry, "save_mark", self.0.save_mark(mark)).await
    }
    async fn check_writable(&self) -> Result<(), Failure> {
        measured(Store::Registry, "check_writable", self.0.check_writable()).await
    }
}

#[async_trait]
impl Schedule for Metered<dyn Schedule> {
    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        last_success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        measured(Store::Schedule, "enrol", self.0.enrol(user, stamp, last_success)).await
    }
    async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure> {
        measured(Store::Schedule, "enrol_many", self.0.enrol_many(tenant, users)).await
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(Store::Schedule, "withdraw", self.0.withdraw(user)).await
    }
    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        measured(Store::Schedule, "withdraw_tenant", self.0.withdraw_tenant(tenant)).await
    }
    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        measured(Store::Schedule, "make_due", self.0.make_due(user)).await
    }
    async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        measured(Store::Schedule, "heads", self.0.heads(limit)).await
    }
    async fn oldest(
        &self,
        tenant: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, Failure> {
        measured(Store::Schedule, "oldest", self.0.oldest(tenant, not_after, limit)).await
    }
    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        measured(
            Store::Schedule,
            "claim",
            self.0.claim(epoch, tenant, users, lasts),
        )
        .await
    }
    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<Renewed, Failure> {
        measured(
            Store::Schedule,
            "renew",
            self.0.renew(tenant, token, users, lasts),
        )
        .await
    }
    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[Finish],
    ) -> Result<Vec<UserId>, Failure> {
        measured(Store::Schedule, "finish", self.0.finish(tenant, token, results)).await
    }
    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        measured(Store::Schedule, "release", self.0.release(tenant, token, users)).await
    }
    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        measured(Store::Schedule, "reclaim", self.0.reclaim(limit)).await
    }
    async fn is_empty(&self) -> Result<bool, Failure> {
        measured(Store::Schedule, "is_empty", self.0.is_empty()).await
    }
    async fn leader(&self) -> Result<Option<String>, Failure> {
        measured(Store::Schedule, "leader", self.0.leader()).await
    }
    fn acknowledged(&self) -> Option<u64> {
        self.0.acknowledged()
    }
    async fn mark(&self) -> Result<Option<Marked>, Failure> {
        measured(Store::Schedule, "mark", self.0.mark()).await
    }
    async fn inspect(&self, limit: usize) -> Result<Inspected, Failure> {
        measured(Store::Schedule, "inspect", self.0.inspect(limit)).await
    }
    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        measured(Store::Schedule, "status", self.0.status(user)).await
    }
    async fn tenants(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        measured(Store::Schedule, "tenants", self.0.tenants(after, limit)).await
    }
    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        measured(Store::Schedule, "users", self.0.users(tenant, after, limit)).await
    }
    async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure> {
        measured(Store::Schedule, "summary", self.0.summary(tenant)).await
    }
    async fn now(&self) -> Result<Timestamp, Failure> {
        measured(Store::Schedule, "now", self.0.now()).await
    }
    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        measured(Store::Schedule, "lead", self.0.lead(holder, lasts)).await
    }
    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        measured(Store::Schedule, "resign", self.0.resign(holder)).await
    }
}

#[async_trait]
impl JobQueue for Metered<dyn JobQueue> {
    async fn publish(&self, queue: QueueName, job: &SyncJob, trace: &TraceContext) -> Result<(), Failure> {
        measured(Store::Queue, "publish", self.0.publish(queue, job, trace)).await
    }
    async fn consume(&self, queue: QueueName, permits: usize) -> Result<Box<dyn Consumer>, Failure> {
        measured(Store::Queue, "consume", self.0.consume(queue, permits)).await
    }
    async fn depth(&self, queue: QueueName) -> Result<Depth, Failure> {
        measured(Store::Queue, "depth", self.0.depth(queue)).await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        measured(Store::Queue, "dead_letters", self.0.dead_letters(limit)).await
    }
    async fn dead_letter_count(&self) -> Result<u64, Failure> {
        measured(Store::Queue, "dead_letter_count", self.0.dead_letter_count()).await
    }
    async fn replay_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        measured(
            Store::Queue,
            "replay_dead_letters",
            self.0.replay_dead_letters(which),
        )
        .await
    }
    async fn discard_dead_letters(&self, which: &Letters) -> Result<u64, Failure> {
        measured(
            Store::Queue,
            "discard_dead_letters",
            self.0.discard_dead_letters(which),
        )
        .await
    }
    fn metrics(&self) -> QueueMetrics {
        self.0.metrics()
    }
}
