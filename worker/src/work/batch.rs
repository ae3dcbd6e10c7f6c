//! Working on one batch. One query looks up all users, groups are surveyed together, and users that need it
//! are synced side by side. Every step has a deadline.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::metrics::record::{self, Phase, Purpose};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::telemetry::spans;
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::catch_panic::{Interruption, budget_exhausted, catch_panic};
use super::circuit::{CircuitOpening, Permission, without_detail};
use super::fleet_member::FleetMember;
use super::group::{SurveyAnswers, SurveyGroup};
use super::limits::{CUT, WorkLimits};
use super::measurements::{RunningUser, record_sync, survey_error};
use super::metrics::WorkMetrics;
use super::next_turn::{EndedUser, UserEnd};
use super::{Survey, SyncReport, UserSync};
use crate::http::budget::with_byte_budget;

/// Bytes that the answers to one user's sync may have in total.
const BYTES_PER_SYNC: usize = 256 * 1024 * 1024;

/// A batch: its users, and the conditions under which it is worked on.
#[derive(Debug)]
pub(super) struct UserBatch {
    /// The tenant of all users.
    pub(super) tenant: TenantId,
    /// The users whose claim holds, in the order of the job.
    pub(super) users: Vec<UserId>,
    /// Whether users are worked on one at a time.
    pub(super) serial: bool,
    /// What the tenant's circuit allows.
    pub(super) permission: Permission,
    /// When the claim was renewed.
    pub(super) started: Instant,
}

/// Why no new user is started.
#[derive(Debug, Clone)]
enum Closing {
    /// The budget is used up or the process stops: users not started go back with their original stamp.
    Release,
    /// The tenant cannot be synced: users not started are postponed together.
    Circuit(Duration, Failure),
}

enum Event<K, W> {
    LookedUp(Vec<UserId>, Result<Vec<Result<K, Failure>>, Interruption>),
    Surveyed(Vec<UserId>, Result<SurveyAnswers<W>, Interruption>),
    Synced(
        UserId,
        Result<Result<SyncReport, Failure>, Interruption>,
        Duration,
    ),
}

/// The parts of the worker that a batch uses.
pub(super) struct Tools<'a, S> {
    pub(super) sync: &'a Arc<S>,
    pub(super) limits: &'a WorkLimits,
    pub(super) metrics: &'a Arc<WorkMetrics>,
    pub(super) fleet_member: &'a FleetMember,
}

/// The step that a task performs, with its users.
enum RunningStep {
    LookUp(Vec<UserId>),
    Survey(Vec<UserId>),
    Sync(UserId),
}

impl RunningStep {
    fn users(self) -> Vec<UserId> {
        match self {
            Self::LookUp(users) | Self::Survey(users) => users,
            Self::Sync(user) => vec![user],
        }
    }
}

struct BatchRun<'a, S: UserSync> {
    tools: Tools<'a, S>,
    tenant: TenantId,
    started: Instant,
    users_at_once: usize,
    ended: mpsc::Sender<EndedUser>,
    /// Users to look up, in order.
    waiting: VecDeque<UserId>,
    /// Users to survey, in order.
    looked_up: VecDeque<(UserId, S::LookedUp)>,
    /// Users to look up and survey alone.
    to_look_up_alone: VecDeque<UserId>,
    /// Users that were surveyed and have to be synced, in order.
    ready: VecDeque<(UserId, S::Work)>,
    tasks: JoinSet<Event<S::LookedUp, S::Work>>,
    /// The step of each running task.
    running_steps: HashMap<task::Id, RunningStep>,
    /// Whether only one user may run, until one was reached.
    probing: bool,
    closing: Option<Closing>,
}

/// Works on a batch until every user has ended in some way. Sends each user's end to `ended` exactly once;
/// the channel must have room for all of them.
pub(super) async fn work<S: UserSync>(
    tools: Tools<'_, S>,
    batch: UserBatch,
    stop: &CancellationToken,
    ended: mpsc::Sender<EndedUser>,
) {
    let limits = tools.limits;
    let no_new_after = batch.started + limits.batch_budget;
    let cut_at = batch.started + limits.until_cut();
    let mut deadline = cut_at;
    let mut draining = false;
    let users = VecDeque::from(batch.users);
    let (waiting, alone) = if batch.serial {
        (VecDeque::new(), users)
    } else {
        (users, VecDeque::new())
    };
    let mut run = BatchRun {
        users_at_once: if batch.serial { 1 } else { limits.users_at_once },
        tools,
        tenant: batch.tenant,
        started: batch.started,
        ended,
        waiting,
        looked_up: VecDeque::new(),
        to_look_up_alone: alone,
        ready: VecDeque::new(),
        tasks: JoinSet::new(),
        running_steps: HashMap::new(),
        probing: batch.permission == Permission::Probe,
        closing: match batch.permission {
            Permission::Closed | Permission::Probe => None,
            Permission::Open(pause, failure) => Some(Closing::Circuit(pause, without_detail(&failure))),
        },
    };
    loop {
        if run.closing.is_none() && (draining || monotonic() >= no_new_after) {
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
                    run.running_steps.remove(&id);
                    run.handle_event(event);
                }
                Some(Err(error)) => run.handle_lost_task(&error),
                None => {}
            },
            () = stop.cancelled(), if !draining => {
                draining = true;
                deadline = cut_at.min(monotonic() + limits.drain);
            }
            () = sleep_until(no_new_after), if run.closing.is_none() => {}
            () = sleep_until(deadline) => {
                run.cancel_running(deadline < cut_at).await;
                return;
            }
        }
    }
}

/// Returns whether an attempt failed, or `None` if none was made. A server that asks for a pause is no failure.
fn attempt_failed(end: &UserEnd) -> Option<bool> {
    match end {
        UserEnd::Idle | UserEnd::Synced(_) => Some(false),
        UserEnd::Failed(failure) => Some(!matches!(failure.class, ErrorClass::Throttled { .. })),
        UserEnd::Postponed { .. } => Some(true),
        UserEnd::Released => None,
    }
}

impl<S: UserSync> BatchRun<'_, S> {
    fn end(&self, user: UserId, end: UserEnd) {
        if let Some(failed) = attempt_failed(&end) {
            self.tools.fleet_member.loads.record_attempt(&self.tenant, failed);
        }
        if let Err(refused) = self.ended.try_send(EndedUser { user, end }) {
            // The channel has room for every user of the batch, so its receiver is gone. The claim expires by
            // itself.
            tracing::error!(tenant = %self.tenant, user = %refused.into_inner().user, "the end of a user's work could not be reported");
        }
    }

    fn syncing(&self) -> usize {
        let syncs = self
            .running_steps
            .values()
            .filter(|inside| matches!(inside, RunningStep::Sync(_)));
        syncs.count()
    }

    /// Starts work while there is room: syncs first, then the survey of the next group. The look-up precedes
    /// the first survey.
    fn start_more(&mut self) {
        while self.syncing() < self.users_at_once
            && let Some((user, work)) = self.ready.pop_front()
        {
            self.start_sync(user, work);
        }
        let asking = self.running_steps.len() > self.syncing();
        let most = if self.probing { 1 } else { self.users_at_once };
        if asking || !self.ready.is_empty() || self.syncing() >= most {
            return;
        }
        if let Some(user) = self.to_look_up_alone.pop_front() {
            self.start_survey(SurveyGroup::Alone(user));
        } else if !self.looked_up.is_empty() {
            let group: Vec<_> = self.looked_up.drain(..most.min(self.looked_up.len())).collect();
            self.start_survey(SurveyGroup::Known(group));
        } else if !self.waiting.is_empty() {
            self.start_look_up();
        }
    }

    /// Looks up all waiting users with one query.
    fn start_look_up(&mut self) {
        let users: Vec<UserId> = self.waiting.drain(..).collect();
        let sync = Arc::clone(self.tools.sync);
        let tenant = self.tenant.clone();
        let budget = self.tools.limits.user_budget;
        let inside = users.clone();
        let handle = self.tasks.spawn(async move {
            let look_up = catch_panic(async { sync.look_up(&tenant, &users).await });
            let look_up = record::on_behalf_of(Purpose::Survey, look_up);
            let answers = timeout(budget, look_up)
                .await
                .unwrap_or(Err(Interruption::TimedOut));
            Event::LookedUp(users, answers)
        });
        self.running_steps
            .insert(handle.id(), RunningStep::LookUp(inside));
    }

    fn start_survey(&mut self, group: SurveyGroup<S::LookedUp>) {
        let sync = Arc::clone(self.tools.sync);
        let tenant = self.tenant.clone();
        let budget = self.tools.limits.user_budget;
        let users = group.users();
        let inside = users.clone();
        let span = tracing::info_span!(
            target: spans::TARGET,
            "survey",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            tasksync.tenant = %tenant,
            tasksync.users = spans::number(users.len()),
        );
        let surveying = async move {
            let began = monotonic();
            let survey = catch_panic(group.survey(&*sync, &tenant));
            let survey = record::on_behalf_of(Purpose::Survey, survey);
            let answers = timeout(budget, survey)
                .await
                .unwrap_or(Err(Interruption::TimedOut));
            record::phase(Phase::Survey, began.elapsed());
            record::surveyed_users(users.len());
            if let Some(kind) = survey_error(&answers) {
                spans::mark_failed(&tracing::Span::current(), kind);
            }
            Event::Surveyed(users, answers)
        };
        let handle = self.tasks.spawn(surveying.instrument(span));
        self.running_steps
            .insert(handle.id(), RunningStep::Survey(inside));
    }

    fn start_sync(&mut self, user: UserId, work: S::Work) {
        let sync = Arc::clone(self.tools.sync);
        let metrics = Arc::clone(self.tools.metrics);
        let key = UserKey::new(self.tenant.clone(), user.clone());
        let budget = self.tools.limits.user_budget;
        let inside = RunningStep::Sync(user.clone());
        let running = RunningUser::begin(&metrics);
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
            let began = monotonic();
            let sync = catch_panic(with_byte_budget(BYTES_PER_SYNC, async {
                sync.sync(&key, work, budget).await
            }));
            let result = record::on_behalf_of(Purpose::Sync, sync).await;
            let took = began.elapsed();
            record_sync(&result, took);
            drop(running);
            Event::Synced(user, result, took)
        };
        let handle = self.tasks.spawn(syncing.instrument(span));
        self.running_steps.insert(handle.id(), inside);
    }

    fn handle_event(&mut self, event: Event<S::LookedUp, S::Work>) {
        match event {
            Event::LookedUp(users, answers) => self.handle_look_up(users, answers),
            Event::Surveyed(users, answers) => self.handle_survey(users, answers),
            Event::Synced(user, result, took) => {
                self.tools.fleet_member.loads.record_sync(&self.tenant, took);
                self.handle_sync(user, result);
            }
        }
    }

    fn handle_sync(&mut self, user: UserId, result: Result<Result<SyncReport, Failure>, Interruption>) {
        match result {
            Ok(Ok(report)) => {
                self.probing = false;
                self.end(user, UserEnd::Synced(report));
            }
            Ok(Err(failure)) => self.fail(user, failure),
            Err(stopped) => {
                let failure = self.interruption_failure(&user, stopped, "sync");
                self.fail(user, failure);
            }
        }
    }

    fn handle_look_up(
        &mut self,
        users: Vec<UserId>,
        answers: Result<Vec<Result<S::LookedUp, Failure>>, Interruption>,
    ) {
        let answers = match answers {
            Ok(answers) => answers,
            // One user's row causes the panic. Each user is looked up alone, so that only that one fails.
            Err(Interruption::Panicked(_)) => {
                self.to_look_up_alone.extend(users);
                return;
            }
            // Our store is slow; nothing is wrong with the users.
            Err(Interruption::TimedOut) => {
                let failure = Failure::new(
                    ErrorClass::Transient,
                    Code::RegistryUnavailable,
                    format!("looking up the users of {} did not end in time", self.tenant),
                );
                users.iter().map(|_| Err(failure.clone())).collect()
            }
        };
        let mut answers = answers.into_iter();
        for user in users {
            match answers.next() {
                Some(Ok(looked_up)) => self.looked_up.push_back((user, looked_up)),
                Some(Err(failure)) => self.fail(user, failure),
                None => self.end_unanswered(user, "look-up"),
            }
        }
    }

    /// Ends a user for whom a step returned no answer, which is a defect.
    fn end_unanswered(&self, user: UserId, step: &str) {
        let failure = Failure::new(
            ErrorClass::Transient,
            Code::Panic,
            format!("the {step} has no answer for {}/{user}", self.tenant),
        );
        self.end(user, UserEnd::Failed(failure));
    }

    fn handle_survey(&mut self, users: Vec<UserId>, answers: Result<SurveyAnswers<S::Work>, Interruption>) {
        let answers = match answers {
            Ok(answers) => answers,
            // One user of the group causes the panic. Each user is surveyed alone, so that only that one
            // fails.
            Err(Interruption::Panicked(_)) if users.len() > 1 => {
                self.to_look_up_alone.extend(users);
                return;
            }
            Err(Interruption::Panicked(message)) => {
                for user in users {
                    let failure =
                        self.interruption_failure(&user, Interruption::Panicked(message.clone()), "survey");
                    self.fail(user, failure);
                }
                return;
            }
            Err(Interruption::TimedOut) => {
                for user in users {
                    let failure = self.interruption_failure(&user, Interruption::TimedOut, "survey");
                    self.fail(user, failure);
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
                None => self.end_unanswered(user, "survey"),
            }
        }
    }

    /// Ends a user that failed. If the failure is the whole tenant's, all users that were not started are
    /// postponed.
    fn fail(&mut self, user: UserId, failure: Failure) {
        let failure = self
            .tools
            .fleet_member
            .circuits
            .with_evidence_of_others(&self.tenant, &user, failure);
        if failure.stops() != Stops::Tenant {
            self.end(user, UserEnd::Failed(failure));
            return;
        }
        let CircuitOpening { pause, first, alert } = self.tools.fleet_member.circuits.record_failure(
            &self.tenant,
            &failure,
            self.started,
            monotonic(),
        );
        self.tools.fleet_member.report_now();
        if first {
            self.tools.metrics.circuits_opened.add_one();
            tracing::warn!(tenant = %self.tenant, code = %failure.code, detail = %failure.detail, pause_s = pause.as_secs(), "the tenant cannot be synced, its users are postponed");
        }
        if !matches!(self.closing, Some(Closing::Release)) {
            self.closing = Some(Closing::Circuit(pause, without_detail(&failure)));
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

    fn interruption_failure(&self, user: &UserId, stopped: Interruption, step: &str) -> Failure {
        match stopped {
            Interruption::Panicked(message) => {
                self.tools.metrics.panics.add_one();
                tracing::error!(tenant = %self.tenant, %user, step, message, "a user's work panicked");
                Failure::new(
                    ErrorClass::Transient,
                    Code::Panic,
                    format!("{step} of {}/{user}: {message}", self.tenant),
                )
            }
            Interruption::TimedOut => budget_exhausted(&self.tenant, user, step),
        }
    }

    /// Ends the users of a task that ended without its event: the runtime dropped it, or it panicked outside
    /// `catch_panic`.
    fn handle_lost_task(&mut self, error: &task::JoinError) {
        let inside = self.running_steps.remove(&error.id());
        for user in inside.map(RunningStep::users).unwrap_or_default() {
            let failure = self.interruption_failure(&user, Interruption::Panicked(error.to_string()), "task");
            self.end(user, UserEnd::Failed(failure));
        }
    }

    fn give_back_unstarted(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        let users: Vec<UserId> = ready
            .into_iter()
            .map(|(user, _)| user)
            .chain(self.to_look_up_alone.drain(..))
            .chain(self.looked_up.drain(..).map(|(user, _)| user))
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

    /// Drops everything that still runs. At the end of a drain the users go back unchanged. At the end of the
    /// claim they count as failed; otherwise a user that never ends would come first in every batch.
    async fn cancel_running(&mut self, drained: bool) {
        self.closing.get_or_insert(Closing::Release);
        self.tasks.abort_all();
        // Wait until the futures are really dropped. A future that blocks its thread cannot be waited for.
        let patience = monotonic() + CUT;
        loop {
            match timeout_at(patience, self.tasks.join_next_with_id()).await {
                // The task ended by itself at the last moment.
                Ok(Some(Ok((id, event)))) => {
                    self.running_steps.remove(&id);
                    self.handle_event(event);
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
        for user in std::mem::take(&mut self.running_steps)
            .into_values()
            .flat_map(RunningStep::users)
        {
            let end = if drained {
                UserEnd::Released
            } else {
                self.tools.metrics.users_cut.add_one();
                UserEnd::Failed(budget_exhausted(&self.tenant, &user, "sync"))
            };
            self.end(user, end);
        }
    }
}

#[cfg(test)]
mod tests;
