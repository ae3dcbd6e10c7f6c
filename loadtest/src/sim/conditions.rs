//! How the servers of a group of tenants behave: how fast they answer, and which share of the requests meets a fault.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::faults::Fault;

/// Number of a group of tenants; 0 holds every tenant that was not put into another group.
pub type GroupId = u16;

/// How long a request takes beyond the time of processing it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Latency {
    /// No added time.
    #[default]
    None,
    /// Always the same time.
    Fixed(Duration),
    /// Log-normal, as the answers of real servers are: half are faster than `median`, and one in a hundred is slower
    /// than `p99`.
    Spread {
        /// The median.
        median: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
}

/// Standard normal quantile of 0.99.
const Z99: f64 = 2.326_347_874;

impl Latency {
    /// Returns the latency for `dice`, a number that is uniformly distributed over all of `u64`.
    #[must_use]
    pub fn draw(self, dice: u64) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(time) => time,
            Self::Spread { median, p99 } => {
                let (median, p99) = (median.as_secs_f64().max(1e-6), p99.as_secs_f64());
                let sigma = (p99.max(median) / median).ln() / Z99;
                // The two halves of `dice` give one normally distributed number (Box and Muller).
                let half = |bits: u64| {
                    (f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(0)) + 0.5) / 4_294_967_296.0
                };
                let (first, second) = (half(dice >> 32), half(dice));
                let normal = (-2.0 * first.ln()).sqrt() * (2.0 * std::f64::consts::PI * second).cos();
                // No answer takes longer than ten times the 99th percentile.
                Duration::from_secs_f64((median * (sigma * normal).exp()).min(10.0 * p99.max(median)))
            }
        }
    }
}

/// A fault that hits a share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultShare {
    /// How many of a thousand requests are hit.
    pub per_mille: u16,
    /// The fault.
    pub fault: Fault,
}

/// How a group's servers behave now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conditions {
    /// How fast they answer.
    pub latency: Latency,
    /// The faults that requests meet.
    pub faults: Vec<FaultShare>,
}

#[derive(Debug, Default)]
struct ServerGroup {
    conditions: RwLock<Arc<Conditions>>,
    requests: AtomicU64,
    hit: AtomicU64,
}

/// The groups of one server. Requests take read locks only; write locks are taken to change a group's conditions.
#[derive(Debug)]
pub struct Groups {
    groups: RwLock<Vec<Arc<ServerGroup>>>,
    dice: AtomicU64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            groups: RwLock::new(vec![Arc::default()]),
            dice: AtomicU64::new(1),
        }
    }
}

/// What one request meets: a delay and perhaps a fault.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RequestConditions {
    pub(crate) latency: Duration,
    pub(crate) fault: Option<Fault>,
}

impl Groups {
    /// Sets how a group's servers behave from now on. Adds the group if it does not exist.
    pub fn set(&self, group: GroupId, conditions: Conditions) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        while groups.len() <= usize::from(group) {
            groups.push(Arc::default());
        }
        if let Some(group) = groups.get(usize::from(group)) {
            *group.conditions.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(conditions);
        }
    }

    /// Returns the number of requests of each group so far, and how many of them met a fault.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<GroupId, (u64, u64)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        (0..)
            .zip(groups.iter())
            .map(|(id, group)| {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                (id, (read(&group.requests), read(&group.hit)))
            })
            .collect()
    }

    /// Counts a request of a group and returns what it meets.
    pub(crate) fn next_conditions(&self, group: GroupId) -> RequestConditions {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = groups.get(usize::from(group)).or_else(|| groups.first()).cloned() else {
            return RequestConditions::default();
        };
        drop(groups);
        group.requests.fetch_add(1, Ordering::Relaxed);
        let conditions = Arc::clone(&group.conditions.read().unwrap_or_else(PoisonError::into_inner));
        if *conditions == Conditions::default() {
            return RequestConditions::default();
        }
        let roll = || super::dice::mix(self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
        let is_drawn = |share: &&FaultShare| roll() % 1000 < u64::from(share.per_mille);
        let fault = conditions
            .faults
            .iter()
            .find(is_drawn)
            .map(|share| share.fault.clone());
        if fault.is_some() {
            group.hit.fetch_add(1, Ordering::Relaxed);
        }
        RequestConditions {
            latency: conditions.latency.draw(roll()),
            fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_faster_than_the_median_and_one_of_a_hundred_slower_than_the_99th_percentile() {
        let latency = Latency::Spread {
            median: Duration::from_millis(20),
            p99: Duration::from_millis(200),
        };
        let mut drawn: Vec<Duration> = (0..20_000)
            .map(|at| latency.draw(super::super::dice::mix(at)))
            .collect();
        drawn.sort_unstable();
        assert!(
            (18..=22).contains(&drawn[10_000].as_millis()),
            "{:?}",
            drawn[10_000]
        );
        assert!(
            (160..=250).contains(&drawn[19_800].as_millis()),
            "{:?}",
            drawn[19_800]
        );
        assert!(drawn[19_999] <= Duration::from_secs(2));
    }

    #[test]
    fn a_group_meets_its_own_conditions_and_is_counted() {
        let groups = Groups::default();
        let conditions = Conditions {
            latency: Latency::Fixed(Duration::from_millis(5)),
            faults: vec![FaultShare {
                per_mille: 500,
                fault: Fault::Cut,
            }],
        };
        groups.set(2, conditions);
        assert_eq!(groups.next_conditions(1), RequestConditions::default());
        let hits = (0..2_000)
            .filter(|_| groups.next_conditions(2).fault == Some(Fault::Cut))
            .count();
        assert!((900..1_100).contains(&hits), "{hits}");
        assert_eq!(groups.requests()[&2], (2_000, u64::try_from(hits).unwrap()));
        groups.set(2, Conditions::default());
        assert_eq!(groups.next_conditions(2), RequestConditions::default());
        assert_eq!(groups.next_conditions(999), RequestConditions::default());
    }
}
