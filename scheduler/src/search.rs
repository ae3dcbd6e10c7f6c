//! Housekeeping of the leader: the registry is compared with the order of work, and old journal entries are dropped.

use std::time::Duration;

use jiff::SignedDuration;
use tasksync_common::error::Failure;
use tasksync_common::model::TenantId;
use tasksync_common::registry::EnrolmentState;
use tasksync_common::schedule::rebuild::reconcile;

use crate::dispatch::Dispatcher;

/// Rows asked for at once.
const PAGE: u32 = 1_000;

/// Journal entries dropped per call, and calls per round.
const PRUNE_GROUP: u32 = 1_000;
const PRUNE_ROUNDS: usize = 1_000;

/// Journal entries are looked at this often.
pub(crate) const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);

impl Dispatcher {
    /// Brings the order of work in step with the registry. Enrolling and opting out change the order at once; this finds
    /// what a crash in between, a restored backup or a lost order left behind.
    pub(crate) async fn search(&self) -> Result<(), Failure> {
        let minimum = self.limits.minimum_time_between_user_syncs;
        let done = reconcile(self.registry.as_ref(), self.schedule.as_ref(), minimum).await?;
        let found = done.added + self.enrol_disabled().await?;
        self.metrics.tenant_searches.add(1);
        self.metrics.users_found.add(found);
        self.metrics.users_withdrawn.add(done.withdrawn);
        if found > 0 || done.withdrawn > 0 {
            tracing::info!(
                found,
                withdrawn = done.withdrawn,
                "the order of work was brought in step with the registry"
            );
        }
        Ok(())
    }

    /// Disabled users stay in the order as well: their sync is the test whether they work again. Returns how many were
    /// missing; they are due after the minimum time.
    async fn enrol_disabled(&self) -> Result<u64, Failure> {
        let mut found = 0;
        let mut after_tenant: Option<TenantId> = None;
        loop {
            let tenants = self.registry.active_tenants(after_tenant.as_ref(), PAGE).await?;
            let Some((last, _)) = tenants.last() else {
                return Ok(found);
            };
            after_tenant = Some(last.clone());
            for (tenant, _) in tenants {
                found += self.enrol_disabled_of(&tenant).await?;
            }
        }
    }

    /// As [`Self::enrol_disabled`], for one tenant.
    pub(crate) async fn enrol_disabled_of(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let mut found = 0;
        let mut after = None;
        loop {
            let users = self.registry.enrolments(tenant, after.as_ref(), PAGE).await?;
            let Some(last) = users.last() else {
                return Ok(found);
            };
            after = Some(last.key.user.clone());
            for user in users {
                if matches!(user.state, EnrolmentState::Disabled { .. }) {
                    let now = self.clock.now();
                    found += u64::from(self.schedule.enrol(&user.key, now, None).await?);
                }
            }
        }
    }

    /// Drops journal entries older than their lifetime.
    pub(crate) async fn prune(&self) -> Result<(), Failure> {
        let lifetime = SignedDuration::try_from(self.limits.journal_lifetime).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().checked_sub(lifetime) else {
            return Ok(());
        };
        for _ in 0..PRUNE_ROUNDS {
            let pruned = self.registry.prune_journal(before, PRUNE_GROUP).await?;
            self.metrics.journal_pruned.add(pruned);
            if pruned < u64::from(PRUNE_GROUP) {
                break;
            }
        }
        Ok(())
    }
}
