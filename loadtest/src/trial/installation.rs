//! Schedulers and workers as child processes that share stores.

use serde_json::Value;

use super::api::{self, TOKEN, free_port};
use super::farm::Farm;
use super::process::{ProcessSpec, TasksyncProcess};
use super::service::ServiceSpec;

/// The stores that the processes share, and the number of processes.
#[derive(Debug, Clone)]
pub struct InstallationSpec {
    /// Executable, folder, intervals and other settings of every process.
    pub service: ServiceSpec,
    /// URL of PostgreSQL.
    pub registry: String,
    /// URL of Redis.
    pub schedule: String,
    /// URL of RabbitMQ.
    pub queue: String,
    /// Additional environment variables of every process.
    pub environment: Vec<(String, String)>,
    /// Number of schedulers.
    pub schedulers: usize,
    /// Number of workers.
    pub workers: usize,
}

/// The running processes. Each can be killed, terminated and started again on its own.
pub struct Installation {
    spec: InstallationSpec,
    http: reqwest::Client,
    /// The schedulers.
    pub schedulers: Vec<TasksyncProcess>,
    /// The API's addresses, in the order of the schedulers.
    urls: Vec<String>,
    /// The workers.
    pub workers: Vec<TasksyncProcess>,
}

impl Installation {
    /// Writes the settings, starts every process at once and waits until all are ready.
    ///
    /// # Errors
    /// Names what could not be written or started, with the last lines of the log.
    pub async fn start(spec: InstallationSpec, farm: &Farm) -> Result<Self, String> {
        let settings = spec.service.write_settings(farm)?;
        let mut installation = Self {
            http: api::client()?,
            schedulers: Vec::new(),
            urls: Vec::new(),
            workers: Vec::new(),
            spec,
        };
        let spec = &installation.spec;
        for number in 0..spec.schedulers {
            let port = free_port()?;
            installation.urls.push(format!("http://127.0.0.1:{port}"));
            let api = [
                ("TASKSYNC_API__LISTEN".to_owned(), format!("127.0.0.1:{port}")),
                ("TASKSYNC_TOKEN".to_owned(), TOKEN.to_owned()),
            ];
            let process = spec.process("scheduler", number, &settings, &api)?;
            installation.schedulers.push(process);
        }
        for number in 0..spec.workers {
            let process = spec.process("worker", number, &settings, &[])?;
            installation.workers.push(process);
        }
        for process in installation.processes() {
            process.launch()?;
        }
        for process in installation.processes() {
            process.ready(&installation.http).await?;
        }
        Ok(installation)
    }

    fn processes(&self) -> impl Iterator<Item = &TasksyncProcess> {
        self.schedulers.iter().chain(&self.workers)
    }

    /// Sends SIGTERM to every process in turn, schedulers first, and waits for each to end. Returns the exit codes.
    ///
    /// # Errors
    /// If a process does not end within 90 seconds.
    pub async fn terminate(&self) -> Result<Vec<Option<i32>>, String> {
        let mut codes = Vec::new();
        for process in self.processes() {
            codes.push(process.terminate().await?);
        }
        Ok(codes)
    }

    /// Returns the client used to query readiness (see [`TasksyncProcess::restart`]).
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the address of a scheduler's API.
    ///
    /// # Errors
    /// If there is no such scheduler.
    pub fn url(&self, scheduler: usize) -> Result<&str, String> {
        self.urls
            .get(scheduler)
            .map(String::as_str)
            .ok_or_else(|| format!("there is no scheduler {scheduler}"))
    }

    /// Returns the API's access token.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Adds every tenant and opts every user in, through one scheduler.
    ///
    /// # Errors
    /// The API's answer when it refuses.
    pub async fn enrol(&self, scheduler: usize, farm: &Farm) -> Result<(), String> {
        api::enrol(&self.http, self.url(scheduler)?, &self.spec.service.folder, farm).await
    }

    /// Calls the API of one scheduler once. Returns the JSON of the answer.
    ///
    /// # Errors
    /// The status and text of an answer that reports no success.
    pub async fn call(
        &self,
        scheduler: usize,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        api::call(&self.http, self.url(scheduler)?, method, path, body).await
    }

    /// Returns the number of the scheduler that reports itself as the leader, if there is one.
    pub async fn leader(&self) -> Option<usize> {
        for (number, process) in self.schedulers.iter().enumerate() {
            if process.id().is_none() {
                continue;
            }
            let status = self
                .call(number, reqwest::Method::GET, "/api/v1/status", None)
                .await;
            if status.is_ok_and(|status| api::is_leading(&status)) {
                return Some(number);
            }
        }
        None
    }

    /// Returns the last lines of every log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.processes()
            .map(|process| format!("{}:\n{}\n", process.spec.log.display(), process.log_tail(lines)))
            .collect::<Vec<_>>()
            .concat()
    }
}

impl InstallationSpec {
    fn process(
        &self,
        role: &'static str,
        number: usize,
        settings: &std::path::Path,
        more: &[(String, String)],
    ) -> Result<TasksyncProcess, String> {
        let port = free_port()?;
        let mut environment: Vec<(String, String)> = [
            ("TASKSYNC_REGISTRY__URL", self.registry.clone()),
            ("TASKSYNC_SCHEDULE__URL", self.schedule.clone()),
            ("TASKSYNC_QUEUE__URL", self.queue.clone()),
            ("TASKSYNC_HEALTH__LISTEN", format!("127.0.0.1:{port}")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        environment.extend(self.environment.iter().chain(more).cloned());
        Ok(TasksyncProcess::new(ProcessSpec {
            name: format!("{role}-{number}"),
            executable: self.service.executable.clone(),
            role,
            settings: settings.to_owned(),
            earlier: None,
            environment,
            log: self.service.folder.join(format!("{role}-{number}.log")),
            probed: format!("http://127.0.0.1:{port}"),
            api: None,
        }))
    }
}
