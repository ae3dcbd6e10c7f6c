//! The service that `tasksync init` works with: the one that runs with these settings, or one that runs as long as the
//! command.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::settings::Settings;
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use crate::client::ApiClient;
use crate::exit::CommandError;
use crate::service;

/// How long a start may take.
const START: Duration = Duration::from_mins(1);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(30);
/// Pause between two questions whether the service is ready.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines of the log that are shown if the service does not start.
const LOG_LINES: usize = 10;

/// A service that answers.
pub(super) enum LocalService {
    /// It ran before, and goes on.
    Running,
    /// It ends with the command.
    Started {
        process: Box<Child>,
        /// Kept until the process has ended.
        _log: NamedTempFile,
    },
}

impl LocalService {
    /// Returns the service of these settings, started if nothing answers at `health.listen`.
    ///
    /// # Errors
    /// Something else answers at `health.listen`. The service does not start, with the last lines of its log; or is not
    /// ready within a minute.
    pub(super) async fn find_or_start(
        settings: &Settings,
        file: &Path,
        token: &Path,
    ) -> Result<Self, CommandError> {
        if service::find_local(settings).await?.is_some() {
            return Ok(Self::Running);
        }
        let failed =
            |error: std::io::Error| CommandError::settings(format!("the service cannot be started: {error}"));
        let log = NamedTempFile::new().map_err(failed)?;
        let mut process = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("standalone")
            .arg("--config")
            .arg(file)
            .env_remove("TASKSYNC_TOKEN")
            .env("TASKSYNC_TOKEN_FILE", token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().map_err(failed)?)
            // Ctrl-C at the terminal reaches this command, which then ends the service.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let began = monotonic();
        loop {
            let ended = process.try_wait().map_err(failed)?;
            let found = service::find_local(settings).await?;
            if found.is_some_and(|found| found.is_ready) {
                return Ok(Self::Started {
                    process: Box::new(process),
                    _log: log,
                });
            }
            if ended.is_some() || began.elapsed() > START {
                let what = if ended.is_some() {
                    "ended at once"
                } else {
                    "is not ready after a minute"
                };
                let text = std::fs::read_to_string(log.path()).unwrap_or_default();
                return Err(CommandError::settings(format!(
                    "the service {what}. The end of its log:\n{}",
                    last_lines(&text)
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Checks that the service takes this token, if it was not started here with it.
    ///
    /// # Errors
    /// It refuses the token, or the API cannot be reached.
    pub(super) async fn check_token(
        &self,
        settings: &Settings,
        client: &ApiClient,
        token: &Path,
    ) -> Result<(), CommandError> {
        match self {
            Self::Started { .. } => Ok(()),
            Self::Running if client.token_is_taken().await? => Ok(()),
            Self::Running => Err(CommandError::settings(format!(
                "a service of tasksync runs already (health.listen {}), and its API at {} refuses the token of {}. If it is this \
                 installation's, it was started with another token: write that one into the file, or end the service. If it is \
                 another installation's, choose other addresses with --listen and --health-listen",
                settings.health.listen,
                settings.api.listen,
                token.display()
            ))),
        }
    }

    /// Ends a service that was started here, in order if it takes no longer than half a minute.
    pub(super) async fn end(self) {
        let Self::Started { mut process, .. } = self else {
            return;
        };
        if let Some(id) = process.id() {
            let asked = Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await;
            if asked.is_ok_and(|status| status.success())
                && tokio::time::timeout(END, process.wait()).await.is_ok()
            {
                return;
            }
        }
        process.kill().await.ok();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(LOG_LINES);
    lines.get(last..).unwrap_or_default().join("\n")
}
