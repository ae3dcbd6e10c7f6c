//! `backup`, `restore`, `export` and `import`: the whole registry as a file, and back.

mod arguments;
mod decide;
mod file;
mod report;

use std::io::{BufRead, BufReader, BufWriter};
use std::path::Path;

use tasksync_common::clock::{Clock as _, SystemClock};
use tasksync_common::error::{Code, Failure};
use tasksync_common::model::InstallationId;
use tasksync_common::registry::backup::{BackupReader, BackupSummary};
use tasksync_common::registry::{
    BackupRecords as _, FilledFrom, InstallationStore as _, RegistrySnapshot, RestoreAs, SqlRegistry,
    fill_from_backup, open_for_backup, open_to_fill, write_backup,
};
use tasksync_common::settings::{self, Settings};

pub(crate) use arguments::{BackupArguments, ExportArguments, ImportArguments, RestoreArguments};

use self::decide::{RestoreTarget, TakeoverChoice, plan_restore};
use self::file::transfer_error;
use self::report::{FilledRegistry, WrittenBackup};
use crate::cli::Config;
use crate::exit::{self, CommandEnd, CommandError};
use crate::new_file::NewFile;
use crate::service::LonePlace;
use crate::token;

/// Name of standard input or output in place of a file.
const STANDARD_STREAM: &str = "-";

/// Writes a backup, checks it, and lets the registry remember it.
pub(crate) async fn backup(arguments: BackupArguments, json: bool) -> Result<CommandEnd, CommandError> {
    let settings = load(&arguments.config)?;
    let file = NewFile::beside(&arguments.file, arguments.overwrite)?;
    let registry = open_to_read(&settings).await?;
    let mut snapshot = take_snapshot(&registry, false).await?;
    let summary = file::write(file, &mut snapshot).await?;
    snapshot
        .close()
        .await
        .map_err(|failure| registry_error(&failure))?;
    registry
        .record_backup(summary.header.made_at)
        .await
        .map_err(|failure| {
            CommandError::Unreachable(format!(
                "{} is complete, but the registry could not remember it: {failure}",
                arguments.file.display()
            ))
        })?;
    registry.close().await;
    report::print_written(&WrittenBackup::of(&arguments.file, &summary), json)
}

/// Writes an export, or ends or begins a move.
pub(crate) async fn export(arguments: ExportArguments, json: bool) -> Result<CommandEnd, CommandError> {
    let settings = load(&arguments.config)?;
    let Some(target) = &arguments.file else {
        return cancel_move(&settings).await;
    };
    let to_stream = target.as_os_str() == STANDARD_STREAM;
    if arguments.move_away {
        if to_stream {
            return Err(CommandError::settings(
                "--move needs a file: what goes to standard output cannot be checked before the registry is given up",
            ));
        }
        let mut place = LonePlace::take(&settings).await?;
        return place
            .hold_during(move_away(&settings, target, arguments.overwrite, json))
            .await;
    }
    if !to_stream {
        let file = NewFile::beside(target, arguments.overwrite)?;
        let registry = open_to_read(&settings).await?;
        let mut snapshot = take_snapshot(&registry, false).await?;
        let summary = file::write(file, &mut snapshot).await?;
        return report::print_written(&WrittenBackup::of(target, &summary), json);
    }
    let registry = open_to_read(&settings).await?;
    let mut snapshot = take_snapshot(&registry, false).await?;
    let (_, summary) = write_backup(&mut snapshot, BufWriter::new(std::io::stdout().lock()))
        .await
        .map_err(|error| transfer_error(Path::new("standard output"), error))?;
    exit::note(&WrittenBackup::of(target, &summary).line());
    Ok(CommandEnd::Success)
}

async fn move_away(
    settings: &Settings,
    target: &Path,
    overwrite: bool,
    json: bool,
) -> Result<CommandEnd, CommandError> {
    let file = NewFile::beside(target, overwrite)?;
    let registry = open_to_read(settings).await?;
    let mut snapshot = take_snapshot(&registry, true).await?;
    let summary = file::write(file, &mut snapshot).await?;
    snapshot
        .close()
        .await
        .map_err(|failure| registry_error(&failure))?;
    let made_at = summary.header.made_at;
    let remembered = async {
        registry.record_backup(made_at).await?;
        registry.set_moved_away(Some(made_at)).await?;
        registry.checkpoint().await
    };
    remembered.await.map_err(|failure| {
        CommandError::Unreachable(format!(
            "{} is complete, but the registry was not given up: {failure}. Remove the file and move again",
            target.display()
        ))
    })?;
    registry.close().await;
    report::print_written(&WrittenBackup::of(target, &summary), json)
}

async fn cancel_move(settings: &Settings) -> Result<CommandEnd, CommandError> {
    let mut place = LonePlace::take(settings).await?;
    let cancelling = async {
        let registry = open_to_read(settings).await?;
        let moved = registry
            .moved_away()
            .await
            .map_err(|failure| registry_error(&failure))?;
        registry
            .set_moved_away(None)
            .await
            .map_err(|failure| registry_error(&failure))?;
        registry.close().await;
        exit::print(&match moved {
            Some(at) => {
                format!("The move of {at} is taken back; the service may start with this registry.\n")
            }
            None => "The registry was not given up; nothing changed.\n".to_owned(),
        })
    };
    place.hold_during(cancelling).await
}

/// Fills the registry from a backup.
pub(crate) async fn restore(arguments: RestoreArguments, json: bool) -> Result<CommandEnd, CommandError> {
    // The whole file is checked before anything is opened.
    let checked = file::check(&arguments.file)?;
    if arguments.check {
        return report::print_checked(&WrittenBackup::of(&arguments.file, &checked), json);
    }
    let source = RestoreSource {
        name: &arguments.file,
        reader: file::open(&arguments.file)?,
        sha256: Some(checked.sha256),
    };
    let settings = load(&arguments.config)?;
    Box::pin(fill(
        &settings,
        source,
        arguments.takeover.choice(),
        arguments.replace,
        json,
    ))
    .await
}

/// Fills an empty registry from an export.
pub(crate) async fn import(arguments: ImportArguments, json: bool) -> Result<CommandEnd, CommandError> {
    let settings = load(&arguments.config)?;
    let choice = arguments.takeover.choice();
    if arguments.file.as_os_str() != STANDARD_STREAM {
        let checked = file::check(&arguments.file)?;
        let source = RestoreSource {
            name: &arguments.file,
            reader: file::open(&arguments.file)?,
            sha256: Some(checked.sha256),
        };
        return Box::pin(fill(&settings, source, choice, false, json)).await;
    }
    let name = Path::new("standard input");
    let source = RestoreSource {
        name,
        reader: BackupReader::open(BufReader::new(std::io::stdin()))
            .map_err(|error| transfer_error(name, error.into()))?,
        sha256: None,
    };
    Box::pin(fill(&settings, source, choice, false, json)).await
}

/// The file that a registry is filled from.
struct RestoreSource<'a, R> {
    name: &'a Path,
    reader: BackupReader<R>,
    /// The digest of the file as it was checked before; `None` for a stream, which can be read only once.
    sha256: Option<String>,
}

async fn fill<R: BufRead>(
    settings: &Settings,
    source: RestoreSource<'_, R>,
    choice: TakeoverChoice,
    replace: bool,
    json: bool,
) -> Result<CommandEnd, CommandError> {
    let mut place = LonePlace::take(settings).await?;
    let filled = place
        .hold_during(fill_alone(settings, source, choice, replace))
        .await?;
    report::print_filled(&filled, json)
}

async fn fill_alone<R: BufRead>(
    settings: &Settings,
    source: RestoreSource<'_, R>,
    choice: TakeoverChoice,
    replace: bool,
) -> Result<FilledRegistry, CommandError> {
    let failed = |failure: Failure| registry_error(&failure);
    let registry = open_to_fill(&settings.registry).await.map_err(failed)?;
    let installation = registry.installation().await.map_err(failed)?;
    let mut filling = registry.begin_filling().await.map_err(failed)?;
    let target = RestoreTarget {
        installation,
        contents: filling.contents().await.map_err(failed)?,
    };
    let header = source.reader.header().clone();
    let plan = plan_restore(&header, choice, replace, &target)
        .map_err(|refusal| CommandError::settings(format!("{}: {refusal}", source.name.display())))?;
    if plan.clear {
        filling.clear().await.map_err(failed)?;
    }
    let summary: BackupSummary = fill_from_backup(source.reader, &mut filling, plan.restore_as)
        .await
        .map_err(|error| transfer_error(source.name, error))?;
    if source.sha256.is_some_and(|sha256| sha256 != summary.sha256) {
        return Err(CommandError::Answer(format!(
            "{} was changed while it was read; nothing was restored",
            source.name.display()
        )));
    }
    let from = FilledFrom {
        installation: match plan.restore_as {
            RestoreAs::Original => header.installation,
            RestoreAs::Copy => InstallationId::random(),
        },
        made_at: header.made_at,
        filled_at: SystemClock.now(),
    };
    filling.commit(from).await.map_err(failed)?;
    registry.checkpoint().await.map_err(failed)?;
    registry.close().await;
    Ok(FilledRegistry {
        summary,
        installation: from.installation,
        restore_as: plan.restore_as,
        removed: plan.clear.then_some(target.contents),
    })
}

fn load(config: &Config) -> Result<Settings, CommandError> {
    settings::load(config.config.as_deref(), token::environment())
        .map(|loaded| loaded.settings)
        .map_err(|error| CommandError::settings(error.to_string()))
}

async fn open_to_read(settings: &Settings) -> Result<SqlRegistry, CommandError> {
    open_for_backup(&settings.registry)
        .await
        .map_err(|failure| registry_error(&failure))
}

async fn take_snapshot(registry: &SqlRegistry, moved: bool) -> Result<RegistrySnapshot, CommandError> {
    registry
        .snapshot(SystemClock.now(), moved)
        .await
        .map_err(|failure| registry_error(&failure))
}

/// Returns the error of a command that works on the registry itself.
pub(crate) fn registry_error(failure: &Failure) -> CommandError {
    let text = format!("{failure}\n  What to do: {}", failure.code.action());
    if failure.code == Code::SettingsWrong {
        CommandError::Settings(text)
    } else {
        CommandError::Unreachable(text)
    }
}
