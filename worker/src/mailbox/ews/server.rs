//! What all tenants of one server share: the places for requests and the pause the server asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

/// Longest pause kept, whatever a server asks for.
pub const MAXIMUM_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Requests in flight and the present pause of one server; shared by every tenant that uses it.
#[derive(Debug)]
pub struct ServerLimits {
    pub(super) places: Semaphore,
    paused_until_us: AtomicI64,
}

impl ServerLimits {
    /// Limits for one server with this many requests in flight (`outbound.requests_per_server`; at least 1).
    #[must_use]
    pub fn new(requests: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS)),
            paused_until_us: AtomicI64::new(i64::MIN),
        })
    }

    /// Nothing is sent to this server before `now` + `pause`; a longer pause in force stays.
    pub fn pause(&self, now: Timestamp, pause: Duration) {
        let pause = pause.min(MAXIMUM_PAUSE);
        // Rounded up: the server is obeyed to the millisecond, never earlier.
        let microseconds = i64::try_from(pause.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX);
        self.paused_until_us.fetch_max(
            now.as_microsecond().saturating_add(microseconds),
            Ordering::SeqCst,
        );
    }

    /// What is left of the pause; `None` when requests may be sent.
    #[must_use]
    pub fn pause_left(&self, now: Timestamp) -> Option<Duration> {
        let left = self
            .paused_until_us
            .load(Ordering::SeqCst)
            .saturating_sub(now.as_microsecond());
        u64::try_from(left)
            .ok()
            .filter(|&left| left > 0)
            .map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_and_ends_exactly() {
        let limits = ServerLimits::new(0);
        assert_eq!(limits.places.available_permits(), 1);
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(limits.pause_left(now), None);
        limits.pause(now, Duration::from_millis(5_000));
        limits.pause(now, Duration::from_millis(10));
        assert_eq!(limits.pause_left(now), Some(Duration::from_secs(5)));
        assert_eq!(
            limits.pause_left(now + Duration::from_millis(4_999)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(limits.pause_left(now + Duration::from_secs(5)), None);
        limits.pause(now, Duration::MAX);
        assert_eq!(limits.pause_left(now), Some(MAXIMUM_PAUSE));
    }
}
