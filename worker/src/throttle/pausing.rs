//! What one process knows of a server's pause: what the server asked it for, and what the store says.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::fleet::PauseTold;
use tasksync_common::model::TenantId;

/// The pause of one server. Times are ours.
#[derive(Default)]
pub(super) struct Pausing {
    /// End of the pause, in microseconds since 1970; 0 for none. Every request reads it.
    until: AtomicI64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The longest pause that the server asked this process for.
    own: Option<Own>,
    /// The server asked for a pause after the last report was made, so the answer to that report does not count it.
    fresh: bool,
}

struct Own {
    since: Timestamp,
    until: i64,
    tenant: Option<TenantId>,
    why: String,
}

impl Pausing {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every change, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server asked for a pause until `until`. A longer one stays.
    pub(super) fn begin(&self, now: Timestamp, until: Timestamp, tenant: Option<&TenantId>, why: String) {
        let mut state = self.state();
        let until = rounded_up(until);
        self.until.fetch_max(until, Ordering::AcqRel);
        if state.own.as_ref().is_none_or(|own| own.until < until) {
            state.own = Some(Own {
                since: now,
                until,
                tenant: tenant.cloned(),
                why,
            });
        }
        state.fresh = true;
    }

    /// Returns what this process has to tell the others about the pause.
    pub(super) fn tell(&self, now: Timestamp) -> Option<PauseTold> {
        let mut state = self.state();
        state.fresh = false;
        let own = state.own.as_ref()?;
        let Some(left) = left(own.until, now) else {
            state.own = None;
            return None;
        };
        let ago = Duration::try_from(now.duration_since(own.since)).unwrap_or_default();
        Some(PauseTold {
            left_ms: milliseconds(left),
            ago_ms: milliseconds(ago),
            tenant: own.tenant.clone(),
            why: own.why.clone(),
        })
    }

    /// Takes the store's pause, of which this much is left, in place of the one known before: also one that is shorter, and
    /// none, because an operator can end a pause.
    pub(super) fn learn(&self, now: Timestamp, left: Duration) {
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
            state.own = None;
        }
    }

    /// What is left of the pause.
    pub(super) fn left(&self, now: Timestamp) -> Option<Duration> {
        left(self.until.load(Ordering::Acquire), now)
    }
}

fn left(until: i64, now: Timestamp) -> Option<Duration> {
    let left = until.saturating_sub(now.as_microsecond());
    u64::try_from(left)
        .ok()
        .filter(|left| *left > 0 && until > 0)
        .map(Duration::from_micros)
}

/// In microseconds; a pause is never shortened by the part of one.
fn rounded_up(instant: Timestamp) -> i64 {
    instant
        .as_microsecond()
        .saturating_add(i64::from(instant.subsec_nanosecond() % 1_000 != 0))
}

/// Rounded up, for the same reason.
fn milliseconds(left: Duration) -> u64 {
    u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
