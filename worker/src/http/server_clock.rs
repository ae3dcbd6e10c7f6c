//! The offset of a server's clock, measured from its answers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Measurements that are kept. Their median ignores an answer that was slow in one direction only.
const MEASUREMENTS: usize = 5;

/// The last measured offsets of one server's clock. The rule is the same for every protocol.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    /// Measured from the `Date` of answers.
    measured: Measurements,
    /// Measured from the times that the server gave to our writes. Used only while no answer had a `Date`.
    written: Measurements,
}

#[derive(Debug, Default)]
struct Measurements(Mutex<VecDeque<SignedDuration>>);

impl Measurements {
    fn add(&self, offset: SignedDuration) {
        let mut offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if offsets.len() >= MEASUREMENTS {
            offsets.pop_front();
        }
        offsets.push_back(offset);
    }

    fn median(&self) -> Option<SignedDuration> {
        let mut offsets: Vec<_> = {
            let offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            offsets.iter().copied().collect()
        };
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied()
    }
}

impl ServerClock {
    /// Adds one measurement; `None` changes nothing.
    pub(crate) fn note(&self, measured: Option<SignedDuration>) {
        if let Some(offset) = measured {
            self.measured.add(offset);
        }
    }

    /// Adds a measurement from a write of ours, made at `local_time` by our clock, to which the server gave the
    /// time `server`.
    pub(crate) fn add_write(&self, server: Timestamp, local_time: Timestamp) {
        self.written.add(server.duration_since(local_time));
    }

    /// Returns the server's clock minus ours: the median of the last five measurements. Returns `None` before
    /// the first measurement.
    pub(crate) fn offset(&self) -> Option<SignedDuration> {
        self.measured.median().or_else(|| self.written.median())
    }

    /// Returns the server's time when ours is `now`; ours if the offset is not known.
    pub(crate) fn at(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.offset().unwrap_or_default()).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_five_counts_and_none_is_not_zero() {
        let clock = ServerClock::default();
        clock.note(None);
        assert_eq!(clock.offset(), None);
        let unmeasured = ServerClock::default();
        unmeasured.add_write(Timestamp::from_second(600).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(unmeasured.offset(), Some(SignedDuration::from_secs(600)));
        unmeasured.note(Some(SignedDuration::from_secs(3)));
        assert_eq!(
            unmeasured.offset(),
            Some(SignedDuration::from_secs(3)),
            "an answer with a time outranks it"
        );
        assert_eq!(clock.at(Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH);
        let seconds = SignedDuration::from_secs;
        for offset in [100, 30, 31, 900, 29, 30] {
            clock.note(Some(seconds(offset)));
        }
        assert_eq!(clock.offset(), Some(seconds(30)));
        assert_eq!(clock.at(Timestamp::UNIX_EPOCH).as_second(), 30);
    }
}
