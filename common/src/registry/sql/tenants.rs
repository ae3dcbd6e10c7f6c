//! Tenants.

use super::{SqliteRegistry, sql_limit};
use crate::error::Failure;
use crate::model::TenantId;
use crate::registry::Tenant;

const EXISTS: &str = "SELECT count(*) FROM tenants WHERE id = $1";
const PUT: &str = "INSERT INTO tenants (id, enabled, document) VALUES ($1, $2, $3) \
    ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled, document = excluded.document";
const ONE: &str = "SELECT document FROM tenants WHERE id = $1";
const PAGE: &str = "SELECT document FROM tenants WHERE id > $1 ORDER BY id LIMIT $2";
const REMOVE: &str = "DELETE FROM tenants WHERE id = $1";
const ACTIVE: &str = "SELECT t.id, count(*) FROM tenants t JOIN enrolments e ON e.tenant = t.id \
    WHERE t.enabled = 1 AND t.id > $1 GROUP BY t.id ORDER BY t.id LIMIT $2";

/// Sorts before every name.
fn start(after: Option<&TenantId>) -> &str {
    after.map_or("", TenantId::as_str)
}

impl SqliteRegistry {
    pub(super) async fn do_put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        let doing = format!("storing tenant {}", tenant.id);
        let fail = |error: sqlx::Error| self.failure(&doing, &error);
        let document = self.written("the tenant", tenant)?;
        let mut transaction = self.write(&doing).await?;
        let known: i64 = sqlx::query_scalar(EXISTS)
            .bind(tenant.id.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(fail)?;
        sqlx::query(PUT)
            .bind(tenant.id.as_str())
            .bind(i64::from(tenant.enabled))
            .bind(document)
            .execute(&mut *transaction)
            .await
            .map_err(fail)?;
        self.commit(&doing, transaction).await?;
        Ok(known == 0)
    }

    pub(super) async fn do_tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        let doing = format!("reading tenant {id}");
        let mut connection = self.read(&doing).await?;
        let document: Option<String> = sqlx::query_scalar(ONE)
            .bind(id.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        document
            .map(|text| self.document(&format!("tenant {id}"), &text))
            .transpose()
    }

    pub(super) async fn do_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<Tenant>, Failure> {
        const DOING: &str = "listing tenants";
        let mut connection = self.read(DOING).await?;
        let documents: Vec<String> = sqlx::query_scalar(PAGE)
            .bind(start(after))
            .bind(sql_limit(limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        documents
            .iter()
            .map(|text| self.document("a tenant", text))
            .collect()
    }

    pub(super) async fn do_remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        let doing = format!("removing tenant {id}");
        let mut transaction = self.write(&doing).await?;
        let removed = sqlx::query(REMOVE)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failure(&doing, &error))?
            .rows_affected();
        self.commit(&doing, transaction).await?;
        Ok(removed > 0)
    }

    pub(super) async fn do_active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, u64)>, Failure> {
        const DOING: &str = "listing active tenants";
        let mut connection = self.read(DOING).await?;
        let rows: Vec<(String, i64)> = sqlx::query_as(ACTIVE)
            .bind(start(after))
            .bind(sql_limit(limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        rows.into_iter()
            .map(|(id, users)| Ok((self.name(&id)?, self.number(users)?)))
            .collect()
    }
}
