//! What each tenant's batches cost this worker lately: time, attempts and failures. The heartbeat reports the tenants
//! that stand out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::fleet::{MAXIMUM_TENANT_LOADS, TenantLoad};
use tasksync_common::model::TenantId;
use tokio::time::Instant;

/// A window has this length. A report covers the present one and the one before.
const WINDOW: Duration = Duration::from_mins(5);
/// Most tenants with a count of their own in one window. The time of further tenants counts only for the sum of all.
const MOST_TENANTS: usize = 10_000;
/// Of the reported tenants, at most this many are chosen by their failures and not by their time.
const CHOSEN_BY_FAILURES: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct TenantCost {
    busy: Duration,
    attempts: u64,
    failed: u64,
    syncs: u64,
    syncing: Duration,
}

impl TenantCost {
    fn add(&mut self, other: Self) {
        self.busy += other.busy;
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.syncs += other.syncs;
        self.syncing += other.syncing;
    }

    fn load(self, tenant: TenantId) -> TenantLoad {
        TenantLoad {
            tenant,
            busy_ms: milliseconds(self.busy),
            attempts: self.attempts,
            failed: self.failed,
            syncs: self.syncs,
            sync_ms: milliseconds(self.syncing),
        }
    }
}

#[derive(Debug, Default)]
struct LoadWindow {
    tenants: HashMap<TenantId, TenantCost>,
    /// Time of all tenants, also of those that are not counted alone.
    busy: Duration,
}

#[derive(Debug)]
struct LoadWindows {
    began: Instant,
    current: LoadWindow,
    previous: LoadWindow,
}

impl LoadWindows {
    fn advance(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < WINDOW {
            return;
        }
        let ended = std::mem::take(&mut self.current);
        self.previous = if age < WINDOW * 2 {
            ended
        } else {
            LoadWindow::default()
        };
        self.began = now;
    }
}

/// The loads of all tenants.
#[derive(Debug)]
pub(super) struct TenantLoads(Mutex<LoadWindows>);

impl TenantLoads {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LoadWindows {
            began: monotonic(),
            current: LoadWindow::default(),
            previous: LoadWindow::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, LoadWindows> {
        // Consistent after every change, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tenant: &TenantId, cost: TenantCost, now: Instant) {
        let mut windows = self.lock();
        windows.advance(now);
        let window = &mut windows.current;
        window.busy += cost.busy;
        if let Some(known) = window.tenants.get_mut(tenant) {
            known.add(cost);
        } else if window.tenants.len() < MOST_TENANTS {
            window.tenants.insert(tenant.clone(), cost);
        }
    }

    /// Counts the time of a batch.
    pub(super) fn record_batch(&self, tenant: &TenantId, took: Duration) {
        let cost = TenantCost {
            busy: took,
            ..TenantCost::default()
        };
        self.add(tenant, cost, monotonic());
    }

    /// Counts an attempt that ended.
    pub(super) fn record_attempt(&self, tenant: &TenantId, failed: bool) {
        let cost = TenantCost {
            attempts: 1,
            failed: u64::from(failed),
            ..TenantCost::default()
        };
        self.add(tenant, cost, monotonic());
    }

    /// Counts the duration of a sync, which is an attempt with more than a survey.
    pub(super) fn record_sync(&self, tenant: &TenantId, took: Duration) {
        let cost = TenantCost {
            syncs: 1,
            syncing: took,
            ..TenantCost::default()
        };
        self.add(tenant, cost, monotonic());
    }

    /// Returns the tenants that took most time or failed most, and the time of all tenants in milliseconds.
    pub(super) fn report(&self, now: Instant) -> (Vec<TenantLoad>, u64) {
        let (all, busy) = {
            let mut windows = self.lock();
            windows.advance(now);
            let mut all = windows.previous.tenants.clone();
            for (tenant, cost) in &windows.current.tenants {
                all.entry(tenant.clone()).or_default().add(*cost);
            }
            (all, windows.previous.busy + windows.current.busy)
        };
        let mut by_failures: Vec<(&TenantId, &TenantCost)> =
            all.iter().filter(|(_, cost)| cost.failed > 0).collect();
        by_failures.sort_by_key(|(tenant, cost)| (u64::MAX - cost.failed, *tenant));
        let mut by_time: Vec<(&TenantId, &TenantCost)> = all.iter().collect();
        by_time.sort_by_key(|(tenant, cost)| (Duration::MAX.saturating_sub(cost.busy), *tenant));
        let failing = by_failures
            .into_iter()
            .take(CHOSEN_BY_FAILURES)
            .map(|(tenant, _)| tenant);
        let mut chosen: BTreeSet<&TenantId> = failing.collect();
        for (tenant, _) in by_time {
            if chosen.len() >= MAXIMUM_TENANT_LOADS {
                break;
            }
            chosen.insert(tenant);
        }
        let loads = chosen
            .into_iter()
            .filter_map(|tenant| Some(all.get(tenant)?.load(tenant.clone())))
            .collect();
        (loads, milliseconds(busy))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_and_the_failing_tenants_are_reported_and_forgotten_after_two_windows() {
        let loads = TenantLoads::new();
        for number in 0..100_u64 {
            let name = tenant(&format!("t{number}"));
            loads.record_batch(&name, Duration::from_secs(number));
            loads.record_attempt(&name, number == 3);
        }
        loads.record_sync(&tenant("t99"), Duration::from_secs(6));
        let (reported, busy) = loads.report(monotonic());
        assert_eq!((reported.len(), busy), (MAXIMUM_TENANT_LOADS, 4_950_000));
        let find = |name: &str| reported.iter().find(|load| load.tenant == tenant(name));
        let slowest = find("t99").unwrap();
        assert_eq!(
            (slowest.busy_ms, slowest.syncs, slowest.sync_ms),
            (99_000, 1, 6_000)
        );
        assert_eq!(
            find("t3").map(|load| (load.attempts, load.failed)),
            Some((1, 1)),
            "quick, but it fails"
        );
        assert_eq!(find("t4"), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(loads.report(monotonic()).1, 4_950_000);
        loads.record_batch(&tenant("t1"), Duration::from_secs(7));
        assert_eq!(loads.report(monotonic()).1, 4_957_000);
        tokio::time::advance(WINDOW).await;
        assert_eq!(loads.report(monotonic()).1, 7_000);
        tokio::time::advance(WINDOW * 2).await;
        assert_eq!(loads.report(monotonic()), (Vec::new(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_only_the_sum_grows() {
        let loads = TenantLoads::new();
        for number in 0..=MOST_TENANTS {
            loads.record_batch(&tenant(&format!("t{number}")), Duration::from_millis(1));
        }
        assert_eq!(loads.lock().current.tenants.len(), MOST_TENANTS);
        assert_eq!(loads.report(monotonic()).1, 10_001);
    }
}
