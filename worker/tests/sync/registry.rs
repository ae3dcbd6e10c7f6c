//! The SQLite registry with counters of reads and writes. It can stop saving, as a process that ends does.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserKey;
use tasksync_common::registry::{Enrolment, Registry, SqlRegistry};
use tasksync_common::seam::{Hook, Intercept, StoreCall};

struct Counts {
    states_read: AtomicU64,
    states_written: AtomicU64,
    look_ups: AtomicU64,
    /// Number of saves of states that still succeed.
    saves_left: AtomicU64,
}

impl Hook for Counts {
    fn before(&self, call: StoreCall) -> Result<(), Failure> {
        let counter = match call.operation {
            "enrolment" | "enrolments_of" | "enrolments_with_fingerprints" => &self.look_ups,
            "enrolment_with_state" | "sync_state" => &self.states_read,
            "save_sync_state" => {
                let one_less = |left: u64| left.checked_sub(1);
                let saved = self
                    .saves_left
                    .try_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
                if saved.is_err() {
                    return Err(Failure::new(
                        ErrorClass::Transient,
                        Code::RegistryUnavailable,
                        "the process ends here",
                    ));
                }
                &self.states_written
            }
            _ => return Ok(()),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) struct CountingRegistry {
    store: Arc<dyn Registry>,
    counts: Arc<Counts>,
}

impl Deref for CountingRegistry {
    type Target = dyn Registry;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl CountingRegistry {
    pub(crate) fn new(inner: SqlRegistry) -> Self {
        let counts = Arc::new(Counts {
            states_read: AtomicU64::new(0),
            states_written: AtomicU64::new(0),
            look_ups: AtomicU64::new(0),
            saves_left: AtomicU64::new(u64::MAX),
        });
        Self {
            store: Arc::new(Intercept::new(
                Arc::new(inner),
                Arc::clone(&counts) as Arc<dyn Hook>,
            )),
            counts,
        }
    }

    /// Returns the registry as the engine sees it.
    pub(crate) fn store(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.store)
    }

    /// Lets this many more saves of states succeed. This leaves the registry as a process does that ends in the middle
    /// of a pass.
    pub(crate) fn save_only(&self, saves: u64) {
        self.counts.saves_left.store(saves, Ordering::Relaxed);
    }

    /// Returns how many whole states were read and written so far.
    pub(crate) fn states(&self) -> (u64, u64) {
        (
            self.counts.states_read.load(Ordering::Relaxed),
            self.counts.states_written.load(Ordering::Relaxed),
        )
    }

    /// Returns how many calls read enrolments or fingerprints of users so far.
    pub(crate) fn look_ups(&self) -> u64 {
        self.counts.look_ups.load(Ordering::Relaxed)
    }

    /// Makes the registry forget a user's state, by a change to another mailbox and back.
    pub(crate) async fn forget_sync_state(&self, user: &UserKey) -> Result<(), Failure> {
        let Some(enrolment) = self.store.enrolment(user).await? else {
            return Ok(());
        };
        let elsewhere = Enrolment {
            mailbox: "elsewhere@elsewhere.example".parse().unwrap(),
            ..enrolment.clone()
        };
        self.store.enrol(&elsewhere).await?;
        self.store.enrol(&enrolment).await?;
        Ok(())
    }
}
