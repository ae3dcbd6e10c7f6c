//! SharePoint's list of time zones, and the conversion of date-only values.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// SharePoint's number, its name and the IANA name of each zone.
const ZONES: &[(u16, &str, &str)] = &[
    (2, "(UTC) Dublin, Edinburgh, Lisbon, London", "Europe/London"),
    (2, "(UTC) Dublin, Edinburgh, Lisbon, London", "Europe/Dublin"),
    (2, "(UTC) Dublin, Edinburgh, Lisbon, London", "Europe/Lisbon"),
    (
        3,
        "(UTC+01:00) Brussels, Copenhagen, Madrid, Paris",
        "Europe/Paris",
    ),
    (
        3,
        "(UTC+01:00) Brussels, Copenhagen, Madrid, Paris",
        "Europe/Madrid",
    ),
    (
        3,
        "(UTC+01:00) Brussels, Copenhagen, Madrid, Paris",
        "Europe/Brussels",
    ),
    (
        3,
        "(UTC+01:00) Brussels, Copenhagen, Madrid, Paris",
        "Europe/Copenhagen",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Berlin",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Amsterdam",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Zurich",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Vienna",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Rome",
    ),
    (
        4,
        "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna",
        "Europe/Stockholm",
    ),
    (8, "(UTC-03:00) Brasilia", "America/Sao_Paulo"),
    (10, "(UTC-05:00) Eastern Time (US and Canada)", "America/New_York"),
    (11, "(UTC-06:00) Central Time (US and Canada)", "America/Chicago"),
    (12, "(UTC-07:00) Mountain Time (US and Canada)", "America/Denver"),
    (
        13,
        "(UTC-08:00) Pacific Time (US and Canada)",
        "America/Los_Angeles",
    ),
    (14, "(UTC-09:00) Alaska", "America/Anchorage"),
    (15, "(UTC-10:00) Hawaii", "Pacific/Honolulu"),
    (17, "(UTC+12:00) Auckland, Wellington", "Pacific/Auckland"),
    (20, "(UTC+09:00) Osaka, Sapporo, Tokyo", "Asia/Tokyo"),
    (21, "(UTC+08:00) Kuala Lumpur, Singapore", "Asia/Singapore"),
    (
        23,
        "(UTC+05:30) Chennai, Kolkata, Mumbai, New Delhi",
        "Asia/Kolkata",
    ),
    (24, "(UTC+04:00) Abu Dhabi, Muscat", "Asia/Dubai"),
    (28, "(UTC-03:30) Newfoundland", "America/St_Johns"),
    (50, "(UTC+02:00) Harare, Pretoria", "Africa/Johannesburg"),
    (
        59,
        "(UTC+02:00) Helsinki, Kyiv, Riga, Sofia, Tallinn, Vilnius",
        "Europe/Helsinki",
    ),
    (62, "(UTC+05:45) Kathmandu", "Asia/Kathmandu"),
    (76, "(UTC+10:00) Canberra, Melbourne, Sydney", "Australia/Sydney"),
    (93, "(UTC) Coordinated Universal Time", "UTC"),
];

/// A site's regional time zone.
#[derive(Debug, Clone)]
pub(crate) struct SiteZone {
    pub(crate) id: u16,
    pub(crate) description: &'static str,
    zone: TimeZone,
}

impl SiteZone {
    /// Returns the zone with this IANA name, if SharePoint knows it.
    pub(crate) fn by_iana(name: &str) -> Result<Self, String> {
        let (id, description, iana) = ZONES
            .iter()
            .find(|(_, _, iana)| iana.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("SharePoint has no zone for {name} in this simulator's table"))?;
        let zone = TimeZone::get(iana).map_err(|error| format!("zone {iana}: {error}"))?;
        Ok(Self {
            id: *id,
            description,
            zone,
        })
    }

    /// Returns the local midnight of a calendar date as the instant that SharePoint stores.
    pub(crate) fn midnight(&self, date: Date) -> Timestamp {
        self.instant(date.to_datetime(jiff::civil::Time::midnight()))
    }

    /// Returns the instant of a local date and time. In a gap the offset before it applies, in a fold the earlier
    /// offset.
    pub(crate) fn instant(&self, local: DateTime) -> Timestamp {
        self.zone
            .to_ambiguous_timestamp(local)
            .compatible()
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns the local date and time of an instant.
    pub(crate) fn local(&self, instant: Timestamp) -> DateTime {
        self.zone.to_datetime(instant)
    }

    /// Returns the calendar date of an instant in this zone.
    pub(crate) fn date(&self, instant: Timestamp) -> Date {
        self.local(instant).date()
    }

    /// Returns the value that a date-only column stores for an instant: the local midnight at or before it.
    pub(crate) fn truncate(&self, instant: Timestamp) -> Timestamp {
        self.midnight(self.date(instant))
    }

    /// Returns `Information` of the zone: `Bias`, `StandardBias` and `DaylightBias` in minutes, where UTC = local time
    /// + bias.
    pub(crate) fn biases(&self, now: Timestamp) -> (i32, i32, i32) {
        let year = self.date(now).year();
        let offset = |month: i8| {
            let noon = jiff::civil::date(year, month, 15).at(12, 0, 0, 0);
            self.zone.to_offset_info(self.instant(noon)).offset().seconds() / 60
        };
        let (january, july) = (offset(1), offset(7));
        let (standard, daylight) = (january.min(july), january.max(july));
        (-standard, 0, standard - daylight)
    }
}

/// Parses a date-time as sent by a client. With a zone it is an instant, without one it is local time of the site.
pub(crate) fn parse_instant(text: &str, zone: &SiteZone) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok().map(|local| zone.instant(local)))
        .or_else(|| text.parse::<Date>().ok().map(|date| zone.midnight(date)))
}

/// Formats an instant as `2026-12-03T23:00:00Z`.
pub(crate) fn format_instant(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the whole second at or before an instant, as stored in `Modified` and `Created`.
pub(crate) fn whole_second(instant: Timestamp) -> Timestamp {
    Timestamp::from_second(instant.as_millisecond().div_euclid(1000)).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_date_only_value_is_site_local_midnight() {
        let berlin = SiteZone::by_iana("Europe/Berlin").unwrap();
        let midnight = berlin.midnight(date(2026, 12, 4));
        assert_eq!(format_instant(midnight), "2026-12-03T23:00:00Z");
        assert_eq!(berlin.date(midnight), date(2026, 12, 4));
        assert_eq!(berlin.truncate("2026-12-04T13:30:00Z".parse().unwrap()), midnight);
        let summer = berlin.midnight(date(2026, 7, 1));
        assert_eq!(format_instant(summer), "2026-06-30T22:00:00Z");
    }

    #[test]
    fn biases_are_minutes_from_local_time_to_utc() {
        let now = "2026-11-22T14:00:00Z".parse().unwrap();
        assert_eq!(
            SiteZone::by_iana("Europe/Berlin").unwrap().biases(now),
            (-60, 0, -60)
        );
        assert_eq!(
            SiteZone::by_iana("America/New_York").unwrap().biases(now),
            (300, 0, -60)
        );
        assert_eq!(
            SiteZone::by_iana("Australia/Sydney").unwrap().biases(now),
            (-600, 0, -60)
        );
        assert_eq!(SiteZone::by_iana("Asia/Tokyo").unwrap().biases(now), (-540, 0, 0));
        assert!(SiteZone::by_iana("Mars/Olympus").is_err());
    }

    #[test]
    fn text_without_a_zone_is_site_local() {
        let new_york = SiteZone::by_iana("America/New_York").unwrap();
        let at = |text: &str| parse_instant(text, &new_york).map(format_instant);
        assert_eq!(at("2026-12-04").as_deref(), Some("2026-12-04T05:00:00Z"));
        assert_eq!(at("2026-12-04T00:00:00").as_deref(), Some("2026-12-04T05:00:00Z"));
        assert_eq!(
            at("2026-12-04T00:00:00Z").as_deref(),
            Some("2026-12-04T00:00:00Z")
        );
        assert_eq!(at("tomorrow"), None);
    }
}
