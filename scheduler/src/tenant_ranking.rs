//! Which tenants cost the workers most time, fail most, or have late users.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::fleet::{Member, TenantLoad};
use tasksync_common::metrics::as_f64;
use tasksync_common::model::TenantId;
use tasksync_common::registry::LateUsers;

/// What one tenant cost all workers within the last five to ten minutes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TenantRank {
    pub(crate) tenant: TenantId,
    /// Share of the time that all batches took, between 0 and 1.
    pub(crate) time_share: f64,
    /// Time that the tenant's batches took.
    pub(crate) busy_seconds: f64,
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    /// Mean time of a worker's batch for each attempt; `None` without an attempt.
    pub(crate) seconds_per_attempt: Option<f64>,
    /// Mean duration of the attempts with more than a survey; `None` without one.
    pub(crate) seconds_per_sync: Option<f64>,
    /// Users who were last synced longer ago than `schedule.late_after`, and since when the first of them is late.
    pub(crate) late_users: u64,
    pub(crate) late_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct TenantSum {
    busy_ms: u64,
    attempts: u64,
    failed: u64,
    syncs: u64,
    sync_ms: u64,
    late: Option<(u64, Timestamp)>,
}

impl TenantSum {
    fn add(&mut self, load: &TenantLoad) {
        self.busy_ms += load.busy_ms;
        self.attempts += load.attempts;
        self.failed += load.failed;
        self.syncs += load.syncs;
        self.sync_ms += load.sync_ms;
    }

    fn rank(&self, tenant: TenantId, all_busy_ms: u64) -> TenantRank {
        let mean = |milliseconds: u64, of: u64| (of > 0).then(|| as_f64(milliseconds) / 1_000.0 / as_f64(of));
        TenantRank {
            tenant,
            time_share: if all_busy_ms == 0 {
                0.0
            } else {
                as_f64(self.busy_ms) / as_f64(all_busy_ms)
            },
            busy_seconds: as_f64(self.busy_ms) / 1_000.0,
            attempts: self.attempts,
            failed: self.failed,
            seconds_per_attempt: mean(self.busy_ms, self.attempts),
            seconds_per_sync: mean(self.sync_ms, self.syncs),
            late_users: self.late.map_or(0, |(users, _)| users),
            late_since: self.late.map(|(_, since)| since),
        }
    }
}

/// Returns the tenants that take most time, those that fail most, and those with most late users: at most `limit` of
/// each, together in order of their share of the time.
pub(crate) fn rank_tenants(members: &[Member], late: &[LateUsers], limit: usize) -> Vec<TenantRank> {
    let all_busy_ms = members.iter().map(|member| member.busy_ms).sum();
    let mut sums: BTreeMap<TenantId, TenantSum> = BTreeMap::new();
    for load in members.iter().flat_map(|member| &member.tenants) {
        sums.entry(load.tenant.clone()).or_default().add(load);
    }
    for late in late {
        sums.entry(late.tenant.clone()).or_default().late = Some((late.users, late.oldest));
    }
    let chosen: BTreeSet<&TenantId> = [
        largest(&sums, limit, |sum| sum.busy_ms),
        largest(&sums, limit, |sum| sum.failed),
        largest(&sums, limit, |sum| sum.late.map_or(0, |(users, _)| users)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut ranks: Vec<(u64, TenantRank)> = chosen
        .into_iter()
        .filter_map(|tenant| {
            let sum = sums.get(tenant)?;
            Some((sum.busy_ms, sum.rank(tenant.clone(), all_busy_ms)))
        })
        .collect();
    // Stable: tenants with the same time stay in order of name.
    ranks.sort_by_key(|(busy_ms, _)| u64::MAX - busy_ms);
    ranks.into_iter().map(|(_, rank)| rank).collect()
}

/// Returns the tenants with the largest values above 0.
fn largest(
    sums: &BTreeMap<TenantId, TenantSum>,
    limit: usize,
    value: impl Fn(&TenantSum) -> u64,
) -> Vec<&TenantId> {
    let mut tenants: Vec<(u64, &TenantId)> = sums
        .iter()
        .map(|(tenant, sum)| (value(sum), tenant))
        .filter(|(value, _)| *value > 0)
        .collect();
    tenants.sort_by_key(|(value, _)| u64::MAX - value);
    tenants
        .into_iter()
        .take(limit)
        .map(|(_, tenant)| tenant)
        .collect()
}

#[cfg(test)]
mod tests {
    use tasksync_common::fleet::Role;

    use super::*;

    fn load(tenant: &str, busy_ms: u64, attempts: u64, failed: u64) -> TenantLoad {
        TenantLoad {
            tenant: tenant.parse().unwrap(),
            busy_ms,
            attempts,
            failed,
            syncs: 2,
            sync_ms: busy_ms / 2,
        }
    }

    fn worker(name: &str, tenants: Vec<TenantLoad>, busy_ms: u64) -> Member {
        Member {
            tenants,
            busy_ms,
            ..Member::new(name, Role::Worker, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn the_slow_the_failing_and_the_late_tenants_are_ranked_over_all_workers() {
        let members = [
            worker(
                "w1",
                vec![load("slow", 60_000, 10, 0), load("quick", 1_000, 100, 0)],
                70_000,
            ),
            worker(
                "w2",
                vec![load("slow", 20_000, 10, 0), load("broken", 500, 50, 50)],
                30_000,
            ),
        ];
        let late = [LateUsers {
            tenant: "late".parse().unwrap(),
            users: 7,
            oldest: Timestamp::UNIX_EPOCH,
        }];
        let ranks = rank_tenants(&members, &late, 1);
        let names: Vec<&str> = ranks.iter().map(|rank| rank.tenant.as_str()).collect();
        assert_eq!(names, ["slow", "broken", "late"]);
        let [slow, broken, late] = ranks.as_slice() else {
            panic!("{ranks:?}")
        };
        assert_eq!(
            (slow.time_share, slow.busy_seconds, slow.attempts),
            (0.8, 80.0, 20)
        );
        assert_eq!(
            (slow.seconds_per_attempt, slow.seconds_per_sync),
            (Some(4.0), Some(10.0))
        );
        assert_eq!((broken.attempts, broken.failed), (50, 50));
        assert_eq!(
            (late.late_users, late.late_since, late.seconds_per_attempt),
            (7, Some(Timestamp::UNIX_EPOCH), None)
        );
        assert_eq!(rank_tenants(&members, &[], 10).len(), 3);
        assert_eq!(rank_tenants(&[], &[], 10), []);
    }
}
