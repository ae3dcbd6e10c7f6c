//! The `tasksync` executable as a child process, and its REST API.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::farm::Farm;

/// Token the child's API is protected with.
const TOKEN: &str = "trial-token-of-32-characters-000";

/// How the service is to run.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Path of the `tasksync` executable.
    pub executable: PathBuf,
    /// Folder for its settings, registry and log.
    pub folder: PathBuf,
    /// No user is synced more often than this.
    pub minimum_interval: Duration,
    /// An idle user is synced at least this often.
    pub maximum_interval: Duration,
    /// The leader looks for more work this often between its runs; zero leaves it at the runs, one a second.
    pub top_up_interval: Duration,
    /// Further settings in TOML, appended to the file.
    pub more: String,
}

/// The running service.
pub struct Service {
    spec: ServiceSpec,
    settings: PathBuf,
    url: String,
    http: reqwest::Client,
    child: Option<Child>,
}

impl Service {
    /// Writes the settings, starts the service and waits until it is ready.
    ///
    /// # Errors
    /// Says what could not be written or started, with the last lines of its log.
    pub async fn start(spec: ServiceSpec, farm: &Farm) -> Result<Self, String> {
        let (authority, _) = farm.write_secrets(&spec.folder)?;
        let port = free_port()?;
        let settings = spec.folder.join("settings.toml");
        let authorities = authority
            .map(|path| format!("authorities = \"{}\"\n", path.display()))
            .unwrap_or_else(|| "allow_plain_http = true\n".to_owned());
        let milliseconds = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        let text = format!(
            "[registry]\nurl = \"sqlite:{}\"\n\n[schedule]\nrun_interval = \"1s\"\ntop_up_interval = {}\n\
             minimum_time_between_user_syncs = {}\nmaximum_time_between_user_syncs = {}\n\n\
             [api]\nlisten = \"127.0.0.1:{port}\"\n\n[outbound]\nallowed_networks = [\"127.0.0.0/8\", \"::1/128\"]\n{authorities}\n{}",
            spec.folder.join("registry.sqlite").display(),
            milliseconds(spec.top_up_interval),
            milliseconds(spec.minimum_interval),
            milliseconds(spec.maximum_interval),
            spec.more,
        );
        std::fs::write(&settings, text).map_err(|error| format!("{}: {error}", settings.display()))?;
        // Loopback only; the API itself speaks plain HTTP.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{port}");
        let mut service = Self {
            spec,
            settings,
            url,
            http,
            child: None,
        };
        service.restart().await?;
        Ok(service)
    }

    /// Starts the executable (again) and waits until it is ready.
    ///
    /// # Errors
    /// Says why it does not come up, with the last lines of its log.
    pub async fn restart(&mut self) -> Result<(), String> {
        self.launch()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if self
                .http
                .get(format!("{}/readyz", self.url))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(());
            }
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!(
                    "tasksync ended at start with {status}:\n{}",
                    self.log_tail(20)
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "tasksync is not ready after 30 s:\n{}",
                    self.log_tail(20)
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the executable and does not wait.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn launch(&mut self) -> Result<(), String> {
        let log = self.log_path();
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(&self.spec.executable)
            .args(["standalone", "--config"])
            .arg(&self.settings)
            .env("TASKSYNC_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(copy))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.spec.executable.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.ok();
        }
    }

    /// Asks the process to end (SIGTERM) and waits; its exit code.
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
        match tokio::time::timeout(Duration::from_secs(90), child.wait()).await {
            Ok(Ok(status)) => Ok(status.code()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("tasksync did not end within 90 s after SIGTERM".to_owned()),
        }
    }

    /// Process id of the running child.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Where the child's log goes.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.spec.folder.join("tasksync.log")
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Base address of the API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token the API asks for.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The folder with settings, registry and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// Adds every tenant and opts everybody in.
    ///
    /// # Errors
    /// The API's answer when it refuses.
    pub async fn enrol(&self, farm: &Farm) -> Result<(), String> {
        let (_, password) = farm.write_secrets(&self.spec.folder)?;
        for tenant in &farm.population.tenants {
            let path = format!("/api/v1/tenants/{}", tenant.slug);
            self.call(
                reqwest::Method::PUT,
                &path,
                Some(farm.tenant_settings(tenant, &password)),
            )
            .await?;
        }
        for (_, tenant, person) in farm.people() {
            let path = format!(
                "/api/v1/tenants/{}/users/{}",
                tenant.slug,
                Farm::user_name(person)
            );
            let body = json!({
                "source_login": person.login,
                "mailbox": person.smtp,
                "time_zone": person.time_zone,
            });
            self.call(reqwest::Method::PUT, &path, Some(body)).await?;
        }
        Ok(())
    }

    /// One call of the API; the answer's JSON.
    ///
    /// # Errors
    /// The answer's status and text when it is no success.
    pub async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.url))
            .bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| format!("{method} {path}: {error}"))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|error| format!("{method} {path}: {error}"))?;
        if !status.is_success() {
            return Err(format!("{method} {path}: {status}: {text}"));
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| format!("{method} {path}: {error}"))
    }
}

fn free_port() -> Result<u16, String> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}
