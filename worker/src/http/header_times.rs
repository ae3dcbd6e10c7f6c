//! Times and pauses that servers name in header lines.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::header::{DATE, HeaderMap, RETRY_AFTER};

/// Duration of a call beyond which its answer says too little about the server's clock.
const LONGEST_USEFUL_CALL: SignedDuration = SignedDuration::from_secs(10);

/// Returns the server's clock minus ours, if the request was sent at `sent` and the answer's header lines
/// arrived at `answered`.
///
/// Returns `None` without a readable `Date`, if the call took more than 10 seconds, or if our own clock was
/// set back meanwhile.
pub(super) fn clock_offset(
    headers: &HeaderMap,
    sent: Timestamp,
    answered: Timestamp,
) -> Option<SignedDuration> {
    let taken = sent.duration_until(answered);
    if taken.is_negative() || taken > LONGEST_USEFUL_CALL {
        return None;
    }
    let server = http_date(headers.get(DATE)?.to_str().ok()?)?;
    let middle = sent.checked_add(taken / 2).ok()?;
    Some(middle.duration_until(server))
}

/// The longest pause that is accepted from a server. A longer one is a mistake of the server or of a proxy.
pub const LONGEST_NAMED_PAUSE: Duration = Duration::from_hours(24);

/// Returns the pause that a server names in `Retry-After`, at most 24 hours. The value is a number of
/// seconds, of which a fraction is accepted, or a date (RFC 9110, section 10.2.3), which is compared with the
/// server's own clock. A date in the past is a pause of zero. Returns `None` if the header is missing or
/// cannot be read.
#[must_use]
pub fn retry_after(headers: &HeaderMap, server_now: Timestamp) -> Option<Duration> {
    named_pause(headers.get(RETRY_AFTER)?.to_str().ok()?, server_now)
}

/// Does the same as [`retry_after`] for the text of the header.
#[must_use]
pub fn named_pause(text: &str, server_now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let pause = if text.starts_with(|first: char| first.is_ascii_digit()) {
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_NAMED_PAUSE)
    } else {
        let until = server_now.duration_until(http_date(text)?);
        Duration::try_from(until).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(LONGEST_NAMED_PAUSE))
}

/// Returns the pause that Exchange names in `BackOffMilliseconds`, at most 24 hours. Returns `None` if it is
/// 0 or cannot be read.
#[must_use]
pub fn pause_in_milliseconds(text: &str) -> Option<Duration> {
    let milliseconds: u64 = text.trim().parse().ok()?;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds).min(LONGEST_NAMED_PAUSE))
}

/// Reads a date like `Sun, 06 Nov 1994 08:49:37 GMT`. The weekday is not compared with the date: some servers
/// send a wrong one.
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(text)
        .ok()
}

#[cfg(test)]
mod tests {
    use crate::http::header::HeaderValue;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn headers(name: crate::http::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_offset_is_measured_from_the_middle_of_the_call() {
        let date = headers(DATE, "Mon, 02 Nov 2026 10:00:10 GMT");
        let offset = |sent, answered| clock_offset(&date, at(sent), at(answered));
        assert_eq!(
            offset("2026-11-02T10:00:00Z", "2026-11-02T10:00:04Z"),
            Some(SignedDuration::from_secs(8))
        );
        assert_eq!(
            offset("2026-11-02T10:00:20Z", "2026-11-02T10:00:20Z"),
            Some(SignedDuration::from_secs(-10))
        );
        // A call that was too slow, and a clock that was set back.
        assert_eq!(offset("2026-11-02T10:00:00Z", "2026-11-02T10:00:11Z"), None);
        assert_eq!(offset("2026-11-02T10:00:02Z", "2026-11-02T10:00:01Z"), None);
        let now = at("2026-11-02T10:00:00Z");
        assert_eq!(clock_offset(&HeaderMap::new(), now, now), None);
        assert_eq!(clock_offset(&headers(DATE, "yesterday"), now, now), None);
    }

    #[test]
    fn a_pause_is_named_in_seconds_or_as_a_date() {
        let now = at("2026-11-02T10:00:00Z");
        let table = [
            ("120", Some(Duration::from_mins(2))),
            (" 0 ", Some(Duration::ZERO)),
            ("Mon, 02 Nov 2026 10:01:30 GMT", Some(Duration::from_secs(90))),
            ("Sun, 02 Nov 2026 10:01:30 GMT", Some(Duration::from_secs(90))),
            ("Mon, 02 Nov 2026 09:00:00 GMT", Some(Duration::ZERO)),
            ("-5", None),
            ("1.5", Some(Duration::from_millis(1_500))),
            ("", None),
            ("soon", None),
            ("99999999999999999999999", Some(LONGEST_NAMED_PAUSE)),
            ("Wed, 02 Nov 2033 10:00:00 GMT", Some(LONGEST_NAMED_PAUSE)),
            ("inf", None),
            ("1e", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                retry_after(&headers(RETRY_AFTER, text), now),
                expected,
                "{text:?}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
