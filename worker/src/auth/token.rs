//! One application's token: when it is used, renewed, or not requested again yet. Pure: nothing here waits or
//! does I/O.

use std::sync::Arc;
use std::time::Duration;

use crate::http::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{ErrorClass, Failure};

/// Remaining lifetime below which a token is renewed, or …
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// … the percentage of its lifetime after which it is renewed, whichever is later, so that short-lived tokens
/// are not renewed all the time.
const RENEW_AFTER_PERCENT: i32 = 80;

/// Last part of its lifetime in which a token is not used: it could expire on its way.
const UNUSED_END: SignedDuration = SignedDuration::from_secs(10);

/// Shortest time between two replacements of a token that servers refuse. A server that refuses everything must not
/// make us flood the token endpoint.
const REPLACE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Time after a replacement in which a refusal may belong to a call with the old token.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(30);

/// Pause after the endpoint refused the application.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_mins(1);

/// First pause after a transient failure; each further one doubles it, …
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A token as a header.
pub(super) struct AccessToken {
    pub(super) header: HeaderValue,
    pub(super) obtained: Timestamp,
    pub(super) expires: Timestamp,
}

impl AccessToken {
    fn usable(&self, now: Timestamp) -> bool {
        now.duration_until(self.expires) > UNUSED_END
    }

    fn due(&self, now: Timestamp) -> bool {
        let life = self.obtained.duration_until(self.expires);
        let share = life / 100 * RENEW_AFTER_PERCENT;
        let age = self.obtained.duration_until(now);
        age.is_negative() || age >= share.max(life - RENEW_BEFORE)
    }
}

/// What to do for a call that needs a token.
pub(super) enum TokenStep {
    /// Use this token.
    Use(HeaderValue),
    /// One caller asks for a new token; the others use this one meanwhile.
    Renew(HeaderValue),
    /// There is no token: one caller asks, and the others wait for the answer.
    Obtain,
    /// A request failed recently; do not ask again yet.
    Fail(Failure),
}

struct Failed {
    failure: Failure,
    at: Timestamp,
    pause: Duration,
}

/// The state of one application's token.
#[derive(Default)]
pub(super) struct TokenState {
    token: Option<Arc<AccessToken>>,
    /// Whether the token replaced an earlier one, with which calls may still be in flight.
    follows: bool,
    failed: Option<Failed>,
    failures: u32,
}

impl TokenState {
    /// Returns what to do now.
    pub(super) fn step(&self, now: Timestamp) -> TokenStep {
        let usable = self.token.as_ref().filter(|token| token.usable(now));
        match (usable, self.pausing(now)) {
            (Some(token), None) if token.due(now) => TokenStep::Renew(token.header.clone()),
            (Some(token), _) => TokenStep::Use(token.header.clone()),
            (None, Some(failure)) => TokenStep::Fail(failure),
            (None, None) => TokenStep::Obtain,
        }
    }

    /// Returns the last failure while its pause lasts. For a pause that the endpoint named, the failure has
    /// the rest of it.
    fn pausing(&self, now: Timestamp) -> Option<Failure> {
        let failed = self.failed.as_ref()?;
        // If the clock was set back, the pause counts as over rather than as of unknown length.
        let passed = Duration::try_from(failed.at.duration_until(now)).ok()?;
        let left = failed.pause.checked_sub(passed).filter(|left| !left.is_zero())?;
        let mut failure = failed.failure.clone();
        if let ErrorClass::Throttled { retry_after } = &mut failure.class {
            *retry_after = Some(left);
        }
        Some(failure)
    }

    /// Records the endpoint's answer and returns the caller's result: the new token; the old one, if it is
    /// still valid and the failure is transient; or the failure.
    pub(super) fn record(
        &mut self,
        result: Result<AccessToken, Failure>,
        now: Timestamp,
    ) -> Result<HeaderValue, Failure> {
        let failure = match result {
            Ok(token) => {
                let header = token.header.clone();
                self.follows |= self.token.is_some();
                self.token = Some(Arc::new(token));
                self.failed = None;
                self.failures = 0;
                return Ok(header);
            }
            Err(failure) => failure,
        };
        let doubled = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST_PAUSE);
        let (pause, passes) = match failure.class {
            ErrorClass::Throttled {
                retry_after: Some(named),
            } if !named.is_zero() => (named, true),
            ErrorClass::Throttled { .. } | ErrorClass::Transient => (doubled, true),
            ErrorClass::Conflict
            | ErrorClass::Gone
            | ErrorClass::Refused
            | ErrorClass::CursorInvalid
            | ErrorClass::OutcomeUnknown => (PAUSE_AFTER_REFUSAL, false),
        };
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(Failed {
            failure: failure.clone(),
            at: now,
            pause,
        });
        if !passes {
            self.token = None;
        }
        match self.token.as_ref().filter(|token| token.usable(now)) {
            Some(token) => Ok(token.header.clone()),
            None => Err(failure),
        }
    }

    /// Returns the rest of a pause that the endpoint asked for.
    pub(super) fn pause_asked_for(&self, now: Timestamp) -> Option<Duration> {
        match self.pausing(now)?.class {
            ErrorClass::Throttled { retry_after } => retry_after,
            ErrorClass::Transient
            | ErrorClass::Conflict
            | ErrorClass::Gone
            | ErrorClass::Refused
            | ErrorClass::CursorInvalid
            | ErrorClass::OutcomeUnknown => None,
        }
    }

    /// Ends a pause that the endpoint asked for, because the operator ended it. Pauses after other failures
    /// stay.
    pub(super) fn end_pause(&mut self) {
        self.failed
            .take_if(|failed| matches!(failed.failure.class, ErrorClass::Throttled { .. }));
    }

    /// Records that a server refused the token. Returns `true` if another attempt makes sense: a new token
    /// will be requested, or was just obtained.
    pub(super) fn refused(&mut self, now: Timestamp) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let age = token.obtained.duration_until(now);
        if age.is_negative() || age >= REPLACE_INTERVAL {
            self.token = None;
            self.follows = true;
            true
        } else {
            self.follows && age < UNDER_WAY
        }
    }

    /// Returns when the token expires; `None` if there is none.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.token.as_ref().map(|token| token.expires)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tasksync_common::error::Code;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn token(name: &str, obtained: i64, life: i64) -> AccessToken {
        AccessToken {
            header: HeaderValue::from_str(name).unwrap(),
            obtained: at(obtained),
            expires: at(obtained + life),
        }
    }

    fn with_token(life: i64) -> TokenState {
        let mut state = TokenState::default();
        state.record(Ok(token("first", 0, life)), at(0)).unwrap();
        state
    }

    fn failure(class: ErrorClass) -> Failure {
        Failure::new(class, Code::TokenUnreachable, "no answer")
    }

    fn name(step: &TokenStep) -> &'static str {
        match step {
            TokenStep::Use(_) => "use",
            TokenStep::Renew(_) => "renew",
            TokenStep::Obtain => "obtain",
            TokenStep::Fail(_) => "fail",
        }
    }

    #[test]
    fn a_token_is_used_then_renewed_then_dropped() {
        // Lifetime in seconds, time, expected step.
        let table = [
            (3600, 0, "use"),
            (3600, 3299, "use"),
            (3600, 3300, "renew"),
            (3600, 3589, "renew"),
            (3600, 3590, "obtain"),
            (86_400, 86_099, "use"),
            (86_400, 86_100, "renew"),
            (300, 239, "use"),
            (300, 240, "renew"),
            (300, 290, "obtain"),
            (5, 0, "obtain"),
            // The clock was set back.
            (3600, -100, "renew"),
        ];
        for (life, time, expected) in table {
            assert_eq!(
                name(&with_token(life).step(at(time))),
                expected,
                "{life} s, at {time} s"
            );
        }
        assert_eq!(name(&TokenState::default().step(at(0))), "obtain");
    }

    #[test]
    fn the_old_token_serves_while_renewing_fails_for_a_time() {
        let mut state = with_token(3600);
        let header = state
            .record(Err(failure(ErrorClass::Transient)), at(3300))
            .unwrap();
        assert_eq!(header, "first");
        assert_eq!(name(&state.step(at(3301))), "use", "not asked again at once");
        assert_eq!(name(&state.step(at(3302))), "renew");
        assert!(
            state
                .record(Err(failure(ErrorClass::Transient)), at(3595))
                .is_err(),
            "expired"
        );
        assert_eq!(name(&state.step(at(3596))), "fail");
    }

    #[test]
    fn a_refused_application_does_not_go_on_with_its_old_token() {
        let mut state = with_token(3600);
        let refused = Failure::new(ErrorClass::Refused, Code::TokenRefused, "AADSTS7000222");
        assert_eq!(state.record(Err(refused.clone()), at(3300)), Err(refused.clone()));
        assert_eq!(name(&state.step(at(3359))), "fail");
        assert_eq!(name(&state.step(at(3360))), "obtain");
    }

    #[test]
    fn a_named_pause_is_kept_and_reported_with_its_rest() {
        let mut state = TokenState::default();
        let named = |seconds| ErrorClass::Throttled {
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert!(state.record(Err(failure(named(900))), at(0)).is_err());
        let TokenStep::Fail(reported_failure) = state.step(at(300)) else {
            panic!("asked during the pause")
        };
        assert_eq!(reported_failure.class, named(600));
        assert_eq!(name(&state.step(at(900))), "obtain");
        // The clock was set back: the pause does not become longer than it was.
        assert_eq!(name(&state.step(at(-1))), "obtain");
    }

    #[test]
    fn a_server_that_refuses_everything_costs_one_token_a_minute() {
        let mut state = with_token(3600);
        assert!(!state.refused(at(1)), "a fresh first token would not get better");
        assert!(state.refused(at(60)), "replaced");
        assert!(state.refused(at(60)), "others who were refused try again, too");
        assert_eq!(name(&state.step(at(60))), "obtain");
        state.record(Ok(token("second", 61, 3600)), at(61)).unwrap();
        // Calls that were in flight with the first token.
        assert!(state.refused(at(62)));
        let TokenStep::Use(header) = state.step(at(62)) else {
            panic!("the new token was forgotten")
        };
        assert_eq!(header, "second");
        // No call can have used the first token any more.
        assert!(!state.refused(at(100)));
        assert!(state.refused(at(121)));
    }

    proptest! {
        #[test]
        fn pauses_after_failures_grow_and_stay_below_a_minute(failures in 1_u32..200) {
            let mut state = TokenState::default();
            let mut now = 0;
            let mut last = 0;
            for _ in 0..failures {
                let _ = state.record(Err(failure(ErrorClass::Transient)), at(now));
                let pause = (0..=61).find(|second| name(&state.step(at(now + second))) == "obtain").unwrap();
                prop_assert!(pause >= last && (2..=60).contains(&pause));
                last = pause;
                now += pause;
            }
        }
    }
}
