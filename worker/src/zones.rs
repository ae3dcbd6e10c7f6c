//! Windows' names of time zones, which EWS needs for `TimeZoneContext`.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::model::zone_of_windows;

/// Zone names remembered; fewer exist.
const MAXIMUM_REMEMBERED: usize = 1_000;
/// Samples at which two zones are compared, from [`FIRST_SAMPLE`] on. Zones that agree at all of them count
/// as the same.
const SAMPLES: i64 = 2 * 366;
/// 2025-01-01, in seconds since 1970.
const FIRST_SAMPLE: i64 = 1_735_689_600;
/// Time between two samples; short enough to see the weeks in which two daylight rules differ.
const SAMPLE_STEP: SignedDuration = SignedDuration::from_hours(72);

/// A time zone with its Windows name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnerZone {
    /// The name that Windows uses.
    pub(crate) windows: &'static str,
    /// The zone in which dates are read.
    pub(crate) zone: TimeZone,
}

static WINDOWS_ZONES: LazyLock<Vec<(&'static str, TimeZone)>> = LazyLock::new(|| {
    WINDOWS_NAMES
        .iter()
        .filter_map(|&name| Some((name, zone_of_windows(name)?)))
        .collect()
});

static REMEMBERED: LazyLock<Mutex<HashMap<String, Option<&'static str>>>> = LazyLock::new(Mutex::default);

/// Returns the Windows zone for `zone`. A zone without a counterpart is served in UTC, for writing and for
/// reading: rounding then still gives the right day for most dates that people enter.
pub(crate) fn owner_zone(zone: &TimeZone) -> OwnerZone {
    let windows = match zone.iana_name() {
        Some(name) => {
            let cached = REMEMBERED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(name)
                .copied();
            cached.unwrap_or_else(|| {
                let found = find(zone);
                let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
                if remembered.len() < MAXIMUM_REMEMBERED {
                    remembered.insert(name.to_owned(), found);
                }
                found
            })
        }
        None => find(zone),
    };
    match windows {
        Some(windows) => OwnerZone {
            windows,
            zone: zone.clone(),
        },
        None => OwnerZone {
            windows: "UTC",
            zone: TimeZone::UTC,
        },
    }
}

/// Finds the zone by name, otherwise by behaviour: Windows has one name where IANA has several with the same
/// rules.
fn find(zone: &TimeZone) -> Option<&'static str> {
    if matches!(zone.iana_name(), Some("UTC" | "Etc/UTC")) {
        return Some("UTC");
    }
    let by_name = WINDOWS_ZONES
        .iter()
        .find(|(_, candidate)| candidate.iana_name().is_some() && candidate.iana_name() == zone.iana_name());
    by_name
        .or_else(|| {
            WINDOWS_ZONES
                .iter()
                .find(|(_, candidate)| behave_alike(candidate, zone))
        })
        .map(|&(name, _)| name)
}

fn behave_alike(left: &TimeZone, right: &TimeZone) -> bool {
    let Ok(mut sample) = Timestamp::from_second(FIRST_SAMPLE) else {
        return false;
    };
    for _ in 0..SAMPLES {
        if left.to_offset(sample) != right.to_offset(sample) {
            return false;
        }
        sample += SAMPLE_STEP;
    }
    true
}

/// Windows' names of time zones.
const WINDOWS_NAMES: &[&str] = &[
    "Dateline Standard Time",
    "UTC-11",
    "Aleutian Standard Time",
    "Hawaiian Standard Time",
    "Marquesas Standard Time",
    "Alaskan Standard Time",
    "UTC-09",
    "Pacific Standard Time (Mexico)",
    "UTC-08",
    "Pacific Standard Time",
    "US Mountain Standard Time",
    "Mountain Standard Time (Mexico)",
    "Mountain Standard Time",
    "Yukon Standard Time",
    "Central America Standard Time",
    "Central Standard Time",
    "Easter Island Standard Time",
    "Central Standard Time (Mexico)",
    "Canada Central Standard Time",
    "SA Pacific Standard Time",
    "Eastern Standard Time (Mexico)",
    "Eastern Standard Time",
    "Haiti Standard Time",
    "Cuba Standard Time",
    "US Eastern Standard Time",
    "Turks And Caicos Standard Time",
    "Paraguay Standard Time",
    "Atlantic Standard Time",
    "Venezuela Standard Time",
    "Central Brazilian Standard Time",
    "SA Western Standard Time",
    "Pacific SA Standard Time",
    "Newfoundland Standard Time",
    "Tocantins Standard Time",
    "E. South America Standard Time",
    "SA Eastern Standard Time",
    "Argentina Standard Time",
    "Greenland Standard Time",
    "Montevideo Standard Time",
    "Magallanes Standard Time",
    "Saint Pierre Standard Time",
    "Bahia Standard Time",
    "UTC-02",
    "Azores Standard Time",
    "Cape Verde Standard Time",
    "UTC",
    "GMT Standard Time",
    "Greenwich Standard Time",
    "Sao Tome Standard Time",
    "Morocco Standard Time",
    "W. Europe Standard Time",
    "Central Europe Standard Time",
    "Romance Standard Time",
    "Central European Standard Time",
    "W. Central Africa Standard Time",
    "Jordan Standard Time",
    "GTB Standard Time",
    "Middle East Standard Time",
    "Egypt Standard Time",
    "E. Europe Standard Time",
    "Syria Standard Time",
    "West Bank Standard Time",
    "South Africa Standard Time",
    "FLE Standard Time",
    "Israel Standard Time",
    "South Sudan Standard Time",
    "Kaliningrad Standard Time",
    "Sudan Standard Time",
    "Libya Standard Time",
    "Namibia Standard Time",
    "Arabic Standard Time",
    "Turkey Standard Time",
    "Arab Standard Time",
    "Belarus Standard Time",
    "Russian Standard Time",
    "E. Africa Standard Time",
    "Iran Standard Time",
    "Arabian Standard Time",
    "Astrakhan Standard Time",
    "Azerbaijan Standard Time",
    "Russia Time Zone 3",
    "Mauritius Standard Time",
    "Saratov Standard Time",
    "Georgian Standard Time",
    "Volgograd Standard Time",
    "Caucasus Standard Time",
    "Afghanistan Standard Time",
    "West Asia Standard Time",
    "Ekaterinburg Standard Time",
    "Pakistan Standard Time",
    "Qyzylorda Standard Time",
    "India Standard Time",
    "Sri Lanka Standard Time",
    "Nepal Standard Time",
    "Central Asia Standard Time",
    "Bangladesh Standard Time",
    "Omsk Standard Time",
    "Myanmar Standard Time",
    "SE Asia Standard Time",
    "Altai Standard Time",
    "W. Mongolia Standard Time",
    "North Asia Standard Time",
    "N. Central Asia Standard Time",
    "Tomsk Standard Time",
    "China Standard Time",
    "North Asia East Standard Time",
    "Singapore Standard Time",
    "W. Australia Standard Time",
    "Taipei Standard Time",
    "Ulaanbaatar Standard Time",
    "Aus Central W. Standard Time",
    "Transbaikal Standard Time",
    "Tokyo Standard Time",
    "North Korea Standard Time",
    "Korea Standard Time",
    "Yakutsk Standard Time",
    "Cen. Australia Standard Time",
    "AUS Central Standard Time",
    "E. Australia Standard Time",
    "AUS Eastern Standard Time",
    "West Pacific Standard Time",
    "Tasmania Standard Time",
    "Vladivostok Standard Time",
    "Lord Howe Standard Time",
    "Bougainville Standard Time",
    "Russia Time Zone 10",
    "Magadan Standard Time",
    "Norfolk Standard Time",
    "Sakhalin Standard Time",
    "Central Pacific Standard Time",
    "Russia Time Zone 11",
    "New Zealand Standard Time",
    "UTC+12",
    "Fiji Standard Time",
    "Chatham Islands Standard Time",
    "UTC+13",
    "Tonga Standard Time",
    "Samoa Standard Time",
    "Line Islands Standard Time",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(name: &str) -> &'static str {
        owner_zone(&TimeZone::get(name).unwrap()).windows
    }

    #[test]
    fn every_windows_zone_is_known_to_both_sides() {
        assert_eq!(WINDOWS_ZONES.len(), WINDOWS_NAMES.len());
        for (name, zone) in WINDOWS_ZONES.iter() {
            let found = owner_zone(zone);
            assert!(behave_alike(&found.zone, zone), "{name} {}", found.windows);
        }
    }

    #[test]
    fn zones_with_the_same_rules_share_a_windows_name() {
        assert_eq!(windows("Europe/Berlin"), "W. Europe Standard Time");
        assert_eq!(windows("UTC"), "UTC");
        assert_eq!(windows("America/New_York"), "Eastern Standard Time");
        assert_eq!(windows("Asia/Tokyo"), "Tokyo Standard Time");
        assert_eq!(windows("America/Toronto"), "Eastern Standard Time");
        for name in [
            "Europe/Vienna",
            "Europe/Zurich",
            "Asia/Kolkata",
            "Australia/Melbourne",
        ] {
            let found = zone_of_windows(windows(name)).unwrap();
            assert!(behave_alike(&found, &TimeZone::get(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn a_zone_without_counterpart_is_served_in_utc() {
        let odd = TimeZone::fixed(jiff::tz::Offset::from_seconds(3_723).unwrap());
        assert_eq!(
            owner_zone(&odd),
            OwnerZone {
                windows: "UTC",
                zone: TimeZone::UTC
            }
        );
    }
}
