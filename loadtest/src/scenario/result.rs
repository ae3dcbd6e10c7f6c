//! What a run found, as values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::expect::{Figures, Judgement};
use super::file::Victim;
use super::fleet::Hit;
use super::sample::Sample;
use super::visits::Times;
use crate::trial::{Untruths, Verdict};

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
    /// Longest.
    pub max: f64,
    /// Times at shares 0, 0.05, … 1: the distribution as a line.
    pub line: Vec<f64>,
}

/// Points of a distribution's line.
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
    /// From the first to the last request of a sync that made more than one.
    pub sync: Quantiles,
    /// Requests to its Exchange servers.
    pub exchange_requests: u64,
    /// Requests to its SharePoint servers.
    pub sharepoint_requests: u64,
    /// Requests that met trouble the scenario made.
    pub troubled_requests: u64,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantResult {
    /// Its name.
    pub name: String,
    /// Position of its group.
    pub group: usize,
    /// Its people.
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
    /// CPU time of all processes of ours in it.
    pub cpu_seconds: f64,
}

/// The quiet phase.
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
    /// CPU time of all processes of ours.
    pub cpu_seconds: f64,
}

/// What the oracle said.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Verdicts {
    /// Copies that should be there.
    pub tasks: usize,
    /// Tasks without a copy.
    pub missing_count: usize,
    /// Copies without a task.
    pub extra_count: usize,
    /// Tasks with more than one copy.
    pub doubled_count: usize,
    /// Copies whose values differ.
    pub differing_count: usize,
    /// The first of each, in words.
    pub lines: Vec<String>,
    /// The first edits the other side never showed.
    pub unseen: Vec<String>,
}

impl Verdicts {
    pub(crate) fn of(verdict: &Verdict, unseen: Vec<String>, lines: usize) -> Self {
        Self {
            tasks: verdict.tasks,
            missing_count: verdict.missing.len(),
            extra_count: verdict.extra.len(),
            doubled_count: verdict.doubled.len(),
            differing_count: verdict.differing.len(),
            lines: verdict.lines(lines),
            unseen,
        }
    }
}

/// What is not as people left it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct UntruthResult {
    /// Dates.
    pub shifted_count: usize,
    /// Other values.
    pub altered_count: usize,
    /// Tasks that no person deleted.
    pub deleted_count: usize,
    /// Values that are nowhere.
    pub gone_count: usize,
    /// The first of each, in words.
    pub lines: Vec<String>,
}

impl UntruthResult {
    pub(crate) fn of(untruths: &Untruths, lines: usize) -> Self {
        Self {
            shifted_count: untruths.shifted.len(),
            altered_count: untruths.altered.len(),
            deleted_count: untruths.deleted.len(),
            gone_count: untruths.gone.len(),
            lines: untruths.lines(lines),
        }
    }
}

/// Everything one trial found.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TrialResult {
    /// Making the population.
    pub population_seconds: f64,
    /// Opting everybody in.
    pub enrol_seconds: f64,
    /// Since the first opt-in until everybody was synced once.
    pub everybody_within: Option<f64>,
    /// Beginning of the measured phase, in seconds since the first opt-in.
    pub measured_from: f64,
    /// Its length; of the last step when there are steps.
    pub measured_seconds: f64,
    /// Syncs in it.
    pub measured_syncs: u64,
    /// CPU time of all processes of ours in it.
    pub measured_cpu_seconds: f64,
    /// The longest any user waited in it.
    pub staleness_max: f64,
    /// Time between two syncs of a user, of everybody.
    pub interval: Quantiles,
    /// How much longer than each synced user the longest-waiting one had waited.
    pub overtaking: Quantiles,
    /// By group.
    pub groups: Vec<GroupResult>,
    /// By tenant, when there are at most a hundred.
    pub tenants: Vec<TenantResult>,
    /// Windows with different numbers of workers.
    pub steps: Vec<StepResult>,
    /// What was killed.
    pub(crate) hits: Vec<Hit>,
    /// After the last edit until both sides agreed.
    pub settled_within: Option<f64>,
    /// The quiet phase.
    pub idle: Option<IdleResult>,
    /// Edits made.
    pub edits: usize,
    /// Edits the other side showed.
    pub mirrored: usize,
    /// Median time until then.
    pub mirrored_p50: Option<f64>,
    /// 99th percentile of the same.
    pub mirrored_p99: Option<f64>,
    /// Users never synced.
    pub never_synced: u64,
    /// Users without a full and a deep check of honest servers; nothing without a liar.
    pub unchecked: Option<u64>,
    /// Users that are disabled at the end.
    pub disabled: Option<u64>,
    /// The oracle's.
    pub verdict: Verdicts,
    /// What is not as people left it.
    pub untruths: UntruthResult,
    /// Answers given while some were wrong; nothing without a liar.
    pub answers: Option<u64>,
    /// Wrong answers by kind.
    pub lies: BTreeMap<&'static str, u64>,
    /// Failures and refused answers that tasksync logged, by code; nothing without a liar.
    pub reactions: BTreeMap<String, u64>,
    /// Names and exit codes of the processes at the end.
    pub ends: Vec<(String, Option<i32>)>,
    /// Where each phase begins, in seconds.
    pub marks: Vec<(String, f64)>,
    /// Looks, at most about a second apart when the run was short.
    pub(crate) samples: Vec<Sample>,
}

impl TrialResult {
    /// What was hit, a line each.
    #[must_use]
    pub fn hits(&self) -> Vec<String> {
        let seconds =
            |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} s"));
        self.hits
            .iter()
            .map(|hit| {
                let mut line = format!(
                    "{:>7.1} s  {} {:?}, back after {}",
                    hit.at,
                    hit.name,
                    hit.how,
                    seconds(hit.back_after)
                );
                if hit.what == Victim::Leader {
                    line.push_str(&format!(", without a leader for {}", seconds(hit.failover)));
                }
                if let Some(problem) = &hit.problem {
                    line.push_str(&format!(": {problem}"));
                }
                line
            })
            .collect()
    }

    /// Whether both sides hold the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let verdict = &self.verdict;
        verdict.missing_count + verdict.extra_count + verdict.doubled_count + verdict.differing_count == 0
            && self.mirrored == self.edits
    }
}

/// Whether a process is one of tasksync's.
pub(crate) fn is_ours(name: &str) -> bool {
    name == "tasksync" || name.starts_with("scheduler-") || name.starts_with("worker-")
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// The run.
    pub trial: TrialResult,
    /// The run before it, without some groups.
    pub baseline: Option<TrialResult>,
    /// All figures.
    pub figures: Figures,
    /// The expectations.
    pub judgements: Vec<Judgement>,
}

impl Outcome {
    /// Whether both sides agreed at the end and every expectation holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        let agrees = |trial: &TrialResult| trial.agrees();
        agrees(&self.trial)
            && self.baseline.as_ref().is_none_or(agrees)
            && self.judgements.iter().all(|judgement| judgement.holds)
    }
}

/// Names of the groups of a result, in order.
pub(crate) fn group_names(groups: &[GroupResult]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}
