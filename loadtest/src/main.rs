//! `tasksync-loadtest`: the demo, the load tests, and servers to try things on, simulated and real.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cli::signals::until_signal;

/// Simulated Exchange and SharePoint, and the programs that run tasksync against them.
#[derive(Debug, Parser)]
#[command(name = "tasksync-loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts both simulated servers and tasksync, edits on both sides, and reports whether every edit arrived.
    Demo(cli::demo::DemoArguments),
    /// Starts only the simulated servers, with people and tasks, and prints how to connect a tenant to them.
    Simulate(cli::simulate::SimulateArguments),
    /// Runs a scenario: population, load, faults and kills; writes a report and states whether its expectations hold.
    Run(cli::run::RunArguments),
    /// Starts private Redis, RabbitMQ and PostgreSQL in a temporary folder, and a command that uses them.
    Services(cli::services::ServicesArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => until_signal(cli::demo::run(arguments)).await,
        Command::Simulate(arguments) => cli::simulate::run(arguments).await,
        Command::Run(arguments) => Box::pin(until_signal(cli::run::run(arguments))).await,
        Command::Services(arguments) => cli::services::run(arguments).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tasksync-loadtest: {error}");
            ExitCode::from(2)
        }
    }
}
