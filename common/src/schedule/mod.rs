//! The order of work: who has waited longest, who is being worked on by whom, and who leads.
//!
//! A user's *stamp* is the end of the last attempt, moved by postponement or back-off; a user is due when the stamp is at
//! least `minimum_time_between_user_syncs` old. A *claim* takes users out of the order for a limited time under a fencing
//! token; whoever comes with another token changes nothing. A claim holds until it is finished, released, reclaimed or
//! withdrawn; from its expiry on it may be reclaimed at any time.

pub mod fair;
pub mod gather;
mod mark;
mod memory;
mod names;
mod open;
pub mod postpone;
pub mod rebuild;
mod redis;
pub mod select;
mod stamps;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use mark::{Inspected, Mark, Marked};
pub use memory::MemorySchedule;
pub use names::{Members, digest_of, digest_of_all};
pub(crate) use open::SUPPORTED;
pub use open::open_schedule;
pub use redis::RedisSchedule;
pub use stamps::StampSaver;

use crate::error::Failure;
use crate::metrics::record::Store;
use crate::model::{TenantId, UserId, UserKey};
use crate::seam::seam;

/// What a user's attempts looked like, saved lazily so that an index can be rebuilt from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedStamp {
    /// The user.
    pub user: UserId,
    /// The order stamp (see `schedule`).
    pub stamp: Timestamp,
    /// End of the last successful sync.
    pub last_success: Option<Timestamp>,
    /// The failures since, if the last attempt failed.
    pub failing: Option<Failing>,
}

/// Attempts of one user that failed one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// End of the first of them.
    pub since: Timestamp,
    /// How many of them count against the user.
    pub attempts: u32,
    /// What went wrong last.
    pub failure: Failure,
}

impl SavedStamp {
    /// Returns the stamp of a user who is not failing.
    #[must_use]
    pub fn new(user: UserId, stamp: Timestamp, last_success: Option<Timestamp>) -> Self {
        Self {
            user,
            stamp,
            last_success,
            failing: None,
        }
    }

    /// Returns the stamp of a user who is disabled since then because of this failure: at least as many attempts count against
    /// the user as disable one, so that the next success is a recovery.
    #[must_use]
    pub fn disabled(self, since: Timestamp, failure: &Failure) -> Self {
        let failing = self.failing.unwrap_or_else(|| Failing {
            since,
            attempts: 0,
            failure: failure.clone(),
        });
        Self {
            failing: Some(Failing {
                attempts: failing.attempts.max(postpone::FAILURES_BEFORE_DISABLED),
                ..failing
            }),
            ..self
        }
    }

    /// Returns whether no attempt of this user has ended yet.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.last_success.is_none() && self.failing.is_none()
    }
}

/// Growing number of a claim; a claim with a lower one is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

/// Growing number of a leadership; claims of an older one are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The stamp of a tenant's oldest due-or-waiting user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The tenant.
    pub tenant: TenantId,
    /// Its oldest stamp.
    pub stamp: Timestamp,
    /// Users of the tenant that are claimed now.
    pub in_flight: u64,
}

/// What happened in a user's last attempts; grows and resets with the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Successful cycles in a row that found nothing to do.
    pub idle_cycles: u32,
    /// Failed attempts in a row (throttling does not count).
    pub failures: u32,
}

/// A user taken out of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The user.
    pub user: UserId,
    /// The stamp the user had.
    pub stamp: Timestamp,
}

/// Answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// These users are claimed under this token; users that were gone or claimed already are left out.
    Claimed {
        /// Fencing token of all of them.
        token: Token,
        /// Who was claimed, in the order asked for.
        users: Vec<Claimed>,
    },
    /// A newer leader exists; nothing was claimed.
    StaleEpoch,
}

/// A user whose claim still holds when the work starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The user.
    pub user: UserId,
    /// The user's last attempts, for the postponement at the end.
    pub history: History,
}

/// The answer of [`Claims::renew`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Users whose claim still holds.
    pub held: Vec<Held>,
    /// Users of the tenant in the order of work, for [`gather`].
    pub tenant_users: u64,
}

/// How a user's attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// The user.
    pub user: UserId,
    /// Success, or what went wrong.
    pub result: Result<(), Failure>,
    /// The history from now on.
    pub history: History,
    /// The user is due again this long after the end of this attempt.
    pub due_after: Duration,
}

/// What is known of one user's place in the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// Order stamp; the user is due when it is `minimum_time_between_user_syncs` old.
    pub stamp: Timestamp,
    /// Whether a worker has the user now.
    pub claimed: bool,
    /// End of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// End of the last successful attempt: what is shown and alarmed.
    pub last_success: Option<Timestamp>,
    /// What went wrong last, if the last attempt failed.
    pub last_failure: Option<Failure>,
    /// The last attempts.
    pub history: History,
}

/// Freshness of everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Tenants with at least one user in the order.
    pub tenants: u64,
    /// Users in the order (claimed ones included).
    pub users: u64,
    /// Users whose stamp is old enough to be picked.
    pub due: u64,
    /// Attempts finished since the order of work began; a rate over time.
    pub attempts: u64,
    /// Users a worker has now.
    pub claimed: u64,
    /// Seconds the longest-waiting due user has been due.
    pub oldest_due_seconds: Option<u64>,
    /// Median of the last intervals between two attempts of the same user, in seconds; from a bounded sample.
    pub interval_p50_seconds: Option<u64>,
    /// 99th percentile of the same sample, in seconds.
    pub interval_p99_seconds: Option<u64>,
    /// Age of the oldest last success among enrolled users, in seconds.
    pub oldest_success_seconds: Option<u64>,
}

impl Summary {
    /// Counts a last success that the order does not know, such as the opt-in of somebody who never succeeded.
    pub fn count_success(&mut self, oldest: Option<Timestamp>, now: Timestamp) {
        let age = oldest.map(|at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0));
        self.oldest_success_seconds = self.oldest_success_seconds.max(age);
    }
}

/// Where a walk over names goes on; only the schedule that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Part of a walk over names. A name that is in during the whole walk comes at least once, others may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The names; may be empty before the end.
    pub names: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// The seam to the order of work: all topics together. Every method is one atomic change; time is the schedule's own.
///
/// All methods fail with class `Transient` when the store does not answer.
pub trait Schedule: Order + Claims + Freshness + Leadership + Integrity {}
impl<T> Schedule for T where T: Order + Claims + Freshness + Leadership + Integrity + ?Sized {}

seam! {
    Store::Schedule,
    /// Who waits, oldest first.
    pub trait Order {
        /// Puts a user in with this stamp and last success unless already in (a claimed user stays claimed).
        async fn enrol(&self, user: &UserKey, stamp: Timestamp, last_success: Option<Timestamp>) -> Result<bool, Failure>;
        /// Puts users of one tenant in as [`Self::enrol`] does, each with its own stamps; how many of them were not in.
        async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure>;
        /// Puts users in as [`Self::enrol_many`] does, but under a claim nobody holds: they are due when it ends, after `lasts`.
        /// For users who may still be worked on under a claim that was lost.
        async fn enrol_claimed(&self, tenant: &TenantId, users: &[SavedStamp], lasts: Duration) -> Result<u64, Failure>;
        /// Takes a user out, claimed or not; the claim is void.
        async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure>;
        /// Takes a whole tenant out.
        async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure>;
        /// Makes a user due at once, ahead of everybody whose stamp is younger than an hour. A claimed user becomes due
        /// again when the running attempt ends, however it ends. `false` when not in.
        async fn make_due(&self, user: &UserKey) -> Result<bool, Failure>;
        /// At most `limit` tenants with the oldest heads, oldest first; tenants all of whose users are claimed are left out.
        async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure>;
        /// At most `limit` users of the tenant whose stamp is not after `not_after`, oldest first, ties by name.
        async fn oldest(&self, tenant: &TenantId, not_after: Timestamp, limit: usize) -> Result<Vec<(UserId, Timestamp)>, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Who is being worked on, by whom, until when.
    pub trait Claims {
        /// Claims users of one tenant for `lasts`, under one new token: a batch. An epoch other than the present one is stale.
        async fn claim(&self, epoch: Epoch, tenant: &TenantId, users: &[UserId], lasts: Duration) -> Result<ClaimAnswer, Failure>;
        /// Extends all claims under `token`, also of users not named, and says which of those named still hold.
        async fn renew(&self, tenant: &TenantId, token: Token, users: &[UserId], lasts: Duration) -> Result<Renewed, Failure>;
        /// Ends attempts: the stamp becomes now + `due_after` - minimum time between syncs. Users whose claim under `token`
        /// is gone are not touched; the answer names those that were finished.
        async fn finish(&self, tenant: &TenantId, token: Token, results: &[Finish]) -> Result<Vec<UserId>, Failure>;
        /// Gives users back with their original stamps; the answer names those whose claim still held.
        async fn release(&self, tenant: &TenantId, token: Token, users: &[UserId]) -> Result<Vec<UserId>, Failure>;
        /// Gives back at most `limit` users whose claims expired, with their original stamps.
        async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// What is known of one user, of a tenant and of everybody.
    pub trait Freshness {
        /// One user's place.
        async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure>;
        /// About `limit` tenants that have users in, claimed or not.
        async fn tenants(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<TenantId>, Failure>;
        /// About `limit` users of a tenant that are in, claimed or not.
        async fn users(&self, tenant: &TenantId, after: Option<&Cursor>, limit: usize) -> Result<Page<UserId>, Failure>;
        /// Everybody's freshness; of one tenant when given (then `tenants` is 1, or 0 when nobody of it is in).
        async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure>;
        /// Whether nobody is in. Cheap, unlike a summary.
        async fn is_empty(&self) -> Result<bool, Failure>;
        /// The schedule's time.
        async fn now(&self) -> Result<Timestamp, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Who leads.
    pub trait Leadership {
        /// Takes or renews the leadership for `lasts`; `None` when somebody else (another `holder`) leads. Renewed in time
        /// the epoch stays; taken anew it grows.
        async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure>;
        /// Who leads now, by the name given to [`Self::lead`]; `None` when nobody does.
        async fn leader(&self) -> Result<Option<String>, Failure>;
        /// Gives the leadership up, if `holder` has it.
        async fn resign(&self, holder: &str) -> Result<(), Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Whether the order is whole.
    pub trait Integrity {
        /// Moves the mark that tells whether data were lost. `None` for an order that lives and ends with its process.
        /// For the leader only.
        async fn mark(&self) -> Result<Option<Marked>, Failure>;
        /// Looks at about `limit` tenants, in turn, whether what is kept of them in several places agrees, and mends it. Users
        /// of whom a place was lost are due again after `lasts`, the lifetime of a claim. For the leader only.
        async fn inspect(&self, limit: usize, lasts: Duration) -> Result<Inspected, Failure>;
        /// Returns those of the tenants that have another number of users in the order than given here, with the number in
        /// the order.
        async fn differing(&self, expected: &[(TenantId, u64)]) -> Result<Vec<(TenantId, u64)>, Failure>;
        /// Makes the digest of a tenant's names anew from the names. For a tenant whose digest is missing or wrong.
        async fn recount_names(&self, tenant: &TenantId) -> Result<(), Failure>;
        /// Checks that the order can be written, without leaving anything behind.
        async fn check_writable(&self) -> Result<(), Failure>;
    }
    told {
        /// The mark's number after the last claim or mark this process was answered; asks nobody. `None` for an order that
        /// lives and ends with its process.
        fn acknowledged(&self) -> Option<u64>;
    }
}

/// The topics' traits without their names, for `use topics::*` where a schedule's own type is called.
pub mod topics {
    pub use super::{Claims as _, Freshness as _, Integrity as _, Leadership as _, Order as _};
}
