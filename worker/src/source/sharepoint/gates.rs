//! One gate per server, shared by every tenant of the process: requests in flight and the pause a server asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::locked;

/// The gates of all SharePoint servers; cloning shares them. Make one per process.
#[derive(Clone)]
pub struct ServerGates {
    gates: Arc<Mutex<HashMap<String, Arc<Gate>>>>,
    requests_per_server: usize,
}

/// When so many servers are known, the idle ones are forgotten.
const SERVERS: usize = 4_096;

impl ServerGates {
    /// Gates that let `requests_per_server` requests (at least one) through to each server at once.
    #[must_use]
    pub fn new(requests_per_server: usize) -> Self {
        Self {
            gates: Arc::default(),
            requests_per_server: requests_per_server.max(1),
        }
    }

    /// The gate of `server` (host and port).
    pub(super) fn of(&self, server: &str, now: Timestamp) -> Arc<Gate> {
        let mut gates = locked(&self.gates);
        if gates.len() >= SERVERS {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.pause_left(now).is_some());
        }
        Arc::clone(gates.entry(server.to_owned()).or_insert_with(|| {
            Arc::new(Gate {
                permits: Arc::new(Semaphore::new(self.requests_per_server)),
                paused_until: Mutex::new(None),
            })
        }))
    }
}

/// The gate of one server.
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    paused_until: Mutex<Option<Timestamp>>,
}

impl Gate {
    /// What is left of the pause the server asked for.
    pub(super) fn pause_left(&self, now: Timestamp) -> Option<Duration> {
        let left = now.duration_until((*locked(&self.paused_until))?);
        left.is_positive().then(|| left.unsigned_abs())
    }

    /// No request of this process goes to the server for this long; a longer pause already set stays.
    pub(super) fn pause(&self, now: Timestamp, pause: Duration) {
        let Ok(pause) = SignedDuration::try_from(pause) else {
            return;
        };
        let until = now.checked_add(pause).unwrap_or(now);
        let mut paused = locked(&self.paused_until);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// A place for one request; `None` when none came free within `patience`.
    pub(super) async fn enter(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(patience, Arc::clone(&self.permits).acquire_owned())
            .await
            .ok()?
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_limited_and_shared_between_clones() {
        let gates = ServerGates::new(1);
        let now = Timestamp::UNIX_EPOCH;
        let first = gates.of("h:443", now).enter(Duration::from_secs(5)).await;
        assert!(first.is_some());
        let other = gates.clone();
        assert!(
            other
                .of("h:443", now)
                .enter(Duration::from_millis(1))
                .await
                .is_none()
        );
        assert!(
            other
                .of("g:443", now)
                .enter(Duration::from_millis(1))
                .await
                .is_some()
        );
        drop(first);
        assert!(
            other
                .of("h:443", now)
                .enter(Duration::from_secs(5))
                .await
                .is_some()
        );
    }

    #[test]
    fn a_pause_runs_out_and_is_never_shortened() {
        let gates = ServerGates::new(1);
        let now = Timestamp::UNIX_EPOCH;
        let gate = gates.of("h", now);
        gate.pause(now, Duration::from_secs(60));
        gate.pause(now, Duration::from_secs(5));
        assert_eq!(gate.pause_left(now), Some(Duration::from_secs(60)));
        assert_eq!(
            gate.pause_left(now + SignedDuration::from_secs(59)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(gate.pause_left(now + SignedDuration::from_secs(60)), None);
    }
}
