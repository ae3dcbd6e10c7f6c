//! The limits of the leader's loop, read from the settings once at start.

use std::time::Duration;

use tasksync_common::queue::MAXIMUM_USERS;
use tasksync_common::settings::Settings;

/// What the leader may do, and how often.
#[derive(Debug, Clone)]
pub struct DispatchLimits {
    /// Time between two runs of the leader.
    pub run_interval: Duration,
    /// Time between two looks, within a run's interval, at whether workers want more jobs. Zero for a classic timer
    /// job.
    pub top_up_interval: Duration,
    /// Most tenants whose users one run or top-up selects, at least 1.
    pub tenants_per_run: usize,
    /// Most users of one job, 1 to 100.
    pub users_per_batch: usize,
    /// Users are due when their stamp is at least this old.
    pub minimum_time_between_user_syncs: Duration,
    /// Time between two comparisons of the registry with the schedule.
    pub tenant_search_interval: Duration,
    /// Users whose last success is older than this are reported as late.
    pub late_after: Duration,
    /// An alert about a list ends when it was not raised again for this long. Every user's full check raises it again
    /// while the problem lasts.
    pub location_alerts_kept: Duration,
    /// Lifetime of a claim unless a worker renews it.
    pub claim_lifetime: Duration,
    /// Most users of one tenant claimed at a time; zero for no limit.
    pub tenant_in_flight: u64,
    /// Largest share of all workers' permits, in percent, that one tenant may hold while others wait; 100 for no
    /// limit.
    pub tenant_share_percent: u8,
    /// Longest time a batch may hold a permit.
    pub batch_budget: Duration,
    /// Lifetime of the leadership unless renewed.
    pub leader_lifetime: Duration,
    /// How long journal entries are kept.
    pub journal_lifetime: Duration,
}

impl DispatchLimits {
    /// Returns the limits for these settings.
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
