//! Tenants: put, show, list, remove.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tasksync_common::model::TenantId;
use tasksync_common::registry::{MailboxConnection, SourceConnection, Tenant};
use tasksync_common::schedule::rebuild::add_missing;

use super::error::{ApiCode, ApiError};
use super::extract::{JsonBody, NoParams, PageParams, QueryParams, TenantPath, check_text, check_time_zone};
use super::{ApiState, ServiceParts};
use crate::doctor::{self, DoctorReport};

/// Most sites of one tenant.
const MAXIMUM_SITES: usize = 1_000;

/// A page of tenants.
#[derive(Serialize)]
pub(super) struct TenantList {
    tenants: Vec<Tenant>,
    /// Name to continue after; `None` on the last page.
    next: Option<TenantId>,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    QueryParams(page): QueryParams<PageParams<TenantId>>,
) -> Result<Json<TenantList>, ApiError> {
    let (after, limit) = page.read()?;
    let mut tenants = api.parts.registry.tenants(after.as_ref(), limit + 1).await?;
    let next = super::truncate_page(&mut tenants, limit).map(|tenant| tenant.id.clone());
    Ok(Json(TenantList { tenants, next }))
}

pub(super) async fn show(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    _: QueryParams<NoParams>,
) -> Result<Json<Tenant>, ApiError> {
    require_tenant(&api.parts, &id).await.map(Json)
}

pub(super) async fn put(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    _: QueryParams<NoParams>,
    JsonBody(tenant): JsonBody<Tenant>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &api.parts;
    check(&id, &tenant)?;
    parts.settings.secrets.check_tenant(&tenant)?;
    let added = parts.registry.put_tenant(&tenant).await?;
    tracing::info!(tenant = %id, added, enabled = tenant.enabled, "tenant stored");
    // The registry has the truth. The schedule follows here at once, or else at the leader's next search.
    if tenant.enabled {
        let minimum = parts.settings.schedule.minimum_time_between_user_syncs;
        add_missing(&*parts.registry, &*parts.schedule, &id, minimum).await?;
    } else {
        parts.schedule.withdraw_tenant(&id).await?;
    }
    let (status, result) = if added {
        (StatusCode::CREATED, "added")
    } else {
        (StatusCode::OK, "updated")
    };
    Ok((status, Json(json!({ "result": result, "tenant": tenant }))))
}

/// Tests the connections of a tenant that need not be stored. Stores nothing.
pub(super) async fn test(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    _: QueryParams<NoParams>,
    JsonBody(tenant): JsonBody<Tenant>,
) -> Result<Json<DoctorReport>, ApiError> {
    check(&id, &tenant)?;
    api.parts.settings.secrets.check_tenant(&tenant)?;
    let _place = api.doctor_place()?;
    Ok(Json(doctor::test_connections(&api.parts, &tenant).await))
}

pub(super) async fn remove(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    _: QueryParams<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let parts = &api.parts;
    let removed = parts.registry.remove_tenant(&id).await?;
    // Also if the registry did not have the tenant: an earlier removal may have stopped between the two stores.
    let users = parts.schedule.withdraw_tenant(&id).await?;
    if !removed {
        return Err(tenant_not_found(&id));
    }
    tracing::info!(tenant = %id, users, "tenant removed");
    Ok(Json(json!({ "result": "removed" })))
}

/// Returns the tenant, or a `not-found` error.
pub(super) async fn require_tenant(parts: &ServiceParts, id: &TenantId) -> Result<Tenant, ApiError> {
    parts
        .registry
        .tenant(id)
        .await?
        .ok_or_else(|| tenant_not_found(id))
}

fn tenant_not_found(id: &TenantId) -> ApiError {
    ApiError::new(ApiCode::NotFound, format!("there is no tenant \"{id}\""))
}

fn check(id: &TenantId, tenant: &Tenant) -> Result<(), ApiError> {
    if &tenant.id != id {
        return Err(ApiError::bad_request(format!(
            "id: the body says \"{}\", the address says \"{id}\"",
            tenant.id
        )));
    }
    check_text("display_name", &tenant.display_name, 200)?;
    check_time_zone("time_zone", &tenant.time_zone)?;
    if let Some(login) = tenant.test.as_ref().and_then(|test| test.source_login.as_deref()) {
        check_text("test.source_login", login, 256)?;
    }
    let SourceConnection::SharePoint(sharepoint) = &tenant.source;
    if !(1..=MAXIMUM_SITES).contains(&sharepoint.sites.len()) {
        return Err(ApiError::bad_request(format!(
            "source.sites: names {} sites; 1 to {MAXIMUM_SITES} are allowed",
            sharepoint.sites.len()
        )));
    }
    for (index, site) in sharepoint.sites.iter().enumerate() {
        check_address(
            &format!("source.sites[{index}]"),
            site.scheme(),
            site.host_str(),
            site.password().is_some() || !site.username().is_empty(),
        )?;
    }
    let MailboxConnection::Ews { url, credentials, .. } = &tenant.mailbox;
    for (side, credentials) in [("source", &sharepoint.credentials), ("mailbox", credentials)] {
        credentials
            .check()
            .map_err(|error| ApiError::bad_request(format!("{side}.credentials.{error}")))?;
    }
    check_address(
        "mailbox.url",
        url.scheme(),
        url.host_str(),
        url.password().is_some() || !url.username().is_empty(),
    )
}

fn check_address(
    field: &str,
    scheme: &str,
    host: Option<&str>,
    holds_credentials: bool,
) -> Result<(), ApiError> {
    if !matches!(scheme, "https" | "http") || host.is_none_or(str::is_empty) {
        return Err(ApiError::bad_request(format!(
            "{field}: is not an https:// address of a server"
        )));
    }
    if holds_credentials {
        return Err(ApiError::bad_request(format!(
            "{field}: contains a user name or password; they belong in credentials"
        )));
    }
    Ok(())
}
