//! Reads the state of one user, of a tenant and of all tenants.

use async_trait::async_trait;
use jiff::Timestamp;

use super::keys::{NOW, SCAN, STATUS};
use super::wire::{Record, arg, score_micros, time, unpack_failure};
use super::{RedisSchedule, user_name};
use crate::error::Failure;
use crate::model::{TenantId, UserId, UserKey};
use crate::redis::Repeat;
use crate::schedule::{Freshness, Page, PageCursor, Summary, UserStatus};

/// Returns a cursor in the form of Redis. A cursor that was made elsewhere starts over.
fn redis_cursor(after: Option<&PageCursor>) -> String {
    after
        .and_then(|PageCursor(text)| text.parse::<u64>().ok())
        .unwrap_or(0)
        .to_string()
}

/// Returns a cursor that Redis answered; 0 means the end.
fn next_cursor(next: String) -> Option<PageCursor> {
    (next != "0").then_some(PageCursor(next))
}

#[async_trait]
impl Freshness for RedisSchedule {
    async fn status(&self, user: &UserKey) -> Result<Option<UserStatus>, Failure> {
        type StatusReply = Option<(f64, i64, Vec<u8>, Option<Vec<u8>>, i64)>;
        let answer: StatusReply = self
            .store
            .script(
                &format!("reading the status of {user}"),
                &STATUS,
                &self.keys.tenant(&user.tenant),
                &[arg(&user.user)],
                Repeat::Yes,
            )
            .await?;
        let Some((stamp, claimed, record, failure, from)) = answer else {
            return Ok(None);
        };
        let record = Record::unpack(&record)?;
        let stamp = score_micros(stamp);
        Ok(Some(UserStatus {
            stamp: time(stamp),
            requested: (from != stamp).then(|| time(from)),
            claimed: claimed == 1,
            last_attempt: record.last_attempt,
            last_success: record.last_success,
            last_failure: failure.as_deref().map(unpack_failure),
            history: record.history,
        }))
    }

    async fn tenants(&self, after: Option<&PageCursor>, limit: usize) -> Result<Page<TenantId>, Failure> {
        let (next, names) = self.index.page(&redis_cursor(after), limit).await?;
        Ok(Page {
            names,
            next: next_cursor(next),
        })
    }

    async fn users(
        &self,
        tenant: &TenantId,
        after: Option<&PageCursor>,
        limit: usize,
    ) -> Result<Page<UserId>, Failure> {
        let (next, names): (String, Vec<String>) = self
            .store
            .script(
                &format!("listing the users of {tenant}"),
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
        // A page may be empty although others follow.
        let mut command = redis::cmd("EXISTS");
        command.arg(self.keys.index(&["tenants"]));
        let exists: i64 = self
            .store
            .command("checking whether it has users", command, Repeat::Yes)
            .await?;
        Ok(exists == 0)
    }

    async fn now(&self) -> Result<Timestamp, Failure> {
        let now: i64 = self
            .store
            .script(
                "reading the time",
                &NOW,
                &self.keys.index(&["heads"]),
                &[],
                Repeat::Yes,
            )
            .await?;
        Ok(time(now))
    }
}
