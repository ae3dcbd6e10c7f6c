//! The schedule: which user is synced next, which users are claimed, and which process leads.
//!
//! A user's *stamp* is the end of the last attempt, moved by postponement or backoff. A user is due if the
//! stamp is at least `minimum_time_between_user_syncs` old. A *claim* takes users out of the order for a
//! limited time under a fencing token; a call with another token changes nothing. A claim holds until it is
//! finished, released, reclaimed or withdrawn; once it has expired it may be reclaimed at any time.

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

pub use mark::{InspectionResult, Mark, MarkUpdate};
pub use memory::MemorySchedule;
pub use names::{TenantUsers, digest_of, digest_of_all};
pub use open::open_schedule;
pub(crate) use open::{SUPPORTED, url_refusal};
pub use redis::RedisSchedule;
pub use stamps::StampSaver;

use crate::error::Failure;
use crate::metrics::record::Store;
use crate::model::{TenantId, UserId, UserKey};
use crate::seam::seam;

/// The results of a user's attempts, saved late so that the schedule can be rebuilt from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedStamp {
    /// The user.
    pub user: UserId,
    /// The stamp (see `schedule`).
    pub stamp: Timestamp,
    /// End of the last successful sync.
    pub last_success: Option<Timestamp>,
    /// The failures since, if the last attempt failed.
    pub failing: Option<FailureStreak>,
}

/// Failed attempts of one user in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStreak {
    /// End of the first of them.
    pub since: Timestamp,
    /// Number of attempts that count against the user.
    pub attempts: u32,
    /// The last failure.
    pub failure: Failure,
}

impl SavedStamp {
    /// Returns the stamp of a user without failures.
    #[must_use]
    pub fn new(user: UserId, stamp: Timestamp, last_success: Option<Timestamp>) -> Self {
        Self {
            user,
            stamp,
            last_success,
            failing: None,
        }
    }

    /// Returns the stamp of a user who was disabled at `since` because of this failure. At least as many attempts count
    /// against the user as disable one, so the next success is a recovery.
    #[must_use]
    pub fn disabled(self, since: Timestamp, failure: &Failure) -> Self {
        let failing = self.failing.unwrap_or_else(|| FailureStreak {
            since,
            attempts: 0,
            failure: failure.clone(),
        });
        Self {
            failing: Some(FailureStreak {
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

/// Fencing token of a claim. It grows with every claim; a claim with a lower token is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

/// Number of a leadership. It grows; claims under an older epoch are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The stamp of a tenant's oldest waiting user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The tenant.
    pub tenant: TenantId,
    /// Its oldest stamp.
    pub stamp: Timestamp,
    /// Number of the tenant's claimed users.
    pub in_flight: u64,
}

/// Counts of a user's last attempts. They grow and reset with the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Number of successful cycles in a row that found no changes.
    pub idle_cycles: u32,
    /// Number of failed attempts in a row; throttling does not count.
    pub failures: u32,
}

/// A user who was taken out of the order by a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedUser {
    /// The user.
    pub user: UserId,
    /// The user's stamp before the claim.
    pub stamp: Timestamp,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// These users are claimed under this token. Users who were gone or claimed already are left out.
    Claimed {
        /// The fencing token of all of them.
        token: Token,
        /// The claimed users, in the order of the request.
        users: Vec<ClaimedUser>,
    },
    /// A newer leader exists; nothing was claimed.
    StaleEpoch,
}

/// A user whose claim still holds when the work begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedUser {
    /// The user.
    pub user: UserId,
    /// Counts of the user's last attempts, for the postponement at the end.
    pub history: History,
}

/// The answer of [`Claims::renew`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimRenewal {
    /// Users whose claim still holds.
    pub still_claimed: Vec<RenewedUser>,
    /// Number of the tenant's users in the schedule, for [`gather`].
    pub tenant_users: u64,
}

/// The result of a user's attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedAttempt {
    /// The user.
    pub user: UserId,
    /// Success, or the failure.
    pub result: Result<(), Failure>,
    /// The new history.
    pub history: History,
    /// The user is due again this long after the end of this attempt.
    pub due_after: Duration,
}

/// A user's place in the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// The stamp. The user is due if it is `minimum_time_between_user_syncs` old.
    pub stamp: Timestamp,
    /// The stamp from which the wait counts, if a request moved `stamp` ahead of it (see [`Order::make_due`]).
    #[serde(default)]
    pub requested: Option<Timestamp>,
    /// Whether the user is claimed.
    pub claimed: bool,
    /// End of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// End of the last successful attempt. It is shown, and alerts depend on it.
    pub last_success: Option<Timestamp>,
    /// The last failure, if the last attempt failed.
    pub last_failure: Option<Failure>,
    /// Counts of the last attempts.
    pub history: History,
}

/// Freshness of all users, or of one tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Number of tenants with users in the schedule.
    pub tenants: u64,
    /// Number of users in the schedule, including claimed ones.
    pub users: u64,
    /// Number of waiting users whose stamps are old enough.
    pub due: u64,
    /// Number of finished attempts since the schedule began; its growth is a rate.
    pub attempts: u64,
    /// Number of claimed users.
    pub claimed: u64,
    /// Seconds since the longest-waiting user became due. A requested user waits since the request, or since the
    /// user became due before it.
    pub oldest_due_seconds: Option<u64>,
    /// Median of the last intervals between two attempts of the same user, in seconds, from a bounded sample.
    pub interval_p50_seconds: Option<u64>,
    /// 99th percentile of the same sample, in seconds.
    pub interval_p99_seconds: Option<u64>,
    /// Age of the oldest last success among enrolled users, in seconds.
    pub oldest_success_seconds: Option<u64>,
}

impl UserStatus {
    /// Returns the stamp from which the wait counts. It is later than `stamp` if the user was requested.
    #[must_use]
    pub fn waits_from(&self) -> Timestamp {
        self.requested.unwrap_or(self.stamp)
    }
}

impl Summary {
    /// Includes a last success that the schedule does not know, such as the opt-in of a user who never
    /// succeeded.
    pub fn count_success(&mut self, oldest: Option<Timestamp>, now: Timestamp) {
        let age = oldest.map(|at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0));
        self.oldest_success_seconds = self.oldest_success_seconds.max(age);
    }
}

/// Where a walk over names continues. Only the schedule that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCursor(pub String);

/// A part of a walk over names. A name that is present during the whole walk is returned at least once; other
/// names may be returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The names; may be empty although others follow.
    pub names: Vec<T>,
    /// Where the walk continues; `None` at the end.
    pub next: Option<PageCursor>,
}

/// The seam to the schedule: all topics together. Every method is one atomic change and uses the schedule's
/// own clock.
///
/// All methods fail with class `Transient` if the store does not answer.
pub trait Schedule: Order + Claims + Freshness + Leadership + Integrity {}
impl<T> Schedule for T where T: Order + Claims + Freshness + Leadership + Integrity + ?Sized {}

seam! {
    Store::Schedule,
    /// Waiting users, oldest first.
    pub trait Order {
        /// Enrols a user with this stamp and last success. A user who is in the schedule already is not
        /// changed, claimed or not. Returns whether the user is new.
        async fn enrol(&self, user: &UserKey, stamp: Timestamp, last_success: Option<Timestamp>) -> Result<bool, Failure>;
        /// Enrols users of one tenant as [`Self::enrol`] does, each with the own stamps. Returns how many are
        /// new.
        async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure>;
        /// Enrols users as [`Self::enrol_many`] does, but under a claim that no worker holds: they are due
        /// when it ends, after `lasts`. For users who may still be worked on under a claim that was lost.
        async fn enrol_claimed(&self, tenant: &TenantId, users: &[SavedStamp], lasts: Duration) -> Result<u64, Failure>;
        /// Removes a user, claimed or not; the claim is void. Returns whether the user was in the schedule.
        async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure>;
        /// Removes all users of a tenant and returns how many there were.
        async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure>;
        /// Makes a user due at once, ahead of all users whose stamps are younger than an hour. A claimed user
        /// becomes due when the running attempt ends, with whatever result. Returns whether the user is in
        /// the schedule.
        async fn make_due(&self, user: &UserKey) -> Result<bool, Failure>;
        /// Returns at most `limit` tenants with the oldest heads, oldest first. Tenants without waiting users
        /// are left out.
        async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure>;
        /// Returns at most `limit` users of the tenant whose stamps are not after `not_after`, oldest first,
        /// ties by name.
        async fn oldest(&self, tenant: &TenantId, not_after: Timestamp, limit: usize) -> Result<Vec<(UserId, Timestamp)>, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Claims: which users are being worked on, under which token, until when.
    pub trait Claims {
        /// Claims users of one tenant for `lasts` under one new token, as a batch. Any epoch other than the
        /// present one is stale.
        async fn claim(&self, epoch: Epoch, tenant: &TenantId, users: &[UserId], lasts: Duration) -> Result<ClaimAnswer, Failure>;
        /// Extends all claims under `token`, including those of users not named, and returns which of the
        /// named users still hold theirs.
        async fn renew(&self, tenant: &TenantId, token: Token, users: &[UserId], lasts: Duration) -> Result<ClaimRenewal, Failure>;
        /// Ends attempts: the stamp becomes now + `due_after` - minimum time between syncs. Users without a
        /// claim under `token` are not changed. Returns the finished users.
        async fn finish(&self, tenant: &TenantId, token: Token, results: &[FinishedAttempt]) -> Result<Vec<UserId>, Failure>;
        /// Releases users with their original stamps. Returns those whose claims still held.
        async fn release(&self, tenant: &TenantId, token: Token, users: &[UserId]) -> Result<Vec<UserId>, Failure>;
        /// Releases at most `limit` users whose claims expired, with their original stamps, and returns them.
        async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Freshness of one user, of a tenant and of all.
    pub trait Freshness {
        /// Returns a user's place in the schedule.
        async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure>;
        /// Returns about `limit` tenants with users in the schedule, claimed or not.
        async fn tenants(&self, after: Option<&PageCursor>, limit: usize) -> Result<Page<TenantId>, Failure>;
        /// Returns about `limit` users of a tenant, claimed or not.
        async fn users(&self, tenant: &TenantId, after: Option<&PageCursor>, limit: usize) -> Result<Page<UserId>, Failure>;
        /// Returns the freshness of all users, or of one tenant's (then `tenants` is 1, or 0 if the tenant
        /// has no users).
        async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure>;
        /// Returns whether the schedule has no users. Cheap, unlike a summary.
        async fn is_empty(&self) -> Result<bool, Failure>;
        /// Returns the schedule's time.
        async fn now(&self) -> Result<Timestamp, Failure>;
    }
}

seam! {
    Store::Schedule,
    /// The leadership.
    pub trait Leadership {
        /// Takes or renews the leadership for `lasts`. Returns `None` if another `holder` leads. A renewal in
        /// time keeps the epoch; a new leadership gets a higher one.
        async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure>;
        /// Returns the holder that leads, by the name given to [`Self::lead`]; `None` if there is no leader.
        async fn leader(&self) -> Result<Option<String>, Failure>;
        /// Ends the leadership if `holder` has it.
        async fn resign(&self, holder: &str) -> Result<(), Failure>;
    }
}

seam! {
    Store::Schedule,
    /// Whether the schedule has lost data.
    pub trait Integrity {
        /// Advances the mark that shows losses of data. Returns `None` for a schedule that lives as long as
        /// its process. For the leader only.
        async fn mark(&self) -> Result<Option<MarkUpdate>, Failure>;
        /// Checks for about `limit` tenants, in turn, whether their data in several places are consistent,
        /// and repairs them. Users who lost their place are due again after `lasts`, the lifetime of a claim.
        /// For the leader only.
        async fn inspect(&self, limit: usize, lasts: Duration) -> Result<InspectionResult, Failure>;
        /// Returns those of the tenants whose number of users in the schedule is not the expected one, with
        /// that number.
        async fn differing(&self, expected: &[(TenantId, u64)]) -> Result<Vec<(TenantId, u64)>, Failure>;
        /// Computes the digest of a tenant's names anew. For a tenant whose digest is missing or wrong.
        async fn recount_names(&self, tenant: &TenantId) -> Result<(), Failure>;
        /// Checks that the schedule can be written, and leaves nothing behind.
        async fn check_writable(&self) -> Result<(), Failure>;
    }
    cached {
        /// Returns the mark's number after the last claim or mark that was confirmed to this process, without
        /// a call. Returns `None` for a schedule that lives as long as its process.
        fn acknowledged(&self) -> Option<u64>;
    }
}

/// The traits of the topics without their names, for `use topics::*` where methods of a concrete schedule are
/// called.
pub mod topics {
    pub use super::{Claims as _, Freshness as _, Integrity as _, Leadership as _, Order as _};
}
