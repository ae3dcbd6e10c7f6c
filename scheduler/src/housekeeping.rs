//! Housekeeping of the leader: compares the registry with the schedule, and drops old journal entries.

use std::time::Duration;

use jiff::SignedDuration;
use tasksync_common::error::Failure;
use tasksync_common::schedule::rebuild::reconcile;

use crate::dispatch::Dispatcher;

/// Journal entries dropped with one call, and calls in one round.
const PRUNE_GROUP: u32 = 1_000;
const PRUNE_ROUNDS: usize = 1_000;

/// Interval at which old journal entries are dropped.
pub(crate) const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

impl Dispatcher {
    /// Brings the schedule in step with the registry. Opting in and out changes the schedule at once; this repairs what
    /// a crash in between, a restored backup or a lost schedule left behind.
    pub(crate) async fn search(&self) -> Result<(), Failure> {
        let minimum = self.limits.minimum_time_between_user_syncs;
        let done = reconcile(self.registry.as_ref(), self.schedule.as_ref(), minimum).await?;
        self.metrics.tenant_searches.add(1);
        self.metrics.users_found.add(done.added);
        self.metrics.users_withdrawn.add(done.withdrawn);
        if done.added > 0 || done.withdrawn > 0 {
            tracing::info!(
                found = done.added,
                withdrawn = done.withdrawn,
                "the schedule was brought in step with the registry"
            );
        }
        Ok(())
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
