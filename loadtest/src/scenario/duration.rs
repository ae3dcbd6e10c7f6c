//! Parses and formats times: a number and a unit.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A time in a scenario file: `"250ms"`, `"30s"`, `"5min"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub Duration);

impl Time {
    /// Returns a time of `seconds` seconds.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// Parses a time. Returns `None` if the number or the unit is missing or unknown.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let scale = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * scale).ok()
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{text}\" is not a time; write a number and a unit (us, ms, s, min, h), for example \"30s\""
            ))
        })
    }
}

/// Formats a time for people: `850 ms`, `12.3 s`, `4 min 05 s`, `1 h 02 min`.
pub(crate) fn words(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 3600.0 {
        let whole = time.as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        let minutes = time.as_secs() / 60;
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse(" 1.5 s "), Some(Duration::from_millis(1500)));
        assert_eq!(parse("5min"), Some(Duration::from_mins(5)));
        assert_eq!(parse("2h"), Some(Duration::from_hours(2)));
        for wrong in ["5", "min", "5 parsecs", "-1s", "", "1e3s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_fit_the_length() {
        let say = |milliseconds| words(Duration::from_millis(milliseconds));
        assert_eq!(
            [say(20), say(1_500), say(245_000), say(3_720_000)],
            ["20 ms", "1.5 s", "4 min 05 s", "1 h 02 min"]
        );
    }
}
