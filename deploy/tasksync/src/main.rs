//! The tasksync executable: the roles, and the operator commands as a thin client of the REST API.

mod cli;
mod client;
mod commands;
mod docs;
mod exit;
mod import;
mod lock;
mod preview;
mod show;
mod standalone;
mod token;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::exit::{End, Stop};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = run(cli);
    let stop = match ended {
        Ok(end) => return ExitCode::from(end.code()),
        Err(stop) => stop,
    };
    exit::complain(&stop);
    ExitCode::from(stop.code())
}

fn run(cli: Cli) -> Result<End, Stop> {
    match cli.command {
        Command::Standalone { config } => runtime(true)?.block_on(standalone::run(config.as_deref())),
        Command::Docs { page } => exit::print(&docs::page(page)),
        Command::Config(ConfigCommand::Check { file }) => {
            tasksync_common::settings::load(Some(&file), token::environment())
                .map_err(|error| Stop::settings(error.to_string()))?;
            exit::print(&format!(
                "{} is right; environment variables were looked at too.\n",
                file.display()
            ))
        }
        Command::Remote(command) => {
            let client = client::Client::new(&cli.url, cli.json)?;
            runtime(false)?.block_on(commands::run(&client, command))
        }
    }
}

fn runtime(all_cores: bool) -> Result<tokio::runtime::Runtime, Stop> {
    let mut builder = if all_cores {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| Stop::settings(format!("the runtime cannot be started: {error}")))
}
