//! Durations in settings. They always carry their unit: `60s`, `5min`, `3h`, `30d`, `250ms`, or `0`.

use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Reads a duration with its unit.
///
/// # Errors
/// Names the text that was found and the expected form.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(WithUnit)
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
