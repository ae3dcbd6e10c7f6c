//! The arguments of `backup`, `restore`, `export` and `import`.

use std::path::PathBuf;

use clap::Args;

use super::decide::TakeoverChoice;
use crate::cli::Config;

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync backup --config settings.toml /var/backups/tasksync/2026-11-30.jsonl
  tasksync backup --config settings.toml --overwrite /var/backups/tasksync/latest.jsonl")]
pub(crate) struct BackupArguments {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The file to write. Only its owner may read it.
    pub(crate) file: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync restore --check /var/backups/tasksync/2026-11-30.jsonl
  tasksync restore --config settings.toml --takes-over /var/backups/tasksync/2026-11-30.jsonl
  tasksync restore --config settings.toml --replace --takes-over /var/backups/tasksync/2026-11-30.jsonl
  tasksync restore --config staging.toml --as-copy /var/backups/tasksync/2026-11-30.jsonl")]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The backup.
    pub(crate) file: PathBuf,
    /// Only check that the file is complete and unchanged, and show what it holds.
    #[arg(long, conflicts_with_all = ["replace", "takes_over", "as_copy"])]
    pub(crate) check: bool,
    /// Remove what the registry has now. Without it, only an empty registry is filled.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) takeover: TakeoverArguments,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync export --config settings.toml --move /srv/tasksync-move.jsonl
  tasksync export --config settings.toml - | ssh backup-host 'cat > tasksync.jsonl'
  tasksync export --config settings.toml --cancel-move")]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The file to write, or - for standard output.
    #[arg(required_unless_present = "cancel_move")]
    pub(crate) file: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Give the registry up: no process starts with it any more, and the registry that imports the file takes over.
    ///
    /// The service must be stopped.
    #[arg(long = "move", conflicts_with = "cancel_move")]
    pub(crate) move_away: bool,
    /// Take the registry back after `--move`. The file of that move must not be imported anywhere.
    #[arg(long, conflicts_with_all = ["file", "overwrite"])]
    pub(crate) cancel_move: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tasksync import --config distributed.toml /srv/tasksync-move.jsonl
  ssh old-host tasksync export - | tasksync import --config staging.toml --as-copy -")]
pub(crate) struct ImportArguments {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The file that `tasksync export` or `tasksync backup` wrote, or - for standard input.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) takeover: TakeoverArguments,
}

/// Whether the new registry continues the installation of the file.
#[derive(Debug, Args)]
pub(crate) struct TakeoverArguments {
    /// The installation of the file does not run any more, and this registry continues it.
    ///
    /// Two registries with one installation's id must never run at the same time: each would take the other's writes
    /// for edits of people.
    #[arg(long, conflicts_with = "as_copy")]
    takes_over: bool,
    /// The installation of the file runs on: make a copy with an id of its own.
    ///
    /// All tenants of the copy are disabled. It leaves mailboxes alone that the original syncs.
    #[arg(long)]
    as_copy: bool,
}

impl TakeoverArguments {
    /// Returns the operator's answer. The command line refuses both at once.
    pub(crate) fn choice(&self) -> TakeoverChoice {
        match (self.takes_over, self.as_copy) {
            (true, _) => TakeoverChoice::TakesOver,
            (false, true) => TakeoverChoice::AsCopy,
            (false, false) => TakeoverChoice::Undecided,
        }
    }
}
