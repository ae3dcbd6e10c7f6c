//! The scheduler's counters. All exist from the start and only grow, except the gauge `leading`.

use std::sync::Arc;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::{MetricRow, Metrics, catalogue};

tasksync_common::counters! {
    /// The scheduler's counters, shared by all parts of one process.
    DispatchMetrics, DispatchSnapshot;

    /// 1 while this process leads (gauge).
    leading;
    /// Times this process became the leader.
    leaderships;
    /// Runs of the leader, one per `run_interval`.
    runs;
    /// Looks between two runs at whether workers want more jobs.
    top_ups;
    /// Runs and top-ups that ended early because a store or the queue did not answer.
    runs_failed;
    /// Jobs that the queue took.
    jobs_published;
    /// Users in these jobs.
    users_dispatched;
    /// Jobs that the queue did not take. Their users were released at once.
    publish_failures;
    /// Of these: the queue was full or blocked.
    publish_refused;
    /// Of these: the queue did not confirm the job in time.
    publish_unconfirmed;
    /// Claims refused because a newer leader exists.
    stale_epochs;
    /// Users taken back because their claims had expired.
    users_reclaimed;
    /// Users found in the registry but not in the schedule.
    users_found;
    /// Users withdrawn from the schedule because their tenant is disabled or removed.
    users_withdrawn;
    /// Comparisons of the registry with the schedule.
    tenant_searches;
    /// Journal entries deleted because of their age.
    journal_pruned;
    /// "Sync now" requests that were accepted.
    requests;
    /// "Sync now" requests refused because the tenant made too many.
    requests_refused;
}

/// Maps counters to metrics. Rows of one metric stand together.
const TABLE: &[MetricRow<DispatchMetrics>] = &[
    (&catalogue::LEADER, &[], |m| m.leading.get()),
    (&catalogue::LEADERSHIPS, &[], |m| m.leaderships.get()),
    (&catalogue::DISPATCHES, &["run"], |m| m.runs.get()),
    (&catalogue::DISPATCHES, &["top_up"], |m| m.top_ups.get()),
    (&catalogue::DISPATCHES_FAILED, &[], |m| m.runs_failed.get()),
    (&catalogue::JOBS_PUBLISHED, &[], |m| m.jobs_published.get()),
    (&catalogue::USERS_DISPATCHED, &[], |m| m.users_dispatched.get()),
    (&catalogue::PUBLISH_FAILURES, &["full"], |m| {
        m.publish_refused.get()
    }),
    (&catalogue::PUBLISH_FAILURES, &["unconfirmed"], |m| {
        m.publish_unconfirmed.get()
    }),
    (&catalogue::PUBLISH_FAILURES, &["unavailable"], |m| {
        let refused_or_unconfirmed = m.publish_refused.get() + m.publish_unconfirmed.get();
        m.publish_failures.get().saturating_sub(refused_or_unconfirmed)
    }),
    (&catalogue::STALE_EPOCHS, &[], |m| m.stale_epochs.get()),
    (&catalogue::USERS_RECLAIMED, &[], |m| m.users_reclaimed.get()),
    (&catalogue::TENANT_SEARCHES, &[], |m| m.tenant_searches.get()),
    (&catalogue::USERS_FOUND, &[], |m| m.users_found.get()),
    (&catalogue::USERS_WITHDRAWN, &[], |m| m.users_withdrawn.get()),
    (&catalogue::JOURNAL_PRUNED, &[], |m| m.journal_pruned.get()),
    (&catalogue::SYNC_REQUESTS, &["taken"], |m| m.requests.get()),
    (&catalogue::SYNC_REQUESTS, &["refused"], |m| {
        m.requests_refused.get()
    }),
];

impl DispatchMetrics {
    /// Registers these counters with the process's metrics.
    pub fn register(self: &Arc<Self>, metrics: &Metrics) {
        metrics.observe_all(self, TABLE);
    }

    /// Counts a job that the queue did not take, by reason.
    pub(crate) fn count_unpublished(&self, failure: &Failure) {
        // The parts are counted before the total, so that a read between the two never makes a counter shrink.
        if failure.code == Code::QueueFull {
            self.publish_refused.add(1);
        } else if failure.class == ErrorClass::OutcomeUnknown {
            self.publish_unconfirmed.add(1);
        }
        self.publish_failures.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_were_not_taken_are_counted_by_reason() {
        let metrics = DispatchMetrics::default();
        for (class, code) in [
            (ErrorClass::Throttled { retry_after: None }, Code::QueueFull),
            (ErrorClass::OutcomeUnknown, Code::QueueUnavailable),
            (ErrorClass::Transient, Code::QueueUnavailable),
        ] {
            metrics.count_unpublished(&Failure::new(class, code, "made to fail"));
        }
        let counted: Vec<u64> = TABLE
            .iter()
            .filter(|(spec, _, _)| spec.name == catalogue::PUBLISH_FAILURES.name)
            .map(|(_, _, read)| read(&metrics))
            .collect();
        assert_eq!(counted, [1, 1, 1]);
    }
}
