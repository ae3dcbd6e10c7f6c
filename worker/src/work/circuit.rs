//! Tenants whose server fails for everybody: their users are postponed together, and one probe at a time is sent.
//!
//! The circuits live in the process: another worker finds out by itself with one survey, and a new process starts with
//! every circuit closed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::TenantId;
use tokio::time::Instant;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// A probe is given this long before another may be sent.
const PROBE: Duration = Duration::from_secs(60);

/// A tenant's open alerts are looked at after a success at most this often.
const ALERTS_CHECKED_EVERY: Duration = Duration::from_secs(60 * 60);

/// Most tenants remembered; beyond it closed ones are forgotten.
const MOST_TENANTS: usize = 100_000;

/// Whether a failure of one user says that no user of the tenant can be synced.
pub(super) fn concerns_tenant(failure: &Failure) -> bool {
    match failure.class {
        ErrorClass::TenantPermanent => true,
        // Nobody counts as failed because a server is down: ten failures would disable every user of the tenant.
        ErrorClass::Transient => matches!(
            failure.code,
            Code::ExchangeUnreachable
                | Code::SharePointUnreachable
                | Code::TokenUnreachable
                | Code::TokenRefused
                | Code::SecretUnavailable
                | Code::AddressRefused
        ),
        ErrorClass::Throttled { .. }
        | ErrorClass::Conflict
        | ErrorClass::Gone
        | ErrorClass::ItemPermanent
        | ErrorClass::MailboxPermanent
        | ErrorClass::CursorInvalid
        | ErrorClass::OutcomeUnknown => false,
    }
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
    until: Instant,
}

#[derive(Debug, Default)]
struct Tenants {
    open: HashMap<TenantId, Circuit>,
    alerts_checked: HashMap<TenantId, Instant>,
}

/// Every tenant's circuit in this process.
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
        if now < circuit.until {
            return Permission::Open(circuit.until - now, circuit.failure.clone());
        }
        circuit.until = now + PROBE;
        Permission::Probe
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
        let Some(circuit) = tenants.open.get_mut(tenant) else {
            tenants.open.insert(
                tenant.clone(),
                Circuit {
                    failure: failure.clone(),
                    failures: 1,
                    opened_at: now,
                    until: now + self.step,
                },
            );
            return Opened {
                pause: self.step,
                first: true,
                alert: failure.class == ErrorClass::TenantPermanent,
            };
        };
        // Batches that ran side by side meet the same outage; only a later attempt makes the pause longer.
        let later = started >= circuit.opened_at;
        if later {
            circuit.failures = circuit.failures.saturating_add(1);
            circuit.opened_at = now;
            circuit.until = now + self.step.saturating_mul(circuit.failures).min(LONGEST);
        }
        let other = circuit.failure.code != failure.code;
        circuit.failure = failure.clone();
        let alert = if failure.class == ErrorClass::TenantPermanent {
            other
        } else {
            later && (other || circuit.failures == 2)
        };
        Opened {
            pause: circuit
                .until
                .saturating_duration_since(now)
                .max(Duration::from_secs(1)),
            first: false,
            alert,
        }
    }

    /// A user of the tenant could be reached. Says whether the tenant's open alerts should be looked at.
    pub(super) fn succeeded(&self, tenant: &TenantId, now: Instant) -> bool {
        let mut tenants = self.tenants();
        let was_open = tenants.open.remove(tenant).is_some();
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

    /// How many circuits are open.
    pub(super) fn open(&self) -> u64 {
        self.tenants().open.len() as u64
    }

    /// The tenant's alerts could not be looked at: try again after the next success.
    pub(super) fn alerts_unchecked(&self, tenant: &TenantId) {
        self.tenants().alerts_checked.remove(tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(5 * 60);

    fn refused() -> Failure {
        Failure::new(
            ErrorClass::TenantPermanent,
            Code::ExchangeSignInRefused,
            "401 from mail.contoso.example",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_opens_probes_grows_and_closes() {
        let circuits = Circuits::new(STEP);
        let tenant: TenantId = "contoso".parse().unwrap();
        let start = Instant::now();
        assert_eq!(circuits.ask(&tenant, false, start), Permission::Closed);
        assert_eq!(
            circuits.failed(&tenant, &refused(), start, start + PROBE),
            Opened {
                pause: STEP,
                first: true,
                alert: true,
            }
        );
        // A batch that ran beside it does not make the pause longer.
        let beside = circuits.failed(&tenant, &refused(), start, start + PROBE);
        assert_eq!(
            beside,
            Opened {
                pause: STEP,
                first: false,
                alert: false,
            }
        );
        let now = start + PROBE * 2;
        assert_eq!(
            circuits.ask(&tenant, false, now),
            Permission::Open(STEP - PROBE, refused())
        );
        assert_eq!(circuits.ask(&tenant, true, now), Permission::Probe);
        let now = start + PROBE + STEP;
        assert_eq!(circuits.ask(&tenant, false, now), Permission::Probe);
        assert_eq!(
            circuits.ask(&tenant, false, now),
            Permission::Open(PROBE, refused()),
            "one probe at a time"
        );
        assert_eq!(circuits.failed(&tenant, &refused(), now, now).pause, STEP * 2);
        for _ in 0..20 {
            circuits.failed(&tenant, &refused(), now, now);
        }
        assert_eq!(circuits.failed(&tenant, &refused(), now, now).pause, LONGEST);
        assert!(circuits.succeeded(&tenant, now));
        assert_eq!(circuits.ask(&tenant, false, now), Permission::Closed);
        assert!(
            !circuits.succeeded(&tenant, now),
            "alerts were looked at just now"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn people_are_told_of_an_outage_when_a_probe_failed_as_well() {
        let circuits = Circuits::new(STEP);
        let tenant: TenantId = "contoso".parse().unwrap();
        let down = Failure::new(ErrorClass::Transient, Code::ExchangeUnreachable, "refused");
        let start = Instant::now();
        let first = circuits.failed(&tenant, &down, start, start + PROBE);
        assert!(first.first && !first.alert);
        let later = start + STEP + PROBE * 2;
        assert!(circuits.failed(&tenant, &down, later, later).alert);
        let later = later + LONGEST;
        assert!(!circuits.failed(&tenant, &down, later, later).alert, "told once");
    }

    #[test]
    fn a_server_that_is_down_concerns_the_tenant_and_a_mailbox_does_not() {
        assert!(concerns_tenant(&refused()));
        assert!(concerns_tenant(&Failure::new(
            ErrorClass::Transient,
            Code::ExchangeUnreachable,
            ""
        )));
        assert!(!concerns_tenant(&Failure::new(
            ErrorClass::Transient,
            Code::ExchangeTimeout,
            ""
        )));
        assert!(!concerns_tenant(&Failure::new(
            ErrorClass::MailboxPermanent,
            Code::ExchangeMailboxMissing,
            ""
        )));
    }
}
