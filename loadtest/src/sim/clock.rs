//! The clock of a simulated server.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};

use crate::machine_clock::machine_time;

/// Real time plus an adjustable skew, to simulate a server whose clock is wrong.
#[derive(Debug, Default)]
pub struct SimClock {
    skew_ms: AtomicI64,
    last_unique_us: AtomicI64,
    omits_date: AtomicBool,
}

impl SimClock {
    /// Returns the server's current time.
    pub fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew_ms.load(Ordering::Relaxed));
        machine_time().checked_add(skew).unwrap_or(Timestamp::MAX)
    }

    /// Returns a time that is later than every time this function returned before, to the microsecond.
    pub fn unique(&self) -> Timestamp {
        let now = self.now().as_microsecond();
        let previous = self
            .last_unique_us
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)))
            .unwrap_or(now);
        Timestamp::from_microsecond(now.max(previous + 1)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the `Date` header of an answer. It shows the server's own clock, so that a client can measure the skew.
    /// Returns `None` after [`Self::omit_date`].
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        if self.omits_date.load(Ordering::Relaxed) {
            return None;
        }
        let date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        HeaderValue::from_str(&date).ok()
    }

    /// Omits the `Date` header from all later answers, as some proxies do.
    pub fn omit_date(&self) {
        self.omits_date.store(true, Ordering::Relaxed);
    }

    /// Sets the skew: the server's clock is ahead (positive) or behind (negative).
    pub fn set_skew(&self, skew: SignedDuration) {
        self.skew_ms
            .store(i64::try_from(skew.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}
