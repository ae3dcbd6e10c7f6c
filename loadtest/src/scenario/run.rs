//! Runs a scenario: starts the servers and the processes, runs the phases, and computes the figures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::expect::{self, Expectation};
use super::file::{Baseline, MailboxAccess, Scenario, Servers, WrongAnswerPlan};
use super::fleet::{self, Builds, Fleet};
use super::measure::{TrialMonitor, set_conditions};
use super::phases::PhaseProgress;
use super::result::{ScenarioResult, TrialResult};
use super::trial::Trial;
use super::visits::{MailboxTenant, VisitLog};
use super::{duration, figures};
use crate::exchange::ExchangeSettings;
use crate::machine_clock::monotonic;
use crate::population::PopulationSpec;
use crate::sharepoint;
use crate::sim::conditions::GroupId;
use crate::trial::{Farm, FarmSpec};
use crate::wrong_answers::{WrongAnswerKind, WrongAnswerSpec, WrongAnswers};

/// Tasks per list if a scenario does not set the number of lists. It is far below SharePoint's list view threshold.
const TASKS_PER_LIST: u64 = 1_000;

/// How a scenario is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The `tasksync` executable; defaults to the one beside this program.
    pub executable: Option<PathBuf>,
    /// The executable of an earlier build, which a scenario with `how = "replace"` needs.
    pub earlier: Option<PathBuf>,
    /// Folder for settings, logs and stores; defaults to a temporary one.
    pub folder: Option<PathBuf>,
}

/// Runs a scenario.
///
/// # Errors
/// Names what could not be started or was refused. A run whose expectations fail is not an error.
pub async fn run(
    scenario: &Scenario,
    options: &RunOptions,
    progress: &dyn PhaseProgress,
) -> Result<ScenarioResult, String> {
    let expectations: Vec<Expectation> = scenario
        .expect
        .iter()
        .map(|text| expect::parse(text))
        .collect::<Result<_, _>>()?;
    let baseline = match &scenario.baseline {
        None => None,
        Some(baseline) => {
            progress.say(&baseline_note(baseline));
            Some(run_trial(&scenario.before(baseline), options, "baseline", progress).await?)
        }
    };
    if baseline.is_some() {
        progress.say("The run itself follows.");
    }
    let trial = run_trial(scenario, options, "run", progress).await?;
    let figures = figures::of(&trial, baseline.as_ref());
    let judgements = expect::judge(&expectations, &figures);
    Ok(ScenarioResult {
        trial,
        baseline,
        figures,
        judgements,
    })
}

/// Describes how the baseline run differs.
fn baseline_note(baseline: &Baseline) -> String {
    let without = (!baseline.without.is_empty()).then(|| format!("without {}", baseline.without.join(", ")));
    let without_wrong_answers = baseline.honest.then(|| "with honest servers".to_owned());
    let parts: Vec<String> = without.into_iter().chain(without_wrong_answers).collect();
    format!("Baseline: {}.", parts.join(" and "))
}

/// Runs one trial, from an empty folder to the end of its processes.
async fn run_trial(
    scenario: &Scenario,
    options: &RunOptions,
    name: &str,
    progress: &dyn PhaseProgress,
) -> Result<TrialResult, String> {
    let builds = Builds {
        this: fleet::executable(options.executable.as_deref())?,
        earlier: match (&options.earlier, scenario.needs_earlier_build()) {
            (Some(path), true) => Some(fleet::executable(Some(path))?),
            (None, true) => {
                return Err(
                    "the scenario replaces an earlier build: name its executable with --earlier, or use \
                     `make upgrade-trial OLD=REVISION`"
                        .to_owned(),
                );
            }
            (_, false) => None,
        },
    };
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = match &options.folder {
        // The settings written there contain absolute paths.
        Some(folder) => std::path::absolute(folder.join(name))
            .map_err(|error| format!("{}: {error}", folder.display()))?,
        None => temporary.path().to_owned(),
    };
    let unusable = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(unusable)?;
    // Stores of an earlier run would take part in this one.
    if std::fs::read_dir(&folder).map_err(unusable)?.next().is_some() {
        return Err(format!("{} is not empty: name another folder", folder.display()));
    }

    progress.begin("population", scenario.users());
    let started = monotonic();
    let log = folder.join("lies.jsonl");
    let wrong_answers = match &scenario.lies {
        Some(plan) => Some(WrongAnswers::new(wrong_answer_spec(scenario, plan), Some(&log))?),
        None => None,
    };
    let farm = Arc::new(
        Farm::start(FarmSpec {
            wrong_answers: wrong_answers.clone(),
            ..farm_spec(scenario)
        })
        .await?,
    );
    for group in 0..scenario.tenants.len() {
        set_conditions(&farm, scenario, group, &[]);
    }
    let visits = Arc::new(VisitLog::new(owners(&farm), visit_gap(scenario))?);
    let visit_log = Arc::clone(&visits);
    farm.exchange
        .observe(Arc::new(move |mailbox| visit_log.touch(mailbox)));
    progress.end();
    let population_seconds = started.elapsed().as_secs_f64();

    progress.begin("processes", 1);
    let fleet = match Fleet::start(scenario, &farm, &folder, &builds).await {
        Ok(fleet) => Arc::new(fleet),
        Err(error) => {
            farm.stop().await;
            return Err(error);
        }
    };
    progress.end();
    let monitor = TrialMonitor::new(Arc::clone(&farm), visits);
    let mut trial = Trial::new(scenario, Arc::clone(&fleet), monitor, wrong_answers, progress);
    let outcome = trial.all_phases(&folder).await;
    progress.begin("end", 1);
    let ends = fleet.stop().await;
    progress.end();
    let result = match outcome {
        Ok(()) => Ok(trial.result(population_seconds, ends)),
        Err(error) => Err(format!("{error}\n{}", fleet.log_tails(20))),
    };
    farm.stop().await;
    result
}

fn wrong_answer_spec(scenario: &Scenario, plan: &WrongAnswerPlan) -> WrongAnswerSpec {
    let group = |name: &String| {
        let mut groups = scenario.tenants.iter();
        let at = groups.position(|group| group.name == *name);
        // The baseline may omit the group. The maximal id then selects no tenant.
        at.and_then(|at| GroupId::try_from(at).ok())
            .unwrap_or(GroupId::MAX)
    };
    WrongAnswerSpec {
        per_mille: super::measure::per_mille(plan.share),
        answers: plan.answers,
        kinds: WrongAnswerKind::ALL
            .iter()
            .copied()
            .filter(|kind| plan.kinds.iter().any(|name| name == kind.name()))
            .collect(),
        groups: plan.tenants.iter().map(group).collect(),
        late: plan.late.0,
        seed: scenario.seed,
        only: None,
    }
}

fn farm_spec(scenario: &Scenario) -> FarmSpec {
    let to_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut specs: Vec<PopulationSpec> = (0..)
        .zip(&scenario.tenants)
        .map(|(at, group)| {
            let tasks = group.tasks * f64::from(u32::try_from(group.users).unwrap_or(u32::MAX));
            let fitting = (1..10_000_u64)
                .find(|lists| f64::from(u32::try_from(lists * TASKS_PER_LIST).unwrap_or(u32::MAX)) >= tasks)
                .unwrap_or(10_000);
            PopulationSpec {
                tenants: to_usize(group.count),
                users_per_tenant: to_usize(group.users),
                skew: group.skew,
                lists_per_tenant: to_usize(group.lists.unwrap_or(fitting.max(2))),
                tasks_per_user: group.tasks,
                seed: scenario.seed.wrapping_add(at),
                prefix: group.name.clone(),
                group: GroupId::try_from(at).unwrap_or(GroupId::MAX),
            }
        })
        .collect();
    let impersonating = (0..)
        .zip(&scenario.tenants)
        .filter(|(_, group)| group.access == MailboxAccess::Impersonation)
        .map(|(at, _)| at)
        .collect();
    let first = if specs.is_empty() {
        PopulationSpec::default()
    } else {
        specs.remove(0)
    };
    FarmSpec {
        population: first,
        more_populations: specs,
        tls: scenario.tls,
        exchange: ExchangeSettings::default(),
        sharepoint: sharepoint::Settings {
            seed: scenario.seed,
            ..sharepoint::Settings::default()
        },
        impersonating,
        own_servers: scenario.servers == Servers::PerTenant,
        forget_tasks: true,
        ..FarmSpec::default()
    }
}

fn owners(farm: &Farm) -> Vec<MailboxTenant> {
    (0..)
        .zip(&farm.population.tenants)
        .flat_map(|(tenant, spec)| {
            spec.people.iter().map(move |_| MailboxTenant {
                group: spec.group,
                tenant,
            })
        })
        .collect()
}

/// Returns the scenario's `visit_gap`, which defaults to half the shortest time between two syncs of a user.
fn visit_gap(scenario: &Scenario) -> Duration {
    let minimum = scenario
        .settings
        .get("schedule")
        .and_then(|schedule| schedule.get("minimum_time_between_user_syncs"))
        .and_then(toml::Value::as_str)
        .and_then(duration::parse)
        .unwrap_or(Duration::from_mins(5));
    scenario.visit_gap.map_or(minimum / 2, |gap| gap.0)
}
