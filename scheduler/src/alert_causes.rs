//! Open alerts by cause: however many there are, one entry for each code.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::error::{Actor, Code, Failure};
use tasksync_common::model::TenantId;
use tasksync_common::registry::{Alert, AlertFilter, Registry};

/// Alerts read at once, and most alerts read for one answer.
const PAGE: u32 = 1_000;
const MOST_READ: u64 = 50_000;
/// Most tenants named with a cause.
const TENANTS_NAMED: usize = 5;

/// The open alerts of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AlertCause {
    /// The code of the failure.
    pub(crate) code: &'static str,
    /// What happened, as a sentence.
    pub(crate) message: &'static str,
    /// What to do, and who does it.
    pub(crate) action: &'static str,
    pub(crate) who_acts: &'static str,
    /// Number of these alerts: all of them, those about one person each, and those about a list or site each.
    pub(crate) alerts: u64,
    pub(crate) people: u64,
    pub(crate) locations: u64,
    /// When the first and the last of them were raised.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Number of tenants that have such an alert, and those with most of them.
    pub(crate) tenants: usize,
    pub(crate) largest: Vec<TenantAlerts>,
    /// The first of the alerts.
    pub(crate) example: AlertExample,
}

/// One tenant's share of a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TenantAlerts {
    pub(crate) tenant: TenantId,
    pub(crate) alerts: u64,
}

/// The subject and the detail of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AlertExample {
    pub(crate) tenant: TenantId,
    pub(crate) user: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) detail: String,
}

/// The causes of open alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AlertCauses {
    /// Those about which the operator acts come first, then those with most alerts.
    pub(crate) causes: Vec<AlertCause>,
    /// How many alerts were read.
    pub(crate) alerts: u64,
    /// True if more alerts are open than one answer reads.
    pub(crate) more: bool,
}

/// Reads the open alerts that meet the filter, and groups them by cause.
///
/// # Errors
/// The registry's failure when it does not answer.
pub(crate) async fn read_causes(
    registry: &dyn Registry,
    filter: &AlertFilter,
) -> Result<AlertCauses, Failure> {
    let mut groups = CauseGroups::default();
    let mut after = None;
    loop {
        let page = registry.find_alerts(filter, after.as_ref(), PAGE).await?;
        page.alerts.iter().for_each(|alert| groups.add(alert));
        after = page.next;
        if after.is_none() || groups.read >= MOST_READ {
            return Ok(groups.into_causes(after.is_some()));
        }
    }
}

#[derive(Debug, Default)]
struct CauseGroups {
    by_code: BTreeMap<Code, CauseGroup>,
    read: u64,
}

#[derive(Debug)]
struct CauseGroup {
    alerts: u64,
    people: u64,
    locations: u64,
    last: Timestamp,
    tenants: BTreeMap<TenantId, u64>,
    first: Alert,
}

impl CauseGroups {
    /// Adds an alert. Alerts come oldest first.
    fn add(&mut self, alert: &Alert) {
        self.read += 1;
        let group = self
            .by_code
            .entry(alert.failure.code)
            .or_insert_with(|| CauseGroup {
                alerts: 0,
                people: 0,
                locations: 0,
                last: alert.since,
                tenants: BTreeMap::new(),
                first: alert.clone(),
            });
        group.alerts += 1;
        group.people += u64::from(alert.user.is_some());
        group.locations += u64::from(alert.location.is_some());
        group.last = group.last.max(alert.since);
        *group.tenants.entry(alert.tenant.clone()).or_default() += 1;
    }

    fn into_causes(self, more: bool) -> AlertCauses {
        let alerts = self.read;
        let mut causes: Vec<(Code, CauseGroup)> = self.by_code.into_iter().collect();
        // Stable: equal ones stay in order of code.
        causes.sort_by_key(|(code, group)| (code.actor() != Actor::Operator, u64::MAX - group.alerts));
        AlertCauses {
            causes: causes
                .into_iter()
                .map(|(code, group)| group.into_cause(code))
                .collect(),
            alerts,
            more,
        }
    }
}

impl CauseGroup {
    fn into_cause(self, code: Code) -> AlertCause {
        let tenants = self.tenants.len();
        let mut largest: Vec<TenantAlerts> = self
            .tenants
            .into_iter()
            .map(|(tenant, alerts)| TenantAlerts { tenant, alerts })
            .collect();
        largest.sort_by_key(|of| u64::MAX - of.alerts);
        largest.truncate(TENANTS_NAMED);
        AlertCause {
            code: code.as_str(),
            message: code.message(),
            action: code.action(),
            who_acts: code.actor().name(),
            alerts: self.alerts,
            people: self.people,
            locations: self.locations,
            first: self.first.since,
            last: self.last,
            tenants,
            largest,
            example: AlertExample {
                tenant: self.first.tenant,
                user: self.first.user.as_ref().map(ToString::to_string),
                location: self.first.location.as_ref().map(ToString::to_string),
                detail: self.first.failure.detail,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::ErrorClass;

    use super::*;

    fn alert(tenant: &str, user: Option<&str>, second: i64, code: Code) -> Alert {
        Alert {
            since: Timestamp::from_second(second).unwrap(),
            tenant: tenant.parse().unwrap(),
            user: user.map(|user| user.parse().unwrap()),
            location: None,
            failure: Failure::new(ErrorClass::Refused, code, format!("detail {second}")),
            evidence: None,
        }
    }

    #[test]
    fn a_thousand_equal_alerts_are_one_cause_with_its_counts() {
        let mut groups = CauseGroups::default();
        for second in 0..1_000 {
            let tenant = if second % 4 == 0 { "fabrikam" } else { "contoso" };
            groups.add(&alert(
                tenant,
                Some(&format!("u{second}")),
                second,
                Code::ExchangeMailboxFull,
            ));
        }
        groups.add(&alert("fabrikam", None, 2_000, Code::SyncsLate));
        let found = groups.into_causes(false);
        assert_eq!((found.alerts, found.causes.len()), (1_001, 2));
        let codes: Vec<&str> = found.causes.iter().map(|cause| cause.code).collect();
        assert_eq!(
            codes,
            ["syncs-late", "exchange-mailbox-full"],
            "what the operator does comes first"
        );
        let full = &found.causes[1];
        assert_eq!(
            (full.alerts, full.people, full.locations, full.tenants),
            (1_000, 1_000, 0, 2)
        );
        let largest: Vec<(&str, u64)> = full
            .largest
            .iter()
            .map(|of| (of.tenant.as_str(), of.alerts))
            .collect();
        assert_eq!(largest, [("contoso", 750), ("fabrikam", 250)]);
        assert_eq!((full.first.as_second(), full.last.as_second()), (0, 999));
        assert_eq!(full.example.detail, "detail 0");
    }

    #[test]
    fn a_cause_names_few_of_many_tenants() {
        let mut groups = CauseGroups::default();
        for number in 0..40 {
            groups.add(&alert(&format!("t{number}"), None, number, Code::SyncsLate));
        }
        let found = groups.into_causes(true);
        assert!(found.more);
        assert_eq!(
            (found.causes[0].tenants, found.causes[0].largest.len()),
            (40, TENANTS_NAMED)
        );
    }
}
