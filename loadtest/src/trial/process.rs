//! One `tasksync` process: started, asked whether it is ready, killed or told to end, and started again.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::services::{Signal, Watchdog};

/// A process has this long to become ready, and lines of its log are shown when it does not.
const START: Duration = Duration::from_secs(60);
const LINES: usize = 20;
/// Whether it is ready is asked this often, and answered within this time.
const ASKED_EVERY: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(5);
/// A process has this long to end after SIGTERM.
const END: Duration = Duration::from_secs(90);

/// What a process is started with.
#[derive(Debug, Clone)]
pub(crate) struct ProcessSpec {
    /// Name in reports and errors: `scheduler-1`.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// `standalone`, `scheduler` or `worker`.
    pub(crate) role: &'static str,
    pub(crate) settings: PathBuf,
    /// Variables beside those of this program.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    /// Base address of its probes.
    pub(crate) probed: String,
    /// Base address of its API, if it has one.
    pub(crate) api: Option<String>,
}

/// A process of one role; it outlives its restarts, and nothing of it outlives this program.
#[derive(Debug)]
pub struct Process {
    pub(crate) spec: ProcessSpec,
    child: Mutex<Option<Child>>,
    /// Of the child, until its end was seen; 0 for none.
    id: AtomicU32,
}

impl Process {
    pub(crate) fn new(spec: ProcessSpec) -> Self {
        Self {
            spec,
            child: Mutex::default(),
            id: AtomicU32::new(0),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // Whole after every change.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// Says why it does not come up, with the last lines of its log.
    pub async fn restart(&self, http: &reqwest::Client) -> Result<(), String> {
        self.launch()?;
        self.ready(http).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub async fn ready(&self, http: &reqwest::Client) -> Result<(), String> {
        let name = &self.spec.name;
        let url = format!("{}/readyz", self.spec.probed);
        let deadline = Instant::now() + START;
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
            if Instant::now() > deadline {
                return Err(format!(
                    "tasksync {name} is not ready after {} s:\n{}",
                    START.as_secs(),
                    self.log_tail(LINES)
                ));
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    /// Starts it and does not wait. One that still runs is killed.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn launch(&self) -> Result<(), String> {
        let ProcessSpec { executable, log, .. } = &self.spec;
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
            .arg(&self.spec.settings)
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

    /// Its end was seen: the number is nobody's any more.
    fn ended(&self) {
        let id = self.id.swap(0, Ordering::Relaxed);
        if let (true, Ok(watchdog)) = (id > 0, Watchdog::of_this_program()) {
            watchdog.ended(id);
        }
    }

    /// Kills it at once (SIGKILL) and waits for its end.
    pub async fn kill(&self) {
        let child = self.child().take();
        if let Some(mut child) = child {
            child.kill().await.ok();
        }
        self.ended();
    }

    /// Asks it to end (SIGTERM) and waits; its exit code, `None` when a signal ended it or it did not run.
    ///
    /// # Errors
    /// When it does not end within 90 seconds; it is killed then.
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

    /// Sends a signal, if it runs.
    ///
    /// # Errors
    /// When it cannot be sent.
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

    /// Process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        Some(self.id.load(Ordering::Relaxed)).filter(|id| *id > 0)
    }

    /// Where its probes are asked.
    #[must_use]
    pub fn probed(&self) -> &str {
        &self.spec.probed
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.spec.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed first, by its own drop: until then its number is its own.
        drop(self.child().take());
        self.ended();
    }
}
