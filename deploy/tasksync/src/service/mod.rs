//! The roles that run until they are stopped. All share one composition: the scheduler's part, the worker's part or
//! both, over the stores that the settings name.

mod combination;
mod health;
mod identity;
mod lock;
mod place;
mod scheduler;
mod startup_settings;
mod stores;
mod wiring;
mod worker;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tasksync_common::clock::{SharedClock, SystemClock};
use tasksync_common::fleet::{Agreement, Fleet, FleetParticipant, Heartbeat, Member, Nudge, open_fleet};
use tasksync_common::health::Health;
use tasksync_common::lifecycle::Lifecycle;
use tasksync_common::metrics::Metrics;
use tasksync_common::registry::{Occupancy, Registry, RegistrySharing};
use tasksync_common::settings::{LogFormat, Settings, WorkerSettings, variable_of};
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_common::telemetry;
use tasksync_scheduler::Door;
use tasksync_scheduler::api::{self, ApiToken, StartupGate};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use combination::ServiceRole;
pub(crate) use health::{ask_local, find_local, probe, reachable};
pub(crate) use place::LonePlace;
pub(crate) use startup_settings::{NamedFiles, load_settings};

use crate::exit::{CommandEnd, CommandError};
use crate::token;

/// Time that requests to the API and probes have to finish after everything else has ended.
const API_DRAIN: Duration = Duration::from_secs(2);
/// Time until a process notices that an operator replaced the installation's id, and between two attempts to read it
/// for the first time.
const INSTALLATION_RECHECK: Duration = Duration::from_mins(1);
const INSTALLATION_RETRY: Duration = Duration::from_secs(1);
/// Time for the last stamps to reach the registry.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Time for the last metrics and traces to be sent. It is part of the second reserved for reporting how the process
/// ended.
const LAST_EXPORT: Duration = Duration::from_millis(900);

/// One process, before its parts run and while they do.
struct RoleProcess {
    role: ServiceRole,
    store_sharing: RegistrySharing,
    /// Unique per process and start.
    name: String,
    settings: Arc<Settings>,
    clock: SharedClock,
    lifecycle: Lifecycle,
    health: Health,
    metrics: Metrics,
}

/// Runs a role until a signal ends it. With `json` it logs as JSON, whatever the settings say.
///
/// # Errors
/// What keeps the role from starting, in one line. A shared store that does not answer is retried, and is no error.
pub(crate) async fn run(
    role: ServiceRole,
    config: Option<&Path>,
    json: bool,
) -> Result<CommandEnd, CommandError> {
    let loaded = load_settings(Some(role), config, NamedFiles::Here)?;
    let mut settings = loaded.settings;
    if json {
        settings.log.format = LogFormat::Json;
    }
    let store_sharing = combination::check(role, &settings)?;
    let telemetry = telemetry::init(&settings.log, &settings.telemetry, role.name())
        .map_err(|error| CommandError::settings(error.to_string()))?;
    for warning in loaded.warnings.into_iter().chain(token::file_warning()) {
        tracing::warn!("{warning}");
    }
    let ended = run_with_telemetry(role, store_sharing, settings, telemetry.metrics().clone()).await;
    telemetry.shut_down(LAST_EXPORT).await;
    ended
}

/// Runs a role after logs, metrics and traces are set up.
async fn run_with_telemetry(
    role: ServiceRole,
    store_sharing: RegistrySharing,
    settings: Settings,
    metrics: Metrics,
) -> Result<CommandEnd, CommandError> {
    let token = operator_token(role)?;
    let lifecycle = Lifecycle::new();
    let signals = lifecycle
        .watch_signals(hard_stop_after(&settings.worker))
        .map_err(|error| {
            CommandError::settings(format!("no handler for signals can be installed: {error}"))
        })?;
    let signals = spawn(signals);
    let process = RoleProcess {
        role,
        store_sharing,
        name: identity::name(role),
        settings: Arc::new(settings),
        clock: Arc::new(SystemClock),
        health: Health::new(lifecycle.soft().clone()),
        lifecycle,
        metrics,
    };
    let ended = Box::pin(process.run(token)).await;
    signals.abort();
    ended
}

/// Returns the API's token, if the role has an API.
fn operator_token(role: ServiceRole) -> Result<Option<ApiToken>, CommandError> {
    if !role.schedules() {
        return Ok(None);
    }
    let token = token::read()?;
    if token.is_none() {
        tracing::warn!(
            "no operator token: the API is closed until TASKSYNC_TOKEN or TASKSYNC_TOKEN_FILE is set"
        );
    }
    Ok(token)
}

impl RoleProcess {
    async fn run(self, token: Option<ApiToken>) -> Result<CommandEnd, CommandError> {
        let settings = &self.settings;
        stores::announce(self.role, &self.health);
        // Held until the end: a registry in a file belongs to this process alone.
        let _lock = lock::take(&settings.registry.url)?;
        let fleet = open_fleet(&settings.schedule, Arc::clone(&self.clock))
            .map_err(|failure| CommandError::settings(format!("cannot start: {failure}")))?;
        let nudge: Arc<Nudge> = Arc::default();
        let clients = wiring::connector(settings, &self.clock, &*fleet, &nudge)?;
        // Probes and API stop only after the work has ended: they are needed most while it drains.
        let work_ended = CancellationToken::new();
        let over = work_ended.clone().drop_guard();
        let probe_listener = self.listen("health.listen", settings.health.listen).await?;
        let probe_address = address(&probe_listener, settings.health.listen);
        let gate = StartupGate::default();
        let api = self.open_api().await?;
        let serving_probes = self.serve(
            probe_listener,
            health::router(self.health.clone(), api::metrics_router(self.metrics.clone())),
            Door::of_probes(),
            &work_ended,
        );
        let (listen, serving_api) = match api {
            Some((listen, listener, door)) => {
                let served = self.serve(listener, gate.router(self.health.clone()), door, &work_ended);
                (Some(listen), Some(served))
            }
            None => (None, None),
        };
        tracing::info!(role = self.role.name(), name = self.name, health = %probe_address, "tasksync starts");
        let Some((stores, occupancy)) = Box::pin(stores::open(&self, self.store_sharing, &fleet)).await?
        else {
            // The process was stopped before the stores were open.
            return Ok(self
                .wait_for_end(over, [serving_api, Some(serving_probes), None, None])
                .await);
        };
        let registry = Arc::clone(&stores.registry);
        self.metrics.observe_queue(&stores.queue);
        let _labelling = spawn(label_metrics(self.metrics.clone(), Arc::clone(&stores.registry)));
        self.health.add_store_probes(
            Arc::clone(&stores.registry),
            Arc::clone(&stores.schedule),
            Arc::clone(&stores.queue),
        );
        let agreement = self.agreement(&*stores.registry, token.as_ref()).await;
        let connected = wiring::connect(&clients.connector, settings, &stores.registry, &self.clock);
        let scheduler = self
            .role
            .schedules()
            .then(|| scheduler::prepare(&self, &stores, connected.checks, token, &gate));
        let worker = self
            .role
            .works()
            .then(|| worker::prepare(&self, &stores, connected.sync, &nudge));
        let mut parts = vec![clients.limits];
        parts.extend(
            scheduler
                .as_ref()
                .map(tasksync_scheduler::Scheduler::heartbeat_part),
        );
        parts.extend(
            worker
                .as_ref()
                .map(|worker| Arc::clone(&worker.fleet_member) as Arc<dyn FleetParticipant>),
        );
        let beating = self.beat(agreement, fleet, parts, nudge, &work_ended);
        let saving = worker.as_ref().map(|worker| {
            let (saver, work_ended) = (Arc::clone(&worker.stamps), work_ended.clone());
            self.spawn_vital(async move { saver.run(worker::STAMP_INTERVAL, work_ended).await })
        });
        let listen = listen.map(tracing::field::display);
        tracing::info!(role = self.role.name(), name = self.name, listen, health = %probe_address, "tasksync runs");
        let soft = self.lifecycle.soft();
        let scheduling = async {
            if let Some(scheduler) = &scheduler {
                scheduler.run(soft.clone()).await;
            }
        };
        let working = async {
            if let Some(worker) = worker {
                let working = spawn(tasksync_worker::work::run(worker, soft.clone()));
                self.part_ended(working, "worker").await;
            }
        };
        let kept = keep(occupancy, &self.lifecycle);
        let work = async { tokio::join!(scheduling, working, self.linger()) };
        let work = async {
            tokio::select! {
                _ = work => {}
                never = kept => match never {},
            }
        };
        self.lifecycle.hard().run_until_cancelled(Box::pin(work)).await;
        let ended = self
            .wait_for_end(over, [saving, serving_api, Some(serving_probes), Some(beating)])
            .await;
        complete_file(&*registry).await;
        Ok(ended)
    }

    /// Waits until the process begins to end, and then for the time in which load balancers notice it. Ends at once in
    /// a role without an API.
    async fn linger(&self) {
        if self.role.schedules() {
            self.lifecycle.soft().cancelled().await;
            tokio::time::sleep(self.settings.api.linger).await;
        }
    }

    /// Opens the API's listener, if the role has an API. Returns its address, the listener and its limits.
    async fn open_api(&self) -> Result<Option<(SocketAddr, TcpListener, Door)>, CommandError> {
        if !self.role.schedules() {
            return Ok(None);
        }
        let settings = &self.settings.api;
        let listener = self.listen("api.listen", settings.listen).await?;
        let door = Door::of_api(settings)
            .map_err(|error| CommandError::settings(format!("api.trusted_proxies: {error}")))?;
        Ok(Some((address(&listener, settings.listen), listener, door)))
    }

    /// Returns the digests of what the processes of one fleet must agree on; none if the registry does not answer now.
    async fn agreement(&self, registry: &dyn Registry, token: Option<&ApiToken>) -> Agreement {
        match registry.installation().await {
            Ok(installation) => {
                let token = token.map(ApiToken::header_value);
                Agreement::of(installation, &self.settings, token.as_deref().map(str::as_bytes))
            }
            Err(failure) => {
                tracing::warn!(%failure, "this process does not report its settings to the others");
                Agreement::default()
            }
        }
    }

    async fn listen(&self, setting: &str, address: SocketAddr) -> Result<TcpListener, CommandError> {
        TcpListener::bind(address).await.map_err(|error| {
            CommandError::settings(if error.kind() == std::io::ErrorKind::AddrInUse {
                format!(
                    "{setting} {address} is in use by another program; stop that program, or set another port ({setting} or {})",
                    variable_of(setting)
                )
            } else {
                format!("{setting} {address} cannot be opened: {error}")
            })
        })
    }

    /// Keeps the process in the fleet until the work has ended.
    fn beat(
        &self,
        agreement: Agreement,
        fleet: Arc<dyn Fleet>,
        parts: Vec<Arc<dyn FleetParticipant>>,
        nudge: Arc<Nudge>,
        work_ended: &CancellationToken,
    ) -> AbortOnDropHandle<()> {
        let heartbeat = Heartbeat {
            fleet,
            member: Member {
                agreement,
                ..Member::new(self.name.clone(), self.role.fleet_role(), self.clock.now())
            },
            clock: Arc::clone(&self.clock),
            participants: parts,
            interval: self.settings.schedule.heartbeat_interval,
            lifetime: self.settings.schedule.heartbeat_lifetime,
            nudge,
        };
        let work_ended = work_ended.clone();
        self.spawn_vital(async move { heartbeat.run(work_ended).await })
    }

    fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        door: Door,
        work_ended: &CancellationToken,
    ) -> AbortOnDropHandle<()> {
        let work_ended = work_ended.clone();
        self.spawn_vital(async move { api::serve(listener, router, door, work_ended, API_DRAIN).await })
    }

    /// Starts a part that the others cannot do without. If it panics, the guard starts the end of the process.
    fn spawn_vital(&self, part: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
        let guard = self.lifecycle.soft().clone().drop_guard();
        spawn(async move {
            let _guard = guard;
            part.await;
        })
    }

    /// Waits for a part. If it panicked, the exit code says so.
    async fn part_ended(&self, part: AbortOnDropHandle<()>, name: &str) {
        if let Err(error) = part.await {
            tracing::error!(part = name, %error, "a part of the process panicked");
            self.lifecycle.fail();
        }
    }

    /// Ends the parts that outlive the work. Dropping `over` stops them.
    async fn wait_for_end(&self, over: DropGuard, parts: [Option<AbortOnDropHandle<()>>; 4]) -> CommandEnd {
        drop(over);
        let last = async {
            for part in parts.into_iter().flatten() {
                self.part_ended(part, "stamps, API, probes or heartbeat").await;
            }
        };
        if tokio::time::timeout(API_DRAIN + LAST_FLUSH, last).await.is_err() {
            tracing::warn!("the last stamps or answers were not finished in time");
        }
        let code = self.lifecycle.exit_code();
        tracing::info!(code, "tasksync ended");
        CommandEnd::Role(code)
    }
}

/// Labels all metrics with the installation's id, now and after an operator replaced it. Runs until it is dropped.
async fn label_metrics(metrics: Metrics, registry: Arc<dyn Registry>) {
    loop {
        let wait = match registry.installation().await {
            Ok(id) => {
                metrics.set_installation(id);
                INSTALLATION_RECHECK
            }
            // The probes of the stores report it.
            Err(_) => INSTALLATION_RETRY,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Keeps this process's place on the registry until the work has ended. If another process took it, this one ends:
/// two schedules would send the same users twice.
async fn keep(occupancy: Option<Occupancy>, lifecycle: &Lifecycle) -> Infallible {
    if let Some(mut occupancy) = occupancy {
        let failure = occupancy.keep().await;
        tracing::error!(%failure, action = failure.code.action(), "another process took the registry; this one ends");
        lifecycle.fail();
    }
    std::future::pending().await
}

/// Writes the log of an SQLite registry into its file. The last thing that a process does with the registry.
async fn complete_file(registry: &dyn Registry) {
    if let Err(failure) = registry.checkpoint().await {
        tracing::warn!(%failure, "the registry's log was not written into its file; a copy of the file needs its -wal file, too");
    }
}

/// Returns the address that was opened: port 0 in the settings takes a free port.
fn address(listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}

/// Returns the time from the first signal until running work is cut off. It is longer than the worker's own drain,
/// and leaves enough time to log and save before the platform kills the process.
fn hard_stop_after(worker: &WorkerSettings) -> Duration {
    let spare = worker.grace_period.saturating_sub(worker.drain);
    worker
        .grace_period
        .saturating_sub((spare / 2).min(API_DRAIN + LAST_FLUSH + Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cut_after_its_drain_and_before_the_platform_kills() {
        let worker = WorkerSettings::default();
        assert_eq!(hard_stop_after(&worker), Duration::from_secs(70));
        let tight = WorkerSettings {
            drain: Duration::from_secs(50),
            grace_period: Duration::from_secs(51),
            ..worker
        };
        assert!(hard_stop_after(&tight) > tight.drain && hard_stop_after(&tight) < tight.grace_period);
    }
}
