//! Circuits: a tenant whose server fails for all users has its users postponed together, and one probe at a
//! time is sent.
//!
//! Every process decides by itself and at once. It reports its decisions with the next exchange
//! ([`tasksync_common::fleet`]), and the store gives each a version. If two processes change the same
//! version, one change is accepted and the other process adopts it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{ErrorClass, Evidence, Failure, Scope, Stops};
use tasksync_common::fleet::{CircuitReport, FleetAnswer, FleetReport, MAXIMUM_CHANGES, OpenCircuit};
use tasksync_common::model::{TenantId, UserId};
use tokio::time::Instant;

/// The longest pause of a circuit.
const LONGEST: Duration = Duration::from_hours(1);

/// Time given to a probe before another may be sent.
pub(super) const PROBE: Duration = Duration::from_mins(1);

/// Shortest time between two checks of a tenant's open alerts after successes.
const ALERTS_CHECKED_EVERY: Duration = Duration::from_hours(1);

/// Tenants remembered in each map. Beyond this number alert checks, streaks and versions are forgotten, and
/// changes of further circuits are not reported.
const MOST_TENANTS: usize = 100_000;

/// Number of different users who must fail in a row, without a success between them, before the failure counts
/// as the server's. Their failures may differ: a server in trouble fails in more than one way.
const SEVERAL: usize = 3;

/// Users of one tenant who failed in a row with codes that the evidence widens to the same scope.
#[derive(Debug)]
struct Streak {
    scope: Scope,
    /// The first of them, at most [`SEVERAL`].
    users: Vec<UserId>,
}

/// What a batch may do for its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permission {
    /// Sync all users.
    Closed,
    /// Sync one user first; the others once that one was reached.
    Probe,
    /// Sync no user: postpone all by this pause, because of this failure.
    Open(Duration, Failure),
}

/// Returns the tenant's failure as it is reported to its other users: without the detail, which names the
/// user who met it. The tenant's alert has the detail.
pub(super) fn without_detail(failure: &Failure) -> Failure {
    Failure {
        detail: "no user of the tenant can be synced; the tenant's alert has the details".to_owned(),
        ..failure.clone()
    }
}

/// The effect of a tenant's failure on its circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CircuitOpening {
    /// The pause by which all users of the tenant are postponed.
    pub(super) pause: Duration,
    /// Whether the circuit was closed before.
    pub(super) first: bool,
    /// Whether to raise an alert: at once if a person must act; after the first failed probe if the outage
    /// may pass by itself.
    pub(super) alert: bool,
}

#[derive(Debug)]
struct TenantCircuit {
    failure: Failure,
    failures: u32,
    opened_at: Instant,
    /// No attempt is made before this time.
    until: Instant,
    /// A probe is running and may take until this time.
    probe_until: Option<Instant>,
}

impl TenantCircuit {
    /// Returns the pause for users who come now. A running probe may succeed in a moment, so it postpones
    /// them by at most `step`.
    fn left(&self, step: Duration, now: Instant) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(now);
        left(self.until).max(self.probe_until.map_or(Duration::ZERO, left).min(step))
    }
}

#[derive(Debug, Default)]
struct TenantCircuits {
    open: HashMap<TenantId, TenantCircuit>,
    alerts_checked: HashMap<TenantId, Instant>,
    streaks: HashMap<TenantId, Streak>,
    /// The fleet's versions of circuits.
    versions: HashMap<TenantId, u64>,
    /// Tenants whose circuit changed here and was not reported yet.
    unreported: BTreeSet<TenantId>,
}

impl TenantCircuits {
    fn mark_unreported(&mut self, tenant: &TenantId) {
        if self.unreported.len() < MOST_TENANTS {
            self.unreported.insert(tenant.clone());
        }
    }
}

/// All tenants' circuits, as this process knows them.
#[derive(Debug)]
pub(super) struct Circuits {
    /// The pause after the first failure. Each failed probe adds as much again.
    step: Duration,
    tenants: Mutex<TenantCircuits>,
}

impl Circuits {
    /// Returns circuits that are all closed. `step` is the shortest time between two syncs of a user: a
    /// tenant is not tried more often than a user would be.
    pub(super) fn new(step: Duration) -> Self {
        Self {
            step,
            tenants: Mutex::default(),
        }
    }

    fn tenants(&self) -> MutexGuard<'_, TenantCircuits> {
        // The maps are consistent after every change, so a panic elsewhere does not spoil them.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a batch may do. An interactive batch (`urgent`) is always tried, with one user first.
    pub(super) fn ask(&self, tenant: &TenantId, urgent: bool, now: Instant) -> Permission {
        let mut tenants = self.tenants();
        let Some(circuit) = tenants.open.get_mut(tenant) else {
            return Permission::Closed;
        };
        if urgent {
            return Permission::Probe;
        }
        let left = circuit.left(self.step, now);
        if !left.is_zero() {
            return Permission::Open(left, circuit.failure.clone());
        }
        circuit.probe_until = Some(now + PROBE);
        Permission::Probe
    }

    /// Returns the user's failure with the scope that the failures of other users give it: once [`SEVERAL`]
    /// users in a row failed with codes that may be the server's, it is the server's.
    pub(super) fn with_evidence_of_others(
        &self,
        tenant: &TenantId,
        user: &UserId,
        failure: Failure,
    ) -> Failure {
        let several = failure.clone().on_evidence(Evidence::SeveralPeople);
        if failure.stops() != Stops::Person || several.scope == failure.scope {
            return failure;
        }
        let mut tenants = self.tenants();
        if tenants.streaks.len() >= MOST_TENANTS {
            tenants.streaks.clear();
        }
        let streak = tenants.streaks.entry(tenant.clone()).or_insert_with(|| Streak {
            scope: several.scope,
            users: Vec::new(),
        });
        if streak.scope != several.scope {
            streak.scope = several.scope;
            streak.users.clear();
        }
        if streak.users.len() < SEVERAL && !streak.users.contains(user) {
            streak.users.push(user.clone());
        }
        if streak.users.len() < SEVERAL {
            failure
        } else {
            several
        }
    }

    /// Records that a batch, begun at `started`, met a failure of the whole tenant.
    pub(super) fn record_failure(
        &self,
        tenant: &TenantId,
        failure: &Failure,
        started: Instant,
        now: Instant,
    ) -> CircuitOpening {
        let mut tenants = self.tenants();
        tenants.mark_unreported(tenant);
        let Some(circuit) = tenants.open.get_mut(tenant) else {
            tenants.open.insert(
                tenant.clone(),
                TenantCircuit {
                    failure: failure.clone(),
                    failures: 1,
                    opened_at: now,
                    until: now + self.step,
                    probe_until: None,
                },
            );
            return CircuitOpening {
                pause: self.step,
                first: true,
                alert: failure.class == ErrorClass::Refused,
            };
        };
        // Batches that run side by side meet the same outage; only a later attempt makes the pause longer.
        let later = started >= circuit.opened_at;
        if later {
            circuit.failures = circuit.failures.saturating_add(1);
            circuit.opened_at = now;
            circuit.until = now + self.step.saturating_mul(circuit.failures).min(LONGEST);
            circuit.probe_until = None;
        }
        let other = circuit.failure.code != failure.code;
        circuit.failure = failure.clone();
        let alert = if failure.class == ErrorClass::Refused {
            other
        } else {
            later && (other || circuit.failures == 2)
        };
        CircuitOpening {
            pause: circuit.left(self.step, now).max(Duration::from_secs(1)),
            first: false,
            alert,
        }
    }

    /// Records that a user of the tenant was reached. Returns whether the tenant's open alerts should be
    /// checked.
    pub(super) fn record_success(&self, tenant: &TenantId, now: Instant) -> bool {
        let mut tenants = self.tenants();
        tenants.streaks.remove(tenant);
        let was_open = tenants.open.remove(tenant).is_some();
        if was_open {
            tenants.mark_unreported(tenant);
        }
        if tenants.alerts_checked.len() >= MOST_TENANTS {
            tenants.alerts_checked.clear();
        }
        let due = tenants
            .alerts_checked
            .get(tenant)
            .is_none_or(|&checked| now.saturating_duration_since(checked) >= ALERTS_CHECKED_EVERY);
        if was_open || due {
            tenants.alerts_checked.insert(tenant.clone(), now);
        }
        was_open || due
    }

    /// Records that another process probes: no attempt is made until its probe has had its time.
    pub(super) fn defer_to_other_prober(&self, tenant: &TenantId, now: Instant) -> Permission {
        match self.tenants().open.get_mut(tenant) {
            Some(circuit) => {
                circuit.probe_until = circuit.probe_until.max(Some(now + PROBE));
                Permission::Open(circuit.left(self.step, now), circuit.failure.clone())
            }
            None => Permission::Closed,
        }
    }

    /// Adds to a report the changes that the fleet does not know yet.
    pub(super) fn add_to_report(&self, report: &mut FleetReport, now: Instant) {
        let mut tenants = self.tenants();
        while report.circuits.len() < MAXIMUM_CHANGES
            && let Some(tenant) = tenants.unreported.pop_first()
        {
            let circuit = tenants.open.get(&tenant).map(|circuit| OpenCircuit {
                failure: circuit.failure.clone(),
                failures: circuit.failures,
                opened_ago_ms: milliseconds(now.saturating_duration_since(circuit.opened_at)),
                left_ms: milliseconds(circuit.until.saturating_duration_since(now)),
            });
            let base = tenants.versions.get(&tenant).copied().unwrap_or(0);
            report.circuits.push(CircuitReport {
                tenant,
                base,
                circuit,
            });
        }
    }

    /// Adopts the circuits and versions that the fleet answered.
    pub(super) fn adopt(&self, report: &FleetReport, answer: &FleetAnswer, now: Instant) {
        let mut tenants = self.tenants();
        let tenants = &mut *tenants;
        if answer.circuits_version < report.circuits_version {
            // The store was lost: report the circuits that are open here again.
            tenants.versions.clear();
            let answered: BTreeSet<_> = answer.circuits.iter().map(|learned| &learned.tenant).collect();
            let open = tenants.open.keys().filter(|tenant| !answered.contains(tenant));
            tenants.unreported.extend(open.cloned());
        }
        if tenants.versions.len() >= MOST_TENANTS {
            tenants.versions.clear();
        }
        for learned in &answer.circuits {
            tenants.versions.insert(learned.tenant.clone(), learned.version);
            if tenants.unreported.contains(&learned.tenant) {
                // It changed here since the report. The change is reported next, based on the version just
                // learned.
                continue;
            }
            match &learned.circuit {
                None => {
                    tenants.open.remove(&learned.tenant);
                }
                Some(open) => {
                    let ago = Duration::from_millis(open.opened_ago_ms);
                    let circuit = TenantCircuit {
                        failure: open.failure.clone(),
                        failures: open.failures,
                        opened_at: now.checked_sub(ago).unwrap_or(now),
                        until: now + Duration::from_millis(open.left_ms).min(LONGEST),
                        probe_until: None,
                    };
                    tenants.open.insert(learned.tenant.clone(), circuit);
                }
            }
        }
    }

    /// Marks the changes of a report that was not answered, so that they are reported again.
    pub(super) fn report_again(&self, report: &FleetReport) {
        let reported = report.circuits.iter().map(|circuit| circuit.tenant.clone());
        self.tenants().unreported.extend(reported);
    }

    /// Returns the number of open circuits.
    pub(super) fn open_count(&self) -> u64 {
        self.tenants().open.len() as u64
    }

    /// Records that the tenant's alerts could not be checked: they are checked after the next success.
    pub(super) fn alerts_unchecked(&self, tenant: &TenantId) {
        self.tenants().alerts_checked.remove(tenant);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
