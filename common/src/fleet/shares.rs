//! Divides a server's limit among processes.

/// Length of a turn, in milliseconds. If there are more processes than allowed requests, they take turns. A
/// turn is long enough for one process to let go and report it, and for another to ask again.
pub const TURN_MS: u64 = 10_000;

/// Divides `limit` among processes by their demands (in the order of their names) as evenly as possible. No
/// process gets more than its demand, and what one does not need goes to the others. The sum never exceeds
/// the limit. If at most `limit` demands are above 0, each of these processes gets at least 1. If there are
/// more, `turn` selects whose turn it is, and over the turns each process gets one.
#[must_use]
pub fn shares(limit: u32, demands: &[u32], turn: u64) -> Vec<u32> {
    let mut given = vec![0_u32; demands.len()];
    let mut open: Vec<usize> = (0..demands.len())
        .filter(|&index| demands.get(index).is_some_and(|&demand| demand > 0))
        .collect();
    let wanting = u64::try_from(open.len()).unwrap_or(u64::MAX);
    if wanting > u64::from(limit) {
        let first = turn.wrapping_mul(u64::from(limit)) % wanting.max(1);
        for offset in 0..u64::from(limit) {
            let position = usize::try_from((first + offset) % wanting).unwrap_or(0);
            if let Some(share) = open.get(position).and_then(|&index| given.get_mut(index)) {
                *share = 1;
            }
        }
        return given;
    }
    // Level by level: a process that needs at most an even part gets its demand, and the rest goes to the
    // others.
    let mut left = limit;
    while !open.is_empty() {
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let even = left / count;
        let before = open.len();
        open.retain(|&index| {
            let demand = demands.get(index).copied().unwrap_or(0);
            if demand > even {
                return true;
            }
            if let Some(share) = given.get_mut(index) {
                *share = demand;
            }
            left -= demand;
            false
        });
        if open.len() == before {
            let over = left % count;
            for (number, index) in (0_u32..).zip(&open) {
                if let Some(share) = given.get_mut(*index) {
                    *share = even + u32::from(number < over);
                }
            }
            break;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sum_is_the_limit_or_the_demand_and_no_share_exceeds_its_demand(
            limit in 1_u32..60,
            demands in prop::collection::vec(0_u32..40, 0..30),
            turn: u64,
        ) {
            let given = shares(limit, &demands, turn);
            prop_assert_eq!(given.len(), demands.len());
            let sum: u32 = given.iter().sum();
            prop_assert_eq!(sum, limit.min(demands.iter().sum()));
            for (share, demand) in given.iter().zip(&demands) {
                prop_assert!(share <= demand);
            }
            let wanting = demands.iter().filter(|&&demand| demand > 0).count();
            if wanting <= limit as usize {
                prop_assert!(given.iter().zip(&demands).all(|(share, demand)| *demand == 0 || *share > 0));
                // As even as possible: a process that got less than it wanted has at most one less than any
                // other.
                let most = given.iter().max().copied().unwrap_or(0);
                for (share, demand) in given.iter().zip(&demands) {
                    prop_assert!(share == demand || share + 1 >= most, "{:?} of {:?}", given, demands);
                }
            }
        }

        #[test]
        fn with_more_processes_than_requests_each_has_a_turn(limit in 1_u32..10, more in 1_usize..40, start in 0_u64..1_000_000) {
            let demands = vec![5; limit as usize + more];
            let turns = demands.len() as u64;
            let mut had = vec![0_u32; demands.len()];
            for turn in start..start + turns {
                for (had, share) in had.iter_mut().zip(shares(limit, &demands, turn)) {
                    *had += share;
                }
            }
            prop_assert!(had.iter().all(|turns| *turns == limit), "{:?}", had);
        }
    }

    #[test]
    fn what_one_does_not_need_the_others_get() {
        assert_eq!(shares(25, &[40, 40], 0), [13, 12]);
        assert_eq!(shares(25, &[2, 40, 40], 9), [2, 12, 11]);
        assert_eq!(shares(25, &[0, 3], 0), [0, 3]);
        assert_eq!(shares(2, &[9, 9, 9], 0), [1, 1, 0]);
        assert_eq!(shares(2, &[9, 9, 9], 1), [1, 0, 1]);
        assert!(shares(0, &[1], 7).iter().all(|share| *share == 0));
    }
}
