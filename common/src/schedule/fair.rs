//! Shares the permits by processing time: a tenant whose servers are slow must not hold all of them.
//!
//! A batch holds one permit: for a moment if its tenant's servers are fast, and for the whole budget if they
//! are slow. So the limit is on a tenant's part of the permits of all workers, in batches. Permits held,
//! summed over time, *are* the processing time, whatever the number of users in a batch.
//!
//! Only tenants whose users cost more than those of the others are limited ([`limit`]). A tenant that is
//! merely large gets what its users are due; otherwise people with many colleagues would wait longer.
//!
//! A selection has two rounds. In the first, a slow tenant may have [`cap`] batches in flight. The cap is a
//! part of the permits (`schedule.tenant_share_percent`), or less if several tenants want enough that the
//! others would go short. Among tenants below their cap, the oldest stamp goes first. If then no other user
//! is due, the second round gives the remaining permits to tenants at their cap, again by age, because an
//! idle permit helps no tenant. But a slow batch keeps its permit for most of a minute, and other users come
//! due meanwhile. So as many permits as those others usually hold ([`Usage`]) stay free, unless none of them
//! comes due before the batch would end ([`spare_jobs`]).
//!
//! Everything here is pure. The leader measures the use each time it looks at the queue, from the jobs that
//! the workers report as running.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Head;
use super::select::BatchLimit;
use crate::model::TenantId;

/// Time constant of the mean: the use of the last minute counts most.
const MEMORY: Duration = Duration::from_mins(1);

/// Means below this are dropped.
const NOTHING: f64 = 0.001;

/// Largest number of tenants whose use is remembered; those with the least use are dropped.
const MOST_TENANTS: usize = 10_000;

/// Number of heads to read for [`spare_jobs`]. Tenants at their cap stand in front of those that come due.
pub const HEADS: usize = 500;

/// A tenant is slow if its users hold permits this many times as long as those of the others.
const SLOW: f64 = 2.0;

/// For each tenant, the mean number of permits it held during about the last minute, and its number of users
/// sent.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    mean: HashMap<TenantId, f64>,
    /// Users sent, fading like the mean.
    users: HashMap<TenantId, f64>,
}

/// Number of batches in flight by tenant.
pub type BatchesInFlight = HashMap<TenantId, usize>;

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "held between 0 and u32::MAX before"
)]
fn to_count(value: f64) -> usize {
    value.clamp(0.0, f64::from(u32::MAX)) as usize
}

impl Usage {
    /// Adds what runs now; `elapsed` is the time since the last call.
    pub fn observe(&mut self, running: &BatchesInFlight, elapsed: Duration) {
        let kept = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        for value in self.mean.values_mut().chain(self.users.values_mut()) {
            *value *= kept;
        }
        self.users.retain(|_, users| *users >= NOTHING);
        for (tenant, batches) in running {
            *self.mean.entry(tenant.clone()).or_default() += number(*batches) * (1.0 - kept);
        }
        self.mean.retain(|_, mean| *mean >= NOTHING);
        if self.mean.len() > MOST_TENANTS {
            let mut means: Vec<f64> = self.mean.values().copied().collect();
            means.sort_by(f64::total_cmp);
            let least = means.get(means.len() - MOST_TENANTS).copied().unwrap_or(f64::MAX);
            self.mean.retain(|_, mean| *mean >= least);
        }
    }

    /// Records that a batch with this many users was sent.
    pub fn record_sent(&mut self, tenant: &TenantId, users: usize) {
        if self.users.len() < MOST_TENANTS || self.users.contains_key(tenant) {
            *self.users.entry(tenant.clone()).or_default() += number(users);
        }
    }

    /// Returns the tenants whose users hold permits much longer than those of all others. A tenant that is
    /// alone is not slow.
    fn slow_tenants(&self) -> impl Iterator<Item = &TenantId> {
        let permits: f64 = self.mean.values().sum();
        let users: f64 = self.users.values().sum();
        self.mean.iter().filter_map(move |(tenant, mean)| {
            let tenant_users = self.users.get(tenant).copied().unwrap_or(0.0);
            let (other_permits, other_users) = (permits - mean, users - tenant_users);
            // Multiplied crosswise, which avoids dividing by zero.
            (other_users >= 1.0 && mean * other_users > SLOW * other_permits.max(0.0) * tenant_users)
                .then_some(tenant)
        })
    }

    /// Returns a tenant's mean number of permits.
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> f64 {
        self.mean.get(tenant).copied().unwrap_or(0.0)
    }
}

/// Returns the tenants that are limited in the first round, and their limit; no tenant if `percent` is 100 or
/// there are no permits.
#[must_use]
pub fn limit(permits: usize, percent: u8, usage: &Usage, running: &BatchesInFlight) -> BatchLimit {
    if percent >= 100 || permits == 0 {
        return BatchLimit::default();
    }
    let in_flight = usage
        .slow_tenants()
        .map(|tenant| (tenant.clone(), running.get(tenant).copied().unwrap_or(0)));
    BatchLimit {
        most: cap(permits, percent, usage),
        in_flight: in_flight.collect(),
    }
}

/// Returns the largest number of batches that one slow tenant may have in flight while others wait. It is
/// `percent` of the permits, or less, down to one, if tenants at that cap would leave too little for the use
/// of the others. A tenth of the permits is kept for growth of that use.
#[must_use]
pub fn cap(permits: usize, percent: u8, usage: &Usage) -> usize {
    let part = (number(permits) * f64::from(percent.min(100)) / 100.0).ceil();
    let mut means: Vec<f64> = usage.mean.values().copied().collect();
    means.sort_by(f64::total_cmp);
    // The level at which the means, each cut off at it, add up to nine tenths of the permits.
    let mut left = number(permits) * 0.9;
    let mut level = f64::MAX;
    for (index, mean) in means.iter().enumerate() {
        let even = left / number(means.len() - index);
        if *mean > even {
            level = even;
            break;
        }
        left -= mean;
    }
    to_count(part.min(level.floor())).max(1)
}

/// Returns how many of the `free_jobs` permits that are left after the first round go to tenants at their cap.
///
/// `heads` are the oldest tenants after that round (at most [`HEADS`]), `running` the batches in flight
/// including that round, `minimum` the age at which a stamp is due, and `lasts` how long a slow batch may
/// hold a permit.
#[must_use]
pub fn spare_jobs(
    free_jobs: usize,
    heads: &[Head],
    running: &BatchesInFlight,
    usage: &Usage,
    now: Timestamp,
    minimum: Duration,
    lasts: Duration,
) -> usize {
    let age = |stamp: Timestamp| now.duration_since(stamp);
    let minimum = SignedDuration::try_from(minimum).unwrap_or(SignedDuration::MAX);
    let soon = minimum.saturating_sub(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX));
    let due: HashSet<&TenantId> = heads
        .iter()
        .filter(|head| age(head.stamp) >= minimum)
        .map(|head| &head.tenant)
        .collect();
    if due.is_empty() {
        return 0;
    }
    let others_come = heads
        .iter()
        .any(|head| !due.contains(&head.tenant) && age(head.stamp) >= soon);
    if !others_come {
        return free_jobs;
    }
    let usual: f64 = usage
        .mean
        .iter()
        .filter(|(tenant, _)| !due.contains(tenant))
        .map(|(_, mean)| mean)
        .sum();
    // The number of random arrivals varies by about the square root of its mean; twice that is seldom
    // exceeded.
    let wanted = to_count((usual + 2.0 * usual.sqrt()).ceil());
    let have: usize = running
        .iter()
        .filter(|(tenant, _)| !due.contains(tenant))
        .map(|(_, batches)| batches)
        .sum();
    free_jobs.saturating_sub(wanted.saturating_sub(have))
}

#[cfg(test)]
mod tests;
