//! Time zones by name.

use jiff::tz::TimeZone;
use windows_timezones::WindowsTimezone;

/// Returns the time zone with this IANA name (`Europe/Berlin`) or Windows name (`W. Europe Standard Time`).
#[must_use]
pub fn zone_named(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().or_else(|| zone_of_windows(name))
}

/// Returns the time zone with this Windows name.
#[must_use]
pub fn zone_of_windows(name: &str) -> Option<TimeZone> {
    let windows = name.parse::<WindowsTimezone>().ok()?;
    TimeZone::get(windows.tzdb_id()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_a_name_of_either_kind() {
        let berlin = zone_named("Europe/Berlin").unwrap();
        assert_eq!(
            zone_named("W. Europe Standard Time").unwrap().iana_name(),
            berlin.iana_name()
        );
        assert!(zone_named("Mars/Olympus").is_none() && zone_of_windows("Europe/Berlin").is_none());
    }
}
