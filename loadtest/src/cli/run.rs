//! `tasksync-loadtest run SCENARIO`: runs one scenario, writes its report, and checks its expectations.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tasksync_loadtest::scenario::report::{Machine, Report};
use tasksync_loadtest::scenario::{self, PhaseProgress, RunOptions, SHIPPED, Scenario, ScenarioResult};

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// A scenario file, or the name of a scenario that comes with the program. Without one, the names are listed.
    scenario: Option<String>,
    /// The tasksync executable; the one beside this program when not given.
    #[arg(long)]
    tasksync: Option<PathBuf>,
    /// The executable of an earlier build, for scenarios that replace it.
    #[arg(long)]
    earlier: Option<PathBuf>,
    /// Folder that the report is written to, as JSON and as HTML.
    #[arg(long, default_value = "reports")]
    output: PathBuf,
    /// Keep settings, logs and stores in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Seed to use instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Only read the scenario and report whether it can be run.
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(arguments: RunArguments) -> Result<ExitCode, String> {
    let Some(name) = &arguments.scenario else {
        for (name, text) in SHIPPED {
            let about = Scenario::parse(text)
                .map_err(|error| format!("{name}: {error}"))?
                .about;
            say(&format!("{name:<16} {about}"));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let text = match scenario::find(name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(name).map_err(|error| {
            format!("{name} is neither a file ({error}) nor a scenario of the program; `tasksync-loadtest run` lists them")
        })?,
    };
    let mut scenario = Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    if arguments.check {
        say(&format!("{name} can be run: {} people.", scenario.users()));
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{}: {}", scenario.name, scenario.about));
    let options = RunOptions {
        executable: arguments.tasksync.clone(),
        earlier: arguments.earlier.clone(),
        folder: arguments.keep.clone(),
    };
    let outcome = scenario::run(&scenario, &options, &Bars::default()).await?;
    let report = Report {
        scenario: &scenario,
        text: &text,
        outcome: &outcome,
        machine: Machine::here(),
    };
    let (json, html) = report.write(&arguments.output)?;
    summary(&outcome);
    say(&format!("Report: {} and {}", html.display(), json.display()));
    Ok(if outcome.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn summary(outcome: &ScenarioResult) {
    say("\nFigures");
    for (metric, value) in &outcome.figures {
        say(&format!(
            "  {:<28} {}",
            metric.name(),
            metric.format_value(*value)
        ));
    }
    for hit in &outcome.trial.hits() {
        say(&format!("  {hit}"));
    }
    for failed in &outcome.trial.requests.lines {
        say(&format!("  ! {failed}"));
    }
    say("Expectations");
    let line = |holds: bool, text: &str, found: &str| {
        let word = if holds { "holds" } else { "DOES NOT HOLD" };
        say(&format!("  {text:<40} {found:<16} {word}"));
    };
    line(outcome.trial.agrees(), "both sides agree", "");
    for judgement in &outcome.judgements {
        let found = match judgement.found {
            Some(value) => judgement.expectation.metric.format_value(value),
            None => "not measured".to_owned(),
        };
        line(judgement.holds, &judgement.expectation.text, &found);
    }
    let verdict = &outcome.trial.verdict;
    if let Some(answers) = outcome.trial.answers {
        say(&format!("Wrong answers among {answers}"));
        for (kind, count) in &outcome.trial.wrong_answers {
            say(&format!("  {kind:<28} {count}"));
        }
        say("Failures and refused answers in tasksync's log");
        for (code, count) in &outcome.trial.reactions {
            say(&format!("  {code:<28} {count}"));
        }
    }
    let violations = &outcome.trial.violations;
    for problem in verdict
        .lines
        .iter()
        .chain(&verdict.unseen)
        .chain(&violations.lines)
    {
        say(&format!("  ! {problem}"));
    }
}

/// Progress bars on a terminal, plain lines elsewhere.
#[derive(Default)]
struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with(&self, work: impl FnOnce(&mut Option<ProgressBar>)) {
        work(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl PhaseProgress for Bars {
    fn begin(&self, part: &str, length: u64) {
        if !std::io::stderr().is_terminal() {
            say(&format!("  {part} …"));
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} [{bar:40}] {pos}/{len} {msg} {elapsed}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(part.to_owned());
        self.with(|now| *now = Some(bar));
    }

    fn at(&self, position: u64, word: &str) {
        self.with(|bar| {
            if let Some(bar) = bar {
                bar.set_position(position);
                bar.set_message(word.to_owned());
            }
        });
    }

    fn end(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish();
            }
        });
    }

    fn say(&self, line: &str) {
        self.with(|bar| match bar {
            Some(bar) if std::io::stderr().is_terminal() => bar.println(line),
            _ => say(&format!("  {line}")),
        });
    }
}

/// Prints one line of the command's output. The reader may have closed the pipe; that is no error.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
