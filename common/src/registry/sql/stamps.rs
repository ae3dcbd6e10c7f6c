//! Order stamps, saved lazily so that a lost index can be rebuilt.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::connection::Connection;
use super::{ROWS_PER_STATEMENT, SqlRegistry, sql_limit};
use crate::error::Failure;
use crate::model::{TenantId, UserId};
use crate::schedule::SavedStamp;

/// One stamp at a time: a file is not far away.
const SAVE_ONE: &str = "INSERT INTO stamps (tenant, user_id, stamp, last_success) \
    SELECT e.tenant, e.user_id, $3, $4 FROM enrolments e WHERE e.tenant = $1 AND e.user_id = $2 \
    ON CONFLICT (tenant, user_id) DO UPDATE SET stamp = excluded.stamp, \
        last_success = COALESCE(excluded.last_success, stamps.last_success)";
/// Many in one round trip, in order of name, so that two batches never wait for each other crosswise.
const SAVE_MANY: &str = "INSERT INTO stamps (tenant, user_id, stamp, last_success) \
    SELECT e.tenant, e.user_id, new.stamp, new.last_success \
    FROM UNNEST($2::text[], $3::bigint[], $4::bigint[]) AS new (user_id, stamp, last_success) \
    JOIN enrolments e ON e.tenant = $1 AND e.user_id = new.user_id ORDER BY e.user_id \
    ON CONFLICT (tenant, user_id) DO UPDATE SET stamp = excluded.stamp, \
        last_success = COALESCE(excluded.last_success, stamps.last_success)";
const PAGE: &str = "SELECT e.user_id, COALESCE(s.stamp, e.opted_in_at), s.last_success FROM enrolments e \
    LEFT JOIN stamps s ON s.tenant = e.tenant AND s.user_id = e.user_id \
    WHERE e.tenant = $1 AND e.user_id > $2 AND e.disabled_since IS NULL ORDER BY e.user_id LIMIT $3";

/// User, stamp, last success.
type Row<'a> = (&'a str, i64, Option<i64>);

/// The stamps in order of user; of several of one user the last, with the last success any of them knows.
fn each_user_once(stamps: &[SavedStamp]) -> Vec<Row<'_>> {
    let mut users = BTreeMap::<&str, (i64, Option<i64>)>::new();
    for saved in stamps {
        let known = users.entry(saved.user.as_str()).or_default();
        known.0 = saved.stamp.as_microsecond();
        known.1 = saved.last_success.map(Timestamp::as_microsecond).or(known.1);
    }
    users
        .into_iter()
        .map(|(user, (stamp, last_success))| (user, stamp, last_success))
        .collect()
}

async fn save(connection: &mut Connection, tenant: &TenantId, stamps: &[Row<'_>]) -> Result<(), sqlx::Error> {
    if let Some(link) = connection.postgres() {
        let query = sqlx::query(SAVE_MANY)
            .bind(tenant.as_str())
            .bind(stamps.iter().map(|row| row.0).collect::<Vec<_>>())
            .bind(stamps.iter().map(|row| row.1).collect::<Vec<_>>())
            .bind(stamps.iter().map(|row| row.2).collect::<Vec<_>>());
        link.execute(query).await?;
        return Ok(());
    }
    for (user, stamp, last_success) in stamps {
        connection
            .query(SAVE_ONE)
            .bind(tenant.as_str())
            .bind(*user)
            .bind(*stamp)
            .bind(*last_success)
            .execute()
            .await?;
    }
    Ok(())
}

impl SqlRegistry {
    pub(super) async fn do_save_stamps(
        &self,
        tenant: &TenantId,
        stamps: &[SavedStamp],
    ) -> Result<(), Failure> {
        if stamps.is_empty() {
            return Ok(());
        }
        let doing = format!("saving {} stamps of {tenant}", stamps.len());
        let stamps: Vec<Row> = each_user_once(stamps);
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
    }

    pub(super) async fn do_stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        let doing = format!("reading stamps of {tenant}");
        let mut connection = self.read(&doing).await?;
        let rows: Vec<(String, i64, Option<i64>)> = connection
            .query(PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or("", UserId::as_str))
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        rows.into_iter()
            .map(|(user, stamp, last_success)| {
                Ok(SavedStamp {
                    user: self.name(&user)?,
                    stamp: self.time(stamp)?,
                    last_success: last_success.map(|at| self.time(at)).transpose()?,
                })
            })
            .collect()
    }
}
