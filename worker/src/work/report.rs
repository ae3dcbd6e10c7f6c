//! Reporting how users ended: to the schedule in small groups, and to the registry only if something changed
//! for people.

use std::collections::HashMap;
use std::time::Duration;

use tasksync_common::clock::Clock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::{Alert, EnrolmentState, Registry, enable};
use tasksync_common::schedule::gather::Size;
use tasksync_common::schedule::{FinishedAttempt, History, Schedule, StampSaver, Token};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fleet_member::FleetMember;
use super::limits::{
    LONGEST_CALL_PAUSE, REGISTRY_CALL, REPORT_GROUP, REPORT_INTERVAL, SETTLE, WorkLimits, pause,
};
use super::metrics::WorkMetrics;
use super::next_turn::{Circumstances, EndedUser, RegistryChange, ScheduleAction, UserEnd, decide_next_turn};

/// Open alerts of a tenant that are checked when it works again.
const ALERTS: u32 = 1_000;

/// Reports the users of one batch.
pub(super) struct Reporter<'a> {
    pub(super) schedule: &'a dyn Schedule,
    pub(super) registry: &'a dyn Registry,
    pub(super) clock: &'a dyn Clock,
    pub(super) stamps: &'a StampSaver,
    pub(super) limits: &'a WorkLimits,
    pub(super) metrics: &'a WorkMetrics,
    pub(super) fleet_member: &'a FleetMember,
    pub(super) tenant: &'a TenantId,
    pub(super) size: Size,
    pub(super) token: Token,
    /// The users' histories, from the renewal of the claim.
    pub(super) histories: HashMap<UserId, History>,
    /// Whether to report every user at once, so that a crash of the process concerns only the running user.
    pub(super) serial: bool,
    /// When the claim ends; a later report would change nothing.
    pub(super) until: Instant,
    pub(super) stop: &'a CancellationToken,
}

#[derive(Default)]
struct Pending {
    finishes: Vec<FinishedAttempt>,
    releases: Vec<UserId>,
    since: Option<Instant>,
}

impl Reporter<'_> {
    /// Reports every user received from `ended`. Returns when the channel is closed and everything is
    /// reported.
    ///
    /// # Errors
    /// The schedule's failure, if a group could not be reported before the claim ended.
    pub(super) async fn report(self, mut ended: mpsc::Receiver<EndedUser>) -> Result<(), Failure> {
        let group = if self.serial { 1 } else { REPORT_GROUP };
        let mut pending = Pending::default();
        let mut result = Ok(());
        loop {
            let flush_at = pending.since.map(|since| since + REPORT_INTERVAL);
            let next = tokio::select! {
                biased;
                () = sleep_until(flush_at.unwrap_or_else(monotonic)), if flush_at.is_some() => None,
                next = ended.recv() => Some(next),
            };
            match next {
                Some(Some(user)) => {
                    self.take(user, &mut pending).await;
                    if pending.finishes.len() < group && pending.releases.len() < group {
                        continue;
                    }
                }
                Some(None) => {
                    let last = self.flush(&mut pending).await;
                    return result.and(last);
                }
                None => {}
            }
            // Earlier reports stay, and a failed group does not stop the next one.
            result = result.and(self.flush(&mut pending).await);
        }
    }

    async fn take(&self, ended: EndedUser, pending: &mut Pending) {
        let history = self.histories.get(&ended.user).copied().unwrap_or_default();
        self.count(&ended.end);
        if matches!(ended.end, UserEnd::Idle | UserEnd::Synced(_))
            && self
                .fleet_member
                .circuits
                .record_success(self.tenant, monotonic())
        {
            self.end_tenant_alerts().await;
        }
        let circumstances = Circumstances {
            pace: self.limits.pace,
            tenant: self.tenant,
            size: self.size,
            now: self.clock.now(),
        };
        match decide_next_turn(circumstances, ended, history) {
            ScheduleAction::Release(user) => pending.releases.push(user),
            ScheduleAction::Withdraw(user) => {
                let key = UserKey::new(self.tenant.clone(), user);
                if let Err(failure) = self.schedule.withdraw(&key).await {
                    // The claim expires; the user comes again and is withdrawn then.
                    tracing::warn!(user = %key, %failure, "a user who opted out could not be removed from the schedule");
                }
                return;
            }
            ScheduleAction::Finish(mut finish, change) => {
                let key = UserKey::new(self.tenant.clone(), finish.user.clone());
                if let Err(failure) = self.apply_registry_change(&key, &change).await {
                    tracing::warn!(user = %key, %failure, "the registry does not show yet how this user's sync ended");
                    if matches!(change, RegistryChange::Recovered) {
                        // Remember that an alert has to be ended, so that the next success tries again.
                        finish.history.failures = 1;
                    }
                }
                pending.finishes.push(finish);
            }
        }
        pending.since.get_or_insert_with(monotonic);
    }

    fn count(&self, end: &UserEnd) {
        let metrics = self.metrics;
        match end {
            UserEnd::Idle => metrics.users_idle.add_one(),
            UserEnd::Synced(report) => {
                metrics.users_synced.add_one();
                metrics.source_writes.add(u64::from(report.source_writes));
                metrics.mailbox_writes.add(u64::from(report.mailbox_writes));
            }
            UserEnd::Failed(failure) if failure.code == Code::UserUnknown => metrics.users_gone.add_one(),
            UserEnd::Failed(failure) if matches!(failure.class, ErrorClass::Throttled { .. }) => {
                metrics.users_throttled.add_one();
            }
            UserEnd::Failed(_) => metrics.users_failed.add_one(),
            UserEnd::Postponed { .. } => metrics.users_postponed.add_one(),
            UserEnd::Released => metrics.users_released.add_one(),
        }
    }

    async fn apply_registry_change(&self, user: &UserKey, change: &RegistryChange) -> Result<(), Failure> {
        match change {
            RegistryChange::None => Ok(()),
            RegistryChange::Recovered => self.within(self.record_recovery(user)).await,
            RegistryChange::Disabled(failure) => self.within(self.disable_user(user, failure)).await,
            RegistryChange::TenantAlert(failure) => self.within(self.raise_tenant_alert(failure)).await,
        }
    }

    async fn within(&self, call: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        timeout(REGISTRY_CALL, call).await.unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorClass::Transient,
                Code::RegistryUnavailable,
                format!("no answer within {} s", REGISTRY_CALL.as_secs()),
            ))
        })
    }

    fn alert(&self, user: Option<&UserId>, failure: &Failure) -> Alert {
        Alert {
            since: self.clock.now(),
            tenant: self.tenant.clone(),
            user: user.cloned(),
            location: None,
            failure: failure.clone(),
            evidence: None,
        }
    }

    async fn record_recovery(&self, user: &UserKey) -> Result<(), Failure> {
        if enable(self.registry, user).await? {
            self.metrics.users_recovered.add_one();
            tracing::info!(%user, "a disabled user works again");
        }
        Ok(())
    }

    async fn disable_user(&self, user: &UserKey, failure: &Failure) -> Result<(), Failure> {
        let Some(enrolment) = self.registry.enrolment(user).await? else {
            return Ok(());
        };
        let since = match enrolment.state {
            EnrolmentState::Enabled => {
                self.metrics.users_disabled.add_one();
                tracing::warn!(%user, code = %failure.code, detail = %failure.detail, "the user is disabled until a person acts or a later test succeeds");
                self.clock.now()
            }
            EnrolmentState::Disabled { failure: before, .. } if before.code == failure.code => return Ok(()),
            EnrolmentState::Disabled {
                failure: before,
                since,
            } => {
                self.registry
                    .end_alert(self.tenant, Some(&user.user), before.code)
                    .await?;
                since
            }
        };
        self.registry
            .raise_alert(&self.alert(Some(&user.user), failure))
            .await?;
        let state = EnrolmentState::Disabled {
            failure: failure.clone(),
            since,
        };
        self.registry.set_enrolment_state(user, &state).await.map(drop)
    }

    /// Returns the open alerts that say why no user of the tenant can be synced.
    async fn tenant_alerts(&self) -> Result<Vec<Alert>, Failure> {
        let mut alerts = self.registry.alerts(Some(self.tenant), ALERTS).await?;
        alerts.retain(|alert| alert.user.is_none() && alert.failure.stops() == Stops::Tenant);
        Ok(alerts)
    }

    /// Raises the tenant's alert. A server in trouble fails in more than one way, so the alert replaces the
    /// one about the earlier failure and keeps its start.
    async fn raise_tenant_alert(&self, failure: &Failure) -> Result<(), Failure> {
        let open = self.tenant_alerts().await?;
        let mut alert = self.alert(None, failure);
        for before in &open {
            alert.since = alert.since.min(before.since);
        }
        self.registry.raise_alert(&alert).await?;
        for before in open.iter().filter(|before| before.failure.code != failure.code) {
            self.registry
                .end_alert(self.tenant, None, before.failure.code)
                .await?;
        }
        Ok(())
    }

    /// Ends the tenant's alerts, because the tenant works again.
    async fn end_tenant_alerts(&self) {
        let ended = self
            .within(async {
                for alert in self.tenant_alerts().await? {
                    self.registry
                        .end_alert(self.tenant, None, alert.failure.code)
                        .await?;
                    tracing::info!(tenant = %self.tenant, code = %alert.failure.code, "the tenant works again");
                }
                Ok(())
            })
            .await;
        if let Err(failure) = ended {
            self.fleet_member.circuits.alerts_unchecked(self.tenant);
            tracing::warn!(tenant = %self.tenant, %failure, "the tenant's alerts could not be ended, tried again later");
        }
    }

    async fn flush(&self, pending: &mut Pending) -> Result<(), Failure> {
        pending.since = None;
        let finishes = std::mem::take(&mut pending.finishes);
        let releases = std::mem::take(&mut pending.releases);
        let mut result = Ok(());
        for group in finishes.chunks(REPORT_GROUP) {
            let done = retry_until(self.until, self.stop, || {
                self.schedule.finish(self.tenant, self.token, group)
            })
            .await;
            match done {
                Ok(done) => {
                    let at = self.clock.now();
                    let minimum = self.limits.pace.minimum;
                    self.stamps.finished(self.tenant, at, minimum, group, &done);
                    self.count_lost_claims(group.len(), done.len());
                }
                Err(failure) => {
                    self.metrics.reports_failed.add_one();
                    tracing::warn!(tenant = %self.tenant, users = group.len(), %failure, "results could not be reported, the users are synced again");
                    result = Err(failure);
                }
            }
        }
        if !releases.is_empty() {
            let done = retry_until(self.until, self.stop, || {
                self.schedule.release(self.tenant, self.token, &releases)
            })
            .await;
            match done {
                Ok(done) => self.count_lost_claims(releases.len(), done.len()),
                Err(failure) => {
                    self.metrics.reports_failed.add_one();
                    tracing::warn!(tenant = %self.tenant, users = releases.len(), %failure, "users could not be given back, their claim ends by itself");
                    result = Err(failure);
                }
            }
        }
        result
    }

    fn count_lost_claims(&self, asked: usize, done: usize) {
        let lost = asked.saturating_sub(done);
        if lost > 0 {
            self.metrics
                .claims_lost
                .add(u64::try_from(lost).unwrap_or(u64::MAX));
            tracing::debug!(tenant = %self.tenant, token = self.token.0, lost, "claims were gone before their users were reported");
        }
    }
}

/// Repeats a call, with growing pauses, until it succeeds or `until` has passed. A stopping process repeats
/// it for at most [`SETTLE`].
///
/// # Errors
/// The last failure.
pub(super) async fn retry_until<T, F: Future<Output = Result<T, Failure>>>(
    mut until: Instant,
    stop: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut attempt = 0;
    let mut stopping = false;
    loop {
        if stop.is_cancelled() && !stopping {
            stopping = true;
            until = until.min(monotonic() + SETTLE);
        }
        let left = until.saturating_duration_since(monotonic());
        let answer = timeout(left.clamp(Duration::from_secs(1), SETTLE), call())
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorClass::Transient,
                    Code::ScheduleUnavailable,
                    "no answer in time",
                ))
            });
        let failure = match answer {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let next = monotonic() + pause(attempt, LONGEST_CALL_PAUSE);
        if next >= until {
            return Err(failure);
        }
        attempt += 1;
        sleep_until(next).await;
    }
}
