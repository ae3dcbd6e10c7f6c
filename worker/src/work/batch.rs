//! One batch: groups are surveyed together, users that need it are synced side by side, and everything ends in time.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Phase, Purpose};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::telemetry::spans;
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::circuit::{Opened, Permission, concerns_tenant};
use super::limits::{CUT, WorkLimits};
use super::metrics::WorkMetrics;
use super::outcome::{Ended, UserEnd};
use super::presence::Presence;
use super::{Survey, SyncReport, UserSync};

/// What a batch is told about itself.
#[derive(Debug)]
pub(super) struct Batch {
    /// The tenant of all users.
    pub(super) tenant: TenantId,
    /// The users whose claim holds, in the order of the job.
    pub(super) users: Vec<UserId>,
    /// One user at a time.
    pub(super) serial: bool,
    /// What the tenant's circuit allows.
    pub(super) permission: Permission,
    /// When the claim was renewed.
    pub(super) started: Instant,
}

/// Why no new user starts.
#[derive(Debug, Clone)]
enum Closing {
    /// The budget is used up or the process stops: users not started go back with their original stamp.
    Release,
    /// The tenant cannot be synced: users not started are postponed together.
    Circuit(Duration, Failure),
}

/// A survey's answers, one per user.
type Answers<W> = Vec<Result<Survey<W>, Failure>>;

enum Event<W> {
    Surveyed(Vec<UserId>, Result<Answers<W>, Stopped>),
    Synced(UserId, Result<Result<SyncReport, Failure>, Stopped>),
}

/// Why a piece of work has no answer of its own.
enum Stopped {
    Panicked(String),
    TimedOut,
}

impl Stopped {
    /// The code it is reported with.
    fn name(&self) -> &'static str {
        match self {
            Self::Panicked(_) => Code::Panic.as_str(),
            Self::TimedOut => Code::BudgetExhausted.as_str(),
        }
    }
}

/// The parts of the worker a batch needs.
pub(super) struct Tools<'a, S> {
    pub(super) sync: &'a Arc<S>,
    pub(super) limits: &'a WorkLimits,
    pub(super) metrics: &'a Arc<WorkMetrics>,
    pub(super) presence: &'a Presence,
}

/// What a task is doing, and for whom.
enum Inside {
    Survey(Vec<UserId>),
    Sync(UserId),
}

impl Inside {
    fn users(self) -> Vec<UserId> {
        match self {
            Self::Survey(users) => users,
            Self::Sync(user) => vec![user],
        }
    }
}

struct Run<'a, S: UserSync> {
    tools: Tools<'a, S>,
    tenant: TenantId,
    started: Instant,
    users_at_once: usize,
    ended: mpsc::Sender<Ended>,
    /// Not surveyed yet, in order.
    waiting: VecDeque<UserId>,
    /// To be surveyed alone, because a group they were in panicked.
    alone: VecDeque<UserId>,
    /// Surveyed, to be synced, in order.
    ready: VecDeque<(UserId, S::Work)>,
    tasks: JoinSet<Event<S::Work>>,
    /// Who is in which task.
    inside: HashMap<task::Id, Inside>,
    /// Only one user until one worked.
    probing: bool,
    closing: Option<Closing>,
}

/// Works on a batch until every user has ended one way or another, each told to `ended` exactly once. The channel must
/// hold all of them.
pub(super) async fn work<S: UserSync>(
    tools: Tools<'_, S>,
    batch: Batch,
    stop: &CancellationToken,
    ended: mpsc::Sender<Ended>,
) {
    let limits = tools.limits;
    let no_new_after = batch.started + limits.batch_budget;
    let cut_at = batch.started + limits.until_cut();
    let mut deadline = cut_at;
    let mut draining = false;
    let mut run = Run {
        users_at_once: if batch.serial { 1 } else { limits.users_at_once },
        tools,
        tenant: batch.tenant,
        started: batch.started,
        ended,
        waiting: batch.users.into(),
        alone: VecDeque::new(),
        ready: VecDeque::new(),
        tasks: JoinSet::new(),
        inside: HashMap::new(),
        probing: batch.permission == Permission::Probe,
        closing: match batch.permission {
            Permission::Closed | Permission::Probe => None,
            Permission::Open(pause, failure) => Some(Closing::Circuit(pause, failure)),
        },
    };
    loop {
        if run.closing.is_none() && (draining || Instant::now() >= no_new_after) {
            run.closing = Some(Closing::Release);
        }
        if run.closing.is_some() {
            run.give_back_unstarted();
        } else {
            run.start_more();
        }
        if run.tasks.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            joined = run.tasks.join_next_with_id() => match joined {
                Some(Ok((id, event))) => {
                    run.inside.remove(&id);
                    run.take(event);
                }
                Some(Err(error)) => run.take_lost(&error),
                None => {}
            },
            () = stop.cancelled(), if !draining => {
                draining = true;
                deadline = cut_at.min(Instant::now() + limits.drain);
            }
            () = sleep_until(no_new_after), if run.closing.is_none() => {}
            () = sleep_until(deadline) => {
                run.cut(deadline < cut_at).await;
                return;
            }
        }
    }
}

impl<S: UserSync> Run<'_, S> {
    fn end(&self, user: UserId, end: UserEnd) {
        if let Err(refused) = self.ended.try_send(Ended { user, end }) {
            // The channel holds every user of the batch, so nobody listens any more; the claim ends by itself.
            tracing::error!(tenant = %self.tenant, user = %refused.into_inner().user, "the end of a user's work could not be told");
        }
    }

    fn syncing(&self) -> usize {
        let syncs = self
            .inside
            .values()
            .filter(|inside| matches!(inside, Inside::Sync(_)));
        syncs.count()
    }

    /// Fills the free places: syncs first, then the survey of the next group.
    fn start_more(&mut self) {
        while self.syncing() < self.users_at_once
            && let Some((user, work)) = self.ready.pop_front()
        {
            self.start_sync(user, work);
        }
        let surveying = self.inside.len() > self.syncing();
        let most = if self.probing { 1 } else { self.users_at_once };
        if surveying || !self.ready.is_empty() || self.syncing() >= most {
            return;
        }
        let group: Vec<UserId> = match self.alone.pop_front() {
            Some(user) => vec![user],
            None => self.waiting.drain(..most.min(self.waiting.len())).collect(),
        };
        if !group.is_empty() {
            self.start_survey(group);
        }
    }

    fn start_survey(&mut self, group: Vec<UserId>) {
        let sync = Arc::clone(self.tools.sync);
        let metrics = Arc::clone(self.tools.metrics);
        let tenant = self.tenant.clone();
        let budget = self.tools.limits.user_budget;
        let inside = group.clone();
        let span = tracing::info_span!(
            target: spans::TARGET,
            "survey",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            tasksync.tenant = %tenant,
            tasksync.users = spans::number(group.len()),
        );
        let surveying = async move {
            let began = Instant::now();
            let survey = contained(async { sync.survey(&tenant, &group).await });
            let survey = record::on_behalf_of(Purpose::Survey, survey);
            let answers = timeout(budget, survey).await.unwrap_or(Err(Stopped::TimedOut));
            metrics.survey.record(began.elapsed());
            record::phase(Phase::Survey, began.elapsed());
            record::surveyed(group.len());
            if let Some(kind) = survey_error(&answers) {
                spans::failed(&tracing::Span::current(), kind);
            }
            Event::Surveyed(group, answers)
        };
        let handle = self.tasks.spawn(surveying.instrument(span));
        self.inside.insert(handle.id(), Inside::Survey(inside));
    }

    fn start_sync(&mut self, user: UserId, work: S::Work) {
        let sync = Arc::clone(self.tools.sync);
        let metrics = Arc::clone(self.tools.metrics);
        let key = UserKey::new(self.tenant.clone(), user.clone());
        let budget = self.tools.limits.user_budget;
        let inside = Inside::Sync(user.clone());
        let running = Running::begin(&metrics);
        let span = tracing::info_span!(
            target: spans::TARGET,
            "user",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            tasksync.tenant = %key.tenant,
            tasksync.user = %key.user,
            tasksync.source_writes = tracing::field::Empty,
            tasksync.mailbox_writes = tracing::field::Empty,
        );
        let syncing = async move {
            let began = Instant::now();
            let sync = contained(async { sync.sync(&key, work, budget).await });
            let result = record::on_behalf_of(Purpose::Sync, sync).await;
            metrics.sync.record(began.elapsed());
            told(&result, began.elapsed());
            drop(running);
            Event::Synced(user, result)
        };
        let handle = self.tasks.spawn(syncing.instrument(span));
        self.inside.insert(handle.id(), inside);
    }

    fn take(&mut self, event: Event<S::Work>) {
        match event {
            Event::Surveyed(users, answers) => self.take_survey(users, answers),
            Event::Synced(user, Ok(Ok(report))) => {
                self.probing = false;
                self.end(user, UserEnd::Synced(report));
            }
            Event::Synced(user, Ok(Err(failure))) => self.fail(user, failure),
            Event::Synced(user, Err(stopped)) => {
                let failure = self.stopped(&user, stopped, "sync");
                self.end(user, UserEnd::Failed(failure));
            }
        }
    }

    fn take_survey(&mut self, users: Vec<UserId>, answers: Result<Answers<S::Work>, Stopped>) {
        let answers = match answers {
            Ok(answers) => answers,
            // Somebody in the group is at fault: each is asked alone, so that only this one fails.
            Err(Stopped::Panicked(_)) if users.len() > 1 => {
                self.alone.extend(users);
                return;
            }
            Err(Stopped::Panicked(message)) => {
                for user in users {
                    let failure = self.stopped(&user, Stopped::Panicked(message.clone()), "survey");
                    self.end(user, UserEnd::Failed(failure));
                }
                return;
            }
            Err(Stopped::TimedOut) => {
                for user in users {
                    let failure = self.stopped(&user, Stopped::TimedOut, "survey");
                    self.end(user, UserEnd::Failed(failure));
                }
                return;
            }
        };
        let mut answers = answers.into_iter();
        for user in users {
            match answers.next() {
                Some(Ok(Survey::Idle)) => {
                    self.probing = false;
                    self.end(user, UserEnd::Idle);
                }
                Some(Ok(Survey::Work(work))) => self.ready.push_back((user, work)),
                Some(Err(failure)) => self.fail(user, failure),
                None => {
                    let failure = Failure::new(
                        ErrorClass::Transient,
                        Code::Panic,
                        format!("the survey has no answer for {}/{user}", self.tenant),
                    );
                    self.end(user, UserEnd::Failed(failure));
                }
            }
        }
    }

    /// A user failed; when the failure is the whole tenant's, everybody not started is postponed with it.
    fn fail(&mut self, user: UserId, failure: Failure) {
        if !concerns_tenant(&failure) {
            self.end(user, UserEnd::Failed(failure));
            return;
        }
        let Opened { pause, first, alert } =
            self.tools
                .presence
                .circuits
                .failed(&self.tenant, &failure, self.started, Instant::now());
        self.tools.presence.tell_soon();
        if first {
            self.tools.metrics.circuits_opened.add_one();
            tracing::warn!(tenant = %self.tenant, code = %failure.code, detail = %failure.detail, pause_s = pause.as_secs(), "the tenant cannot be synced, its users are postponed");
        }
        if !matches!(self.closing, Some(Closing::Release)) {
            self.closing = Some(Closing::Circuit(pause, failure.clone()));
        }
        self.end(
            user,
            UserEnd::Postponed {
                failure,
                pause,
                alert,
            },
        );
    }

    fn stopped(&self, user: &UserId, stopped: Stopped, step: &str) -> Failure {
        match stopped {
            Stopped::Panicked(message) => {
                self.tools.metrics.panics.add_one();
                tracing::error!(tenant = %self.tenant, %user, step, message, "a user's work panicked");
                Failure::new(
                    ErrorClass::Transient,
                    Code::Panic,
                    format!("{step} of {}/{user}: {message}", self.tenant),
                )
            }
            Stopped::TimedOut => exhausted(&self.tenant, user, step),
        }
    }

    /// A task ended without its event: it was dropped by the runtime or panicked outside the containment.
    fn take_lost(&mut self, error: &task::JoinError) {
        let inside = self.inside.remove(&error.id());
        for user in inside.map(Inside::users).unwrap_or_default() {
            let failure = self.stopped(&user, Stopped::Panicked(error.to_string()), "task");
            self.end(user, UserEnd::Failed(failure));
        }
    }

    fn give_back_unstarted(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        let users: Vec<UserId> = ready
            .into_iter()
            .map(|(user, _)| user)
            .chain(self.alone.drain(..))
            .chain(self.waiting.drain(..))
            .collect();
        for user in users {
            let end = match &self.closing {
                Some(Closing::Circuit(pause, failure)) => UserEnd::Postponed {
                    failure: failure.clone(),
                    pause: *pause,
                    alert: false,
                },
                Some(Closing::Release) | None => UserEnd::Released,
            };
            self.end(user, end);
        }
    }

    /// Drops everything that still runs. At the end of a drain the users go back as they were; at the end of the claim
    /// they failed, or a user that never ends would lead every batch.
    async fn cut(&mut self, drained: bool) {
        self.closing.get_or_insert(Closing::Release);
        self.tasks.abort_all();
        // Waits until the futures are really dropped; one that blocks its thread cannot be waited for.
        let patience = Instant::now() + CUT;
        loop {
            match timeout_at(patience, self.tasks.join_next_with_id()).await {
                // It ended by itself in the last moment.
                Ok(Some(Ok((id, event)))) => {
                    self.inside.remove(&id);
                    self.take(event);
                }
                Ok(Some(Err(_))) => {}
                Ok(None) => break,
                Err(_) => {
                    tracing::error!(tenant = %self.tenant, "a user's work blocks its thread and could not be cut");
                    break;
                }
            }
        }
        self.give_back_unstarted();
        for user in std::mem::take(&mut self.inside)
            .into_values()
            .flat_map(Inside::users)
        {
            let end = if drained {
                UserEnd::Released
            } else {
                self.tools.metrics.users_cut.add_one();
                UserEnd::Failed(exhausted(&self.tenant, &user, "sync"))
            };
            self.end(user, end);
        }
    }
}

/// The first failure of a survey, for its span.
fn survey_error<W>(answers: &Result<Answers<W>, Stopped>) -> Option<&'static str> {
    match answers {
        Ok(answers) => answers
            .iter()
            .find_map(|answer| answer.as_ref().err())
            .map(|failure| failure.code.as_str()),
        Err(stopped) => Some(stopped.name()),
    }
}

/// Records how a sync ended, in the metrics and in its span.
fn told(result: &Result<Result<SyncReport, Failure>, Stopped>, took: Duration) {
    let span = tracing::Span::current();
    let report = match result {
        Ok(Ok(report)) => *report,
        Ok(Err(failure)) => {
            spans::failed(&span, failure.code.as_str());
            SyncReport::default()
        }
        Err(stopped) => {
            spans::failed(&span, stopped.name());
            SyncReport::default()
        }
    };
    span.record("tasksync.source_writes", i64::from(report.source_writes));
    span.record("tasksync.mailbox_writes", i64::from(report.mailbox_writes));
    record::sync(took, report.source_writes, report.mailbox_writes);
}

fn exhausted(tenant: &TenantId, user: &UserId, step: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::BudgetExhausted,
        format!("{step} of {tenant}/{user} did not end by itself and was cut"),
    )
}

/// Runs a future and turns its panic into a value.
async fn contained<T>(work: impl Future<Output = T>) -> Result<T, Stopped> {
    // What a panic leaves behind inside the future is dropped with it; what is shared is behind locks and atomics.
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|payload| Stopped::Panicked(message(payload.as_ref())))
}

/// The panic's message, shortened.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.chars().take(200).collect()
}

/// Counts a running user for as long as it lives, however it ends.
struct Running(Arc<WorkMetrics>);

impl Running {
    fn begin(metrics: &Arc<WorkMetrics>) -> Self {
        metrics.users_running.add_one();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.users_running.take_one();
    }
}
