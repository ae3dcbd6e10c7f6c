//! Compares the schedule with itself and with the registry, tenant by tenant, and repairs the differences: a store
//! that lost a part heals like one that lost everything. Finds late users from the registry alone.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::TenantId;
use tasksync_common::registry::{Alert, LateUsers};
use tasksync_common::schedule::rebuild::reconcile_tenant;
use tasksync_common::schedule::{SavedStamp, TenantUsers};

use crate::dispatch::Dispatcher;

/// Interval at which a part of the tenants is inspected.
pub(crate) const COMPARE_INTERVAL: Duration = Duration::from_secs(5);
/// Inspections within which each tenant has its turn: 45 s.
const INSPECTIONS_PER_ROUND: usize = 9;
/// Inspections between two comparisons with the registry and two searches for late users: 30 s.
const INSPECTIONS_PER_COMPARISON: usize = 6;
/// Tenants read with one query.
const PAGE: u32 = 500;
/// Most tenants with late users that get an alert, and most open alerts that are searched.
const MOST: u32 = 1_000;
/// Tenants whose names are read again in one inspection.
const MOST_RECOUNTED: usize = 10;
/// Names without a digest, written by earlier builds, that get one in one comparison.
const MOST_DIGESTED: u32 = 5_000;
/// Time for which an alert about a repaired schedule stays open.
const REPAIR_ALERT_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// The progress of the comparison.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    inspections: usize,
    /// The active tenants of the registry at the last comparison; `None` before the first one.
    members: Option<HashMap<TenantId, TenantUsers>>,
}

/// The result of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ComparisonOutcome {
    /// Everything agrees, or was repaired.
    Intact,
    /// A tenant is gone or was set back: all users must be put in again.
    Lost,
}

impl Dispatcher {
    /// Compares a part of the schedule and repairs it.
    pub(crate) async fn compare(&self, comparison: &mut Comparison) -> Result<ComparisonOutcome, Failure> {
        let tenants = comparison.members.as_ref().map_or(0, HashMap::len);
        let limit = tenants.div_ceil(INSPECTIONS_PER_ROUND).max(10);
        let inspected = self.continuity.inspect(self.schedule.as_ref(), limit).await?;
        for tenant in &inspected.repaired_tenants {
            self.raise_repair_alert(tenant, "a part of it was gone from the schedule")
                .await?;
        }
        for tenant in &inspected.lost {
            self.raise_repair_alert(tenant, "it was gone from the schedule, or set back")
                .await?;
        }
        // During a rebuild the schedule and the registry differ.
        let comparable = !self.continuity.is_dispatch_paused() && inspected.lost.is_empty();
        if comparable && let Some(members) = &comparison.members {
            self.compare_names(&inspected.consistent, members).await?;
        }
        let in_turn = comparison.inspections.is_multiple_of(INSPECTIONS_PER_COMPARISON);
        // If the first comparison could not be made in its turn, the next inspection makes it.
        if comparable && (in_turn || comparison.members.is_none()) {
            comparison.members = Some(self.compare_with_registry().await?);
        }
        if in_turn {
            self.alert_late_users().await?;
            self.end_stale_location_alerts().await?;
        }
        comparison.inspections = comparison.inspections.wrapping_add(1);
        Ok(if inspected.lost.is_empty() {
            ComparisonOutcome::Intact
        } else {
            ComparisonOutcome::Lost
        })
    }

    /// Compares users' names by their digests, for tenants whose number of users is right: one user may be missing and
    /// another one too many. `members` are at most 30 s old; a user who came or left since costs one reading of the
    /// names.
    async fn compare_names(
        &self,
        consistent: &[(TenantId, TenantUsers)],
        members: &HashMap<TenantId, TenantUsers>,
    ) -> Result<(), Failure> {
        let differs = |(tenant, found): &&(TenantId, TenantUsers)| {
            members
                .get(tenant)
                .is_some_and(|expected| names_differ(*found, *expected))
        };
        for (tenant, found) in consistent.iter().filter(differs).take(MOST_RECOUNTED) {
            if found.names.is_some() {
                self.reconcile(tenant, found.users).await?;
            }
            self.schedule.recount_names(tenant).await?;
        }
        Ok(())
    }

    /// Compares the number of users of every tenant; returns the registry's numbers and digests.
    async fn compare_with_registry(&self) -> Result<HashMap<TenantId, TenantUsers>, Failure> {
        let mut all = HashMap::new();
        let mut left = MOST_DIGESTED;
        let mut after: Option<TenantId> = None;
        loop {
            let page = self.registry.active_tenants(after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            after = Some(last.clone());
            let users: Vec<(TenantId, u64)> = page
                .iter()
                .map(|(tenant, members)| (tenant.clone(), members.users))
                .collect();
            for (tenant, found) in self.schedule.differing(&users).await? {
                self.reconcile(&tenant, found).await?;
            }
            for (tenant, _) in page.iter().filter(|(_, members)| members.names.is_none()) {
                if left == 0 {
                    break;
                }
                let made = self.registry.digest_names(tenant, left).await?;
                left = left.saturating_sub(u32::try_from(made).unwrap_or(u32::MAX));
            }
            all.extend(page);
        }
    }

    async fn reconcile(&self, tenant: &TenantId, left: u64) -> Result<(), Failure> {
        let limits = &self.limits;
        let done = reconcile_tenant(
            self.registry.as_ref(),
            self.schedule.as_ref(),
            tenant,
            left,
            limits.claim_lifetime,
            limits.minimum_time_between_user_syncs,
        )
        .await?;
        self.metrics.users_found.add(done.added);
        self.metrics.users_withdrawn.add(done.withdrawn);
        if done.added == 0 && done.withdrawn == 0 {
            return Ok(());
        }
        tracing::info!(%tenant, found = done.added, withdrawn = done.withdrawn, "the tenant was brought in step with the registry");
        // Users who opt in at this moment are not in yet. A tenant that was there and is gone is a loss.
        if left == 0 && done.added > 0 && !self.was_empty(tenant).await? {
            self.raise_repair_alert(tenant, "all users were gone from the schedule")
                .await?;
        }
        Ok(())
    }

    /// Returns whether no user of the tenant was synced before, so that none can have been lost.
    async fn was_empty(&self, tenant: &TenantId) -> Result<bool, Failure> {
        let stamps = self.registry.stamps(tenant, None, PAGE).await?;
        Ok(stamps.iter().all(SavedStamp::is_first))
    }

    async fn raise_repair_alert(&self, tenant: &TenantId, what: &str) -> Result<(), Failure> {
        self.alert(
            tenant,
            Code::OrderMended,
            format!("{tenant}: {what}; it was made again"),
        )
        .await
    }

    async fn alert(&self, tenant: &TenantId, code: Code, detail: String) -> Result<(), Failure> {
        let alert = Alert {
            since: self.clock.now(),
            tenant: tenant.clone(),
            user: None,
            location: None,
            failure: Failure::new(ErrorClass::Transient, code, detail),
            evidence: None,
        };
        match self.registry.raise_alert(&alert).await {
            Ok(_) => Ok(()),
            // The tenant was removed meanwhile.
            Err(failure) if failure.class == ErrorClass::Gone => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Ends alerts about lists that no user's full check confirmed: the list can be read, or all users with tasks in it
    /// have left.
    async fn end_stale_location_alerts(&self) -> Result<(), Failure> {
        let kept = SignedDuration::try_from(self.limits.location_alerts_kept).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().checked_sub(kept) else {
            return Ok(());
        };
        self.registry.end_stale_location_alerts(before).await.map(drop)
    }

    /// Raises one alert for each tenant with late users, and ends those of other tenants. A tenant whose circuit
    /// is open has an alert of its own with the reason.
    async fn alert_late_users(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let after = SignedDuration::try_from(self.limits.late_after).unwrap_or(SignedDuration::MAX);
        let Ok(before) = now.checked_sub(after) else {
            return Ok(());
        };
        let open = self.registry.alerts(None, MOST).await?;
        let late: Vec<LateUsers> = self
            .registry
            .late(before, MOST)
            .await?
            .into_iter()
            .filter(|late| !open.iter().any(|alert| explains_lateness(alert, &late.tenant)))
            .collect();
        for LateUsers {
            tenant,
            users,
            oldest,
        } in &late
        {
            let detail = format!("{tenant}: {users} people are late, the first of them since {oldest}");
            self.alert(tenant, Code::SyncsLate, detail).await?;
        }
        let late: BTreeSet<&TenantId> = late.iter().map(|late| &late.tenant).collect();
        for alert in &open {
            if is_over(alert, late.contains(&alert.tenant), now) {
                self.registry
                    .end_alert(&alert.tenant, None, alert.failure.code)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Returns whether the names of a tenant's users differ although their number is right. Without a digest in the
/// registry, the names are not compared.
fn names_differ(found: TenantUsers, expected: TenantUsers) -> bool {
    expected.users == found.users && expected.names.is_some() && expected.names != found.names
}

/// Returns whether an alert of the leader ends: no user of the tenant is late any more, or the schedule was repaired
/// more than an hour ago.
fn is_over(alert: &Alert, is_late: bool, now: Timestamp) -> bool {
    let code = alert.failure.code;
    let is_old = now.duration_since(alert.since) > REPAIR_ALERT_LIFETIME;
    (code == Code::SyncsLate && !is_late) || (code == Code::OrderMended && is_old)
}

/// Returns whether this alert already says why no user of the tenant is synced.
fn explains_lateness(alert: &Alert, tenant: &TenantId) -> bool {
    alert.tenant == *tenant && alert.user.is_none() && alert.failure.stops() == Stops::Tenant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_their_number_is_right_and_both_digests_are_known() {
        let members = |users, names| TenantUsers { users, names };
        let table = [
            (members(2, Some(7)), members(2, Some(8)), true),
            (members(2, Some(7)), members(2, Some(7)), false),
            // The comparison of numbers finds this.
            (members(1, Some(7)), members(2, Some(8)), false),
            // The registry has not made its digest yet.
            (members(2, Some(7)), members(2, None), false),
            // The schedule lost its digest, or an earlier build left none.
            (members(2, None), members(2, Some(8)), true),
        ];
        for (found, expected, differ) in table {
            assert_eq!(names_differ(found, expected), differ, "{found:?} {expected:?}");
        }
    }

    fn alert(tenant: &str, user: Option<&str>, code: Code) -> Alert {
        Alert {
            since: Timestamp::UNIX_EPOCH,
            tenant: tenant.parse().unwrap(),
            user: user.map(|user| user.parse().unwrap()),
            location: None,
            failure: Failure::new(ErrorClass::Transient, code, "as told"),
            evidence: None,
        }
    }

    #[test]
    fn an_alert_about_late_people_ends_with_the_last_of_them_and_one_about_a_mended_order_after_an_hour() {
        let after = |duration| Timestamp::UNIX_EPOCH + duration;
        let (early, late) = (SignedDuration::from_mins(60), SignedDuration::from_mins(61));
        let table = [
            (Code::SyncsLate, true, late, false),
            (Code::SyncsLate, false, early, true),
            (Code::OrderMended, false, early, false),
            (Code::OrderMended, true, late, true),
            (Code::ExchangeUnreachable, false, late, false),
        ];
        for (code, is_late, time, over) in table {
            let ended = is_over(&alert("a", None, code), is_late, after(time));
            assert_eq!(ended, over, "{code} {is_late} {time}");
        }
    }

    #[test]
    fn only_an_alert_about_the_whole_tenant_that_stops_it_explains_why_its_people_are_late() {
        let tenant: TenantId = "a".parse().unwrap();
        let table = [
            (alert("a", None, Code::ExchangeUnreachable), true),
            (alert("b", None, Code::ExchangeUnreachable), false),
            (alert("a", Some("ana"), Code::ExchangeUnreachable), false),
            (alert("a", None, Code::OrderMended), false),
            (alert("a", None, Code::SyncsLate), false),
        ];
        for (alert, explained) in table {
            assert_eq!(explains_lateness(&alert, &tenant), explained, "{alert:?}");
        }
    }
}
