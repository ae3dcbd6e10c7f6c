//! Tenants.

use super::{SqlRegistry, sql_limit};
use crate::error::Failure;
use crate::model::TenantId;
use crate::registry::sql::retry_on_conflict;
use crate::registry::{Tenant, TenantCounts, TenantStore};
use crate::schedule::{TenantUsers, digest_of_all};
use async_trait::async_trait;

const ADD: &str =
    "INSERT INTO tenants (id, enabled, document) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
const REPLACE: &str = "UPDATE tenants SET enabled = $2, document = $3 WHERE id = $1";
const ONE: &str = "SELECT document FROM tenants WHERE id = $1";
const PAGE: &str = "SELECT document FROM tenants WHERE id > $1 ORDER BY id LIMIT $2";
const COUNT: &str = "SELECT COUNT(*), COUNT(CASE WHEN enabled = TRUE THEN 1 END) FROM tenants";
const REMOVE: &str = "DELETE FROM tenants WHERE id = $1";
/// A single row without a digest makes the digest of its tenant unknown.
const ACTIVE: &str = "SELECT t.id, count(*), CASE WHEN count(*) = count(e.name_digest) \
        THEN CAST(sum(e.name_digest) AS BIGINT) END FROM tenants t JOIN enrolments e ON e.tenant = t.id \
    WHERE t.enabled = TRUE AND t.id > $1 GROUP BY t.id ORDER BY t.id LIMIT $2";

/// Returns the name after which a page begins. The default sorts before every name.
fn start(after: Option<&TenantId>) -> &str {
    after.map_or("", TenantId::as_str)
}

#[async_trait]
impl TenantStore for SqlRegistry {
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("storing tenant {}", tenant.id);
            let document = self.to_document("the tenant", tenant)?;
            let mut transaction = self.transaction(&doing).await?;
            let mut changed = [0, 0];
            for (statement, changed) in [ADD, REPLACE].into_iter().zip(&mut changed) {
                *changed = transaction
                    .query(statement)
                    .bind(tenant.id.as_str())
                    .bind(tenant.enabled)
                    .bind(&document)
                    .execute()
                    .await
                    .map_err(|error| self.failure(&doing, &error))?;
                if *changed > 0 {
                    break;
                }
            }
            let [added, replaced] = changed;
            if added + replaced == 0 {
                return Err(self.lost_race_failure(&doing));
            }
            self.commit(&doing, transaction).await?;
            Ok(added > 0)
        })
        .await
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        let doing = format!("reading tenant {id}");
        let mut connection = self.read(&doing).await?;
        let document: Option<(String,)> = connection
            .query(ONE)
            .bind(id.as_str())
            .fetch_optional()
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        document
            .map(|(text,)| self.document(&format!("tenant {id}"), &text))
            .transpose()
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        const DOING: &str = "listing tenants";
        let mut connection = self.read(DOING).await?;
        let documents: Vec<(String,)> = connection
            .query(PAGE)
            .bind(start(after))
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        documents
            .iter()
            .map(|(text,)| self.document("a tenant", text))
            .collect()
    }

    async fn tenant_counts(&self) -> Result<TenantCounts, Failure> {
        const DOING: &str = "counting tenants";
        let mut connection = self.read(DOING).await?;
        let (tenants, enabled): (i64, i64) = connection
            .query(COUNT)
            .fetch_one()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        Ok(TenantCounts {
            tenants: self.number(tenants)?,
            enabled: self.number(enabled)?,
        })
    }

    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        retry_on_conflict(|| async {
            let doing = format!("removing tenant {id}");
            let mut transaction = self.single(&doing).await?;
            let removed = transaction
                .query(REMOVE)
                .bind(id.as_str())
                .execute()
                .await
                .map_err(|error| self.failure(&doing, &error))?;
            self.commit(&doing, transaction).await?;
            Ok(removed > 0)
        })
        .await
    }

    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, TenantUsers)>, Failure> {
        const DOING: &str = "listing active tenants";
        let mut connection = self.read(DOING).await?;
        let rows: Vec<(String, i64, Option<i64>)> = connection
            .query(ACTIVE)
            .bind(start(after))
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        rows.into_iter()
            .map(|(id, users, names)| {
                let members = TenantUsers {
                    users: self.number(users)?,
                    names: names
                        .map(|sum| Ok::<_, Failure>(digest_of_all([self.number(sum)?])))
                        .transpose()?,
                };
                Ok((self.name(&id)?, members))
            })
            .collect()
    }
}
