//! The limits of the worker's loop, taken from the settings once at start.

use std::time::Duration;

use tasksync_common::schedule::postpone::SyncPace;
use tasksync_common::settings::Settings;

/// Number of waiting results at which they are reported. It is the largest number of users of a job: idle users
/// end within moments of each other, and one report of a hundred costs little more than one of ten.
/// [`REPORT_INTERVAL`] bounds what a crash can lose.
pub(super) const REPORT_GROUP: usize = 100;

/// Time after which waiting results are reported.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Number of earlier deliveries of a job from which on its users are synced one at a time.
pub(super) const SERIAL_AFTER: u32 = 2;

/// First pause before a call is repeated, or before a consumer that ended at once is opened again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause before a call is repeated.
pub(super) const LONGEST_CALL_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause before a consumer is opened again.
pub(super) const LONGEST_CONSUMER_PAUSE: Duration = Duration::from_secs(15);

/// Timeout of opening a consumer.
pub(super) const CONSUME: Duration = Duration::from_secs(30);

/// Time between two beats of a loop that waits for a delivery.
pub(super) const BEAT: Duration = Duration::from_secs(10);

/// Timeout of a registry call at the end of an attempt. The change is tried again after the next attempt.
pub(super) const REGISTRY_CALL: Duration = Duration::from_secs(5);

/// Timeout of settling one delivery, and of one call to the schedule. An unsettled delivery comes again.
pub(super) const SETTLE: Duration = Duration::from_secs(10);

/// Time for dropping users that were cut. After it the results are reported without waiting for them.
pub(super) const CUT: Duration = Duration::from_secs(1);

/// The limits of the worker's loop.
#[derive(Debug, Clone)]
pub struct WorkLimits {
    /// Time after which no new user of a batch starts.
    pub batch_budget: Duration,
    /// Time after which one user's sync stops at a safe point; a survey is cut then.
    pub user_budget: Duration,
    /// Users of one batch synced at the same time, at least 1.
    pub users_at_once: usize,
    /// Scheduled batches worked on at the same time, at least 1.
    pub batches_at_once: usize,
    /// Interactive (sync-now) batches worked on at the same time, beside the scheduled ones, at least 1.
    pub interactive_batches_at_once: usize,
    /// Lifetime of a claim after its renewal at the start of a batch.
    pub claim_lifetime: Duration,
    /// Time that running users may take after the stop.
    pub drain: Duration,
    /// How often users are synced.
    pub pace: SyncPace,
    /// Users of one job, at most. As many idle users of a tenant come due together.
    pub users_per_batch: usize,
}

impl WorkLimits {
    /// Returns the limits of these settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let worker = &settings.worker;
        let schedule = &settings.schedule;
        Self {
            batch_budget: worker.batch_budget,
            user_budget: worker.user_budget,
            users_at_once: worker.users_at_once.max(1),
            batches_at_once: worker.batches_at_once.max(1),
            interactive_batches_at_once: (worker.batches_at_once / 4).max(1),
            claim_lifetime: schedule.claim_lifetime,
            drain: worker.drain,
            pace: SyncPace::from(schedule),
            users_per_batch: schedule.users_per_batch,
        }
    }

    /// Returns how long a batch may work under its claim. Running users are cut before the claim ends, so
    /// that the cut is reported while no other worker can have the user.
    #[must_use]
    pub fn until_cut(&self) -> Duration {
        let spare = self
            .claim_lifetime
            .saturating_sub(self.batch_budget + self.user_budget)
            / 2;
        let margin = spare.min(self.claim_lifetime / 10);
        self.claim_lifetime.saturating_sub(margin)
    }
}

/// Returns the pause before repetition number `attempt`, counted from 0: [`FIRST_PAUSE`], doubled each time,
/// at most `longest`.
pub(super) fn pause(attempt: u32, longest: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_users_get_their_budget_and_are_cut_while_the_claim_holds() {
        let mut limits = WorkLimits::of(&Settings::default());
        assert_eq!(limits.until_cut(), Duration::from_secs(108));
        limits.claim_lifetime = Duration::from_secs(87);
        assert_eq!(limits.until_cut(), Duration::from_secs(86));
        assert!(limits.until_cut() >= limits.batch_budget + limits.user_budget);
    }

    #[test]
    fn pauses_grow_and_are_capped() {
        assert_eq!(pause(0, LONGEST_CALL_PAUSE), FIRST_PAUSE);
        assert_eq!(pause(2, LONGEST_CALL_PAUSE), FIRST_PAUSE * 4);
        assert_eq!(pause(u32::MAX, LONGEST_CALL_PAUSE), LONGEST_CALL_PAUSE);
    }
}
