//! The order of work made again from the registry, and kept in step with it.
//!
//! The registry is the truth: users are enrolled there first and withdrawn there first. What the order of work has
//! beyond it is withdrawn, what it lacks is added. Nothing here moves the stamp of a user who is in.

use std::collections::HashSet;
use std::time::Duration;

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

/// Puts every user of every active tenant into the order, with the saved stamps. Users who are in stay as they are, so it may
/// be repeated after a failure. Disabled users are put in too: their sync is the test whether they work again.
///
/// # Errors
/// The registry's or the schedule's own; what was put in stays in.
pub async fn rebuild(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    minimum: Duration,
) -> Result<Rebuilt, Failure> {
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
            rebuilt.added += add_missing(registry, schedule, &tenant, minimum).await?;
        }
    }
}

/// The periodic tenant search: adds users who are missing in the order and withdraws those who are no longer enrolled, and
/// everybody of tenants that are disabled or gone.
///
/// # Errors
/// The registry's or the schedule's own; what was changed stays changed.
pub async fn reconcile(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    minimum: Duration,
) -> Result<Rebuilt, Failure> {
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
    let rebuilt = rebuild(registry, schedule, minimum).await?;
    Ok(Rebuilt { withdrawn, ..rebuilt })
}

/// What becomes of users who are missing in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// They wait for their turn.
    Wait,
    /// Their places were lost, so they may still be worked on: they wait when that claim, which lasts so long, is over.
    Lost(Duration),
}

/// Brings the order of one tenant in step with the registry. `left` is how many of its users are in. Where nobody is left
/// although people of the tenant were synced before, the places were lost, and nobody is due before `claim_lifetime` has
/// passed.
///
/// # Errors
/// The registry's or the schedule's own; what was changed stays changed.
pub async fn reconcile_tenant(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    left: u64,
    claim_lifetime: Duration,
    minimum: Duration,
) -> Result<Rebuilt, Failure> {
    let lost = left == 0
        && registry
            .stamps(tenant, None, PAGE)
            .await?
            .iter()
            .any(|saved| !saved.is_first());
    let missing = if lost {
        Missing::Lost(claim_lifetime)
    } else {
        Missing::Wait
    };
    let withdrawn = withdraw_foreign(registry, schedule, tenant).await?;
    Ok(Rebuilt {
        tenants: 1,
        added: put_in(registry, schedule, tenant, missing, minimum).await?,
        withdrawn,
    })
}

/// Puts the users of one tenant into the order, with the saved stamps; the number put in. Users who are in stay as
/// they are. Whether the tenant is enabled is the caller's to know.
///
/// # Errors
/// The registry's or the schedule's own; what was put in stays in.
pub async fn add_missing(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    minimum: Duration,
) -> Result<u64, Failure> {
    put_in(registry, schedule, tenant, Missing::Wait, minimum).await
}

async fn put_in(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
    tenant: &TenantId,
    missing: Missing,
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
            Missing::Wait => schedule.enrol_many(tenant, &users).await?,
            Missing::Lost(lasts) => schedule.enrol_claimed(tenant, &users, lasts).await?,
        };
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

/// Returns the stamp a user starts with: the saved one. Who was never attempted is due since the opt-in, whatever cut the
/// first sync off, a little earlier by an amount that is always the same for one user.
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
