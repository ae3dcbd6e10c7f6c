//! Taking jobs. A permit is acquired before a message is taken; consumers that end are opened again; every
//! delivery is settled at the end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use tasksync_common::clock::SharedClock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::Nudge;
use tasksync_common::metrics::record;
use tasksync_common::queue::{Consumer, Delivery, JobQueue, QueueName, SyncJob};
use tasksync_common::registry::Registry;
use tasksync_common::schedule::gather::Size;
use tasksync_common::schedule::{ClaimRenewal, RenewedUser, Schedule, StampSaver};
use tasksync_common::stores::Stores;
use tasksync_common::telemetry::spans;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::UserSync;
use super::batch::{self, Tools, UserBatch};
use super::consumer_health::{ConsumerState, Consumers};
use super::fleet_member::FleetMember;
use super::limits::{BEAT, CONSUME, LONGEST_CONSUMER_PAUSE, SERIAL_AFTER, SETTLE, WorkLimits, pause};
use super::metrics::WorkMetrics;
use super::report::{Reporter, retry_until};

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
    pub fleet_member: Arc<FleetMember>,
    /// The state of the consumers, for readiness.
    pub consumers: Arc<Consumers>,
}

impl<S: UserSync> Worker<S> {
    /// Returns a worker over these stores, with its own place in the fleet and its own consumers. All counts
    /// go to `metrics`. The heartbeat that `nudge` wakes must carry the worker's [`Self::fleet_member`].
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
            fleet_member: FleetMember::new(&limits, Arc::clone(&metrics), stores.fleet, nudge),
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

struct RunningWorker<S: UserSync> {
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
    let fleet_member = Arc::clone(&worker.fleet_member);
    let running_worker = Arc::new(RunningWorker { worker });
    fleet_member.set_accepts_jobs(true);
    let closing = async {
        stop.cancelled().await;
        fleet_member.set_accepts_jobs(false);
    };
    tokio::join!(
        closing,
        consume(&running_worker, QueueName::Background, background, &stop),
        consume(&running_worker, QueueName::Interactive, interactive, &stop),
    );
}

/// Why taking from a consumer ended.
enum ConsumeEnd {
    Stopped,
    /// The consumer ended; `true` if it had delivered something.
    Ended(bool),
}

async fn consume<S: UserSync>(
    running_worker: &Arc<RunningWorker<S>>,
    queue: QueueName,
    permits: usize,
    stop: &CancellationToken,
) {
    let consumer_state = running_worker.worker.consumers.state_of(queue);
    let free_permits = Arc::new(Semaphore::new(permits));
    let mut batches = JoinSet::new();
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        consumer_state.beat();
        let opened = timeout(CONSUME, running_worker.worker.queue.consume(queue, permits));
        let opened = match stop.run_until_cancelled(opened).await {
            None => break,
            Some(opened) => opened.unwrap_or_else(|_| Err(consumer_not_opened(queue))),
        };
        match opened {
            Err(failure) => {
                consumer_state.record_failure(failure);
                failures = failures.saturating_add(1);
            }
            Ok(consumer) => {
                consumer_state.record_open();
                let since = monotonic();
                match take_deliveries(running_worker, queue, consumer, &free_permits, &mut batches, stop)
                    .await
                {
                    ConsumeEnd::Stopped => break,
                    ConsumeEnd::Ended(delivered) => {
                        running_worker.worker.metrics.consumers_reopened.add_one();
                        consumer_state.record_end();
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
    consumer_state.rest();
    while let Some(ended) = batches.join_next().await {
        log_defect(ended);
    }
}

fn consumer_not_opened(queue: QueueName) -> Failure {
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
async fn next_delivery(
    consumer: &mut dyn Consumer,
    consumer_state: &ConsumerState,
) -> Option<Box<dyn Delivery>> {
    let mut next = pin!(consumer.next());
    loop {
        consumer_state.beat();
        tokio::select! {
            biased;
            delivery = &mut next => return delivery,
            () = sleep(BEAT) => {}
        }
    }
}

async fn take_deliveries<S: UserSync>(
    running_worker: &Arc<RunningWorker<S>>,
    queue: QueueName,
    mut consumer: Box<dyn Consumer>,
    free_permits: &Arc<Semaphore>,
    batches: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> ConsumeEnd {
    let consumer_state = running_worker.worker.consumers.state_of(queue);
    let mut delivered = false;
    loop {
        // No beat while waiting for a permit: if no batch ever ends, the process is stuck and must count as
        // such.
        let permit = Arc::clone(free_permits).acquire_owned();
        let Some(Ok(permit)) = stop.run_until_cancelled(permit).await else {
            return ConsumeEnd::Stopped;
        };
        // A delivery that arrives together with the stop is dropped unsettled inside the consumer, and the
        // broker delivers it again.
        let next = next_delivery(consumer.as_mut(), consumer_state);
        let Some(delivery) = stop.run_until_cancelled(next).await else {
            return ConsumeEnd::Stopped;
        };
        while let Some(ended) = batches.try_join_next() {
            log_defect(ended);
        }
        let Some(delivery) = delivery else {
            return ConsumeEnd::Ended(delivered);
        };
        delivered = true;
        let running_worker = Arc::clone(running_worker);
        let stop = stop.clone();
        let span = job_span(queue, delivery.as_ref());
        let deliver = async move {
            running_worker
                .work_and_settle(queue, delivery, &stop, permit)
                .await;
        };
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
        tasksync.redelivered = i64::from(delivery.redelivery_count()),
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

impl<S: UserSync> RunningWorker<S> {
    /// Works on one delivery and settles it. The permit is released afterwards.
    async fn work_and_settle(
        &self,
        queue: QueueName,
        delivery: Box<dyn Delivery>,
        stop: &CancellationToken,
        _permit: OwnedSemaphorePermit,
    ) {
        let metrics = &self.worker.metrics;
        let began = monotonic();
        metrics.batches.add_one();
        metrics.batches_running.add_one();
        let _running = RunningBatchGauge(metrics);
        if delivery.redelivery_count() > 0 {
            metrics.batches_redelivered.add_one();
        }
        let job = delivery.job().clone();
        let settle = match job {
            Err(error) => {
                metrics.batches_unreadable.add_one();
                tracing::error!(?queue, %error, "a job cannot be read and goes to the dead letters");
                spans::mark_failed(&tracing::Span::current(), "unreadable");
                Settle::Reject(error.to_string())
            }
            Ok(job) => {
                let serial = delivery.redelivery_count() >= SERIAL_AFTER;
                if serial {
                    metrics.batches_serial.add_one();
                    tracing::warn!(tenant = %job.tenant, job = %job.id, redelivered = delivery.redelivery_count(), "a job was delivered too often and is worked on one user at a time");
                }
                match self.work(queue, job, serial, stop).await {
                    Ok(()) => {
                        metrics.batches_done.add_one();
                        Settle::Acknowledge
                    }
                    Err(failure) => {
                        metrics.batches_requeued.add_one();
                        tracing::warn!(?queue, %failure, "a job is given back to the queue");
                        spans::mark_failed(&tracing::Span::current(), failure.code.as_str());
                        Settle::Requeue
                    }
                }
            }
        };
        metrics
            .circuits_open
            .set(self.worker.fleet_member.circuits.open_count());
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
        let fleet_member = &worker.fleet_member;
        let _running = fleet_member.begin(queue, &job.tenant);
        let retry_deadline = monotonic() + limits.batch_budget;
        let renewed = retry_until(retry_deadline, stop, || async {
            let began = monotonic();
            let renewal = worker
                .schedule
                .renew(&job.tenant, job.token, &job.users, limits.claim_lifetime);
            renewal.await.map(|renewed| (began, renewed))
        });
        // A stopping process does not wait for a schedule that does not answer.
        let Some(renewed) = stop.run_until_cancelled(renewed).await else {
            let release = worker.schedule.release(&job.tenant, job.token, &job.users);
            return timeout(SETTLE, release)
                .await
                .map_or(Ok(()), |released| released.map(drop));
        };
        let (started, renewal) = renewed?;
        let ClaimRenewal {
            still_claimed,
            tenant_users,
        } = renewal;
        let mut histories: HashMap<_, _> = still_claimed
            .into_iter()
            .map(|RenewedUser { user, history }| (user, history))
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
        let batch = UserBatch {
            permission: fleet_member
                .circuit_permission(&job.tenant, urgent, started)
                .await,
            tenant: job.tenant.clone(),
            serial,
            started,
            users,
        };
        let (ended, user_ends) = mpsc::channel(batch.users.len());
        let reporter = Reporter {
            schedule: worker.schedule.as_ref(),
            registry: worker.registry.as_ref(),
            clock: worker.clock.as_ref(),
            stamps: &worker.stamps,
            limits,
            metrics: &worker.metrics,
            fleet_member,
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
            fleet_member,
        };
        let ((), result) = tokio::join!(batch::work(tools, batch, stop, ended), reporter.report(user_ends));
        result
    }
}

struct RunningBatchGauge<'a>(&'a WorkMetrics);

impl Drop for RunningBatchGauge<'_> {
    fn drop(&mut self) {
        self.0.batches_running.take_one();
    }
}
