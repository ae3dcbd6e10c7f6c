//! The products that tasksync works with, by the builds that servers report.

use std::fmt;

use jiff::civil::{Date, date};

/// The build of an Exchange server, from `ServerVersionInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ExchangeBuild {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Build.
    pub build: u32,
    /// Revision.
    pub revision: u32,
}

/// Whether tasksync works with a version, and how long Microsoft maintains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is maintained without a known end.
    Maintained,
    /// It is maintained until this day.
    Until(Date),
    /// tasksync does not work with it.
    TooOld,
    /// The version is not known to this build.
    Unknown,
}

/// Where a product runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// At the customer's.
    Server,
    /// At Microsoft.
    Online,
}

/// The first build of Exchange Server 2013 with Service Pack 1.
const EXCHANGE_2013_SP1: (u32, u32) = (847, 32);
/// The first build of Exchange Server Subscription Edition.
const EXCHANGE_SE: u32 = 2_562;

impl ExchangeBuild {
    /// Returns the product that people know, how long it is maintained, and where it runs.
    #[must_use]
    pub fn product(self) -> (&'static str, Support, Edition) {
        use Edition::{Online, Server};
        match (self.major, self.minor) {
            (..=7, _) => ("an Exchange before 2007", Support::TooOld, Server),
            (8, _) => ("Exchange Server 2007", Support::TooOld, Server),
            (14, _) => ("Exchange Server 2010", Support::TooOld, Server),
            (15, 0) if (self.build, self.revision) < EXCHANGE_2013_SP1 => (
                "Exchange Server 2013 before Service Pack 1",
                Support::TooOld,
                Server,
            ),
            (15, 0) => ("Exchange Server 2013", Support::Until(date(2023, 4, 11)), Server),
            (15, 1) => ("Exchange Server 2016", Support::Until(date(2025, 10, 14)), Server),
            (15, 2) if self.build < EXCHANGE_SE => {
                ("Exchange Server 2019", Support::Until(date(2025, 10, 14)), Server)
            }
            (15, 2) => (
                "Exchange Server Subscription Edition",
                Support::Maintained,
                Server,
            ),
            (15, 20..) => ("Exchange Online", Support::Maintained, Online),
            _ => ("an unknown Exchange", Support::Unknown, Server),
        }
    }
}

/// Formats the product with its build.
impl fmt::Display for ExchangeBuild {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} ({}.{}.{}.{})",
            self.product().0,
            self.major,
            self.minor,
            self.build,
            self.revision
        )
    }
}

/// Returns the SharePoint that reports this version in `MicrosoftSharePointTeamServices`, how long it is maintained,
/// and where it runs. Since 2016 the build alone tells the products apart.
#[must_use]
pub fn sharepoint_product(version: &str) -> (&'static str, Support, Edition) {
    use Edition::{Online, Server};
    let mut parts = version.split('.').map(|part| part.trim().parse::<u32>().ok());
    let (major, build) = (parts.next().flatten(), parts.nth(2).flatten());
    match (major, build) {
        (Some(..=14), _) => ("SharePoint 2010 or earlier", Support::TooOld, Server),
        (Some(15), _) => (
            "SharePoint Server 2013",
            Support::Until(date(2023, 4, 11)),
            Server,
        ),
        (Some(16), Some(..10_000)) => (
            "SharePoint Server 2016",
            Support::Until(date(2026, 7, 14)),
            Server,
        ),
        (Some(16), Some(10_000..14_000)) => (
            "SharePoint Server 2019",
            Support::Until(date(2026, 7, 14)),
            Server,
        ),
        (Some(16), Some(14_000..20_000)) => (
            "SharePoint Server Subscription Edition",
            Support::Maintained,
            Server,
        ),
        (Some(16), Some(20_000..)) => ("SharePoint Online", Support::Maintained, Online),
        _ => ("an unknown SharePoint", Support::Unknown, Server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_exchange_have_their_product() {
        for (numbers, product, support) in [
            ([14, 3, 123, 0], "Exchange Server 2010", Support::TooOld),
            (
                [15, 0, 775, 38],
                "Exchange Server 2013 before Service Pack 1",
                Support::TooOld,
            ),
            (
                [15, 0, 847, 32],
                "Exchange Server 2013",
                Support::Until(date(2023, 4, 11)),
            ),
            (
                [15, 1, 2_507, 6],
                "Exchange Server 2016",
                Support::Until(date(2025, 10, 14)),
            ),
            (
                [15, 2, 1_748, 10],
                "Exchange Server 2019",
                Support::Until(date(2025, 10, 14)),
            ),
            (
                [15, 2, 2_562, 17],
                "Exchange Server Subscription Edition",
                Support::Maintained,
            ),
            ([15, 20, 9_000, 1], "Exchange Online", Support::Maintained),
            ([15, 3, 1, 1], "an unknown Exchange", Support::Unknown),
        ] {
            let [major, minor, build, revision] = numbers;
            let build = ExchangeBuild {
                major,
                minor,
                build,
                revision,
            };
            let (name, found, _) = build.product();
            assert_eq!((name, found), (product, support), "{numbers:?}");
        }
    }

    #[test]
    fn versions_of_sharepoint_have_their_product() {
        for (version, product) in [
            ("14.0.0.4762", "SharePoint 2010 or earlier"),
            ("15.0.0.4569", "SharePoint Server 2013"),
            ("16.0.0.5456", "SharePoint Server 2016"),
            ("16.0.0.10417", "SharePoint Server 2019"),
            ("16.0.0.14326", "SharePoint Server Subscription Edition"),
            ("16.0.0.26330", "SharePoint Online"),
            ("16", "an unknown SharePoint"),
            ("x", "an unknown SharePoint"),
        ] {
            assert_eq!(sharepoint_product(version).0, product, "{version}");
        }
    }
}
