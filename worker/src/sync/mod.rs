//! The sync pass of one user: load, plan, guard, apply, commit.
//!
//! Readers never write. Planning and the bookkeeping of a pass are pure (`tasksync_common::plan`). The writer
//! carries actions out and decides nothing. The state is saved as the work goes on, cursors last.

mod deleted;
mod evidence;
mod folders;
mod held_alert;
mod journal;
mod keeper;
mod load;
mod mailbox_reader;
mod mailbox_reading;
mod markers;
mod moved;
mod names;
mod pairs;
mod read_back;
mod source_reader;
mod survey;
mod tenants;
mod unread_alerts;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::SharedClock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Phase};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::plan::{GuardLimits, GuardedPlan, HeldDeletions, Plan, Rules, assemble, held_digest};
use tasksync_common::registry::Registry;
use tasksync_common::settings::{GuardSettings, WorkerSettings};
use tokio::time::Instant;

pub use names::PlanNames;
pub use survey::{StoredUser, SyncWork};
pub use tenants::{Connections, TenantConnector, TenantContext, Tenants};

use self::keeper::Keeper;
use self::load::{CheckDepth, Loaded, Loader};
use self::writer::Writer;
use crate::work::{Survey, SyncReport, UserSync};

/// Uncertainty of edit times where a clock was never measured: two edits within this time count as
/// simultaneous.
const UNKNOWN_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The settings that a sync uses.
#[derive(Debug, Clone, Copy)]
pub struct SyncSettings {
    /// Time between two full checks, which compare everything whatever the cheap checks say.
    pub full_check_interval: Duration,
    /// Time within which the values of every linked pair are compared once.
    pub deep_check_interval: Duration,
    /// The numbers beyond which deletions are held back.
    pub limits: GuardLimits,
}

impl SyncSettings {
    /// Takes the values from the settings file.
    #[must_use]
    pub fn new(worker: &WorkerSettings, guard: &GuardSettings) -> Self {
        let limits = GuardLimits {
            deletions: guard.deletions,
            percent: guard.deletions_percent,
            emptied_from: guard.emptied_from,
        };
        Self {
            full_check_interval: worker.full_check_interval,
            deep_check_interval: worker.deep_check_interval,
            limits,
        }
    }

    /// Returns whether a full check is due.
    fn full_check_due(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let interval = SignedDuration::try_from(self.full_check_interval).unwrap_or(SignedDuration::MAX);
        last.is_none_or(|last| now.duration_since(last) >= interval)
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
    /// Returns an engine over these stores and connections.
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

    /// Returns when syncs of this process last searched the tenant's source for task lists with success; `None` if they
    /// did not since the process connected to the tenant.
    pub async fn last_discovery(&self, tenant: &TenantId) -> Option<Timestamp> {
        self.tenants.last_discovery(tenant).await
    }

    /// Returns what a sync of this user would do now, and what the guard would hold back. Writes nothing.
    ///
    /// # Errors
    /// As a sync that fails while reading.
    pub async fn preview(&self, user: &UserKey) -> Result<(Plan, Vec<HeldDeletions>), Failure> {
        let (plan, held, _) = self.preview_with_names(user).await?;
        Ok((plan, held))
    }

    /// As [`Self::preview`], with the titles and names of the tasks and lists.
    ///
    /// # Errors
    /// As a sync that fails while reading.
    pub async fn preview_with_names(
        &self,
        user: &UserKey,
    ) -> Result<(Plan, Vec<HeldDeletions>, PlanNames), Failure> {
        let context = self.tenants.get(&user.tenant).await?;
        // A preview should show an edit made a moment ago, which the shared change feed may not report yet,
        // and a difference that nothing reported.
        let work = SyncWork::without_survey(&context, user);
        let deadline = monotonic() + Duration::from_mins(5);
        let loaded = self
            .loader(&context, deadline, CheckDepth::Everything)
            .load(work)
            .await?;
        let GuardedPlan {
            plan,
            held_deletions: held,
            ..
        } = self.plan(&context, &loaded);
        Ok((plan, held, PlanNames::of(&loaded)))
    }

    fn loader<'a>(&'a self, context: &'a TenantContext, deadline: Instant, depth: CheckDepth) -> Loader<'a> {
        Loader {
            registry: &*self.registry,
            context,
            settings: &self.settings,
            started: self.clock.now(),
            deadline,
            depth,
        }
    }

    fn plan(&self, context: &TenantContext, loaded: &Loaded) -> GuardedPlan {
        let (source, mailbox) = (&context.connections.source, &context.connections.mailbox);
        let measured = source.clock_offset().is_some() && mailbox.clock_offset().is_some();
        let capabilities = mailbox.capabilities();
        let rules = Rules {
            mailbox_fields: capabilities.fields,
            canonical: &|task, own_start| mailbox.canonical(task, own_start),
            precision: capabilities
                .time_precision
                .max(source.capabilities().time_precision),
            uncertainty: if measured {
                SignedDuration::ZERO
            } else {
                UNKNOWN_SKEW
            },
            policy: context.tenant.policy,
            now: loaded.started,
        };
        let state = &loaded.pass.state;
        let folders = state.locations.keys().cloned().collect();
        assemble(&loaded.pairs, &folders, rules).apply_guard(&state.links, self.settings.limits)
    }

    /// Runs one pass: load, plan, guard, apply, commit. Returns `true` if something changed meanwhile and
    /// should be read again.
    async fn run_pass(
        &self,
        context: &TenantContext,
        work: SyncWork,
        deadline: Instant,
        report: &mut SyncReport,
    ) -> Result<bool, Failure> {
        let mut loaded = self
            .loader(context, deadline, CheckDepth::AsDue)
            .load(work)
            .await?;
        let began = monotonic();
        let guarded = self.plan(context, &loaded);
        record::phase(Phase::Plan, began.elapsed());
        let permitted = !guarded.held_deletions.is_empty()
            && self
                .registry
                .take_deletion_permit(
                    &loaded.user,
                    &held_digest(&guarded.held_deletions),
                    loaded.started,
                )
                .await?;
        let (plan, held_deletions) = if permitted {
            (guarded.with_held_deletions(), Vec::new())
        } else {
            (guarded.plan, guarded.held_deletions)
        };
        held_alert::raise_or_end_alert(&*self.registry, &loaded, &held_deletions).await?;
        unread_alerts::raise_alerts(&*self.registry, &loaded).await?;
        let alerted_before = unread_alerts::alerted_locations(loaded.pass.saved());
        let state = &mut loaded.pass.state;
        state.held = held_deletions
            .iter()
            .flat_map(|held| held.keys.iter().cloned())
            .collect();
        report.held += u32::try_from(state.held.len()).unwrap_or(u32::MAX);
        let entries = journal::entries(&loaded.user, loaded.started, &plan);
        if !entries.is_empty() {
            self.registry.journal(&entries).await?;
        }
        let mut keeper = Keeper {
            registry: Arc::clone(&self.registry),
            enrolment: loaded.enrolment,
            version: loaded.version,
        };
        let writer = Writer {
            source: &*context.connections.source,
            mailbox: &*context.connections.mailbox,
            user: &loaded.user,
            owner: &loaded.owner,
            person: &loaded.person,
            locations: &loaded.locations,
            keeper: &mut keeper,
            pass: &mut loaded.pass,
            report,
            deadline,
            write_id: Writer::new_write_id(),
            clock: &*self.clock,
        };
        record::time_phase(Phase::Apply, writer.carry_out(plan, loaded.unnamed)).await?;
        if loaded.pass.commit() || keeper.version == 0 {
            record::time_phase(Phase::Commit, keeper.save(&mut loaded.pass)).await?;
        }
        unread_alerts::end_alerts(
            &*self.registry,
            &loaded.user.tenant,
            &alerted_before,
            &loaded.pass.state,
        )
        .await?;
        loaded.pass.outcome()
    }
}

#[async_trait]
impl UserSync for SyncEngine {
    type LookedUp = StoredUser;
    type Work = SyncWork;

    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<StoredUser, Failure>> {
        self.look_up_users(tenant, users).await
    }

    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, StoredUser)>,
    ) -> Vec<Result<Survey<SyncWork>, Failure>> {
        self.survey_group(tenant, users).await
    }

    async fn sync(&self, user: &UserKey, work: SyncWork, budget: Duration) -> Result<SyncReport, Failure> {
        let deadline = monotonic() + budget;
        let context = Arc::clone(&work.context);
        let mut report = SyncReport::default();
        let mut next = Some(work);
        // A task that changed while it was being written is read and planned again, once. After that it waits
        // for the next sync.
        for _ in 0..2 {
            let Some(work) = next.take() else { break };
            let again = self.run_pass(&context, work, deadline, &mut report).await?;
            if again && monotonic() < deadline {
                next = Some(SyncWork::without_survey(&context, user));
            }
        }
        Ok(report)
    }
}

/// Fails if the deadline has passed. A pass that could not read both sides in time starts again from the
/// beginning.
fn in_time(deadline: Instant) -> Result<(), Failure> {
    if monotonic() < deadline {
        return Ok(());
    }
    Err(Failure::new(
        ErrorClass::Transient,
        Code::BudgetExhausted,
        "the time was used up before both sides were read; nothing was written",
    ))
}
