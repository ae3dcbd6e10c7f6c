//! What the scheduler counts. All counters exist from the start and only grow, except the gauge `leading`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// A growing number, or a gauge that is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `number`.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Adds the length of something.
    pub(crate) fn add_len(&self, length: usize) {
        self.add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! dispatch_metrics {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {
        /// The scheduler's counters; shared by everything in one process.
        #[derive(Debug, Default)]
        pub struct DispatchMetrics {
            $($(#[doc = $doc])+ pub $name: Counter,)*
        }

        /// The scheduler's counters at one moment.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
        pub struct DispatchSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl DispatchMetrics {
            /// The numbers now.
            #[must_use]
            pub fn snapshot(&self) -> DispatchSnapshot {
                DispatchSnapshot { $($name: self.$name.get(),)* }
            }

            /// Every counter with its name, for an exporter; the gauge is `leading`.
            #[must_use]
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

dispatch_metrics! {
    /// 1 while this process leads (gauge).
    leading;
    /// Times this process became the leader.
    leaderships;
    /// Runs of the leader, one per `run_interval`.
    runs;
    /// Looks between the runs whether workers want more.
    top_ups;
    /// Runs and top-ups that ended early because a store or the queue did not answer.
    runs_failed;
    /// Jobs the queue took.
    jobs_published;
    /// Users in these jobs.
    users_dispatched;
    /// Jobs the queue did not take; their users went back at once.
    publish_failures;
    /// Claims refused because a newer leader exists.
    stale_epochs;
    /// Users whose claims ran out and who went back.
    users_reclaimed;
    /// Users found in the registry and not in the order of work.
    users_found;
    /// Users taken out of the order because their tenant is disabled or gone.
    users_withdrawn;
    /// Comparisons of the registry with the order of work.
    tenant_searches;
    /// Journal entries dropped because of their age.
    journal_pruned;
    /// Requests to sync a user now that were taken.
    requests;
    /// Requests refused because the tenant made too many.
    requests_refused;
}
