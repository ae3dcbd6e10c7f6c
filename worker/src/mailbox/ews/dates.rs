//! Dates in requests and answers. A task's days are calendar dates. They are written as midnight without a
//! zone, with the owner's zone in the header. They are read in the owner's zone and rounded to the nearest
//! midnight, so that a value that is off by less than twelve hours (another zone, a changed rule) still gives
//! the right day.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::xml::{BadAnswer, Parsed};
use crate::http::for_message;

/// Reads an instant with a zone, or without one, which EWS means as UTC.
pub(super) fn instant(text: &str) -> Parsed<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    civil(text)
        .and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok())
        .ok_or_else(|| unreadable(text))
}

/// Reads the day of a value of `StartDate` or `DueDate`.
pub(super) fn day(text: &str, zone: &TimeZone) -> Parsed<Date> {
    let text = text.trim();
    let local = match text.parse::<Timestamp>() {
        Ok(instant) => zone.to_datetime(instant),
        Err(_) => civil(text).ok_or_else(|| unreadable(text))?,
    };
    Ok(local
        .checked_add(Span::new().hours(12))
        .map_or(local.date(), DateTime::date))
}

/// Reads an `xs:dateTime` without a zone, or an `xs:date` with or without one.
fn civil(text: &str) -> Option<DateTime> {
    text.parse::<DateTime>()
        .ok()
        .or_else(|| text.get(..10)?.parse::<Date>().ok().map(Date::into))
}

fn unreadable(text: &str) -> BadAnswer {
    BadAnswer(format!("\"{}\" is not a date", for_message(text, 40)))
}

/// Appends a day in the form that EWS accepts: midnight, without a zone.
pub(super) fn write_day(out: &mut String, day: Date) {
    use std::fmt::Write as _;
    // Years before 1 cannot be written as xs:dateTime; no task has such a date.
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T00:00:00",
        day.year().max(1),
        day.month(),
        day.day()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn days_are_read_in_the_owners_zone_and_rounded() {
        let rows = [
            ("2026-12-04T00:00:00Z", "UTC", "2026-12-04"),
            ("2026-12-03T23:00:00Z", "Europe/Berlin", "2026-12-04"),
            ("2026-12-04T00:00:00+01:00", "Europe/Berlin", "2026-12-04"),
            ("2026-12-04T00:00:00.0000000+01:00", "Europe/Berlin", "2026-12-04"),
            ("2026-12-04T08:00:00.123Z", "America/Los_Angeles", "2026-12-04"),
            // Written as midnight in UTC by another program.
            ("2026-12-04T00:00:00Z", "America/Los_Angeles", "2026-12-04"),
            ("2026-12-04T00:00:00Z", "Asia/Tokyo", "2026-12-04"),
            // A changed daylight rule.
            ("2026-06-03T23:00:00Z", "Europe/Berlin", "2026-06-04"),
            ("2026-12-03T10:00:00Z", "Pacific/Kiritimati", "2026-12-04"),
            // Midnight does not exist on this day.
            ("2026-04-24T00:00:00+02:00", "Africa/Cairo", "2026-04-24"),
            // Without zone and without time.
            ("2026-12-04T00:00:00", "Asia/Tokyo", "2026-12-04"),
            ("2026-12-04", "Asia/Tokyo", "2026-12-04"),
            (" 2026-12-04Z ", "Asia/Tokyo", "2026-12-04"),
        ];
        for (text, name, expected) in rows {
            assert_eq!(
                day(text, &zone(name)).unwrap().to_string(),
                expected,
                "{text} {name}"
            );
        }
        for wrong in ["", "tomorrow", "2026-13-01T00:00:00Z", "é2026-1-1"] {
            assert!(day(wrong, &TimeZone::UTC).is_err(), "{wrong}");
            assert!(instant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn instants_keep_fractions_and_offsets() {
        assert_eq!(
            instant("2026-11-22T15:00:00.1234567+01:00")
                .unwrap()
                .as_microsecond(),
            instant("2026-11-22T14:00:00.123456Z").unwrap().as_microsecond()
        );
        assert_eq!(
            instant("2026-11-22T14:00:00").unwrap(),
            instant("2026-11-22T14:00:00Z").unwrap()
        );
    }

    #[test]
    fn a_day_survives_the_round_trip_in_every_zone() {
        for name in [
            "UTC",
            "Europe/Berlin",
            "Pacific/Kiritimati",
            "Pacific/Niue",
            "Africa/Cairo",
        ] {
            let mut day_before = jiff::civil::date(2026, 1, 1);
            for _ in 0..365 {
                let mut out = String::new();
                write_day(&mut out, day_before);
                // A server stores local midnight as an instant.
                let stored = zone(name).to_timestamp(out.parse::<DateTime>().unwrap()).unwrap();
                assert_eq!(
                    day(&stored.to_string(), &zone(name)).unwrap(),
                    day_before,
                    "{name}"
                );
                day_before = day_before.tomorrow().unwrap();
            }
        }
    }
}
