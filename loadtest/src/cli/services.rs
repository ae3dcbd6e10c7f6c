//! `tasksync-loadtest services`: private servers while a command runs, or until Ctrl-C.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use clap::Args;
use tasksync_loadtest::services::{Binaries, Persistence, PostgresVolume, Services, ServicesPlan};
use tokio::process::{Child, Command};

use super::signals::{Signals, ended_by};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one switch for each server")]
pub(crate) struct ServicesArguments {
    /// Start a Redis node. Without any such switch all servers but the RabbitMQ cluster are started.
    #[arg(long)]
    redis: bool,
    /// Start a Redis Cluster of three nodes.
    #[arg(long)]
    redis_cluster: bool,
    /// Start a Redis with a replica and three Sentinels.
    #[arg(long)]
    redis_sentinel: bool,
    /// Start RabbitMQ with its management API.
    #[arg(long)]
    rabbitmq: bool,
    /// Start a RabbitMQ cluster of three nodes (half a gigabyte, about 20 seconds). Without --rabbitmq, tests use its
    /// URL.
    #[arg(long)]
    rabbitmq_cluster: bool,
    /// Start PostgreSQL.
    #[arg(long)]
    postgres: bool,
    /// Redis keeps no data over a restart (the default is an append-only file, written out every second).
    #[arg(long)]
    redis_volatile: bool,
    /// Folder that the temporary folder is created in; the system's when not given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Folder with the servers' programs, searched before the usual places; may be repeated.
    #[arg(long = "binary-dir")]
    binary_dirs: Vec<PathBuf>,
    /// The command to run, with the servers' URLs in its environment. Without one, the servers run until Ctrl-C.
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl ServicesArguments {
    fn plan(&self) -> ServicesPlan {
        let all = !(self.redis
            || self.redis_cluster
            || self.redis_sentinel
            || self.rabbitmq
            || self.rabbitmq_cluster
            || self.postgres);
        let persistence = if self.redis_volatile {
            Persistence::None
        } else {
            Persistence::EverySecond
        };
        ServicesPlan {
            redis: (all || self.redis).then_some(persistence),
            redis_cluster: (all || self.redis_cluster).then_some(persistence),
            redis_sentinel: (all || self.redis_sentinel).then_some(persistence),
            rabbitmq: all || self.rabbitmq,
            rabbitmq_cluster: self.rabbitmq_cluster,
            postgres: (all || self.postgres).then_some(PostgresVolume::Folder),
            parent: self.folder.clone(),
            binaries: Binaries {
                searched_first: self.binary_dirs.clone(),
            },
        }
    }
}

pub(crate) async fn run(arguments: ServicesArguments) -> Result<ExitCode, String> {
    let mut signals = Signals::new()?;
    let plan = arguments.plan();
    let started = tokio::select! {
        started = Services::start(&plan) => started,
        (_, number) = signals.next() => return Ok(ended_by(number)),
    };
    let services = started.map_err(|error| error.to_string())?;
    if arguments.command.is_empty() {
        wait_for_signal(&services, &mut signals).await;
        return Ok(ExitCode::SUCCESS);
    }
    let status = run_command(&arguments.command, &services, &mut signals).await?;
    drop(services);
    Ok(exit_code(status))
}

async fn wait_for_signal(services: &Services, signals: &mut Signals) {
    let mut lines: Vec<String> = services
        .environment()
        .into_iter()
        .map(|(name, value)| format!("export {name}='{value}'"))
        .collect();
    lines.push("export TASKSYNC_TEST_SERVICES=required".to_owned());
    lines.push(format!("# Data and logs: {}", services.folder().display()));
    lines.push("# The servers run until Ctrl-C.".to_owned());
    let mut output = std::io::stdout();
    writeln!(output, "{}", lines.join("\n")).ok();
    output.flush().ok();
    signals.next().await;
}

async fn run_command(
    command: &[OsString],
    services: &Services,
    signals: &mut Signals,
) -> Result<ExitStatus, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no command".to_owned());
    };
    for (name, value) in services.environment() {
        eprintln!("services: {name}={value}");
    }
    let mut child = Command::new(program)
        .args(arguments)
        .envs(services.environment())
        .env("TASKSYNC_TEST_SERVICES", "required")
        .spawn()
        .map_err(|error| format!("{}: {error}", program.to_string_lossy()))?;
    let mut signals_received = 0;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(|error| error.to_string()),
            (name, _) = signals.next() => {
                signals_received += 1;
                forward_signal(&mut child, if signals_received < 3 { name } else { "KILL" }).await;
            }
        }
    }
}

/// Passes a signal on to the command. Ctrl-C reaches it from the terminal as well; receiving it twice does no harm.
async fn forward_signal(child: &mut Child, name: &str) {
    let Some(id) = child.id() else { return };
    let kill = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &id.to_string()])
        .status();
    tokio::time::timeout(Duration::from_secs(5), kill).await.ok();
}

/// Returns the command's own exit code, or 128 plus the signal's number if a signal ended it, as shells do.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    ExitCode::from(code)
}
