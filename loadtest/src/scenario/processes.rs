//! One `tasksync` process of a run: started, watched, killed and started again.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// Token the API is protected with.
pub(crate) const TOKEN: &str = "scenario-token-of-32-characters0";
/// A process that is asked to end may take this long.
const END: Duration = Duration::from_secs(90);
/// A process may take this long until it is ready.
const START: Duration = Duration::from_secs(60);

/// A process.
pub(crate) struct Process {
    /// Name in reports: `scheduler-1`.
    pub(crate) name: String,
    /// Subcommand.
    role: &'static str,
    executable: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    /// Where `/readyz` is.
    health: String,
    /// Base address of its API, if it has one.
    pub(crate) api: Option<String>,
    http: reqwest::Client,
    child: Mutex<Option<Child>>,
    pid: AtomicU32,
}

/// What a process is started with.
pub(crate) struct ProcessSpec {
    pub(crate) name: String,
    pub(crate) role: &'static str,
    pub(crate) executable: PathBuf,
    pub(crate) settings: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) health: String,
    pub(crate) api: Option<String>,
}

impl Process {
    pub(crate) fn new(spec: ProcessSpec, http: reqwest::Client) -> Self {
        Self {
            name: spec.name,
            role: spec.role,
            executable: spec.executable,
            settings: spec.settings,
            log: spec.log,
            health: spec.health,
            api: spec.api,
            http,
            child: Mutex::new(None),
            pid: AtomicU32::new(0),
        }
    }

    /// The running process' id.
    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn launch(&self) -> Result<(), String> {
        let mut child = self.child.lock().await;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| format!("{}: {error}", self.log.display()))?;
        let copy = log.try_clone().map_err(|error| error.to_string())?;
        let started = Command::new(&self.executable)
            .args([self.role, "--config"])
            .arg(&self.settings)
            .env("TASKSYNC_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(copy))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.executable.display()))?;
        self.pid.store(started.id().unwrap_or(0), Ordering::Relaxed);
        *child = Some(started);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or takes too long, with the last lines of its log.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            let asked = self
                .http
                .get(&self.health)
                .timeout(Duration::from_secs(5))
                .send()
                .await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = match self.child.lock().await.as_mut() {
                Some(child) => child.try_wait().ok().flatten(),
                None => return Err(format!("{} does not run", self.name)),
            };
            if let Some(status) = ended {
                return Err(format!(
                    "{} ended with {status}:\n{}",
                    self.name,
                    self.log_tail(20)
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{} is not ready after {} s:\n{}",
                    self.name,
                    START.as_secs(),
                    self.log_tail(20)
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills it at once and waits for its end.
    pub(crate) async fn kill(&self) {
        let mut child = self.child.lock().await;
        if let Some(mut child) = child.take() {
            child.kill().await.ok();
        }
        self.pid.store(0, Ordering::Relaxed);
    }

    /// Asks it to end and waits; its exit code, `None` when it was killed by a signal or did not run.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub(crate) async fn terminate(&self) -> Result<Option<i32>, String> {
        self.signal("-TERM").await?;
        let mut child = self.child.lock().await;
        let Some(mut ending) = child.take() else {
            return Ok(None);
        };
        let ended = tokio::time::timeout(END, ending.wait()).await;
        self.pid.store(0, Ordering::Relaxed);
        match ended {
            Ok(Ok(status)) => Ok(status.code()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                ending.kill().await.ok();
                Err(format!("{} did not end within {} s", self.name, END.as_secs()))
            }
        }
    }

    /// Sends a signal by name (`-STOP`).
    ///
    /// # Errors
    /// When it cannot be sent.
    pub(crate) async fn signal(&self, signal: &str) -> Result<(), String> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let sent = Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .await
            .map_err(|error| format!("kill: {error}"))?;
        if sent.success() {
            Ok(())
        } else {
            Err(format!("{} (process {pid}) cannot be sent {signal}", self.name))
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }
}
