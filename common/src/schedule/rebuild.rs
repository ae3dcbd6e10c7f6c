//! The order of work made again from the registry, and kept in step with it.
//!
//! The registry is the truth: users are enrolled there first and withdrawn there first. What the order of work has
//! beyond it is withdrawn, what it lacks is added. Nothing here moves the stamp of a user who is in.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::Schedule;
use super::postpone::spread;
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::registry::Registry;
use crate::schedule::SavedStamp;

/// Names read at once.
const PAGE: u32 = 500;
/// Users never synced are spread over this time before their opt-in: many opt in at one moment (a bulk enrolment), and
/// equal stamps are slow to keep in order and would put a large tenant's users before everybody else's.
const SPREAD_MICROSECONDS: u64 = 10_000_000;

/// What [`rebuild`] and [`reconcile`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Tenants with enrolled users.
    pub tenants: u64,
    /// Users put in.
    pub added: u64,
    /// Users taken out.
    pub withdrawn: u64,
}

/// Puts every enabled user of every active tenant into the order, with the saved stamps. Users who are in stay as they
/// are, so it may be repeated after a failure. Disabled users and disabled tenants are left out.
///
/// # Errors
/// The registry's or the schedule's own; what was put in stays in.
pub async fn rebuild(registry: &dyn Registry, schedule: &dyn Schedule) -> Result<Rebuilt, Failure> {
    let mut rebuilt = Rebuilt::default();
    let mut after: Option<TenantId> = None;
    loop {
        let tenants = registry.active_tenants(after.as_ref(), PAGE).await?;
        let Some((last, _)) = tenants.last() else {
            return Ok(rebuilt);
        };
        after = Some(last.clone());
        for (tenant, _) in tenants {
            rebuilt.tenants += 1;
            rebuilt.added += add_missing(registry, schedule, &tenant).await?;
        }
    }
}

/// The periodic tenant search: adds users who are missing in the order and withdraws those who are no longer enrolled
/// (disabled users keep their place: they are tested again from there), and everybody of tenants that are disabled or gone.
///
/// # Errors
/// The registry's or the schedule's own; what was changed stays changed.
pub async fn reconcile(registry: &dyn Registry, schedule: &dyn Schedule) -> Result<Rebuilt, Failure> {
    let mut withdrawn = 0;
    let mut after = None;
    loop {
        let page = schedule.tenants(after.as_ref(), PAGE as usize).await?;
        for tenant in page.names {
            withdrawn += match registry.tenant(&tenant).await? {
                Some(found) if found.enabled => withdraw_foreign(registry, schedule, &tenant).await?,
                Some(_) | None => schedule.withdraw_tenant(&tenant).await?,
            };
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Added last: a user who opted out and in again during the walk above is put back here.
    let rebuilt = rebuild(registry, schedule).await?;
    Ok(Rebuilt { withdrawn, ..rebuilt })
}

/// Puts the enabled users of one tenant into the order, with the saved stamps; the number put in. Users who are in stay as
/// they are. Whether the tenant is enabled is the caller's to know.
///
/// # Errors
/// The registry's or the schedule's own; what was put in stays in.
pub async fn add_missing(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
) -> Result<u64, Failure> {
    let mut added = 0;
    let mut after: Option<UserId> = None;
    loop {
        let stamps = registry.stamps(tenant, after.as_ref(), PAGE).await?;
        let Some(last) = stamps.last() else {
            return Ok(added);
        };
        after = Some(last.user.clone());
        let users: Vec<SavedStamp> = stamps
            .into_iter()
            .map(|saved| SavedStamp {
                stamp: starting_stamp(tenant, &saved),
                ..saved
            })
            .collect();
        added += schedule.enrol_many(tenant, &users).await?;
    }
}

async fn withdraw_foreign(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
) -> Result<u64, Failure> {
    let mut withdrawn = 0;
    let mut after = None;
    loop {
        // The order is read before the registry: whoever is in was enrolled before, so who is missing now has left.
        let page = schedule.users(tenant, after.as_ref(), PAGE as usize).await?;
        let enrolled: HashSet<UserId> = registry
            .enrolments_of(tenant, &page.names)
            .await?
            .into_iter()
            .map(|enrolment| enrolment.key.user)
            .collect();
        for user in page.names {
            if !enrolled.contains(&user) {
                let key = UserKey::new(tenant.clone(), user);
                withdrawn += u64::from(schedule.withdraw(&key).await?);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(withdrawn);
        }
    }
}

/// The saved stamp; of a user without a success moved back a little, always by the same amount.
fn starting_stamp(tenant: &TenantId, saved: &SavedStamp) -> Timestamp {
    if saved.last_success.is_some() {
        return saved.stamp;
    }
    let key = UserKey::new(tenant.clone(), saved.user.clone());
    let back = i64::try_from(spread(&key) % SPREAD_MICROSECONDS).unwrap_or(0);
    saved
        .stamp
        .checked_sub(SignedDuration::from_micros(back))
        .unwrap_or(saved.stamp)
}

#[cfg(test)]
mod tests;
