//! One process's knowledge of a server's pause: what the server asked this process for, and what the store
//! answered.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::fleet::PauseReport;
use tasksync_common::model::TenantId;

/// The pause of one server. Times are by our clock.
#[derive(Default)]
pub(super) struct Pausing {
    /// The end of the pause, in microseconds since 1970; 0 for none. Every request reads it.
    until: AtomicI64,
    state: Mutex<PauseState>,
}

#[derive(Default)]
struct PauseState {
    /// The longest pause for which the server asked this process.
    requested: Option<RequestedPause>,
    /// Whether the server asked for a pause after the last report was made. The answer to that report does
    /// not include it.
    fresh: bool,
}

struct RequestedPause {
    since: Timestamp,
    until: i64,
    tenant: Option<TenantId>,
    why: String,
}

impl Pausing {
    fn state(&self) -> MutexGuard<'_, PauseState> {
        // Consistent after every change, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the server asked for a pause until `until`. A longer known pause stays.
    pub(super) fn begin(&self, now: Timestamp, until: Timestamp, tenant: Option<&TenantId>, why: String) {
        let mut state = self.state();
        let until = rounded_up(until);
        self.until.fetch_max(until, Ordering::AcqRel);
        if state
            .requested
            .as_ref()
            .is_none_or(|requested| requested.until < until)
        {
            state.requested = Some(RequestedPause {
                since: now,
                until,
                tenant: tenant.cloned(),
                why,
            });
        }
        state.fresh = true;
    }

    /// Returns the pause that this process reports to the store.
    pub(super) fn pause_to_report(&self, now: Timestamp) -> Option<PauseReport> {
        let mut state = self.state();
        state.fresh = false;
        let requested = state.requested.as_ref()?;
        let Some(left) = remaining(requested.until, now) else {
            state.requested = None;
            return None;
        };
        let ago = Duration::try_from(now.duration_since(requested.since)).unwrap_or_default();
        Some(PauseReport {
            left_ms: milliseconds(left),
            ago_ms: milliseconds(ago),
            tenant: requested.tenant.clone(),
            why: requested.why.clone(),
        })
    }

    /// Replaces the known pause with the store's, of which `left` remains. A shorter pause, or none, replaces
    /// it too, because an operator can end a pause. If the server asked for a pause since the report, the
    /// longer one stays.
    pub(super) fn adopt(&self, now: Timestamp, left: Duration) {
        let mut state = self.state();
        let stored = if left.is_zero() {
            0
        } else {
            let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
            now.as_microsecond().saturating_add(left)
        };
        if state.fresh {
            self.until.fetch_max(stored, Ordering::AcqRel);
            return;
        }
        self.until.store(stored, Ordering::Release);
        if left.is_zero() {
            state.requested = None;
        }
    }

    /// Returns the rest of the pause.
    pub(super) fn remaining(&self, now: Timestamp) -> Option<Duration> {
        remaining(self.until.load(Ordering::Acquire), now)
    }
}

fn remaining(until: i64, now: Timestamp) -> Option<Duration> {
    let left = until.saturating_sub(now.as_microsecond());
    u64::try_from(left)
        .ok()
        .filter(|left| *left > 0 && until > 0)
        .map(Duration::from_micros)
}

/// Returns the time in microseconds, rounded up, so that rounding never shortens a pause.
fn rounded_up(instant: Timestamp) -> i64 {
    instant
        .as_microsecond()
        .saturating_add(i64::from(instant.subsec_nanosecond() % 1_000 != 0))
}

/// Returns milliseconds, rounded up for the same reason.
fn milliseconds(left: Duration) -> u64 {
    u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
