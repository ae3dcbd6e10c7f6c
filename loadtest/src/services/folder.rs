//! The temporary folder of a set of servers.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::process::Signal;
use super::watchdog::Watchdog;
use super::{Binaries, ServiceError};

/// A temporary folder for servers. When the last server in it and this are dropped, or the owner is killed, nothing of it
/// is left.
#[derive(Debug)]
pub struct ServiceFolder {
    // First: it ends what is left in the folder.
    watchdog: Watchdog,
    folder: tempfile::TempDir,
    binaries: Binaries,
    root: bool,
}

impl ServiceFolder {
    /// Makes a folder in `parent` (the system's temporary folder when not given) and starts its watchdog.
    ///
    /// # Errors
    /// The operating system's error; [`ServiceError::FolderClosed`] when this runs as root and other accounts may not
    /// enter `parent` (PostgreSQL runs as another account then).
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

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where programs are looked for.
    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Whether this process is root, so that servers which refuse that need another account.
    pub(super) fn is_root(&self) -> bool {
        self.root
    }

    /// Checks that accounts without rights of their own can reach the folder.
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

    /// The watchdog ends `pid` with `signal` first (KILL at last) when the owner is gone.
    pub(super) fn guard(&self, pid: u32, signal: Signal) -> Result<(), ServiceError> {
        self.watchdog
            .guard(pid, signal)
            .map_err(ServiceError::system("the watchdog of the servers is gone"))
    }

    /// `pid` has ended and is nobody's business any more.
    pub(super) fn ended(&self, pid: u32) {
        self.watchdog.ended(pid);
    }
}
