//! The temporary folder of a set of servers, and the watchdog that empties it.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::process::Signal;
use super::{Binaries, ServiceError};

/// Told on its standard input which processes live; when that closes (the owner ended, however), it ends them, everything
/// they started, and the folder. It has its own process group and ignores what a terminal sends to the owner's.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
folder=$1 living=
while read -r verb pid signal; do
    case $verb in
        add) living="$living $pid:$signal" ;;
        ended)
            rest=
            for one in $living; do [ "${one%%:*}" = "$pid" ] || rest="$rest $one"; done
            living=$rest ;;
    esac
done
descendants() {
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        echo "$child"
        descendants "$child"
    done
}
lives() { # dead ones nobody has waited for yet do not count
    read -r _ _ state _ 2>/dev/null </proc/"$1"/stat && [ "$state" != Z ]
}
# Some servers clean up system resources at once when asked.
asked=
for one in $living; do
    [ "${one##*:}" = KILL ] && continue
    kill -s "${one##*:}" "${one%%:*}" 2>/dev/null && kill -s CONT "${one%%:*}" 2>/dev/null
    asked="$asked ${one%%:*}"
done
rounds=0
while [ -n "$asked" ] && [ $rounds -lt 20 ]; do
    rest=
    for pid in $asked; do lives "$pid" && rest="$rest $pid"; done
    asked=$rest rounds=$((rounds + 1))
    [ -z "$asked" ] || sleep 0.1
done
for one in $living; do
    pid=${one%%:*}
    kill -s STOP "$pid" 2>/dev/null
    kill -s KILL $(descendants "$pid") "$pid" 2>/dev/null
    kill -s KILL -- "-$pid" 2>/dev/null
done
rounds=0
while [ -e "$folder" ] && [ $rounds -lt 50 ]; do
    rm -rf -- "$folder" 2>/dev/null || sleep 0.1
    rounds=$((rounds + 1))
done
"#;

/// A temporary folder for servers. When the last server in it and this are dropped, or the owner is killed, nothing of it
/// is left.
#[derive(Debug)]
pub struct ServiceFolder {
    folder: tempfile::TempDir,
    binaries: Binaries,
    root: bool,
    watchdog: Mutex<Option<(Child, ChildStdin)>>,
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
        let mut child = Command::new("sh")
            .args(["-c", WATCHDOG, "tasksync-services-watchdog"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(ServiceError::system("no watchdog: sh"))?;
        let stdin = child.stdin.take();
        Ok(Self {
            folder,
            binaries,
            root,
            watchdog: Mutex::new(stdin.map(|stdin| (child, stdin))),
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
        self.tell(&format!("add {pid} {}\n", signal.name()))
            .map_err(ServiceError::system("the watchdog of the servers is gone"))
    }

    /// `pid` has ended and is nobody's business any more.
    pub(super) fn ended(&self, pid: u32) {
        self.tell(&format!("ended {pid}\n")).ok();
    }

    fn tell(&self, line: &str) -> std::io::Result<()> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        match watchdog.as_mut() {
            Some((_, stdin)) => stdin.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for ServiceFolder {
    fn drop(&mut self) {
        let watchdog = self
            .watchdog
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((mut child, stdin)) = watchdog {
            drop(stdin);
            child.wait().ok();
        }
    }
}
