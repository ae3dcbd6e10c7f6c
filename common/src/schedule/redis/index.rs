//! The index of tenants: their oldest heads, their earliest expiries, and their numbers.
//!
//! The index and the tenants' own keys are in different slots, so no script can change both. After each
//! change of a tenant, its script *reports* where the tenant stands, with a number that grows with every
//! change of this tenant. The report is then *pushed* into the index, which takes it unless it knows a higher
//! number. So pushes may overtake each other. The remaining problem is a push that never comes, because its
//! process ended or Redis failed in between. Until it is made up for
//! - after a claim, the head is too old: each selection asks the tenant once for nothing;
//! - after an enrolment, release or finish, the head is too young: those users wait longer than they should;
//! - after a claim whose process died, its expiry is unknown.
//!
//! The index is repaired by the next change of the tenant, whichever process makes it; by the process itself,
//! which remembers the tenant, if only the push failed; and by the leader, who compares a part of the index
//! with the tenants in every run ([`Index::inspect`]). The tenant search finds a tenant that is absent from
//! the index, because enrolling a user who is in the schedule already also reports.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::keys::{HEADS, KNOWN, Keys, MARK, MEND, PUSH, REPORT, SCAN, TOTAL};
use super::wire::{RawTenantReport, TenantReport, arg, count, optional, time};
use crate::clock::monotonic;
use crate::error::{Code, ErrorClass, Failure};
use crate::model::TenantId;
use crate::random::unique_id;
use crate::redis::{RedisStore, Repeat};
use crate::schedule::{Head, InspectionResult, Mark, MarkUpdate, TenantUsers};

/// A report that was pushed is not pushed again within this time.
const FRESH: Duration = Duration::from_secs(10);
/// Largest number of tenants remembered for that, and of tenants remembered because their push failed.
const MOST_REMEMBERED: usize = 20_000;
/// Number of tenants asked at once.
const AT_ONCE: usize = 32;
/// A tenant that seems lost is checked again after this time, because its withdrawal may still be on its way
/// into the index.
const CONFIRMATION_DELAY: Duration = Duration::from_millis(500);
/// Usual upper bound of the time that a change takes to reach the index.
const PROPAGATION_TIME: Duration = Duration::from_millis(50);

/// An entry of the index: number, users, claimed, attempts, head, expiry.
type IndexEntry = (i64, i64, i64, i64, Option<i64>, Option<i64>);

pub(super) struct Index {
    store: RedisStore,
    keys: Keys,
    /// Highest number of the mark that Redis confirmed to this process for its own changes.
    acknowledged: AtomicI64,
    cache: Mutex<IndexCache>,
}

#[derive(Default)]
struct IndexCache {
    /// Reports that the index has, by their numbers.
    pushed: HashMap<TenantId, (i64, Instant)>,
    /// Tenants whose push failed.
    unpushed: HashSet<TenantId>,
    /// Cursor of the inspection.
    cursor: Option<String>,
    /// Number of users of the tenants that the inspection passed since it last began with the first tenant.
    walked_users: i64,
}

impl Index {
    pub(super) fn new(store: RedisStore, keys: Keys) -> Self {
        Self {
            store,
            keys,
            acknowledged: AtomicI64::new(0),
            cache: Mutex::default(),
        }
    }

    fn lock_cache(&self) -> MutexGuard<'_, IndexCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes a report. It never fails, because the reported change has been made. A failed push is made up
    /// for later.
    pub(super) async fn push(&self, tenant: &TenantId, report: TenantReport, claim: bool, intervals: &[i64]) {
        // The tenant has no users: it never had any, or they were lost. The inspection finds out which; until
        // then the index keeps its entry.
        if report.number == 0 {
            return;
        }
        let is_current = {
            let cache = self.lock_cache();
            !cache.unpushed.contains(tenant)
                && cache
                    .pushed
                    .get(tenant)
                    .is_some_and(|(number, at)| *number >= report.number && at.elapsed() < FRESH)
        };
        if is_current && !claim {
            return;
        }
        if let Err(failure) = self.push_now(tenant, report, claim, intervals).await {
            tracing::warn!(%tenant, %failure, "the index of tenants could not be updated; it is repaired later");
            let mut cache = self.lock_cache();
            if cache.unpushed.len() < MOST_REMEMBERED {
                cache.unpushed.insert(tenant.clone());
            }
        }
    }

    /// Pushes a report without checking what was pushed before.
    async fn push_now(
        &self,
        tenant: &TenantId,
        report: TenantReport,
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
        // Repeatable: pushing the same number twice changes nothing but the mark, which only has to grow.
        let mark: Option<i64> = self
            .store
            .script("updating the index of tenants", &PUSH, &keys, &args, Repeat::Yes)
            .await?;
        if let Some(mark) = mark {
            self.acknowledged.fetch_max(mark, Ordering::SeqCst);
        }
        let mut cache = self.lock_cache();
        cache.unpushed.remove(tenant);
        if cache.pushed.len() >= MOST_REMEMBERED {
            cache.pushed.clear();
        }
        cache.pushed.insert(tenant.clone(), (report.number, monotonic()));
        Ok(())
    }

    pub(super) async fn heads(&self, limit: usize) -> Result<Vec<Head>, Failure> {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let (mark, heads): (Option<i64>, Vec<(String, i64, i64)>) = self
            .store
            .script(
                "reading the oldest tenants",
                &HEADS,
                &self.keys.index(&["heads", "tenants", "mark"]),
                &[arg(limit.clamp(1, 1_000_000))],
                Repeat::Yes,
            )
            .await?;
        // Changes that Redis confirmed to this process are gone. Claims may be lost with them, so no user is
        // chosen before the leader has checked.
        if mark.unwrap_or(0) < before {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::ScheduleUnavailable,
                format!(
                    "{}: the last changes are gone; was it emptied, or did a replica without them take over?",
                    self.store.servers()
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

    /// Returns the highest number of the mark that was confirmed to this process.
    pub(super) fn acknowledged(&self) -> u64 {
        count(self.acknowledged.load(Ordering::SeqCst))
    }

    /// Advances the mark, and drops what this process knew of earlier data.
    pub(super) async fn mark(&self) -> Result<MarkUpdate, Failure> {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let (id, found, now): (String, Option<i64>, i64) = self
            .store
            .script(
                "marking the data",
                &MARK,
                &self.keys.index(&["mark"]),
                &[arg(unique_id().simple())],
                Repeat::Yes,
            )
            .await?;
        let went_back = found.unwrap_or(0) < before;
        if went_back || found.is_none() {
            let mut cache = self.lock_cache();
            cache.pushed.clear();
            cache.cursor = None;
            cache.walked_users = 0;
        }
        self.acknowledged.store(now, Ordering::SeqCst);
        Ok(MarkUpdate {
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

    /// Returns names of tenants, and the cursor of the next page.
    pub(super) async fn page(&self, cursor: &str, limit: usize) -> Result<(String, Vec<TenantId>), Failure> {
        let (next, names): (String, Vec<String>) = self
            .store
            .script(
                "listing the tenants",
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

    async fn read_entries(&self, tenants: &[TenantId]) -> Result<Vec<Option<IndexEntry>>, Failure> {
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

    /// Asks a tenant for its report, for the digest of its names, and whether its keys are consistent.
    /// `renumber` gives it a new number.
    async fn read_report(
        &self,
        tenant: &TenantId,
        renumber: bool,
    ) -> Result<(bool, TenantReport, Option<u64>), Failure> {
        let (agrees, report, names): (i64, RawTenantReport, Option<i64>) = self
            .store
            .script(
                &format!("reading the report of tenant {tenant}"),
                &REPORT,
                &self.keys.tenant(tenant),
                &[arg(u8::from(renumber))],
                Repeat::Yes,
            )
            .await?;
        Ok((agrees == 1, report.into(), names.map(count)))
    }

    /// Makes a tenant's keys consistent, then updates the index.
    async fn repair_keys(&self, tenant: &TenantId, args: &[Vec<u8>]) -> Result<(), Failure> {
        let (users, report): (i64, RawTenantReport) = self
            .store
            .script(
                &format!("repairing the keys of tenant {tenant}"),
                &MEND,
                &self.keys.tenant(tenant),
                args,
                Repeat::Yes,
            )
            .await?;
        tracing::warn!(%tenant, users, "a part of the tenant's schedule was lost and has been restored");
        self.push_now(tenant, report.into(), false, &[]).await
    }

    /// Asks the tenant for its report and pushes it. Returns the number of users.
    pub(super) async fn refresh_entry(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let (_, report, _) = self.read_report(tenant, false).await?;
        if report.number == 0 {
            self.lock_cache().unpushed.remove(tenant);
        } else {
            self.push_now(tenant, report, false, &[]).await?;
        }
        Ok(count(report.users))
    }

    /// Returns those of the tenants whose number of users is not the expected one, with that number.
    pub(super) async fn differing(
        &self,
        expected: &[(TenantId, u64)],
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        let mut differing = Vec::new();
        for part in expected.chunks(256) {
            let tenants: Vec<TenantId> = part.iter().map(|(tenant, _)| tenant.clone()).collect();
            let entries = self.read_entries(&tenants).await?;
            let suspects = part.iter().zip(entries).filter(|((_, expected), entry)| {
                let users = entry.map_or(0, |(_, users, ..)| count(users));
                users != *expected
            });
            // The index may be wrong, so the tenants themselves are asked.
            for ((tenant, expected), _) in suspects {
                let users = self.refresh_entry(tenant).await?;
                if users != *expected {
                    differing.push((tenant.clone(), users));
                }
            }
        }
        Ok(differing)
    }

    /// Pushes the reports of tenants whose push failed, then compares about `limit` tenants with the index and
    /// checks that their keys are consistent. The next call continues where this one stopped. `repair_args` are the
    /// arguments of the script that mends a tenant.
    pub(super) async fn inspect(
        &self,
        limit: usize,
        repair_args: &[Vec<u8>],
    ) -> Result<InspectionResult, Failure> {
        let (cursor, unpushed) = {
            let cache = self.lock_cache();
            (
                cache.cursor.clone().unwrap_or_else(|| "0".to_owned()),
                cache.unpushed.iter().take(limit).cloned().collect::<Vec<_>>(),
            )
        };
        let mut inspected = InspectionResult::default();
        for tenant in &unpushed {
            self.refresh_entry(tenant).await?;
            inspected.repaired += 1;
        }
        let (next, tenants) = self.page(&cursor, limit).await?;
        let (mut suspects, mut late) = (Vec::new(), Vec::new());
        // In parts, because one script must not block the server for long.
        for part in tenants.chunks(256) {
            let entries = self.read_entries(part).await?;
            self.lock_cache().walked_users +=
                entries.iter().flatten().map(|(_, users, ..)| users).sum::<i64>();
            let reports: Vec<(bool, TenantReport, Option<u64>)> = futures::stream::iter(part.to_vec())
                .map(|tenant| async move { self.read_report(&tenant, false).await })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            for ((tenant, entry), (agrees, report, names)) in part.iter().zip(entries).zip(reports) {
                let Some(entry) = entry else { continue };
                let members = TenantUsers {
                    users: count(report.users),
                    names,
                };
                match compare_entry(&entry, &report, agrees) {
                    EntryState::Current => inspected.consistent.push((tenant.clone(), members)),
                    EntryState::Stale => {
                        inspected.consistent.push((tenant.clone(), members));
                        late.push((tenant.clone(), report));
                    }
                    EntryState::Lost => suspects.push((tenant.clone(), entry)),
                    EntryState::Inconsistent => {
                        self.repair_keys(tenant, repair_args).await?;
                        inspected.repaired_tenants.push(tenant.clone());
                    }
                }
            }
        }
        inspected.repaired += self.push_late_reports(late).await?;
        inspected.lost = self.confirm_lost(suspects).await?;
        let walked = {
            let mut cache = self.lock_cache();
            cache.cursor = (next != "0").then_some(next);
            cache
                .cursor
                .is_none()
                .then(|| std::mem::take(&mut cache.walked_users))
        };
        if let Some(users) = walked {
            self.repair_totals(users).await?;
        }
        Ok(inspected)
    }

    /// Computes the sums over all tenants anew, if their number of users differs from `users`, which a walk
    /// over all tenants counted.
    async fn repair_totals(&self, users: i64) -> Result<(), Failure> {
        let repaired: i64 = self
            .store
            .script(
                "checking the sums over all tenants",
                &TOTAL,
                &self.keys.index(&["tenants", "totals"]),
                &[arg(users)],
                Repeat::Yes,
            )
            .await?;
        if repaired == 1 {
            tracing::info!("the sums over all tenants were wrong and have been computed anew");
        }
        Ok(())
    }

    /// Pushes the reports that the index still lacks and returns their number. Most were only on their way
    /// when they were checked.
    async fn push_late_reports(&self, late: Vec<(TenantId, TenantReport)>) -> Result<u64, Failure> {
        if late.is_empty() {
            return Ok(0);
        }
        tokio::time::sleep(PROPAGATION_TIME).await;
        let tenants: Vec<TenantId> = late.iter().map(|(tenant, _)| tenant.clone()).collect();
        let entries = self.read_entries(&tenants).await?;
        let mut pushed = 0;
        for ((tenant, report), entry) in late.into_iter().zip(entries) {
            // A tenant without an entry was withdrawn meanwhile.
            let is_current =
                entry.is_none_or(|entry| compare_entry(&entry, &report, true) != EntryState::Stale);
            if !is_current {
                self.push_now(&tenant, report, false, &[]).await?;
                pushed += 1;
            }
        }
        Ok(pushed)
    }

    /// Returns the suspects that are really lost, and writes the numbers they still have into the index.
    async fn confirm_lost(&self, suspects: Vec<(TenantId, IndexEntry)>) -> Result<Vec<TenantId>, Failure> {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        tokio::time::sleep(CONFIRMATION_DELAY).await;
        let mut lost = Vec::new();
        let tenants: Vec<TenantId> = suspects.iter().map(|(tenant, _)| tenant.clone()).collect();
        let entries = self.read_entries(&tenants).await?;
        for ((tenant, before), entry) in suspects.into_iter().zip(entries) {
            if entry != Some(before) {
                continue;
            }
            let (_, report, _) = self.read_report(&tenant, true).await?;
            self.push_now(&tenant, report, false, &[]).await?;
            lost.push(tenant);
        }
        Ok(lost)
    }
}

/// The result of comparing an index entry with its tenant.
#[derive(Debug, PartialEq, Eq)]
enum EntryState {
    Current,
    /// A push is missing.
    Stale,
    /// One of the tenant's keys is gone: the others are inconsistent, or the tenant has users and no number.
    Inconsistent,
    /// The tenant has less than the index knows: its server lost data.
    Lost,
}

/// Compares an index entry with a report. `agrees` says whether the tenant's keys are consistent.
fn compare_entry(entry: &IndexEntry, report: &TenantReport, agrees: bool) -> EntryState {
    let (number, users, claimed, _, head, expiry) = *entry;
    if !agrees || (report.users > 0 && report.number == 0) {
        return EntryState::Inconsistent;
    }
    if (report.users == 0 && users > 0) || report.number < number {
        return EntryState::Lost;
    }
    let same = report.number == number
        && report.users == users
        && report.claimed == claimed
        && report.head == head
        && report.expiry == expiry;
    if same {
        EntryState::Current
    } else {
        EntryState::Stale
    }
}

pub(super) fn tenant_name(name: &str) -> Result<TenantId, Failure> {
    name.parse()
        .map_err(|error| super::wire::unreadable("the name of a tenant", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pushes_and_lost_tenants_are_distinguished() {
        let report = TenantReport {
            number: 7,
            head: Some(1),
            expiry: None,
            users: 3,
            claimed: 0,
            attempts: 0,
            failing: None,
        };
        assert_eq!(
            compare_entry(&(7, 3, 0, 0, Some(1), None), &report, true),
            EntryState::Current
        );
        assert_eq!(
            compare_entry(&(6, 3, 0, 0, Some(1), None), &report, true),
            EntryState::Stale
        );
        assert_eq!(
            compare_entry(&(7, 3, 0, 0, Some(2), None), &report, true),
            EntryState::Stale
        );
        assert_eq!(
            compare_entry(&(8, 3, 0, 0, Some(1), None), &report, true),
            EntryState::Lost
        );
        let gone = TenantReport {
            number: 99,
            head: None,
            users: 0,
            ..report
        };
        assert_eq!(
            compare_entry(&(7, 3, 0, 0, Some(1), None), &gone, true),
            EntryState::Lost
        );
        assert_eq!(
            compare_entry(&(7, 3, 0, 0, Some(1), None), &report, false),
            EntryState::Inconsistent
        );
        let unnumbered = TenantReport { number: 0, ..report };
        assert_eq!(
            compare_entry(&(7, 3, 0, 0, Some(1), None), &unnumbered, true),
            EntryState::Inconsistent
        );
    }
}
