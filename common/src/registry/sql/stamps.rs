//! Stamps, saved late and in batches so that a lost schedule can be rebuilt.

use async_trait::async_trait;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::connection::SqlConnection;
use super::{ROWS_PER_STATEMENT, SqlRegistry, sql_limit};
use crate::error::Failure;
use crate::model::{TenantId, UserId};
use crate::registry::sql::retry_on_conflict;
use crate::registry::{LateUsers, StampStore};
use crate::schedule::{FailureStreak, SavedStamp};

/// How a new stamp changes a user's stored row.
macro_rules! replacing {
    () => {
        " ON CONFLICT (tenant, user_id) DO UPDATE SET stamp = excluded.stamp, \
        last_success = COALESCE(excluded.last_success, stamps.last_success), \
        failing_since = CASE WHEN excluded.failing_since IS NULL THEN NULL \
            ELSE COALESCE(stamps.failing_since, excluded.failing_since) END, \
        failures = excluded.failures, failure = excluded.failure"
    };
}
/// Saves one stamp per statement, for SQLite, where a statement costs no round trip.
const SAVE_ONE: &str = concat!(
    "INSERT INTO stamps (tenant, user_id, stamp, last_success, failing_since, failures, failure) \
    SELECT e.tenant, e.user_id, $3, $4, $5, $6, $7 FROM enrolments e WHERE e.tenant = $1 AND e.user_id = $2",
    replacing!()
);
/// Saves many stamps in one round trip, in order of name, so that two batches cannot deadlock.
const SAVE_MANY: &str = concat!(
    "INSERT INTO stamps (tenant, user_id, stamp, last_success, failing_since, failures, failure) \
    SELECT e.tenant, e.user_id, new.stamp, new.last_success, new.failing_since, new.failures, new.failure \
    FROM UNNEST($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[]) \
        AS new (user_id, stamp, last_success, failing_since, failures, failure) \
    JOIN enrolments e ON e.tenant = $1 AND e.user_id = new.user_id ORDER BY e.user_id",
    replacing!()
);
const PAGE: &str = "SELECT e.user_id, COALESCE(s.stamp, e.opted_in_at) AS stamp, s.last_success, s.failing_since, \
        COALESCE(s.failures, 0) AS failures, s.failure, e.disabled_since, e.failure AS disabled_for FROM enrolments e \
    LEFT JOIN stamps s ON s.tenant = e.tenant AND s.user_id = e.user_id \
    WHERE e.tenant = $1 AND e.user_id > $2 ORDER BY e.user_id LIMIT $3";
const LATE: &str = "SELECT e.tenant, COUNT(*), MIN(COALESCE(s.last_success, e.opted_in_at)) FROM enrolments e \
    JOIN tenants t ON t.id = e.tenant AND t.enabled = TRUE \
    LEFT JOIN stamps s ON s.tenant = e.tenant AND s.user_id = e.user_id \
    WHERE e.disabled_since IS NULL AND COALESCE(s.last_success, e.opted_in_at) < $1 \
    GROUP BY e.tenant ORDER BY e.tenant LIMIT $2";
macro_rules! oldest {
    ($of:literal) => {
        concat!(
            "SELECT MIN(COALESCE(s.last_success, e.opted_in_at)) FROM enrolments e \
            JOIN tenants t ON t.id = e.tenant AND t.enabled = TRUE \
            LEFT JOIN stamps s ON s.tenant = e.tenant AND s.user_id = e.user_id WHERE e.disabled_since IS NULL",
            $of
        )
    };
}
const OLDEST: &str = oldest!("");
const OLDEST_OF: &str = oldest!(" AND e.tenant = $1");

/// A row of the table, without the tenant.
#[derive(Debug, Default, sqlx::FromRow)]
struct StampRow {
    user_id: String,
    stamp: i64,
    last_success: Option<i64>,
    failing_since: Option<i64>,
    failures: i64,
    failure: Option<String>,
}

/// A row of the table together with the state of the enrolment.
#[derive(Debug, sqlx::FromRow)]
struct EnrolledRow {
    #[sqlx(flatten)]
    saved: StampRow,
    disabled_since: Option<i64>,
    disabled_for: Option<String>,
}

async fn save(
    connection: &mut SqlConnection,
    tenant: &TenantId,
    stamps: &[StampRow],
) -> Result<(), sqlx::Error> {
    if let Some(postgres) = connection.postgres() {
        fn column<T>(stamps: &[StampRow], read: fn(&StampRow) -> T) -> Vec<T> {
            stamps.iter().map(read).collect()
        }
        let query = sqlx::query(SAVE_MANY)
            .bind(tenant.as_str())
            .bind(column(stamps, |row| row.user_id.clone()))
            .bind(column(stamps, |row| row.stamp))
            .bind(column(stamps, |row| row.last_success))
            .bind(column(stamps, |row| row.failing_since))
            .bind(column(stamps, |row| row.failures))
            .bind(column(stamps, |row| row.failure.clone()));
        postgres.execute(query).await?;
        return Ok(());
    }
    for row in stamps {
        connection
            .query(SAVE_ONE)
            .bind(tenant.as_str())
            .bind(row.user_id.as_str())
            .bind(row.stamp)
            .bind(row.last_success)
            .bind(row.failing_since)
            .bind(row.failures)
            .bind(&row.failure)
            .execute()
            .await?;
    }
    Ok(())
}

impl SqlRegistry {
    /// Returns the stamps in order of user. Of several stamps of one user it returns the last, with the last
    /// success that any of them has.
    fn each_user_once(&self, stamps: &[SavedStamp]) -> Result<Vec<StampRow>, Failure> {
        let mut users = BTreeMap::<&str, StampRow>::new();
        for saved in stamps {
            let stored = users.remove(saved.user.as_str()).unwrap_or_default();
            let (since, failures, failure) = match &saved.failing {
                Some(failing) => (
                    Some(failing.since.as_microsecond()),
                    i64::from(failing.attempts),
                    Some(self.to_document("a failure", &failing.failure)?),
                ),
                None => (None, 0, None),
            };
            let row = StampRow {
                user_id: saved.user.to_string(),
                stamp: saved.stamp.as_microsecond(),
                last_success: saved
                    .last_success
                    .map(Timestamp::as_microsecond)
                    .or(stored.last_success),
                failing_since: since.and(stored.failing_since).or(since),
                failures,
                failure,
            };
            users.insert(saved.user.as_str(), row);
        }
        Ok(users.into_values().collect())
    }

    fn saved_stamp(&self, row: EnrolledRow) -> Result<SavedStamp, Failure> {
        let EnrolledRow {
            saved: row,
            disabled_since,
            disabled_for,
        } = row;
        // An earlier build stores a success without clearing the failures.
        let since = row
            .failing_since
            .filter(|since| row.last_success.is_none_or(|success| success < *since));
        let failing = match (since, row.failure) {
            (Some(since), Some(failure)) => Some(FailureStreak {
                since: self.time(since)?,
                attempts: u32::try_from(row.failures).unwrap_or(u32::MAX),
                failure: self.document("a failure", &failure)?,
            }),
            (None, _) | (_, None) => None,
        };
        let saved = SavedStamp {
            user: self.name(&row.user_id)?,
            stamp: self.time(row.stamp)?,
            last_success: row.last_success.map(|at| self.time(at)).transpose()?,
            failing,
        };
        Ok(match (disabled_since, disabled_for) {
            (Some(since), Some(failure)) => {
                saved.disabled(self.time(since)?, &self.document("a failure", &failure)?)
            }
            (None, _) | (_, None) => saved,
        })
    }
}

#[async_trait]
impl StampStore for SqlRegistry {
    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        retry_on_conflict(|| async {
            if stamps.is_empty() {
                return Ok(());
            }
            let doing = format!("saving {} stamps of {tenant}", stamps.len());
            let stamps = self.each_user_once(stamps)?;
            let mut connection = if stamps.len() <= ROWS_PER_STATEMENT {
                self.single(&doing).await?
            } else {
                self.transaction(&doing).await?
            };
            for stamps in stamps.chunks(ROWS_PER_STATEMENT) {
                save(&mut connection, tenant, stamps)
                    .await
                    .map_err(|error| self.failure(&doing, &error))?;
            }
            self.commit(&doing, connection).await
        })
        .await
    }

    async fn stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        let doing = format!("reading stamps of {tenant}");
        let rows: Vec<EnrolledRow> = self.page_of_users(&doing, PAGE, tenant, after, limit).await?;
        rows.into_iter().map(|row| self.saved_stamp(row)).collect()
    }

    async fn late(&self, before: Timestamp, limit: u32) -> Result<Vec<LateUsers>, Failure> {
        const DOING: &str = "reading users who were not synced for long";
        let mut connection = self.read(DOING).await?;
        let rows: Vec<(String, i64, i64)> = connection
            .query(LATE)
            .bind(before.as_microsecond())
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        rows.into_iter()
            .map(|(tenant, users, oldest)| {
                Ok(LateUsers {
                    tenant: self.name(&tenant)?,
                    users: self.number(users)?,
                    oldest: self.time(oldest)?,
                })
            })
            .collect()
    }

    async fn oldest_success(&self, tenant: Option<&TenantId>) -> Result<Option<Timestamp>, Failure> {
        const DOING: &str = "reading the oldest success";
        let mut connection = self.read(DOING).await?;
        let query = match tenant {
            Some(tenant) => connection.query(OLDEST_OF).bind(tenant.as_str()),
            None => connection.query(OLDEST),
        };
        let row: (Option<i64>,) = query
            .fetch_one()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        row.0.map(|at| self.time(at)).transpose()
    }
}
