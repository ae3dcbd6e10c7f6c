//! The time zone of a web, and calendar dates in it.
//!
//! A date-only column contains midnight in the web's zone, as a UTC instant. SharePoint names its zones by
//! numbers of its own, with a description in the site's language. The number is looked up here and becomes a
//! Windows zone, and thus an IANA zone with correct rules for every year. The number is used only if that
//! zone's present rules have the biases that the server reports. Otherwise (an unknown number, or a server
//! whose zone rules are older or newer than ours) only the biases are used: reading takes the bias under
//! which the instant is a midnight, and writing asks the server itself (`localtimetoutc`).

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use tasksync_common::model::zone_of_windows;

use super::json::Cell;
use super::odata;

/// The time after which a zone with daylight saving time has its other offset.
const HALF_A_YEAR: SignedDuration = SignedDuration::from_hours(182 * 24);

/// The zone of a web.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Zone {
    /// A zone with known rules.
    Known(TimeZone),
    /// Only the server knows the rules; these are its standard and daylight offsets.
    Biased {
        /// Offset outside daylight saving time.
        standard: Offset,
        /// Offset in daylight saving time; equal to `standard` if there is none.
        daylight: Offset,
    },
}

/// Midnight of a date as an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Midnight {
    /// This instant is midnight.
    At(Timestamp),
    /// The server has to be asked; this instant is midnight outside daylight saving time.
    AskServer(Timestamp),
}

impl Zone {
    /// Reads `regionalsettings/timezone`. `now` decides which year's rules are compared with the biases.
    ///
    /// # Errors
    /// The answer names no zone.
    pub(super) fn read(answer: &Cell, now: Timestamp) -> Result<Self, String> {
        let information = answer.get("Information").unwrap_or(answer);
        let minutes = |name: &str| -> Result<Option<i64>, String> {
            match information.get(name) {
                None | Some(Cell::Null) => Ok(None),
                Some(_) => match odata::integer(information, name).filter(|minutes| minutes.abs() <= 24 * 60)
                {
                    Some(minutes) => Ok(Some(minutes)),
                    None => Err(format!(
                        "the time zone's {name} is not a number of minutes up to 1440"
                    )),
                },
            }
        };
        let windows_zone = odata::integer(answer, "Id")
            .and_then(windows_name)
            .and_then(zone_of_windows);
        let Some(bias) = minutes("Bias")? else {
            return windows_zone
                .map(Self::Known)
                .ok_or_else(|| "the answer names no time zone".to_owned());
        };
        let standard = offset(-(bias + minutes("StandardBias")?.unwrap_or(0)));
        let daylight = minutes("DaylightBias")?.map(|daylight| offset(-(bias + daylight)));
        match windows_zone {
            Some(zone) if agrees(&zone, standard, daylight, now) => Ok(Self::Known(zone)),
            // No daylight bias means no daylight saving time.
            _ => Ok(Self::Biased {
                standard,
                daylight: daylight.unwrap_or(standard),
            }),
        }
    }

    /// Returns the name of the zone, and its offsets at `now` and half a year later, in ascending order.
    pub(super) fn name_and_offsets(&self, now: Timestamp) -> (String, [Offset; 2]) {
        let (name, mut offsets) = match self {
            Self::Known(zone) => {
                let later = now.checked_add(HALF_A_YEAR).unwrap_or(now);
                let name = zone.iana_name().unwrap_or("a zone without a name");
                (name.to_owned(), [zone.to_offset(now), zone.to_offset(later)])
            }
            Self::Biased { standard, daylight } => {
                (format!("UTC{standard} and UTC{daylight}"), [*standard, *daylight])
            }
        };
        offsets.sort();
        (name, offsets)
    }

    /// Returns the calendar date of a value in a date-only column: the date of the nearest midnight in the
    /// zone. This tolerates writers that were an hour off at a daylight saving change, or wrote UTC midnight.
    pub(super) fn date_of_midnight(&self, instant: Timestamp) -> Option<Date> {
        let half_day = SignedDuration::from_hours(12);
        match self {
            Self::Known(zone) => {
                let local = zone.to_datetime(instant);
                Some(local.checked_add(half_day).ok()?.date())
            }
            Self::Biased { standard, daylight } => {
                let exact = [standard, daylight]
                    .into_iter()
                    .map(|offset| offset.to_datetime(instant))
                    .find(|local| local.time() == Time::midnight());
                match exact {
                    Some(local) => Some(local.date()),
                    None => Some(standard.to_datetime(instant).checked_add(half_day).ok()?.date()),
                }
            }
        }
    }

    /// Returns the calendar date of an instant.
    pub(super) fn date_of_instant(&self, instant: Timestamp) -> Date {
        match self {
            Self::Known(zone) => zone.to_datetime(instant).date(),
            Self::Biased { standard, .. } => standard.to_datetime(instant).date(),
        }
    }

    /// Returns midnight of a date; the first moment of the day if daylight saving time skips midnight.
    pub(super) fn midnight(&self, date: Date) -> Option<Midnight> {
        let local = date.to_datetime(Time::midnight());
        match self {
            Self::Known(zone) => Some(Midnight::At(zone.to_timestamp(local).ok()?)),
            Self::Biased { standard, daylight } => {
                let instant = standard.to_timestamp(local).ok()?;
                Some(if standard == daylight {
                    Midnight::At(instant)
                } else {
                    Midnight::AskServer(instant)
                })
            }
        }
    }
}

fn offset(minutes: i64) -> Offset {
    let seconds = i32::try_from(minutes * 60).unwrap_or(0);
    Offset::from_seconds(seconds).unwrap_or(Offset::UTC)
}

/// Returns whether the zone's offsets within a year from `now` are the server's. A server that reports no
/// daylight bias is assumed to follow the zone's rules; a server whose daylight bias is 0 has no daylight
/// saving time.
fn agrees(zone: &TimeZone, standard: Offset, daylight: Option<Offset>, now: Timestamp) -> bool {
    let mut seen = Vec::new();
    for month in 0..12 {
        let Ok(instant) = now.checked_add(SignedDuration::from_hours(24 * 30 * month)) else {
            return false;
        };
        let offset = zone.to_offset(instant);
        if !seen.contains(&offset) {
            seen.push(offset);
        }
    }
    match (seen.as_slice(), daylight) {
        // Some Windows zones have a daylight bias that is never used.
        ([only], _) => *only == standard,
        ([_, _], Some(daylight)) => {
            standard != daylight && seen.contains(&standard) && seen.contains(&daylight)
        }
        ([_, _], None) => seen.contains(&standard),
        _ => false,
    }
}

/// Returns the Windows zone of SharePoint's zone number (TIMEZONE.XML).
fn windows_name(id: i64) -> Option<&'static str> {
    Some(match id {
        2 => "GMT Standard Time",
        3 => "Romance Standard Time",
        4 => "W. Europe Standard Time",
        5 => "GTB Standard Time",
        6 => "Central Europe Standard Time",
        8 => "E. South America Standard Time",
        9 => "Atlantic Standard Time",
        10 => "Eastern Standard Time",
        11 => "Central Standard Time",
        12 => "Mountain Standard Time",
        13 => "Pacific Standard Time",
        14 => "Alaskan Standard Time",
        15 => "Hawaiian Standard Time",
        16 => "Samoa Standard Time",
        17 => "New Zealand Standard Time",
        18 => "E. Australia Standard Time",
        19 => "Cen. Australia Standard Time",
        20 => "Tokyo Standard Time",
        21 => "Singapore Standard Time",
        22 => "SE Asia Standard Time",
        23 => "India Standard Time",
        24 => "Arabian Standard Time",
        25 => "Iran Standard Time",
        26 => "Arabic Standard Time",
        27 => "Israel Standard Time",
        28 => "Newfoundland Standard Time",
        29 => "Azores Standard Time",
        31 => "Greenwich Standard Time",
        32 => "SA Eastern Standard Time",
        33 => "SA Western Standard Time",
        34 => "US Eastern Standard Time",
        35 => "SA Pacific Standard Time",
        36 => "Canada Central Standard Time",
        37 => "Central Standard Time (Mexico)",
        38 => "US Mountain Standard Time",
        39 => "Dateline Standard Time",
        40 => "Fiji Standard Time",
        41 => "Central Pacific Standard Time",
        42 => "Tasmania Standard Time",
        43 => "West Pacific Standard Time",
        44 => "AUS Central Standard Time",
        45 => "China Standard Time",
        46 => "N. Central Asia Standard Time",
        47 => "West Asia Standard Time",
        48 => "Afghanistan Standard Time",
        49 => "Egypt Standard Time",
        50 => "South Africa Standard Time",
        51 => "Russian Standard Time",
        53 => "Cape Verde Standard Time",
        54 => "Azerbaijan Standard Time",
        55 => "Central America Standard Time",
        56 => "E. Africa Standard Time",
        57 => "Central European Standard Time",
        58 => "Ekaterinburg Standard Time",
        59 => "FLE Standard Time",
        60 => "Greenland Standard Time",
        61 => "Myanmar Standard Time",
        62 => "Nepal Standard Time",
        63 => "North Asia East Standard Time",
        64 => "North Asia Standard Time",
        65 => "Pacific SA Standard Time",
        66 => "Sri Lanka Standard Time",
        67 => "Tonga Standard Time",
        68 => "Vladivostok Standard Time",
        69 => "W. Central Africa Standard Time",
        70 => "Yakutsk Standard Time",
        71 => "Central Asia Standard Time",
        72 => "Korea Standard Time",
        73 => "W. Australia Standard Time",
        74 => "Arab Standard Time",
        75 => "Taipei Standard Time",
        76 => "AUS Eastern Standard Time",
        77 => "Mountain Standard Time (Mexico)",
        78 => "Pacific Standard Time (Mexico)",
        79 => "Jordan Standard Time",
        80 => "Middle East Standard Time",
        81 => "Central Brazilian Standard Time",
        82 => "Georgian Standard Time",
        83 => "Namibia Standard Time",
        84 => "Caucasus Standard Time",
        85 => "Argentina Standard Time",
        86 => "Morocco Standard Time",
        87 => "Pakistan Standard Time",
        88 => "Venezuela Standard Time",
        89 => "Mauritius Standard Time",
        90 => "Montevideo Standard Time",
        91 => "Paraguay Standard Time",
        93 => "UTC",
        94 => "Ulaanbaatar Standard Time",
        98 => "Syria Standard Time",
        99 => "Magadan Standard Time",
        100 => "Kaliningrad Standard Time",
        101 => "Turkey Standard Time",
        102 => "Bangladesh Standard Time",
        103 => "Bahia Standard Time",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T14:00:00Z".parse().unwrap()
    }

    fn zone(id: i64, bias: i64, daylight: i64) -> Zone {
        let information = json!({"Bias": bias, "StandardBias": 0, "DaylightBias": daylight});
        Zone::read(&json!({"Id": id, "Information": information}).into(), now()).unwrap()
    }

    fn midnight(zone: &Zone, date: &str) -> String {
        match zone.midnight(date.parse().unwrap()) {
            Some(Midnight::At(instant)) => instant.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_without_daylight_saving_time_is_believed() {
        let pacific = zone(13, 480, 0);
        assert_eq!(midnight(&pacific, "2026-07-11"), "2026-07-11T08:00:00Z");
        assert_eq!(midnight(&pacific, "2026-12-11"), "2026-12-11T08:00:00Z");
        // A server that reports no biases follows the rules of the zone it names.
        for incomplete in [json!({"Id": 13}), json!({"Id": 13, "Information": {"Bias": 480}})] {
            let zone = Zone::read(&incomplete.into(), now()).unwrap();
            assert_eq!(midnight(&zone, "2026-07-11"), "2026-07-11T07:00:00Z");
        }
    }

    #[test]
    fn a_zone_that_cannot_be_read_is_no_zone() {
        for unreadable in [
            json!({}),
            json!(null),
            json!({"Id": 9_999}),
            json!({"Id": 13, "Information": {"Bias": "x"}}),
            json!({"Id": 13, "Information": {"Bias": 480, "DaylightBias": 99_999}}),
        ] {
            assert!(
                Zone::read(&unreadable.clone().into(), now()).is_err(),
                "{unreadable}"
            );
        }
    }

    #[test]
    fn every_number_names_a_zone_that_exists() {
        for id in 0..200 {
            if let Some(name) = windows_name(id) {
                assert!(zone_of_windows(name).is_some(), "{id} {name}");
            }
        }
    }

    #[test]
    fn dates_go_round_over_every_daylight_saving_change() {
        for (id, bias, daylight, name) in [
            (4, -60, -60, "Berlin"),
            (13, 480, -60, "Pacific"),
            (10, 300, -60, "Eastern"),
            (23, -330, 0, "India"),
            (17, -720, -60, "Auckland"),
            (19, -570, -60, "Adelaide"),
            (62, -345, 0, "Nepal"),
            (
                65,
                240,
                -60,
                "Santiago, where daylight saving time skips midnight",
            ),
            (93, 0, 0, "UTC"),
        ] {
            let zone = zone(id, bias, daylight);
            assert!(matches!(zone, Zone::Known(_)), "{name}");
            let mut date: Date = "2026-01-01".parse().unwrap();
            for _ in 0..400 {
                let Some(Midnight::At(instant)) = zone.midnight(date) else {
                    panic!("{name} {date}")
                };
                assert_eq!(zone.date_of_midnight(instant), Some(date), "{name}");
                date = date.tomorrow().unwrap();
            }
        }
    }

    #[test]
    fn known_instants() {
        let berlin = zone(4, -60, -60);
        let december: Date = "2026-12-04".parse().unwrap();
        assert_eq!(
            berlin.midnight(december),
            Some(Midnight::At("2026-12-03T23:00:00Z".parse().unwrap()))
        );
        let july: Date = "2026-07-04".parse().unwrap();
        assert_eq!(
            berlin.midnight(july),
            Some(Midnight::At("2026-07-03T22:00:00Z".parse().unwrap()))
        );
        // Written an hour off, or as UTC midnight: the date is the same.
        for text in [
            "2026-07-03T23:00:00Z",
            "2026-07-03T21:00:00Z",
            "2026-07-04T00:00:00Z",
        ] {
            assert_eq!(
                berlin.date_of_midnight(text.parse().unwrap()),
                Some(july),
                "{text}"
            );
        }
        let pacific = zone(13, 480, -60);
        assert_eq!(
            pacific.date_of_midnight("2026-07-04T00:00:00Z".parse().unwrap()),
            Some(july)
        );
        assert_eq!(
            pacific.date_of_midnight("2026-07-04T07:00:00Z".parse().unwrap()),
            Some(july)
        );
        assert_eq!(
            berlin.date_of_instant("2026-07-04T15:00:00Z".parse().unwrap()),
            july
        );
    }

    #[test]
    fn an_unknown_zone_reads_by_its_biases_and_writes_by_asking() {
        for unknown in [zone(9_999, -60, -60), zone(4, -120, -60)] {
            assert!(matches!(unknown, Zone::Biased { .. }));
        }
        let unknown = zone(9_999, -60, -60);
        for (text, date) in [
            ("2026-12-03T23:00:00Z", "2026-12-04"),
            ("2026-07-03T22:00:00Z", "2026-07-04"),
            ("2026-07-04T00:10:00Z", "2026-07-04"),
        ] {
            assert_eq!(
                unknown.date_of_midnight(text.parse().unwrap()),
                date.parse().ok(),
                "{text}"
            );
        }
        assert!(matches!(
            unknown.midnight("2026-07-04".parse().unwrap()),
            Some(Midnight::AskServer(_))
        ));
    }

    proptest! {
        #[test]
        fn no_zone_and_no_date_panics(id in -5_i64..300, bias in any::<i64>(), daylight in -2_000_i64..2_000, second in -377_705_023_201_i64..253_402_207_200, day in -3_000_i32..3_000) {
            let information = json!({"Bias": bias, "StandardBias": 0, "DaylightBias": daylight});
            let Ok(zone) = Zone::read(&json!({"Id": id, "Information": information}).into(), now()) else {
                return Ok(());
            };
            let instant = Timestamp::from_second(second).unwrap();
            let _ = (zone.date_of_midnight(instant), zone.date_of_instant(instant));
            let date = Date::constant(2026, 1, 1).saturating_add(jiff::Span::new().days(day));
            let _ = zone.midnight(date);
        }
    }
}
