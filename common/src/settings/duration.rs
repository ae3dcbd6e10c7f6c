//! Durations in settings. They always carry their unit: `60s`, `5min`, `3h`, `30d`, `250ms`, or `0`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

/// Reads a duration with its unit.
///
/// # Errors
/// Names the text that was found and the expected form.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(WithUnit)
}

/// Writes a duration with its unit.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*time))
}

/// Returns a time as settings write it, in the largest unit that gives a readable whole number. Fractions of
/// milliseconds are cut off.
pub(crate) fn written(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_millis() > 0 {
        return format!("{}ms", time.as_millis());
    }
    let (number, unit) = match seconds {
        0 => return "0".to_owned(),
        // One or two days are written in hours.
        days if days.is_multiple_of(86_400) && days > 2 * 86_400 => (days / 86_400, "d"),
        hours if hours.is_multiple_of(3_600) => (hours / 3_600, "h"),
        minutes if minutes.is_multiple_of(60) && minutes > 120 => (minutes / 60, "min"),
        seconds => (seconds, "s"),
    };
    format!("{number}{unit}")
}

struct WithUnit;

impl Visitor<'_> for WithUnit {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "a whole number and a unit in quotes, such as \"250ms\", \"45s\", \"5min\", \"3h\" or \"30d\"; or 0",
        )
    }

    // A 0 without quotes, in the file or in an environment variable.
    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        if number == 0 {
            Ok(Duration::ZERO)
        } else {
            Err(E::invalid_type(Unexpected::Signed(number), &self))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| {
            E::custom(format!(
                "\"{text}\" is not a duration: write a whole number and a unit, such as 250ms, 45s, 5min, 3h or 30d"
            ))
        })
    }
}

/// Returns the duration that a text with a unit names; `None` for another text.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for milliseconds in [
            0,
            1,
            250,
            1_500,
            45_000,
            60_000,
            300_000,
            7_200_000,
            86_400_000,
            2_592_000_000,
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(parse(&written(time)), Some(time), "{}", written(time));
        }
        assert_eq!(written(Duration::from_hours(720)), "30d");
        assert_eq!(written(Duration::from_hours(48)), "48h");
        assert_eq!(written(Duration::from_mins(2)), "120s");
    }

    #[test]
    fn every_unit_and_nothing_else() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("45s"), Some(Duration::from_secs(45)));
        assert_eq!(parse("5min"), Some(Duration::from_mins(5)));
        assert_eq!(parse("3h"), Some(Duration::from_hours(3)));
        assert_eq!(parse("30d"), Some(Duration::from_hours(720)));
        assert_eq!(parse("0"), Some(Duration::ZERO));
        for wrong in [
            "",
            "5",
            "5m",
            "-5s",
            "1.5h",
            "s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
