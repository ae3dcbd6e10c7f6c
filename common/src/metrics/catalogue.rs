//! Every metric, once: its name, kind, unit, labels and meaning. Instruments and the reference page are made from it.

use super::buckets;

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// A value now.
    Gauge,
    /// How often a value fell into each bucket; the upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Returns the kind's name in the Prometheus text format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Which process exports a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Every process.
    Every,
    /// Every scheduler.
    Scheduler,
    /// Only the scheduler that leads, because the number is everybody's: sums over processes stay right.
    Leader,
    /// Every worker.
    Worker,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Every => "every process",
            Self::Scheduler => "schedulers",
            Self::Leader => "the leader only",
            Self::Worker => "workers",
        }
    }
}

/// A label and its possible values. The set is closed: nothing from outside ever becomes a label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The label.
    pub name: &'static str,
    /// Its values; empty when the values are those of the program itself (version, operation names).
    pub values: &'static [&'static str],
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Name as Prometheus shows it. For OTLP the suffix `_total` is left out.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit as UCUM writes it: `s`, `By`, `{user}`, `1`.
    pub unit: &'static str,
    /// Labels.
    pub labels: &'static [Label],
    /// Who exports it.
    pub source: Source,
    /// What it means, one sentence.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($(
        $(#[doc = $meaning:literal])+
        $id:ident = $kind:expr, $source:ident, $name:literal, $unit:literal $(, $label:literal: [$($value:literal),* $(,)?])*;
    )*) => {
        $(
            $(#[doc = $meaning])+
            pub static $id: Spec = Spec {
                name: $name,
                kind: $kind,
                unit: $unit,
                labels: &[$(Label { name: $label, values: &[$($value),*] }),*],
                source: Source::$source,
                meaning: concat!($($meaning),+),
            };
        )*

        /// All of them, in the order of the page.
        pub static ALL: &[&Spec] = &[$(&$id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

metrics! {
    // Freshness: the leader's look at everybody.

    /// How long the longest-waiting due user has been due; 0 when nobody is due.
    OLDEST_DUE_AGE = Gauge, Leader, "tasksync_oldest_due_age_seconds", "s";
    /// Age of the oldest last success among people who are synced; of people never synced, the time since the opt-in.
    OLDEST_SUCCESS_AGE = Gauge, Leader, "tasksync_oldest_success_age_seconds", "s";
    /// Interval between two attempts of the same user, median and 99th percentile of the schedule's last sample.
    SYNC_INTERVAL_QUANTILE = Gauge, Leader, "tasksync_sync_interval_quantile_seconds", "s", "quantile": ["0.5", "0.99"];
    /// Users in the order of work, claimed ones included.
    USERS = Gauge, Leader, "tasksync_users", "{user}";
    /// Users whose turn has come and who wait.
    USERS_DUE = Gauge, Leader, "tasksync_users_due", "{user}";
    /// Users a worker has now.
    USERS_CLAIMED = Gauge, Leader, "tasksync_users_claimed", "{user}";
    /// Users in the registry by state; disabled ones are tested at growing intervals.
    USERS_ENROLLED = Gauge, Leader, "tasksync_users_enrolled", "{user}", "state": ["enabled", "disabled"];
    /// Tenants with at least one user in the order of work.
    TENANTS = Gauge, Leader, "tasksync_tenants", "{tenant}";
    /// Open alerts; counted up to 1,000.
    ALERTS = Gauge, Leader, "tasksync_alerts_open", "{alert}";
    /// Jobs that wait in the queue.
    QUEUE_READY = Gauge, Leader, "tasksync_queue_ready_jobs", "{job}", "queue": ["background", "interactive"];
    /// Jobs delivered to workers and not yet settled; missing where the queue does not tell (RabbitMQ: see its own metrics).
    QUEUE_IN_FLIGHT = Gauge, Leader, "tasksync_queue_in_flight_jobs", "{job}", "queue": ["background", "interactive"];
    /// Jobs workers would take at once.
    QUEUE_WANTED = Gauge, Leader, "tasksync_queue_wanted_jobs", "{job}", "queue": ["background", "interactive"];
    /// Dead letters; counted once a minute.
    DEAD_LETTERS = Gauge, Leader, "tasksync_queue_dead_letters", "{job}";
    /// When the leader last looked at everybody, in seconds since 1970; the numbers above are as old as this.
    OBSERVED_AT = Gauge, Leader, "tasksync_observed_timestamp_seconds", "s";

    // The scheduler.

    /// 1 while this process leads, else 0; the sum over all schedulers should be 1.
    LEADER = Gauge, Scheduler, "tasksync_leader", "1";
    /// Times this process became the leader; its sum over all schedulers counts leader changes.
    LEADERSHIPS = Counter, Scheduler, "tasksync_leaderships_total", "1";
    /// Runs of the leader (one per `schedule.run_interval`) and looks between them (top-ups).
    DISPATCHES = Counter, Scheduler, "tasksync_dispatches_total", "1", "kind": ["run", "top_up"];
    /// Runs and top-ups that ended early because a store or the queue did not answer.
    DISPATCHES_FAILED = Counter, Scheduler, "tasksync_dispatches_failed_total", "1";
    /// How long runs and top-ups took.
    DISPATCH_DURATION = Histogram(buckets::FAST), Scheduler, "tasksync_dispatch_duration_seconds", "s", "kind": ["run", "top_up"];
    /// How long users had been due when they were claimed.
    DISPATCH_DELAY = Histogram(buckets::SLOW), Scheduler, "tasksync_dispatch_delay_seconds", "s";
    /// Jobs the queue took.
    JOBS_PUBLISHED = Counter, Scheduler, "tasksync_jobs_published_total", "{job}";
    /// Users in these jobs.
    USERS_DISPATCHED = Counter, Scheduler, "tasksync_users_dispatched_total", "{user}";
    /// Jobs the queue did not take, by reason: it is full or blocked, does not answer, or did not confirm in time; their users went back at once.
    PUBLISH_FAILURES = Counter, Scheduler, "tasksync_publish_failures_total", "{job}", "reason": ["full", "unconfirmed", "unavailable"];
    /// Claims refused because a newer leader exists.
    STALE_EPOCHS = Counter, Scheduler, "tasksync_stale_epochs_total", "1";
    /// Users whose claims ran out and who went back with their place kept.
    USERS_RECLAIMED = Counter, Scheduler, "tasksync_users_reclaimed_total", "{user}";
    /// Comparisons of the registry with the order of work.
    TENANT_SEARCHES = Counter, Scheduler, "tasksync_tenant_searches_total", "1";
    /// Users found in the registry and not in the order of work.
    USERS_FOUND = Counter, Scheduler, "tasksync_users_found_total", "{user}";
    /// Users taken out of the order because their tenant is disabled or gone.
    USERS_WITHDRAWN = Counter, Scheduler, "tasksync_users_withdrawn_total", "{user}";
    /// Journal entries dropped because of their age.
    JOURNAL_PRUNED = Counter, Scheduler, "tasksync_journal_pruned_total", "{entry}";
    /// Requests to sync a user now.
    SYNC_REQUESTS = Counter, Scheduler, "tasksync_sync_requests_total", "1", "answer": ["taken", "refused"];

    // Workers: jobs and users.

    /// Jobs taken from the queue.
    JOBS_TAKEN = Counter, Worker, "tasksync_jobs_taken_total", "{job}";
    /// Jobs that were delivered before and came again.
    JOBS_REDELIVERED = Counter, Worker, "tasksync_jobs_redelivered_total", "{job}";
    /// Jobs by how they were settled: done, given back to the queue, or sent to the dead letters because they cannot be read.
    JOBS_FINISHED = Counter, Worker, "tasksync_jobs_finished_total", "{job}", "outcome": ["done", "requeued", "dead"];
    /// Jobs worked on one user at a time because they were delivered too often.
    JOBS_SERIAL = Counter, Worker, "tasksync_jobs_serial_total", "{job}";
    /// Jobs worked on now.
    JOBS_RUNNING = Gauge, Worker, "tasksync_jobs_running", "{job}";
    /// How long jobs took from delivery to settlement.
    JOB_DURATION = Histogram(buckets::SLOW), Worker, "tasksync_job_duration_seconds", "s";
    /// Users synced now; idle users end with the survey and are not among them.
    USERS_RUNNING = Gauge, Worker, "tasksync_users_running", "{user}";
    /// Users by how their attempt ended: `idle` nothing had changed, `synced`, `failed` and tried again, `throttled` the server asked for a pause, `postponed` with their tenant, `released` unstarted, `gone` opted out meanwhile.
    USERS_FINISHED = Counter, Worker, "tasksync_users_finished_total", "{user}", "outcome": ["idle", "synced", "failed", "throttled", "postponed", "released", "gone"];
    /// Users who were disabled by their attempt (they count as failed, too).
    USERS_DISABLED = Counter, Worker, "tasksync_users_disabled_total", "{user}";
    /// Users who were disabled and work again.
    USERS_RECOVERED = Counter, Worker, "tasksync_users_recovered_total", "{user}";
    /// Users cut at the end of the claim (they count as failed, too).
    USERS_CUT = Counter, Worker, "tasksync_users_cut_total", "{user}";
    /// Users whose work panicked (they count as failed, too).
    PANICS = Counter, Worker, "tasksync_panics_total", "{user}";
    /// Users whose claim was gone when their job started or when they were reported.
    CLAIMS_LOST = Counter, Worker, "tasksync_claims_lost_total", "{user}";
    /// Reports to the schedule that failed for good; the users are synced again.
    REPORTS_FAILED = Counter, Worker, "tasksync_reports_failed_total", "1";
    /// Consumers that ended and were opened again.
    CONSUMERS_REOPENED = Counter, Worker, "tasksync_consumers_reopened_total", "1";
    /// Times a tenant's circuit opened because its server fails for everybody.
    CIRCUITS_OPENED = Counter, Worker, "tasksync_circuits_opened_total", "1";
    /// Tenants whose circuit is open in this process now.
    CIRCUITS_OPEN = Gauge, Worker, "tasksync_circuits_open", "{tenant}";

    // Workers: the sync pass.

    /// Users asked about in surveys, the cheap question whether anything changed.
    USERS_SURVEYED = Counter, Worker, "tasksync_users_surveyed_total", "{user}";
    /// How long the parts of a sync took; `survey` is per group of users, the others per user and pass.
    PHASE_DURATION = Histogram(buckets::FAST), Worker, "tasksync_phase_duration_seconds", "s", "phase": ["survey", "source_read", "mailbox_read", "plan", "apply", "commit"];
    /// How long syncs of a user took, idle ones left out.
    SYNC_DURATION = Histogram(buckets::SLOW), Worker, "tasksync_sync_duration_seconds", "s";
    /// Writes of syncs by side.
    WRITES = Counter, Worker, "tasksync_writes_total", "{write}", "side": ["source", "mailbox"];
    /// Syncs by how many writes they made, by side; idle ones left out.
    WRITES_PER_SYNC = Histogram(buckets::COUNTS), Worker, "tasksync_writes_per_sync", "{write}", "side": ["source", "mailbox"];
    /// Deletions the guard held back, by the side they would have happened on.
    GUARD_HELD = Counter, Worker, "tasksync_guard_held_deletions_total", "{task}", "side": ["source", "mailbox"];
    /// Plans the guard refused in part.
    GUARD_REFUSALS = Counter, Worker, "tasksync_guard_refusals_total", "1";
    /// Order stamps that wait to be saved in the registry.
    STAMPS_WAITING = Gauge, Worker, "tasksync_stamps_waiting", "{user}";
    /// Order stamps dropped because too many waited; each costs an early sync after a loss of the order.
    STAMPS_DROPPED = Counter, Worker, "tasksync_stamps_dropped_total", "{user}";

    // Requests to the tenants' servers.

    /// Requests to the tenants' servers, by server and what they were for: the survey of users, the sync of a user, or other (checks, previews).
    REQUESTS = Counter, Every, "tasksync_requests_total", "{request}", "server": ["ews", "sharepoint", "token"], "purpose": ["survey", "sync", "other"];
    /// How long requests took until the whole answer was read, by HTTP outcome: `ok` 2xx and 3xx, `unauthorized` 401 and 403, `throttled` 429 and 503, other 4xx and 5xx, or no answer and why.
    REQUEST_DURATION = Histogram(buckets::FAST), Every, "tasksync_request_duration_seconds", "s", "server": ["ews", "sharepoint", "token"], "outcome": ["ok", "unauthorized", "throttled", "client_error", "server_error", "not_connected", "timed_out", "broken", "too_large", "address_refused"];
    /// How long requests waited for a place because the server had as many in flight as allowed.
    THROTTLE_WAIT = Histogram(buckets::FAST), Every, "tasksync_throttle_wait_seconds", "s", "server": ["ews", "sharepoint"];
    /// Pauses that servers asked for.
    PAUSES = Counter, Every, "tasksync_throttle_pauses_total", "1", "server": ["ews", "sharepoint"];
    /// Requests that were not sent because the server wants a pause.
    PAUSED = Counter, Every, "tasksync_throttle_paused_requests_total", "{request}", "server": ["ews", "sharepoint"];

    /// Answers that were refused because they belong to another request, or are about another mailbox, folder, list or item than the one asked for.
    FOREIGN_ANSWERS = Counter, Every, "tasksync_foreign_answers_total", "{answer}", "server": ["ews", "sharepoint"];

    // Stores.

    /// How long calls of the stores took; the operations are the methods of their seams.
    CALL_DURATION = Histogram(buckets::FAST), Every, "tasksync_store_call_duration_seconds", "s", "store": ["registry", "schedule", "queue"], "operation": [];
    /// Calls of the stores that failed.
    CALL_FAILURES = Counter, Every, "tasksync_store_call_failures_total", "1", "store": ["registry", "schedule", "queue"], "operation": [];

    /// 1 while the broker takes no jobs because it runs out of memory or disk, else 0.
    QUEUE_BLOCKED = Gauge, Every, "tasksync_queue_blocked", "1";
    /// Jobs handed to the broker whose confirmation is awaited.
    QUEUE_UNCONFIRMED = Gauge, Every, "tasksync_queue_unconfirmed_jobs", "{job}";
    /// Connections to the broker, by whether they could be opened.
    QUEUE_CONNECTIONS = Counter, Every, "tasksync_queue_connections_total", "1", "outcome": ["opened", "failed"];
    /// Jobs by what the broker did with them: confirmed, refused because the queue is full, returned because there is no such queue, not confirmed in time.
    QUEUE_PUBLISHED = Counter, Every, "tasksync_queue_published_total", "{job}", "outcome": ["confirmed", "refused", "returned", "unconfirmed"];
    /// Settlements dropped because the connection the job came over had ended; those jobs are delivered again.
    QUEUE_LATE_SETTLEMENTS = Counter, Every, "tasksync_queue_late_settlements_total", "{job}";

    // The process.

    /// 1, with the version and role of the process.
    BUILD_INFO = Gauge, Every, "tasksync_build_info", "1", "version": [], "role": [];
    /// Batches of spans or metrics sent to the OTLP receiver; stays 0 without one.
    EXPORTS = Counter, Every, "tasksync_telemetry_exports_total", "1", "signal": ["traces", "metrics"], "outcome": ["sent", "failed"];
    /// CPU time used, user and system.
    PROCESS_CPU = Counter, Every, "process_cpu_seconds_total", "s";
    /// Memory in use.
    PROCESS_MEMORY = Gauge, Every, "process_resident_memory_bytes", "By";
    /// Open file descriptors.
    PROCESS_FILES = Gauge, Every, "process_open_fds", "{file}";
    /// File descriptors the process may open.
    PROCESS_FILES_MAXIMUM = Gauge, Every, "process_max_fds", "{file}";
    /// Threads.
    PROCESS_THREADS = Gauge, Every, "process_threads", "{thread}";
}

/// Returns the metrics as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(include_str!("page.md"));
    page.push_str("| name | type | unit | labels | exported by | meaning |\n|---|---|---|---|---|---|\n");
    for spec in ALL {
        let labels: Vec<String> = spec.labels.iter().map(label).collect();
        page.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            spec.name,
            spec.kind.name(),
            unit(spec.unit),
            labels.join("; "),
            spec.source.name(),
            spec.meaning.trim(),
        ));
    }
    page
}

fn label(label: &Label) -> String {
    if label.values.is_empty() {
        format!("`{}`", label.name)
    } else {
        format!("`{}`: {}", label.name, label.values.join(", "))
    }
}

fn unit(unit: &str) -> &str {
    match unit {
        "s" => "seconds",
        "By" => "bytes",
        "1" => "",
        other => other.trim_matches(['{', '}']),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names = BTreeSet::new();
        for spec in ALL {
            let name = spec.name;
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.starts_with("tasksync_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                spec.kind == Kind::Counter,
                "{name}: counters and only they end with _total"
            );
            let stem = name.trim_end_matches("_total");
            assert!(spec.unit != "s" || stem.ends_with("_seconds"), "{name}");
            assert!(spec.unit != "By" || stem.ends_with("_bytes"), "{name}");
            assert!(spec.meaning.trim().ends_with('.'), "{name}");
            for label in spec.labels {
                assert!(
                    !matches!(label.name, "user" | "tenant" | "mailbox" | "host" | "le"),
                    "{name}: {}",
                    label.name
                );
            }
        }
    }

    #[test]
    fn buckets_grow() {
        for spec in ALL {
            if let Kind::Histogram(bounds) = spec.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", spec.name);
            }
        }
    }
}
