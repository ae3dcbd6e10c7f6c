//! Rebuilds the schedule from the registry, and keeps it in step with it.
//!
//! The registry is authoritative: users are enrolled and withdrawn there first. Users that only the schedule
//! has are withdrawn, and users that it lacks are added. Nothing here moves the stamp of a user who is in the
//! schedule.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Schedule;
use super::postpone::spread;
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::registry::Registry;
use crate::schedule::SavedStamp;

/// Number of names read at once.
const PAGE: u32 = 500;
/// Users who were never synced get stamps spread over this time before their opt-in. Many users opt in at the
/// same moment (a bulk enrolment); equal stamps are slow to keep in order and would put all users of a large
/// tenant before those of others.
const SPREAD_MICROSECONDS: u64 = 10_000_000;

/// The result of [`rebuild`] and [`reconcile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RebuildSummary {
    /// Number of tenants with enrolled users.
    pub tenants: u64,
    /// Number of users added to the schedule.
    pub added: u64,
    /// Number of users withdrawn from it.
    pub withdrawn: u64,
}

/// Adds every user of every active tenant to the schedule, with the saved stamps. Users who are in the schedule
/// already stay as they are, so it may be repeated after a failure. Disabled users are added, too: their sync
/// tests whether they work again.
///
/// # Errors
/// The failure of the registry or the schedule; added users stay in the schedule.
pub async fn rebuild(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    minimum: Duration,
) -> Result<RebuildSummary, Failure> {
    let mut rebuilt = RebuildSummary::default();
    let mut after: Option<TenantId> = None;
    loop {
        let tenants = registry.active_tenants(after.as_ref(), PAGE).await?;
        let Some((last, _)) = tenants.last() else {
            return Ok(rebuilt);
        };
        after = Some(last.clone());
        for (tenant, _) in tenants {
            rebuilt.tenants += 1;
            rebuilt.added += add_missing(registry, schedule, &tenant, minimum).await?;
        }
    }
}

/// Runs the periodic tenant search. It adds users who are missing in the schedule. It withdraws users who are
/// no longer enrolled, and all users of tenants that are disabled or gone.
///
/// # Errors
/// The failure of the registry or the schedule; changes made before it stay.
pub async fn reconcile(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    minimum: Duration,
) -> Result<RebuildSummary, Failure> {
    let mut withdrawn = 0;
    let mut after = None;
    loop {
        let page = schedule.tenants(after.as_ref(), PAGE as usize).await?;
        for tenant in page.names {
            withdrawn += match registry.tenant(&tenant).await? {
                Some(found) if found.enabled => withdraw_unenrolled(registry, schedule, &tenant).await?,
                Some(_) | None => schedule.withdraw_tenant(&tenant).await?,
            };
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Adding comes last: it puts back a user who opted out and in again during the walk above.
    let rebuilt = rebuild(registry, schedule, minimum).await?;
    Ok(RebuildSummary { withdrawn, ..rebuilt })
}

/// How users that the schedule lost are put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LostUsers {
    /// They wait for their turn.
    EnrolWaiting,
    /// Their places were lost, so they may still be worked on: they wait until that claim, which lasts this
    /// long, has ended.
    EnrolClaimed(Duration),
}

/// Brings one tenant's part of the schedule in step with the registry. `left` is the number of its users in
/// the schedule. If none is left although users of the tenant were synced before, their places were lost;
/// then none of them is due before `claim_lifetime` has passed.
///
/// # Errors
/// The failure of the registry or the schedule; changes made before it stay.
pub async fn reconcile_tenant(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    left: u64,
    claim_lifetime: Duration,
    minimum: Duration,
) -> Result<RebuildSummary, Failure> {
    let lost = left == 0
        && registry
            .stamps(tenant, None, PAGE)
            .await?
            .iter()
            .any(|saved| !saved.is_first());
    let missing = if lost {
        LostUsers::EnrolClaimed(claim_lifetime)
    } else {
        LostUsers::EnrolWaiting
    };
    let withdrawn = withdraw_unenrolled(registry, schedule, tenant).await?;
    Ok(RebuildSummary {
        tenants: 1,
        added: enrol_saved(registry, schedule, tenant, missing, minimum).await?,
        withdrawn,
    })
}

/// Adds the users of one tenant to the schedule, with the saved stamps, and returns how many are new. Users who
/// are in the schedule already stay as they are. The caller must know that the tenant is enabled.
///
/// # Errors
/// The failure of the registry or the schedule; added users stay in the schedule.
pub async fn add_missing(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    minimum: Duration,
) -> Result<u64, Failure> {
    enrol_saved(registry, schedule, tenant, LostUsers::EnrolWaiting, minimum).await
}

async fn enrol_saved(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    missing: LostUsers,
    minimum: Duration,
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
                stamp: starting_stamp(tenant, &saved, minimum),
                ..saved
            })
            .collect();
        added += match missing {
            LostUsers::EnrolWaiting => schedule.enrol_many(tenant, &users).await?,
            LostUsers::EnrolClaimed(lasts) => schedule.enrol_claimed(tenant, &users, lasts).await?,
        };
    }
}

async fn withdraw_unenrolled(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
) -> Result<u64, Failure> {
    let mut withdrawn = 0;
    let mut after = None;
    loop {
        // The schedule is read before the registry: its users were enrolled earlier, so one who is missing in
        // the registry now has left.
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

/// Returns the stamp with which a user starts. It is the saved one, if there was an attempt. Otherwise the
/// user is due since the opt-in, even if a first sync was interrupted, and a little earlier by an amount that
/// is constant for the user.
fn starting_stamp(tenant: &TenantId, saved: &SavedStamp, minimum: Duration) -> Timestamp {
    if !saved.is_first() {
        return saved.stamp;
    }
    let key = UserKey::new(tenant.clone(), saved.user.clone());
    let back = i64::try_from(spread(&key) % SPREAD_MICROSECONDS).unwrap_or(0);
    let minimum = SignedDuration::try_from(minimum).unwrap_or(SignedDuration::MAX);
    saved
        .stamp
        .checked_sub(SignedDuration::from_micros(back))
        .and_then(|stamp| stamp.checked_sub(minimum))
        .unwrap_or(saved.stamp)
}

#[cfg(test)]
mod tests;
