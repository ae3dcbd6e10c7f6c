//! What the worker's loop counts. All counters exist from the start and only grow, except the gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tasksync_common::metrics::{Metrics, Row, catalogue};

/// Upper bounds of the duration buckets, in milliseconds; one more bucket holds everything above.
pub const BUCKETS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 45_000];

/// A growing number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `number`.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Takes one away; for gauges.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS_MS.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.partition_point(|&bound| bound < milliseconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add_one();
        }
        self.sum_us
            .add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets: Vec<u64> = self.buckets.iter().map(Counter::get).collect();
        HistogramSnapshot {
            count: buckets.iter().sum(),
            sum_us: self.sum_us.get(),
            buckets,
        }
    }
}

/// A histogram's numbers at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HistogramSnapshot {
    /// How many durations were counted.
    pub count: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// How many fell into each bucket of [`BUCKETS_MS`], and above the last.
    pub buckets: Vec<u64>,
}

macro_rules! work_metrics {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {
        /// The worker's counters; shared by everything in one process.
        #[derive(Debug, Default)]
        pub struct WorkMetrics {
            $($(#[doc = $doc])+ pub $name: Counter,)*
            /// How long surveys of a group took.
            pub survey: Histogram,
            /// How long syncs of a user took.
            pub sync: Histogram,
        }

        /// The worker's counters at one moment.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
        pub struct WorkSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)*
            /// How long surveys of a group took.
            pub survey: HistogramSnapshot,
            /// How long syncs of a user took.
            pub sync: HistogramSnapshot,
        }

        impl WorkMetrics {
            /// The numbers now.
            #[must_use]
            pub fn snapshot(&self) -> WorkSnapshot {
                WorkSnapshot {
                    $($name: self.$name.get(),)*
                    survey: self.survey.snapshot(),
                    sync: self.sync.snapshot(),
                }
            }
        }
    };
}

work_metrics! {
    /// Batches taken from the queue.
    batches;
    /// Batches that were delivered before and came again.
    batches_redelivered;
    /// Batches whose users were all reported.
    batches_done;
    /// Batches worked on now (gauge).
    batches_running;
    /// Batches whose job could not be read: sent to the dead letters.
    batches_unreadable;
    /// Batches worked on one user at a time because they were delivered too often.
    batches_serial;
    /// Batches given back to the queue because the schedule did not answer.
    batches_requeued;
    /// Users synced now (gauge).
    users_running;
    /// Users for whom nothing had changed.
    users_idle;
    /// Users synced without a failure.
    users_synced;
    /// Users whose attempt failed and is tried again.
    users_failed;
    /// Users whose server asked for a pause.
    users_throttled;
    /// Users who were disabled by this attempt.
    users_disabled;
    /// Users who were disabled and work again.
    users_recovered;
    /// Users postponed together because their tenant cannot be synced.
    users_postponed;
    /// Users given back unstarted: the budget was used up or the process stopped.
    users_released;
    /// Users cut at the end of the claim.
    users_cut;
    /// Users who had opted out while their job was waiting.
    users_gone;
    /// Users who panicked.
    panics;
    /// Users whose claim was gone when the batch started or when they were reported.
    claims_lost;
    /// Reports to the schedule that failed for good.
    reports_failed;
    /// Consumers that ended and were opened again.
    consumers_reopened;
    /// Times a tenant's circuit opened.
    circuits_opened;
    /// Tenants whose circuit is open now (gauge).
    circuits_open;
    /// Writes at sources.
    source_writes;
    /// Writes in mailboxes.
    mailbox_writes;
}

/// Which counter is which metric; rows of one metric stand together.
const TABLE: &[Row<WorkMetrics>] = &[
    (&catalogue::JOBS_TAKEN, &[], |m| m.batches.get()),
    (&catalogue::JOBS_REDELIVERED, &[], |m| m.batches_redelivered.get()),
    (&catalogue::JOBS_FINISHED, &["done"], |m| m.batches_done.get()),
    (&catalogue::JOBS_FINISHED, &["requeued"], |m| {
        m.batches_requeued.get()
    }),
    (&catalogue::JOBS_FINISHED, &["dead"], |m| {
        m.batches_unreadable.get()
    }),
    (&catalogue::JOBS_SERIAL, &[], |m| m.batches_serial.get()),
    (&catalogue::JOBS_RUNNING, &[], |m| m.batches_running.get()),
    (&catalogue::USERS_RUNNING, &[], |m| m.users_running.get()),
    (&catalogue::USERS_FINISHED, &["idle"], |m| m.users_idle.get()),
    (&catalogue::USERS_FINISHED, &["synced"], |m| m.users_synced.get()),
    (&catalogue::USERS_FINISHED, &["failed"], |m| m.users_failed.get()),
    (&catalogue::USERS_FINISHED, &["throttled"], |m| {
        m.users_throttled.get()
    }),
    (&catalogue::USERS_FINISHED, &["postponed"], |m| {
        m.users_postponed.get()
    }),
    (&catalogue::USERS_FINISHED, &["released"], |m| {
        m.users_released.get()
    }),
    (&catalogue::USERS_FINISHED, &["gone"], |m| m.users_gone.get()),
    (&catalogue::USERS_DISABLED, &[], |m| m.users_disabled.get()),
    (&catalogue::USERS_RECOVERED, &[], |m| m.users_recovered.get()),
    (&catalogue::USERS_CUT, &[], |m| m.users_cut.get()),
    (&catalogue::PANICS, &[], |m| m.panics.get()),
    (&catalogue::CLAIMS_LOST, &[], |m| m.claims_lost.get()),
    (&catalogue::REPORTS_FAILED, &[], |m| m.reports_failed.get()),
    (&catalogue::CONSUMERS_REOPENED, &[], |m| {
        m.consumers_reopened.get()
    }),
    (&catalogue::CIRCUITS_OPENED, &[], |m| m.circuits_opened.get()),
    (&catalogue::CIRCUITS_OPEN, &[], |m| m.circuits_open.get()),
    (&catalogue::WRITES, &["source"], |m| m.source_writes.get()),
    (&catalogue::WRITES, &["mailbox"], |m| m.mailbox_writes.get()),
];

impl WorkMetrics {
    /// Lets the process's metrics show these numbers.
    pub fn register(self: &Arc<Self>, metrics: &Metrics) {
        metrics.observe_all(self, TABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::default();
        for milliseconds in [0, 5, 6, 45_000, 45_001] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count, 5);
        assert_eq!(snapshot.buckets[0], 2);
        assert_eq!(snapshot.buckets[1], 1);
        assert_eq!(snapshot.buckets[BUCKETS_MS.len() - 1], 1);
        assert_eq!(snapshot.buckets[BUCKETS_MS.len()], 1);
        assert_eq!(snapshot.sum_us, 90_012_000);
    }
}
