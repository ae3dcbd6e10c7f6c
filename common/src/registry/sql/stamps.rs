//! Order stamps, saved lazily so that a lost index can be rebuilt.

use super::{SqliteRegistry, sql_limit};
use crate::error::Failure;
use crate::model::{TenantId, UserId};
use crate::registry::SavedStamp;

const SAVE: &str = "INSERT INTO stamps (tenant, user_id, stamp, last_success) \
    SELECT e.tenant, e.user_id, $3, $4 FROM enrolments e WHERE e.tenant = $1 AND e.user_id = $2 \
    ON CONFLICT (tenant, user_id) DO UPDATE SET stamp = excluded.stamp, \
        last_success = COALESCE(excluded.last_success, stamps.last_success)";
const PAGE: &str = "SELECT e.user_id, COALESCE(s.stamp, e.opted_in_at), s.last_success FROM enrolments e \
    LEFT JOIN stamps s ON s.tenant = e.tenant AND s.user_id = e.user_id \
    WHERE e.tenant = $1 AND e.user_id > $2 AND e.disabled_since IS NULL ORDER BY e.user_id LIMIT $3";

impl SqliteRegistry {
    pub(super) async fn do_save_stamps(
        &self,
        tenant: &TenantId,
        stamps: &[SavedStamp],
    ) -> Result<(), Failure> {
        if stamps.is_empty() {
            return Ok(());
        }
        let doing = format!("saving {} stamps of {tenant}", stamps.len());
        let mut transaction = self.write(&doing).await?;
        for stamp in stamps {
            sqlx::query(SAVE)
                .bind(tenant.as_str())
                .bind(stamp.user.as_str())
                .bind(stamp.stamp.as_microsecond())
                .bind(stamp.last_success.map(jiff::Timestamp::as_microsecond))
                .execute(&mut *transaction)
                .await
                .map_err(|error| self.failure(&doing, &error))?;
        }
        self.commit(&doing, transaction).await
    }

    pub(super) async fn do_stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        let doing = format!("reading stamps of {tenant}");
        let mut connection = self.read(&doing).await?;
        let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or("", UserId::as_str))
            .bind(sql_limit(limit))
            .fetch_all(&mut *connection)
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
