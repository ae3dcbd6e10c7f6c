//! The sync pass of one user: load, plan, guard, apply, commit.
//!
//! Loading reads and never writes; planning is pure (`tasksync_common::plan`); applying makes no choices. State is
//! saved as the work goes on, cursors last.

mod apply;
mod commit;
mod deleted;
mod journal;
mod load;
mod mailbox_side;
mod moved;
mod pairs;
mod source_side;
mod survey;
mod tenants;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Phase};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::plan::{Held, Limits, Plan, Rules, assemble, guard};
use tasksync_common::registry::Registry;
use tasksync_common::settings::{GuardSettings, WorkerSettings};
use tokio::time::Instant;

pub use survey::{Known, Work};
pub use tenants::{Connections, Connector, TenantContext, Tenants, zone_named};

use crate::work::{Survey, SyncReport, UserSync};

/// What a sync needs to know of the settings.
#[derive(Debug, Clone, Copy)]
pub struct SyncSettings {
    /// Everything is compared this often, whatever the cheap checks say.
    pub full_check_interval: Duration,
    /// When deletions are held back.
    pub limits: Limits,
}

impl SyncSettings {
    /// Taken from the settings file.
    #[must_use]
    pub fn new(worker: &WorkerSettings, guard: &GuardSettings) -> Self {
        let limits = Limits {
            deletions: guard.deletions,
            percent: guard.deletions_percent,
            emptied_from: guard.emptied_from,
        };
        Self {
            full_check_interval: worker.full_check_interval,
            limits,
        }
    }
}

/// Syncs users of any tenant.
pub struct SyncEngine {
    registry: Arc<dyn Registry>,
    tenants: Arc<Tenants>,
    clock: SharedClock,
    settings: SyncSettings,
}

impl SyncEngine {
    /// An engine over these stores and connections.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Registry>,
        tenants: Arc<Tenants>,
        clock: SharedClock,
        settings: SyncSettings,
    ) -> Self {
        Self {
            registry,
            tenants,
            clock,
            settings,
        }
    }

    /// What a sync of this user would do now, and what the guard would hold back; nothing is written.
    ///
    /// # Errors
    /// As a sync that fails while reading.
    pub async fn preview(&self, user: &UserKey) -> Result<(Plan, Vec<Held>), Failure> {
        let context = self.tenants.get(&user.tenant).await?;
        let mut work = Work::whole(&context, user);
        // Whoever asks wants to see an edit made a moment ago, which the shared change feed may not show yet.
        work.full = true;
        let loaded = self
            .load(&context, work, Instant::now() + Duration::from_secs(300))
            .await?;
        Ok(self.plan(&context, &loaded))
    }

    fn plan(&self, context: &TenantContext, loaded: &load::Loaded) -> (Plan, Vec<Held>) {
        let rules = Rules {
            mailbox_holds: context.connections.mailbox.capabilities().fields,
        };
        let folders = loaded.state.locations.keys().cloned().collect();
        guard(
            assemble(&loaded.pairs, &folders, rules),
            &loaded.state.links,
            self.settings.limits,
        )
    }
}

#[async_trait]
impl UserSync for SyncEngine {
    type Known = Known;
    type Work = Work;

    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<Known, Failure>> {
        self.look_up_users(tenant, users).await
    }

    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, Known)>,
    ) -> Vec<Result<Survey<Work>, Failure>> {
        self.survey_group(tenant, users).await
    }

    async fn sync(&self, user: &UserKey, work: Work, budget: Duration) -> Result<SyncReport, Failure> {
        let deadline = Instant::now() + budget;
        let context = Arc::clone(&work.context);
        let mut report = SyncReport::default();
        let mut next = Some(work);
        // A task that changed while it was being written is read and planned again, once; then it is the next sync's.
        for _ in 0..2 {
            let Some(work) = next.take() else { break };
            let again = self.pass(&context, work, deadline, &mut report).await?;
            if again && Instant::now() < deadline {
                next = Some(Work::whole(&context, user));
            }
        }
        Ok(report)
    }
}

impl SyncEngine {
    /// One load, plan, guard, apply, commit. `true` when something changed meanwhile and should be looked at again.
    async fn pass(
        &self,
        context: &Arc<TenantContext>,
        work: Work,
        deadline: Instant,
        report: &mut SyncReport,
    ) -> Result<bool, Failure> {
        let mut loaded = self.load(context, work, deadline).await?;
        let began = std::time::Instant::now();
        let (mut plan, mut held) = self.plan(context, &loaded);
        record::phase(Phase::Plan, began.elapsed());
        if !held.is_empty() && self.registry.take_deletion_permit(&loaded.user).await? {
            let rules = Rules {
                mailbox_holds: context.connections.mailbox.capabilities().fields,
            };
            let folders = loaded.state.locations.keys().cloned().collect();
            plan = assemble(&loaded.pairs, &folders, rules);
            held.clear();
        }
        self.tell_of_held(&loaded, &held).await?;
        loaded.state.held = held.iter().flat_map(|held| held.keys.iter().cloned()).collect();
        report.held += u32::try_from(loaded.state.held.len()).unwrap_or(u32::MAX);
        let applying = self.apply(context, &mut loaded, plan, deadline, report);
        let outcome = record::timed(Phase::Apply, applying).await?;
        if outcome.twin_left {
            // Where the folders were read up to before stays stored, so that they report it again.
            loaded.folders.clear();
        }
        record::timed(Phase::Commit, self.commit(&mut loaded)).await?;
        match outcome.stopped_by {
            Some(failure) => Err(failure),
            None => Ok(outcome.again),
        }
    }
}

/// A pass that cannot even read both sides in its time is tried again from the start.
fn in_time(deadline: Instant) -> Result<(), Failure> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Failure::new(
        ErrorClass::Transient,
        Code::BudgetExhausted,
        "the time was used up before both sides were read; nothing was written",
    ))
}
