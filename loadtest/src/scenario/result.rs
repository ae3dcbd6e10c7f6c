//! The results of a run as values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::expect::{Figures, Judgement};
use super::file::Victim;
use super::fleet::Hit;
use super::sample::Sample;
use super::visits::Times;
use crate::trial::{OracleReport, Violations};

/// Quantiles of times, in seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Quantiles {
    /// Number of times.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest time.
    pub max: f64,
    /// The times at evenly spaced shares from 0 to 1, for drawing the distribution.
    pub line: Vec<f64>,
}

/// Number of intervals between those shares.
const POINTS: u32 = 40;

impl Quantiles {
    pub(crate) fn of(times: &Times) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        let at = |share: f64| super::measure::seconds(times.value_at_quantile(share));
        Self {
            count: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: super::measure::seconds(times.max()),
            line: (0..=POINTS)
                .map(|point| at(f64::from(point) / f64::from(POINTS)))
                .collect(),
        }
    }
}

/// A group of tenants.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct GroupResult {
    /// Its name.
    pub name: String,
    /// Its tenants.
    pub tenants: u64,
    /// Its people.
    pub users: u64,
    /// Whether its servers give wrong answers.
    pub lied_to: bool,
    /// Time between two syncs of a user.
    pub interval: Quantiles,
    /// Time from the first to the last request of a sync with several requests.
    pub sync: Quantiles,
    /// Requests to its Exchange servers.
    pub exchange_requests: u64,
    /// Requests to its SharePoint servers.
    pub sharepoint_requests: u64,
    /// Number of requests that met a fault of the scenario.
    pub troubled_requests: u64,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantResult {
    /// Its name.
    pub name: String,
    /// Position of its group.
    pub group: usize,
    /// Number of its people.
    pub users: usize,
    /// Time between two syncs of a user.
    pub interval: Quantiles,
}

/// A measured window with a number of workers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepResult {
    /// Worker processes.
    pub workers: u64,
    /// Syncs in the window.
    pub syncs: u64,
    /// Its length.
    pub seconds: f64,
    /// CPU time of all tasksync processes in the window.
    pub cpu_seconds: f64,
}

/// The results of the quiet phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IdleResult {
    /// Syncs.
    pub syncs: u64,
    /// Requests to Exchange.
    pub exchange_requests: u64,
    /// Requests to SharePoint.
    pub sharepoint_requests: u64,
    /// Writes to both.
    pub writes: u64,
    /// CPU time of all tasksync processes.
    pub cpu_seconds: f64,
}

/// The result of the oracle.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct OracleResult {
    /// Number of copies that should exist.
    pub tasks: usize,
    /// Tasks without a copy.
    pub missing_count: usize,
    /// Copies without a task.
    pub extra_count: usize,
    /// Tasks with more than one copy.
    pub doubled_count: usize,
    /// Copies whose values differ.
    pub differing_count: usize,
    /// Descriptions of the first differences of each kind.
    pub lines: Vec<String>,
    /// The first edits that the other side never showed.
    pub unseen: Vec<String>,
}

impl OracleResult {
    pub(crate) fn of(report: &OracleReport, unseen: Vec<String>, lines: usize) -> Self {
        Self {
            tasks: report.tasks,
            missing_count: report.missing.len(),
            extra_count: report.extra.len(),
            doubled_count: report.doubled.len(),
            differing_count: report.differing.len(),
            lines: report.lines(lines),
            unseen,
        }
    }
}

/// Differences from what people entered.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ViolationResult {
    /// Number of wrong dates.
    pub shifted_count: usize,
    /// Number of other wrong values.
    pub altered_count: usize,
    /// Number of deleted tasks that no person deleted.
    pub deleted_count: usize,
    /// Number of values that are lost.
    pub gone_count: usize,
    /// Descriptions of the first differences of each kind.
    pub lines: Vec<String>,
}

impl ViolationResult {
    pub(crate) fn of(violations: &Violations, lines: usize) -> Self {
        Self {
            shifted_count: violations.shifted.len(),
            altered_count: violations.altered.len(),
            deleted_count: violations.deleted.len(),
            gone_count: violations.gone.len(),
            lines: violations.lines(lines),
        }
    }
}

/// The requests to the API.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RequestResult {
    /// Number of requests.
    pub sent: u64,
    /// Number of requests without success.
    pub failed: u64,
    /// Descriptions of the first failures.
    pub lines: Vec<String>,
}

/// All results of one trial.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TrialResult {
    /// Time to create the population.
    pub population_seconds: f64,
    /// Time to opt in every user.
    pub enrol_seconds: f64,
    /// Time from the first opt-in until each user was synced once.
    pub everybody_within: Option<f64>,
    /// Start of the measured phase, in seconds since the first opt-in.
    pub measured_from: f64,
    /// Length of the measured phase; of the last step if there are steps.
    pub measured_seconds: f64,
    /// Number of syncs in the measured phase.
    pub measured_syncs: u64,
    /// CPU time of all tasksync processes in the measured phase.
    pub measured_cpu_seconds: f64,
    /// Longest wait of a user in the measured phase.
    pub staleness_max: f64,
    /// Time between two syncs of a user, over all users.
    pub interval: Quantiles,
    /// How much longer than each synced user the longest-waiting user had waited.
    pub overtaking: Quantiles,
    /// Results by group.
    pub groups: Vec<GroupResult>,
    /// Results by tenant, if there are at most a hundred tenants.
    pub tenants: Vec<TenantResult>,
    /// Windows with different numbers of workers.
    pub steps: Vec<StepResult>,
    /// The kills.
    pub(crate) hits: Vec<Hit>,
    /// The requests to the API in the measured phase.
    pub requests: RequestResult,
    /// Time from the last edit until both sides agreed.
    pub settled_within: Option<f64>,
    /// The quiet phase.
    pub idle: Option<IdleResult>,
    /// Number of edits.
    pub edits: usize,
    /// Number of edits that the other side showed.
    pub mirrored: usize,
    /// Median time until an edit showed on the other side.
    pub mirrored_p50: Option<f64>,
    /// 99th percentile of that time.
    pub mirrored_p99: Option<f64>,
    /// Number of users that were never synced.
    pub never_synced: u64,
    /// Number of users without a full and a deep check against honest servers; `None` without wrong answers.
    pub unchecked: Option<u64>,
    /// Number of users disabled at the end, or earlier when they were counted and synced on request, whichever is
    /// larger.
    pub disabled: Option<u64>,
    /// The result of the oracle.
    pub verdict: OracleResult,
    /// Differences from what people entered.
    #[serde(rename = "untruths")]
    pub violations: ViolationResult,
    /// Number of answers given while wrong ones were allowed; `None` without wrong answers.
    pub answers: Option<u64>,
    /// Wrong answers by kind.
    #[serde(rename = "lies")]
    pub wrong_answers: BTreeMap<&'static str, u64>,
    /// Failures and refused answers that tasksync logged, by code; empty without wrong answers.
    pub reactions: BTreeMap<String, u64>,
    /// Names and exit codes of the processes at the end.
    pub ends: Vec<(String, Option<i32>)>,
    /// Names of the phases and their starts in seconds.
    pub marks: Vec<(String, f64)>,
    /// The samples, about a second apart in a short run and further apart in a long one.
    pub(crate) samples: Vec<Sample>,
}

impl TrialResult {
    /// Returns a line of text for each kill.
    #[must_use]
    pub fn hits(&self) -> Vec<String> {
        let seconds =
            |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} s"));
        self.hits
            .iter()
            .map(|hit| {
                let failover = if hit.what == Victim::Leader {
                    format!(", without a leader for {}", seconds(hit.failover))
                } else {
                    String::new()
                };
                let problem = hit
                    .problem
                    .as_ref()
                    .map(|problem| format!(": {problem}"))
                    .unwrap_or_default();
                format!(
                    "{:>7.1} s  {} {:?}, back after {}{failover}{problem}",
                    hit.at,
                    hit.name,
                    hit.how,
                    seconds(hit.back_after)
                )
            })
            .collect()
    }

    /// Returns whether both sides agree and each edit was shown.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let verdict = &self.verdict;
        verdict.missing_count + verdict.extra_count + verdict.doubled_count + verdict.differing_count == 0
            && self.mirrored == self.edits
    }
}

/// Returns whether this is the name of a tasksync process.
pub(crate) fn is_tasksync_process(name: &str) -> bool {
    name == "tasksync" || name.starts_with("scheduler-") || name.starts_with("worker-")
}

/// The result of a scenario.
#[derive(Debug)]
pub struct ScenarioResult {
    /// The results of the run.
    pub trial: TrialResult,
    /// The results of the baseline run, if there is one.
    pub baseline: Option<TrialResult>,
    /// All figures.
    pub figures: Figures,
    /// The evaluated expectations.
    pub judgements: Vec<Judgement>,
}

impl ScenarioResult {
    /// Returns whether both sides agreed at the end of each run and every expectation holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        let agrees = |trial: &TrialResult| trial.agrees();
        agrees(&self.trial)
            && self.baseline.as_ref().is_none_or(agrees)
            && self.judgements.iter().all(|judgement| judgement.holds)
    }
}

/// Returns the names of the groups in order.
pub(crate) fn group_names(groups: &[GroupResult]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}
