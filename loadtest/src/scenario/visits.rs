//! Records when each user was synced, as the servers see it. This does not depend on what tasksync reports about
//! itself.
//!
//! Requests for one mailbox in close succession form one *visit*. An interval is the time between the beginnings of
//! two visits. Eight bytes per mailbox and one histogram per group suffice for a million users.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::machine_clock::monotonic;

/// Longest interval that is measured exactly, in milliseconds: a day.
const LONGEST: u64 = 24 * 3600 * 1000;
/// Largest number of tenants with histograms of their own. With more tenants, only the groups have histograms.
const TENANTS_SHOWN: usize = 100;

/// A histogram of times in milliseconds, with three significant digits.
pub(crate) type Times = Histogram<u64>;

/// The figures of a group of tenants, or of one tenant.
#[derive(Debug)]
struct Tally {
    visits: AtomicU64,
    intervals: Mutex<Times>,
    /// Time from the first to the last request of visits with several requests.
    lengths: Mutex<Times>,
}

/// The result of a scan of all mailboxes, for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupWaits {
    /// Number of users.
    pub(crate) users: u64,
    /// Number of users that were never visited.
    pub(crate) never_visited: u64,
    /// Longest time since the beginning of a user's last visit, in milliseconds; since the log began if there was
    /// none.
    pub(crate) oldest_ms: u64,
}

/// Group and tenant of a mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxTenant {
    pub(crate) group: u16,
    pub(crate) tenant: u32,
}

/// The log of visits.
#[derive(Debug)]
pub(crate) struct VisitLog {
    began: Instant,
    gap_ms: u32,
    owners: Vec<MailboxTenant>,
    /// Beginning of the last visit (high half) and time of its last request (low half), in milliseconds since the log
    /// began, plus one; 0 means never.
    slots: Vec<AtomicU64>,
    groups: Vec<Tally>,
    tenants: Vec<Tally>,
    overtaking: Mutex<Times>,
    /// The earliest beginning of a last visit, found by the last scan.
    oldest: AtomicU32,
    measuring: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VisitLog {
    /// Returns a log for mailboxes that are numbered from 1 in the order of `owners`.
    ///
    /// # Errors
    /// If a histogram cannot be created.
    pub(crate) fn new(owners: Vec<MailboxTenant>, gap: Duration) -> Result<Self, String> {
        let empty = Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| error.to_string())?;
        let tally = || Tally {
            visits: AtomicU64::new(0),
            intervals: Mutex::new(empty.clone()),
            lengths: Mutex::new(empty.clone()),
        };
        let groups = owners.iter().map(|owner| usize::from(owner.group) + 1).max();
        let tenants = owners.iter().map(|owner| owner.tenant as usize + 1).max();
        let shown = tenants.filter(|tenants| *tenants <= TENANTS_SHOWN);
        Ok(Self {
            began: monotonic(),
            gap_ms: u32::try_from(gap.as_millis()).unwrap_or(u32::MAX).max(1),
            slots: owners.iter().map(|_| AtomicU64::new(0)).collect(),
            groups: (0..groups.unwrap_or(0)).map(|_| tally()).collect(),
            tenants: (0..shown.unwrap_or(0)).map(|_| tally()).collect(),
            overtaking: Mutex::new(empty.clone()),
            oldest: AtomicU32::new(0),
            measuring: AtomicBool::new(false),
            owners,
        })
    }

    fn now_ms(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX - 1)
    }

    /// Records that a request opened a mailbox.
    pub(crate) fn touch(&self, mailbox: u64) {
        self.touch_at(mailbox, self.now_ms());
    }

    fn touch_at(&self, mailbox: u64, now: u32) {
        let at = usize::try_from(mailbox).unwrap_or(0).wrapping_sub(1);
        let (Some(slot), Some(owner)) = (self.slots.get(at), self.owners.get(at)) else {
            return;
        };
        let stamp = now.saturating_add(1);
        let mut stored = slot.load(Ordering::Relaxed);
        loop {
            let (begun, last) = unpack_slot(stored);
            let fresh = last == 0 || stamp.saturating_sub(last) >= self.gap_ms;
            if !fresh && stamp <= last {
                return;
            }
            let next = if fresh {
                pack_slot(stamp, stamp)
            } else {
                pack_slot(begun, stamp)
            };
            match slot.compare_exchange_weak(stored, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if fresh => return self.count(*owner, (begun, last), stamp),
                Ok(_) => return,
                Err(other) => stored = other,
            }
        }
    }

    /// Records a visit that began at `now`. The previous one lasted from `before` to `ended`; both are 0 if there was
    /// none.
    fn count(&self, owner: MailboxTenant, (before, ended): (u32, u32), now: u32) {
        let tallies = [
            self.groups.get(usize::from(owner.group)),
            self.tenants.get(owner.tenant as usize),
        ];
        for tally in tallies.into_iter().flatten() {
            tally.visits.fetch_add(1, Ordering::Relaxed);
            if before > 0 && self.measuring.load(Ordering::Relaxed) {
                locked(&tally.intervals).saturating_record(u64::from(now - before).max(1));
                if ended > before {
                    locked(&tally.lengths).saturating_record(u64::from(ended - before));
                }
            }
        }
        if before > 0 && self.measuring.load(Ordering::Relaxed) {
            let oldest = self.oldest.load(Ordering::Relaxed);
            locked(&self.overtaking).saturating_record(u64::from(before.saturating_sub(oldest)));
        }
    }

    /// Starts or stops recording intervals. Starting discards what was recorded before.
    pub(crate) fn measure(&self, on: bool) {
        if on {
            for tally in self.groups.iter().chain(&self.tenants) {
                locked(&tally.intervals).reset();
                locked(&tally.lengths).reset();
            }
            locked(&self.overtaking).reset();
        }
        self.measuring.store(on, Ordering::Relaxed);
    }

    /// Scans every mailbox. Returns one entry for each group. A million mailboxes take about a millisecond.
    pub(crate) fn scan(&self) -> Vec<GroupWaits> {
        let now = self.now_ms().saturating_add(1);
        let mut waits = vec![GroupWaits::default(); self.groups.len()];
        let mut oldest = u32::MAX;
        for (slot, owner) in self.slots.iter().zip(&self.owners) {
            let (begun, _) = unpack_slot(slot.load(Ordering::Relaxed));
            if let Some(group) = waits.get_mut(usize::from(owner.group)) {
                group.users += 1;
                group.never_visited += u64::from(begun == 0);
                group.oldest_ms = group.oldest_ms.max(u64::from(now.saturating_sub(begun)));
            }
            oldest = oldest.min(begun);
        }
        self.oldest.store(oldest, Ordering::Relaxed);
        waits
    }

    /// Returns the number of visits of each group so far.
    pub(crate) fn visits(&self) -> Vec<u64> {
        let read = |tally: &Tally| tally.visits.load(Ordering::Relaxed);
        self.groups.iter().map(read).collect()
    }

    /// Returns the recorded intervals of each group.
    pub(crate) fn intervals(&self) -> Vec<Times> {
        self.groups
            .iter()
            .map(|tally| locked(&tally.intervals).clone())
            .collect()
    }

    /// Returns the lengths of visits by group: of those with several requests that ended while intervals were
    /// recorded.
    pub(crate) fn lengths(&self) -> Vec<Times> {
        self.groups
            .iter()
            .map(|tally| locked(&tally.lengths).clone())
            .collect()
    }

    /// Returns the recorded intervals of each tenant. It is empty if there are too many tenants.
    pub(crate) fn tenant_intervals(&self) -> Vec<Times> {
        self.tenants
            .iter()
            .map(|tally| locked(&tally.intervals).clone())
            .collect()
    }

    /// Returns how much longer than each visited user the longest-waiting user had waited.
    pub(crate) fn overtaking(&self) -> Times {
        locked(&self.overtaking).clone()
    }
}

fn unpack_slot(slot: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
    (half(slot >> 32), half(slot))
}

fn pack_slot(begun: u32, last: u32) -> u64 {
    u64::from(begun) << 32 | u64::from(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> VisitLog {
        let owner = |group, tenant| MailboxTenant { group, tenant };
        VisitLog::new(
            vec![owner(0, 0), owner(0, 0), owner(1, 1)],
            Duration::from_millis(500),
        )
        .unwrap()
    }

    #[test]
    fn requests_close_together_are_one_visit_and_intervals_are_from_beginning_to_beginning() {
        let log = log();
        log.touch_at(1, 1_000);
        log.measure(true);
        log.touch_at(1, 1_200);
        log.touch_at(1, 1_600);
        log.touch_at(1, 3_000);
        log.touch_at(1, 3_100);
        log.touch_at(3, 3_100);
        assert_eq!(log.visits(), [2, 1]);
        let intervals = log.intervals();
        assert_eq!((intervals[0].len(), intervals[0].max()), (1, 2_000));
        assert!(intervals[1].is_empty());
        assert_eq!(log.tenant_intervals().len(), 2);
        let lengths = log.lengths();
        assert_eq!((lengths[0].len(), lengths[0].max()), (1, 600));
        assert!(lengths[1].is_empty());
    }

    #[test]
    fn a_scan_finds_unvisited_users_and_the_longest_wait() {
        let log = log();
        log.touch_at(2, 0);
        let waits = log.scan();
        assert_eq!((waits[0].users, waits[0].never_visited), (2, 1));
        assert_eq!((waits[1].users, waits[1].never_visited), (1, 1));
        log.touch_at(1, 10);
        log.touch_at(3, 20);
        assert!(log.scan().iter().all(|wait| wait.never_visited == 0));
    }

    #[test]
    fn a_user_visited_before_one_that_waits_longer_overtakes() {
        let log = log();
        log.touch_at(1, 1_000);
        log.touch_at(2, 2_000);
        log.touch_at(3, 9_000);
        log.scan();
        log.measure(true);
        // The third user has waited least. The first user, who has waited longest, has waited 8 seconds longer.
        log.touch_at(3, 20_000);
        log.touch_at(1, 20_000);
        let overtaking = log.overtaking();
        assert_eq!(overtaking.len(), 2);
        assert_eq!((overtaking.min(), overtaking.max()), (0, 8_003));
    }

    #[test]
    fn a_new_measurement_discards_the_old_one_and_unknown_mailboxes_are_ignored() {
        let log = log();
        log.measure(true);
        log.touch_at(1, 0);
        log.touch_at(1, 5_000);
        log.measure(true);
        log.touch_at(0, 5_000);
        log.touch_at(99, 5_000);
        assert!(log.intervals()[0].is_empty());
        assert_eq!(log.visits(), [2, 0]);
    }
}
