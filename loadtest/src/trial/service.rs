//! `tasksync standalone` as a child process, and its REST API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::api::{self, TOKEN, free_port};
use super::farm::{Farm, secrets_folder};
use super::process::{ProcessSpec, TasksyncProcess};

/// How the service is to be run.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Path of the `tasksync` executable.
    pub executable: PathBuf,
    /// Folder for its settings, registry and log.
    pub folder: PathBuf,
    /// Shortest time between two syncs of one user.
    pub minimum_interval: Duration,
    /// Longest time between two syncs of an idle user.
    pub maximum_interval: Duration,
    /// How often the leader looks for more work between its runs. At zero it looks only at the runs, one per second.
    pub top_up_interval: Duration,
    /// Additional settings in TOML, appended to the file.
    pub more: String,
    /// Additional settings as environment variables with their values.
    pub environment: Vec<(String, String)>,
    /// Whether the executable is of an earlier build, which refuses settings that it does not know.
    pub is_earlier_build: bool,
}

impl ServiceSpec {
    /// Writes the settings, with the registry in a file beside them. Returns the path.
    pub(super) fn write_settings(&self, farm: &Farm) -> Result<PathBuf, String> {
        let (authority, _) = farm.write_secrets(&self.folder)?;
        let settings = self.folder.join("settings.toml");
        let authorities = authority.map_or_else(
            || "allow_plain_http = true\n".to_owned(),
            |path| format!("authorities = \"{}\"\n", path.display()),
        );
        let secrets = if self.is_earlier_build {
            String::new()
        } else {
            format!(
                "[secrets]\nfolder = \"{}\"\n\n",
                secrets_folder(&self.folder).display()
            )
        };
        let milliseconds = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        let text = format!(
            "[registry]\nurl = \"sqlite:{}\"\n\n[schedule]\nrun_interval = \"1s\"\ntop_up_interval = {}\n\
             minimum_time_between_user_syncs = {}\nmaximum_time_between_user_syncs = {}\n\n\
             {secrets}[outbound]\nallowed_networks = [\"127.0.0.0/8\", \"::1/128\"]\n{authorities}\n{}",
            self.folder.join("registry.sqlite").display(),
            milliseconds(self.top_up_interval),
            milliseconds(self.minimum_interval),
            milliseconds(self.maximum_interval),
            self.more,
        );
        std::fs::write(&settings, text).map_err(|error| format!("{}: {error}", settings.display()))?;
        Ok(settings)
    }
}

/// The running service.
pub struct Service {
    spec: ServiceSpec,
    url: String,
    http: reqwest::Client,
    process: TasksyncProcess,
}

impl Service {
    /// Writes the settings, starts the service and waits until it is ready.
    ///
    /// # Errors
    /// Names what could not be written or started, with the last lines of its log.
    pub async fn start(spec: ServiceSpec, farm: &Farm) -> Result<Self, String> {
        let settings = spec.write_settings(farm)?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let mut environment = vec![
            variable("TASKSYNC_TOKEN", TOKEN.to_owned()),
            variable("TASKSYNC_API__LISTEN", format!("127.0.0.1:{port}")),
            // The health probes are queried at the API's address, so the separate listener may take any free port.
            variable("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:0".to_owned()),
        ];
        environment.extend(spec.environment.iter().cloned());
        let process = TasksyncProcess::new(ProcessSpec {
            name: "standalone".to_owned(),
            executable: spec.executable.clone(),
            role: "standalone",
            settings,
            earlier: None,
            environment,
            log: spec.folder.join("tasksync.log"),
            probed: url.clone(),
            api: Some(url.clone()),
        });
        let service = Self {
            spec,
            url,
            http: api::client()?,
            process,
        };
        service.restart().await?;
        Ok(service)
    }

    /// Starts or restarts the executable and waits until it is ready.
    ///
    /// # Errors
    /// Reports why it does not become ready, with the last lines of its log.
    pub async fn restart(&self) -> Result<(), String> {
        self.process.restart(&self.http).await
    }

    /// Starts the executable without waiting for it.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn launch(&self) -> Result<(), String> {
        self.process.launch()
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Sends SIGTERM to the process and waits. Returns its exit code.
    ///
    /// # Errors
    /// If it does not end within 90 seconds.
    pub async fn terminate(&self) -> Result<Option<i32>, String> {
        self.process.terminate().await
    }

    /// Returns the process id of the running child.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Returns the path of the child's log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.process.spec.log.clone()
    }

    /// Returns the last lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// Returns the base address of the API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the API's access token.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Returns the folder with settings, registry and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// Adds every tenant and opts every user in.
    ///
    /// # Errors
    /// The API's answer when it refuses.
    pub async fn enrol(&self, farm: &Farm) -> Result<(), String> {
        api::enrol(&self.http, &self.url, &self.spec.folder, farm).await
    }

    /// Calls the API once. Returns the JSON of the answer.
    ///
    /// # Errors
    /// The status and text of an answer that reports no success.
    pub async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        api::call(&self.http, &self.url, method, path, body).await
    }
}
