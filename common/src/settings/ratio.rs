//! A share between 0 and 1.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share between 0 and 1, stored in millionths so that settings can be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u32);

const WHOLE: f64 = 1_000_000.0;

impl Ratio {
    /// Returns a percentage as a share; above 100 it is 1.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 100 {
            1_000_000
        } else {
            percent * 10_000
        })
    }

    /// Returns the share.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / WHOLE
    }

    /// Returns a share; `None` outside of 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the share is between 0 and 1, so the rounded product is a whole number up to 1,000,000"
    )]
    pub(super) fn of(share: f64) -> Option<Self> {
        (0.0..=1.0)
            .contains(&share)
            .then(|| Self((share * WHOLE).round() as u32))
    }
}

/// Formats the share as it is written in the settings.
impl fmt::Debug for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.get())
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A share as a TOML number, or as the text of an environment variable.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum RatioValue {
            Number(f64),
            Text(String),
        }
        let share = match RatioValue::deserialize(deserializer)? {
            RatioValue::Number(number) => Some(number),
            RatioValue::Text(text) => text.trim().parse().ok(),
        };
        share
            .and_then(Self::of)
            .ok_or_else(|| de::Error::custom("a share between 0 and 1 is needed, such as 0.01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_from_numbers_and_text_and_nothing_else() {
        let read = |text: &str| {
            let table: Result<std::collections::BTreeMap<String, Ratio>, _> =
                toml::from_str(&format!("share = {text}"));
            table.ok().map(|table| format!("{:?}", table["share"]))
        };
        assert_eq!(read("0.01").as_deref(), Some("0.01"));
        assert_eq!(read("1").as_deref(), Some("1"));
        assert_eq!(read("\"0.5\"").as_deref(), Some("0.5"));
        for wrong in ["1.1", "-0.1", "nan", "\"half\"", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!((Ratio::percent(1).get() - 0.01).abs() < f64::EPSILON);
    }
}
