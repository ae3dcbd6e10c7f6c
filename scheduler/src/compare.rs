//! The order of work is compared with itself and with the registry, tenant by tenant, and what disagrees is mended: a store
//! that lost a part heals like one that lost everything. Who has not been synced for long is told from the registry alone.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::TenantId;
use tasksync_common::registry::{Alert, Late};
use tasksync_common::schedule::rebuild::reconcile_tenant;
use tasksync_common::schedule::{Members, SavedStamp};

use crate::dispatch::Dispatcher;

/// A part of the tenants is looked at this often.
pub(crate) const COMPARE_INTERVAL: Duration = Duration::from_secs(5);
/// Each tenant is looked at within this many looks: 45 s.
const LOOKS_PER_ROUND: usize = 9;
/// The registry is compared, and late people are looked for, at every sixth look: every 30 s.
const LOOKS_PER_COMPARISON: usize = 6;
/// Tenants asked for at once.
const PAGE: u32 = 500;
/// Most tenants with late people that are told of, and most open alerts that are looked through.
const MOST: u32 = 1_000;
/// Tenants whose names are read again at one look.
const MOST_RECOUNTED: usize = 10;
/// Names of earlier builds that are digested at one comparison.
const MOST_DIGESTED: u32 = 5_000;
/// An alert about a part that was lost is open this long.
const MENDED_SHOWN: SignedDuration = SignedDuration::from_hours(1);

/// Where the comparison stands.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    looks: usize,
    /// The active tenants in the registry at the last look; `None` before the first comparison with the registry.
    members: Option<HashMap<TenantId, Members>>,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Everything agrees, or was mended.
    Whole,
    /// A tenant is gone or was set back: everybody must be put in again.
    Lost,
}

impl Dispatcher {
    /// Compares a part of the order, and mends it.
    pub(crate) async fn compare(&self, comparison: &mut Comparison) -> Result<Found, Failure> {
        let tenants = comparison.members.as_ref().map_or(0, HashMap::len);
        let limit = tenants.div_ceil(LOOKS_PER_ROUND).max(10);
        let inspected = self.continuity.inspect(self.schedule.as_ref(), limit).await?;
        for tenant in &inspected.mended {
            self.alert_mended(tenant, "a part of it was gone from the order of work")
                .await?;
        }
        for tenant in &inspected.lost {
            self.alert_mended(tenant, "it was gone from the order of work, or set back")
                .await?;
        }
        // While everything is rebuilt, the order is not what it should be.
        let comparable = !self.continuity.is_quiet() && inspected.lost.is_empty();
        if comparable && let Some(members) = &comparison.members {
            self.compare_names(&inspected.whole, members).await?;
        }
        let in_turn = comparison.looks.is_multiple_of(LOOKS_PER_COMPARISON);
        // A comparison that could not be made in its turn at the start is not put off by a whole round.
        if comparable && (in_turn || comparison.members.is_none()) {
            comparison.members = Some(self.compare_with_registry().await?);
        }
        if in_turn {
            self.tell_of_late().await?;
            self.end_stale_location_alerts().await?;
        }
        comparison.looks = comparison.looks.wrapping_add(1);
        Ok(if inspected.lost.is_empty() {
            Found::Whole
        } else {
            Found::Lost
        })
    }

    /// Compares the names of people by their digests, where their number is right: one may be missing and another one too many.
    /// `members` are at most half a minute old; who came or went since costs one look at the names.
    async fn compare_names(
        &self,
        whole: &[(TenantId, Members)],
        members: &HashMap<TenantId, Members>,
    ) -> Result<(), Failure> {
        let differs = |(tenant, found): &&(TenantId, Members)| {
            members
                .get(tenant)
                .is_some_and(|expected| names_differ(*found, *expected))
        };
        for (tenant, found) in whole.iter().filter(differs).take(MOST_RECOUNTED) {
            if found.names.is_some() {
                self.reconcile(tenant, found.users).await?;
            }
            self.schedule.recount_names(tenant).await?;
        }
        Ok(())
    }

    /// Compares the number of people of every tenant; returns what the registry knows of them.
    async fn compare_with_registry(&self) -> Result<HashMap<TenantId, Members>, Failure> {
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
        // People who are opted in just now are not in yet; a tenant that was there and is gone is a loss.
        if left == 0 && done.added > 0 && !self.was_empty(tenant).await? {
            self.alert_mended(tenant, "everybody was gone from the order of work")
                .await?;
        }
        Ok(())
    }

    /// Whether nobody of the tenant was synced before, so that nobody can have been lost.
    async fn was_empty(&self, tenant: &TenantId) -> Result<bool, Failure> {
        let stamps = self.registry.stamps(tenant, None, PAGE).await?;
        Ok(stamps.iter().all(SavedStamp::is_first))
    }

    async fn alert_mended(&self, tenant: &TenantId, what: &str) -> Result<(), Failure> {
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
            // Removed meanwhile.
            Err(failure) if failure.class == ErrorClass::Gone => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Ends alerts about lists that nobody's full check confirmed: the list can be read, or everybody who has tasks in it left.
    async fn end_stale_location_alerts(&self) -> Result<(), Failure> {
        let kept = SignedDuration::try_from(self.limits.location_alerts_kept).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().checked_sub(kept) else {
            return Ok(());
        };
        self.registry.end_stale_location_alerts(before).await.map(drop)
    }

    /// Raises one alert for each tenant of whose people some wait too long, and ends those of others. A tenant whose circuit
    /// is open has an alert of its own that says why.
    async fn tell_of_late(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let after = SignedDuration::try_from(self.limits.late_after).unwrap_or(SignedDuration::MAX);
        let Ok(before) = now.checked_sub(after) else {
            return Ok(());
        };
        let open = self.registry.alerts(None, MOST).await?;
        let late: Vec<Late> = self
            .registry
            .late(before, MOST)
            .await?
            .into_iter()
            .filter(|late| !open.iter().any(|alert| explains(alert, &late.tenant)))
            .collect();
        for Late {
            tenant,
            users,
            oldest,
        } in &late
        {
            let detail = format!("{tenant}: {users} people, the one who waits longest since {oldest}");
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

/// Returns whether the names of a tenant's people differ although their number is right. Without a digest in the
/// registry, the names are not compared.
fn names_differ(found: Members, expected: Members) -> bool {
    expected.users == found.users && expected.names.is_some() && expected.names != found.names
}

/// Returns whether an alert of the leader ends: nobody of the tenant is late any more, or the order was mended more
/// than an hour ago.
fn is_over(alert: &Alert, is_late: bool, now: Timestamp) -> bool {
    let code = alert.failure.code;
    let is_old = now.duration_since(alert.since) > MENDED_SHOWN;
    (code == Code::SyncsLate && !is_late) || (code == Code::OrderMended && is_old)
}

/// Returns whether this alert says already why nobody of the tenant is synced.
fn explains(alert: &Alert, tenant: &TenantId) -> bool {
    alert.tenant == *tenant && alert.user.is_none() && alert.failure.stops() == Stops::Tenant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_their_number_is_right_and_both_digests_are_known() {
        let members = |users, names| Members { users, names };
        let table = [
            (members(2, Some(7)), members(2, Some(8)), true),
            (members(2, Some(7)), members(2, Some(7)), false),
            // The comparison of numbers finds this.
            (members(1, Some(7)), members(2, Some(8)), false),
            // The registry has not made its digest yet.
            (members(2, Some(7)), members(2, None), false),
            // The order of work lost its digest, or an earlier build left none.
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
            let told = is_over(&alert("a", None, code), is_late, after(time));
            assert_eq!(told, over, "{code} {is_late} {time}");
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
            assert_eq!(explains(&alert, &tenant), explained, "{alert:?}");
        }
    }
}
