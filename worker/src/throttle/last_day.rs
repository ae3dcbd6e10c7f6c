//! How often something happened within the last day, in 24 numbers.

use jiff::Timestamp;

const HOURS: usize = 24;
const SECONDS_PER_HOUR: i64 = 3_600;

/// Counts by hour. The count of a day includes the begun hour and the 23 before it.
#[derive(Debug, Default)]
pub(super) struct LastDay {
    counts: [u64; HOURS],
    /// The hour of the last event, since 1970.
    hour: i64,
    last: Option<Timestamp>,
}

impl LastDay {
    /// Counts one event. A clock that was set back counts it in the last known hour.
    pub(super) fn add(&mut self, now: Timestamp) {
        self.forget_old(now);
        if let Some(count) = self.counts.last_mut() {
            *count += 1;
        }
        self.last = Some(now);
    }

    /// Returns the number of events within the last day and the time of the last one; `None` if there was none.
    pub(super) fn count(&mut self, now: Timestamp) -> Option<(u64, Timestamp)> {
        self.forget_old(now);
        let count = self.counts.iter().sum::<u64>();
        (count > 0).then_some(count).zip(self.last)
    }

    fn forget_old(&mut self, now: Timestamp) {
        let hour = now.as_second().div_euclid(SECONDS_PER_HOUR);
        let passed = usize::try_from(hour.saturating_sub(self.hour))
            .unwrap_or(0)
            .min(HOURS);
        self.counts.rotate_left(passed);
        for count in self.counts.iter_mut().rev().take(passed) {
            *count = 0;
        }
        self.hour = self.hour.max(hour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_forgotten_after_a_day_and_not_before() {
        let at = |hour: i64| Timestamp::from_second(1_790_000_000 + hour * SECONDS_PER_HOUR).unwrap();
        let mut day = LastDay::default();
        assert_eq!(day.count(at(0)), None);
        day.add(at(0));
        day.add(at(0));
        day.add(at(10));
        assert_eq!(day.count(at(23)), Some((3, at(10))));
        assert_eq!(day.count(at(24)), Some((1, at(10))));
        assert_eq!(day.count(at(34)), None);
        day.add(at(100));
        day.add(at(90));
        assert_eq!(day.count(at(100)), Some((2, at(90))));
    }
}
