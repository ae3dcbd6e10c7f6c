//! The limits of the worker's loop, taken from the settings once at start.

use std::time::Duration;

use tasksync_common::schedule::postpone::Pace;
use tasksync_common::settings::Settings;

/// Results are reported at the latest when so many are waiting. As many as a job may hold: idle users end within moments of
/// each other, and one report of a hundred costs little more than one of ten. What a crash can lose is bounded by
/// [`REPORT_INTERVAL`].
pub(super) const REPORT_GROUP: usize = 100;

/// Results are reported at the latest after this time.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// A job delivered so often before is worked on one user at a time.
pub(super) const SERIAL_AFTER: u32 = 2;

/// First pause of a repeated call or of a consumer that ended at once.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause of a repeated call.
pub(super) const LONGEST_CALL_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause before a consumer is opened again.
pub(super) const LONGEST_CONSUMER_PAUSE: Duration = Duration::from_secs(15);

/// Opening a consumer may take this long.
pub(super) const CONSUME: Duration = Duration::from_secs(30);

/// A loop that waits for a delivery gives a sign of life this often.
pub(super) const BEAT: Duration = Duration::from_secs(10);

/// A registry call at the end of an attempt may take this long; the change is tried again after the next attempt.
pub(super) const REGISTRY_CALL: Duration = Duration::from_secs(5);

/// Settling one delivery, or one call to the schedule, may take this long; unsettled a delivery comes again.
pub(super) const SETTLE: Duration = Duration::from_secs(10);

/// Users that were cut have this long to be dropped before the results are reported without waiting for them.
pub(super) const CUT: Duration = Duration::from_secs(1);

/// What the worker's loop may do, and for how long.
#[derive(Debug, Clone)]
pub struct WorkLimits {
    /// After this time no new user of a batch starts.
    pub batch_budget: Duration,
    /// One user's sync stops at a safe point after this time; a survey is cut.
    pub user_budget: Duration,
    /// Users of one batch synced at once, at least 1.
    pub users_at_once: usize,
    /// Scheduled batches worked on at once, at least 1.
    pub batches_at_once: usize,
    /// Batches somebody waits for, worked on at once beside the scheduled ones, at least 1.
    pub interactive_batches_at_once: usize,
    /// How long a claim lasts after its renewal at the start of a batch.
    pub claim_lifetime: Duration,
    /// Running users may take this long after the stop.
    pub drain: Duration,
    /// How often users are synced.
    pub pace: Pace,
    /// Most users of one job: as many idle users of a tenant come due together.
    pub users_per_batch: usize,
}

impl WorkLimits {
    /// The limits these settings stand for.
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
            pace: Pace::from(schedule),
            users_per_batch: schedule.users_per_batch,
        }
    }

    /// How long a batch may work under its claim: running users are cut before the claim ends, so that the cut can be
    /// reported while it holds and nobody else has the user yet.
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

/// The pause before the `attempt`th repetition (0 the first): doubling from [`FIRST_PAUSE`] up to `longest`.
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
