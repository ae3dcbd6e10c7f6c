//! The schedule of all tenants: their heads, the expiries of claims, and the leadership.

mod claims;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use self::claims::drop_from_batch;
use super::plus;
use super::tenant::{Intervals, TenantSchedule, UserEntry};
use crate::model::{TenantId, UserId, UserKey};
use crate::schedule::{Epoch, Head, History, Page, PageCursor, SavedStamp, Summary, Token, UserStatus};

/// Number of intervals kept for the percentiles over all users.
const INTERVALS: usize = 4_096;

/// A requested user is put ahead of all users whose stamps are younger than this.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// Batches by their expiry.
type Expiries = BTreeSet<(Timestamp, TenantId, Token)>;

#[derive(Debug)]
struct LeaderLease {
    holder: String,
    until: Timestamp,
}

#[derive(Debug)]
pub(super) struct ScheduleState {
    tenants: BTreeMap<TenantId, TenantSchedule>,
    /// Tenants with waiting users, by their oldest stamp, ties by name.
    heads: BTreeSet<(Timestamp, TenantId)>,
    expiries: Expiries,
    users: u64,
    intervals: Intervals,
    /// Number of finished attempts.
    attempts: u64,
    /// Age at which a stamp is due.
    minimum: SignedDuration,
    last_token: u64,
    epoch: u64,
    lease: Option<LeaderLease>,
}

impl ScheduleState {
    pub(super) fn new(minimum: SignedDuration, first: u64) -> Self {
        Self {
            tenants: BTreeMap::new(),
            heads: BTreeSet::new(),
            expiries: BTreeSet::new(),
            users: 0,
            intervals: Intervals::new(INTERVALS),
            attempts: 0,
            minimum,
            last_token: first,
            epoch: first,
            lease: None,
        }
    }

    /// Changes a tenant and updates its head; drops a tenant without users. Returns `None` for an unknown
    /// tenant.
    fn change<R>(
        &mut self,
        id: &TenantId,
        change: impl FnOnce(&mut TenantSchedule, &mut Expiries, &mut Intervals) -> R,
    ) -> Option<R> {
        let tenant = self.tenants.get_mut(id)?;
        let (head, users) = (tenant.head(), tenant.len());
        let answer = change(tenant, &mut self.expiries, &mut self.intervals);
        self.users = self.users + tenant.len() as u64 - users as u64;
        if tenant.head() != head {
            if let Some(stamp) = head {
                self.heads.remove(&(stamp, id.clone()));
            }
            if let Some(stamp) = tenant.head() {
                self.heads.insert((stamp, id.clone()));
            }
        }
        if tenant.is_empty() {
            self.tenants.remove(id);
        }
        Some(answer)
    }

    pub(super) fn enrol(&mut self, id: &TenantId, saved: &SavedStamp) -> bool {
        self.tenants.entry(id.clone()).or_insert_with(TenantSchedule::new);
        self.change(id, |tenant, _, _| {
            let new = tenant.entry(&saved.user).is_none();
            if new {
                let failing = saved.failing.as_ref();
                tenant.add(
                    saved.user.clone(),
                    UserEntry {
                        stamp: saved.stamp,
                        requested: None,
                        claim: None,
                        last_attempt: None,
                        last_success: saved.last_success,
                        last_failure: failing.map(|failing| Box::new(failing.failure.clone())),
                        history: History {
                            idle_cycles: 0,
                            failures: failing.map_or(0, |failing| failing.attempts),
                        },
                    },
                );
            }
            new
        })
        .unwrap_or(false)
    }

    /// Adds users under a claim that no worker holds.
    pub(super) fn enrol_claimed(&mut self, id: &TenantId, users: &[SavedStamp], expires: Timestamp) -> u64 {
        let new: Vec<UserId> = users
            .iter()
            .filter(|saved| self.enrol(id, saved))
            .map(|saved| saved.user.clone())
            .collect();
        if !new.is_empty() {
            self.claim(Epoch(self.epoch), id, &new, expires);
        }
        new.len() as u64
    }

    /// Returns those of the tenants whose number of users is not the expected one, with that number.
    pub(super) fn differing(&self, expected: &[(TenantId, u64)]) -> Vec<(TenantId, u64)> {
        expected
            .iter()
            .filter_map(|(id, expected)| {
                let users = self.tenants.get(id).map_or(0, |tenant| tenant.len() as u64);
                (users != *expected).then(|| (id.clone(), users))
            })
            .collect()
    }

    pub(super) fn withdraw(&mut self, key: &UserKey) -> bool {
        self.change(&key.tenant, |tenant, expiries, _| {
            let Some(entry) = tenant.remove(&key.user) else {
                return false;
            };
            if let Some(claim) = entry.claim {
                drop_from_batch(tenant, expiries, &key.tenant, claim.token, &key.user);
            }
            true
        })
        .unwrap_or(false)
    }

    pub(super) fn withdraw_tenant(&mut self, id: &TenantId) -> u64 {
        let Some(tenant) = self.tenants.remove(id) else {
            return 0;
        };
        if let Some(stamp) = tenant.head() {
            self.heads.remove(&(stamp, id.clone()));
        }
        for (token, batch) in &tenant.batches {
            self.expiries.remove(&(batch.expires, id.clone(), *token));
        }
        self.users -= tenant.len() as u64;
        tenant.len() as u64
    }

    pub(super) fn make_due(&mut self, key: &UserKey, now: Timestamp) -> bool {
        let (ahead, due_now) = (plus(now, -(AHEAD.max(self.minimum))), plus(now, -self.minimum));
        self.change(&key.tenant, |tenant, _, _| {
            tenant
                .change(&key.user, |entry| {
                    if let Some(claim) = &mut entry.claim {
                        claim.requested = true;
                    } else {
                        entry.move_ahead(ahead, due_now);
                    }
                })
                .is_some()
        })
        .unwrap_or(false)
    }

    pub(super) fn heads(&self, limit: usize) -> Vec<Head> {
        self.heads
            .iter()
            .take(limit)
            .map(|(stamp, id)| Head {
                tenant: id.clone(),
                stamp: *stamp,
                in_flight: self.tenants.get(id).map_or(0, TenantSchedule::claimed),
            })
            .collect()
    }

    pub(super) fn oldest(
        &self,
        id: &TenantId,
        not_after: Timestamp,
        limit: usize,
    ) -> Vec<(UserId, Timestamp)> {
        self.tenants
            .get(id)
            .map(|tenant| tenant.oldest(not_after, limit))
            .unwrap_or_default()
    }

    pub(super) fn status(&self, key: &UserKey) -> Option<UserStatus> {
        self.tenants
            .get(&key.tenant)
            .and_then(|tenant| tenant.entry(&key.user))
            .map(UserEntry::status)
    }

    pub(super) fn tenant_page(&self, after: Option<&PageCursor>, limit: usize) -> Page<TenantId> {
        page(&self.tenants, after, limit)
    }

    pub(super) fn user_page(&self, id: &TenantId, after: Option<&PageCursor>, limit: usize) -> Page<UserId> {
        match self.tenants.get(id) {
            Some(tenant) => page(tenant.users(), after, limit),
            None => Page {
                names: Vec::new(),
                next: None,
            },
        }
    }

    pub(super) fn summary(&mut self, of: Option<&TenantId>, now: Timestamp) -> Summary {
        let cutoff = plus(now, -self.minimum);
        let mut summary = Summary::default();
        let (mut wait, mut success) = (None, None);
        let mut add = |tenant: &mut TenantSchedule| {
            summary.tenants += 1;
            summary.users += tenant.len() as u64;
            summary.due += tenant.due(cutoff);
            summary.claimed += tenant.claimed();
            wait = earlier(wait, tenant.oldest_wait());
            success = earlier(success, tenant.oldest_success());
        };
        let mut attempts = self.attempts;
        let percentiles = if let Some(id) = of {
            self.tenants.get_mut(id).map_or([None, None], |tenant| {
                attempts = tenant.attempts;
                add(tenant);
                tenant.intervals.percentiles([50, 99])
            })
        } else {
            self.tenants.values_mut().for_each(&mut add);
            self.intervals.percentiles([50, 99])
        };
        summary.attempts = if of.is_some() && summary.tenants == 0 {
            0
        } else {
            attempts
        };
        [summary.interval_p50_seconds, summary.interval_p99_seconds] = percentiles;
        summary.oldest_due_seconds = wait
            .filter(|stamp| *stamp <= cutoff)
            .map(|stamp| seconds_between(stamp, cutoff));
        summary.oldest_success_seconds = success.map(|at| seconds_between(at, now));
        summary
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    pub(super) fn lead(&mut self, holder: &str, now: Timestamp, lasts: SignedDuration) -> Option<Epoch> {
        let until = plus(now, lasts);
        match &mut self.lease {
            Some(lease) if lease.until > now => {
                if lease.holder != holder {
                    return None;
                }
                lease.until = until;
            }
            Some(_) | None => {
                self.epoch += 1;
                self.lease = Some(LeaderLease {
                    holder: holder.to_owned(),
                    until,
                });
            }
        }
        Some(Epoch(self.epoch))
    }

    pub(super) fn leader(&self, now: Timestamp) -> Option<String> {
        let lease = self.lease.as_ref().filter(|lease| lease.until > now)?;
        Some(lease.holder.clone())
    }

    pub(super) fn resign(&mut self, holder: &str) {
        self.lease.take_if(|lease| lease.holder == holder);
    }
}

/// Returns the names after the cursor, which is the last name of the previous page.
fn page<K: Ord + Clone + AsRef<str> + std::str::FromStr, V>(
    names: &BTreeMap<K, V>,
    after: Option<&PageCursor>,
    limit: usize,
) -> Page<K> {
    use std::ops::Bound::{Excluded, Unbounded};
    let from = match after.map(|PageCursor(name)| name.parse::<K>()) {
        Some(Ok(name)) => Excluded(name),
        // A cursor that was made elsewhere starts over: names may be returned twice, and none is missed.
        Some(Err(_)) | None => Unbounded,
    };
    let mut rest = names.range((from, Unbounded)).map(|(name, _)| name.clone());
    let names: Vec<K> = rest.by_ref().take(limit.max(1)).collect();
    let next = match (rest.next(), names.last()) {
        (Some(_), Some(last)) => Some(PageCursor(last.as_ref().to_owned())),
        _ => None,
    };
    Page { names, next }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Returns the whole seconds from `from` to `to`; 0 if the clock went back.
fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}
