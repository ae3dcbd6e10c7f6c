//! The schedule in Redis: on one server, on a master with Sentinels, or on a Cluster.
//!
//! **Keys.** All keys of one tenant are in one slot (`PREFIX:{tenant}:NAME`), so one Lua script makes every
//! change of it: `due` (sorted set user → stamp in microseconds), `claimed` (sorted set token → expiry),
//! `batches` (token → its users and the stamps to which they are released), `asked` (claimed users that were
//! requested), `status` (every user → idle cycles, failures, last attempt, last success), `failures` and
//! `failing` (only users whose last attempt failed), `intervals` (a sample), `meta` (numbers, and a digest of
//! the users' names). A tenant without users has no key. The keys of the index of all tenants are in one
//! other slot (`PREFIX:{_}:NAME`): `heads`, `tenants`, `expiries`, `failing`, `totals`, `intervals`, `lease`,
//! `mark`. [`index`] describes how it is kept in step.
//!
//! **Time** is that of the servers (`TIME`), never of the process. The servers of a cluster must agree within
//! a second or two.
//!
//! **Numbers** (tokens, epochs, changes) are the larger of the last one plus one and the time in
//! microseconds. So they grow even if all data were lost, and no number of lost data is reused.
//!
//! **Leadership.** `lease` holds holder, end and epoch. A claim is refused unless its epoch is the present
//! one. On one server the claim's script reads the lease itself. On a cluster the lease is read first, and
//! the tenant's `meta` keeps the highest epoch that claimed there. A leader that was replaced between reading
//! and claiming can at most claim users of a tenant that its successor has not touched, each of them once,
//! because claims are atomic in the tenant's slot.
//!
//! **Costs.** `heads` and `oldest` are O(log n + answer). Every change is O(k log n) for k users named,
//! whatever the state of the others, with two calls: one to the tenant, one to the index. `summary(None)`
//! asks every tenant that has due users, once. A user takes about 100 bytes in tenants of up to 128 users
//! (packed lists) and 200 in larger ones.

mod claims;
mod freshness;
mod index;
mod keys;
mod leadership;
mod order;
mod summary;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use redis::FromRedisValue;

use self::index::Index;
use self::keys::{Keys, NAMES};
use self::wire::{RawTenantReport, arg, micros};
use super::{Freshness as _, InspectionResult, Integrity, MarkUpdate, digest_of, digest_of_all};
use crate::error::Failure;
use crate::model::{TenantId, UserId};
use crate::redis::{LazyScript, RedisOptions, RedisStore, Repeat};
use crate::settings::ScheduleSettings;

/// A requested user is put ahead of all users whose stamps are younger than this.
const AHEAD: Duration = Duration::from_hours(1);

/// Lifetime of the key that the write probe sets, in milliseconds.
const PROBE_LIFETIME_MS: u64 = 60_000;

/// Largest number of names that one call reads.
const MOST_NAMES: usize = 1_000_000;

/// Number of names read by one step of a recount.
const NAMES_AT_ONCE: usize = 1_000;

/// The schedule in Redis.
pub struct RedisSchedule {
    store: RedisStore,
    keys: Keys,
    index: Index,
    minimum: Duration,
}

impl std::fmt::Debug for RedisSchedule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisSchedule({})", self.store.servers())
    }
}

impl RedisSchedule {
    /// Opens the schedule named by the settings, and checks that Redis answers.
    ///
    /// # Errors
    /// The URL cannot be used, or Redis does not answer.
    pub async fn open(settings: &ScheduleSettings) -> Result<Self, Failure> {
        let store = RedisStore::open("schedule.url", &settings.url, RedisOptions::of(settings)).await?;
        Ok(Self::new(
            store,
            &settings.key_prefix,
            settings.minimum_time_between_user_syncs,
        ))
    }

    /// Returns the schedule under these keys. `minimum` is `schedule.minimum_time_between_user_syncs`.
    #[must_use]
    pub fn new(store: RedisStore, prefix: &str, minimum: Duration) -> Self {
        let keys = Keys::new(prefix);
        Self {
            index: Index::new(store.clone(), keys.clone()),
            store,
            keys,
            minimum,
        }
    }

    /// Returns by how much the stamp of a requested user must be older than now, as an argument of scripts.
    fn ahead(&self) -> Vec<u8> {
        arg(micros(AHEAD.max(self.minimum)))
    }

    /// Runs a tenant's script, pushes its report into the index, and returns the script's own answer.
    async fn change<T: FromRedisValue>(
        &self,
        doing: &str,
        script: &'static LazyScript,
        tenant: &TenantId,
        args: &[Vec<u8>],
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let (answer, report): (T, RawTenantReport) = self
            .store
            .script(
                &format!("{doing}, tenant {tenant}"),
                script,
                &self.keys.tenant(tenant),
                args,
                repeat,
            )
            .await?;
        self.index.push(tenant, report.into(), false, &[]).await;
        Ok(answer)
    }
}

fn user_name(name: &str) -> Result<UserId, Failure> {
    name.parse()
        .map_err(|error| wire::unreadable("the name of a user", &error))
}

#[async_trait]
impl Integrity for RedisSchedule {
    fn acknowledged(&self) -> Option<u64> {
        Some(self.index.acknowledged())
    }

    async fn mark(&self) -> Result<Option<MarkUpdate>, Failure> {
        self.index.mark().await.map(Some)
    }

    async fn inspect(&self, limit: usize, lasts: Duration) -> Result<InspectionResult, Failure> {
        let repair_args = [arg(micros(lasts)), arg(micros(self.minimum))];
        self.index.inspect(limit, &repair_args).await
    }

    async fn differing(&self, expected: &[(TenantId, u64)]) -> Result<Vec<(TenantId, u64)>, Failure> {
        self.index.differing(expected).await
    }

    async fn recount_names(&self, tenant: &TenantId) -> Result<(), Failure> {
        let names = async |args: &[Vec<u8>]| -> Result<i64, Failure> {
            self.store
                .script(
                    &format!("counting the names of tenant {tenant}"),
                    &NAMES,
                    &self.keys.tenant(tenant),
                    args,
                    Repeat::Yes,
                )
                .await
        };
        let membership = names(&[]).await?;
        // A walk may return a name twice.
        let mut found = HashSet::new();
        let mut after = None;
        loop {
            let page = self.users(tenant, after.as_ref(), NAMES_AT_ONCE).await?;
            found.extend(page.names);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let digest = digest_of_all(found.iter().map(digest_of));
        names(&[arg(membership), arg(digest)]).await.map(drop)
    }

    async fn check_writable(&self) -> Result<(), Failure> {
        // A replica, a server without free memory and a server that cannot save refuse this.
        let mut command = redis::cmd("SET");
        command
            .arg(self.keys.probe())
            .arg(1)
            .arg("PX")
            .arg(PROBE_LIFETIME_MS);
        self.store
            .command::<()>("checking that it can be written", command, Repeat::Yes)
            .await
    }
}
