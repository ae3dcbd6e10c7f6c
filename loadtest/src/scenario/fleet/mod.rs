//! All `tasksync` processes of a run with their stores, and the calls of their API.

mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};

use self::settings::{settings, stores};
use super::file::{DeploymentMode, Method, Scenario, Victim};
use crate::machine_clock::monotonic;
use crate::population::Tenant;
use crate::services::{Postgres, RabbitMq, Redis, Services, ServicesPlan, Signal};
use crate::trial::{Farm, ProcessSpec, TOKEN, TasksyncProcess, is_leading};

/// Users per opt-in request.
const USERS_PER_IMPORT: usize = 500;
/// Number of set-up requests that run at once.
const IMPORTS_AT_ONCE: usize = 8;
/// Longest wait for a leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(90);

/// The processes of a run and their stores.
pub(crate) struct Fleet {
    /// Schedulers, or the one process of the standalone mode.
    schedulers: Vec<Arc<TasksyncProcess>>,
    workers: Vec<Arc<TasksyncProcess>>,
    services: Option<Services>,
    http: reqwest::Client,
}

/// A kill and its effects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Hit {
    /// The kind of victim.
    pub(crate) what: Victim,
    /// The method.
    pub(crate) how: Method,
    /// Name of the process or store.
    pub(crate) name: String,
    /// Seconds since the run began.
    pub(crate) at: f64,
    /// Seconds until it was ready again.
    pub(crate) back_after: Option<f64>,
    /// Seconds without a leader, if the leader was hit.
    pub(crate) failover: Option<f64>,
    /// The problem, if there was one.
    pub(crate) problem: Option<String>,
}

impl Fleet {
    /// Starts the stores and the processes, and waits until all are ready. Workers beyond `workers` are prepared but
    /// not started.
    pub(crate) async fn start(
        scenario: &Scenario,
        farm: &Farm,
        folder: &Path,
        executable: &Path,
    ) -> Result<Self, String> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(130))
            .build()
            .map_err(|error| error.to_string())?;
        let services = match scenario.mode {
            DeploymentMode::Standalone => None,
            DeploymentMode::Distributed => Some(
                Services::start(&ServicesPlan::distributed())
                    .await
                    .map_err(|error| error.to_string())?,
            ),
        };
        let stores = stores(services.as_ref(), folder)?;
        let (authority, _) = farm.write_secrets(folder)?;
        let process =
            |name: String, role: &'static str, with_api: bool| -> Result<Arc<TasksyncProcess>, String> {
                let ports = free_ports(2)?;
                let (health, api) = (
                    ports.first().copied().unwrap_or(0),
                    ports.last().copied().unwrap_or(0),
                );
                let table = settings(scenario, &stores, authority.as_deref(), health, api);
                let text = toml::to_string(&table).map_err(|error| error.to_string())?;
                let path = folder.join(format!("{name}.toml"));
                std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(Arc::new(TasksyncProcess::new(ProcessSpec {
                    log: folder.join(format!("{name}.log")),
                    name,
                    executable: executable.to_owned(),
                    role,
                    settings: path,
                    environment: vec![("TASKSYNC_TOKEN".to_owned(), TOKEN.to_owned())],
                    probed: format!("http://127.0.0.1:{health}"),
                    api: with_api.then(|| format!("http://127.0.0.1:{api}")),
                })))
            };
        let (schedulers, workers) = match scenario.mode {
            DeploymentMode::Standalone => (
                vec![process("tasksync".to_owned(), "standalone", true)?],
                Vec::new(),
            ),
            DeploymentMode::Distributed => {
                let most = scenario.steps.iter().map(|step| step.workers).max();
                let schedulers = (1..=scenario.schedulers)
                    .map(|at| process(format!("scheduler-{at}"), "scheduler", true))
                    .collect::<Result<_, _>>()?;
                let workers = (1..=most.unwrap_or(scenario.workers))
                    .map(|at| process(format!("worker-{at}"), "worker", false))
                    .collect::<Result<_, _>>()?;
                (schedulers, workers)
            }
        };
        let fleet = Self {
            schedulers,
            workers,
            services,
            http,
        };
        for process in &fleet.schedulers {
            process.launch()?;
        }
        for process in &fleet.schedulers {
            process.ready(&fleet.http).await?;
        }
        let first = scenario
            .steps
            .first()
            .map_or(scenario.workers, |step| step.workers);
        fleet.scale(first).await?;
        Ok(fleet)
    }

    /// Starts or terminates workers until `wanted` of them run.
    pub(crate) async fn scale(&self, wanted: u64) -> Result<(), String> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        for worker in self.workers.iter().skip(wanted) {
            if worker.id().is_some() {
                worker.terminate().await?;
            }
        }
        for worker in self.workers.iter().take(wanted) {
            if worker.id().is_none() {
                worker.launch()?;
            }
        }
        for worker in self.workers.iter().take(wanted) {
            worker.ready(&self.http).await?;
        }
        Ok(())
    }

    /// Returns every tasksync process.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Arc<TasksyncProcess>> {
        self.schedulers.iter().chain(&self.workers)
    }

    /// Returns the process ids of the stores' main processes, by name.
    pub(crate) fn store_pids(&self) -> Vec<(&'static str, Option<u32>)> {
        let Some(services) = &self.services else {
            return Vec::new();
        };
        vec![
            ("redis", services.redis().ok().and_then(Redis::pid)),
            ("rabbitmq", services.rabbitmq().ok().and_then(RabbitMq::pid)),
            ("postgres", services.postgres().ok().and_then(Postgres::pid)),
        ]
    }

    /// Calls the API once, at the first scheduler that answers.
    ///
    /// # Errors
    /// The last error or refusal.
    pub(crate) async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let mut last = "no scheduler runs".to_owned();
        for process in &self.schedulers {
            let (Some(api), Some(_)) = (&process.spec.api, process.id()) else {
                continue;
            };
            match self
                .ask(api, method.clone(), path, body, Duration::from_secs(130))
                .await
            {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the harness calls a service that it started"
    )]
    async fn ask(
        &self,
        api: &str,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, String> {
        let mut request = self
            .http
            .request(method.clone(), format!("{api}/api/v1{path}"))
            .timeout(patience)
            .bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| format!("{method} {path}: {error}");
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(format!("{method} {path}: {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{method} {path}: {error}"))
    }

    /// Adds every tenant and opts every user in, with several requests at once. Calls `done` with the size of each
    /// batch.
    pub(crate) async fn enrol(&self, farm: &Farm, folder: &Path, done: impl Fn(usize)) -> Result<(), String> {
        let (_, password) = farm.write_secrets(folder)?;
        let password = &password;
        let done = &done;
        let mut tenants = futures::stream::iter(&farm.population.tenants)
            .map(|tenant| async move {
                let path = format!("/tenants/{}", tenant.slug);
                let body = farm.tenant_settings(tenant, password);
                self.call(reqwest::Method::PUT, &path, Some(&body)).await?;
                for batch in imports(tenant) {
                    self.call(reqwest::Method::POST, &format!("{path}/users"), Some(&batch.1))
                        .await?;
                    done(batch.0);
                }
                Ok::<_, String>(())
            })
            .buffer_unordered(IMPORTS_AT_ONCE);
        while let Some(answer) = tenants.next().await {
            answer?;
        }
        Ok(())
    }

    /// Returns the status from the first scheduler that answers within a second.
    pub(crate) async fn status(&self) -> Option<Value> {
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(1);
            if let Ok(status) = self
                .ask(api, reqwest::Method::GET, "/status", None, patience)
                .await
            {
                return Some(status);
            }
        }
        None
    }

    /// Returns the text of a user's journal.
    pub(crate) async fn journal(&self, tenant: &str, user: &str) -> Option<String> {
        let path = format!("/tenants/{tenant}/users/{user}/journal?limit=500");
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(5);
            if let Ok(journal) = self.ask(api, reqwest::Method::GET, &path, None, patience).await {
                return Some(journal.to_string());
            }
        }
        None
    }

    /// Returns a user as the API shows them, or `None` if no scheduler answers.
    pub(crate) async fn person(&self, tenant: &str, user: &str) -> Option<Value> {
        let path = format!("/tenants/{tenant}/users/{user}");
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(5);
            if let Ok(person) = self.ask(api, reqwest::Method::GET, &path, None, patience).await {
                return Some(person);
            }
        }
        None
    }

    /// Returns the scheduler that reports itself as the leader.
    pub(crate) async fn leader(&self) -> Option<&Arc<TasksyncProcess>> {
        for process in &self.schedulers {
            let (Some(api), Some(_)) = (&process.spec.api, process.id()) else {
                continue;
            };
            let status = self
                .ask(api, reqwest::Method::GET, "/status", None, Duration::from_secs(2))
                .await;
            if status.is_ok_and(|status| is_leading(&status)) {
                return Some(process);
            }
        }
        None
    }

    /// Hits a victim, waits `down`, starts it again and reports the effects. `began` is the start of the run.
    pub(crate) async fn hit(
        &self,
        what: Victim,
        how: Method,
        turn: usize,
        down: Duration,
        began: Instant,
    ) -> Hit {
        let mut hit = Hit {
            what,
            how,
            name: String::new(),
            at: began.elapsed().as_secs_f64(),
            back_after: None,
            failover: None,
            problem: None,
        };
        let result = match what {
            Victim::Leader | Victim::Worker => self.hit_process(&mut hit, turn, down).await,
            Victim::Rabbitmq | Victim::Redis | Victim::Postgres => self.hit_store(&mut hit, down).await,
        };
        hit.problem = result.err();
        hit
    }

    async fn hit_process(&self, hit: &mut Hit, turn: usize, down: Duration) -> Result<(), String> {
        let found = match hit.what {
            Victim::Worker => self.workers.get(turn % self.workers.len().max(1)),
            // While an earlier hit is being repaired, there may be no leader for some time.
            Victim::Leader | Victim::Rabbitmq | Victim::Redis | Victim::Postgres => {
                self.wait_for_leader().await
            }
        };
        let process = Arc::clone(found.ok_or("there was no process to hit")?);
        hit.name.clone_from(&process.spec.name);
        let hit_at = monotonic();
        match hit.how {
            Method::Terminate => {
                process.terminate().await?;
            }
            Method::Pause => process.signal(Signal::Stop).await?,
            Method::Kill | Method::Wipe => process.kill().await,
        }
        let alone = self.schedulers.len() == 1;
        let recovery = async {
            tokio::time::sleep(down).await;
            if hit.how == Method::Pause {
                process.signal(Signal::Continue).await?;
            } else {
                process.launch()?;
            }
            process.ready(&self.http).await?;
            Ok::<_, String>(hit_at.elapsed().as_secs_f64())
        };
        if hit.what != Victim::Leader {
            hit.back_after = Some(recovery.await?);
            return Ok(());
        }
        // After a pause, the old leader still believes that it leads, so it is not queried. A killed leader may be
        // elected again as soon as it is back; that ends the time without a leader as well.
        let old_leader_still_claims = hit.how == Method::Pause && !alone;
        let new_leader = async {
            loop {
                let leader = self
                    .another_leader(old_leader_still_claims.then_some(&process))
                    .await;
                if leader || hit_at.elapsed() > LEADER_PATIENCE {
                    return leader.then(|| hit_at.elapsed().as_secs_f64());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (back, failover) = futures::join!(recovery, new_leader);
        hit.failover = failover;
        hit.back_after = Some(back?);
        if failover.is_none() {
            return Err(format!("no scheduler led within {} s", LEADER_PATIENCE.as_secs()));
        }
        Ok(())
    }

    async fn wait_for_leader(&self) -> Option<&Arc<TasksyncProcess>> {
        let deadline = monotonic() + LEADER_PATIENCE;
        loop {
            if let Some(leader) = self.leader().await {
                return Some(leader);
            }
            if monotonic() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns whether a scheduler other than `fallen` reports itself as the leader.
    async fn another_leader(&self, fallen: Option<&Arc<TasksyncProcess>>) -> bool {
        for process in &self.schedulers {
            if fallen.is_some_and(|fallen| Arc::ptr_eq(fallen, process)) || process.id().is_none() {
                continue;
            }
            let Some(api) = &process.spec.api else { continue };
            let status = self
                .ask(api, reqwest::Method::GET, "/status", None, Duration::from_secs(2))
                .await;
            if status.is_ok_and(|status| is_leading(&status)) {
                return true;
            }
        }
        false
    }

    async fn hit_store(&self, hit: &mut Hit, down: Duration) -> Result<(), String> {
        let services = self.services.as_ref().ok_or("there are no stores")?;
        hit.name = format!("{:?}", hit.what).to_lowercase();
        let struck = monotonic();
        // The servers have three types with the same methods.
        macro_rules! strike {
            ($server:expr) => {{
                let server = $server.map_err(|error| error.to_string())?;
                if hit.how == Method::Pause {
                    server.pause();
                    tokio::time::sleep(down).await;
                    server.resume();
                } else {
                    server.kill();
                    tokio::time::sleep(down).await;
                    if hit.how == Method::Wipe {
                        server.wipe().await.map_err(|error| error.to_string())?;
                    } else {
                        server.restart().await.map_err(|error| error.to_string())?;
                    }
                }
            }};
        }
        match hit.what {
            Victim::Redis => strike!(services.redis()),
            Victim::Rabbitmq => strike!(services.rabbitmq()),
            Victim::Postgres | Victim::Leader | Victim::Worker => strike!(services.postgres()),
        }
        hit.back_after = Some(struck.elapsed().as_secs_f64());
        Ok(())
    }

    /// Terminates every process. Returns names and exit codes of those that ran.
    pub(crate) async fn stop(&self) -> Vec<(String, Option<i32>)> {
        // Workers end first, as under an operator: they give their jobs back, and the leader depends on no other
        // process.
        let mut ends = Vec::new();
        let workers = self.workers.iter().filter(|worker| worker.id().is_some());
        let ending = workers
            .map(|worker| async move { (worker.spec.name.clone(), worker.terminate().await.ok().flatten()) });
        ends.extend(futures::future::join_all(ending).await);
        for scheduler in self
            .schedulers
            .iter()
            .filter(|scheduler| scheduler.id().is_some())
        {
            ends.push((
                scheduler.spec.name.clone(),
                scheduler.terminate().await.ok().flatten(),
            ));
        }
        ends
    }

    /// Returns how often each error code occurs in the logs of all processes. This shows how tasksync reacted.
    pub(crate) fn codes(&self) -> BTreeMap<String, u64> {
        let mut codes = BTreeMap::new();
        for process in self.processes() {
            // A log that cannot be read counts as empty.
            let text = std::fs::read(&process.spec.log).unwrap_or_default();
            for code in codes_in(&String::from_utf8_lossy(&text)) {
                *codes.entry(code.to_owned()).or_default() += 1;
            }
        }
        codes
    }

    /// Returns the last lines of all logs, for a run that failed.
    pub(crate) fn log_tails(&self, lines: usize) -> String {
        self.processes()
            .map(|process| format!("--- {}\n{}\n", process.spec.name, process.log_tail(lines)))
            .collect::<Vec<_>>()
            .concat()
    }
}

/// Returns the error codes in a log.
fn codes_in(log: &str) -> impl Iterator<Item = &str> {
    log.split(" code=").skip(1).filter_map(|rest| {
        let code = rest.split_ascii_whitespace().next()?;
        let plain = code.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        plain.then_some(code)
    })
}

/// Returns the bodies of the requests that opt in a tenant's users, each with the number of its users.
fn imports(tenant: &Tenant) -> impl Iterator<Item = (usize, Value)> {
    tenant.people.chunks(USERS_PER_IMPORT).map(|people| {
        let users: Vec<Value> = people
            .iter()
            .map(|person| {
                json!({
                    "user": Farm::user_name(person),
                    "source_login": person.login,
                    "mailbox": person.smtp,
                    "time_zone": person.time_zone,
                })
            })
            .collect();
        (people.len(), json!({ "users": users }))
    })
}

/// Returns `count` different free ports on loopback.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let failed = |error: std::io::Error| format!("no free port: {error}");
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    listeners
        .iter()
        .map(|listener| {
            listener
                .local_addr()
                .map(|address| address.port())
                .map_err(failed)
        })
        .collect()
}

/// Returns the executable to run: the given one, or the one beside this program.
pub(crate) fn executable(given: Option<&Path>) -> Result<PathBuf, String> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map_err(|error| error.to_string())?
            .with_file_name("tasksync"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "there is no executable {}; name it with --tasksync",
            path.display()
        ))
    }
}
