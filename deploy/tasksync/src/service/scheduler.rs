//! The scheduler's part of a process: the API, and the scheduler that leads when it is elected.

use std::sync::Arc;

use tasksync_scheduler::api::{self, ApiToken, StartupGate};
use tasksync_scheduler::checks::TenantChecks;
use tasksync_scheduler::{DispatchLimits, Scheduler, ServiceParts, Stores};

use super::RoleProcess;

/// Creates the scheduler and opens the API's gate.
pub(super) fn prepare(
    process: &RoleProcess,
    stores: &Stores,
    checks: Arc<dyn TenantChecks>,
    token: Option<ApiToken>,
    gate: &StartupGate,
) -> Scheduler {
    let scheduler = Scheduler::new(
        stores.clone(),
        DispatchLimits::of(&process.settings),
        process.name.clone(),
        Arc::default(),
    );
    for pulse in scheduler.pulses() {
        process.health.watch(pulse);
    }
    scheduler.register(&process.metrics);
    let parts = ServiceParts {
        registry: Arc::clone(&stores.registry),
        schedule: Arc::clone(&stores.schedule),
        queue: Arc::clone(&stores.queue),
        fleet: Arc::clone(&stores.fleet),
        checks,
        settings: Arc::clone(&process.settings),
        clock: Arc::clone(&process.clock),
        leading: scheduler.leading_epoch(),
        requests: scheduler.requests(),
        health: process.health.clone(),
    };
    gate.open(api::router(parts, token));
    scheduler
}
