//! Taking jobs and working on them within their limits.
//!
//! [`run`] takes jobs while it has free permits. For each job it renews the claim, looks the users up with
//! one query, surveys them in groups, and syncs those that need it side by side. It reports how each user
//! ended, and settles the job when everything is reported.

mod batch;
mod catch_panic;
mod circuit;
mod consume;
mod consumer_health;
mod fleet_member;
mod group;
mod limits;
mod measurements;
mod metrics;
mod next_turn;
mod report;
mod tenant_loads;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};

pub use consume::{Worker, run};
pub use consumer_health::Consumers;
pub use fleet_member::FleetMember;
pub use limits::WorkLimits;
pub use metrics::{WorkMetrics, WorkSnapshot};

/// What a group's survey found for one user.
pub enum Survey<W> {
    /// Nothing changed on either side: the user is done.
    Idle,
    /// Something may have changed; the value is what the sync needs.
    Work(W),
}

/// What one user's sync did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SyncReport {
    /// Writes at the source.
    pub source_writes: u32,
    /// Writes in the mailbox.
    pub mailbox_writes: u32,
    /// Tasks left for a later sync because their own write failed.
    pub items_failed: u32,
    /// Deletions that the guard held back.
    pub held: u32,
    /// The sync stopped at a safe point before everything was done: the user is due again at once.
    pub unfinished: bool,
}

impl SyncReport {
    /// Returns whether anything was written or is still to be written.
    #[must_use]
    pub fn had_work(&self) -> bool {
        self.source_writes > 0 || self.mailbox_writes > 0 || self.items_failed > 0 || self.unfinished
    }
}

/// What the worker's loop drives: one look-up in our own stores for a whole batch, a survey for each group of
/// users, then one sync for each user that needs it.
#[async_trait]
pub trait UserSync: Send + Sync + 'static {
    /// What our own stores hold about a user.
    type LookedUp: Send + 'static;
    /// What the survey hands to the sync.
    type Work: Send + 'static;

    /// Looks up all users of a batch in our own stores with one call. Returns one answer per user, in order.
    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<Self::LookedUp, Failure>>;

    /// Asks both servers, in as few requests as possible, whether anything changed for a group of users of
    /// one tenant (at most `users_at_once`). Returns one answer per user, in order. `LookedUp` may be as old as
    /// the batch.
    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, Self::LookedUp)>,
    ) -> Vec<Result<Survey<Self::Work>, Failure>>;

    /// Syncs one user. Reads the user's enrolment and state again: a user who opted out or changed the
    /// mailbox since the look-up is not synced as before. Stops by itself at a safe point when `budget` is
    /// used up. May be dropped at any await point without losing or doubling a task.
    async fn sync(&self, user: &UserKey, work: Self::Work, budget: Duration) -> Result<SyncReport, Failure>;
}
