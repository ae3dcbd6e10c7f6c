//! Makes idle users of one tenant come due together, so that one job, one request to Exchange and one reading
//! of the feed serve many of them. Pure.
//!
//! People opt in one by one, so their turns are scattered over the time between two syncs. Among ten thousand
//! tenants hardly two users of one would be due within the same second, and every idle user would cost a job
//! and a request instead of a hundredth and a tenth of them. But between the shortest and the longest time
//! between two syncs, the exact time does not matter for an idle user. So each tenant has *gathering times*:
//! in the longest time between two syncs there are as many of them as the tenant's users fill batches. An
//! idle user is due at the last gathering time before their own time. No user waits longer because of it, the
//! schedule stays ordered by stamps, and users with changes are not moved.
//!
//! If no gathering time lies within the allowed range, a user whose wait has grown to the longest is due
//! after the shortest instead. After a few such turns a gathering time lies in the range.

use std::time::Duration;

use jiff::Timestamp;

use super::postpone::{SyncPace, hash};
use crate::model::TenantId;

/// The size of a tenant and of its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Number of the tenant's users in the schedule.
    pub users: u64,
    /// Largest number of users of one job.
    pub users_per_batch: usize,
}

/// Returns after which time an idle user is due who would be due `due_after` from `now`: never later than
/// that, and never before the minimum.
#[must_use]
pub fn gather(
    pace: SyncPace,
    tenant: &TenantId,
    size: Size,
    now: Timestamp,
    due_after: Duration,
) -> Duration {
    if due_after <= pace.minimum || due_after > pace.maximum {
        return due_after;
    }
    let per_batch = u64::try_from(size.users_per_batch.max(1)).unwrap_or(u64::MAX);
    let period =
        micros(pace.maximum).saturating_mul(i128::from(per_batch)) / i128::from(size.users.max(per_batch));
    if period == 0 {
        return due_after;
    }
    let phase = i128::from(hash(tenant.as_str().bytes())).rem_euclid(period);
    let now = i128::from(now.as_microsecond());
    let due_at = now + micros(due_after);
    let last = due_at - (due_at - phase).rem_euclid(period);
    match u64::try_from(last - now).map(Duration::from_micros) {
        Ok(after) if after >= pace.minimum => after,
        Ok(_) | Err(_) if due_after == pace.maximum => pace.minimum,
        Ok(_) | Err(_) => due_after,
    }
}

fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const PACE: SyncPace = SyncPace {
        minimum: Duration::from_mins(5),
        maximum: Duration::from_mins(12),
    };

    fn tenant(number: u32) -> TenantId {
        format!("tenant-{number}").parse().unwrap()
    }

    fn size(users: u64) -> Size {
        Size {
            users,
            users_per_batch: 100,
        }
    }

    /// Returns the turns of a user who is always idle and whose sync is `late` after being due.
    fn turns(users: u64, start: Timestamp, late: Duration, count: usize) -> Vec<Timestamp> {
        let mut now = start;
        let mut turns = Vec::new();
        for _ in 0..count {
            let due = now + gather(PACE, &tenant(1), size(users), now, PACE.maximum);
            turns.push(due);
            now = due + late;
        }
        turns
    }

    proptest! {
        #[test]
        fn no_user_waits_longer_or_comes_before_the_minimum(
            users in 0_u64..5_000_000,
            now in 0_i64..4_000_000_000_000_000,
            share in 0_u32..=1_000,
            number in 0_u32..1_000,
        ) {
            let due_after = PACE.minimum + PACE.maximum.saturating_sub(PACE.minimum) * share / 1_000;
            let now = Timestamp::from_microsecond(now).unwrap();
            let due = gather(PACE, &tenant(number), size(users), now, due_after);
            prop_assert!(due >= PACE.minimum && due <= due_after, "{due:?} for {due_after:?}");
        }

        #[test]
        fn below_the_maximum_a_user_who_is_idle_for_longer_is_not_due_earlier(
            users in 1_u64..100_000,
            now in 0_i64..4_000_000_000_000_000,
            one in 300_u64..720,
            other in 300_u64..720,
        ) {
            let now = Timestamp::from_microsecond(now).unwrap();
            let due = |seconds| gather(PACE, &tenant(1), size(users), now, Duration::from_secs(seconds));
            prop_assert!(one > other || due(one) <= due(other) || due(one) == Duration::from_secs(one));
        }

        #[test]
        fn the_idle_users_of_a_small_tenant_meet_whenever_they_began(
            one in 0_i64..4_000_000_000,
            other in 0_i64..4_000_000_000,
            late in 0_u64..60,
        ) {
            let from = |start| {
                let start = Timestamp::from_microsecond(start).unwrap();
                turns(40, start, Duration::from_secs(late), 400)
            };
            let (one, other) = (from(one), from(other));
            let after = one[20].max(other[20]);
            let met = one.iter().filter(|turn| **turn > after && other.contains(turn)).count();
            let later = one.iter().filter(|turn| **turn > after && **turn <= other[399]).count();
            prop_assert_eq!(met, later, "they meet at every turn");
        }
    }

    #[test]
    fn a_large_tenant_gathers_in_batches_and_not_all_at_once() {
        let users = 24_000_u64;
        let start = Timestamp::from_second(1_795_000_000).unwrap();
        let mut due = std::collections::BTreeMap::<Timestamp, u32>::new();
        for user in 0..users {
            let now = start + MINUTE * 12 * u32::try_from(user).unwrap() / 24_000;
            let after = gather(PACE, &tenant(7), size(users), now, PACE.maximum);
            *due.entry(now + after).or_default() += 1;
        }
        assert!(due.len() >= 239, "{} gathering times", due.len());
        assert!(
            due.values().all(|users| *users <= 101),
            "{:?}",
            due.values().max()
        );
    }

    #[test]
    fn users_with_changes_or_without_room_are_not_moved() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let alone = |pace, due| gather(pace, &tenant(1), size(40), now, due);
        assert_eq!(alone(PACE, PACE.minimum), PACE.minimum);
        assert_eq!(alone(PACE, MINUTE * 60), MINUTE * 60);
        let fixed = SyncPace {
            minimum: MINUTE,
            maximum: MINUTE,
        };
        assert_eq!(alone(fixed, MINUTE), MINUTE);
    }
}
