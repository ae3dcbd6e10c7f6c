//! What is known of the installation now, store by store, and what is wrong with it.
//!
//! A store that does not answer leaves out what only it knows, and nothing else. The facts are read here; a pure
//! function judges them ([`problems`]).

mod verdict;

use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::{Actor, Code, ErrorClass, Failure};
use tasksync_common::fleet::{CircuitUpdate, Member};
use tasksync_common::model::TenantId;
use tasksync_common::queue::{QueueDepth, QueueName};
use tasksync_common::registry::{AlertFilter, EnrolmentCounts, TenantCounts};
use tasksync_common::schedule::Summary;

pub(crate) use verdict::{ALERTS_FOR_OPERATOR, StatusProblem, problems};

use crate::load::Load;
use crate::parts::{LeadershipStatus, ServiceParts};

/// Time that one store has for its part of the status.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most open circuits read.
const CIRCUITS: usize = 100;
/// Alerts read at once, and most of such pages read for the count.
const ALERTS_PAGE: u32 = 1_000;
const ALERTS_PAGES: usize = 10;

/// What the registry knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryFacts {
    pub(crate) tenants: TenantCounts,
    pub(crate) enrolled: EnrolmentCounts,
    pub(crate) alerts: AlertCounts,
    /// The oldest last success as it was last saved. Workers save their users' results every ten seconds.
    pub(crate) oldest_success: Option<Timestamp>,
}

/// Open alerts, counted up to a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AlertCounts {
    pub(crate) open: usize,
    /// Those about which the operator has to act.
    pub(crate) for_operator: usize,
    /// More are open than were counted.
    pub(crate) more: bool,
}

/// What the schedule knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduleFacts {
    pub(crate) summary: Summary,
    pub(crate) leader: LeadershipStatus,
}

/// What processes told each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FleetFacts {
    pub(crate) members: Vec<Member>,
    /// Tenants whose servers fail for all their users.
    pub(crate) circuits: Vec<CircuitUpdate>,
}

impl FleetFacts {
    /// Returns how many live processes take jobs.
    pub(crate) fn workers(&self) -> usize {
        self.members.iter().filter(|member| member.role.works()).count()
    }
}

/// What the queue knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFacts {
    pub(crate) background: QueueDepth,
    pub(crate) interactive: QueueDepth,
    pub(crate) dead_letters: u64,
}

/// One store's part: when it was read, and the facts or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreAnswer<T> {
    /// The time of reading, by this process's clock.
    pub(crate) at: Timestamp,
    pub(crate) facts: Result<T, Failure>,
}

impl<T> StoreAnswer<T> {
    /// Returns the facts, if the store answered.
    pub(crate) fn value(&self) -> Option<&T> {
        self.facts.as_ref().ok()
    }
}

/// Everything that is known now, of all tenants or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusFacts {
    pub(crate) registry: StoreAnswer<RegistryFacts>,
    pub(crate) schedule: StoreAnswer<ScheduleFacts>,
    pub(crate) fleet: StoreAnswer<FleetFacts>,
    pub(crate) queue: StoreAnswer<QueueFacts>,
}

/// Reads what every store knows now, of all tenants or of one. Takes at most [`STORE_TIMEOUT`], whatever the stores
/// do.
pub(crate) async fn read_facts(parts: &ServiceParts, tenant: Option<&TenantId>) -> StatusFacts {
    let (registry, schedule, fleet, queue) = tokio::join!(
        read(parts, Code::RegistryUnavailable, registry_facts(parts, tenant)),
        read(parts, Code::ScheduleUnavailable, schedule_facts(parts, tenant)),
        read(parts, Code::ScheduleUnavailable, fleet_facts(parts, tenant)),
        read(parts, Code::QueueUnavailable, queue_facts(parts)),
    );
    let mut facts = StatusFacts {
        registry,
        schedule,
        fleet,
        queue,
    };
    complete(&mut facts, parts.fleet.is_shared());
    facts
}

/// Adds to one store's facts what only another one knows.
fn complete(facts: &mut StatusFacts, is_shared: bool) {
    if let (Ok(schedule), Some(registry)) = (&mut facts.schedule.facts, facts.registry.facts.as_ref().ok()) {
        schedule
            .summary
            .count_success(registry.oldest_success, facts.registry.at);
    }
    if let (Ok(queue), Some(fleet), true) =
        (&mut facts.queue.facts, facts.fleet.facts.as_ref().ok(), is_shared)
    {
        // A broker knows only an upper bound of the free permits.
        let load = Load::of(&fleet.members);
        queue.background.wanted = load.background.free;
        queue.interactive.wanted = load.interactive.free;
    }
}

/// Returns which live processes take jobs; `None` if that is not known within [`STORE_TIMEOUT`].
pub(crate) async fn count_workers(parts: &ServiceParts) -> Option<usize> {
    let members = ask(Code::ScheduleUnavailable, parts.fleet.members()).await.ok()?;
    Some(Load::of(&members).workers)
}

async fn read<T>(
    parts: &ServiceParts,
    code: Code,
    call: impl Future<Output = Result<T, Failure>>,
) -> StoreAnswer<T> {
    let facts = ask(code, call).await;
    StoreAnswer {
        at: parts.clock.now(),
        facts,
    }
}

/// Returns a store's answer. `code` is that of a store which gives none within [`STORE_TIMEOUT`].
pub(crate) async fn ask<T>(code: Code, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(STORE_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| {
            let detail = format!("no answer within {} s", STORE_TIMEOUT.as_secs());
            Err(Failure::new(ErrorClass::Transient, code, detail))
        })
}

async fn registry_facts(parts: &ServiceParts, tenant: Option<&TenantId>) -> Result<RegistryFacts, Failure> {
    let registry = &parts.registry;
    Ok(RegistryFacts {
        tenants: registry.tenant_counts().await?,
        enrolled: registry.enrolment_counts(tenant).await?,
        alerts: count_alerts(parts, tenant).await?,
        oldest_success: registry.oldest_success(tenant).await?,
    })
}

async fn count_alerts(parts: &ServiceParts, tenant: Option<&TenantId>) -> Result<AlertCounts, Failure> {
    let filter = AlertFilter {
        tenant: tenant.cloned(),
        ..AlertFilter::default()
    };
    let mut counts = AlertCounts::default();
    let mut after = None;
    for _ in 0..ALERTS_PAGES {
        let page = parts
            .registry
            .find_alerts(&filter, after.as_ref(), ALERTS_PAGE)
            .await?;
        counts.open += page.alerts.len();
        counts.for_operator += page
            .alerts
            .iter()
            .filter(|alert| alert.failure.code.actor() == Actor::Operator)
            .count();
        after = page.next;
        counts.more = after.is_some();
        if !counts.more {
            break;
        }
    }
    Ok(counts)
}

async fn schedule_facts(parts: &ServiceParts, tenant: Option<&TenantId>) -> Result<ScheduleFacts, Failure> {
    Ok(ScheduleFacts {
        summary: parts.schedule.summary(tenant).await?,
        leader: parts.leadership().await?,
    })
}

async fn fleet_facts(parts: &ServiceParts, tenant: Option<&TenantId>) -> Result<FleetFacts, Failure> {
    let mut circuits = parts.fleet.circuits(CIRCUITS).await?;
    circuits.retain(|circuit| tenant.is_none_or(|tenant| circuit.tenant == *tenant));
    Ok(FleetFacts {
        members: parts.fleet.members().await?,
        circuits,
    })
}

async fn queue_facts(parts: &ServiceParts) -> Result<QueueFacts, Failure> {
    let queue = &parts.queue;
    Ok(QueueFacts {
        background: queue.depth(QueueName::Background).await?,
        interactive: queue.depth(QueueName::Interactive).await?,
        dead_letters: queue.dead_letter_count().await?,
    })
}
