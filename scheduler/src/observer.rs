//! Metrics about all users, which only the leader reads. They belong to no single process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::fleet::MAXIMUM_MEMBERS;
use tasksync_common::metrics::{Metrics, Spec, as_f64, catalogue};
use tasksync_common::queue::{QueueDepth, QueueName};
use tasksync_common::registry::EnrolmentCounts;
use tasksync_common::schedule::Summary;
use tasksync_common::stores::Stores;
use tokio::time::{Instant, sleep};

use crate::load::Load;
use crate::tenant_ranking::{TenantRank, rank_tenants};

/// Time between two reads, …
const OBSERVATION_INTERVAL: Duration = Duration::from_secs(5);
/// … but at least this many times as long as the read took, so that reading takes at most 1/20 of the time even where
/// many tenants have due users.
const OBSERVATION_PAUSE_FACTOR: u32 = 20;
/// Time between two reads of the more expensive numbers.
const SLOW_INTERVAL: Duration = Duration::from_mins(1);
/// Most alerts counted.
const ALERTS_COUNTED: u32 = 1_000;

/// Number of tenants that are exported by rank.
const RANKS: usize = 5;
/// Labels of the ranks.
const RANK_LABELS: [&[&str]; RANKS] = [&["1"], &["2"], &["3"], &["4"], &["5"]];

/// The numbers about all users at one moment.
#[derive(Debug, Clone, PartialEq)]
struct InstallationNumbers {
    summary: Summary,
    background: QueueDepth,
    interactive: QueueDepth,
    counts: StoreCounts,
    tenants: TenantNumbers,
    at: Timestamp,
}

/// What the workers report about the tenants that stand out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct TenantNumbers {
    /// Share of the time, and seconds per attempt, by rank.
    ranks: [(f64, f64); RANKS],
    failing: u64,
}

impl TenantNumbers {
    fn of(ranking: &[TenantRank]) -> Self {
        let mut numbers = Self {
            failing: ranking
                .iter()
                .filter(|tenant| tenant.failed > 0 && tenant.failed * 2 >= tenant.attempts)
                .count() as u64,
            ..Self::default()
        };
        for (place, tenant) in numbers.ranks.iter_mut().zip(ranking) {
            *place = (tenant.time_share, tenant.seconds_per_attempt.unwrap_or(0.0));
        }
        numbers
    }
}

/// The numbers that are read less often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StoreCounts {
    enrolled: EnrolmentCounts,
    alerts: usize,
    dead_letters: u64,
    /// From the registry, which also knows users who never succeeded.
    oldest_success: Option<Timestamp>,
    at: Timestamp,
}

/// The last numbers read. Empty while this process does not lead: then it exports none, and sums over all processes
/// are right.
#[derive(Debug, Default)]
struct PublishedNumbers(Mutex<Option<InstallationNumbers>>);

impl PublishedNumbers {
    fn set(&self, numbers: Option<InstallationNumbers>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    /// Registers these numbers with the process's metrics.
    fn register(self: &Arc<Self>, metrics: &Metrics) {
        for (index, (spec, _)) in values(&InstallationNumbers::empty()).into_iter().enumerate() {
            let published = Arc::clone(self);
            metrics.observe(spec, move |sink| {
                let numbers = published.0.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(numbers) = numbers.as_ref() else { return };
                if let Some((_, rows)) = values(numbers).into_iter().nth(index) {
                    for (labels, value) in rows {
                        sink.labelled(labels, value);
                    }
                }
            });
        }
    }
}

type Rows = Vec<(&'static [&'static str], f64)>;

/// Returns every metric with its values by label.
fn values(numbers: &InstallationNumbers) -> Vec<(&'static Spec, Rows)> {
    let InstallationNumbers {
        summary,
        background,
        interactive,
        counts: counted,
        tenants,
        at,
    } = numbers;
    let ranks = |read: fn(&(f64, f64)) -> f64| -> Rows {
        RANK_LABELS
            .into_iter()
            .zip(tenants.ranks.iter().map(read))
            .collect()
    };
    let one = |value: u64| -> Rows { vec![(&[], as_f64(value))] };
    let time = |at: &Timestamp| one(u64::try_from(at.as_second()).unwrap_or(0));
    let queues = |read: fn(&QueueDepth) -> Option<u64>| -> Rows {
        let both: [(&'static [&'static str], &QueueDepth); 2] =
            [(&["background"], background), (&["interactive"], interactive)];
        both.into_iter()
            .filter_map(|(labels, depth)| Some((labels, as_f64(read(depth)?))))
            .collect()
    };
    let intervals: [(&'static [&'static str], Option<u64>); 2] = [
        (&["0.5"], summary.interval_p50_seconds),
        (&["0.99"], summary.interval_p99_seconds),
    ];
    vec![
        (
            &catalogue::OLDEST_DUE_AGE,
            one(summary.oldest_due_seconds.unwrap_or(0)),
        ),
        (
            &catalogue::OLDEST_SUCCESS_AGE,
            one(summary.oldest_success_seconds.unwrap_or(0)),
        ),
        (
            &catalogue::SYNC_INTERVAL_QUANTILE,
            intervals
                .into_iter()
                .filter_map(|(labels, value)| Some((labels, as_f64(value?))))
                .collect(),
        ),
        (&catalogue::USERS, one(summary.users)),
        (&catalogue::USERS_DUE, one(summary.due)),
        (&catalogue::USERS_CLAIMED, one(summary.claimed)),
        (
            &catalogue::USERS_ENROLLED,
            vec![
                (&["enabled"], as_f64(counted.enrolled.enabled)),
                (&["disabled"], as_f64(counted.enrolled.disabled)),
            ],
        ),
        (&catalogue::TENANTS, one(summary.tenants)),
        (&catalogue::TENANT_TIME_SHARE, ranks(|(share, _)| *share)),
        (
            &catalogue::TENANT_ATTEMPT_DURATION,
            ranks(|(_, seconds)| *seconds),
        ),
        (&catalogue::TENANTS_FAILING, one(tenants.failing)),
        (&catalogue::ALERTS, one(counted.alerts as u64)),
        (&catalogue::QUEUE_READY, queues(|depth| Some(depth.ready))),
        (&catalogue::QUEUE_IN_FLIGHT, queues(|depth| depth.unacknowledged)),
        (&catalogue::QUEUE_WANTED, queues(|depth| Some(depth.wanted))),
        (&catalogue::DEAD_LETTERS, one(counted.dead_letters)),
        (&catalogue::OBSERVED_AT, time(at)),
        (&catalogue::COUNTED_AT, time(&counted.at)),
    ]
}

impl InstallationNumbers {
    fn empty() -> Self {
        Self {
            summary: Summary::default(),
            background: QueueDepth::default(),
            interactive: QueueDepth::default(),
            counts: StoreCounts {
                enrolled: EnrolmentCounts::default(),
                alerts: 0,
                dead_letters: 0,
                oldest_success: None,
                at: Timestamp::UNIX_EPOCH,
            },
            tenants: TenantNumbers::default(),
            at: Timestamp::UNIX_EPOCH,
        }
    }
}

/// Clears the numbers when leading ends, in whatever way.
struct ClearNumbersOnDrop<'a>(&'a PublishedNumbers);

impl Drop for ClearNumbersOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Reads the numbers about all users while this process leads.
pub(crate) struct InstallationObserver {
    stores: Stores,
    freshness: Arc<PublishedNumbers>,
}

impl InstallationObserver {
    pub(crate) fn new(stores: Stores) -> Self {
        Self {
            stores,
            freshness: Arc::default(),
        }
    }

    /// Registers the numbers with the process's metrics.
    pub(crate) fn register(&self, metrics: &Metrics) {
        self.freshness.register(metrics);
    }

    /// Reads the numbers over and over while this process leads. The caller drops the future when it no longer does.
    pub(crate) async fn observe_loop(&self) {
        let _seeing = ClearNumbersOnDrop(&self.freshness);
        let mut counted: Option<(Instant, StoreCounts)> = None;
        let mut answers = true;
        loop {
            let began = monotonic();
            match self.read_numbers(&mut counted).await {
                Ok(numbers) => {
                    self.freshness.set(Some(numbers));
                    answers = true;
                }
                Err(failure) => {
                    // Old numbers would look like a fleet that stands still.
                    self.freshness.set(None);
                    if answers {
                        tracing::warn!(%failure, "the metrics about all users cannot be read and are not exported");
                    }
                    answers = false;
                }
            }
            sleep(OBSERVATION_INTERVAL.max(began.elapsed() * OBSERVATION_PAUSE_FACTOR)).await;
        }
    }

    async fn read_numbers(
        &self,
        counted: &mut Option<(Instant, StoreCounts)>,
    ) -> Result<InstallationNumbers, Failure> {
        let Stores {
            schedule,
            queue,
            registry,
            fleet,
            clock,
        } = &self.stores;
        let fresh = counted.filter(|(at, _)| at.elapsed() < SLOW_INTERVAL);
        let (at, now) = match fresh {
            Some(counted) => counted,
            None => (
                monotonic(),
                StoreCounts {
                    enrolled: registry.enrolment_counts(None).await?,
                    alerts: registry.alerts(None, ALERTS_COUNTED).await?.len(),
                    dead_letters: queue.dead_letter_count().await?,
                    oldest_success: registry.oldest_success(None).await?,
                    at: clock.now(),
                },
            ),
        };
        *counted = Some((at, now));
        let members = fleet.members().await?;
        let load = Load::of(&members);
        let depth = |name| load.depth(queue.as_ref(), fleet.as_ref(), name);
        let mut summary = schedule.summary(None).await?;
        summary.count_success(now.oldest_success, clock.now());
        Ok(InstallationNumbers {
            summary,
            background: depth(QueueName::Background).await?,
            interactive: depth(QueueName::Interactive).await?,
            counts: now,
            tenants: TenantNumbers::of(&rank_tenants(&members, &[], MAXIMUM_MEMBERS)),
            at: clock.now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_keeps_its_place_whatever_was_seen() {
        let mut numbers = InstallationNumbers::empty();
        numbers.summary.interval_p50_seconds = Some(300);
        numbers.summary.due = 7;
        let names = |numbers: &InstallationNumbers| -> Vec<&str> {
            values(numbers).into_iter().map(|(spec, _)| spec.name).collect()
        };
        assert_eq!(names(&InstallationNumbers::empty()), names(&numbers));
        let due = values(&numbers)
            .into_iter()
            .find(|(spec, _)| spec.name == catalogue::USERS_DUE.name);
        assert_eq!(due.unwrap().1, vec![(&[] as &[&str], 7.0)]);
    }

    #[test]
    fn exactly_the_metrics_of_the_leader_are_exported() {
        let seen: Vec<&str> = values(&InstallationNumbers::empty())
            .into_iter()
            .map(|(spec, _)| spec.name)
            .collect();
        let documented: Vec<&str> = catalogue::ALL
            .iter()
            .filter(|spec| spec.source == catalogue::MetricSource::Leader)
            .map(|spec| spec.name)
            .collect();
        assert_eq!(seen, documented);
    }

    #[test]
    fn tenants_are_exported_by_rank_and_not_by_name() {
        let rank = |name: &str, time_share, attempts, failed| TenantRank {
            tenant: name.parse().unwrap(),
            time_share,
            busy_seconds: 1.0,
            attempts,
            failed,
            seconds_per_attempt: Some(time_share * 10.0),
            seconds_per_sync: None,
            late_users: 0,
            late_since: None,
        };
        let ranking = [
            rank("slow", 0.8, 10, 0),
            rank("half", 0.1, 10, 5),
            rank("few", 0.1, 10, 4),
        ];
        let numbers = TenantNumbers::of(&ranking);
        assert_eq!(
            numbers.ranks,
            [(0.8, 8.0), (0.1, 1.0), (0.1, 1.0), (0.0, 0.0), (0.0, 0.0)]
        );
        assert_eq!(numbers.failing, 1);
    }

    #[test]
    fn the_numbers_are_cleared_when_leading_ends() {
        let freshness = PublishedNumbers::default();
        freshness.set(Some(InstallationNumbers::empty()));
        drop(ClearNumbersOnDrop(&freshness));
        assert_eq!(*freshness.0.lock().unwrap(), None);
    }
}
