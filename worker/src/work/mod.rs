//! Taking jobs and working on them inside their limits.
//!
//! [`run`] takes jobs while it has free permits, renews the claim of each, looks its users up at once, surveys them in groups, syncs those that
//! need it side by side, reports how each ended, and settles the job when everything is reported.

mod batch;
mod circuit;
mod consume;
mod consumers;
mod contained;
mod group;
mod limits;
mod metrics;
mod outcome;
mod presence;
mod report;
mod told;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};

pub use consume::{Worker, run};
pub use consumers::Consumers;
pub use limits::WorkLimits;
pub use metrics::{WorkMetrics, WorkSnapshot};
pub use presence::Presence;

/// What a group's survey found for one user.
pub enum Survey<W> {
    /// Nothing changed on either side: the user is done.
    Idle,
    /// Something may have changed; this is what the sync needs to know.
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
    /// Deletions the guard held back.
    pub held: u32,
    /// The sync stopped at a safe point before everything was done: the user is due again at once.
    pub unfinished: bool,
}

impl SyncReport {
    /// Whether anything was written or is still to be written.
    #[must_use]
    pub fn had_work(&self) -> bool {
        self.source_writes > 0 || self.mailbox_writes > 0 || self.items_failed > 0 || self.unfinished
    }
}

/// What the worker's loop drives: one look at our own stores for a whole batch, a survey for a whole group of users at once, then one sync per user that needs it.
#[async_trait]
pub trait UserSync: Send + Sync + 'static {
    /// What our own stores know of a user.
    type Known: Send + 'static;
    /// What the survey hands to the sync.
    type Work: Send + 'static;

    /// Looks up all users of a batch in our own stores at once. One answer per user, in order.
    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<Self::Known, Failure>>;

    /// Asks for a group of users (at most `users_at_once`) of one tenant whether anything changed, in as few requests as
    /// possible. One answer per user, in order. What is known may be as old as the batch.
    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, Self::Known)>,
    ) -> Vec<Result<Survey<Self::Work>, Failure>>;

    /// Syncs one user, as our own stores know the user now: who opted out or changed the mailbox since the look-up is
    /// not synced as before. Stops by itself at a safe point when `budget` is used up; may be dropped at any await point
    /// without losing or doubling a task.
    async fn sync(&self, user: &UserKey, work: Self::Work, budget: Duration) -> Result<SyncReport, Failure>;
}
