//! The order of work in Redis: one server, a master with Sentinels, or a Cluster.
//!
//! **Keys.** Everything of one tenant is in one slot (`PREFIX:{tenant}:NAME`), so that every change of it is one Lua script:
//! `due` (sorted set user → stamp in microseconds), `claimed` (sorted set token → expiry), `batches` (token → its users and the
//! stamps they go back to), `asked` (users who are claimed and were asked for), `status` (everybody who is in → idle cycles,
//! failures, last attempt, last success), `failures` and `failing` (only those whose last attempt failed), `intervals` (a
//! sample), `meta` (numbers). A tenant without users has no key. What is of all tenants is in one other slot (`PREFIX:{_}:NAME`): `heads`, `tenants`, `expiries`, `failing`, `totals`,
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
mod index;
mod keys;
mod summary;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::FromRedisValue;

use self::index::Index;
use self::keys::{ENROL, Keys, LEAD, LEADER, MAKE_DUE, NOW, RESIGN, SCAN, STATUS, WITHDRAW, WITHDRAW_TENANT};
use self::wire::{RawReport, Record, arg, count, micros, optional, score, time, unpack_failure, whole};
use super::{
    ClaimAnswer, Cursor, Epoch, Finish, Head, Inspected, Marked, Page, Renewed, Schedule, Summary, Token,
    UserStatus,
};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::redis::{LazyScript, RedisOptions, RedisStore, Repeat};
use crate::schedule::SavedStamp;
use crate::settings::ScheduleSettings;

/// A user asked for is put ahead of everybody whose stamp is younger than this.
const AHEAD: Duration = Duration::from_secs(3_600);

/// Most names one call reads.
const MOST_NAMES: usize = 1_000_000;

/// Users put in by one script: it must not hold the server up for long.
const ENROLLED_AT_ONCE: usize = 500;

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

    /// The order of work under these keys. `minimum` is `schedule.minimum_time_between_user_syncs`.
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

/// A cursor as Redis has it; one made elsewhere starts over.
fn redis_cursor(after: Option<&Cursor>) -> String {
    after
        .and_then(|Cursor(text)| text.parse::<u64>().ok())
        .unwrap_or(0)
        .to_string()
}

/// A cursor as Redis answered it; 0 is the end.
fn next_cursor(next: String) -> Option<Cursor> {
    (next != "0").then_some(Cursor(next))
}

#[async_trait]
impl Schedule for RedisSchedule {
    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        last_success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        let saved = SavedStamp {
            user: user.user.clone(),
            stamp,
            last_success,
        };
        self.enrol_many(&user.tenant, &[saved]).await.map(|new| new == 1)
    }

    async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure> {
        let mut new = 0;
        for part in users.chunks(ENROLLED_AT_ONCE) {
            let mut args = Vec::with_capacity(part.len() * 3);
            for saved in part {
                args.push(arg(&saved.user));
                args.push(arg(score(saved.stamp)));
                args.push(optional(saved.last_success.map(score)));
            }
            let added: i64 = self
                .change("enrolling users", &ENROL, tenant, &args, Repeat::Yes)
                .await?;
            new += count(added);
        }
        Ok(new)
    }

    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        let was_in: i64 = self
            .change(
                "withdrawing a user",
                &WITHDRAW,
                &user.tenant,
                &[arg(&user.user)],
                Repeat::Yes,
            )
            .await?;
        Ok(was_in == 1)
    }

    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let users: i64 = self
            .change(
                "withdrawing everybody",
                &WITHDRAW_TENANT,
                tenant,
                &[],
                Repeat::Yes,
            )
            .await?;
        Ok(count(users))
    }

    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        let args = [arg(&user.user), self.ahead()];
        let is_in: i64 = self
            .change("making a user due", &MAKE_DUE, &user.tenant, &args, Repeat::Yes)
            .await?;
        Ok(is_in == 1)
    }

    async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        self.index.heads(limit).await
    }

    async fn oldest(
        &self,
        tenant: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, Failure> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command
            .arg(self.keys.due(tenant))
            .arg("-inf")
            .arg(score(not_after))
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(0)
            .arg(limit.min(MOST_NAMES));
        let users: Vec<(String, f64)> = self
            .store
            .command(
                &format!("asking who of {tenant} waits longest"),
                command,
                Repeat::Yes,
            )
            .await?;
        users
            .into_iter()
            .map(|(user, stamp)| Ok((user_name(&user)?, time(whole(stamp)))))
            .collect()
    }

    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        self.claim_users(epoch, tenant, users, lasts).await
    }

    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<Renewed, Failure> {
        self.renew_batch(tenant, token, users, lasts).await
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[Finish],
    ) -> Result<Vec<UserId>, Failure> {
        self.finish_users(tenant, token, results).await
    }

    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        self.release_users(tenant, token, users).await
    }

    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        self.reclaim_expired(limit).await
    }

    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        type Answer = Option<(f64, i64, Vec<u8>, Option<Vec<u8>>)>;
        let answer: Answer = self
            .store
            .script(
                &format!("reading the status of {user}"),
                &STATUS,
                &self.keys.tenant(&user.tenant),
                &[arg(&user.user)],
                Repeat::Yes,
            )
            .await?;
        let Some((stamp, claimed, record, failure)) = answer else {
            return Ok(None);
        };
        let record = Record::unpack(&record)?;
        Ok(Some(UserStatus {
            stamp: time(whole(stamp)),
            claimed: claimed == 1,
            last_attempt: record.last_attempt,
            last_success: record.last_success,
            last_failure: failure.as_deref().map(unpack_failure),
            history: record.history,
        }))
    }

    async fn tenants(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        let (next, names) = self.index.page(&redis_cursor(after), limit).await?;
        Ok(Page {
            names,
            next: next_cursor(next),
        })
    }

    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        let (next, names): (String, Vec<String>) = self
            .store
            .script(
                &format!("walking over the users of {tenant}"),
                &SCAN,
                &[self.keys.status(tenant)],
                &[arg(redis_cursor(after)), arg(limit.clamp(1, 10_000))],
                Repeat::Yes,
            )
            .await?;
        Ok(Page {
            names: names
                .iter()
                .map(|name| user_name(name))
                .collect::<Result<_, _>>()?,
            next: next_cursor(next),
        })
    }

    async fn summary(&self, tenant: Option<&TenantId>) -> Result<Summary, Failure> {
        match tenant {
            Some(tenant) => self.summary_of(tenant).await,
            None => self.summary_of_all().await,
        }
    }

    async fn is_empty(&self) -> Result<bool, Failure> {
        let (_, names) = self.index.page("0", 1).await?;
        if !names.is_empty() {
            return Ok(false);
        }
        // A page may be empty before the end.
        let mut command = redis::cmd("EXISTS");
        command.arg(self.keys.index(&["tenants"]));
        let exists: i64 = self
            .store
            .command("asking whether anybody is in", command, Repeat::Yes)
            .await?;
        Ok(exists == 0)
    }

    async fn now(&self) -> Result<Timestamp, Failure> {
        let now: i64 = self
            .store
            .script(
                "asking for the time",
                &NOW,
                &self.keys.index(&["heads"]),
                &[],
                Repeat::Yes,
            )
            .await?;
        Ok(time(now))
    }

    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        let epoch: Option<i64> = self
            .store
            .script(
                "asking for the leadership",
                &LEAD,
                &self.keys.index(&["lease"]),
                &[arg(holder), arg(micros(lasts))],
                Repeat::Yes,
            )
            .await?;
        Ok(epoch.map(|epoch| Epoch(count(epoch))))
    }

    async fn leader(&self) -> Result<Option<String>, Failure> {
        self.store
            .script(
                "asking who leads",
                &LEADER,
                &self.keys.index(&["lease"]),
                &[],
                Repeat::Yes,
            )
            .await
    }

    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        let _: i64 = self
            .store
            .script(
                "giving the leadership up",
                &RESIGN,
                &self.keys.index(&["lease"]),
                &[arg(holder)],
                Repeat::Yes,
            )
            .await?;
        Ok(())
    }

    fn acknowledged(&self) -> Option<u64> {
        Some(self.index.acknowledged())
    }

    async fn mark(&self) -> Result<Option<Marked>, Failure> {
        self.index.mark().await.map(Some)
    }

    async fn inspect(&self, limit: usize) -> Result<Inspected, Failure> {
        self.index.inspect(limit).await
    }
}
