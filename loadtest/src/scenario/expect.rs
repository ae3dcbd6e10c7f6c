//! The expectations of a scenario, `METRIC OPERATOR VALUE`, and their evaluation against the figures of a run. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::duration;

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A count.
    Count,
    /// Seconds.
    Seconds,
    /// One figure divided by another.
    Ratio,
    /// A rate per second.
    PerSecond,
    /// Mebibytes.
    Mebibytes,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $unit:ident,)*) => {
        /// A figure of a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $($(#[doc = $doc])+ $variant,)* }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name used in scenario files and reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the unit.
            #[must_use]
            pub fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)* }
            }

            /// Returns the description.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, " ",)+).trim_ascii(),)* }
            }
        }
    };
}

metrics! {
    /// Tasks without a copy, and edits that the other side never showed.
    Lost "lost" Count,
    /// Tasks with more than one copy.
    Doubled "doubled" Count,
    /// Copies without a task.
    LeftOver "left_over" Count,
    /// Copies whose values differ from their task.
    Differing "differing" Count,
    /// Dates that differ from what people set, whether both sides agree or not.
    Shifted "shifted" Count,
    /// Other values that differ from what people set, whether both sides agree or not.
    Altered "altered" Count,
    /// Tasks in SharePoint's recycle bin that no person deleted.
    Deleted "deleted" Count,
    /// Values set by people that are on neither side, in no recycle bin, not in Deleted Items and not in the journal.
    Gone "gone" Count,
    /// Answers given while wrong ones were allowed.
    Answers "answers" Count,
    /// Wrong answers given.
    Lies "lies" Count,
    /// Users that were never synced.
    NeverSynced "never_synced" Count,
    /// Users without a full and a deep check against honest servers when both sides were judged.
    Unchecked "unchecked" Count,
    /// Users disabled at the end, or earlier when the servers had been honest for `lies.honest`; these are synced on
    /// request.
    Disabled "disabled" Count,
    /// Time until each user was synced once.
    EverybodyWithin "everybody_within" Seconds,
    /// Median time between two syncs of a user, as the servers saw it.
    IntervalP50 "interval_p50" Seconds,
    /// 99th percentile of the time between two syncs of a user.
    IntervalP99 "interval_p99" Seconds,
    /// Longest time between two syncs of a user.
    IntervalMax "interval_max" Seconds,
    /// Longest wait of a user during the measured phase, whether a sync ended it or not.
    StalenessMax "staleness_max" Seconds,
    /// Largest ratio of a group's `interval_p99` to that in the baseline, among the baseline's groups that get no wrong
    /// answers.
    OthersIntervalP99Ratio "others_interval_p99_ratio" Ratio,
    /// 99th percentile of the time from the first to the last Exchange request of a sync with several requests, in
    /// groups that get no wrong answers.
    OthersSyncP99 "others_sync_p99" Seconds,
    /// Largest ratio of a group's median of the time in `others_sync_p99` to that in the baseline, among the baseline's
    /// groups that get no wrong answers.
    OthersSyncP50Ratio "others_sync_p50_ratio" Ratio,
    /// Largest ratio of a group's 99th percentile of the time in `others_sync_p99` to that in the baseline, among the
    /// baseline's groups that get no wrong answers.
    OthersSyncP99Ratio "others_sync_p99_ratio" Ratio,
    /// 99th percentile of how much longer the longest-waiting user had waited than a user that was synced. The index
    /// is read once per second, so up to one second comes from the measurement.
    OvertakingP99 "overtaking_p99" Seconds,
    /// Syncs per second in the measured phase; with steps, in the last step.
    Throughput "throughput" PerSecond,
    /// Syncs per second in the last step, divided by those in the first step.
    ThroughputRatio "throughput_ratio" Ratio,
    /// Median time until an edit showed on the other side.
    MirroredP50 "mirrored_p50" Seconds,
    /// 99th percentile of the time until an edit showed on the other side.
    MirroredP99 "mirrored_p99" Seconds,
    /// Longest time without a leader after one was killed.
    Failover "failover" Seconds,
    /// Time from the last edit until both sides agreed.
    SettledWithin "settled_within" Seconds,
    /// Writes to either side while no edits were made.
    IdleWrites "idle_writes" Count,
    /// Exchange requests per sync while no edits were made.
    IdleExchangeRequests "idle_exchange_requests" Ratio,
    /// SharePoint requests per sync while no edits were made.
    IdleSharepointRequests "idle_sharepoint_requests" Ratio,
    /// Users opted in per second.
    EnrolledPerSecond "enrolled_per_second" PerSecond,
    /// CPU time of all tasksync processes per sync, in seconds.
    CpuPerSync "cpu_per_sync" Seconds,
    /// Largest memory of one tasksync process.
    MemoryMax "memory_max" Mebibytes,
    /// Largest memory of one tasksync process, divided by that in the baseline.
    MemoryRatio "memory_ratio" Ratio,
    /// Processes that did not end with exit code 0 after SIGTERM.
    UncleanEnds "unclean_ends" Count,
    /// API requests sent during the measured phase.
    ApiRequests "api_requests" Count,
    /// API requests that were not answered with success, although a scheduler accepted the connection, or that no
    /// scheduler accepted.
    FailedApiRequests "failed_api_requests" Count,
}

impl Metric {
    /// Returns whether it compares with a baseline.
    #[must_use]
    pub fn needs_baseline(self) -> bool {
        matches!(
            self,
            Self::OthersIntervalP99Ratio
                | Self::OthersSyncP50Ratio
                | Self::OthersSyncP99Ratio
                | Self::MemoryRatio
        )
    }

    /// Returns whether it compares steps.
    #[must_use]
    pub fn needs_steps(self) -> bool {
        self == Self::ThroughputRatio
    }

    /// Formats a value with its unit for people.
    #[must_use]
    pub fn format_value(self, value: f64) -> String {
        match self.unit() {
            Unit::Count => format!("{value:.0}"),
            Unit::Seconds if (0.0..0.01).contains(&value) => format!("{:.0} µs", value * 1e6),
            Unit::Seconds => match std::time::Duration::try_from_secs_f64(value) {
                Ok(time) => duration::words(time),
                Err(_) => format!("{value} s"),
            },
            Unit::Ratio => format!("{value:.3}"),
            Unit::PerSecond => format!("{value:.1}/s"),
            Unit::Mebibytes => format!("{value:.0} MiB"),
        }
    }
}

/// How a figure is compared with the expected value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
    /// `=`
    Equal,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// The figure.
    pub metric: Metric,
    /// The comparison.
    pub operator: Operator,
    /// The expected value, in the unit of the metric.
    pub value: f64,
    /// The text of the expectation.
    pub text: String,
}

/// Parses an expectation such as `lost = 0`, `failover <= 15s` or `throughput_ratio >= 7.5`.
///
/// # Errors
/// Names the problem and the allowed forms.
pub fn parse(text: &str) -> Result<Expectation, String> {
    let (at, sign, operator) = [
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("=", Operator::Equal),
    ]
    .into_iter()
    .find_map(|(sign, operator)| text.find(sign).map(|at| (at, sign, operator)))
    .ok_or_else(|| format!("\"{text}\" has no <=, >= or ="))?;
    let name = text.get(..at).unwrap_or_default().trim();
    let value = text.get(at + sign.len()..).unwrap_or_default().trim();
    let metric = Metric::ALL
        .iter()
        .copied()
        .find(|metric| metric.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
            format!("there is no figure \"{name}\"; there are {}", names.join(", "))
        })?;
    let number = match metric.unit() {
        Unit::Seconds => duration::parse(value)
            .map(|time| time.as_secs_f64())
            .ok_or_else(|| format!("\"{value}\" is not a time; {name} needs one, for example 15s"))?,
        Unit::Count | Unit::Ratio | Unit::PerSecond | Unit::Mebibytes => value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| format!("\"{value}\" is not a number; {name} needs one without a unit"))?,
    };
    Ok(Expectation {
        metric,
        operator,
        value: number,
        text: text.trim().to_owned(),
    })
}

/// The figures of a run. Figures that were not measured are absent.
pub type Figures = BTreeMap<Metric, f64>;

/// An expectation and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The expectation.
    pub expectation: Expectation,
    /// The figure found; `None` if it was not measured, which counts as a failure.
    pub found: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

/// Evaluates every expectation.
#[must_use]
pub fn judge(expectations: &[Expectation], figures: &Figures) -> Vec<Judgement> {
    expectations
        .iter()
        .map(|expectation| {
            let found = figures.get(&expectation.metric).copied();
            let holds = found.is_some_and(|found| match expectation.operator {
                Operator::AtMost => found <= expectation.value,
                Operator::AtLeast => found >= expectation.value,
                Operator::Equal => (found - expectation.value).abs() < 1e-9,
            });
            Judgement {
                expectation: expectation.clone(),
                found,
                holds,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, figures: &[(Metric, f64)]) -> bool {
        let figures = figures.iter().copied().collect();
        judge(&[parse(text).unwrap()], &figures)[0].holds
    }

    #[test]
    fn figures_are_compared_in_their_unit() {
        assert!(holds("lost = 0", &[(Metric::Lost, 0.0)]));
        assert!(!holds("lost = 0", &[(Metric::Lost, 1.0)]));
        assert!(holds("failover <= 15s", &[(Metric::Failover, 15.0)]));
        assert!(!holds("failover <= 15s", &[(Metric::Failover, 15.01)]));
        assert!(holds(
            "everybody_within<=30min",
            &[(Metric::EverybodyWithin, 1_799.0)]
        ));
        assert!(holds(
            "throughput_ratio >= 7.5",
            &[(Metric::ThroughputRatio, 7.5)]
        ));
        assert!(!holds(
            "throughput_ratio >= 7.5",
            &[(Metric::ThroughputRatio, f64::NAN)]
        ));
    }

    #[test]
    fn a_figure_that_was_not_measured_does_not_hold() {
        assert!(!holds("lost = 0", &[]));
    }

    #[test]
    fn wrong_expectations_say_what_is_allowed() {
        let refused = |text: &str| parse(text).unwrap_err();
        assert!(refused("lust = 0").contains("throughput_ratio"));
        assert!(refused("lost is none").contains("<="));
        assert!(refused("failover <= 15").contains("for example 15s"));
        assert!(refused("lost = 0s").contains("not a number"));
        assert!(refused("lost = inf").contains("not a number"));
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_and_words() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(Metric::ALL.iter().all(|metric| metric.what().ends_with('.')));
        assert_eq!(Metric::CpuPerSync.format_value(0.000_25), "250 µs");
        assert_eq!(Metric::Failover.format_value(12.34), "12.3 s");
    }
}
