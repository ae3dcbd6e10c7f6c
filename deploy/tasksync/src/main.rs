//! The tasksync executable: the roles, and the operator's commands, which are a thin client of the REST API.

mod backup;
mod cli;
mod client;
mod commands;
mod completions;
mod confirm;
mod difference;
mod docs;
mod effective;
mod examples;
mod exit;
mod explain;
mod import;
mod init;
mod journal;
mod new_file;
mod preview;
mod service;
mod show;
mod signals;
mod support;
mod tenant_edit;
mod tenant_file;
mod tenants;
mod terminal;
mod token;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::cli::{Cli, Command, Config, ConfigCommand};
use crate::exit::{CommandEnd, CommandError};
use crate::service::ServiceRole;

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&examples::command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let ended = run(cli);
    let stop = match ended {
        Ok(end) => return ExitCode::from(end.code()),
        Err(stop) => stop,
    };
    exit::print_error(&stop);
    ExitCode::from(stop.code())
}

fn run(cli: Cli) -> Result<CommandEnd, CommandError> {
    match cli.command {
        Command::Scheduler(Config { config }) => serve(ServiceRole::Scheduler, config.as_deref(), cli.json),
        Command::Worker(Config { config }) => serve(ServiceRole::Worker, config.as_deref(), cli.json),
        Command::Standalone(Config { config }) => serve(ServiceRole::Standalone, config.as_deref(), cli.json),
        Command::Health { config, live } => {
            runtime(false)?.block_on(service::probe(config.config.as_deref(), live, cli.json))
        }
        Command::Docs { page, folder } => docs::run(page, folder.as_deref(), cli.json),
        Command::Explain { code } => explain::run(code.as_deref(), cli.json),
        Command::Completions { shell } => completions::run(shell, cli.json),
        Command::Config(command) => config(command, cli.json),
        Command::Backup(arguments) => runtime(false)?.block_on(backup::backup(arguments, cli.json)),
        Command::Restore(arguments) => runtime(false)?.block_on(backup::restore(arguments, cli.json)),
        Command::Export(arguments) => runtime(false)?.block_on(backup::export(arguments, cli.json)),
        Command::Import(arguments) => runtime(false)?.block_on(backup::import(arguments, cli.json)),
        Command::Init(arguments) => runtime(false)?.block_on(init::run(*arguments, cli.json)),
        Command::SupportBundle(arguments) => {
            runtime(false)?.block_on(support::run(&cli.url, &arguments, cli.json))
        }
        Command::Remote(command) => {
            let client = client::ApiClient::new(&cli.url, cli.json)?;
            runtime(false)?.block_on(commands::run(&client, command))
        }
    }
}

fn config(command: ConfigCommand, json: bool) -> Result<CommandEnd, CommandError> {
    match command {
        ConfigCommand::Check {
            file,
            role,
            skip_files,
        } => {
            let files = if skip_files {
                service::NamedFiles::Elsewhere
            } else {
                service::NamedFiles::Here
            };
            let loaded = service::load_settings(role, Some(&file), files)?;
            if json {
                return exit::print(&client::pretty(
                    &serde_json::json!({ "warnings": loaded.warnings }),
                ));
            }
            for warning in &loaded.warnings {
                exit::note(&format!("warning: {warning}"));
            }
            exit::print(&format!(
                "{} is right, together with the environment variables.\n",
                file.display()
            ))
        }
        ConfigCommand::Show { config, changed } => {
            let loaded = tasksync_common::settings::load(config.config.as_deref(), token::environment())
                .map_err(|error| CommandError::settings(error.to_string()))?;
            let mut settings = loaded.effective();
            settings.retain(|setting| !changed || setting.is_changed());
            if json {
                exit::print(&client::pretty(&effective::json(&settings)))
            } else {
                exit::print(&effective::text(&settings))
            }
        }
    }
}

fn serve(role: ServiceRole, config: Option<&Path>, json: bool) -> Result<CommandEnd, CommandError> {
    runtime(true)?.block_on(service::run(role, config, json))
}

fn runtime(all_cores: bool) -> Result<tokio::runtime::Runtime, CommandError> {
    let mut builder = if all_cores {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| CommandError::settings(format!("the runtime cannot be started: {error}")))
}
