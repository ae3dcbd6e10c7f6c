//! A schedule that can be switched to fail.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::schedule::Schedule;
use tasksync_common::seam::{Hook, Intercept, StoreCall};

#[derive(Default)]
struct Switch(AtomicBool);

impl Hook for Switch {
    fn before(&self, _: StoreCall) -> Result<(), Failure> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::ScheduleUnavailable,
                "made to fail",
            ));
        }
        Ok(())
    }
}

/// A schedule that fails only for callers that use it through this value.
pub(crate) struct FaultySchedule {
    store: Arc<dyn Schedule>,
    down: Arc<Switch>,
}

impl Deref for FaultySchedule {
    type Target = dyn Schedule;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl FaultySchedule {
    pub(crate) fn over(inner: Arc<dyn Schedule>) -> Arc<Self> {
        let down: Arc<Switch> = Arc::default();
        Arc::new(Self {
            store: Arc::new(Intercept::new(inner, Arc::clone(&down) as Arc<dyn Hook>)),
            down,
        })
    }

    /// Returns the schedule as a store.
    pub(crate) fn store(&self) -> Arc<dyn Schedule> {
        Arc::clone(&self.store)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.0.store(down, Ordering::SeqCst);
    }
}
