//! One `tasksync` process: start, readiness, kill, termination and restart.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::machine_clock::monotonic;
use crate::services::{Signal, Watchdog};

/// How long a process may take to become ready, and how many lines of its log are shown if it does not.
const START: Duration = Duration::from_mins(1);
const LINES: usize = 20;
/// How often readiness is queried, and how long one answer may take.
const ASKED_EVERY: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(5);
/// How long a process may take to end after SIGTERM.
const END: Duration = Duration::from_secs(90);

/// How a process is started.
#[derive(Debug, Clone)]
pub(crate) struct ProcessSpec {
    /// Name in reports and errors: `scheduler-1`.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// `standalone`, `scheduler` or `worker`.
    pub(crate) role: &'static str,
    pub(crate) settings: PathBuf,
    /// The build that the process runs until it is replaced, if there are two.
    pub(crate) earlier: Option<EarlierBuild>,
    /// Environment variables in addition to those of this program.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    /// Base address of its health probes.
    pub(crate) probed: String,
    /// Base address of its API, if it has one.
    pub(crate) api: Option<String>,
}

/// An earlier build of `tasksync`.
#[derive(Debug, Clone)]
pub(crate) struct EarlierBuild {
    pub(crate) executable: PathBuf,
    /// The process's settings without those that this build does not know.
    pub(crate) settings: PathBuf,
}

/// A process of one role. The value survives restarts; the child process never survives this program.
#[derive(Debug)]
pub struct TasksyncProcess {
    pub(crate) spec: ProcessSpec,
    /// Whether the next launch is of the earlier build.
    runs_earlier_build: AtomicBool,
    child: Mutex<Option<Child>>,
    /// Process id of the child until its end was seen; 0 for none.
    id: AtomicU32,
}

impl TasksyncProcess {
    pub(crate) fn new(spec: ProcessSpec) -> Self {
        Self {
            runs_earlier_build: AtomicBool::new(spec.earlier.is_some()),
            spec,
            child: Mutex::default(),
            id: AtomicU32::new(0),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // The value is consistent after every change, so a poisoned lock can be used.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts or restarts the process and waits until it is ready.
    ///
    /// # Errors
    /// Reports why it does not become ready, with the last lines of its log.
    pub async fn restart(&self, http: &reqwest::Client) -> Result<(), String> {
        self.launch()?;
        self.ready(http).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::restart`].
    #[expect(
        clippy::disallowed_methods,
        reason = "the harness calls a service that it started"
    )]
    pub async fn ready(&self, http: &reqwest::Client) -> Result<(), String> {
        let name = &self.spec.name;
        let url = format!("{}/readyz", self.spec.probed);
        let deadline = monotonic() + START;
        loop {
            let answer = http.get(&url).timeout(ANSWER).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = match self.child().as_mut() {
                Some(child) => child.try_wait().ok().flatten(),
                None => return Err(format!("tasksync {name} does not run")),
            };
            if let Some(status) = ended {
                self.ended();
                return Err(format!(
                    "tasksync {name} ended at start with {status}:\n{}",
                    self.log_tail(LINES)
                ));
            }
            if monotonic() > deadline {
                return Err(format!(
                    "tasksync {name} is not ready after {} s:\n{}",
                    START.as_secs(),
                    self.log_tail(LINES)
                ));
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    /// Selects the other build for the next launch: this one, or the earlier one if this one was selected.
    pub(crate) fn select_other_build(&self) {
        self.runs_earlier_build.fetch_xor(true, Ordering::Relaxed);
    }

    /// Starts the process without waiting for it. A running one is killed.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn launch(&self) -> Result<(), String> {
        let ProcessSpec {
            executable,
            settings,
            log,
            ..
        } = &self.spec;
        let (executable, settings) = match &self.spec.earlier {
            Some(earlier) if self.runs_earlier_build.load(Ordering::Relaxed) => {
                (&earlier.executable, &earlier.settings)
            }
            Some(_) | None => (executable, settings),
        };
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let watchdog = Watchdog::of_this_program()?;
        let mut child = self.child();
        drop(child.take());
        self.ended();
        let started = Command::new(executable)
            .args([self.spec.role, "--config"])
            .arg(settings)
            .envs(self.spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(copy))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", executable.display()))?;
        let id = started.id().unwrap_or(0);
        watchdog
            .guard(id, Signal::Kill)
            .map_err(|error| format!("the watchdog is gone: {error}"))?;
        self.id.store(id, Ordering::Relaxed);
        *child = Some(started);
        Ok(())
    }

    /// Records that the end of the child was seen. From here on the system may reuse its process id.
    fn ended(&self) {
        let id = self.id.swap(0, Ordering::Relaxed);
        if let (true, Ok(watchdog)) = (id > 0, Watchdog::of_this_program()) {
            watchdog.ended(id);
        }
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub async fn kill(&self) {
        let child = self.child().take();
        if let Some(mut child) = child {
            child.kill().await.ok();
        }
        self.ended();
    }

    /// Sends SIGTERM and waits. Returns the exit code, or `None` if a signal ended the process or it was not running.
    ///
    /// # Errors
    /// If it does not end within 90 seconds. It is then killed.
    pub async fn terminate(&self) -> Result<Option<i32>, String> {
        self.signal(Signal::Terminate).await?;
        let child = self.child().take();
        let Some(mut child) = child else {
            return Ok(None);
        };
        let ended = tokio::time::timeout(END, child.wait()).await;
        if ended.is_err() {
            child.kill().await.ok();
        }
        self.ended();
        match ended {
            Ok(Ok(status)) => Ok(status.code()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "tasksync {} did not end within {} s after SIGTERM",
                self.spec.name,
                END.as_secs()
            )),
        }
    }

    /// Sends a signal if the process runs.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), String> {
        let Some(id) = self.id() else { return Ok(()) };
        let sent = Command::new("kill")
            .args(["-s", signal.name(), &id.to_string()])
            .status()
            .await
            .map_err(|error| format!("kill: {error}"))?;
        if sent.success() {
            Ok(())
        } else {
            Err(format!(
                "tasksync {} (process {id}) cannot be sent SIG{}",
                self.spec.name,
                signal.name()
            ))
        }
    }

    /// Returns the process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        Some(self.id.load(Ordering::Relaxed)).filter(|id| *id > 0)
    }

    /// Returns the base address of its health probes.
    #[must_use]
    pub fn probed(&self) -> &str {
        &self.spec.probed
    }

    /// Returns the last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.spec.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for TasksyncProcess {
    fn drop(&mut self) {
        // Drop the child first, which kills it: until then the process id still belongs to it.
        drop(self.child().take());
        self.ended();
    }
}
