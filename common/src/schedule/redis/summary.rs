//! Freshness, from counts that the scripts keep and from bounded samples. No call reads all users.

use futures::{StreamExt as _, TryStreamExt as _};

use super::RedisSchedule;
use super::keys::{TENANT_SUMMARY, TOTALS};
use super::wire::{RawTenantReport, TenantReport, arg, count, micros};
use crate::error::Failure;
use crate::model::TenantId;
use crate::redis::Repeat;
use crate::schedule::Summary;

/// Number of tenants asked at once.
const AT_ONCE: usize = 64;
/// Number of heads read at once.
const PAGE: usize = 1_000;
/// Number of tenants asked for their oldest success: those whose users wait longest.
const SAMPLE: usize = 32;
/// Largest number of such samples, read while each of their heads was moved ahead by a request.
const SAMPLES: usize = 8;

/// The part of one tenant.
struct TenantSummaryPart {
    now: i64,
    due: i64,
    oldest_success: Option<i64>,
    intervals: Vec<i64>,
    /// The oldest stamp from which the wait of a user counts; see [`crate::schedule::UserStatus::requested`].
    oldest_wait: Option<i64>,
    report: TenantReport,
}

impl RedisSchedule {
    async fn of_tenant(&self, tenant: &TenantId) -> Result<TenantSummaryPart, Failure> {
        type TenantSummaryReply = ((i64, i64, Option<i64>, Vec<i64>, Option<i64>), RawTenantReport);
        let ((now, due, oldest_success, intervals, oldest_wait), report): TenantSummaryReply = self
            .store
            .script(
                &format!("counting the users of {tenant}"),
                &TENANT_SUMMARY,
                &self.keys.tenant(tenant),
                &[arg(micros(self.minimum))],
                Repeat::Yes,
            )
            .await?;
        Ok(TenantSummaryPart {
            now,
            due,
            oldest_success,
            intervals,
            oldest_wait,
            report: report.into(),
        })
    }

    pub(super) async fn summary_of(&self, tenant: &TenantId) -> Result<Summary, Failure> {
        let found = self.of_tenant(tenant).await?;
        if found.report.users == 0 {
            return Ok(Summary::default());
        }
        let [p50, p99] = percentiles(found.intervals, [50, 99]);
        Ok(Summary {
            tenants: 1,
            users: count(found.report.users),
            due: count(found.due),
            attempts: count(found.report.attempts),
            claimed: count(found.report.claimed),
            oldest_due_seconds: self.overdue(found.now, found.oldest_wait),
            interval_p50_seconds: p50,
            interval_p99_seconds: p99,
            oldest_success_seconds: found.oldest_success.map(|at| seconds(at, found.now)),
        })
    }

    pub(super) async fn summary_of_all(&self) -> Result<Summary, Failure> {
        type TotalsReply = (i64, i64, i64, i64, i64, Option<i64>, Option<i64>, Vec<i64>);
        let (now, tenants, users, claimed, attempts, _, failing, intervals): TotalsReply = self
            .store
            .script(
                "counting all users",
                &TOTALS,
                &self
                    .keys
                    .index(&["heads", "tenants", "failing", "totals", "intervals"]),
                &[],
                Repeat::Yes,
            )
            .await?;
        let [p50, p99] = percentiles(intervals, [50, 99]);
        let (oldest_wait, sampled_success) = self.oldest_of_sample().await?;
        let success = failing.into_iter().chain(sampled_success).min();
        Ok(Summary {
            tenants: count(tenants),
            users: count(users),
            due: self.due_of_all(now).await?,
            attempts: count(attempts),
            claimed: count(claimed),
            oldest_due_seconds: self.overdue(now, oldest_wait),
            interval_p50_seconds: p50,
            interval_p99_seconds: p99,
            oldest_success_seconds: success.map(|at| seconds(at, now)),
        })
    }

    /// Returns the oldest stamp from which a wait counts, and the oldest success of the tenants that were read:
    /// those whose heads are oldest. A request moves a head ahead, so further tenants are read until one has a
    /// user ahead of all later heads, at most [`SAMPLES`] times.
    async fn oldest_of_sample(&self) -> Result<(Option<i64>, Option<i64>), Failure> {
        let (mut wait, mut success) = (None::<i64>, None::<i64>);
        for sample in 0..SAMPLES {
            let tenants = self.leading_tenants("+inf", sample * SAMPLE, SAMPLE).await?;
            let is_last = tenants.len() < SAMPLE;
            let found: Vec<TenantSummaryPart> = futures::stream::iter(tenants)
                .map(|tenant| async move { self.of_tenant(&tenant).await })
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            wait = wait
                .into_iter()
                .chain(found.iter().filter_map(|part| part.oldest_wait))
                .min();
            success = success
                .into_iter()
                .chain(found.iter().filter_map(|part| part.oldest_success))
                .min();
            // The wait of a later tenant begins at its head at the earliest, and heads are in order.
            if is_last
                || found
                    .iter()
                    .any(|part| part.oldest_wait.is_some() && part.oldest_wait == part.report.head)
            {
                break;
            }
        }
        Ok((wait, success))
    }

    /// Returns the number of due users. Only tenants whose oldest user is due are asked.
    async fn due_of_all(&self, now: i64) -> Result<u64, Failure> {
        let cutoff = now.saturating_sub(micros(self.minimum));
        let mut due = 0;
        let mut from = 0;
        loop {
            let tenants = self.leading_tenants(&cutoff.to_string(), from, PAGE).await?;
            let read = tenants.len();
            due += futures::stream::iter(tenants)
                .map(|tenant| async move {
                    let mut command = redis::cmd("ZCOUNT");
                    command.arg(self.keys.due(&tenant)).arg("-inf").arg(cutoff);
                    self.store
                        .command::<i64>("counting due users", command, Repeat::Yes)
                        .await
                })
                .buffer_unordered(AT_ONCE)
                .try_fold(0, |sum, found| async move { Ok(sum + count(found)) })
                .await?;
            if read < PAGE {
                return Ok(due);
            }
            from += PAGE;
        }
    }

    /// Returns tenants whose heads are not after `cutoff`, oldest first.
    async fn leading_tenants(
        &self,
        cutoff: &str,
        from: usize,
        limit: usize,
    ) -> Result<Vec<TenantId>, Failure> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command
            .arg(self.keys.heads())
            .arg("-inf")
            .arg(cutoff)
            .arg("LIMIT")
            .arg(from)
            .arg(limit);
        let names: Vec<String> = self
            .store
            .command("reading the index of tenants", command, Repeat::Yes)
            .await?;
        names.iter().map(|name| super::index::tenant_name(name)).collect()
    }

    fn overdue(&self, now: i64, head: Option<i64>) -> Option<u64> {
        let cutoff = now.saturating_sub(micros(self.minimum));
        head.filter(|stamp| *stamp <= cutoff)
            .map(|stamp| seconds(stamp, cutoff))
    }
}

/// Returns the whole seconds between two scores; 0 if the clock went back.
fn seconds(from: i64, to: i64) -> u64 {
    count(to.saturating_sub(from) / 1_000_000)
}

/// Returns the nearest-rank percentiles of these ranks.
fn percentiles<const N: usize>(mut seconds: Vec<i64>, percents: [usize; N]) -> [Option<u64>; N] {
    seconds.sort_unstable();
    percents.map(|percent| {
        let rank = (seconds.len() * percent).div_ceil(100);
        seconds.get(rank.saturating_sub(1)).map(|&value| count(value))
    })
}
