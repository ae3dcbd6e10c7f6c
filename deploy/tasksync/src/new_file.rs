//! A file that appears complete or not at all.

use std::fs::{File, Metadata, Permissions};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::CommandError;
use crate::signals::UndoOnSignal;

/// A file that is written beside its place and gets its name when it is complete. It is removed if that does not
/// happen, also if a signal ends the command. Only its owner may read it.
pub(crate) struct NewFile {
    target: PathBuf,
    folder: PathBuf,
    beside: NamedTempFile,
    overwrite: bool,
    /// Ends after the file got its name.
    _undo: UndoOnSignal,
}

impl NewFile {
    /// Creates the file beside `target`.
    ///
    /// # Errors
    /// `target` exists and must not be replaced, or its folder cannot be written.
    pub(crate) fn beside(target: &Path, overwrite: bool) -> Result<Self, CommandError> {
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
            .prefix(".tasksync-new-")
            .tempfile_in(&folder)
            .map_err(|error| {
                CommandError::settings(format!("{} cannot be written: {error}", folder.display()))
            })?;
        let unfinished = beside.path().to_owned();
        let undo = UndoOnSignal::new(move || {
            std::fs::remove_file(unfinished).ok();
        })?;
        Ok(Self {
            target: target.to_owned(),
            folder,
            beside,
            overwrite,
            _undo: undo,
        })
    }

    /// Creates the file that takes the place of the one at `path`. A symbolic link stays, and the file that it names is
    /// replaced. The new file has the permissions, owner and group of the replaced one, as far as this process may set
    /// them.
    ///
    /// # Errors
    /// There is no file at `path`, or its folder cannot be written.
    pub(crate) fn in_place_of(path: &Path) -> Result<Self, CommandError> {
        let target = std::fs::canonicalize(path).map_err(|error| write_error(path, &error))?;
        let file = Self::beside(&target, true)?;
        let replaced = std::fs::metadata(&target).map_err(|error| write_error(&target, &error))?;
        take_over_access(file.file(), &replaced).map_err(|error| write_error(&target, &error))?;
        Ok(file)
    }

    /// Returns the file, to be written.
    pub(crate) fn file(&self) -> &File {
        self.beside.as_file()
    }

    /// Returns where the file is until it gets its name.
    pub(crate) fn path(&self) -> &Path {
        self.beside.path()
    }

    /// Returns the name that the file gets.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its name, with everything in it on the disk.
    ///
    /// # Errors
    /// The file cannot be written, or another one got the name meanwhile.
    pub(crate) fn keep(self) -> Result<(), CommandError> {
        self.beside
            .as_file()
            .sync_all()
            .map_err(|error| write_error(&self.target, &error))?;
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
                return Err(write_error(target, &error.error));
            }
        }
        // The name is on the disk only after its folder is.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| write_error(&self.folder, &error))
    }
}

/// Gives the file the access rights of another one. If the group cannot be kept, the file's own group gets no rights,
/// because it may have other members.
#[cfg(unix)]
fn take_over_access(file: &File, replaced: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

    let (owner, group) = (replaced.uid(), replaced.gid());
    let has_group = fchown(file, Some(owner), Some(group))
        .or_else(|_| fchown(file, None, Some(group)))
        .is_ok();
    let group_rights = if has_group { 0o070 } else { 0 };
    let mode = replaced.mode() & (0o707 | group_rights);
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn take_over_access(file: &File, replaced: &Metadata) -> std::io::Result<()> {
    file.set_permissions(replaced.permissions())
}

fn exists_error(target: &Path) -> CommandError {
    CommandError::settings(format!(
        "{} exists; name another file, or replace it with --overwrite",
        target.display()
    ))
}

fn write_error(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::settings(format!("{} cannot be written: {error}", path.display()))
}
