//! Tenants whose server fails for everybody: their users are postponed together, and one probe at a time is sent.
//!
//! Every process decides by itself and at once; what it decided goes to the others with the next exchange
//! ([`tasksync_common::fleet`]), and comes back with a version. Of two that changed the same version one is heard, and
//! the other learns it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{ErrorClass, Evidence, Failure, Scope, Stops};
use tasksync_common::fleet::{Answer, CircuitTold, MAXIMUM_CHANGES, OpenCircuit, Report};
use tasksync_common::model::{TenantId, UserId};
use tokio::time::Instant;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// A probe is given this long before another may be sent.
pub(super) const PROBE: Duration = Duration::from_secs(60);

/// A tenant's open alerts are looked at after a success at most this often.
const ALERTS_CHECKED_EVERY: Duration = Duration::from_secs(60 * 60);

/// Most tenants remembered; beyond it closed ones are forgotten.
const MOST_TENANTS: usize = 100_000;

/// This many people in a row who fail, with nobody who succeeds between them, show that it is not their matter: a server in
/// trouble fails in more than one way.
const SEVERAL: usize = 3;

/// People of one tenant in a row who failed with codes of which the evidence makes the same scope.
#[derive(Debug)]
struct Streak {
    scope: Scope,
    /// The first of them, at most [`SEVERAL`].
    users: Vec<UserId>,
}

/// What a batch may do for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permission {
    /// Everything.
    Closed,
    /// One user first; the others when it worked.
    Probe,
    /// Nothing: everybody is postponed by this much because of this failure.
    Open(Duration, Failure),
}

/// Returns a failure of the whole tenant as it is told to people who did not meet it themselves: without the detail, which
/// names the person who did. The tenant's alert has it.
pub(super) fn as_told_to_others(failure: &Failure) -> Failure {
    Failure {
        detail: "nobody of the tenant can be synced; the tenant's alert has the details".to_owned(),
        ..failure.clone()
    }
}

/// What a failure of a tenant did to its circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// Everybody is postponed by this much.
    pub(super) pause: Duration,
    /// Whether the circuit was closed before.
    pub(super) first: bool,
    /// Whether people should be told: at once when somebody must act, after a failed probe when it may pass by itself.
    pub(super) alert: bool,
}

#[derive(Debug)]
struct Circuit {
    failure: Failure,
    failures: u32,
    opened_at: Instant,
    /// Nothing is tried before.
    until: Instant,
    /// A probe is out, and may take until then.
    probe_until: Option<Instant>,
}

impl Circuit {
    /// How long users are put off who come now. A probe may work in a moment, so those who come meanwhile are put off for no
    /// longer than `step`.
    fn left(&self, step: Duration, now: Instant) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(now);
        left(self.until).max(self.probe_until.map_or(Duration::ZERO, left).min(step))
    }
}

#[derive(Debug, Default)]
struct Tenants {
    open: HashMap<TenantId, Circuit>,
    alerts_checked: HashMap<TenantId, Instant>,
    streaks: HashMap<TenantId, Streak>,
    /// The versions the fleet gave to circuits.
    versions: HashMap<TenantId, u64>,
    /// Changed here, and the others do not know.
    untold: BTreeSet<TenantId>,
}

impl Tenants {
    fn changed(&mut self, tenant: &TenantId) {
        if self.untold.len() < MOST_TENANTS {
            self.untold.insert(tenant.clone());
        }
    }
}

/// Every tenant's circuit, as this process knows it.
#[derive(Debug)]
pub(super) struct Circuits {
    /// The pause after the first failure; it grows by the same amount with every failed probe.
    step: Duration,
    tenants: Mutex<Tenants>,
}

impl Circuits {
    /// All closed. `step` is the shortest time between two syncs of a user: a tenant is not tried more often than a user
    /// would be.
    pub(super) fn new(step: Duration) -> Self {
        Self {
            step,
            tenants: Mutex::default(),
        }
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        // The maps are whole after every change, so a panic elsewhere does not spoil them.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks before a batch. A batch somebody waits for (`urgent`) always tries, with one user first.
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

    /// Returns the failure of a user with the scope that the failures of colleagues give it: once several people in a row
    /// failed with codes that may be the server's, it is the server's.
    pub(super) fn weigh(&self, tenant: &TenantId, user: &UserId, failure: Failure) -> Failure {
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

    /// A batch that started at `started` met a failure of the whole tenant.
    pub(super) fn failed(
        &self,
        tenant: &TenantId,
        failure: &Failure,
        started: Instant,
        now: Instant,
    ) -> Opened {
        let mut tenants = self.tenants();
        tenants.changed(tenant);
        let Some(circuit) = tenants.open.get_mut(tenant) else {
            tenants.open.insert(
                tenant.clone(),
                Circuit {
                    failure: failure.clone(),
                    failures: 1,
                    opened_at: now,
                    until: now + self.step,
                    probe_until: None,
                },
            );
            return Opened {
                pause: self.step,
                first: true,
                alert: failure.class == ErrorClass::Refused,
            };
        };
        // Batches that ran side by side meet the same outage; only a later attempt makes the pause longer.
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
        Opened {
            pause: circuit.left(self.step, now).max(Duration::from_secs(1)),
            first: false,
            alert,
        }
    }

    /// A user of the tenant could be reached. Says whether the tenant's open alerts should be looked at.
    pub(super) fn succeeded(&self, tenant: &TenantId, now: Instant) -> bool {
        let mut tenants = self.tenants();
        tenants.streaks.remove(tenant);
        let was_open = tenants.open.remove(tenant).is_some();
        if was_open {
            tenants.changed(tenant);
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

    /// Another process probes: nothing is tried before it has had its time.
    pub(super) fn leave_to_another(&self, tenant: &TenantId, now: Instant) -> Permission {
        match self.tenants().open.get_mut(tenant) {
            Some(circuit) => {
                circuit.probe_until = circuit.probe_until.max(Some(now + PROBE));
                Permission::Open(circuit.left(self.step, now), circuit.failure.clone())
            }
            None => Permission::Closed,
        }
    }

    /// Adds what others do not know yet to a report.
    pub(super) fn tell(&self, report: &mut Report, now: Instant) {
        let mut tenants = self.tenants();
        while report.circuits.len() < MAXIMUM_CHANGES
            && let Some(tenant) = tenants.untold.pop_first()
        {
            let circuit = tenants.open.get(&tenant).map(|circuit| OpenCircuit {
                failure: circuit.failure.clone(),
                failures: circuit.failures,
                opened_ago_ms: milliseconds(now.saturating_duration_since(circuit.opened_at)),
                left_ms: milliseconds(circuit.until.saturating_duration_since(now)),
            });
            let base = tenants.versions.get(&tenant).copied().unwrap_or(0);
            report.circuits.push(CircuitTold {
                tenant,
                base,
                circuit,
            });
        }
    }

    /// Learns what others, and the fleet, made of it.
    pub(super) fn learn(&self, report: &Report, answer: &Answer, now: Instant) {
        let mut tenants = self.tenants();
        let tenants = &mut *tenants;
        if answer.known < report.known {
            // The store was lost: what is open here is told anew.
            tenants.versions.clear();
            let told: BTreeSet<_> = answer.circuits.iter().map(|learned| &learned.tenant).collect();
            let open = tenants.open.keys().filter(|tenant| !told.contains(tenant));
            tenants.untold.extend(open.cloned());
        }
        if tenants.versions.len() >= MOST_TENANTS {
            tenants.versions.clear();
        }
        for learned in &answer.circuits {
            tenants.versions.insert(learned.tenant.clone(), learned.version);
            if tenants.untold.contains(&learned.tenant) {
                // It changed here since the report: that is told next, on the version just learned.
                continue;
            }
            match &learned.circuit {
                None => {
                    tenants.open.remove(&learned.tenant);
                }
                Some(open) => {
                    let ago = Duration::from_millis(open.opened_ago_ms);
                    let circuit = Circuit {
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

    /// A report was not answered: its changes are told again.
    pub(super) fn unanswered(&self, report: &Report) {
        let told = report.circuits.iter().map(|told| told.tenant.clone());
        self.tenants().untold.extend(told);
    }

    /// How many circuits are open.
    pub(super) fn open(&self) -> u64 {
        self.tenants().open.len() as u64
    }

    /// The tenant's alerts could not be looked at: try again after the next success.
    pub(super) fn alerts_unchecked(&self, tenant: &TenantId) {
        self.tenants().alerts_checked.remove(tenant);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
