//! Computes the figures of a run, against which its expectations are evaluated. Pure.

use super::expect::{Figures, Metric};
use super::result::{GroupResult, TrialResult};

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

fn count(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Returns `over / under`, or `None` if `under` is not positive.
fn ratio(over: f64, under: f64) -> Option<f64> {
    (under > 0.0).then(|| over / under)
}

/// A figure, or `None` if it was not measured.
type MetricValue = (Metric, Option<f64>);

/// Returns the figures. Figures that were not measured are absent.
pub(crate) fn of(trial: &TrialResult, baseline: Option<&TrialResult>) -> Figures {
    let comparison = baseline.map(|baseline| comparison_figures(trial, baseline));
    correctness_figures(trial)
        .into_iter()
        .chain(speed_figures(trial))
        .chain(comparison.into_iter().flatten())
        .chain(cost_figures(trial))
        .filter_map(|(metric, value)| Some((metric, value.filter(|value| value.is_finite())?)))
        .collect()
}

/// Returns the figures about tasks that are not as they must be, and about users whom no sync reached.
fn correctness_figures(trial: &TrialResult) -> [MetricValue; 16] {
    let verdict = &trial.verdict;
    let violations = &trial.violations;
    let requests = &trial.requests;
    let lost = verdict.missing_count + trial.edits.saturating_sub(trial.mirrored);
    let unclean = trial.ends.iter().filter(|(_, code)| *code != Some(0)).count();
    [
        (Metric::Lost, Some(count(lost))),
        (Metric::Doubled, Some(count(verdict.doubled_count))),
        (Metric::LeftOver, Some(count(verdict.extra_count))),
        (Metric::Differing, Some(count(verdict.differing_count))),
        (Metric::Shifted, Some(count(violations.shifted_count))),
        (Metric::Altered, Some(count(violations.altered_count))),
        (Metric::Deleted, Some(count(violations.deleted_count))),
        (Metric::Gone, Some(count(violations.gone_count))),
        (Metric::Answers, trial.answers.map(number)),
        (
            Metric::Lies,
            trial.answers.map(|_| number(trial.wrong_answers.values().sum())),
        ),
        (Metric::NeverSynced, Some(number(trial.never_synced))),
        (Metric::Unchecked, trial.unchecked.map(number)),
        (Metric::Disabled, trial.disabled.map(number)),
        (Metric::UncleanEnds, Some(count(unclean))),
        (Metric::ApiRequests, Some(number(requests.sent))),
        (Metric::FailedApiRequests, Some(number(requests.failed))),
    ]
}

/// Returns the figures about times and rates.
fn speed_figures(trial: &TrialResult) -> [MetricValue; 14] {
    let some = |measured: bool, value: f64| measured.then_some(value);
    let intervals = trial.interval.count > 0;
    let others = trial.groups.iter().filter(|group| !group.lied_to);
    let users: u64 = trial.groups.iter().map(|group| group.users).sum();
    [
        (Metric::EverybodyWithin, trial.everybody_within),
        (Metric::IntervalP50, some(intervals, trial.interval.p50)),
        (Metric::IntervalP99, some(intervals, trial.interval.p99)),
        (Metric::IntervalMax, some(intervals, trial.interval.max)),
        (
            Metric::OvertakingP99,
            some(trial.overtaking.count > 0, trial.overtaking.p99),
        ),
        (
            Metric::StalenessMax,
            some(trial.measured_seconds > 0.0, trial.staleness_max),
        ),
        (
            Metric::OthersSyncP99,
            others.map(|group| group.sync.p99).reduce(f64::max),
        ),
        (
            Metric::Throughput,
            ratio(number(trial.measured_syncs), trial.measured_seconds),
        ),
        (Metric::ThroughputRatio, steps_ratio(trial)),
        (Metric::MirroredP50, trial.mirrored_p50),
        (Metric::MirroredP99, trial.mirrored_p99),
        (Metric::Failover, failover(trial)),
        (Metric::SettledWithin, trial.settled_within),
        (
            Metric::EnrolledPerSecond,
            ratio(number(users), trial.enrol_seconds),
        ),
    ]
}

/// Returns the figures that compare the run with its baseline.
fn comparison_figures(trial: &TrialResult, baseline: &TrialResult) -> [MetricValue; 4] {
    let memory = memory_max(baseline).and_then(|before| ratio(memory_max(trial)?, before));
    [
        (
            Metric::OthersIntervalP99Ratio,
            others_ratio(trial, baseline, |group| group.interval.p99),
        ),
        (
            Metric::OthersSyncP50Ratio,
            others_ratio(trial, baseline, |group| group.sync.p50),
        ),
        (
            Metric::OthersSyncP99Ratio,
            others_ratio(trial, baseline, |group| group.sync.p99),
        ),
        (Metric::MemoryRatio, memory),
    ]
}

/// Returns the figures about requests, CPU time and memory.
fn cost_figures(trial: &TrialResult) -> [MetricValue; 5] {
    let idle = trial.idle.as_ref();
    [
        (Metric::IdleWrites, idle.map(|idle| number(idle.writes))),
        (
            Metric::IdleExchangeRequests,
            idle.and_then(|idle| ratio(number(idle.exchange_requests), number(idle.syncs))),
        ),
        (
            Metric::IdleSharepointRequests,
            idle.and_then(|idle| ratio(number(idle.sharepoint_requests), number(idle.syncs))),
        ),
        (
            Metric::CpuPerSync,
            ratio(trial.measured_cpu_seconds, number(trial.measured_syncs)),
        ),
        (Metric::MemoryMax, memory_max(trial)),
    ]
}

/// Returns the longest time without a leader after a leader was hit. If no process took over after one of the hits,
/// the figure stays absent, so that the expectation fails.
fn failover(trial: &TrialResult) -> Option<f64> {
    let hits = trial
        .hits
        .iter()
        .filter(|hit| hit.what == super::file::Victim::Leader);
    let times: Vec<f64> = hits.map(|hit| hit.failover).collect::<Option<_>>()?;
    times.into_iter().reduce(f64::max)
}

/// Returns the largest ratio of a group's figure to its figure in the baseline, among the groups that get no wrong
/// answers.
fn others_ratio(
    trial: &TrialResult,
    baseline: &TrialResult,
    figure: impl Fn(&GroupResult) -> f64,
) -> Option<f64> {
    baseline
        .groups
        .iter()
        .filter_map(|before| {
            let now = trial.groups.iter().find(|group| group.name == before.name);
            match now {
                Some(now) if now.lied_to => None,
                Some(now) => Some(ratio(figure(now), figure(before))),
                None => Some(None),
            }
        })
        // If a group was not measured in one of the two runs, there is no figure at all.
        .try_fold(0.0, |worst: f64, ratio| ratio.map(|ratio| worst.max(ratio)))
}

fn steps_ratio(trial: &TrialResult) -> Option<f64> {
    let rate =
        |at: Option<&super::result::StepResult>| at.and_then(|step| ratio(number(step.syncs), step.seconds));
    if trial.steps.len() < 2 {
        return None;
    }
    ratio(rate(trial.steps.last())?, rate(trial.steps.first())?)
}

fn memory_max(trial: &TrialResult) -> Option<f64> {
    trial
        .samples
        .iter()
        .flat_map(|sample| &sample.processes)
        .filter(|(name, _)| super::result::is_tasksync_process(name))
        .map(|(_, usage)| usage.memory_mib.max(usage.peak_mib))
        .reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::file::{Method, Victim};
    use super::super::fleet::Hit;
    use super::super::result::{Quantiles, StepResult};
    use super::*;

    fn group(name: &str, p99: f64) -> GroupResult {
        GroupResult {
            name: name.to_owned(),
            users: 10,
            interval: Quantiles {
                count: 5,
                p99,
                ..Quantiles::default()
            },
            sync: Quantiles {
                count: 5,
                p50: 1.0,
                p99: p99 / 2.0,
                ..Quantiles::default()
            },
            ..GroupResult::default()
        }
    }

    #[test]
    fn the_worst_of_the_others_counts() {
        let with = |groups| TrialResult {
            groups,
            ..TrialResult::default()
        };
        let baseline = with(vec![group("a", 10.0), group("b", 20.0)]);
        let trial = with(vec![group("bad", 99.0), group("a", 11.0), group("b", 20.0)]);
        let figures = of(&trial, Some(&baseline));
        assert!((figures[&Metric::OthersIntervalP99Ratio] - 1.1).abs() < 1e-9);
        assert!((figures[&Metric::OthersSyncP50Ratio] - 1.0).abs() < 1e-9);
        assert!((figures[&Metric::OthersSyncP99Ratio] - 1.1).abs() < 1e-9);
        let mut with_wrong_answers = with(vec![group("a", 30.0), group("b", 20.0)]);
        with_wrong_answers.groups[0].lied_to = true;
        let figures = of(&with_wrong_answers, Some(&baseline));
        assert!((figures[&Metric::OthersIntervalP99Ratio] - 1.0).abs() < 1e-9);
        let gone = with(vec![group("a", 11.0)]);
        assert!(!of(&gone, Some(&baseline)).contains_key(&Metric::OthersIntervalP99Ratio));
        assert!(!of(&trial, None).contains_key(&Metric::OthersIntervalP99Ratio));
    }

    #[test]
    fn steps_are_compared_by_their_rates() {
        let step = |workers, syncs, seconds| StepResult {
            workers,
            syncs,
            seconds,
            cpu_seconds: 0.0,
        };
        let trial = TrialResult {
            steps: vec![step(1, 100, 10.0), step(8, 1_520, 19.0)],
            ..TrialResult::default()
        };
        assert!((of(&trial, None)[&Metric::ThroughputRatio] - 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_leader_without_a_successor_leaves_no_failover_time() {
        let hit = |failover| Hit {
            what: Victim::Leader,
            how: Method::Kill,
            name: "scheduler-1".to_owned(),
            at: 0.0,
            back_after: None,
            failover,
            problem: None,
        };
        let with = |hits| {
            of(
                &TrialResult {
                    hits,
                    ..TrialResult::default()
                },
                None,
            )
        };
        assert!((with(vec![hit(Some(3.0)), hit(Some(9.0))])[&Metric::Failover] - 9.0).abs() < 1e-9);
        assert!(!with(vec![hit(Some(3.0)), hit(None)]).contains_key(&Metric::Failover));
        assert!(!with(Vec::new()).contains_key(&Metric::Failover));
    }

    #[test]
    fn an_edit_that_never_showed_is_lost() {
        let trial = TrialResult {
            edits: 10,
            mirrored: 8,
            ..TrialResult::default()
        };
        assert!((of(&trial, None)[&Metric::Lost] - 2.0).abs() < 1e-9);
    }
}
