//! Metrics about all users, which only the leader reads. They belong to no single process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::Failure;
use tasksync_common::metrics::{Metrics, Spec, as_f64, catalogue};
use tasksync_common::queue::{Depth, QueueName};
use tasksync_common::registry::EnrolmentCounts;
use tasksync_common::schedule::Summary;
use tasksync_common::stores::Stores;
use tokio::time::{Instant, sleep};

use crate::load::Load;

/// Time between two reads, …
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// … but at least this many times as long as the read took, so that reading takes at most 1/20 of the time even where
/// many tenants have due users.
const LOOK_PART: u32 = 20;
/// Time between two reads of the more expensive numbers.
const SLOW_INTERVAL: Duration = Duration::from_secs(60);
/// Most alerts counted.
const ALERTS_COUNTED: u32 = 1_000;

/// The numbers about all users at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sight {
    summary: Summary,
    background: Depth,
    interactive: Depth,
    counted: Counted,
    at: Timestamp,
}

/// The numbers that are read less often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    enrolled: EnrolmentCounts,
    alerts: usize,
    dead_letters: u64,
    /// From the registry, which also knows users who never succeeded.
    oldest_success: Option<Timestamp>,
}

/// The last numbers read. Empty while this process does not lead: then it exports none, and sums over all processes
/// are right.
#[derive(Debug, Default)]
struct Freshness(Mutex<Option<Sight>>);

impl Freshness {
    fn set(&self, sight: Option<Sight>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sight;
    }

    /// Registers these numbers with the process's metrics.
    fn register(self: &Arc<Self>, metrics: &Metrics) {
        for (index, (spec, _)) in values(&Sight::nothing()).into_iter().enumerate() {
            let freshness = Arc::clone(self);
            metrics.observe(spec, move |sink| {
                let sight = freshness.0.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(sight) = sight.as_ref() else { return };
                if let Some((_, rows)) = values(sight).into_iter().nth(index) {
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
fn values(sight: &Sight) -> Vec<(&'static Spec, Rows)> {
    let Sight {
        summary,
        background,
        interactive,
        counted,
        at,
    } = sight;
    let one = |value: u64| -> Rows { vec![(&[], as_f64(value))] };
    let queues = |read: fn(&Depth) -> Option<u64>| -> Rows {
        let both: [(&'static [&'static str], &Depth); 2] =
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
        (&catalogue::ALERTS, one(counted.alerts as u64)),
        (&catalogue::QUEUE_READY, queues(|depth| Some(depth.ready))),
        (&catalogue::QUEUE_IN_FLIGHT, queues(|depth| depth.unacknowledged)),
        (&catalogue::QUEUE_WANTED, queues(|depth| Some(depth.wanted))),
        (&catalogue::DEAD_LETTERS, one(counted.dead_letters)),
        (
            &catalogue::OBSERVED_AT,
            one(u64::try_from(at.as_second()).unwrap_or(0)),
        ),
    ]
}

impl Sight {
    fn nothing() -> Self {
        Self {
            summary: Summary::default(),
            background: Depth::default(),
            interactive: Depth::default(),
            counted: Counted {
                enrolled: EnrolmentCounts::default(),
                alerts: 0,
                dead_letters: 0,
                oldest_success: None,
            },
            at: Timestamp::UNIX_EPOCH,
        }
    }
}

/// Clears the numbers when leading ends, in whatever way.
struct Seeing<'a>(&'a Freshness);

impl Drop for Seeing<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Reads the numbers about all users while this process leads.
pub(crate) struct Onlooker {
    stores: Stores,
    freshness: Arc<Freshness>,
}

impl Onlooker {
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
    pub(crate) async fn look_in_turn(&self) {
        let _seeing = Seeing(&self.freshness);
        let mut counted: Option<(Instant, Counted)> = None;
        let mut answers = true;
        loop {
            let began = Instant::now();
            match self.look(&mut counted).await {
                Ok(sight) => {
                    self.freshness.set(Some(sight));
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
            sleep(LOOK_INTERVAL.max(began.elapsed() * LOOK_PART)).await;
        }
    }

    async fn look(&self, counted: &mut Option<(Instant, Counted)>) -> Result<Sight, Failure> {
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
                Instant::now(),
                Counted {
                    enrolled: registry.enrolment_counts(None).await?,
                    alerts: registry.alerts(None, ALERTS_COUNTED).await?.len(),
                    dead_letters: queue.dead_letter_count().await?,
                    oldest_success: registry.oldest_success(None).await?,
                },
            ),
        };
        *counted = Some((at, now));
        let load = Load::read(fleet.as_ref()).await?;
        let depth = |name| load.depth(queue.as_ref(), fleet.as_ref(), name);
        let mut summary = schedule.summary(None).await?;
        summary.count_success(now.oldest_success, clock.now());
        Ok(Sight {
            summary,
            background: depth(QueueName::Background).await?,
            interactive: depth(QueueName::Interactive).await?,
            counted: now,
            at: clock.now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_keeps_its_place_whatever_was_seen() {
        let mut sight = Sight::nothing();
        sight.summary.interval_p50_seconds = Some(300);
        sight.summary.due = 7;
        let names =
            |sight: &Sight| -> Vec<&str> { values(sight).into_iter().map(|(spec, _)| spec.name).collect() };
        assert_eq!(names(&Sight::nothing()), names(&sight));
        let due = values(&sight)
            .into_iter()
            .find(|(spec, _)| spec.name == catalogue::USERS_DUE.name);
        assert_eq!(due.unwrap().1, vec![(&[] as &[&str], 7.0)]);
    }

    #[test]
    fn exactly_the_metrics_of_the_leader_are_exported() {
        let seen: Vec<&str> = values(&Sight::nothing())
            .into_iter()
            .map(|(spec, _)| spec.name)
            .collect();
        let documented: Vec<&str> = catalogue::ALL
            .iter()
            .filter(|spec| spec.source == catalogue::Source::Leader)
            .map(|spec| spec.name)
            .collect();
        assert_eq!(seen, documented);
    }

    #[test]
    fn the_numbers_are_cleared_when_leading_ends() {
        let freshness = Freshness::default();
        freshness.set(Some(Sight::nothing()));
        drop(Seeing(&freshness));
        assert_eq!(*freshness.0.lock().unwrap(), None);
    }
}
