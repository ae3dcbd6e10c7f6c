//! The waiting users: enrolling, withdrawing, and choosing the oldest.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::keys::{ENROL, MAKE_DUE, WITHDRAW, WITHDRAW_TENANT};
use super::wire::{arg, count, micros, optional, pack_failure, score, score_micros, time};
use super::{MOST_NAMES, RedisSchedule, user_name};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::redis::Repeat;
use crate::schedule::{Head, Order, SavedStamp, digest_of};

/// Number of users enrolled by one script, which must not block the server for long.
const ENROLLED_AT_ONCE: usize = 500;

#[async_trait]
impl Order for RedisSchedule {
    async fn enrol(
        &self,
        user: &UserKey,
        stamp: Timestamp,
        last_success: Option<Timestamp>,
    ) -> Result<bool, Failure> {
        let saved = SavedStamp::new(user.user.clone(), stamp, last_success);
        self.enrol_many(&user.tenant, &[saved]).await.map(|new| new == 1)
    }

    async fn enrol_many(&self, tenant: &TenantId, users: &[SavedStamp]) -> Result<u64, Failure> {
        self.enrol_users(tenant, users, Duration::ZERO).await
    }

    async fn enrol_claimed(
        &self,
        tenant: &TenantId,
        users: &[SavedStamp],
        lasts: Duration,
    ) -> Result<u64, Failure> {
        self.enrol_users(tenant, users, lasts).await
    }

    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        let was_in: i64 = self
            .change(
                "withdrawing a user",
                &WITHDRAW,
                &user.tenant,
                &[arg(&user.user), arg(digest_of(&user.user))],
                Repeat::Yes,
            )
            .await?;
        Ok(was_in == 1)
    }

    async fn withdraw_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let users: i64 = self
            .change(
                "withdrawing all users",
                &WITHDRAW_TENANT,
                tenant,
                &[],
                Repeat::Yes,
            )
            .await?;
        Ok(count(users))
    }

    async fn make_due(&self, user: &UserKey) -> Result<bool, Failure> {
        let args = [arg(&user.user), self.ahead(), arg(micros(self.minimum))];
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
                &format!("reading the oldest users of {tenant}"),
                command,
                Repeat::Yes,
            )
            .await?;
        users
            .into_iter()
            .map(|(user, stamp)| Ok((user_name(&user)?, time(score_micros(stamp)))))
            .collect()
    }
}

impl RedisSchedule {
    /// Enrols users, waiting or claimed for `lasts`. Returns how many are new.
    async fn enrol_users(
        &self,
        tenant: &TenantId,
        users: &[SavedStamp],
        lasts: Duration,
    ) -> Result<u64, Failure> {
        let mut new = 0;
        for part in users.chunks(ENROLLED_AT_ONCE) {
            let mut args = Vec::with_capacity(part.len() * 6 + 1);
            args.push(arg(micros(lasts)));
            for saved in part {
                args.push(arg(&saved.user));
                args.push(arg(score(saved.stamp)));
                args.push(optional(saved.last_success.map(score)));
                args.push(arg(saved.failing.as_ref().map_or(0, |failing| failing.attempts)));
                args.push(
                    saved
                        .failing
                        .as_ref()
                        .map(|failing| pack_failure(&failing.failure))
                        .unwrap_or_default(),
                );
                args.push(arg(digest_of(&saved.user)));
            }
            let added: i64 = self
                .change("enrolling users", &ENROL, tenant, &args, Repeat::Yes)
                .await?;
            new += count(added);
        }
        Ok(new)
    }
}
