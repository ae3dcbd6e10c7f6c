//! Who is next: exact global order of stamp, then grouped by tenant.
//!
//! [`Selection`] is pure. It is given the heads of the tenants and merges their users by stamp, the oldest of all first.
//! As nobody wants to read a million users to choose a hundred, it says which tenant it needs more users of
//! ([`Selection::needs`]), and is fed with them ([`Selection::feed`]). [`select`] is the loop around it.
//!
//! What is selected is always a beginning of the global order (users of tenants at their in-flight cap left out): where
//! `tenants_per_run` would make it pass over an older user, the selection ends instead, and the next run goes on there.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Head, Schedule};
use crate::error::Failure;
use crate::model::{TenantId, UserId};

/// Most heads looked at in one run, whatever the settings and the number of tenants at their cap.
const MAXIMUM_HEADS: usize = 100_000;

/// Tenants of which only so many batches may be in flight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchLimit {
    /// Most batches of each of them, those in flight included.
    pub most: usize,
    /// These tenants, with what of each is in flight; the others are not limited.
    pub in_flight: HashMap<TenantId, usize>,
}

/// What bounds one selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A user is due when the stamp is at least so old.
    pub minimum: Duration,
    /// Most tenants users are taken of.
    pub tenants: usize,
    /// Most users of one batch.
    pub users_per_batch: usize,
    /// Most users in all: the free capacity.
    pub users: usize,
    /// Most users of one tenant in flight, those in flight already included; 0 for no limit.
    pub tenant_in_flight: u64,
    /// Tenants of which only so many batches may be in flight; see [`super::fair`].
    pub batches: BatchLimit,
}

/// Users of one tenant to be claimed and published together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The tenant.
    pub tenant: TenantId,
    /// The users, oldest first; at least one, at most [`Limits::users_per_batch`].
    pub users: Vec<UserId>,
    /// The stamp of the oldest.
    pub oldest: Timestamp,
}

/// Why a selection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody else is due (but users of tenants at their cap).
    NobodyElseDue,
    /// The capacity is used.
    Capacity,
    /// The next user is of one tenant too many; another run at once finds more.
    Tenants,
}

/// The answer of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// In order of their oldest members.
    pub batches: Vec<Batch>,
    /// Why it ended.
    pub end: End,
}

impl Selected {
    /// Users in all batches.
    #[must_use]
    pub fn users(&self) -> usize {
        self.batches.iter().map(|batch| batch.users.len()).sum()
    }
}

/// What a selection needs to go on: at most `limit` oldest users of `tenant` whose stamps are not after `not_after`,
/// counted from its very oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The tenant.
    pub tenant: TenantId,
    /// The youngest stamp that can be taken.
    pub not_after: Timestamp,
    /// How many.
    pub limit: usize,
}

#[derive(Debug)]
struct Candidate {
    tenant: TenantId,
    /// How many more users may be taken.
    allowance: usize,
    /// Fed and not yet taken, oldest first.
    waiting: VecDeque<(UserId, Timestamp)>,
    taken: Vec<(UserId, Timestamp)>,
    seen: HashSet<UserId>,
    /// How many were asked for last.
    asked: usize,
    /// Nobody else of this tenant is due.
    complete: bool,
}

/// A selection in progress.
#[derive(Debug)]
pub struct Selection {
    limits: Limits,
    /// The youngest stamp that can be taken: users beyond it are not even asked for.
    not_after: Timestamp,
    candidates: Vec<Candidate>,
    /// The candidates by the stamp of their next user (or a lower bound of it), ties by tenant.
    order: BTreeSet<(Timestamp, TenantId, usize)>,
    /// The first tenant beyond the limit of tenants: what is not before it is not taken.
    boundary: Option<(Timestamp, TenantId)>,
    left: usize,
    end: End,
}

impl Selection {
    /// Begins at `now` with the heads, oldest first. Tenants whose heads are not among them count as younger.
    #[must_use]
    pub fn new(limits: Limits, now: Timestamp, heads: Vec<Head>) -> Self {
        let not_after = cutoff(limits.minimum, now);
        let mut selection = Self {
            not_after,
            candidates: Vec::new(),
            order: BTreeSet::new(),
            boundary: None,
            left: limits.users,
            limits,
            end: End::NobodyElseDue,
        };
        for head in heads {
            let allowance = allowance(&selection.limits, &head);
            if allowance == 0 || head.stamp > not_after {
                continue;
            }
            if selection.candidates.len() >= selection.limits.tenants {
                selection.not_after = selection.not_after.min(head.stamp);
                selection.boundary = Some((head.stamp, head.tenant));
                break;
            }
            selection
                .order
                .insert((head.stamp, head.tenant.clone(), selection.candidates.len()));
            selection.candidates.push(Candidate {
                tenant: head.tenant,
                allowance,
                waiting: VecDeque::new(),
                taken: Vec::new(),
                seen: HashSet::new(),
                asked: 0,
                complete: false,
            });
        }
        selection
    }

    /// Takes users as long as it can, then says whose users it needs; `None` when it is complete.
    pub fn needs(&mut self) -> Option<Need> {
        while let Some((stamp, tenant, index)) = self.order.first().cloned() {
            if self.left == 0 {
                self.end = End::Capacity;
                return None;
            }
            if let Some((boundary, beyond)) = &self.boundary
                && (stamp, &tenant) >= (*boundary, beyond)
            {
                self.end = End::Tenants;
                return None;
            }
            let batch = self.limits.users_per_batch.max(1);
            let Some(candidate) = self.candidates.get_mut(index) else {
                self.order.pop_first();
                continue;
            };
            if let Some(next) = candidate.waiting.pop_front() {
                candidate.allowance -= 1;
                candidate.taken.push(next);
                self.left -= 1;
            } else {
                // More than fits is never asked for; what was seen before comes again at the front of the list.
                let most = candidate.taken.len() + candidate.allowance.min(self.left);
                candidate.asked = candidate.asked.saturating_mul(2).max(batch).min(most);
                return Some(Need {
                    tenant,
                    not_after: self.not_after,
                    limit: candidate.asked,
                });
            }
            self.order.pop_first();
            self.requeue(index, stamp);
        }
        self.end = if self.boundary.is_some() {
            End::Tenants
        } else {
            End::NobodyElseDue
        };
        None
    }

    /// Answers [`Self::needs`] with the tenant's oldest due users, oldest first.
    pub fn feed(&mut self, need: &Need, users: Vec<(UserId, Timestamp)>) {
        let Some(index) = self
            .candidates
            .iter()
            .position(|candidate| candidate.tenant == need.tenant)
        else {
            return;
        };
        let not_after = self.not_after;
        let Some(candidate) = self.candidates.get_mut(index) else {
            return;
        };
        let fed = users.len();
        for (user, stamp) in users {
            if stamp <= not_after && candidate.seen.insert(user.clone()) {
                candidate.waiting.push_back((user, stamp));
            }
        }
        // A list that names nobody new would be asked for again and again; the order moved under us, so leave it.
        candidate.complete = fed < need.limit || candidate.waiting.is_empty();
        let place = self.order.iter().find(|(_, _, at)| *at == index).cloned();
        if let Some(place) = place {
            let stamp = place.0;
            self.order.remove(&place);
            self.requeue(index, stamp);
        }
    }

    /// Puts a candidate back into the order, by its next user, unless nobody else of it may be taken.
    fn requeue(&mut self, index: usize, at_least: Timestamp) {
        let Some(candidate) = self.candidates.get(index) else {
            return;
        };
        if candidate.allowance == 0 {
            return;
        }
        let next = match candidate.waiting.front() {
            Some((_, stamp)) => *stamp,
            None if candidate.complete => return,
            // Not known yet, but not older than the last.
            None => at_least,
        };
        self.order.insert((next, candidate.tenant.clone(), index));
    }

    /// Groups what was taken.
    #[must_use]
    pub fn into_selected(self) -> Selected {
        let size = self.limits.users_per_batch.max(1);
        let mut batches = Vec::new();
        for candidate in self.candidates {
            let mut taken = candidate.taken;
            taken.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
            for users in taken.chunks(size) {
                let Some((_, oldest)) = users.first() else {
                    continue;
                };
                batches.push(Batch {
                    tenant: candidate.tenant.clone(),
                    users: users.iter().map(|(user, _)| user.clone()).collect(),
                    oldest: *oldest,
                });
            }
        }
        batches.sort_by(|one, other| (one.oldest, &one.tenant).cmp(&(other.oldest, &other.tenant)));
        Selected {
            batches,
            end: self.end,
        }
    }
}

/// Selects from a schedule: who is due at `now`, in order, inside the limits. Claims nothing.
///
/// # Errors
/// The schedule's own.
pub async fn select(schedule: &dyn Schedule, limits: Limits, now: Timestamp) -> Result<Selected, Failure> {
    let heads = leading(schedule, &limits, now).await?;
    let mut selection = Selection::new(limits, now, heads);
    while let Some(need) = selection.needs() {
        let users = schedule.oldest(&need.tenant, need.not_after, need.limit).await?;
        selection.feed(&need, users);
    }
    Ok(selection.into_selected())
}

/// Enough heads for one tenant more than a run may take, although some may be at their cap.
async fn leading(schedule: &dyn Schedule, limits: &Limits, now: Timestamp) -> Result<Vec<Head>, Failure> {
    let not_after = cutoff(limits.minimum, now);
    let wanted = limits.tenants.saturating_add(1);
    let mut limit = wanted.min(MAXIMUM_HEADS);
    loop {
        let heads = schedule.heads(limit).await?;
        let usable = heads.iter().filter(|head| allowance(limits, head) > 0).count();
        let all = heads.len() < limit || heads.last().is_some_and(|head| head.stamp > not_after);
        if all || usable >= wanted || limit >= MAXIMUM_HEADS {
            return Ok(heads);
        }
        limit = limit.saturating_mul(2).min(MAXIMUM_HEADS);
    }
}

/// Returns the youngest stamp that is due.
fn cutoff(minimum: Duration, now: Timestamp) -> Timestamp {
    SignedDuration::try_from(minimum)
        .ok()
        .and_then(|minimum| now.checked_sub(minimum).ok())
        .unwrap_or(Timestamp::MIN)
}

/// Returns how many users of a tenant may be taken.
fn allowance(limits: &Limits, head: &Head) -> usize {
    let users = match limits.tenant_in_flight {
        0 => usize::MAX,
        most => usize::try_from(most.saturating_sub(head.in_flight)).unwrap_or(usize::MAX),
    };
    let batches = match limits.batches.in_flight.get(&head.tenant) {
        None => usize::MAX,
        Some(running) => limits
            .batches
            .most
            .saturating_sub(*running)
            .saturating_mul(limits.users_per_batch.max(1)),
    };
    users.min(batches)
}

#[cfg(test)]
mod tests;
