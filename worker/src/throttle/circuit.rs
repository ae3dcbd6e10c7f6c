//! When a server fails for everyone, stop asking for everyone: one probe at a time finds out when it is back.
//!
//! A pure state machine: the time is a parameter, nothing waits.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserId;

/// The first wait before a probe; doubled with each failed probe …
pub(super) const FIRST_INTERVAL: Duration = Duration::from_secs(30);

/// … up to this.
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

/// A probe whose result is not told within this time is taken for lost, and another is let through. Longer than a batch.
pub(super) const PROBE_LIFETIME: Duration = Duration::from_secs(120);

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Go on with this one call; the server is on trial. Its result must be told.
    Probe,
    /// Do not ask the server now.
    Refuse {
        /// The earliest time at which asking again makes sense, from now.
        retry_after: Duration,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The users who failed since the last success.
    Closed { failed: BTreeSet<UserId> },
    /// No call before `until`.
    Open { until: Timestamp, interval: Duration },
    /// A probe is under way.
    HalfOpen { since: Timestamp, interval: Duration },
}

/// The circuit of one tenant's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    threshold: usize,
    state: State,
}

impl Circuit {
    /// A closed circuit that opens when `threshold` (at least 1) different users failed without a success in between.
    #[must_use]
    pub fn new(threshold: usize) -> Self {
        Self {
            threshold: threshold.max(1),
            state: State::Closed {
                failed: BTreeSet::new(),
            },
        }
    }

    /// Whether the server may be asked now.
    pub fn allow(&mut self, now: Timestamp) -> Decision {
        let (wait, interval) = match &self.state {
            State::Closed { .. } => return Decision::Allow,
            State::Open { until, interval } => (left(now, *until, *interval), *interval),
            State::HalfOpen { since, interval } => (
                left(now, after(*since, PROBE_LIFETIME), PROBE_LIFETIME),
                *interval,
            ),
        };
        match wait {
            Some(retry_after) => Decision::Refuse { retry_after },
            None => {
                self.state = State::HalfOpen { since: now, interval };
                Decision::Probe
            }
        }
    }

    /// A call succeeded: the server serves. Any success closes the circuit, also one that began before it opened.
    pub fn succeeded(&mut self) {
        self.state = State::Closed {
            failed: BTreeSet::new(),
        };
    }

    /// A call failed in a way that concerns everybody ([`concerns_everybody`]).
    pub fn failed(&mut self, user: &UserId, now: Timestamp) {
        match &mut self.state {
            State::Closed { failed } => {
                failed.insert(user.clone());
                if failed.len() >= self.threshold {
                    self.open(now, FIRST_INTERVAL);
                }
            }
            // A call that began before: it tells nothing new.
            State::Open { .. } => {}
            State::HalfOpen { interval, .. } => {
                let interval = interval.saturating_mul(2).min(LONGEST_INTERVAL);
                self.open(now, interval);
            }
        }
    }

    /// Whether calls are held back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { .. } | State::HalfOpen { .. } => true,
        }
    }

    fn open(&mut self, now: Timestamp, interval: Duration) {
        self.state = State::Open {
            until: after(now, interval),
            interval,
        };
    }
}

/// What is left of a wait of `whole` until `end`. When more is left than the whole, the clock was set back: the wait is
/// over, or a circuit could stay open for as long as the clock was wrong.
fn left(now: Timestamp, end: Timestamp, whole: Duration) -> Option<Duration> {
    Duration::try_from(now.duration_until(end))
        .ok()
        .filter(|left| !left.is_zero() && *left <= whole)
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whether a failure says something about the whole server or tenant rather than about one user or item. A pause that
/// the server asked for is no failure.
#[must_use]
pub fn concerns_everybody(failure: &Failure) -> bool {
    match failure.class {
        ErrorClass::TenantPermanent => true,
        ErrorClass::Transient | ErrorClass::OutcomeUnknown => matches!(
            failure.code,
            Code::ExchangeUnreachable
                | Code::ExchangeTimeout
                | Code::SharePointUnreachable
                | Code::SharePointTimeout
                | Code::TokenUnreachable
        ),
        ErrorClass::Throttled { .. }
        | ErrorClass::Conflict
        | ErrorClass::Gone
        | ErrorClass::ItemPermanent
        | ErrorClass::MailboxPermanent
        | ErrorClass::CursorInvalid => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn user(number: u8) -> UserId {
        format!("user-{number}").parse().unwrap()
    }

    fn refuse(seconds: u64) -> Decision {
        Decision::Refuse {
            retry_after: Duration::from_secs(seconds),
        }
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::new(3);
        for number in 0..3 {
            circuit.failed(&user(number), at(0));
        }
        circuit
    }

    #[test]
    fn it_opens_after_failures_of_different_users_in_a_row() {
        let mut circuit = Circuit::new(3);
        for _ in 0..10 {
            circuit.failed(&user(1), at(0));
        }
        circuit.failed(&user(2), at(0));
        assert_eq!(circuit.allow(at(0)), Decision::Allow, "two users only");
        circuit.succeeded();
        circuit.failed(&user(3), at(0));
        circuit.failed(&user(4), at(0));
        assert_eq!(circuit.allow(at(0)), Decision::Allow, "a success in between");
        circuit.failed(&user(5), at(0));
        assert_eq!(circuit.allow(at(0)), refuse(30));
        assert!(circuit.is_open());
    }

    #[test]
    fn one_probe_at_a_time_with_growing_waits() {
        let mut circuit = opened();
        let mut now = 0;
        for interval in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(circuit.allow(at(now)), refuse(interval));
            // A straggler changes nothing.
            circuit.failed(&user(9), at(now + 1));
            assert_eq!(circuit.allow(at(now + 1)), refuse(interval - 1));
            now += i64::try_from(interval).unwrap();
            assert_eq!(circuit.allow(at(now)), Decision::Probe);
            assert_eq!(
                circuit.allow(at(now)),
                refuse(120),
                "the others wait for the probe"
            );
            now += 5;
            circuit.failed(&user(1), at(now));
        }
        now += 600;
        assert_eq!(circuit.allow(at(now)), Decision::Probe);
        circuit.succeeded();
        assert_eq!(circuit.allow(at(now)), Decision::Allow);
        assert!(!circuit.is_open());
        // The next opening starts with the short wait again.
        for number in 0..3 {
            circuit.failed(&user(number), at(now));
        }
        assert_eq!(circuit.allow(at(now)), refuse(30));
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let mut circuit = opened();
        assert_eq!(circuit.allow(at(30)), Decision::Probe);
        assert_eq!(circuit.allow(at(149)), refuse(1));
        assert_eq!(circuit.allow(at(150)), Decision::Probe);
        assert_eq!(circuit.allow(at(150)), refuse(120));
    }

    #[test]
    fn only_failures_of_the_whole_server_count() {
        let table = [
            (ErrorClass::TenantPermanent, Code::ExchangeSignInRefused, true),
            (ErrorClass::TenantPermanent, Code::TokenRefused, true),
            (ErrorClass::Transient, Code::ExchangeUnreachable, true),
            (ErrorClass::Transient, Code::TokenUnreachable, true),
            (ErrorClass::OutcomeUnknown, Code::SharePointTimeout, true),
            (ErrorClass::Transient, Code::ExchangeMailboxUnavailable, false),
            (ErrorClass::Transient, Code::BudgetExhausted, false),
            (
                ErrorClass::Throttled { retry_after: None },
                Code::TokenUnreachable,
                false,
            ),
            (ErrorClass::MailboxPermanent, Code::ExchangeMailboxMissing, false),
            (ErrorClass::ItemPermanent, Code::SharePointItemRefused, false),
        ];
        for (class, code, expected) in table {
            assert_eq!(
                concerns_everybody(&Failure::new(class, code, "")),
                expected,
                "{class:?} {code}"
            );
        }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Wait(i64),
        Ask,
        Fail(u8),
        Succeed,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (-50_i64..700).prop_map(Event::Wait),
            Just(Event::Ask),
            (0_u8..5).prop_map(Event::Fail),
            Just(Event::Succeed),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_a_refusal_ends_and_probes_do_not_overlap(
            events in prop::collection::vec(event(), 0..200),
            threshold in 0_usize..5,
        ) {
            let mut circuit = Circuit::new(threshold);
            let mut now = 0;
            let mut probe: Option<i64> = None;
            for event in events {
                match event {
                    Event::Wait(seconds) => {
                        now += seconds;
                        // The rule on overlap holds for a clock that only goes forward.
                        if seconds < 0 {
                            probe = None;
                        }
                    }
                    Event::Ask => match circuit.allow(at(now)) {
                        Decision::Allow => prop_assert!(!circuit.is_open()),
                        Decision::Probe => {
                            if let Some(since) = probe {
                                prop_assert!(now - since >= 120);
                            }
                            probe = Some(now);
                        }
                        Decision::Refuse { retry_after } => {
                            prop_assert!(retry_after > Duration::ZERO && retry_after <= LONGEST_INTERVAL);
                            // At the time named a call passes.
                            let later = after(at(now), retry_after);
                            prop_assert_eq!(circuit.clone().allow(later), Decision::Probe);
                        }
                    },
                    Event::Fail(number) => {
                        circuit.failed(&user(number), at(now));
                        probe = None;
                    }
                    Event::Succeed => {
                        circuit.succeeded();
                        probe = None;
                        prop_assert_eq!(circuit.allow(at(now)), Decision::Allow);
                    }
                }
            }
        }
    }
}
