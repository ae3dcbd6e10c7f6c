//! Open alerts.

use super::errors::is_missing_reference;
use super::{SqlRegistry, sql_limit};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{TenantId, UserId};
use crate::registry::Alert;
use crate::registry::Alerts;
use crate::registry::sql::again;
use async_trait::async_trait;

const REFRESH: &str = "UPDATE alerts SET failure = $4, evidence = $5 \
    WHERE tenant = $1 AND COALESCE(user_id, '') = COALESCE($2, '') AND code = $3";
const RAISE: &str = "INSERT INTO alerts (since, tenant, user_id, code, failure, evidence) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const END: &str = "DELETE FROM alerts WHERE tenant = $1 AND code = $2";
const END_OF_USER: &str = "DELETE FROM alerts WHERE tenant = $1 AND code = $2 AND user_id = $3";
const OF_TENANT: &str = "SELECT since, tenant, user_id, failure, evidence FROM alerts \
    WHERE tenant = $1 ORDER BY since, id LIMIT $2";
const OF_ALL: &str =
    "SELECT since, tenant, user_id, failure, evidence FROM alerts ORDER BY since, id LIMIT $1";

/// Since, tenant, user, failure, evidence.
type Row = (i64, String, Option<String>, String, Option<String>);

#[async_trait]
impl Alerts for SqlRegistry {
    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        again(|| async {
            let subject = alert.user.as_ref().map_or_else(
                || format!("tenant {}", alert.tenant),
                |user| format!("{}/{user}", alert.tenant),
            );
            let doing = format!("raising an alert about {subject}");
            let user = alert.user.as_ref().map(UserId::as_str);
            let failure = self.written("the failure", &alert.failure)?;
            let evidence = alert
                .evidence
                .as_ref()
                .map(|value| self.written("the evidence", value))
                .transpose()?;
            let mut transaction = self.transaction(&doing).await?;
            let refreshed = transaction
                .query(REFRESH)
                .bind(alert.tenant.as_str())
                .bind(user)
                .bind(alert.failure.code.as_str())
                .bind(&failure)
                .bind(&evidence)
                .execute()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            if refreshed == 0 {
                transaction
                    .query(RAISE)
                    .bind(alert.since.as_microsecond())
                    .bind(alert.tenant.as_str())
                    .bind(user)
                    .bind(alert.failure.code.as_str())
                    .bind(&failure)
                    .bind(&evidence)
                    .execute()
                    .await
                    .map_err(|error| {
                        if is_missing_reference(&error) {
                            let code = if user.is_some() {
                                Code::UserUnknown
                            } else {
                                Code::TenantUnknown
                            };
                            Failure::new(
                                ErrorClass::Gone,
                                code,
                                format!("no alert can be raised: {subject} is not in the registry"),
                            )
                        } else {
                            // Raised by somebody else since: refreshed at the next attempt.
                            self.failure_or_faster(&doing, &error)
                        }
                    })?;
            }
            self.commit(&doing, transaction).await?;
            Ok(refreshed == 0)
        })
        .await
    }

    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        again(|| async {
            let doing = format!("ending alerts of {tenant}");
            let mut transaction = self.single(&doing).await?;
            let query = match user {
                Some(user) => transaction
                    .query(END_OF_USER)
                    .bind(tenant.as_str())
                    .bind(code.as_str())
                    .bind(user.as_str()),
                None => transaction.query(END).bind(tenant.as_str()).bind(code.as_str()),
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

    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        const DOING: &str = "listing alerts";
        let mut connection = self.read(DOING).await?;
        let query = match tenant {
            Some(tenant) => connection.query(OF_TENANT).bind(tenant.as_str()),
            None => connection.query(OF_ALL),
        };
        let rows: Vec<Row> = query
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        rows.into_iter()
            .map(|(since, tenant, user, failure, evidence)| {
                Ok(Alert {
                    since: self.time(since)?,
                    tenant: self.name(&tenant)?,
                    user: user.map(|user| self.name(&user)).transpose()?,
                    failure: self.document("an alert", &failure)?,
                    evidence: evidence
                        .map(|text| self.document("an alert's evidence", &text))
                        .transpose()?,
                })
            })
            .collect()
    }
}
