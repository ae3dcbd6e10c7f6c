//! Selects the next users: in exact global order of their stamps, then grouped by tenant.
//!
//! [`Selection`] is pure. It receives the heads of the tenants and merges their users by stamp, oldest first.
//! To select a hundred users it must not read a million, so [`Selection::next_query`] returns the tenant of which
//! it needs more users, and [`Selection::add_users`] takes them. [`select`] is the loop around both.
//!
//! A selection is always a prefix of the global order, leaving out users of tenants at their in-flight cap.
//! Where `tenants_per_run` would force it to pass over an older user, the selection ends, and the next run
//! continues there.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Head, Schedule};
use crate::error::Failure;
use crate::model::{TenantId, UserId};

/// Largest number of heads read in one run, whatever the settings and the number of tenants at their cap.
const MAXIMUM_HEADS: usize = 100_000;

/// A limit on the number of batches that each of some tenants has in flight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchLimit {
    /// Largest number of batches of each of these tenants, including those in flight.
    pub most: usize,
    /// The limited tenants, each with its number of batches in flight. Other tenants are not limited.
    pub in_flight: HashMap<TenantId, usize>,
}

/// The limits of one selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionLimits {
    /// A user is due if their stamp is at least this old.
    pub minimum: Duration,
    /// Largest number of tenants from which users are taken.
    pub tenants: usize,
    /// Largest number of users of one batch.
    pub users_per_batch: usize,
    /// Largest number of users in total: the free capacity.
    pub users: usize,
    /// Largest number of users of one tenant in flight, including those already in flight; 0 for no limit.
    pub tenant_in_flight: u64,
    /// The limit on batches in flight of slow tenants; see [`super::fair`].
    pub batches: BatchLimit,
}

/// Users of one tenant to be claimed and published together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedBatch {
    /// The tenant.
    pub tenant: TenantId,
    /// The users, oldest first; at least one, at most [`SelectionLimits::users_per_batch`].
    pub users: Vec<UserId>,
    /// The stamp of the oldest.
    pub oldest: Timestamp,
}

/// Why a selection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionEnd {
    /// No further user is due, except those of tenants at their cap.
    NoOtherUserDue,
    /// The capacity is used up.
    Capacity,
    /// The next user belongs to one tenant too many; another run finds more users at once.
    Tenants,
}

/// The result of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionResult {
    /// The batches, in the order of their oldest users.
    pub batches: Vec<SelectedBatch>,
    /// Why the selection ended.
    pub end: SelectionEnd,
}

impl SelectionResult {
    /// Returns the number of users in all batches.
    #[must_use]
    pub fn users(&self) -> usize {
        self.batches.iter().map(|batch| batch.users.len()).sum()
    }
}

/// The users that a selection needs to continue: the oldest `limit` users of `tenant` whose stamps are not
/// after `not_after`. Users that were delivered before are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersQuery {
    /// The tenant.
    pub tenant: TenantId,
    /// The youngest stamp that may be taken.
    pub not_after: Timestamp,
    /// The number of users.
    pub limit: usize,
}

#[derive(Debug)]
struct TenantCandidate {
    tenant: TenantId,
    /// Number of further users that may be taken.
    allowance: usize,
    /// Users that were fed and not yet taken, oldest first.
    waiting: VecDeque<(UserId, Timestamp)>,
    taken: Vec<(UserId, Timestamp)>,
    seen: HashSet<UserId>,
    /// The `limit` of the last need.
    asked: usize,
    /// Whether no further user of this tenant is due.
    complete: bool,
}

/// A selection in progress.
#[derive(Debug)]
pub struct Selection {
    limits: SelectionLimits,
    /// The youngest stamp that may be taken; users beyond it are never read.
    not_after: Timestamp,
    candidates: Vec<TenantCandidate>,
    /// The candidates by the stamp of their next user (or a lower bound of it), ties by tenant.
    order: BTreeSet<(Timestamp, TenantId, usize)>,
    /// The head of the first tenant beyond the limit of tenants. Only users before it are taken.
    boundary: Option<(Timestamp, TenantId)>,
    left: usize,
    end: SelectionEnd,
}

impl Selection {
    /// Begins a selection at `now` with the heads, oldest first. Tenants whose heads are not among them count
    /// as younger.
    #[must_use]
    pub fn new(limits: SelectionLimits, now: Timestamp, heads: Vec<Head>) -> Self {
        let not_after = cutoff(limits.minimum, now);
        let mut selection = Self {
            not_after,
            candidates: Vec::new(),
            order: BTreeSet::new(),
            boundary: None,
            left: limits.users,
            limits,
            end: SelectionEnd::NoOtherUserDue,
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
            selection.candidates.push(TenantCandidate {
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

    /// Takes users as long as it can. Returns the need for more users, or `None` when the selection is
    /// complete.
    pub fn next_query(&mut self) -> Option<UsersQuery> {
        while let Some((stamp, tenant, index)) = self.order.first().cloned() {
            if self.left == 0 {
                self.end = SelectionEnd::Capacity;
                return None;
            }
            if let Some((boundary, beyond)) = &self.boundary
                && (stamp, &tenant) >= (*boundary, beyond)
            {
                self.end = SelectionEnd::Tenants;
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
                // The limit never exceeds what fits. The answer begins with users that were delivered before.
                let most = candidate.taken.len() + candidate.allowance.min(self.left);
                candidate.asked = candidate.asked.saturating_mul(2).max(batch).min(most);
                return Some(UsersQuery {
                    tenant,
                    not_after: self.not_after,
                    limit: candidate.asked,
                });
            }
            self.order.pop_first();
            self.requeue(index, stamp);
        }
        self.end = if self.boundary.is_some() {
            SelectionEnd::Tenants
        } else {
            SelectionEnd::NoOtherUserDue
        };
        None
    }

    /// Answers [`Self::next_query`] with the tenant's oldest due users, oldest first.
    pub fn add_users(&mut self, need: &UsersQuery, users: Vec<(UserId, Timestamp)>) {
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
        // The schedule changed meanwhile and the answer has no new user. The tenant is left, or it would be
        // read for ever.
        candidate.complete = fed < need.limit || candidate.waiting.is_empty();
        let position = self.order.iter().find(|(_, _, at)| *at == index).cloned();
        if let Some(position) = position {
            let stamp = position.0;
            self.order.remove(&position);
            self.requeue(index, stamp);
        }
    }

    /// Puts a candidate back into the order by its next user, unless no further user of it may be taken.
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
            // Not read yet, but not older than the last one.
            None => at_least,
        };
        self.order.insert((next, candidate.tenant.clone(), index));
    }

    /// Groups the taken users into batches.
    #[must_use]
    pub fn into_selected(self) -> SelectionResult {
        let size = self.limits.users_per_batch.max(1);
        let mut batches = Vec::new();
        for candidate in self.candidates {
            let mut taken = candidate.taken;
            taken.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
            for users in taken.chunks(size) {
                let Some((_, oldest)) = users.first() else {
                    continue;
                };
                batches.push(SelectedBatch {
                    tenant: candidate.tenant.clone(),
                    users: users.iter().map(|(user, _)| user.clone()).collect(),
                    oldest: *oldest,
                });
            }
        }
        batches.sort_by(|one, other| (one.oldest, &one.tenant).cmp(&(other.oldest, &other.tenant)));
        SelectionResult {
            batches,
            end: self.end,
        }
    }
}

/// Selects the users of a schedule that are due at `now`, in order and within the limits. Claims none of
/// them.
///
/// # Errors
/// The failure of the schedule.
pub async fn select(
    schedule: &dyn Schedule,
    limits: SelectionLimits,
    now: Timestamp,
) -> Result<SelectionResult, Failure> {
    let heads = leading(schedule, &limits, now).await?;
    let mut selection = Selection::new(limits, now, heads);
    while let Some(need) = selection.next_query() {
        let users = schedule.oldest(&need.tenant, need.not_after, need.limit).await?;
        selection.add_users(&need, users);
    }
    Ok(selection.into_selected())
}

/// Returns the heads of one tenant more than a run may take, or of all if there are fewer. Tenants at their
/// cap are not counted, but their heads are returned.
async fn leading(
    schedule: &dyn Schedule,
    limits: &SelectionLimits,
    now: Timestamp,
) -> Result<Vec<Head>, Failure> {
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

/// Returns how many further users of a tenant may be taken.
fn allowance(limits: &SelectionLimits, head: &Head) -> usize {
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
