//! Claims: which users are being worked on, under which token, until when.

use jiff::Timestamp;

use super::{AHEAD, Expiries, ScheduleState, plus, seconds_between};
use crate::model::{TenantId, UserId, UserKey};
use crate::schedule::memory::span;
use crate::schedule::memory::tenant::{Claim, ClaimedBatch, TenantSchedule, UserEntry};
use crate::schedule::{ClaimAnswer, ClaimRenewal, ClaimedUser, Epoch, FinishedAttempt, RenewedUser, Token};

impl ScheduleState {
    pub(in crate::schedule::memory) fn claim(
        &mut self,
        epoch: Epoch,
        id: &TenantId,
        users: &[UserId],
        expires: Timestamp,
    ) -> ClaimAnswer {
        if epoch.0 != self.epoch {
            return ClaimAnswer::StaleEpoch;
        }
        self.last_token += 1;
        let token = Token(self.last_token);
        let claimed = self
            .change(id, |tenant, expiries, _| {
                let mut claimed = Vec::with_capacity(users.len());
                for user in users {
                    let stamp = tenant.change(user, |entry| {
                        if entry.claim.is_some() {
                            return None;
                        }
                        entry.claim = Some(Claim {
                            token,
                            requested: false,
                        });
                        Some(entry.stamp)
                    });
                    if let Some(stamp) = stamp.flatten() {
                        claimed.push(ClaimedUser {
                            user: user.clone(),
                            stamp,
                        });
                    }
                }
                if !claimed.is_empty() {
                    let users = claimed.iter().map(|claimed| claimed.user.clone()).collect();
                    tenant.batches.insert(token, ClaimedBatch { expires, users });
                    expiries.insert((expires, id.clone(), token));
                }
                claimed
            })
            .unwrap_or_default();
        ClaimAnswer::Claimed {
            token,
            users: claimed,
        }
    }

    pub(in crate::schedule::memory) fn renew(
        &mut self,
        id: &TenantId,
        token: Token,
        users: &[UserId],
        expires: Timestamp,
    ) -> ClaimRenewal {
        self.change(id, |tenant, expiries, _| {
            if let Some(batch) = tenant.batches.get_mut(&token) {
                let before = std::mem::replace(&mut batch.expires, expires);
                expiries.remove(&(before, id.clone(), token));
                expiries.insert((expires, id.clone(), token));
            }
            let entry_of = |user| {
                let entry = tenant.entry(user)?;
                entry.claim.filter(|claim| claim.token == token)?;
                Some(entry)
            };
            let still_claimed = users
                .iter()
                .filter_map(|user| {
                    Some(RenewedUser {
                        user: user.clone(),
                        history: entry_of(user)?.history,
                    })
                })
                .collect();
            ClaimRenewal {
                still_claimed,
                tenant_users: u64::try_from(tenant.len()).unwrap_or(u64::MAX),
            }
        })
        .unwrap_or_default()
    }

    /// Ends the claims of the users that are held under `token`; `end` makes the rest of the change. Returns
    /// these users.
    fn end_claims<'a, T: 'a>(
        &mut self,
        id: &TenantId,
        token: Token,
        items: impl IntoIterator<Item = (&'a UserId, T)>,
        now: Timestamp,
        mut end: impl FnMut(&mut UserEntry, T, &mut dyn FnMut(u64)),
    ) -> Vec<UserId> {
        let (ahead, due_now) = (plus(now, -(AHEAD.max(self.minimum))), plus(now, -self.minimum));
        self.change(id, |tenant, expiries, all_intervals| {
            let mut ended = Vec::new();
            for (user, item) in items {
                let mut interval = None;
                let claim = tenant.change(user, |entry| {
                    let claim = entry.claim.take_if(|claim| claim.token == token)?;
                    end(entry, item, &mut |seconds| interval = Some(seconds));
                    if claim.requested {
                        entry.move_ahead(ahead, due_now);
                    }
                    Some(claim)
                });
                if claim.flatten().is_some() {
                    drop_from_batch(tenant, expiries, id, token, user);
                    if let Some(seconds) = interval {
                        tenant.intervals.add(seconds);
                        all_intervals.add(seconds);
                    }
                    ended.push(user.clone());
                }
            }
            ended
        })
        .unwrap_or_default()
    }

    pub(in crate::schedule::memory) fn finish(
        &mut self,
        id: &TenantId,
        token: Token,
        results: &[FinishedAttempt],
        now: Timestamp,
    ) -> Vec<UserId> {
        let minimum = self.minimum;
        let items = results.iter().map(|finish| (&finish.user, finish));
        let ended = self.end_claims(
            id,
            token,
            items,
            now,
            |entry, finish: &FinishedAttempt, interval| {
                if let Some(before) = entry.last_attempt {
                    interval(seconds_between(before, now));
                }
                entry.stamp = plus(plus(now, span(finish.due_after)), -minimum);
                entry.requested = None;
                entry.last_attempt = Some(now);
                entry.history = finish.history;
                match &finish.result {
                    Ok(()) => {
                        entry.last_success = Some(now);
                        entry.last_failure = None;
                    }
                    Err(failure) => entry.last_failure = Some(Box::new(failure.clone())),
                }
            },
        );
        self.attempts += ended.len() as u64;
        if let Some(tenant) = self.tenants.get_mut(id) {
            tenant.attempts += ended.len() as u64;
        }
        ended
    }

    pub(in crate::schedule::memory) fn release(
        &mut self,
        id: &TenantId,
        token: Token,
        users: &[UserId],
        now: Timestamp,
    ) -> Vec<UserId> {
        self.end_claims(id, token, users.iter().map(|user| (user, ())), now, |_, (), _| {})
    }

    pub(in crate::schedule::memory) fn reclaim(&mut self, limit: usize, now: Timestamp) -> Vec<UserKey> {
        let expired: Vec<(TenantId, Token)> = self
            .expiries
            .iter()
            .take_while(|(expires, _, _)| *expires <= now)
            .take(limit)
            .map(|(_, tenant, token)| (tenant.clone(), *token))
            .collect();
        let mut reclaimed = Vec::new();
        for (tenant, token) in expired {
            let batch = self
                .tenants
                .get(&tenant)
                .and_then(|tenant| tenant.batches.get(&token));
            let left = limit.saturating_sub(reclaimed.len());
            let users: Vec<UserId> = batch
                .map(|batch| batch.users.iter().take(left).cloned().collect())
                .unwrap_or_default();
            let released = self.release(&tenant, token, &users, now);
            reclaimed.extend(
                released
                    .into_iter()
                    .map(|user| UserKey::new(tenant.clone(), user)),
            );
        }
        reclaimed
    }
}

/// Removes a user whose claim ended from the batch, and drops an empty batch.
pub(super) fn drop_from_batch(
    tenant: &mut TenantSchedule,
    expiries: &mut Expiries,
    id: &TenantId,
    token: Token,
    user: &UserId,
) {
    let Some(batch) = tenant.batches.get_mut(&token) else {
        return;
    };
    batch.users.remove(user);
    if batch.users.is_empty() {
        expiries.remove(&(batch.expires, id.clone(), token));
        tenant.batches.remove(&token);
    }
}
