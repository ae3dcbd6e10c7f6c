//! The catalogue of all metrics, each with name, kind, unit, labels and meaning. Instruments and the
//! reference page are made from it.

use super::buckets;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// A number that only grows; 0 at the start of the process.
    Counter,
    /// A present value.
    Gauge,
    /// The number of values in each bucket, with the buckets' upper bounds.
    Histogram(&'static [f64]),
}

impl MetricKind {
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

/// The processes that export a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricSource {
    /// Every process.
    Every,
    /// Every scheduler.
    Scheduler,
    /// Only the scheduler that leads, because the number covers all users and tenants. So sums over processes
    /// stay right.
    Leader,
    /// Every worker.
    Worker,
}

impl MetricSource {
    fn name(self) -> &'static str {
        match self {
            Self::Every => "every process",
            Self::Scheduler => "schedulers",
            Self::Leader => "the leader only",
            Self::Worker => "workers",
        }
    }
}

/// A label and its possible values. The set is closed: nothing from outside becomes a label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The label.
    pub name: &'static str,
    /// Its values; empty if they come from the program itself (version, role, operation names).
    pub values: &'static [&'static str],
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// The name in Prometheus. OTLP leaves out the suffix `_total`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit in UCUM: `s`, `By`, `{user}`, `1`.
    pub unit: &'static str,
    /// Labels.
    pub labels: &'static [Label],
    /// The processes that export it.
    pub source: MetricSource,
    /// The meaning in one sentence.
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
                source: MetricSource::$source,
                meaning: concat!($($meaning),+),
            };
        )*

        /// All metrics, in the order of the page.
        pub static ALL: &[&Spec] = &[$(&$id),*];
    };
}

use MetricKind::{Counter, Gauge, Histogram};

metrics! {
    // Freshness: what the leader observes of all users.

    /// Time since the longest-waiting user became due; 0 if no user is due.
    OLDEST_DUE_AGE = Gauge, Leader, "tasksync_oldest_due_age_seconds", "s";
    /// Age of the oldest last success among the users who are synced; for users never synced, the time since
    /// the opt-in.
    OLDEST_SUCCESS_AGE = Gauge, Leader, "tasksync_oldest_success_age_seconds", "s";
    /// Interval between two attempts of the same user: median and 99th percentile of the schedule's last
    /// sample.
    SYNC_INTERVAL_QUANTILE = Gauge, Leader, "tasksync_sync_interval_quantile_seconds", "s", "quantile": ["0.5", "0.99"];
    /// Users in the schedule, including claimed ones.
    USERS = Gauge, Leader, "tasksync_users", "{user}";
    /// Users who are due and wait.
    USERS_DUE = Gauge, Leader, "tasksync_users_due", "{user}";
    /// Users claimed by workers.
    USERS_CLAIMED = Gauge, Leader, "tasksync_users_claimed", "{user}";
    /// Users in the registry by state; disabled ones are tested at growing intervals.
    USERS_ENROLLED = Gauge, Leader, "tasksync_users_enrolled", "{user}", "state": ["enabled", "disabled"];
    /// Tenants with at least one user in the schedule.
    TENANTS = Gauge, Leader, "tasksync_tenants", "{tenant}";
    /// Share of the time of all batches that the tenant with this rank took within the last five to ten minutes,
    /// between 0 and 1; `tasksync status --top` names the tenants.
    TENANT_TIME_SHARE = Gauge, Leader, "tasksync_tenant_time_share", "1", "rank": ["1", "2", "3", "4", "5"];
    /// Mean time of a batch for each attempt of the tenant with this rank, in the order of the metric above.
    TENANT_ATTEMPT_DURATION = Gauge, Leader, "tasksync_tenant_attempt_seconds", "s", "rank": ["1", "2", "3", "4", "5"];
    /// Tenants of which at least half of the attempts failed within the last five to ten minutes; each worker
    /// reports those that fail most.
    TENANTS_FAILING = Gauge, Leader, "tasksync_tenants_failing", "{tenant}";
    /// Open alerts, counted up to 1,000.
    ALERTS = Gauge, Leader, "tasksync_alerts_open", "{alert}";
    /// Jobs that wait in the queue.
    QUEUE_READY = Gauge, Leader, "tasksync_queue_ready_jobs", "{job}", "queue": ["background", "interactive"];
    /// Jobs delivered to workers and not yet settled; missing if the queue does not report it (for RabbitMQ
    /// see its own metrics).
    QUEUE_IN_FLIGHT = Gauge, Leader, "tasksync_queue_in_flight_jobs", "{job}", "queue": ["background", "interactive"];
    /// Jobs that workers would take at once.
    QUEUE_WANTED = Gauge, Leader, "tasksync_queue_wanted_jobs", "{job}", "queue": ["background", "interactive"];
    /// Dead letters, counted once per minute.
    DEAD_LETTERS = Gauge, Leader, "tasksync_queue_dead_letters", "{job}";
    /// Time of the leader's last observation, in seconds since 1970; the numbers above are of that time, except
    /// those of the next metric.
    OBSERVED_AT = Gauge, Leader, "tasksync_observed_timestamp_seconds", "s";
    /// Time when enrolled users, open alerts, dead letters and the oldest success were last read, in seconds since
    /// 1970: once per minute.
    COUNTED_AT = Gauge, Leader, "tasksync_counted_timestamp_seconds", "s";

    // Schedulers.

    /// 1 while this process leads, otherwise 0; the sum over all schedulers should be 1.
    LEADER = Gauge, Scheduler, "tasksync_leader", "1";
    /// How often this process became the leader; the sum over all schedulers is the number of leader changes.
    LEADERSHIPS = Counter, Scheduler, "tasksync_leaderships_total", "1";
    /// Runs of the leader (one per `schedule.run_interval`) and the top-ups between them.
    DISPATCHES = Counter, Scheduler, "tasksync_dispatches_total", "1", "kind": ["run", "top_up"];
    /// Runs and top-ups that ended early because a store or the queue did not answer.
    DISPATCHES_FAILED = Counter, Scheduler, "tasksync_dispatches_failed_total", "1";
    /// Duration of runs and top-ups.
    DISPATCH_DURATION = Histogram(buckets::FAST), Scheduler, "tasksync_dispatch_duration_seconds", "s", "kind": ["run", "top_up"];
    /// Time between becoming due and being claimed, per user whose turn came. Requested syncs do not count.
    DISPATCH_DELAY = Histogram(buckets::SLOW), Scheduler, "tasksync_dispatch_delay_seconds", "s";
    /// Jobs that the queue accepted.
    JOBS_PUBLISHED = Counter, Scheduler, "tasksync_jobs_published_total", "{job}";
    /// Users in these jobs.
    USERS_DISPATCHED = Counter, Scheduler, "tasksync_users_dispatched_total", "{user}";
    /// Jobs that the queue did not accept, by reason: it is full or blocked, does not answer, or did not
    /// confirm in time; their users were released at once.
    PUBLISH_FAILURES = Counter, Scheduler, "tasksync_publish_failures_total", "{job}", "reason": ["full", "unconfirmed", "unavailable"];
    /// Claims refused because a newer leader exists.
    STALE_EPOCHS = Counter, Scheduler, "tasksync_stale_epochs_total", "1";
    /// Users whose claims expired and who were released with their stamps.
    USERS_RECLAIMED = Counter, Scheduler, "tasksync_users_reclaimed_total", "{user}";
    /// Comparisons of the registry with the schedule.
    TENANT_SEARCHES = Counter, Scheduler, "tasksync_tenant_searches_total", "1";
    /// Users found in the registry but not in the schedule.
    USERS_FOUND = Counter, Scheduler, "tasksync_users_found_total", "{user}";
    /// Users withdrawn from the schedule because their tenant is disabled or gone.
    USERS_WITHDRAWN = Counter, Scheduler, "tasksync_users_withdrawn_total", "{user}";
    /// Journal entries dropped because of their age.
    JOURNAL_PRUNED = Counter, Scheduler, "tasksync_journal_pruned_total", "{entry}";
    /// Requests to sync a user at once.
    SYNC_REQUESTS = Counter, Scheduler, "tasksync_sync_requests_total", "1", "answer": ["taken", "refused"];

    // Workers: jobs and users.

    /// Jobs taken from the queue.
    JOBS_TAKEN = Counter, Worker, "tasksync_jobs_taken_total", "{job}";
    /// Jobs that had been delivered before.
    JOBS_REDELIVERED = Counter, Worker, "tasksync_jobs_redelivered_total", "{job}";
    /// Jobs by how they were settled: done, requeued, or sent to the dead letters because they cannot be
    /// read.
    JOBS_FINISHED = Counter, Worker, "tasksync_jobs_finished_total", "{job}", "outcome": ["done", "requeued", "dead"];
    /// Jobs worked on one user at a time because they were delivered too often.
    JOBS_SERIAL = Counter, Worker, "tasksync_jobs_serial_total", "{job}";
    /// Jobs being worked on.
    JOBS_RUNNING = Gauge, Worker, "tasksync_jobs_running", "{job}";
    /// Time from a job's delivery to its settlement.
    JOB_DURATION = Histogram(buckets::SLOW), Worker, "tasksync_job_duration_seconds", "s";
    /// Users being synced; idle users end with the survey and are not counted.
    USERS_RUNNING = Gauge, Worker, "tasksync_users_running", "{user}";
    /// Users by how their attempt ended: `idle` nothing had changed, `synced`, `failed` and retried later,
    /// `throttled` the server asked for a pause, `postponed` together with their tenant, `released` before
    /// they were begun, `gone` opted out meanwhile.
    USERS_FINISHED = Counter, Worker, "tasksync_users_finished_total", "{user}", "outcome": ["idle", "synced", "failed", "throttled", "postponed", "released", "gone"];
    /// Users whom their attempt disabled (they count as failed, too).
    USERS_DISABLED = Counter, Worker, "tasksync_users_disabled_total", "{user}";
    /// Disabled users who were enabled again.
    USERS_RECOVERED = Counter, Worker, "tasksync_users_recovered_total", "{user}";
    /// Users whose sync was cut when the claim ended (they count as failed, too).
    USERS_CUT = Counter, Worker, "tasksync_users_cut_total", "{user}";
    /// Users whose sync panicked (they count as failed, too).
    PANICS = Counter, Worker, "tasksync_panics_total", "{user}";
    /// Users whose claim was gone when their job began or when they were reported.
    CLAIMS_LOST = Counter, Worker, "tasksync_claims_lost_total", "{user}";
    /// Reports to the schedule that failed for good; their users are synced again.
    REPORTS_FAILED = Counter, Worker, "tasksync_reports_failed_total", "1";
    /// Consumers that ended and were opened again.
    CONSUMERS_REOPENED = Counter, Worker, "tasksync_consumers_reopened_total", "1";
    /// Number of times a tenant's circuit opened because its server fails for all users.
    CIRCUITS_OPENED = Counter, Worker, "tasksync_circuits_opened_total", "1";
    /// Tenants whose circuit is open in this process.
    CIRCUITS_OPEN = Gauge, Worker, "tasksync_circuits_open", "{tenant}";

    // Workers: syncs.

    /// Users covered by surveys, the cheap check for changes.
    USERS_SURVEYED = Counter, Worker, "tasksync_users_surveyed_total", "{user}";
    /// Duration of the phases of a sync: `survey` per group of users, the others per user and pass.
    PHASE_DURATION = Histogram(buckets::FAST), Worker, "tasksync_phase_duration_seconds", "s", "phase": ["survey", "source_read", "mailbox_read", "plan", "apply", "commit"];
    /// Duration of a user's sync; idle ones are not counted.
    SYNC_DURATION = Histogram(buckets::SLOW), Worker, "tasksync_sync_duration_seconds", "s";
    /// Writes of syncs, by side.
    WRITES = Counter, Worker, "tasksync_writes_total", "{write}", "side": ["source", "mailbox"];
    /// Number of writes per sync, by side; idle syncs are not counted.
    WRITES_PER_SYNC = Histogram(buckets::COUNTS), Worker, "tasksync_writes_per_sync", "{write}", "side": ["source", "mailbox"];
    /// Deletions that the guard held back, by the side on which they would have happened.
    GUARD_HELD = Counter, Worker, "tasksync_guard_held_deletions_total", "{task}", "side": ["source", "mailbox"];
    /// Plans from which the guard held back deletions.
    GUARD_REFUSALS = Counter, Worker, "tasksync_guard_refusals_total", "1";
    /// Stamps that wait to be saved in the registry.
    STAMPS_WAITING = Gauge, Worker, "tasksync_stamps_waiting", "{user}";
    /// Stamps dropped because too many waited; each costs an early sync if the schedule is lost.
    STAMPS_DROPPED = Counter, Worker, "tasksync_stamps_dropped_total", "{user}";

    // Requests to the tenants' servers.

    /// Requests to the tenants' servers, by server and purpose: a survey of users, the sync of a user, or
    /// other (checks, previews).
    REQUESTS = Counter, Every, "tasksync_requests_total", "{request}", "server": ["ews", "sharepoint", "token"], "purpose": ["survey", "sync", "other"];
    /// Duration of requests until the whole answer was read, by outcome: `ok` 2xx and 3xx, `unauthorized` 401
    /// and 403, `throttled` 429 and 503, other 4xx and 5xx, or the reason why there was no answer.
    REQUEST_DURATION = Histogram(buckets::FAST), Every, "tasksync_request_duration_seconds", "s", "server": ["ews", "sharepoint", "token"], "outcome": ["ok", "unauthorized", "throttled", "client_error", "server_error", "not_connected", "timed_out", "broken", "too_large", "address_refused"];
    /// Time that requests waited because their server had as many in flight as allowed.
    THROTTLE_WAIT = Histogram(buckets::FAST), Every, "tasksync_throttle_wait_seconds", "s", "server": ["ews", "sharepoint"];
    /// Pauses that servers asked for.
    PAUSES = Counter, Every, "tasksync_throttle_pauses_total", "1", "server": ["ews", "sharepoint", "token"];
    /// Requests that were not sent because of a pause that the server asked for.
    PAUSED = Counter, Every, "tasksync_throttle_paused_requests_total", "{request}", "server": ["ews", "sharepoint", "token"];

    /// Answers that were refused because they belong to another request, or concern another mailbox, folder,
    /// list or item than the requested one. Token endpoints send no answer of that kind, so theirs is 0.
    FOREIGN_ANSWERS = Counter, Every, "tasksync_foreign_answers_total", "{answer}", "server": ["ews", "sharepoint", "token"];

    // Stores.

    /// Duration of calls to the stores; the operations are the methods of the stores' traits.
    CALL_DURATION = Histogram(buckets::FAST), Every, "tasksync_store_call_duration_seconds", "s", "store": ["registry", "schedule", "queue"], "operation": [];
    /// Calls to the stores that failed.
    CALL_FAILURES = Counter, Every, "tasksync_store_call_failures_total", "1", "store": ["registry", "schedule", "queue"], "operation": [];

    /// 1 while the broker takes no jobs because memory or disk are short, otherwise 0.
    QUEUE_BLOCKED = Gauge, Every, "tasksync_queue_blocked", "1";
    /// Jobs whose confirmation by the broker is awaited.
    QUEUE_UNCONFIRMED = Gauge, Every, "tasksync_queue_unconfirmed_jobs", "{job}";
    /// Attempts to connect to the broker, by outcome.
    QUEUE_CONNECTIONS = Counter, Every, "tasksync_queue_connections_total", "1", "outcome": ["opened", "failed"];
    /// Published jobs by outcome: confirmed, refused because the queue is full, returned because the queue
    /// does not exist, or not confirmed in time.
    QUEUE_PUBLISHED = Counter, Every, "tasksync_queue_published_total", "{job}", "outcome": ["confirmed", "refused", "returned", "unconfirmed"];
    /// Settlements that were dropped because the delivery's connection had ended; these jobs are delivered
    /// again.
    QUEUE_LATE_SETTLEMENTS = Counter, Every, "tasksync_queue_late_settlements_total", "{job}";

    // The listeners.

    /// Requests to the API with a wrong operator token, by whether they were answered at once or late. The log names
    /// the addresses.
    WRONG_TOKENS = Counter, Every, "tasksync_api_wrong_tokens_total", "{request}", "answer": ["at_once", "late"];
    /// Connections to the API or to the probes that a limit ended: an idle one was closed in favour of a new one, or a
    /// new one was refused.
    LOST_CONNECTIONS = Counter, Every, "tasksync_lost_connections_total", "{connection}", "listener": ["api", "health"], "reason": ["closed_idle", "client_limit", "total_limit"];

    // The process.

    /// Always 1; the labels are the version and role of the process.
    BUILD_INFO = Gauge, Every, "tasksync_build_info", "1", "version": [], "role": [];
    /// Batches of spans or metrics sent to the OTLP receiver; 0 without a receiver.
    EXPORTS = Counter, Every, "tasksync_telemetry_exports_total", "1", "signal": ["traces", "metrics"], "outcome": ["sent", "failed"];
    /// CPU time used, user and system.
    PROCESS_CPU = Counter, Every, "process_cpu_seconds_total", "s";
    /// Memory in use.
    PROCESS_MEMORY = Gauge, Every, "process_resident_memory_bytes", "By";
    /// Open file descriptors.
    PROCESS_FILES = Gauge, Every, "process_open_fds", "{file}";
    /// Largest number of file descriptors that the process may open.
    PROCESS_FILES_MAXIMUM = Gauge, Every, "process_max_fds", "{file}";
    /// Threads.
    PROCESS_THREADS = Gauge, Every, "process_threads", "{thread}";
}

/// Returns the metrics as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let introduction = include_str!("page.md");
    let head = "| name | type | unit | labels | exported by | meaning |\n|---|---|---|---|---|---|\n";
    let rows = ALL.iter().map(|spec| {
        let labels: Vec<String> = spec.labels.iter().map(label).collect();
        format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            spec.name,
            spec.kind.name(),
            unit(spec.unit),
            labels.join("; "),
            spec.source.name(),
            spec.meaning.trim(),
        )
    });
    [introduction.to_owned(), head.to_owned()]
        .into_iter()
        .chain(rows)
        .collect()
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
                spec.kind == MetricKind::Counter,
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
            if let MetricKind::Histogram(bounds) = spec.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", spec.name);
            }
        }
    }
}
