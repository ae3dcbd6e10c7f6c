//! Moving a whole registry into a backup file, and a backup file into an empty registry.

use std::io::{BufRead, Write};

use super::backup::{BackupError, BackupReader, BackupSummary, BackupWriter};
use super::{RegistryFilling, RegistrySnapshot};
use crate::error::Failure;

/// Number of records that are added at once.
const BATCH: usize = 100;

/// Why a registry cannot be written into a file, or be filled from one.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The registry fails.
    #[error("{0}")]
    Registry(#[from] Failure),
    /// The file fails.
    #[error("{0}")]
    File(#[from] BackupError),
}

/// Whose registry is made from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreAs {
    /// The installation of the backup: the original does not run any more.
    Original,
    /// A copy beside the original; see [`super::backup::BackupRecord::for_copy`].
    Copy,
}

/// Writes everything in the snapshot. Returns the output, which the caller brings to the disk.
///
/// # Errors
/// The registry cannot be read or the file cannot be written. The output is then incomplete, which a reader
/// notices.
pub async fn write_backup<W: Write>(
    snapshot: &mut RegistrySnapshot,
    out: W,
) -> Result<(W, BackupSummary), TransferError> {
    let mut writer = BackupWriter::begin(out, snapshot.header().clone())?;
    loop {
        let page = snapshot.next_page().await?;
        if page.is_empty() {
            return Ok(writer.finish()?);
        }
        for record in &page {
            writer.write(record)?;
        }
    }
}

/// Adds every record of the file. The caller commits only after this succeeded, because the file is compared
/// with its digest at its end.
///
/// # Errors
/// The file is not complete and unchanged, or the registry cannot be written.
pub async fn fill_from_backup<R: BufRead>(
    mut file: BackupReader<R>,
    filling: &mut RegistryFilling,
    restore_as: RestoreAs,
) -> Result<BackupSummary, TransferError> {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(record) = file.next_record()? {
        let kept = match restore_as {
            RestoreAs::Original => Some(record),
            RestoreAs::Copy => record.for_copy(),
        };
        batch.extend(kept);
        if batch.len() >= BATCH {
            filling.add(std::mem::take(&mut batch)).await?;
        }
    }
    filling.add(batch).await?;
    Ok(file.summary()?)
}
