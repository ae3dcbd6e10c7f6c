//! The status as the API shows it. What a silent store would have told is `null`, and `missing` says why.

use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::fleet::{CircuitUpdate, Member, Permits, Role, SettingDifference, differing_settings};
use tasksync_common::model::TenantId;
use tasksync_common::queue::QueueDepth;
use tasksync_common::schedule::Summary;

use super::views::FailureView;
use crate::parts::LeadershipStatus;
use crate::status::{StatusFacts, StatusProblem};

/// Most processes shown in the status.
const PROCESSES_SHOWN: usize = 200;

/// One queue.
#[derive(Debug, Serialize)]
struct DepthView {
    ready: u64,
    /// `None` if the broker does not report it.
    unacknowledged: Option<u64>,
    wanted: u64,
}

impl From<QueueDepth> for DepthView {
    fn from(depth: QueueDepth) -> Self {
        Self {
            ready: depth.ready,
            unacknowledged: depth.unacknowledged,
            wanted: depth.wanted,
        }
    }
}

/// All queues.
#[derive(Debug, Serialize)]
struct QueuesView {
    background: DepthView,
    interactive: DepthView,
    dead_letters: u64,
}

/// Number of tenants.
#[derive(Debug, Serialize)]
struct TenantsView {
    /// All tenants of the registry.
    registered: u64,
    /// Those that are enabled.
    enabled: u64,
    /// Those with users in the schedule; `None` if the schedule's store does not answer.
    with_users: Option<u64>,
}

/// A tenant whose servers fail for all its users.
#[derive(Debug, Serialize)]
struct CircuitView {
    tenant: String,
    failures: u32,
    /// When it failed last.
    failed_at: Option<Timestamp>,
    /// When one user probes it.
    probe_at: Option<Timestamp>,
    failure: FailureView,
}

/// What a store that does not answer leaves out.
#[derive(Debug, Serialize)]
struct MissingView {
    /// The store: `registry`, `schedule` (with `fleet`, in the same store) or `queue`.
    store: &'static str,
    /// The fields that are `null` or empty because of it.
    fields: &'static [&'static str],
    failure: FailureView,
}

/// When each store's figures were read, by the clock of the process that answers.
#[derive(Debug, Serialize)]
struct TimesView {
    registry: Timestamp,
    schedule: Timestamp,
    fleet: Timestamp,
    queue: Timestamp,
}

/// A live process.
#[derive(Debug, Serialize)]
struct ProcessView {
    name: String,
    role: Role,
    version: String,
    started_at: Timestamp,
    leads: bool,
    users_in_flight: u32,
    batches_running: u32,
    batches_at_once: u32,
    /// Time since the process last reported these figures.
    silent_seconds: u64,
    /// How far its clock is ahead of the fleet's store; `None` if it did not report that.
    clock_offset_ms: Option<i64>,
}

impl From<&Member> for ProcessView {
    fn from(member: &Member) -> Self {
        let Permits { total, free } = member.background;
        Self {
            name: member.name.clone(),
            role: member.role,
            version: member.version.clone(),
            started_at: member.started_at,
            leads: member.leads,
            users_in_flight: member.users_in_flight,
            batches_running: member.running.values().sum(),
            batches_at_once: total.max(free),
            silent_seconds: member.silent_ms / 1_000,
            clock_offset_ms: member.clock_offset_ms,
        }
    }
}

/// Freshness and load, of all users or of one tenant, and what is wrong.
#[derive(Debug, Serialize)]
pub(super) struct StatusView {
    /// `ok`, or `attention` if the operator has to act.
    result: &'static str,
    /// What is wrong, the most urgent first.
    problems: Vec<StatusProblem>,
    /// The stores that do not answer.
    missing: Vec<MissingView>,
    tenant: Option<String>,
    summary: Option<Summary>,
    tenants: Option<TenantsView>,
    enabled: Option<u64>,
    disabled: Option<u64>,
    alerts: Option<usize>,
    queues: Option<QueuesView>,
    leader: Option<LeadershipStatus>,
    /// How many live processes take jobs.
    workers: Option<usize>,
    /// The first live processes, by name.
    processes: Vec<ProcessView>,
    /// Settings in which the processes differ, with those that have not the usual value.
    differing_settings: Vec<SettingDifference>,
    /// Tenants whose servers fail for all their users; those that changed last come first.
    circuits: Vec<CircuitView>,
    as_of: TimesView,
    /// When the answer was made, by the clock of the process that answers.
    at: Timestamp,
}

impl StatusView {
    /// Returns the view. `leads_here` is the epoch under which this process leads.
    pub(super) fn new(
        tenant: Option<TenantId>,
        facts: &StatusFacts,
        problems: Vec<StatusProblem>,
        leads_here: Option<u64>,
        at: Timestamp,
    ) -> Self {
        let registry = facts.registry.value();
        let schedule = facts.schedule.value();
        let fleet = facts.fleet.value();
        let needs_operator = problems.iter().any(|problem| problem.needs_operator);
        Self {
            result: if needs_operator { "attention" } else { "ok" },
            problems,
            missing: missing(facts),
            tenant: tenant.map(|tenant| tenant.to_string()),
            summary: schedule.map(|schedule| schedule.summary.clone()),
            tenants: registry.map(|registry| TenantsView {
                registered: registry.tenants.tenants,
                enabled: registry.tenants.enabled,
                with_users: schedule.map(|schedule| schedule.summary.tenants),
            }),
            enabled: registry.map(|registry| registry.enrolled.enabled),
            disabled: registry.map(|registry| registry.enrolled.disabled),
            alerts: registry.map(|registry| registry.alerts.open),
            queues: facts.queue.value().map(|queue| QueuesView {
                background: queue.background.into(),
                interactive: queue.interactive.into(),
                dead_letters: queue.dead_letters,
            }),
            leader: schedule.map(|schedule| schedule.leader.clone()).or_else(|| {
                // This process knows that it leads even if the schedule's store does not answer.
                leads_here.map(|epoch| LeadershipStatus::Leading { epoch, holder: None })
            }),
            workers: fleet.map(crate::status::FleetFacts::workers),
            processes: fleet
                .iter()
                .flat_map(|fleet| &fleet.members)
                .take(PROCESSES_SHOWN)
                .map(ProcessView::from)
                .collect(),
            differing_settings: fleet
                .map(|fleet| differing_settings(&fleet.members))
                .unwrap_or_default(),
            circuits: fleet
                .iter()
                .flat_map(|fleet| &fleet.circuits)
                .filter_map(|circuit| circuit_view(circuit, facts.fleet.at))
                .collect(),
            as_of: TimesView {
                registry: facts.registry.at,
                schedule: facts.schedule.at,
                fleet: facts.fleet.at,
                queue: facts.queue.at,
            },
            at,
        }
    }
}

fn circuit_view(update: &CircuitUpdate, now: Timestamp) -> Option<CircuitView> {
    let circuit = update.circuit.as_ref()?;
    let span = |milliseconds: u64| {
        i64::try_from(milliseconds)
            .ok()
            .map(jiff::SignedDuration::from_millis)
    };
    Some(CircuitView {
        tenant: update.tenant.to_string(),
        failures: circuit.failures,
        failed_at: span(circuit.opened_ago_ms).and_then(|ago| now.checked_sub(ago).ok()),
        probe_at: span(circuit.left_ms).and_then(|left| now.checked_add(left).ok()),
        failure: (&circuit.failure).into(),
    })
}

fn missing(facts: &StatusFacts) -> Vec<MissingView> {
    let view = |store, fields, failure: Option<&Failure>| {
        failure.map(|failure| MissingView {
            store,
            fields,
            failure: failure.into(),
        })
    };
    [
        view(
            "registry",
            &["tenants", "enabled", "disabled", "alerts"],
            facts.registry.facts.as_ref().err(),
        ),
        view(
            "schedule",
            &["summary", "leader", "tenants.with_users"],
            facts.schedule.facts.as_ref().err(),
        ),
        view(
            "fleet",
            &["workers", "processes", "circuits"],
            facts.fleet.facts.as_ref().err(),
        ),
        view("queue", &["queues"], facts.queue.facts.as_ref().err()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
