//! The order of work in Redis: one server, a master with Sentinels, or a Cluster.
//!
//! **Keys.** Everything of one tenant is in one slot (`PREFIX:{tenant}:NAME`), so that every change of it is one Lua script:
//! `due` (sorted set user → stamp in microseconds), `claimed` (sorted set token → expiry), `batches` (token → its users and the
//! stamps they go back to), `asked` (users who are claimed and were asked for), `status` (everybody who is in → idle cycles,
//! failures, last attempt, last success), `failures` and `failing` (only those whose last attempt failed), `intervals` (a
//! sample), `meta` (numbers, and a digest of the users' names). A tenant without users has no key. What is of all tenants is in one other slot (`PREFIX:{_}:NAME`): `heads`, `tenants`, `expiries`, `failing`, `totals`,
//! `intervals`, `lease`, `mark`; see [`index`] for how it is kept in step.
//!
//! **Time** is that of the servers (`TIME`), never of the process; the servers of a cluster must agree within a second or two.
//!
//! **Numbers** (tokens, epochs, changes) are the larger of the last one plus one and the time in microseconds: they grow also
//! when everything was lost, so no number of lost data is used again.
//!
//! **Leadership.** `lease` holds holder, end and epoch. A claim is refused unless its epoch is the present one. On one server
//! the claim's script looks at the lease itself. On a cluster it is looked at first, and the tenant's `meta` keeps the
//! highest epoch that claimed there: a leader that was replaced between look and claim can at most claim users of a tenant its
//! successor has not touched, each of them once, because claims are atomic in the tenant's slot.
//!
//! **Costs.** `heads` and `oldest` O(log n + answer); every change O(k log n) for k users named, wherever the other users are:
//! two calls, one to the tenant, one to the index. `summary(None)` asks every tenant that has somebody due, once.
//! About 100 bytes per user in tenants up to 128 users (packed lists), 200 in large ones.

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
use self::wire::{RawReport, arg, micros};
use super::{Freshness as _, Inspected, Integrity, Marked, digest_of, digest_of_all};
use crate::error::Failure;
use crate::model::{TenantId, UserId};
use crate::redis::{LazyScript, RedisOptions, RedisStore, Repeat};
use crate::settings::ScheduleSettings;

/// A user asked for is put ahead of everybody whose stamp is younger than this.
const AHEAD: Duration = Duration::from_secs(3_600);

/// The key of the write probe is gone after this time.
const PROBE_LIFETIME_MS: u64 = 60_000;

/// Most names one call reads.
const MOST_NAMES: usize = 1_000_000;

/// Names read by one step of a recount.
const NAMES_AT_ONCE: usize = 1_000;

/// The order of work in Redis.
pub struct RedisSchedule {
    store: RedisStore,
    keys: Keys,
    index: Index,
    minimum: Duration,
}

impl std::fmt::Debug for RedisSchedule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisSchedule({})", self.store.place())
    }
}

impl RedisSchedule {
    /// Opens the order of work the settings name, and checks that Redis answers.
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

    /// Returns the order of work under these keys. `minimum` is `schedule.minimum_time_between_user_syncs`.
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

    /// By how much the stamp of a user asked for is older than now.
    fn ahead(&self) -> Vec<u8> {
        arg(micros(AHEAD.max(self.minimum)))
    }

    /// Runs a tenant's script and pushes what it reports into the index; the script's own answer.
    async fn change<T: FromRedisValue>(
        &self,
        doing: &str,
        script: &'static LazyScript,
        tenant: &TenantId,
        args: &[Vec<u8>],
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let (answer, report): (T, RawReport) = self
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

    async fn mark(&self) -> Result<Option<Marked>, Failure> {
        self.index.mark().await.map(Some)
    }

    async fn inspect(&self, limit: usize, lasts: Duration) -> Result<Inspected, Failure> {
        let mend = [arg(micros(lasts)), arg(micros(self.minimum))];
        self.index.inspect(limit, &mend).await
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
        // A walk may meet a name twice.
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
        // Refused by a replica, by a server that is out of memory, and by one that cannot save.
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
