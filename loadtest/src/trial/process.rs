//! One `tasksync` process: started, asked whether it is ready, killed or told to end.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

/// A process has this long to become ready, and lines of its log are shown when it does not.
const PATIENCE: Duration = Duration::from_secs(30);
const LINES: usize = 20;
/// A process has this long to end after SIGTERM.
const END: Duration = Duration::from_secs(90);

/// A process of one role; it outlives its restarts.
pub struct Process {
    pub(super) executable: PathBuf,
    /// `standalone`, `scheduler` or `worker`.
    pub(super) role: &'static str,
    pub(super) settings: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    pub(super) log: PathBuf,
    /// Where its `/readyz` is asked.
    pub(super) probed: String,
    pub(super) child: Option<Child>,
}

impl Process {
    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// Says why it does not come up, with the last lines of its log.
    pub async fn restart(&mut self, http: &reqwest::Client) -> Result<(), String> {
        self.launch()?;
        self.ready(http).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub async fn ready(&mut self, http: &reqwest::Client) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http.get(format!("{}/readyz", self.probed)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            let role = self.role;
            if let Some(status) = ended {
                return Err(format!(
                    "tasksync {role} ended at start with {status}:\n{}",
                    self.log_tail(LINES)
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "tasksync {role} is not ready after {} s:\n{}",
                    PATIENCE.as_secs(),
                    self.log_tail(LINES)
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn launch(&mut self) -> Result<(), String> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| format!("{}: {error}", self.log.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(&self.executable)
            .args([self.role, "--config"])
            .arg(&self.settings)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(copy))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.executable.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it at once (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.ok();
        }
    }

    /// Asks it to end (SIGTERM) and waits; its exit code.
    ///
    /// # Errors
    /// When it does not end within 90 seconds.
    pub async fn terminate(&mut self) -> Result<Option<i32>, String> {
        let Some(mut child) = self.child.take() else {
            return Ok(None);
        };
        if let Some(id) = child.id() {
            Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await
                .map_err(|error| format!("kill: {error}"))?;
        }
        match tokio::time::timeout(END, child.wait()).await {
            Ok(Ok(status)) => Ok(status.code()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "tasksync {} did not end within {} s after SIGTERM",
                self.role,
                END.as_secs()
            )),
        }
    }

    /// Process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Where its probes are asked.
    #[must_use]
    pub fn probed(&self) -> &str {
        &self.probed
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }
}
