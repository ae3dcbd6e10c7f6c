//! The index of tenants: who has the oldest head, whose claims expire first, how many there are.
//!
//! It is in another slot than the tenants' own keys, so no script can change both. After each change of a tenant its
//! script *reports* where the tenant stands, with a number that grows with every change of this tenant; the report is
//! then *pushed* into the index, which takes it unless it knows a higher number. So pushes may overtake each other. What
//! remains is a push that never came, because its process ended or Redis failed in between. Until it is repaired
//! - after a claim the head is too old: a selection asks the tenant in vain once per look;
//! - after an enrolment, release or finish the head is too young: those users wait longer than they should;
//! - after a claim whose process died with it, its expiry is unknown.
//!
//! It is repaired by the next change of the tenant, whoever makes it; by the process itself when only the push failed (it
//! remembers the tenant); and by the leader, who compares a part of the index with the tenants in every run
//! ([`Index::inspect`]). A tenant the index does not name at all is found by the tenant search: enrolling a user who is in
//! reports, too.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::keys::{HEADS, KNOWN, Keys, MARK, MEND, PUSH, REPORT, SCAN, TOTAL};
use super::wire::{RawReport, Report, arg, count, optional, time};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::TenantId;
use crate::redis::{RedisStore, Repeat};
use crate::schedule::{Head, Inspected, Mark, Marked, Members};

/// A report that says nothing new is not pushed again for so long.
const FRESH: Duration = Duration::from_secs(10);
/// Tenants remembered for that, and tenants remembered whose push failed.
const MOST_REMEMBERED: usize = 20_000;
/// Tenants asked at once.
const AT_ONCE: usize = 32;
/// A tenant that seems lost is looked at again after this time: its withdrawal may be on its way into the index.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// A change is on its way into the index for no longer than this, as a rule.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// What the index says of a tenant: number, users, claimed, attempts, head, expiry.
type Known = (i64, i64, i64, i64, Option<i64>, Option<i64>);

pub(super) struct Index {
    store: RedisStore,
    keys: Keys,
    /// Highest number of the mark this process was told after a change of its own.
    acknowledged: AtomicI64,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Reports known to be in the index, by their numbers.
    pushed: HashMap<TenantId, (i64, Instant)>,
    /// Tenants whose push failed.
    behind: HashSet<TenantId>,
    /// Where the inspection goes on.
    cursor: Option<String>,
    /// Users of the tenants that the inspection passed since it began at the first.
    walked_users: i64,
}

impl Index {
    pub(super) fn new(store: RedisStore, keys: Keys) -> Self {
        Self {
            store,
            keys,
            acknowledged: AtomicI64::new(0),
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes a report. Never fails: the change it reports was made. A push that fails is made up for later.
    pub(super) async fn push(&self, tenant: &TenantId, report: Report, claim: bool, intervals: &[i64]) {
        // Nobody was found: never here, or lost. The inspection tells which; until then the index keeps what it knows.
        if report.number == 0 {
            return;
        }
        let known = {
            let memory = self.memory();
            !memory.behind.contains(tenant)
                && memory
                    .pushed
                    .get(tenant)
                    .is_some_and(|(number, at)| *number >= report.number && at.elapsed() < FRESH)
        };
        if known && !claim {
            return;
        }
        if let Err(failure) = self.push_now(tenant, report, claim, intervals).await {
            tracing::warn!(%tenant, %failure, "the index of tenants could not be brought in step, it is done later");
            let mut memory = self.memory();
            if memory.behind.len() < MOST_REMEMBERED {
                memory.behind.insert(tenant.clone());
            }
        }
    }

    /// Pushes a report whatever was pushed before.
    async fn push_now(
        &self,
        tenant: &TenantId,
        report: Report,
        claim: bool,
        intervals: &[i64],
    ) -> Result<(), Failure> {
        let mut args = vec![
            arg(tenant),
            arg(report.number),
            optional(report.head),
            optional(report.expiry),
            arg(report.users),
            arg(report.claimed),
            arg(report.attempts),
            optional(report.failing),
            arg(u8::from(claim)),
        ];
        args.extend(intervals.iter().map(arg));
        let keys = self.keys.index(&[
            "heads",
            "tenants",
            "expiries",
            "failing",
            "totals",
            "intervals",
            "mark",
        ]);
        // Repeatable: the same number changes nothing twice but the mark, which only has to grow.
        let mark: Option<i64> = self
            .store
            .script("updating the index of tenants", &PUSH, &keys, &args, Repeat::Yes)
            .await?;
        if let Some(mark) = mark {
            self.acknowledged.fetch_max(mark, Ordering::SeqCst);
        }
        let mut memory = self.memory();
        memory.behind.remove(tenant);
        if memory.pushed.len() >= MOST_REMEMBERED {
            memory.pushed.clear();
        }
        memory
            .pushed
            .insert(tenant.clone(), (report.number, Instant::now()));
        Ok(())
    }

    pub(super) async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let (mark, heads): (Option<i64>, Vec<(String, i64, i64)>) = self
            .store
            .script(
                "asking who waits longest",
                &HEADS,
                &self.keys.index(&["heads", "tenants", "mark"]),
                &[arg(limit.clamp(1, 1_000_000))],
                Repeat::Yes,
            )
            .await?;
        // What this process was told is no longer there: claims may be lost with it, so nobody is chosen before the
        // leader has looked into it.
        if mark.unwrap_or(0) < before {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::ScheduleUnavailable,
                format!(
                    "{}: the last changes are gone; was it emptied, or did a replica without them take over?",
                    self.store.place()
                ),
            ));
        }
        heads
            .into_iter()
            .map(|(tenant, stamp, claimed)| {
                Ok(Head {
                    tenant: tenant_name(&tenant)?,
                    stamp: time(stamp),
                    in_flight: count(claimed),
                })
            })
            .collect()
    }

    /// Returns the mark's number as this process was told it last.
    pub(super) fn acknowledged(&self) -> u64 {
        count(self.acknowledged.load(Ordering::SeqCst))
    }

    /// Moves the mark, and forgets what this process knew of data before.
    pub(super) async fn mark(&self) -> Result<Marked, Failure> {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let (id, found, now): (String, Option<i64>, i64) = self
            .store
            .script(
                "marking the data",
                &MARK,
                &self.keys.index(&["mark"]),
                &[arg(uuid::Uuid::new_v4().simple())],
                Repeat::Yes,
            )
            .await?;
        let went_back = found.unwrap_or(0) < before;
        if went_back || found.is_none() {
            let mut memory = self.memory();
            memory.pushed.clear();
            memory.cursor = None;
            memory.walked_users = 0;
        }
        self.acknowledged.store(now, Ordering::SeqCst);
        Ok(Marked {
            before: found.map(|number| Mark {
                id: id.clone(),
                number: count(number),
            }),
            after: Mark {
                id,
                number: count(now),
            },
            went_back,
        })
    }

    /// Names of tenants and where to go on.
    pub(super) async fn page(&self, cursor: &str, limit: usize) -> Result<(String, Vec<TenantId>), Failure> {
        let (next, names): (String, Vec<String>) = self
            .store
            .script(
                "walking over the tenants",
                &SCAN,
                &self.keys.index(&["tenants"]),
                &[arg(cursor), arg(limit.clamp(1, 10_000))],
                Repeat::Yes,
            )
            .await?;
        let names = names
            .iter()
            .map(|name| tenant_name(name))
            .collect::<Result<_, Failure>>()?;
        Ok((next, names))
    }

    async fn known(&self, tenants: &[TenantId]) -> Result<Vec<Option<Known>>, Failure> {
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        self.store
            .script(
                "reading the index of tenants",
                &KNOWN,
                &self.keys.index(&["tenants", "heads", "expiries"]),
                &tenants.iter().map(arg).collect::<Vec<_>>(),
                Repeat::Yes,
            )
            .await
    }

    /// Asks a tenant where it stands, whether its keys agree with each other, and for the digest of its names; `renumber` gives
    /// it a new number.
    async fn report(
        &self,
        tenant: &TenantId,
        renumber: bool,
    ) -> Result<(bool, Report, Option<u64>), Failure> {
        let (agrees, report, names): (i64, RawReport, Option<i64>) = self
            .store
            .script(
                &format!("asking where tenant {tenant} stands"),
                &REPORT,
                &self.keys.tenant(tenant),
                &[arg(u8::from(renumber))],
                Repeat::Yes,
            )
            .await?;
        Ok((agrees == 1, report.into(), names.map(count)))
    }

    /// Brings a tenant's keys in step with each other, and the index with them.
    async fn mend(&self, tenant: &TenantId, args: &[Vec<u8>]) -> Result<(), Failure> {
        let (users, report): (i64, RawReport) = self
            .store
            .script(
                &format!("mending the order of tenant {tenant}"),
                &MEND,
                &self.keys.tenant(tenant),
                args,
                Repeat::Yes,
            )
            .await?;
        tracing::warn!(%tenant, users, "a part of the tenant's order of work was lost and is made again");
        self.push_now(tenant, report.into(), false, &[]).await
    }

    /// Asks the tenant where it stands, and pushes that; the number of users.
    pub(super) async fn repair(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let (_, report, _) = self.report(tenant, false).await?;
        if report.number == 0 {
            self.memory().behind.remove(tenant);
        } else {
            self.push_now(tenant, report, false, &[]).await?;
        }
        Ok(count(report.users))
    }

    /// Returns those of the tenants that have another number of users than expected, with that number.
    pub(super) async fn differing(
        &self,
        expected: &[(TenantId, u64)],
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        let mut differing = Vec::new();
        for part in expected.chunks(256) {
            let tenants: Vec<TenantId> = part.iter().map(|(tenant, _)| tenant.clone()).collect();
            let known = self.known(&tenants).await?;
            let suspects = part.iter().zip(known).filter(|((_, expected), known)| {
                let users = known.map_or(0, |(_, users, ..)| count(users));
                users != *expected
            });
            // The index may be wrong, so the tenants are asked themselves.
            for ((tenant, expected), _) in suspects {
                let users = self.repair(tenant).await?;
                if users != *expected {
                    differing.push((tenant.clone(), users));
                }
            }
        }
        Ok(differing)
    }

    /// Compares about `limit` tenants with the index and with themselves, and those whose push failed; goes on next time
    /// where it stopped. `mend` are the arguments of the script that mends a tenant.
    pub(super) async fn inspect(&self, limit: usize, mend: &[Vec<u8>]) -> Result<Inspected, Failure> {
        let (cursor, behind) = {
            let memory = self.memory();
            (
                memory.cursor.clone().unwrap_or_else(|| "0".to_owned()),
                memory.behind.iter().take(limit).cloned().collect::<Vec<_>>(),
            )
        };
        let mut inspected = Inspected::default();
        for tenant in &behind {
            self.repair(tenant).await?;
            inspected.repaired += 1;
        }
        let (next, tenants) = self.page(&cursor, limit).await?;
        let (mut suspects, mut late) = (Vec::new(), Vec::new());
        // In parts: one script must not hold the server up for long.
        for part in tenants.chunks(256) {
            let known = self.known(part).await?;
            self.memory().walked_users += known.iter().flatten().map(|(_, users, ..)| users).sum::<i64>();
            let reports: Vec<(bool, Report, Option<u64>)> = futures::stream::iter(part.to_vec())
                .map(|tenant| async move { self.report(&tenant, false).await })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            for ((tenant, known), (agrees, report, names)) in part.iter().zip(known).zip(reports) {
                let Some(known) = known else { continue };
                let members = Members {
                    users: count(report.users),
                    names,
                };
                match verdict(&known, &report, agrees) {
                    Verdict::InStep => inspected.whole.push((tenant.clone(), members)),
                    Verdict::Behind => {
                        inspected.whole.push((tenant.clone(), members));
                        late.push((tenant.clone(), report));
                    }
                    Verdict::Lost => suspects.push((tenant.clone(), known)),
                    Verdict::Torn => {
                        self.mend(tenant, mend).await?;
                        inspected.mended.push(tenant.clone());
                    }
                }
            }
        }
        inspected.repaired += self.bring_in_step(late).await?;
        inspected.lost = self.look_again(suspects).await?;
        let walked = {
            let mut memory = self.memory();
            memory.cursor = (next != "0").then_some(next);
            memory
                .cursor
                .is_none()
                .then(|| std::mem::take(&mut memory.walked_users))
        };
        if let Some(users) = walked {
            self.mend_totals(users).await?;
        }
        Ok(inspected)
    }

    /// Makes the sums over all tenants anew, if their users are not as many as a walk over all tenants found.
    async fn mend_totals(&self, users: i64) -> Result<(), Failure> {
        let mended: i64 = self
            .store
            .script(
                "looking for the sums over all tenants",
                &TOTAL,
                &self.keys.index(&["tenants", "totals"]),
                &[arg(users)],
                Repeat::Yes,
            )
            .await?;
        if mended == 1 {
            tracing::info!("the sums over all tenants were made anew");
        }
        Ok(())
    }

    /// Pushes what the index still does not know; most of it was only on its way when it was looked at. How many.
    async fn bring_in_step(&self, late: Vec<(TenantId, Report)>) -> Result<u64, Failure> {
        if late.is_empty() {
            return Ok(0);
        }
        tokio::time::sleep(ON_ITS_WAY).await;
        let tenants: Vec<TenantId> = late.iter().map(|(tenant, _)| tenant.clone()).collect();
        let now = self.known(&tenants).await?;
        let mut pushed = 0;
        for ((tenant, report), now) in late.into_iter().zip(now) {
            // One that is gone was withdrawn meanwhile.
            let in_step = now.is_none_or(|now| verdict(&now, &report, true) != Verdict::Behind);
            if !in_step {
                self.push_now(&tenant, report, false, &[]).await?;
                pushed += 1;
            }
        }
        Ok(pushed)
    }

    /// Those of the suspects that are lost indeed; the index is brought in step with what is left of them.
    async fn look_again(&self, suspects: Vec<(TenantId, Known)>) -> Result<Vec<TenantId>, Failure> {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        tokio::time::sleep(SECOND_LOOK).await;
        let mut lost = Vec::new();
        let tenants: Vec<TenantId> = suspects.iter().map(|(tenant, _)| tenant.clone()).collect();
        let now = self.known(&tenants).await?;
        for ((tenant, before), now) in suspects.into_iter().zip(now) {
            if now != Some(before) {
                continue;
            }
            let (_, report, _) = self.report(&tenant, true).await?;
            self.push_now(&tenant, report, false, &[]).await?;
            lost.push(tenant);
        }
        Ok(lost)
    }
}

/// What a comparison of the index with a tenant says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    InStep,
    /// A push is missing.
    Behind,
    /// One of the tenant's keys is gone: the others do not agree, or the tenant has users and no number.
    Torn,
    /// The tenant has less than the index was told: its server lost data.
    Lost,
}

/// `agrees` says whether the tenant's keys agree with each other.
fn verdict(known: &Known, report: &Report, agrees: bool) -> Verdict {
    let (number, users, claimed, _, head, expiry) = *known;
    if !agrees || (report.users > 0 && report.number == 0) {
        return Verdict::Torn;
    }
    if (report.users == 0 && users > 0) || report.number < number {
        return Verdict::Lost;
    }
    let same = report.number == number
        && report.users == users
        && report.claimed == claimed
        && report.head == head
        && report.expiry == expiry;
    if same { Verdict::InStep } else { Verdict::Behind }
}

pub(super) fn tenant_name(name: &str) -> Result<TenantId, Failure> {
    name.parse()
        .map_err(|error| super::wire::unreadable("the name of a tenant", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pushes_and_lost_tenants_are_told_apart() {
        let report = Report {
            number: 7,
            head: Some(1),
            expiry: None,
            users: 3,
            claimed: 0,
            attempts: 0,
            failing: None,
        };
        assert_eq!(
            verdict(&(7, 3, 0, 0, Some(1), None), &report, true),
            Verdict::InStep
        );
        assert_eq!(
            verdict(&(6, 3, 0, 0, Some(1), None), &report, true),
            Verdict::Behind
        );
        assert_eq!(
            verdict(&(7, 3, 0, 0, Some(2), None), &report, true),
            Verdict::Behind
        );
        assert_eq!(
            verdict(&(8, 3, 0, 0, Some(1), None), &report, true),
            Verdict::Lost
        );
        let gone = Report {
            number: 99,
            head: None,
            users: 0,
            ..report
        };
        assert_eq!(verdict(&(7, 3, 0, 0, Some(1), None), &gone, true), Verdict::Lost);
        assert_eq!(
            verdict(&(7, 3, 0, 0, Some(1), None), &report, false),
            Verdict::Torn
        );
        let unnumbered = Report { number: 0, ..report };
        assert_eq!(
            verdict(&(7, 3, 0, 0, Some(1), None), &unnumbered, true),
            Verdict::Torn
        );
    }
}
