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
use self::keys::{
    CLAIM, ENROL, EXPIRED, FINISH, Keys, LEAD, LEADER, MAKE_DUE, NOW, RECLAIM, RELEASE, RENEW, RESIGN, SCAN,
    STATUS, WITHDRAW, WITHDRAW_TENANT,
};
use self::wire::{
    RawReport, Record, arg, count, micros, optional, pack_failure, pack_history, score, time, unpack_batch,
    unpack_failure,
};
use super::{
    ClaimAnswer, Claimed, Cursor, Epoch, Finish, Head, Held, Inspected, Marked, Page, Renewed, Schedule,
    Summary, Token, UserStatus,
};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::redis::{LazyScript, RedisOptions, RedisStore, Repeat};
use crate::registry::SavedStamp;
use crate::settings::ScheduleSettings;

/// A user asked for is put ahead of everybody whose stamp is younger than this.
const AHEAD: Duration = Duration::from_secs(3_600);

/// Most names one call reads.
const MOST_NAMES: usize = 1_000_000;

/// Users put in by one script: it must not hold the server up for long.
const ENROLLED_AT_ONCE: usize = 500;

/// Tenants whose expired claims are looked at in one call.
const EXPIRED_TENANTS: usize = 500;

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

    async fn present_epoch(&self) -> Result<i64, Failure> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.lease()).arg("epoch");
        let epoch: Option<i64> = self
            .store
            .command("asking who leads", command, Repeat::Yes)
            .await?;
        Ok(epoch.unwrap_or(0))
    }
}

/// The users at these places.
fn named(users: &[UserId], places: &[i64]) -> Vec<UserId> {
    places
        .iter()
        .filter_map(|&place| users.get(usize::try_from(place).ok()?).cloned())
        .collect()
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
        let mut keys = self.keys.tenant(tenant);
        if self.store.is_cluster() {
            if u64::try_from(self.present_epoch().await?).ok() != Some(epoch.0) {
                return Ok(ClaimAnswer::StaleEpoch);
            }
        } else {
            keys.push(self.keys.lease());
        }
        let mut args = vec![arg(epoch.0), arg(micros(lasts))];
        args.extend(users.iter().map(arg));
        type Answer = (Option<(i64, Vec<Option<f64>>)>, RawReport);
        let (answer, report): Answer = self
            .store
            .script(
                &format!("claiming {} users of {tenant}", users.len()),
                &CLAIM,
                &keys,
                &args,
                Repeat::No,
            )
            .await?;
        let Some((token, stamps)) = answer else {
            return Ok(ClaimAnswer::StaleEpoch);
        };
        let claimed: Vec<Claimed> = users
            .iter()
            .zip(stamps)
            .filter_map(|(user, stamp)| {
                Some(Claimed {
                    user: user.clone(),
                    stamp: time(whole(stamp?)),
                })
            })
            .collect();
        self.index
            .push(tenant, report.into(), !claimed.is_empty(), &[])
            .await;
        Ok(ClaimAnswer::Claimed {
            token: Token(count(token)),
            users: claimed,
        })
    }

    async fn renew(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<Renewed, Failure> {
        let mut args = vec![arg(token.0), arg(micros(lasts))];
        args.extend(users.iter().map(arg));
        // The index keeps the expiry before: it may be too early, then the leader asks in vain once.
        type Answer = (i64, Option<Vec<u8>>, Vec<Option<Vec<u8>>>);
        let (tenant_users, batch, records): Answer = self
            .store
            .script(
                &format!("renewing the claims of {} users of {tenant}", users.len()),
                &RENEW,
                &self.keys.tenant(tenant),
                &args,
                Repeat::Yes,
            )
            .await?;
        let batch = batch
            .as_deref()
            .map(unpack_batch)
            .transpose()?
            .unwrap_or_default();
        let held = users
            .iter()
            .zip(records)
            .filter(|(user, _)| batch.contains(user.as_str()))
            .filter_map(|(user, record)| Some((user, record?)))
            .map(|(user, record)| {
                Ok(Held {
                    user: user.clone(),
                    history: Record::unpack(&record)?.history,
                })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Renewed {
            held,
            tenant_users: count(tenant_users),
        })
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[Finish],
    ) -> Result<Vec<UserId>, Failure> {
        let mut args = vec![arg(token.0), arg(micros(self.minimum)), self.ahead()];
        for finish in results {
            args.push(arg(&finish.user));
            args.push(arg(micros(finish.due_after)));
            args.push(pack_history(finish.history));
            args.push(finish.result.as_ref().err().map(pack_failure).unwrap_or_default());
        }
        let ((places, intervals), report): ((Vec<i64>, Vec<i64>), RawReport) = self
            .store
            .script(
                &format!("finishing {} users of {tenant}", results.len()),
                &FINISH,
                &self.keys.tenant(tenant),
                &args,
                Repeat::No,
            )
            .await?;
        self.index.push(tenant, report.into(), false, &intervals).await;
        let users: Vec<UserId> = results.iter().map(|finish| finish.user.clone()).collect();
        Ok(named(&users, &places))
    }

    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        let mut args = vec![arg(token.0), self.ahead()];
        args.extend(users.iter().map(arg));
        let places: Vec<i64> = self
            .change("giving users back", &RELEASE, tenant, &args, Repeat::No)
            .await?;
        Ok(named(users, &places))
    }

    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        let tenants: Vec<String> = self
            .store
            .script(
                "asking whose claims ran out",
                &EXPIRED,
                &self.keys.index(&["expiries"]),
                &[arg(limit.clamp(1, EXPIRED_TENANTS))],
                Repeat::Yes,
            )
            .await?;
        let mut reclaimed = Vec::new();
        for name in tenants {
            let left = limit.saturating_sub(reclaimed.len());
            if left == 0 {
                break;
            }
            let tenant = index::tenant_name(&name)?;
            let users: Vec<String> = self
                .change(
                    "giving back users whose claims ran out",
                    &RECLAIM,
                    &tenant,
                    &[arg(left.min(MOST_NAMES)), self.ahead()],
                    Repeat::No,
                )
                .await?;
            if users.is_empty() {
                // Renewed meanwhile: the index learns the new expiry, or it would name this tenant again and again.
                self.index.repair(&tenant).await?;
            }
            for user in users {
                reclaimed.push(UserKey::new(tenant.clone(), user_name(&user)?));
            }
        }
        Ok(reclaimed)
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

/// A score as the whole number of microseconds it is, exact in a double. Redis may write it as `1.795e+15`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are whole microseconds that fit; others saturate"
)]
fn whole(score: f64) -> i64 {
    score as i64
}
