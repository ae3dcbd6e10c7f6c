//! The file of a backup on the disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tasksync_common::registry::backup::{BackupReader, BackupSummary};
use tasksync_common::registry::{RegistrySnapshot, TransferError, write_backup};
use tempfile::NamedTempFile;

use crate::exit::CommandError;

/// A file that is written beside its place and gets its name when it is complete. It is removed if that does not
/// happen. Only its owner may read it.
pub(super) struct NewFile {
    target: PathBuf,
    folder: PathBuf,
    beside: NamedTempFile,
    overwrite: bool,
}

impl NewFile {
    /// Creates the file beside `target`.
    ///
    /// # Errors
    /// `target` exists and must not be replaced, or its folder cannot be written.
    pub(super) fn beside(target: &Path, overwrite: bool) -> Result<Self, CommandError> {
        if !overwrite && target.symlink_metadata().is_ok() {
            return Err(exists_error(target));
        }
        if target.is_dir() {
            return Err(CommandError::settings(format!(
                "{} is a folder; name a file in it",
                target.display()
            )));
        }
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let beside = tempfile::Builder::new()
            .prefix(".tasksync-backup-")
            .tempfile_in(&folder)
            .map_err(|error| {
                CommandError::settings(format!("{} cannot be written: {error}", folder.display()))
            })?;
        Ok(Self {
            target: target.to_owned(),
            folder,
            beside,
            overwrite,
        })
    }

    /// Writes everything in the snapshot, reads the file back, and gives it its name.
    ///
    /// # Errors
    /// The registry cannot be read, or the file cannot be written or is not what was written.
    pub(super) async fn write(self, snapshot: &mut RegistrySnapshot) -> Result<BackupSummary, CommandError> {
        let failed = |error: &dyn std::fmt::Display| {
            CommandError::settings(format!("{}: {error}", self.target.display()))
        };
        let out = BufWriter::new(self.beside.as_file());
        let (mut out, written) = write_backup(snapshot, out)
            .await
            .map_err(|error| transfer_error(&self.target, error))?;
        out.flush().map_err(|error| failed(&error))?;
        drop(out);
        self.beside.as_file().sync_all().map_err(|error| failed(&error))?;
        let read_back = check(self.beside.path())?;
        if read_back.sha256 != written.sha256 {
            return Err(failed(
                &"what was read back is not what was written; check the disk",
            ));
        }
        let target = &self.target;
        let named = if self.overwrite {
            self.beside.persist(target)
        } else {
            self.beside.persist_noclobber(target)
        };
        match named {
            Ok(_) => {}
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(exists_error(target));
            }
            Err(error) => {
                let text = format!("{} cannot be written: {}", target.display(), error.error);
                return Err(CommandError::settings(text));
            }
        }
        // The name is on the disk only after its folder is.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| CommandError::settings(format!("{}: {error}", self.folder.display())))?;
        Ok(written)
    }
}

fn exists_error(target: &Path) -> CommandError {
    CommandError::settings(format!(
        "{} exists; name another file, or replace it with --overwrite",
        target.display()
    ))
}

/// Opens a backup file and reads its header.
///
/// # Errors
/// The file cannot be read or is no backup that this build reads.
pub(super) fn open(path: &Path) -> Result<BackupReader<BufReader<File>>, CommandError> {
    let file = File::open(path)
        .map_err(|error| CommandError::settings(format!("{} cannot be read: {error}", path.display())))?;
    BackupReader::open(BufReader::new(file)).map_err(|error| transfer_error(path, error.into()))
}

/// Reads a whole backup file.
///
/// # Errors
/// The file is not complete and unchanged.
pub(super) fn check(path: &Path) -> Result<BackupSummary, CommandError> {
    open(path)?
        .summary()
        .map_err(|error| transfer_error(path, error.into()))
}

/// Returns the error of a command that reads or writes this file.
pub(super) fn transfer_error(path: &Path, error: TransferError) -> CommandError {
    match error {
        TransferError::Registry(failure) => super::registry_error(&failure),
        TransferError::File(error) => CommandError::Answer(format!("{}: {error}", path.display())),
    }
}
