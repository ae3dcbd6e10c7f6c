//! What servers said about an account's password. A password that was refused is not tried again and again: each
//! attempt counts towards the lockout of the account. A password that the server accepted before is doubted first: some
//! servers answer 401 where another would say that the account has no right. Pure: nothing here waits or does I/O.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use tasksync_common::error::Failure;

/// Time after the first refusal in which the password is not tried; each further refusal doubles it, …
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// … up to this.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(30);

/// Refusals in a row after which a password that was accepted before counts as refused.
const DOUBTS: u32 = 3;

/// A refusal that still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StandingRefusal {
    /// The failure of the attempt that was refused last.
    pub(super) failure: Failure,
    pub(super) times: u32,
    pub(super) until: Timestamp,
}

/// The number of an attempt to use a password, in the order in which the attempts began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt(u64);

/// What one server said about one account's passwords.
#[derive(Default)]
pub(super) struct PasswordHistory {
    /// The password that was accepted last, and how often it was refused since.
    proven: Option<(SecretString, u32)>,
    refused: Option<(SecretString, StandingRefusal)>,
    /// The attempt that began last.
    begun: u64,
    /// Attempts up to this one began before the last refusal was known. Their refusals say nothing new.
    counted: u64,
}

impl PasswordHistory {
    /// Returns the refusal because of which the password is not tried now.
    pub(super) fn refusal(&self, password: &SecretString, now: Timestamp) -> Option<StandingRefusal> {
        let (refused, refusal) = self.refused.as_ref()?;
        // A clock that was set back must not make the pause longer than it may be.
        let left = now.duration_until(refusal.until);
        let holds = same(refused, password) && left.is_positive() && left <= LONGEST_PAUSE;
        holds.then(|| refusal.clone())
    }

    /// Returns whether the server accepted this password, and has not refused it since.
    pub(super) fn is_proven(&self, password: &SecretString) -> bool {
        let proven = self.proven.as_ref();
        proven.is_some_and(|(proven, doubts)| *doubts == 0 && same(proven, password))
    }

    /// Begins an attempt.
    pub(super) fn begin(&mut self) -> Attempt {
        self.begun += 1;
        Attempt(self.begun)
    }

    /// Records that the server accepted the password.
    pub(super) fn accept(&mut self, password: SecretString) {
        self.proven = Some((password, 0));
        self.refused = None;
    }

    /// Records that the server refused the password. Attempts that ran at the same time count once.
    pub(super) fn refuse(
        &mut self,
        attempt: Attempt,
        password: SecretString,
        failure: Failure,
        now: Timestamp,
    ) {
        if attempt.0 <= self.counted {
            return;
        }
        self.counted = self.begun;
        if let Some((proven, doubts)) = &mut self.proven
            && same(proven, &password)
        {
            *doubts += 1;
            if *doubts < DOUBTS {
                return;
            }
        }
        let before = match &self.refused {
            Some((refused, refusal)) if same(refused, &password) => refusal.times,
            Some(_) | None => 0,
        };
        let pause = (0..before).fold(FIRST_PAUSE, |pause, _| (pause * 2).min(LONGEST_PAUSE));
        self.proven = None;
        self.refused = Some((
            password,
            StandingRefusal {
                failure,
                times: before.saturating_add(1),
                until: now.checked_add(pause).unwrap_or(Timestamp::MAX),
            },
        ));
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::{Code, ErrorClass};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    /// Tries a password alone, and is refused.
    fn refuse(history: &mut PasswordHistory, password: &str, second: i64) {
        let attempt = history.begin();
        let failure = Failure::new(ErrorClass::Refused, Code::ExchangeSignInRefused, "HTTP 401");
        history.refuse(attempt, secret(password), failure, at(second));
    }

    #[test]
    fn a_refused_password_waits_longer_each_time_and_a_new_one_does_not_wait() {
        let mut history = PasswordHistory::default();
        let mut now = 0;
        for pause in [300, 600, 1_200, 1_800, 1_800] {
            assert_eq!(history.refusal(&secret("old"), at(now)), None);
            refuse(&mut history, "old", now);
            assert!(
                history.refusal(&secret("old"), at(now + pause - 1)).is_some(),
                "{pause}"
            );
            assert_eq!(history.refusal(&secret("new"), at(now)), None);
            now += pause;
        }
        refuse(&mut history, "new", now);
        assert_eq!(history.refusal(&secret("new"), at(now)).unwrap().times, 1);
    }

    #[test]
    fn an_accepted_password_is_doubted_before_it_counts_as_refused() {
        let mut history = PasswordHistory::default();
        refuse(&mut history, "right", 0);
        assert!(!history.is_proven(&secret("right")));
        history.accept(secret("right"));
        assert!(history.is_proven(&secret("right")) && !history.is_proven(&secret("other")));
        assert_eq!(history.refusal(&secret("right"), at(0)), None);
        // One request is refused, then another one is not.
        refuse(&mut history, "right", 100);
        assert!(!history.is_proven(&secret("right")));
        assert_eq!(history.refusal(&secret("right"), at(100)), None);
        history.accept(secret("right"));
        // The password expires.
        for doubted in 1..=2 {
            refuse(&mut history, "right", 200 + doubted);
            assert_eq!(history.refusal(&secret("right"), at(210)), None);
        }
        refuse(&mut history, "right", 210);
        assert_eq!(history.refusal(&secret("right"), at(211)).unwrap().times, 1);
        refuse(&mut history, "right", 600);
        assert_eq!(history.refusal(&secret("right"), at(601)).unwrap().times, 2);
    }

    #[test]
    fn attempts_that_ran_at_the_same_time_count_once() {
        let mut history = PasswordHistory::default();
        history.accept(secret("right"));
        let attempts: Vec<_> = (0..25).map(|_| history.begin()).collect();
        for attempt in attempts {
            let failure = Failure::new(ErrorClass::Refused, Code::ExchangeSignInRefused, "HTTP 401");
            history.refuse(attempt, secret("right"), failure, at(0));
        }
        assert_eq!(history.refusal(&secret("right"), at(1)), None, "one doubt");
    }

    #[test]
    fn a_clock_set_back_ends_a_refusal() {
        let mut history = PasswordHistory::default();
        refuse(&mut history, "x", 100_000);
        assert_eq!(history.refusal(&secret("x"), at(0)), None);
    }
}
