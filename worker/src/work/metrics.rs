//! The counters of the worker's loop. All exist from the start and only grow, except the gauges.

use std::sync::Arc;

use tasksync_common::metrics::{MetricRow, Metrics, catalogue};

tasksync_common::counters! {
    /// The worker's counters, shared by all parts of one process.
    WorkMetrics, WorkSnapshot;

    /// Batches taken from the queue.
    batches;
    /// Batches that had been delivered before.
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
    /// Panics in users' work.
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

/// The metric and labels of each counter. Rows of one metric are adjacent.
const TABLE: &[MetricRow<WorkMetrics>] = &[
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
    /// Makes the process's metrics show these numbers.
    pub fn register(self: &Arc<Self>, metrics: &Metrics) {
        metrics.observe_all(self, TABLE);
    }
}
