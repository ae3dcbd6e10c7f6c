//! The limits of the leader's loop, taken from the settings once at start.

use std::time::Duration;

use tasksync_common::queue::MAXIMUM_USERS;
use tasksync_common::settings::Settings;

/// What the leader may do, and how often.
#[derive(Debug, Clone)]
pub struct DispatchLimits {
    /// The leader wakes this often.
    pub run_interval: Duration,
    /// Between runs the leader looks this often whether workers want more; zero for a classic timer job.
    pub top_up_interval: Duration,
    /// Most tenants one run or top-up takes users of, at least 1.
    pub tenants_per_run: usize,
    /// Most users of one job, 1 to 100.
    pub users_per_batch: usize,
    /// Users are due when their stamp is so old.
    pub minimum_time_between_user_syncs: Duration,
    /// The registry is compared with the order of work this often.
    pub tenant_search_interval: Duration,
    /// People whose last success is older than this are told of.
    pub late_after: Duration,
    /// An alert about a list ends when nobody raised it again for this long: everybody's full check says it anew.
    pub location_alerts_kept: Duration,
    /// How long a claim lasts until a worker renews it.
    pub claim_lifetime: Duration,
    /// Most users of one tenant claimed at once; zero for no limit.
    pub tenant_in_flight: u64,
    /// Most of all workers' permits one tenant may hold while others wait, in percent; 100 for no limit.
    pub tenant_share_percent: u8,
    /// A batch may hold a permit this long.
    pub batch_budget: Duration,
    /// Leadership lasts this long unless renewed.
    pub leader_lifetime: Duration,
    /// How long journal entries are kept.
    pub journal_lifetime: Duration,
}

impl DispatchLimits {
    /// The limits these settings stand for.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let schedule = &settings.schedule;
        Self {
            run_interval: schedule.run_interval,
            top_up_interval: schedule.top_up_interval,
            tenants_per_run: schedule.tenants_per_run.max(1),
            users_per_batch: schedule.users_per_batch.clamp(1, MAXIMUM_USERS),
            minimum_time_between_user_syncs: schedule.minimum_time_between_user_syncs,
            tenant_search_interval: schedule.tenant_search_interval,
            late_after: schedule
                .late_after
                .max(schedule.maximum_time_between_user_syncs.saturating_mul(2)),
            location_alerts_kept: settings
                .worker
                .full_check_interval
                .saturating_add(schedule.maximum_time_between_user_syncs)
                .saturating_mul(2),
            claim_lifetime: schedule.claim_lifetime,
            tenant_in_flight: schedule.tenant_in_flight,
            tenant_share_percent: schedule.tenant_share_percent,
            batch_budget: settings.worker.batch_budget,
            leader_lifetime: schedule.leader_lifetime,
            journal_lifetime: settings.registry.journal_lifetime,
        }
    }
}
