//! Permits whose number changes while they are in use. Requests in flight are not cancelled; permits beyond a
//! smaller number are not issued again when they come back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share, and the permits beyond it that are still held because the share shrank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Balance {
    share: u32,
    /// Permits still held that are not issued again.
    debt: u32,
}

/// A number of permits that changes.
#[derive(Debug)]
pub(super) struct Allowance {
    permits: Arc<Semaphore>,
    balance: Mutex<Balance>,
    in_flight: AtomicU32,
    waiting: AtomicU32,
    /// The most requests in flight and waiting since the last [`Self::take_demand`].
    peak: AtomicU32,
    /// The recent demand. It shrinks slowly, so that a pause between two requests does not give the share
    /// away.
    recent: AtomicU32,
}

impl Allowance {
    pub(super) fn new(share: u32) -> Arc<Self> {
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(share as usize)),
            balance: Mutex::new(Balance { share, debt: 0 }),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            recent: AtomicU32::new(0),
        })
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        // Consistent after every change, so a panic elsewhere does not spoil it.
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit if one is free now.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.begin(permit))
    }

    /// Returns the next permit that becomes free, in the order of the calls. Calls `counted` once the caller
    /// counts as waiting.
    pub(super) async fn acquire(self: &Arc<Self>, counted: impl FnOnce()) -> Option<Permit> {
        let waiting = PermitWaiter::begin(self);
        counted();
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        drop(waiting);
        Some(self.begin(permit))
    }

    fn begin(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.note_peak();
        Permit {
            allowance: Arc::clone(self),
            permit: Some(permit),
        }
    }

    fn note_peak(&self) {
        let now = self
            .in_flight()
            .saturating_add(self.waiting.load(Ordering::Acquire));
        self.peak.fetch_max(now, Ordering::AcqRel);
    }

    /// Returns the number of permits held now.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Returns the number of callers that wait for a permit.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Returns the number of permits that may be held.
    pub(super) fn share(&self) -> u32 {
        self.balance().share
    }

    /// Returns the share plus the permits still held beyond it.
    pub(super) fn holds(&self) -> u32 {
        let mut balance = self.balance();
        self.settle(&mut balance);
        balance.share.saturating_add(balance.debt)
    }

    /// Forgets permits that came back without [`Permit`]'s drop, because their receiver gave up waiting in
    /// the same moment.
    fn settle(&self, balance: &mut Balance) {
        let forgotten = self.permits.forget_permits(balance.debt as usize);
        balance.debt = balance
            .debt
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
    }

    /// Sets the number of permits that may be held from now on.
    pub(super) fn set_share(&self, share: u32) {
        let mut balance = self.balance();
        self.settle(&mut balance);
        let out = balance.share.saturating_add(balance.debt);
        if share >= out {
            self.permits.add_permits((share - out) as usize);
            *balance = Balance { share, debt: 0 };
        } else {
            *balance = Balance {
                share,
                debt: out - share,
            };
            self.settle(&mut balance);
        }
    }

    /// Returns the number of permits that would recently have been held without a limit.
    pub(super) fn take_demand(&self) -> u32 {
        let now = self
            .in_flight()
            .saturating_add(self.waiting.load(Ordering::Acquire));
        let peak = self.peak.swap(now, Ordering::AcqRel).max(now);
        let before = self.recent.load(Ordering::Acquire);
        let recent = peak.max(before - before.div_ceil(4));
        self.recent.store(recent, Ordering::Release);
        recent
    }
}

/// Counts a waiting caller until it is dropped, also if the caller gives up.
struct PermitWaiter<'a>(&'a Allowance);

impl<'a> PermitWaiter<'a> {
    fn begin(allowance: &'a Allowance) -> Self {
        allowance.waiting.fetch_add(1, Ordering::AcqRel);
        allowance.note_peak();
        Self(allowance)
    }
}

impl Drop for PermitWaiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One permit, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    allowance: Arc<Allowance>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.allowance.in_flight.fetch_sub(1, Ordering::AcqRel);
        let mut balance = self.allowance.balance();
        if balance.debt > 0
            && let Some(permit) = self.permit.take()
        {
            balance.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(allowance: &Arc<Allowance>, count: u32) -> Vec<Permit> {
        (0..count).map(|_| allowance.try_acquire().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_share_grows_and_shrinks_under_what_is_in_flight() {
        let allowance = Allowance::new(4);
        let mut permits = take(&allowance, 4);
        assert!(allowance.try_acquire().is_none());
        allowance.set_share(2);
        assert_eq!(
            (allowance.share(), allowance.holds(), allowance.in_flight()),
            (2, 4, 4)
        );
        // Two permits that end are not issued again; the third is.
        permits.truncate(2);
        assert_eq!(allowance.holds(), 2);
        assert!(allowance.try_acquire().is_none());
        permits.truncate(1);
        permits.extend(take(&allowance, 1));
        assert!(allowance.try_acquire().is_none());
        // Growing again first uses up the permits held beyond the share.
        allowance.set_share(0);
        assert_eq!(allowance.holds(), 2);
        allowance.set_share(3);
        assert_eq!((allowance.share(), allowance.holds()), (3, 3));
        permits.extend(take(&allowance, 1));
        assert!(allowance.try_acquire().is_none());
        drop(permits);
        assert_eq!(take(&allowance, 3).len(), 3);
    }

    #[tokio::test]
    async fn a_waiting_caller_gets_an_added_permit() {
        let allowance = Allowance::new(0);
        let mut waiting = Box::pin(allowance.acquire(|| {}));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(allowance.waiting(), 1);
        allowance.set_share(1);
        let permit = waiting.await.unwrap();
        assert_eq!((allowance.waiting(), allowance.in_flight()), (0, 1));
        drop(permit);
        let abandoned = Box::pin(allowance.acquire(|| {}));
        drop(abandoned);
        assert_eq!(allowance.waiting(), 0);
    }

    #[test]
    fn demand_is_the_peak_and_fades() {
        let allowance = Allowance::new(8);
        drop(take(&allowance, 8));
        let demands: Vec<u32> = (0..9).map(|_| allowance.take_demand()).collect();
        assert_eq!(demands, [8, 6, 4, 3, 2, 1, 0, 0, 0]);
    }
}
