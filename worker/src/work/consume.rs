//! Taking jobs. A permit is acquired before a message is taken; consumers that end are opened again; every
//! delivery is settled at the end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::Nudge;
use tasksync_common::metrics::record;
use tasksync_common::queue::{Consumer, Delivery, JobQueue, QueueName, SyncJob};
use tasksync_common::registry::Registry;
use tasksync_common::schedule::gather::Size;
use tasksync_common::schedule::{Held, Renewed, Schedule, StampSaver};
use tasksync_common::stores::Stores;
use tasksync_common::telemetry::spans;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::UserSync;
use super::batch::{self, Batch, Tools};
use super::consumers::{Consumers, Lane};
use super::limits::{BEAT, CONSUME, LONGEST_CONSUMER_PAUSE, SERIAL_AFTER, SETTLE, WorkLimits, pause};
use super::metrics::WorkMetrics;
use super::presence::Presence;
use super::report::{Reporter, patiently};

/// What the worker's loop uses.
pub struct Worker<S: UserSync> {
    /// The schedule.
    pub schedule: Arc<dyn Schedule>,
    /// The queue of jobs.
    pub queue: Arc<dyn JobQueue>,
    /// Where alerts and disabled users are recorded.
    pub registry: Arc<dyn Registry>,
    /// The clock.
    pub clock: SharedClock,
    /// Collects order stamps for the registry; its own task saves them.
    pub stamps: Arc<StampSaver>,
    /// The sync of a user.
    pub sync: Arc<S>,
    /// The limits.
    pub limits: WorkLimits,
    /// The counters.
    pub metrics: Arc<WorkMetrics>,
    /// The worker's place in the fleet. The process's heartbeat reports it.
    pub presence: Arc<Presence>,
    /// The state of the consumers, for readiness.
    pub consumers: Arc<Consumers>,
}

impl<S: UserSync> Worker<S> {
    /// Returns a worker over these stores, with its own place in the fleet and its own consumers. All counts
    /// go to `metrics`. The heartbeat that `nudge` wakes must carry the worker's [`Self::presence`].
    #[must_use]
    pub fn new(
        stores: Stores,
        stamps: Arc<StampSaver>,
        sync: Arc<S>,
        limits: WorkLimits,
        metrics: Arc<WorkMetrics>,
        nudge: Arc<Nudge>,
    ) -> Self {
        Self {
            presence: Presence::new(&limits, Arc::clone(&metrics), stores.fleet, nudge),
            consumers: Arc::new(Consumers::new(&limits)),
            schedule: stores.schedule,
            queue: stores.queue,
            registry: stores.registry,
            clock: stores.clock,
            stamps,
            sync,
            limits,
            metrics,
        }
    }
}

struct Shared<S: UserSync> {
    worker: Worker<S>,
}

/// Takes jobs and works on them until `stop` is cancelled. Then it takes no new job, lets running users end
/// within the drain time, gives the others back, and returns when every delivery is settled.
///
/// Never fails: an unreachable store or queue is tried again with growing pauses. If the future is dropped
/// instead of stopped, running users are dropped too, their jobs are delivered again and their claims expire.
pub async fn run<S: UserSync>(worker: Worker<S>, stop: CancellationToken) {
    let background = worker.limits.batches_at_once;
    let interactive = worker.limits.interactive_batches_at_once;
    let presence = Arc::clone(&worker.presence);
    let shared = Arc::new(Shared { worker });
    presence.set_takes(true);
    let closing = async {
        stop.cancelled().await;
        presence.set_takes(false);
    };
    tokio::join!(
        closing,
        consume(&shared, QueueName::Background, background, &stop),
        consume(&shared, QueueName::Interactive, interactive, &stop),
    );
}

/// Why taking from a consumer ended.
enum Left {
    Stopped,
    /// The consumer ended; `true` if it had delivered something.
    Ended(bool),
}

async fn consume<S: UserSync>(
    shared: &Arc<Shared<S>>,
    queue: QueueName,
    permits: usize,
    stop: &CancellationToken,
) {
    let lane = shared.worker.consumers.lane(queue);
    let free = Arc::new(Semaphore::new(permits));
    let mut batches = JoinSet::new();
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        lane.beat();
        let opened = timeout(CONSUME, shared.worker.queue.consume(queue, permits));
        let opened = match stop.run_until_cancelled(opened).await {
            None => break,
            Some(opened) => opened.unwrap_or_else(|_| Err(silent(queue))),
        };
        match opened {
            Err(failure) => {
                lane.failed(failure);
                failures = failures.saturating_add(1);
            }
            Ok(consumer) => {
                lane.opened();
                let since = Instant::now();
                match take(shared, queue, consumer, &free, &mut batches, stop).await {
                    Left::Stopped => break,
                    Left::Ended(delivered) => {
                        shared.worker.metrics.consumers_reopened.add_one();
                        lane.ended();
                        let worked = delivered || since.elapsed() >= LONGEST_CONSUMER_PAUSE;
                        failures = if worked { 1 } else { failures.saturating_add(1) };
                    }
                }
            }
        }
        // A consumer that ends at once must not make a busy loop, so the first pause comes before the first
        // retry.
        let wait = pause(failures.saturating_sub(1), LONGEST_CONSUMER_PAUSE);
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            break;
        }
    }
    lane.rest();
    while let Some(ended) = batches.join_next().await {
        log_defect(ended);
    }
}

fn silent(queue: QueueName) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueUnavailable,
        format!(
            "the consumer of the {} queue did not open within {} s",
            queue.name(),
            CONSUME.as_secs()
        ),
    )
}

/// Returns the consumer's next delivery. The loop beats while it waits.
async fn next_delivery(consumer: &mut dyn Consumer, lane: &Lane) -> Option<Box<dyn Delivery>> {
    let mut next = pin!(consumer.next());
    loop {
        lane.beat();
        tokio::select! {
            biased;
            delivery = &mut next => return delivery,
            () = sleep(BEAT) => {}
        }
    }
}

async fn take<S: UserSync>(
    shared: &Arc<Shared<S>>,
    queue: QueueName,
    mut consumer: Box<dyn Consumer>,
    free: &Arc<Semaphore>,
    batches: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Left {
    let lane = shared.worker.consumers.lane(queue);
    let mut delivered = false;
    loop {
        // No beat while waiting for a permit: if no batch ever ends, the process is stuck and must count as
        // such.
        let permit = Arc::clone(free).acquire_owned();
        let Some(Ok(permit)) = stop.run_until_cancelled(permit).await else {
            return Left::Stopped;
        };
        // A delivery that arrives together with the stop is dropped unsettled inside the consumer, and the
        // broker delivers it again.
        let next = next_delivery(consumer.as_mut(), lane);
        let Some(delivery) = stop.run_until_cancelled(next).await else {
            return Left::Stopped;
        };
        while let Some(ended) = batches.try_join_next() {
            log_defect(ended);
        }
        let Some(delivery) = delivery else {
            return Left::Ended(delivered);
        };
        delivered = true;
        let shared = Arc::clone(shared);
        let stop = stop.clone();
        let span = job_span(queue, delivery.as_ref());
        let deliver = async move { shared.deliver(queue, delivery, &stop, permit).await };
        batches.spawn(deliver.instrument(span));
    }
}

/// Returns the span of a job: part of the trace in which the job was published, and linked to it.
fn job_span(queue: QueueName, delivery: &dyn Delivery) -> tracing::Span {
    let job = delivery.job().as_ref().ok();
    let span = tracing::info_span!(
        target: spans::TARGET,
        parent: None,
        "job",
        otel.name = format!("process {}", queue.name()),
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
        messaging.operation.type = "process",
        messaging.destination.name = queue.name(),
        messaging.message.id = job.map(|job| tracing::field::display(job.id)),
        tasksync.tenant = job.map(|job| tracing::field::display(&job.tenant)),
        tasksync.users = job.map(|job| spans::number(job.users.len())),
        tasksync.redelivered = i64::from(delivery.redelivered()),
    );
    spans::continue_from(&span, delivery.trace());
    span
}

fn log_defect(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        // The delivery was dropped unsettled with the task, so the job is delivered again.
        tracing::error!(%error, "a batch panicked");
    }
}

/// How a delivery is settled.
enum Settle {
    Acknowledge,
    Reject(String),
    Requeue,
}

impl<S: UserSync> Shared<S> {
    /// Works on one delivery and settles it. The permit is released afterwards.
    async fn deliver(
        &self,
        queue: QueueName,
        delivery: Box<dyn Delivery>,
        stop: &CancellationToken,
        _permit: OwnedSemaphorePermit,
    ) {
        let metrics = &self.worker.metrics;
        let began = std::time::Instant::now();
        metrics.batches.add_one();
        metrics.batches_running.add_one();
        let _running = Gauge(metrics);
        if delivery.redelivered() > 0 {
            metrics.batches_redelivered.add_one();
        }
        let job = delivery.job().clone();
        let settle = match job {
            Err(error) => {
                metrics.batches_unreadable.add_one();
                tracing::error!(?queue, %error, "a job cannot be read and goes to the dead letters");
                spans::failed(&tracing::Span::current(), "unreadable");
                Settle::Reject(error.to_string())
            }
            Ok(job) => {
                let serial = delivery.redelivered() >= SERIAL_AFTER;
                if serial {
                    metrics.batches_serial.add_one();
                    tracing::warn!(tenant = %job.tenant, job = %job.id, redelivered = delivery.redelivered(), "a job was delivered too often and is worked on one user at a time");
                }
                match self.work(queue, job, serial, stop).await {
                    Ok(()) => {
                        metrics.batches_done.add_one();
                        Settle::Acknowledge
                    }
                    Err(failure) => {
                        metrics.batches_requeued.add_one();
                        tracing::warn!(?queue, %failure, "a job is given back to the queue");
                        spans::failed(&tracing::Span::current(), failure.code.as_str());
                        Settle::Requeue
                    }
                }
            }
        };
        metrics.circuits_open.set(self.worker.presence.circuits.open());
        let settled = timeout(SETTLE, async {
            match settle {
                Settle::Acknowledge => delivery.acknowledge().await,
                Settle::Reject(reason) => delivery.reject(&reason).await,
                Settle::Requeue => delivery.requeue().await,
            }
        });
        match settled.await {
            Ok(Ok(())) => {}
            // An unsettled delivery comes again; its users' claims are finished by then, so nothing is done
            // twice.
            Ok(Err(failure)) => tracing::debug!(?queue, %failure, "a delivery could not be settled"),
            Err(_) => tracing::debug!(?queue, "a delivery was not settled in time"),
        }
        record::job(began.elapsed());
    }

    async fn work(
        &self,
        queue: QueueName,
        job: SyncJob,
        serial: bool,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let worker = &self.worker;
        let limits = &worker.limits;
        let presence = &worker.presence;
        let _running = presence.begin(queue, &job.tenant);
        let patience = Instant::now() + limits.batch_budget;
        let renewed = patiently(patience, stop, || async {
            let began = Instant::now();
            let renewal = worker
                .schedule
                .renew(&job.tenant, job.token, &job.users, limits.claim_lifetime);
            renewal.await.map(|renewed| (began, renewed))
        });
        // A stopping process does not wait for a schedule that does not answer.
        let (started, Renewed { held, tenant_users }) = match stop.run_until_cancelled(renewed).await {
            Some(renewed) => renewed?,
            None => {
                let release = worker.schedule.release(&job.tenant, job.token, &job.users);
                return timeout(SETTLE, release)
                    .await
                    .map_or(Ok(()), |released| released.map(drop));
            }
        };
        let mut histories: HashMap<_, _> = held
            .into_iter()
            .map(|Held { user, history }| (user, history))
            .collect();
        let mut seen = std::collections::HashSet::new();
        let (users, lost): (Vec<_>, Vec<_>) = job
            .users
            .iter()
            .filter(|user| seen.insert((*user).clone()))
            .cloned()
            .partition(|user| histories.contains_key(user));
        histories.retain(|user, _| seen.contains(user));
        if !lost.is_empty() {
            worker
                .metrics
                .claims_lost
                .add(u64::try_from(lost.len()).unwrap_or(u64::MAX));
            tracing::debug!(tenant = %job.tenant, token = job.token.0, lost = lost.len(), "claims were gone when the batch started");
        }
        if users.is_empty() {
            return Ok(());
        }
        let urgent = queue == QueueName::Interactive;
        let batch = Batch {
            permission: presence.ask(&job.tenant, urgent, started).await,
            tenant: job.tenant.clone(),
            serial,
            started,
            users,
        };
        let (ended, reported) = mpsc::channel(batch.users.len());
        let reporter = Reporter {
            schedule: worker.schedule.as_ref(),
            registry: worker.registry.as_ref(),
            clock: worker.clock.as_ref(),
            stamps: &worker.stamps,
            limits,
            metrics: &worker.metrics,
            presence,
            tenant: &job.tenant,
            size: Size {
                users: tenant_users,
                users_per_batch: limits.users_per_batch,
            },
            token: job.token,
            histories,
            serial,
            until: started + limits.claim_lifetime,
            stop,
        };
        let tools = Tools {
            sync: &worker.sync,
            limits,
            metrics: &worker.metrics,
            presence,
        };
        let ((), reported) = tokio::join!(batch::work(tools, batch, stop, ended), reporter.report(reported));
        reported
    }
}

struct Gauge<'a>(&'a WorkMetrics);

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.batches_running.take_one();
    }
}
