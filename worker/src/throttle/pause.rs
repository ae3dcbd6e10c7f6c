//! The length of a pause after a server said that it is busy.

use std::time::Duration;

use crate::http::LONGEST_NAMED_PAUSE;

/// The shortest pause if the server names none.
pub const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause if the server names none.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Returns the pause before the next request. A pause that the server named is kept exactly, up to 24 hours.
/// If it named none or 0 (Exchange does), the pause doubles with each attempt, counted from 0, and varies by
/// `jitter_seed`, so that processes refused together do not return together.
#[must_use]
pub fn pause(named: Option<Duration>, attempt: u32, jitter_seed: u64) -> Duration {
    if let Some(named) = named.filter(|named| !named.is_zero()) {
        return named.min(LONGEST_NAMED_PAUSE);
    }
    let longest = SHORTEST_PAUSE
        .saturating_mul(2)
        .saturating_mul(2_u32.saturating_pow(attempt))
        .min(LONGEST_PAUSE);
    let half = longest / 2;
    // A random length between half and the whole, in milliseconds.
    let span = u64::try_from(half.as_millis()).unwrap_or(0);
    let jitter = mixed(jitter_seed ^ u64::from(attempt).rotate_left(32)) % (span + 1);
    half + Duration::from_millis(jitter)
}

/// Returns a hash of the seed, so that neighbouring seeds give unrelated values (the finisher of SplitMix64).
fn mixed(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_named_pause_is_obeyed_exactly_up_to_a_day(milliseconds in 1_u64..100_000_000, attempt: u32, seed: u64) {
            let named = Duration::from_millis(milliseconds);
            prop_assert_eq!(pause(Some(named), attempt, seed), named.min(LONGEST_NAMED_PAUSE));
        }

        #[test]
        fn an_unnamed_pause_has_a_floor_and_a_ceiling(attempt: u32, seed: u64) {
            let found = pause(None, attempt, seed);
            prop_assert!((SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&found), "{:?}", found);
            prop_assert_eq!(pause(Some(Duration::ZERO), attempt, seed), found);
        }

        #[test]
        fn pauses_never_shrink_with_attempts(attempt in 0_u32..40, one: u64, other: u64) {
            // The longest pause of one attempt is no longer than the shortest of the next.
            if attempt < 7 {
                prop_assert!(pause(None, attempt, one) <= pause(None, attempt + 1, other));
            } else {
                prop_assert!(pause(None, attempt, one) >= Duration::from_secs(128));
            }
        }
    }

    #[test]
    fn processes_refused_together_return_apart() {
        let times: BTreeSet<Duration> = (0..100).map(|seed| pause(None, 3, seed)).collect();
        assert!(times.len() > 90, "{}", times.len());
    }
}
