//! Claims: taking users out of the order under a token; renewing, ending and releasing claims.

use std::time::Duration;

use async_trait::async_trait;

use super::keys::{CLAIM, EXPIRED, FINISH, RECLAIM, RELEASE, RENEW};
use super::wire::{
    RawTenantReport, Record, arg, count, micros, pack_failure, pack_history, score_micros, time, unpack_batch,
};
use super::{MOST_NAMES, RedisSchedule, index, user_name};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::redis::Repeat;
use crate::schedule::{
    ClaimAnswer, ClaimRenewal, ClaimedUser, Claims, Epoch, FinishedAttempt, RenewedUser, Token,
};

/// Largest number of tenants whose expired claims one call reads.
const EXPIRED_TENANTS: usize = 500;

impl RedisSchedule {
    async fn present_epoch(&self) -> Result<i64, Failure> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.lease()).arg("epoch");
        let epoch: Option<i64> = self
            .store
            .command("reading the leader's epoch", command, Repeat::Yes)
            .await?;
        Ok(epoch.unwrap_or(0))
    }
}

#[async_trait]
impl Claims for RedisSchedule {
    async fn claim(
        &self,
        epoch: Epoch,
        tenant: &TenantId,
        users: &[UserId],
        lasts: Duration,
    ) -> Result<ClaimAnswer, Failure> {
        type ClaimReply = (Option<(i64, Vec<Option<f64>>)>, RawTenantReport);
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
        let (answer, report): ClaimReply = self
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
        let claimed: Vec<ClaimedUser> = users
            .iter()
            .zip(stamps)
            .filter_map(|(user, stamp)| {
                Some(ClaimedUser {
                    user: user.clone(),
                    stamp: time(score_micros(stamp?)),
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
    ) -> Result<ClaimRenewal, Failure> {
        type RenewReply = (i64, Option<Vec<u8>>, Vec<Option<Vec<u8>>>);
        let mut args = vec![arg(token.0), arg(micros(lasts))];
        args.extend(users.iter().map(arg));
        // The index keeps the earlier expiry. It may be too early; then the leader asks the tenant once for
        // nothing.
        let (tenant_users, batch, records): RenewReply = self
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
        let still_claimed = users
            .iter()
            .zip(records)
            .filter(|(user, _)| batch.contains(user.as_str()))
            .filter_map(|(user, record)| Some((user, record?)))
            .map(|(user, record)| {
                Ok(RenewedUser {
                    user: user.clone(),
                    history: Record::unpack(&record)?.history,
                })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(ClaimRenewal {
            still_claimed,
            tenant_users: count(tenant_users),
        })
    }

    async fn finish(
        &self,
        tenant: &TenantId,
        token: Token,
        results: &[FinishedAttempt],
    ) -> Result<Vec<UserId>, Failure> {
        let mut args = vec![arg(token.0), arg(micros(self.minimum)), self.ahead()];
        for finish in results {
            args.push(arg(&finish.user));
            args.push(arg(micros(finish.due_after)));
            args.push(pack_history(finish.history));
            args.push(finish.result.as_ref().err().map(pack_failure).unwrap_or_default());
        }
        let ((indices, intervals), report): ((Vec<i64>, Vec<i64>), RawTenantReport) = self
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
        Ok(users_at(&users, &indices))
    }

    async fn release(
        &self,
        tenant: &TenantId,
        token: Token,
        users: &[UserId],
    ) -> Result<Vec<UserId>, Failure> {
        let mut args = vec![arg(token.0), self.ahead(), arg(micros(self.minimum))];
        args.extend(users.iter().map(arg));
        let indices: Vec<i64> = self
            .change("giving users back", &RELEASE, tenant, &args, Repeat::No)
            .await?;
        Ok(users_at(users, &indices))
    }

    async fn reclaim(&self, limit: usize) -> Result<Vec<UserKey>, Failure> {
        let tenants: Vec<String> = self
            .store
            .script(
                "reading expired claims",
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
                    "reclaiming users whose claims expired",
                    &RECLAIM,
                    &tenant,
                    &[arg(left.min(MOST_NAMES)), self.ahead(), arg(micros(self.minimum))],
                    Repeat::No,
                )
                .await?;
            if users.is_empty() {
                // Renewed meanwhile: the index must learn the new expiry, or it would name this tenant for
                // ever.
                self.index.refresh_entry(&tenant).await?;
            }
            for user in users {
                reclaimed.push(UserKey::new(tenant.clone(), user_name(&user)?));
            }
        }
        Ok(reclaimed)
    }
}

/// Returns the users at these places.
fn users_at(users: &[UserId], indices: &[i64]) -> Vec<UserId> {
    indices
        .iter()
        .filter_map(|&index| users.get(usize::try_from(index).ok()?).cloned())
        .collect()
}
