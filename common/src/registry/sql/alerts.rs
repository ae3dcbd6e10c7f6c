//! Open alerts.

use super::errors::is_missing_reference;
use super::{SqlRegistry, sql_limit};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{LocationKey, TenantId, UserId};
use crate::registry::sql::retry_on_conflict;
use crate::registry::{Alert, AlertCursor, AlertFilter, AlertPage, Alerts};
use async_trait::async_trait;
use jiff::Timestamp;

const RAISE: &str = "INSERT INTO alerts (since, tenant, failure, user_id, code, evidence) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, COALESCE(user_id, ''), code) DO NOTHING";
const REFRESH: &str = "UPDATE alerts \
    SET failure = $3, evidence = $6, since = CASE WHEN since < $1 THEN since ELSE $1 END \
    WHERE tenant = $2 AND COALESCE(user_id, '') = COALESCE($4, '') AND code = $5";
const RAISE_OF_LOCATION: &str = "INSERT INTO location_alerts (since, confirmed, tenant, failure, location) \
    VALUES ($1, $1, $2, $3, $4) ON CONFLICT (tenant, location) DO NOTHING";
const REFRESH_OF_LOCATION: &str = "UPDATE location_alerts SET failure = $3, confirmed = $1 \
    WHERE tenant = $2 AND location = $4";
const END_OF_TENANT: &str = "DELETE FROM alerts WHERE tenant = $1 AND code = $2 AND user_id IS NULL";
const END_OF_USER: &str = "DELETE FROM alerts WHERE tenant = $1 AND code = $2 AND user_id = $3";
const END_OF_LOCATION: &str = "DELETE FROM location_alerts WHERE tenant = $1 AND location = $2";
const END_STALE: &str = "DELETE FROM location_alerts WHERE confirmed < $1";
const OF_TENANT: &str = "SELECT since, tenant, user_id, CAST(NULL AS TEXT) AS location, failure, evidence, id FROM alerts \
    WHERE tenant = $1 \
    UNION ALL SELECT since, tenant, NULL, location, failure, NULL, 0 FROM location_alerts WHERE tenant = $1 \
    ORDER BY since, id, location LIMIT $2";
const OF_ALL: &str = "SELECT since, tenant, user_id, CAST(NULL AS TEXT) AS location, failure, evidence, id FROM alerts \
    UNION ALL SELECT since, tenant, NULL, location, failure, NULL, 0 FROM location_alerts \
    ORDER BY since, id, location LIMIT $1";

/// A failure is stored with `exact` if earlier builds do not know its code, and `code` is then another one.
/// Parameters: tenant, user, code ('' for any), earliest time; then the place after which the page begins; limit.
const FOUND: &str = "SELECT since, tenant, user_id, location, failure, evidence, id FROM \
    (SELECT since, tenant, user_id, CAST(NULL AS TEXT) AS location, failure, evidence, id FROM alerts \
        WHERE ($1 = '' OR tenant = $1) AND ($2 = '' OR user_id = $2) AND ($3 = '' OR code = $3) AND since >= $4 \
    UNION ALL SELECT since, tenant, NULL, location, failure, NULL, 0 FROM location_alerts \
        WHERE ($1 = '' OR tenant = $1) AND $2 = '' AND since >= $4 \
        AND ($3 = '' OR failure LIKE '%\"exact\":\"' || $3 || '\"%' \
            OR (failure LIKE '%\"code\":\"' || $3 || '\"%' AND failure NOT LIKE '%\"exact\":\"%'))) AS open \
    WHERE (since, id, COALESCE(location, ''), tenant) > ($5, $6, $7, $8) \
    ORDER BY since, id, COALESCE(location, ''), tenant LIMIT $9";

/// Since, tenant, user, location, failure, evidence, id.
type AlertRow = (
    i64,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    i64,
);

#[async_trait]
impl Alerts for SqlRegistry {
    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            let user = alert.user.as_ref().map(UserId::as_str);
            let subject = match (&alert.location, user) {
                (Some(location), _) => format!("{location} of tenant {}", alert.tenant),
                (None, Some(user)) => format!("{}/{user}", alert.tenant),
                (None, None) => format!("tenant {}", alert.tenant),
            };
            let doing = format!("raising an alert about {subject}");
            let failure = self.to_document("the failure", &alert.failure)?;
            let evidence = alert
                .evidence
                .as_ref()
                .map(|value| self.to_document("the evidence", value))
                .transpose()?;
            let mut transaction = self.transaction(&doing).await?;
            let statements = if alert.location.is_some() {
                [RAISE_OF_LOCATION, REFRESH_OF_LOCATION]
            } else {
                [RAISE, REFRESH]
            };
            for (statement, is_new) in statements.into_iter().zip([true, false]) {
                let query = transaction
                    .query(statement)
                    .bind(alert.since.as_microsecond())
                    .bind(alert.tenant.as_str())
                    .bind(&failure);
                let bound = match &alert.location {
                    Some(location) => query.bind(location.as_str()),
                    None => query.bind(user).bind(alert.failure.code.as_str()).bind(&evidence),
                };
                let changed = bound
                    .execute()
                    .await
                    .map_err(|error| self.not_raised(&doing, &subject, user.is_some(), &error))?;
                if changed > 0 {
                    self.commit(&doing, transaction).await?;
                    return Ok(is_new);
                }
            }
            // The alert was open when it was to be raised, and had ended when it was to be refreshed.
            Err(self.lost_race_failure(&doing))
        })
        .await
    }

    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("ending alerts of {tenant}");
            let mut transaction = self.single(&doing).await?;
            let query = match user {
                Some(user) => transaction
                    .query(END_OF_USER)
                    .bind(tenant.as_str())
                    .bind(code.as_str())
                    .bind(user.as_str()),
                None => transaction
                    .query(END_OF_TENANT)
                    .bind(tenant.as_str())
                    .bind(code.as_str()),
            };
            let ended = query
                .execute()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            self.commit(&doing, transaction).await?;
            Ok(ended)
        })
        .await
    }

    async fn end_location_alert(&self, tenant: &TenantId, location: &LocationKey) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("ending the alert about {location} of {tenant}");
            let mut transaction = self.single(&doing).await?;
            let ended = transaction
                .query(END_OF_LOCATION)
                .bind(tenant.as_str())
                .bind(location.as_str())
                .execute()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            self.commit(&doing, transaction).await?;
            Ok(ended > 0)
        })
        .await
    }

    async fn end_stale_location_alerts(&self, before: Timestamp) -> Result<u64, Failure> {
        retry_on_conflict(|| async {
            const DOING: &str = "ending old alerts about lists";
            let mut transaction = self.single(DOING).await?;
            let ended = transaction
                .query(END_STALE)
                .bind(before.as_microsecond())
                .execute()
                .await
                .map_err(|error| self.failure(DOING, &error))?;
            self.commit(DOING, transaction).await?;
            Ok(ended)
        })
        .await
    }

    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        const DOING: &str = "listing alerts";
        let mut connection = self.read(DOING).await?;
        let query = match tenant {
            Some(tenant) => connection.query(OF_TENANT).bind(tenant.as_str()),
            None => connection.query(OF_ALL),
        };
        let rows: Vec<AlertRow> = query
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        rows.into_iter().map(|row| self.alert(row)).collect()
    }

    async fn find_alerts(
        &self,
        filter: &AlertFilter,
        after: Option<&AlertCursor>,
        limit: u32,
    ) -> Result<AlertPage, Failure> {
        const DOING: &str = "searching alerts";
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let earliest = filter.since.unwrap_or(Timestamp::MIN);
        let (since, id, location, tenant) =
            after
                .and_then(read_cursor)
                .unwrap_or((i64::MIN, i64::MIN, "", ""));
        let mut connection = self.read(DOING).await?;
        let mut rows: Vec<AlertRow> = connection
            .query(FOUND)
            .bind(text(filter.tenant.as_ref().map(TenantId::as_str)))
            .bind(text(filter.user.as_ref().map(UserId::as_str)))
            .bind(text(filter.code.map(Code::as_str)))
            .bind(earliest.as_microsecond())
            .bind(since)
            .bind(id)
            .bind(location.to_owned())
            .bind(tenant.to_owned())
            .bind(sql_limit(limit).saturating_add(1))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = if rows.len() > wanted {
            rows.truncate(wanted);
            rows.last().map(|(since, tenant, _, location, _, _, id)| {
                AlertCursor(format!(
                    "{since}:{id}:{tenant}:{}",
                    location.as_deref().unwrap_or_default()
                ))
            })
        } else {
            None
        };
        Ok(AlertPage {
            alerts: rows
                .into_iter()
                .map(|row| self.alert(row))
                .collect::<Result<_, _>>()?,
            next,
        })
    }
}

/// Returns the time, id, location and tenant of a cursor.
fn read_cursor(AlertCursor(text): &AlertCursor) -> Option<(i64, i64, &str, &str)> {
    let mut parts = text.splitn(4, ':');
    let (since, id) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let tenant = parts.next()?;
    Some((since, id, parts.next()?, tenant))
}

impl SqlRegistry {
    fn alert(&self, row: AlertRow) -> Result<Alert, Failure> {
        let (since, tenant, user, location, failure, evidence, _) = row;
        Ok(Alert {
            since: self.time(since)?,
            tenant: self.name(&tenant)?,
            user: user.map(|user| self.name(&user)).transpose()?,
            location: location.as_deref().map(LocationKey::from_stored),
            failure: self.document("an alert", &failure)?,
            evidence: evidence
                .map(|text| self.document("an alert's evidence", &text))
                .transpose()?,
        })
    }

    fn not_raised(&self, doing: &str, subject: &str, is_of_user: bool, error: &sqlx::Error) -> Failure {
        if !is_missing_reference(error) {
            return self.failure_or_lost_race(doing, error);
        }
        let code = if is_of_user {
            Code::UserUnknown
        } else {
            Code::TenantUnknown
        };
        Failure::new(
            ErrorClass::Gone,
            code,
            format!("no alert can be raised: {subject} is not in the registry"),
        )
    }
}
