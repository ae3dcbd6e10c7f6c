//! The file of a backup on the disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use tasksync_common::registry::backup::{BackupReader, BackupSummary};
use tasksync_common::registry::{RegistrySnapshot, TransferError, write_backup};

use crate::exit::CommandError;
use crate::new_file::NewFile;

/// Writes everything in the snapshot, reads the file back, and gives it its name.
///
/// # Errors
/// The registry cannot be read, or the file cannot be written or is not what was written.
pub(super) async fn write(
    file: NewFile,
    snapshot: &mut RegistrySnapshot,
) -> Result<BackupSummary, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::settings(format!("{}: {error}", file.target().display()))
    };
    let out = BufWriter::new(file.file());
    let (mut out, written) = write_backup(snapshot, out)
        .await
        .map_err(|error| transfer_error(file.target(), error))?;
    out.flush().map_err(|error| failed(&error))?;
    drop(out);
    let read_back = check(file.path())?;
    if read_back.sha256 != written.sha256 {
        return Err(failed(
            &"what was read back is not what was written; check the disk",
        ));
    }
    file.keep()?;
    Ok(written)
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
