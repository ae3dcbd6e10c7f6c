//! One process of a server. It is started so that it cannot outlive its owner, and is ended with all its child
//! processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{ServiceError, ServiceFolder};
use crate::machine_clock::monotonic;

/// The signals that servers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends the process at once.
    Kill,
    /// Asks the process to end.
    Terminate,
    /// PostgreSQL: ends sessions and stops.
    Interrupt,
    /// PostgreSQL: stops without a checkpoint, but frees its shared memory.
    Quit,
    /// Freezes the process.
    Stop,
    /// Resumes a frozen process.
    Continue,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A process to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Its environment variables, in addition to PATH and the language.
    pub environment: Vec<(&'static str, OsString)>,
    /// Its working folder.
    pub directory: PathBuf,
    /// File that its output is appended to.
    pub log: PathBuf,
    /// The port that must be open before the next process is started.
    pub listens: Option<u16>,
    /// The signal that the watchdog sends first when the owner is gone.
    pub last_signal: Signal,
}

impl Launch {
    /// Returns a command with an empty environment and no port to wait for.
    pub(super) fn new(command: Vec<OsString>, directory: PathBuf, log: PathBuf, last_signal: Signal) -> Self {
        Self {
            command,
            environment: Vec::new(),
            directory,
            log,
            listens: None,
            last_signal,
        }
    }
}

/// Waits for permission to run, so that the watchdog knows the process before it does anything.
const GATE: &str = "read -r leave && [ \"$leave\" = go ] && exec \"$@\" </dev/null";

/// How long a killed process may take to disappear.
const KILL_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    ended: bool,
    folder: Arc<ServiceFolder>,
}

impl ServerProcess {
    pub(super) fn start(folder: &Arc<ServiceFolder>, launch: &Launch) -> Result<Self, ServiceError> {
        let what = || {
            launch
                .command
                .first()
                .map_or_else(String::new, |program| program.to_string_lossy().into_owned())
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .map_err(ServiceError::system(launch.log.display().to_string()))?;
        let copy = log.try_clone().map_err(ServiceError::system(what()))?;
        let child = Command::new("sh")
            .args(["-c", GATE, "tasksync-services-gate"])
            .args(&launch.command)
            .env_clear()
            .env("PATH", folder.binaries().search_path())
            .env("LANG", "C.UTF-8")
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.directory)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .map_err(ServiceError::system(what()))?;
        let mut process = Self {
            child,
            ended: false,
            folder: Arc::clone(folder),
        };
        folder.guard(process.pid(), launch.last_signal)?;
        if let Some(mut gate) = process.child.stdin.take() {
            gate.write_all(b"go\n").map_err(ServiceError::system(what()))?;
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    pub(super) fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() && !self.ended {
            self.ended = true;
            self.folder.ended(self.child.id());
        }
        status
    }

    /// Returns the ids of the process and of all its descendants.
    pub(super) fn tree(&self) -> Vec<u32> {
        if self.ended {
            Vec::new()
        } else {
            descendants(self.pid(), &parents())
        }
    }

    /// Sends a signal to this process alone.
    pub(super) fn send(&self, signal: Signal) {
        if !self.ended {
            send(signal, &[self.pid()]);
        }
    }

    /// Kills the process and all its descendants, and waits for their end.
    pub(super) fn kill(&mut self) {
        if self.status().is_some() {
            return;
        }
        // Freeze the process first. A frozen process cannot start children that the following look at `/proc` would
        // miss.
        self.send(Signal::Stop);
        let tree = self.tree();
        send(Signal::Kill, &tree);
        send_group(Signal::Kill, self.pid());
        self.child.wait().ok();
        self.status();
        // The descendants are not our children, so they cannot be waited for. They end within moments.
        let started = monotonic();
        while tree.iter().any(|pid| runs(*pid)) && started.elapsed() < KILL_LIMIT {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits at most `limit` for the end of the process, blocking the thread. It is for places that cannot await.
    pub(super) fn wait_blocking(&mut self, limit: Duration) {
        let started = monotonic();
        while self.status().is_none() && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits at most `limit` for the end of the process. Returns its exit status.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = monotonic();
        loop {
            if let Some(status) = self.status() {
                return Some(status);
            }
            if started.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal. Processes that have ended already are not an error.
pub(super) fn send(signal: Signal, processes: &[u32]) {
    if !processes.is_empty() {
        shell_kill(signal, processes.iter().map(u32::to_string).collect());
    }
}

fn send_group(signal: Signal, leader: u32) {
    shell_kill(signal, vec![format!("-{leader}")]);
}

fn shell_kill(signal: Signal, targets: Vec<String>) {
    // `kill` is a builtin of the shell, so no program of that name has to be installed.
    Command::new("sh")
        .args(["-c", "kill -s \"$0\" -- \"$@\"", signal.name()])
        .args(targets)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok();
}

/// Returns whether a process exists and is not a zombie.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| field_in(&stat, 0).map(|state| !matches!(state, "Z" | "X")))
        .unwrap_or(false)
}

/// Returns the parent of every process.
fn parents() -> BTreeMap<u32, u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, field_in(&stat, 1)?.parse().ok()?))
        })
        .collect()
}

/// Returns a field of `/proc/<pid>/stat` after the name in brackets, which may contain anything. Field 0 is the state,
/// 1 the parent.
fn field_in(stat: &str, field: usize) -> Option<&str> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field)
}

/// Returns `root` and all processes below it.
fn descendants(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(child, of)| **of == parent && **child != parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_brackets_and_spaces() {
        assert_eq!(field_in("42 (a) b (c)) S 7 42 42 0", 1), Some("7"));
        assert_eq!(field_in("42 (postgres) Z 1 42", 0), Some("Z"));
        assert_eq!(field_in("nonsense", 0), None);
    }

    #[test]
    fn all_descendants_and_no_other_process() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 2)]);
        assert_eq!(descendants(2, &parents), [2, 3, 6, 4]);
        assert_eq!(descendants(5, &parents), [5]);
    }
}
