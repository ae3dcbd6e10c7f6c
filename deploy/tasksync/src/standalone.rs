//! `tasksync standalone`: scheduler, worker and API in one process, with the registry in one SQLite file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tasksync_common::clock::{SharedClock, SystemClock};
use tasksync_common::error::Failure;
use tasksync_common::lifecycle::Lifecycle;
use tasksync_common::metrics::Metrics;
use tasksync_common::queue::open_queue;
use tasksync_common::registry::open_registry;
use tasksync_common::schedule::{StampSaver, open_schedule, rebuild};
use tasksync_common::settings::{Settings, WorkerSettings};
use tasksync_common::{settings, telemetry};
use tasksync_scheduler::{DispatchLimits, Parts, Scheduler, Stores, api};
use tasksync_worker::work::{self, UserSync, WorkLimits, Worker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::exit::{End, Stop};
use crate::wiring::{self, Connected};
use crate::{lock, token};

/// Stamps are saved this often; a crash costs one early sync of the users finished since.
const STAMP_INTERVAL: Duration = Duration::from_secs(10);
/// Stamps that make an early save, and most stamps that wait.
const STAMP_BATCH: usize = 1_000;
const STAMPS_WAITING: usize = 100_000;
/// Requests of the API have this long to end after everything else has ended.
const API_DRAIN: Duration = Duration::from_secs(2);
/// The last metrics and traces have this long to be sent; part of the second kept for saying how it ended.
const LAST_EXPORT: Duration = Duration::from_millis(900);
/// The last stamps have this long to reach the registry.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Runs until a signal ends it.
///
/// # Errors
/// What keeps it from starting, in one line.
pub(crate) async fn run(config: Option<&Path>) -> Result<End, Stop> {
    let settings =
        settings::load(config, token::environment()).map_err(|error| Stop::settings(error.to_string()))?;
    let telemetry = telemetry::init(&settings.log, &settings.telemetry, "standalone")
        .map_err(|error| Stop::settings(error.to_string()))?;
    let ended = serve(Arc::new(settings), telemetry.metrics()).await;
    telemetry.shut_down(LAST_EXPORT).await;
    ended
}

async fn serve(settings: Arc<Settings>, metrics: &Metrics) -> Result<End, Stop> {
    let token = token::read()?;
    if token.is_none() {
        tracing::warn!(
            "no operator token: the API is closed until TASKSYNC_TOKEN or TASKSYNC_TOKEN_FILE is set"
        );
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let lifecycle = Lifecycle::new();
    let signals = lifecycle
        .watch_signals(until_cut(&settings.worker))
        .map_err(|error| Stop::settings(format!("signals cannot be listened for: {error}")))?;
    let signals = tokio::spawn(signals);
    // Held to the end: the registry is this process's alone.
    let _lock = lock::take(&settings.registry.url)?;
    let registry = open_registry(&settings.registry)
        .await
        .map_err(|failure| start(&failure))?;
    registry
        .check_writable()
        .await
        .map_err(|failure| start(&failure))?;
    let listener = listen(&settings).await?;
    let order = open_schedule(&settings.schedule, Arc::clone(&clock))
        .await
        .map_err(|failure| start(&failure))?;
    let rebuilt = rebuild::rebuild(&*registry, &*order)
        .await
        .map_err(|failure| start(&failure))?;
    tracing::info!(
        tenants = rebuilt.tenants,
        users = rebuilt.added,
        "the order of work was rebuilt from the registry"
    );
    let saver = Arc::new(StampSaver::new(
        Arc::clone(&registry),
        STAMP_BATCH,
        STAMPS_WAITING,
    ));
    let stores = Stores {
        schedule: order,
        queue: open_queue(&settings.queue, settings.schedule.claim_lifetime)
            .await
            .map_err(|failure| start(&failure))?,
        registry,
        clock,
    };
    let connected = wiring::connect(&settings, &stores.registry, &stores.clock)?;
    let service = Service {
        settings,
        stores,
        connected,
        token,
        saver,
        lifecycle,
        metrics: metrics.clone(),
    };
    let code = service.run(listener).await;
    signals.abort();
    Ok(End::Role(code))
}

/// Everything that runs.
struct Service<S: UserSync> {
    settings: Arc<Settings>,
    stores: Stores,
    connected: Connected<S>,
    token: Option<api::ApiToken>,
    saver: Arc<StampSaver>,
    lifecycle: Lifecycle,
    metrics: Metrics,
}

impl<S: UserSync> Service<S> {
    async fn run(self, listener: TcpListener) -> u8 {
        let Self {
            settings,
            stores,
            connected,
            token,
            saver,
            lifecycle,
            metrics,
        } = self;
        let scheduler = Scheduler::new(
            stores.clone(),
            DispatchLimits::of(&settings),
            format!("standalone-{}-{}", std::process::id(), Uuid::now_v7()),
            Arc::default(),
        );
        let parts = Parts {
            registry: Arc::clone(&stores.registry),
            schedule: Arc::clone(&stores.schedule),
            queue: Arc::clone(&stores.queue),
            checks: connected.checks,
            settings: Arc::clone(&settings),
            clock: Arc::clone(&stores.clock),
            leading: scheduler.leading(),
            requests: scheduler.requests(),
            stopping: lifecycle.soft().clone(),
        };
        let router = api::router(parts, token).merge(api::metrics_router(metrics.clone()));
        let worker = Worker {
            schedule: stores.schedule,
            queue: stores.queue,
            registry: stores.registry,
            stamps: Arc::clone(&saver),
            clock: stores.clock,
            sync: connected.sync,
            limits: WorkLimits::of(&settings),
            metrics: Arc::default(),
        };
        scheduler.register(&metrics);
        metrics.observe_queue(&worker.queue);
        worker.metrics.register(&metrics);
        saver.register(&metrics);
        // The API and the saver outlive the work: status is worth most, and stamps are made, while work drains.
        let worked = CancellationToken::new();
        // As opened: port 0 in the settings takes a free one.
        let address = listener.local_addr().unwrap_or(settings.api.listen);
        // Should one of them break, the guard begins the end of the whole process.
        let serving = tokio::spawn({
            let (worked, guard) = (worked.clone(), lifecycle.soft().clone().drop_guard());
            async move {
                let _guard = guard;
                api::serve(listener, router, worked, API_DRAIN).await;
            }
        });
        let saving = tokio::spawn({
            let (worked, guard) = (worked.clone(), lifecycle.soft().clone().drop_guard());
            async move {
                let _guard = guard;
                saver.run(STAMP_INTERVAL, worked).await;
            }
        });
        tracing::info!(listen = %address, "tasksync runs");
        let soft = lifecycle.soft();
        let work = async {
            let working = tokio::spawn(work::run(worker, soft.clone()));
            tokio::join!(scheduler.run(soft.clone()), ended(working, "worker", &lifecycle));
        };
        lifecycle.hard().run_until_cancelled(work).await;
        worked.cancel();
        let last = async {
            tokio::join!(
                ended(saving, "stamps", &lifecycle),
                ended(serving, "API", &lifecycle)
            )
        };
        if tokio::time::timeout(API_DRAIN + LAST_FLUSH, last).await.is_err() {
            tracing::warn!("the last stamps or answers were not finished in time");
        }
        let code = lifecycle.exit_code();
        tracing::info!(code, "tasksync ended");
        code
    }
}

/// Waits for a part; a part that broke ends the whole process, because the others are of no use without it.
async fn ended(part: tokio::task::JoinHandle<()>, name: &str, lifecycle: &Lifecycle) {
    if let Err(error) = part.await {
        tracing::error!(part = name, %error, "a part of the process met a defect");
        lifecycle.fail();
    }
}

/// Running work is cut this long after the first signal: late enough for the worker's own drain, early enough to say so
/// and save before the platform kills the process.
fn until_cut(worker: &WorkerSettings) -> Duration {
    let spare = worker.grace_period.saturating_sub(worker.drain);
    worker
        .grace_period
        .saturating_sub((spare / 2).min(API_DRAIN + LAST_FLUSH + Duration::from_secs(1)))
}

fn start(failure: &Failure) -> Stop {
    Stop::settings(format!(
        "cannot start: {failure}. What to do: {}",
        failure.code.action()
    ))
}

async fn listen(settings: &Settings) -> Result<TcpListener, Stop> {
    let address = settings.api.listen;
    TcpListener::bind(address).await.map_err(|error| {
        Stop::settings(if error.kind() == std::io::ErrorKind::AddrInUse {
            format!(
                "api.listen {address} is in use by another program; stop that program, or set another port (api.listen or TASKSYNC_API__LISTEN)"
            )
        } else {
            format!("api.listen {address} cannot be opened: {error}")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cut_after_its_drain_and_before_the_platform_kills() {
        let worker = WorkerSettings::default();
        assert_eq!(until_cut(&worker), Duration::from_secs(70));
        let tight = WorkerSettings {
            drain: Duration::from_secs(50),
            grace_period: Duration::from_secs(51),
            ..worker
        };
        assert!(until_cut(&tight) > tight.drain && until_cut(&tight) < tight.grace_period);
    }
}
