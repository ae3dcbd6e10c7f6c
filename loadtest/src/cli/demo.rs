//! `tasksync-loadtest demo`: a first sync, edits on both sides and an idle period in about a minute, with a summary.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::trial::{
    Editor, Farm, FarmSpec, Ledger, LedgerCounts, Oracle, OracleReport, Service, ServiceSpec,
};

use tasksync_loadtest::machine_clock::monotonic;

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// The tasksync executable; the one beside this program when not given.
    #[arg(long)]
    tasksync: Option<PathBuf>,
    /// Number of tenants.
    #[arg(long, default_value_t = 3)]
    tenants: usize,
    /// People of each tenant.
    #[arg(long, default_value_t = 10)]
    users: usize,
    /// Edits made on both sides.
    #[arg(long, default_value_t = 120)]
    edits: usize,
    /// Seconds over which the edits are spread.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Same seed, same people, tasks and edits.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the folder with settings, registry and log.
    #[arg(long)]
    keep: bool,
}

/// Longest wait for the first sync. After the last edit, half of it is allowed for the edits to arrive.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn run(arguments: DemoArguments) -> Result<ExitCode, String> {
    let executable = match &arguments.tasksync {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|error| error.to_string())?
            .with_file_name("tasksync"),
    };
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let path = folder.path().to_owned();
    if arguments.keep {
        say(&format!(
            "Settings, registry and log stay in {}",
            folder.keep().display()
        ));
    }

    let farm = Farm::start(FarmSpec {
        population: PopulationSpec {
            tenants: arguments.tenants,
            users_per_tenant: arguments.users,
            seed: arguments.seed,
            ..PopulationSpec::default()
        },
        tls: true,
        ..FarmSpec::default()
    })
    .await?;
    let people = farm.people().count();
    say(&format!(
        "Simulated Exchange and SharePoint are up (HTTPS): {} tenants, {people} people, {} tasks.",
        farm.population.tenants.len(),
        farm.population.tasks()
    ));
    let spec = ServiceSpec {
        is_earlier_build: false,
        executable,
        folder: path,
        minimum_interval: Duration::from_secs(1),
        maximum_interval: Duration::from_secs(2),
        // Only regular runs: a tenant's people then come due together and share a request, as they do in a large
        // installation.
        top_up_interval: Duration::ZERO,
        more: String::new(),
        environment: Vec::new(),
    };
    let service = Service::start(spec, &farm).await?;
    say(
        "tasksync standalone is up; users are synced every 1 to 2 seconds here instead of every 5 to 12 minutes.",
    );
    service.enrol(&farm).await?;
    let result = run_demo(&farm, &service, &arguments).await;
    let code = service.terminate().await?;
    farm.stop().await;
    let mut outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            return Err(format!(
                "{error}\nLast lines of tasksync's log:\n{}",
                service.log_tail(20)
            ));
        }
    };
    if code != Some(0) {
        outcome
            .problems
            .push(format!("tasksync ended with {code:?} instead of 0 after SIGTERM"));
    }
    Ok(summary(&outcome))
}

/// The result of the demo.
struct DemoResult {
    first_sync: Duration,
    tasks: usize,
    counts: LedgerCounts,
    idle: Option<IdleFigures>,
    report: OracleReport,
    problems: Vec<String>,
}

/// What an idle period costs.
struct IdleFigures {
    syncs: u64,
    exchange: u64,
    sharepoint: u64,
    writes: u64,
}

async fn run_demo(farm: &Farm, service: &Service, arguments: &DemoArguments) -> Result<DemoResult, String> {
    let oracle = Oracle::new(farm);
    let started = monotonic();
    let expected = oracle.compare_sides().tasks;
    let bar = bar(expected as u64, "first sync   ");
    let mut report = oracle.compare_sides();
    while !report.agrees() {
        if started.elapsed() > PATIENCE {
            bar.abandon();
            return Err(format!(
                "the first sync did not finish in 60 s:\n{}",
                report.lines(10).join("\n")
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        report = oracle.compare_sides();
        bar.set_position((expected - report.missing.len().min(expected)) as u64);
    }
    bar.finish();
    let first_sync = started.elapsed();

    let ledger = edit(farm, &oracle, arguments).await?;
    // Every edit has arrived, or the wait has timed out. Allow another 20 seconds for both sides to agree.
    let quiet = monotonic();
    let mut report = oracle.compare_sides();
    while !report.agrees() && quiet.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        report = oracle.compare_sides();
    }
    let idle = idle(farm, service).await?;
    let report = oracle.compare_sides();
    let mut problems = ledger.unseen(10);
    if idle.as_ref().is_some_and(|idle| idle.writes > 0) {
        problems.push("something was written although no edit was made".to_owned());
    }
    Ok(DemoResult {
        first_sync,
        tasks: report.tasks,
        counts: ledger.counts(),
        idle,
        report,
        problems,
    })
}

/// Makes edits as people would, and watches each one until the other side shows it.
async fn edit(farm: &Farm, oracle: &Oracle<'_>, arguments: &DemoArguments) -> Result<Ledger, String> {
    let mut ledger = Ledger::default();
    let mut editor = Editor::new(arguments.seed);
    let bar = bar(arguments.edits as u64, "edits arrived");
    let pause = Duration::from_secs(arguments.seconds) / u32::try_from(arguments.edits.max(1)).unwrap_or(1);
    let started = monotonic();
    let mut next = started;
    let mut finished_at = None;
    loop {
        if ledger.len() < arguments.edits && monotonic() >= next {
            tokio::task::block_in_place(|| editor.act(farm, &mut ledger))?;
            next = monotonic() + pause;
        }
        for edit in ledger.open() {
            if oracle.shows(edit) {
                edit.seen = Some(monotonic());
            }
        }
        let counts = ledger.counts();
        bar.set_position(counts.mirrored as u64);
        bar.set_message(format!("{} made", counts.edits));
        if counts.edits >= arguments.edits {
            let finished = *finished_at.get_or_insert_with(monotonic);
            if counts.mirrored == counts.edits || finished.elapsed() > PATIENCE / 2 {
                break;
            }
        } else if started.elapsed() > Duration::from_secs(arguments.seconds) + PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bar.finish();
    Ok(ledger)
}

/// Makes no edits for a while, and measures how many requests a sync then costs and whether anything is written.
async fn idle(farm: &Farm, service: &Service) -> Result<Option<IdleFigures>, String> {
    // The next syncs still see our own last writes; wait until they have.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let syncs = |status: &Value| status.pointer("/summary/attempts").and_then(Value::as_u64);
    let before = service.call(reqwest::Method::GET, "/api/v1/status", None).await?;
    let (exchange, sharepoint) = farm.requests();
    let writes = farm.exchange.stats.snapshot().writes;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = service.call(reqwest::Method::GET, "/api/v1/status", None).await?;
    let (exchange_after, sharepoint_after) = farm.requests();
    let (Some(before), Some(after)) = (syncs(&before), syncs(&after)) else {
        return Ok(None);
    };
    Ok(Some(IdleFigures {
        syncs: after.saturating_sub(before),
        exchange: exchange_after - exchange,
        sharepoint: sharepoint_after - sharepoint,
        writes: farm.exchange.stats.snapshot().writes - writes,
    }))
}

fn summary(outcome: &DemoResult) -> ExitCode {
    let counts = &outcome.counts;
    say("");
    say("Summary");
    say(&format!(
        "  first sync        {} tasks in {:.1} s",
        outcome.tasks,
        outcome.first_sync.as_secs_f64()
    ));
    say(&format!("  edits made        {}", counts.edits));
    for ((kind, side), count) in &counts.made {
        say(&format!(
            "    {kind:<14} {count:>4}  in {}",
            format!("{side:?}").to_lowercase()
        ));
    }
    say(&format!("  edits mirrored    {}", counts.mirrored));
    if let (Some(p50), Some(p99)) = (counts.p50, counts.p99) {
        say(&format!(
            "  until mirrored    p50 {:.2} s, p99 {:.2} s",
            p50.as_secs_f64(),
            p99.as_secs_f64()
        ));
    }
    say(&format!(
        "  lost              {}",
        counts.edits - counts.mirrored + outcome.report.missing.len()
    ));
    say(&format!("  doubled           {}", outcome.report.doubled.len()));
    say(&format!("  left over         {}", outcome.report.extra.len()));
    say(&format!("  differing         {}", outcome.report.differing.len()));
    match &outcome.idle {
        Some(idle) if idle.syncs > 0 => {
            #[expect(clippy::cast_precision_loss, reason = "small counts, shown with two digits")]
            let per = |requests: u64| requests as f64 / idle.syncs as f64;
            say(&format!(
                "  an idle sync      {:.2} EWS requests, {:.2} SharePoint requests, {} writes ({} syncs watched)",
                per(idle.exchange),
                per(idle.sharepoint),
                idle.writes,
                idle.syncs
            ));
        }
        _ => say("  an idle sync      not measured"),
    }
    for line in outcome.problems.iter().chain(&outcome.report.lines(20)) {
        say(&format!("  ! {line}"));
    }
    let good = outcome.report.agrees() && outcome.problems.is_empty() && counts.edits > 0;
    say(if good {
        "  The oracle agrees: both sides have the same tasks."
    } else {
        "  The oracle does NOT agree."
    });
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn bar(length: u64, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {msg} {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar
}

/// Prints one line of the command's output. The reader may have closed the pipe; that is no error.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
