//! Room in memory for large answers. Tenants share it fairly: a tenant whose servers send much leaves room
//! for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Room for all large answers of the process, in KiB.
pub(super) const ANSWER_MEMORY_KIB: u32 = 192 * 1024;

/// The room for large answers. Clones share it.
#[derive(Clone, Default)]
pub(super) struct AnswerMemory(Arc<AnswerMemoryInner>);

#[derive(Default)]
struct AnswerMemoryInner {
    state: Mutex<MemoryUse>,
    released: Notify,
}

#[derive(Default)]
struct MemoryUse {
    taken: u32,
    /// The payers that hold room or wait for some.
    payers: HashMap<Arc<str>, Payer>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Payer {
    holds: u32,
    waits: u32,
}

impl MemoryUse {
    /// Returns whether `payer` may take this much now. Every payer may have one place. For more, an equal
    /// share must remain for each other payer that holds room or waits, and for one newcomer.
    fn allows(&self, payer: &str, kib: u32) -> bool {
        if kib > ANSWER_MEMORY_KIB - self.taken {
            return false;
        }
        let holds = self.payers.get(payer).map_or(0, |payer| payer.holds);
        let others = self.payers.keys().filter(|other| &***other != payer).count();
        let share = ANSWER_MEMORY_KIB / u32::try_from(others + 2).unwrap_or(u32::MAX);
        holds == 0 || holds + kib <= share
    }

    fn change(&mut self, payer: &Arc<str>, change: impl FnOnce(&mut Payer)) {
        let entry = self.payers.entry(Arc::clone(payer)).or_default();
        change(entry);
        if *entry == Payer::default() {
            self.payers.remove(payer);
        }
    }
}

impl AnswerMemory {
    fn state(&self) -> MutexGuard<'_, MemoryUse> {
        // Consistent after every change, so a panic elsewhere does not spoil it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `payer` may take this much room, at most all of it, and returns the place. Callers limit
    /// the wait.
    pub(super) async fn reserve(&self, payer: &Arc<str>, kib: u32) -> Reservation {
        let kib = kib.min(ANSWER_MEMORY_KIB);
        let waiting = ReservationWaiter::new(self, payer);
        loop {
            let given_back = self.0.released.notified();
            tokio::pin!(given_back);
            // From here on no notification is missed.
            given_back.as_mut().enable();
            {
                let mut state = self.state();
                if state.allows(payer, kib) {
                    state.taken += kib;
                    state.change(payer, |payer| payer.holds += kib);
                    break;
                }
            }
            given_back.await;
        }
        drop(waiting);
        Reservation {
            memory: self.clone(),
            payer: Arc::clone(payer),
            kib,
        }
    }

    /// Returns the room that is not taken, in KiB.
    #[cfg(test)]
    pub(super) fn free_kib(&self) -> u32 {
        ANSWER_MEMORY_KIB - self.state().taken
    }
}

/// Counts a payer as waiting until it is dropped, also if the caller gives up.
struct ReservationWaiter<'a> {
    memory: &'a AnswerMemory,
    payer: &'a Arc<str>,
}

impl<'a> ReservationWaiter<'a> {
    fn new(memory: &'a AnswerMemory, payer: &'a Arc<str>) -> Self {
        memory.state().change(payer, |payer| payer.waits += 1);
        Self { memory, payer }
    }
}

impl Drop for ReservationWaiter<'_> {
    fn drop(&mut self) {
        self.memory
            .state()
            .change(self.payer, |payer| payer.waits = payer.waits.saturating_sub(1));
        self.memory.0.released.notify_waiters();
    }
}

/// The room of one answer, given back when dropped.
pub(super) struct Reservation {
    memory: AnswerMemory,
    payer: Arc<str>,
    kib: u32,
}

impl Reservation {
    /// Gives back the room beyond `kib`.
    pub(super) fn shrink_to(&mut self, kib: u32) {
        let unused = self.kib.saturating_sub(kib);
        self.kib -= unused;
        {
            let mut state = self.memory.state();
            state.taken = state.taken.saturating_sub(unused);
            state.change(&self.payer, |payer| {
                payer.holds = payer.holds.saturating_sub(unused);
            });
        }
        self.memory.0.released.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use tasksync_common::tasks::spawn;

    use super::*;

    const ANSWER: u32 = 16 * 1024;

    fn payer(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn a_tenant_that_takes_much_leaves_room_for_others() {
        let memory = AnswerMemory::default();
        let reserve_now = |name: &str| memory.reserve(&payer(name), ANSWER).now_or_never();
        let mut hostile: Vec<Reservation> = std::iter::from_fn(|| reserve_now("hostile")).collect();
        assert_eq!(hostile.len(), 6, "half of it, while no other tenant waits");
        let mut others = Vec::new();
        for number in 0..6 {
            others.push(reserve_now(&format!("tenant {number}")).unwrap());
        }
        assert_eq!((memory.free_kib(), reserve_now("one more").is_none()), (0, true));
        // Room that is given back goes to a payer that has none, not to one that has much.
        let waiting = spawn({
            let memory = memory.clone();
            async move { memory.reserve(&payer("one more"), ANSWER).await }
        });
        let again = spawn({
            let memory = memory.clone();
            async move { memory.reserve(&payer("hostile"), ANSWER).await }
        });
        tokio::task::yield_now().await;
        hostile.pop();
        let reservation = tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap()
            .unwrap();
        assert!(!again.is_finished());
        again.abort();
        again.await.map(drop).unwrap_err();
        drop((hostile, others, reservation));
        assert_eq!(memory.free_kib(), ANSWER_MEMORY_KIB);
        assert!(memory.state().payers.is_empty());
    }

    #[tokio::test]
    async fn each_tenant_has_one_place_as_long_as_there_is_room() {
        let memory = AnswerMemory::default();
        let reserve_now = |number: u32| {
            let payer = payer(&format!("tenant {number}"));
            memory.reserve(&payer, ANSWER).now_or_never()
        };
        let reservations: Vec<Reservation> = (0..ANSWER_MEMORY_KIB / ANSWER).map_while(reserve_now).collect();
        assert_eq!((reservations.len(), memory.free_kib()), (12, 0));
    }

    #[tokio::test]
    async fn room_that_is_given_back_goes_to_a_waiting_tenant_that_has_none() {
        let memory = AnswerMemory::default();
        let mut reservations = Vec::new();
        for (name, count) in [("a", 6), ("b", 2), ("c", 2), ("d", 1), ("e", 1)] {
            for _ in 0..count {
                reservations.push(memory.reserve(&payer(name), ANSWER).now_or_never().unwrap());
            }
        }
        assert_eq!(memory.free_kib(), 0);
        let (e, newcomer) = (payer("e"), payer("newcomer"));
        let mut second = std::pin::pin!(memory.reserve(&e, ANSWER));
        assert!(second.as_mut().now_or_never().is_none());
        let mut first = std::pin::pin!(memory.reserve(&newcomer, ANSWER));
        assert!(first.as_mut().now_or_never().is_none());
        reservations.remove(0);
        assert!(
            second.now_or_never().is_none(),
            "its share is one place while six want some"
        );
        assert!(first.now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_answer_larger_than_all_room_comes_alone() {
        let memory = AnswerMemory::default();
        let reservation = memory.reserve(&payer("a"), u32::MAX).await;
        assert_eq!(memory.free_kib(), 0);
        drop(reservation);
        assert_eq!(memory.free_kib(), ANSWER_MEMORY_KIB);
    }
}
