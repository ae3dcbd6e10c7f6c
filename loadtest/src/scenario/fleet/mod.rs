//! All `tasksync` processes of a run with their stores.

mod calls;
mod hits;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

pub(crate) use self::hits::Hit;
use self::settings::{settings, stores, without_newer_sections};
use super::file::{DeploymentMode, Scenario};
use crate::population::Tenant;
use crate::services::{Postgres, RabbitMq, Redis, Services, ServicesPlan};
use crate::trial::{EarlierBuild, Farm, ProcessSpec, TOKEN, TasksyncProcess, secrets_folder};

/// Users per opt-in request.
const USERS_PER_IMPORT: usize = 500;
/// Number of set-up requests that run at once.
const IMPORTS_AT_ONCE: usize = 8;

/// The executables of a run.
#[derive(Debug, Clone)]
pub(crate) struct Builds {
    /// The build under test.
    pub(crate) this: PathBuf,
    /// The build that every process runs first, if the scenario replaces it.
    pub(crate) earlier: Option<PathBuf>,
}

/// The processes of a run and their stores.
pub(crate) struct Fleet {
    /// Schedulers, or the one process of the standalone mode.
    schedulers: Vec<Arc<TasksyncProcess>>,
    workers: Vec<Arc<TasksyncProcess>>,
    services: Option<Services>,
    http: reqwest::Client,
}

impl Fleet {
    /// Starts the stores and the processes, and waits until all are ready. Workers beyond `workers` are prepared but
    /// not started.
    pub(crate) async fn start(
        scenario: &Scenario,
        farm: &Farm,
        folder: &Path,
        builds: &Builds,
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
        let secrets = secrets_folder(folder);
        let process =
            |name: String, role: &'static str, with_api: bool| -> Result<Arc<TasksyncProcess>, String> {
                let ports = free_ports(2)?;
                let (health, api) = (
                    ports.first().copied().unwrap_or(0),
                    ports.last().copied().unwrap_or(0),
                );
                let table = settings(scenario, &stores, authority.as_deref(), &secrets, health, api);
                let path = folder.join(format!("{name}.toml"));
                write_settings(&path, &table)?;
                let earlier = match &builds.earlier {
                    None => None,
                    Some(executable) => {
                        let settings = folder.join(format!("{name}-earlier.toml"));
                        write_settings(&settings, &without_newer_sections(table))?;
                        Some(EarlierBuild {
                            executable: executable.clone(),
                            settings,
                        })
                    }
                };
                Ok(Arc::new(TasksyncProcess::new(ProcessSpec {
                    log: folder.join(format!("{name}.log")),
                    name,
                    executable: builds.this.clone(),
                    role,
                    settings: path,
                    earlier,
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

fn write_settings(path: &Path, settings: &toml::Table) -> Result<(), String> {
    let text = toml::to_string(settings).map_err(|error| error.to_string())?;
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
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
