//! One tenant's users: the waiting ones in order, and the claimed ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::error::Failure;
use crate::model::UserId;
use crate::schedule::{History, Token, UserStatus};

/// Number of intervals kept per tenant for the percentiles.
const INTERVALS: usize = 128;

/// A worker's claim on a user, in the batch of this token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) token: Token,
    /// Whether the user was requested meanwhile. Then they are due as soon as the attempt ends.
    pub(super) requested: bool,
}

/// Users that were claimed together and are still held.
#[derive(Debug)]
pub(super) struct ClaimedBatch {
    pub(super) expires: Timestamp,
    pub(super) users: BTreeSet<UserId>,
}

#[derive(Debug)]
pub(super) struct UserEntry {
    /// The stamp. For a claimed user it is the one to which the user is released.
    pub(super) stamp: Timestamp,
    /// The stamp from which the wait counts, if a request moved `stamp` ahead of it.
    pub(super) requested: Option<Timestamp>,
    pub(super) claim: Option<Claim>,
    pub(super) last_attempt: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) last_failure: Option<Box<Failure>>,
    pub(super) history: History,
}

impl UserEntry {
    /// Moves the stamp to `ahead`, unless it is older. The wait then counts from the stamp before, at most from
    /// `due_now`, the stamp of a user who becomes due now.
    pub(super) fn move_ahead(&mut self, ahead: Timestamp, due_now: Timestamp) {
        if ahead < self.stamp {
            self.requested = Some(self.stamp.min(due_now));
            self.stamp = ahead;
        }
    }

    pub(super) fn status(&self) -> UserStatus {
        UserStatus {
            stamp: self.stamp,
            requested: self.requested,
            claimed: self.claim.is_some(),
            last_attempt: self.last_attempt,
            last_success: self.last_success,
            last_failure: self.last_failure.as_deref().cloned(),
            history: self.history,
        }
    }
}

/// The last intervals between two attempts of the same user, in seconds, in a ring buffer.
#[derive(Debug)]
pub(super) struct Intervals {
    seconds: VecDeque<u64>,
    most: usize,
}

impl Intervals {
    pub(super) fn new(most: usize) -> Self {
        Self {
            seconds: VecDeque::new(),
            most,
        }
    }

    pub(super) fn add(&mut self, seconds: u64) {
        if self.seconds.len() >= self.most {
            self.seconds.pop_front();
        }
        self.seconds.push_back(seconds);
    }

    /// Returns the nearest-rank percentiles of these ranks.
    pub(super) fn percentiles<const N: usize>(&self, percents: [usize; N]) -> [Option<u64>; N] {
        let mut sorted: Vec<u64> = self.seconds.iter().copied().collect();
        sorted.sort_unstable();
        percents.map(|percent| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied()
        })
    }
}

/// A waiting user's place. With `None` it is the point before all users of that stamp, as the bound of a
/// range.
type OrderKey = (Timestamp, Option<UserId>);

#[derive(Debug)]
pub(super) struct TenantSchedule {
    /// All users. Changed only through the methods below, which keep the orders in step.
    users: BTreeMap<UserId, UserEntry>,
    /// Waiting users, by stamp, ties by name.
    order: BTreeSet<OrderKey>,
    /// Users with a success, by the time of their last one.
    successes: BTreeSet<(Timestamp, UserId)>,
    pub(super) batches: BTreeMap<Token, ClaimedBatch>,
    pub(super) intervals: Intervals,
    /// Number of finished attempts.
    pub(super) attempts: u64,
    /// Waiting users with stamps up to this are in the number `due`. The bound moves with the time of each call,
    /// so a user is counted once per round, not once per call.
    due_cutoff: Timestamp,
    due: u64,
}

impl TenantSchedule {
    pub(super) fn new() -> Self {
        Self {
            users: BTreeMap::new(),
            order: BTreeSet::new(),
            successes: BTreeSet::new(),
            batches: BTreeMap::new(),
            intervals: Intervals::new(INTERVALS),
            attempts: 0,
            due_cutoff: Timestamp::MIN,
            due: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    pub(super) fn claimed(&self) -> u64 {
        (self.users.len() - self.order.len()) as u64
    }

    pub(super) fn entry(&self, user: &UserId) -> Option<&UserEntry> {
        self.users.get(user)
    }

    pub(super) fn users(&self) -> &BTreeMap<UserId, UserEntry> {
        &self.users
    }

    /// Returns the oldest stamp of the waiting users.
    pub(super) fn head(&self) -> Option<Timestamp> {
        self.order.first().map(|(stamp, _)| *stamp)
    }

    /// Returns the oldest stamp from which a wait counts: that of a requested user at the front, or of the first
    /// other user.
    pub(super) fn oldest_wait(&self) -> Option<Timestamp> {
        let mut oldest = None;
        for (stamp, user) in &self.order {
            let entry = user.as_ref().and_then(|user| self.users.get(user));
            let requested = entry.and_then(|entry| entry.requested);
            oldest = oldest.into_iter().chain([requested.unwrap_or(*stamp)]).min();
            if requested.is_none() {
                break;
            }
        }
        oldest
    }

    pub(super) fn oldest_success(&self) -> Option<Timestamp> {
        self.successes.first().map(|(at, _)| *at)
    }

    pub(super) fn oldest(&self, not_after: Timestamp, limit: usize) -> Vec<(UserId, Timestamp)> {
        self.order
            .iter()
            .take_while(|(stamp, _)| *stamp <= not_after)
            .take(limit)
            .filter_map(|(stamp, user)| Some((user.clone()?, *stamp)))
            .collect()
    }

    /// Returns the number of waiting users whose stamps are not after `cutoff`.
    pub(super) fn due(&mut self, cutoff: Timestamp) -> u64 {
        let after = |stamp: Timestamp| (super::plus(stamp, SignedDuration::from_nanos(1)), None);
        let (from, to) = (
            after(self.due_cutoff.min(cutoff)),
            after(self.due_cutoff.max(cutoff)),
        );
        let between = self.order.range(from..to).count() as u64;
        if cutoff > self.due_cutoff {
            self.due += between;
        } else {
            self.due -= between;
        }
        self.due_cutoff = cutoff;
        self.due
    }

    pub(super) fn add(&mut self, user: UserId, entry: UserEntry) {
        if let Some(success) = entry.last_success {
            self.successes.insert((success, user.clone()));
        }
        if entry.claim.is_none() {
            self.wait(user.clone(), entry.stamp);
        }
        self.users.insert(user, entry);
    }

    /// Removes a user from all orders.
    pub(super) fn remove(&mut self, user: &UserId) -> Option<UserEntry> {
        let entry = self.users.remove(user)?;
        if let Some(success) = entry.last_success {
            self.successes.remove(&(success, user.clone()));
        }
        if entry.claim.is_none() {
            self.unwait(user.clone(), entry.stamp);
        }
        Some(entry)
    }

    /// Changes a user's entry and updates the orders. Returns `None` for an unknown user.
    pub(super) fn change<R>(&mut self, user: &UserId, change: impl FnOnce(&mut UserEntry) -> R) -> Option<R> {
        let entry = self.users.get_mut(user)?;
        let (waited, succeeded) = (entry.claim.is_none().then_some(entry.stamp), entry.last_success);
        let answer = change(entry);
        let (waits, succeeds) = (entry.claim.is_none().then_some(entry.stamp), entry.last_success);
        if waited != waits {
            if let Some(stamp) = waited {
                self.unwait(user.clone(), stamp);
            }
            if let Some(stamp) = waits {
                self.wait(user.clone(), stamp);
            }
        }
        if succeeded != succeeds {
            if let Some(at) = succeeded {
                self.successes.remove(&(at, user.clone()));
            }
            if let Some(at) = succeeds {
                self.successes.insert((at, user.clone()));
            }
        }
        Some(answer)
    }

    fn wait(&mut self, user: UserId, stamp: Timestamp) {
        if self.order.insert((stamp, Some(user))) && stamp <= self.due_cutoff {
            self.due += 1;
        }
    }

    fn unwait(&mut self, user: UserId, stamp: Timestamp) {
        if self.order.remove(&(stamp, Some(user))) && stamp <= self.due_cutoff {
            self.due -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn waiting(second: i64) -> UserEntry {
        UserEntry {
            stamp: at(second),
            requested: None,
            claim: None,
            last_attempt: None,
            last_success: None,
            last_failure: None,
            history: History::default(),
        }
    }

    #[test]
    fn the_due_count_follows_time_and_changes_in_both_directions() {
        let mut tenant = TenantSchedule::new();
        for second in 0..100 {
            tenant.add(format!("u{second}").parse().unwrap(), waiting(second));
        }
        assert_eq!(tenant.due(at(9)), 10);
        assert_eq!(tenant.due(at(49)), 50);
        assert_eq!(tenant.due(at(19)), 20, "a clock that goes back");
        tenant.remove(&"u3".parse().unwrap());
        tenant.change(&"u4".parse().unwrap(), |entry| entry.stamp = at(500));
        tenant.change(&"u90".parse().unwrap(), |entry| entry.stamp = at(19));
        assert_eq!(tenant.due(at(19)), 19);
        assert_eq!(tenant.due(at(1000)), 99);
    }

    #[test]
    fn percentiles_are_nearest_rank_over_the_newest() {
        let mut intervals = Intervals::new(100);
        assert_eq!(intervals.percentiles([50, 99]), [None, None]);
        for seconds in 0..=100 {
            intervals.add(seconds);
        }
        assert_eq!(
            intervals.percentiles([50, 99, 100]),
            [Some(50), Some(99), Some(100)]
        );
    }
}
