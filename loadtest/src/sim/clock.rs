//! The clock of a simulated server.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};

/// Real time plus a skew that can be set, so that a server whose clock is wrong can be played.
#[derive(Debug, Default)]
pub struct SimClock {
    skew_ms: AtomicI64,
    last_unique_us: AtomicI64,
    untold: AtomicBool,
}

impl SimClock {
    /// The server's current time.
    #[expect(
        clippy::disallowed_methods,
        reason = "a simulated server is its own source of time"
    )]
    pub fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew_ms.load(Ordering::Relaxed));
        Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX)
    }

    /// A stamp that is later than every stamp handed out before, to the microsecond.
    pub fn unique(&self) -> Timestamp {
        let now = self.now().as_microsecond();
        let previous = self
            .last_unique_us
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)))
            .unwrap_or(now);
        Timestamp::from_microsecond(now.max(previous + 1)).unwrap_or(Timestamp::MAX)
    }

    /// The `Date` header of an answer: by the server's own clock, so that a client can measure how wrong that clock is. `None`
    /// after [`Self::tell_no_time`].
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        if self.untold.load(Ordering::Relaxed) {
            return None;
        }
        let date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        HeaderValue::from_str(&date).ok()
    }

    /// From now on answers carry no `Date` header, as behind some proxies.
    pub fn tell_no_time(&self) {
        self.untold.store(true, Ordering::Relaxed);
    }

    /// Lets the server's clock run ahead (positive) or behind (negative).
    pub fn set_skew(&self, skew: SignedDuration) {
        self.skew_ms
            .store(i64::try_from(skew.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}
