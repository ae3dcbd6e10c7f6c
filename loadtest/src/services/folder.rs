//! The temporary folder of a set of servers.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::process::Signal;
use super::watchdog::Watchdog;
use super::{Binaries, ServiceError};

/// A temporary folder for servers. It is removed with everything in it once this value and the last of its servers are
/// dropped, or when the owner is killed.
#[derive(Debug)]
pub struct ServiceFolder {
    // Dropped first: the watchdog ends the processes that are still using the folder.
    watchdog: Watchdog,
    folder: tempfile::TempDir,
    binaries: Binaries,
    root: bool,
}

impl ServiceFolder {
    /// Creates a folder in `parent` (default: the system's temporary folder) and starts its watchdog.
    ///
    /// # Errors
    /// The operating system's error, or [`ServiceError::FolderClosed`] if this process is root and other accounts may
    /// not enter `parent`. In that case PostgreSQL would run as another account.
    pub fn new(parent: Option<&Path>, binaries: Binaries) -> Result<Self, ServiceError> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let parent = parent
            .canonicalize()
            .map_err(ServiceError::system(parent.display().to_string()))?;
        let folder = tempfile::Builder::new()
            .prefix("tasksync-services-")
            .tempdir_in(&parent)
            .map_err(ServiceError::system(format!("no folder in {}", parent.display())))?;
        let root = std::fs::metadata("/proc/self")
            .map_err(ServiceError::system("/proc/self"))?
            .uid()
            == 0;
        if root {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))
                .map_err(ServiceError::system(folder.path().display().to_string()))?;
        }
        Ok(Self {
            watchdog: Watchdog::new(Some(folder.path())).map_err(ServiceError::system("no watchdog: sh"))?,
            folder,
            binaries,
            root,
        })
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns where programs are searched.
    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Returns whether this process runs as root. Servers that refuse to run as root then need another account.
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// Checks that unprivileged accounts can reach the folder.
    pub(super) fn open_to_others(&self) -> Result<(), ServiceError> {
        let closed = self.path().ancestors().find(|folder| {
            std::fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o001 == 0)
        });
        match closed {
            Some(folder) => Err(ServiceError::FolderClosed {
                folder: PathBuf::from(folder),
            }),
            None => Ok(()),
        }
    }

    /// Registers `pid` with the watchdog. When the owner is gone, the watchdog sends `signal` first, and KILL at the
    /// end.
    pub(super) fn guard(&self, pid: u32, signal: Signal) -> Result<(), ServiceError> {
        self.watchdog
            .guard(pid, signal)
            .map_err(ServiceError::system("the watchdog of the servers is gone"))
    }

    /// Unregisters `pid`, which has ended.
    pub(super) fn ended(&self, pid: u32) {
        self.watchdog.ended(pid);
    }
}
