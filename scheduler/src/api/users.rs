//! Users: opt-in, opt-out, show, list, sync now, let deletions pass, journal.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasksync_common::error::Code;
use tasksync_common::facts::PersonLookup;
use tasksync_common::model::{MailboxAddress, UserId, UserKey};
use tasksync_common::plan::{HeldDeletions, held_digest};
use tasksync_common::queue::Reason;
use tasksync_common::registry::{
    Alert, AlertFilter, DeletionPermit, Enrolment, EnrolmentResult, EnrolmentState, Tenant, enable,
};
use tasksync_common::schedule::SavedStamp;
use tasksync_common::state::{StateError, SyncState};

use super::error::{ApiCode, ApiError};
use super::extract::{
    JsonBody, NoParams, PageParams, QueryParams, TenantPath, UserPath, check_text, check_time_zone, limit,
};
use super::task_views::{TasksView, names_of_held};
use super::tenants::require_tenant;
use super::views::{
    AlertView, EnrolmentView, FailureView, JournalView, NextSync, ScheduleEntryView, UserView, next_sync,
};
use super::{ApiState, MAXIMUM_ALERTS, ServiceParts, enrolment};
use crate::SyncNowResult;
use crate::{pauses, status};

/// A permit for held deletions ends after this time.
const PERMIT_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// Journal entries shown with a user.
const JOURNAL_SHOWN: u32 = 10;

/// Body of an opt-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptIn {
    source_login: String,
    mailbox: MailboxAddress,
    #[serde(default)]
    time_zone: Option<String>,
}

/// Parameters of an opt-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptInParams {
    /// Enrols without asking the servers.
    #[serde(default)]
    unchecked: bool,
}

/// Parameters of the journal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalParams {
    limit: Option<u32>,
}

/// Parameters of a permit for held deletions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowParams {
    /// The plan that was shown; without it, the plan that is held now.
    plan: Option<String>,
}

/// A page of users.
#[derive(Serialize)]
pub(super) struct UserList {
    users: Vec<EnrolmentView>,
    /// Name to ask on after; nothing follows when it is missing.
    next: Option<UserId>,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    TenantPath(id): TenantPath,
    QueryParams(page): QueryParams<PageParams<UserId>>,
) -> Result<Json<UserList>, ApiError> {
    let (after, limit) = page.read()?;
    require_tenant(&api.parts, &id).await?;
    let mut users = api
        .parts
        .registry
        .enrolments(&id, after.as_ref(), limit + 1)
        .await?;
    let next = super::truncate_page(&mut users, limit).map(|enrolment| enrolment.key.user.clone());
    let stamps = api.parts.registry.stamps(&id, after.as_ref(), limit).await?;
    let stamps: HashMap<UserId, SavedStamp> = stamps
        .into_iter()
        .map(|saved| (saved.user.clone(), saved))
        .collect();
    Ok(Json(UserList {
        users: users
            .iter()
            .map(|enrolment| EnrolmentView::with_stamp(enrolment, stamps.get(&enrolment.key.user)))
            .collect(),
        next,
    }))
}

pub(super) async fn show(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    _: QueryParams<NoParams>,
) -> Result<Json<UserView>, ApiError> {
    let (_, enrolment) = require_enrolment(&api.parts, &key).await?;
    view(&api.parts, &enrolment).await.map(Json)
}

pub(super) async fn opt_in(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    QueryParams(params): QueryParams<OptInParams>,
    JsonBody(body): JsonBody<OptIn>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &api.parts;
    check_text("source_login", &body.source_login, 256)?;
    if let Some(zone) = &body.time_zone {
        check_time_zone("time_zone", zone)?;
    }
    let tenant = require_tenant(parts, &key.tenant).await?;
    let enrolment = Enrolment {
        key: key.clone(),
        source_login: body.source_login,
        mailbox: body.mailbox,
        time_zone: body.time_zone,
        opted_in_at: parts.clock.now(),
        state: EnrolmentState::Enabled,
    };
    if !params.unchecked {
        ask_servers(parts, &tenant, &enrolment).await?;
    }
    let answer = parts.registry.enrol(&enrolment).await?;
    if let Some((code, detail)) = enrolment::refusal(&enrolment, &answer) {
        return Err(ApiError::new(code, detail));
    }
    let added = answer == EnrolmentResult::Added;
    if !added {
        // A disabled user whose cause was mended comes back by opting in again.
        enable(&*parts.registry, &key).await?;
    }
    tracing::info!(user = %key, added, unchecked = params.unchecked, "user opted in");
    if tenant.enabled {
        enrolment::make_due(parts, &key)
            .await
            .map_err(|failure| failure.within("the user is enrolled, but not in the schedule yet"))?;
    }
    let (status, result) = if added {
        (StatusCode::CREATED, "added")
    } else {
        (StatusCode::OK, "updated")
    };
    // As stored: a second opt-in keeps the time of the first.
    let (_, stored) = require_enrolment(parts, &key).await?;
    Ok((
        status,
        Json(json!({
            "result": result,
            "scheduled": tenant.enabled,
            "user": EnrolmentView::from(&stored),
        })),
    ))
}

pub(super) async fn opt_out(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    _: QueryParams<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let parts = &api.parts;
    let removed = parts.registry.withdraw(&key).await?;
    // Also when the registry had none: an earlier opt-out may have stopped between the two stores.
    parts.schedule.withdraw(&key).await?;
    if !removed {
        require_tenant(parts, &key.tenant).await?;
        return Err(user_not_enrolled(&key));
    }
    tracing::info!(user = %key, "user opted out");
    Ok(Json(json!({ "result": "removed" })))
}

pub(super) async fn sync_now(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    _: QueryParams<NoParams>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &api.parts;
    let (tenant, enrolment) = require_enrolment(parts, &key).await?;
    if !tenant.enabled {
        return Err(ApiError::new(
            ApiCode::TenantDisabled,
            format!("{} is disabled", key.tenant),
        ));
    }
    let result = match parts.requests.sync_now(&key, Reason::Requested).await? {
        SyncNowResult::Sent => "sent",
        SyncNowResult::Due => "due",
        // Enrolled, but not in the schedule: it was lost or is being rebuilt.
        SyncNowResult::NotEnrolled => {
            enrolment::make_due(parts, &key).await?;
            "due"
        }
        SyncNowResult::TooMany(wait) => {
            return Err(ApiError::new(
                ApiCode::TooManyRequests,
                format!("{}: try again in {} s", key.tenant, wait.as_secs() + 1),
            ));
        }
    };
    tracing::info!(user = %key, result, "sync asked for");
    // Asked after the request was taken: it stands, whatever is known of pauses.
    let pauses = match pauses::pauses_of_tenant(parts, &tenant).await {
        Ok(pauses) => Some(pauses),
        Err(failure) => {
            tracing::warn!(user = %key, %failure, "it is not known whether a server is paused");
            None
        }
    };
    let waits_until = pauses.iter().flatten().map(|pause| pause.until).max();
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({
            "result": result,
            "user": EnrolmentView::from(&enrolment),
            "pauses": pauses,
            "waits_until": waits_until,
        })),
    ))
}

/// Returns the deletions of the user that are held back, as the alert shows them.
async fn held_tasks(parts: &ServiceParts, key: &UserKey) -> Result<Vec<HeldDeletions>, ApiError> {
    let nothing = || ApiError::new(ApiCode::NothingHeld, format!("{key}: nothing is held back"));
    let filter = AlertFilter {
        tenant: Some(key.tenant.clone()),
        user: Some(key.user.clone()),
        code: Some(Code::GuardHeld),
        since: None,
    };
    let page = parts.registry.find_alerts(&filter, None, 1).await?;
    let alert = page.alerts.into_iter().next().ok_or_else(nothing)?;
    alert
        .evidence
        .and_then(|evidence| serde_json::from_value(evidence).ok())
        .ok_or_else(nothing)
}

pub(super) async fn allow_deletions(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    QueryParams(params): QueryParams<AllowParams>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &api.parts;
    let (tenant, _) = require_enrolment(parts, &key).await?;
    let held_deletions = held_tasks(parts, &key).await?;
    let plan = held_digest(&held_deletions);
    if let Some(shown) = params.plan.filter(|shown| *shown != plan) {
        return Err(ApiError::new(
            ApiCode::PlanChanged,
            format!("{key}: the plan {shown} was shown, the plan {plan} is held"),
        ));
    }
    let permit = DeletionPermit {
        plan,
        until: parts
            .clock
            .now()
            .saturating_add(PERMIT_LIFETIME)
            .unwrap_or(Timestamp::MAX),
    };
    if !parts.registry.allow_deletions(&key, &permit).await? {
        return Err(user_not_enrolled(&key));
    }
    let deletions: usize = held_deletions.iter().map(|deletions| deletions.keys.len()).sum();
    tracing::info!(user = %key, plan = permit.plan, deletions, "held deletions may pass");
    if tenant.enabled {
        enrolment::make_due(parts, &key).await?;
    }
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({
            "result": "allowed",
            "plan": permit.plan,
            "deletions": deletions,
            "until": permit.until,
        })),
    ))
}

pub(super) async fn plan(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    _: QueryParams<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let parts = &api.parts;
    let (tenant, _) = require_enrolment(parts, &key).await?;
    if !tenant.enabled {
        return Err(ApiError::new(
            ApiCode::TenantDisabled,
            format!("{} is disabled", key.tenant),
        ));
    }
    Ok(Json(parts.checks.preview(&key).await?))
}

pub(super) async fn journal(
    State(api): State<ApiState>,
    UserPath(key): UserPath,
    QueryParams(params): QueryParams<JournalParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, 50, 500)?;
    let entries = api.parts.registry.journal_of(&key, limit).await?;
    // The journal outlives an opt-out, so only a user with neither is unknown.
    if entries.is_empty() {
        require_enrolment(&api.parts, &key).await?;
    }
    let state = state_of(&api.parts, &key).await?.and_then(Result::ok);
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| JournalView::of(entry, state.as_ref()))
        .collect();
    Ok(Json(json!({ "journal": entries })))
}

async fn ask_servers(parts: &ServiceParts, tenant: &Tenant, enrolment: &Enrolment) -> Result<(), ApiError> {
    let found = parts
        .checks
        .check_user(tenant, enrolment, PersonLookup::Resolve)
        .await;
    found
        .person
        .map_err(|failure| failure.within(format!("person {}", enrolment.source_login)))?;
    found
        .mailbox
        .map_err(|failure| failure.within(format!("mailbox {}", enrolment.mailbox)))?;
    Ok(())
}

async fn require_enrolment(parts: &ServiceParts, key: &UserKey) -> Result<(Tenant, Enrolment), ApiError> {
    let tenant = require_tenant(parts, &key.tenant).await?;
    let enrolment = parts
        .registry
        .enrolment(key)
        .await?
        .ok_or_else(|| user_not_enrolled(key))?;
    Ok((tenant, enrolment))
}

fn user_not_enrolled(key: &UserKey) -> ApiError {
    ApiError::new(
        ApiCode::NotFound,
        format!("there is no user \"{}\" in tenant \"{}\"", key.user, key.tenant),
    )
}

/// Returns a user's saved sync state; `None` before the first sync.
async fn state_of(
    parts: &ServiceParts,
    key: &UserKey,
) -> Result<Option<Result<SyncState, StateError>>, ApiError> {
    let stored = parts.registry.sync_state(key).await?;
    Ok(stored.map(|stored| SyncState::decode(&stored.blob)))
}

/// Returns the open alerts about a user and about the user's tenant, oldest first. Lists that the person cannot read
/// are left out; they stand with the tasks.
async fn alerts_of(parts: &ServiceParts, key: &UserKey) -> Result<Vec<Alert>, ApiError> {
    let of_tenant = parts.registry.alerts(Some(&key.tenant), MAXIMUM_ALERTS).await?;
    let filter = AlertFilter {
        tenant: Some(key.tenant.clone()),
        user: Some(key.user.clone()),
        ..AlertFilter::default()
    };
    let of_user = parts
        .registry
        .find_alerts(&filter, None, MAXIMUM_ALERTS)
        .await?
        .alerts;
    let mut alerts: Vec<Alert> = of_tenant
        .into_iter()
        .filter(|alert| alert.location.is_none() && alert.user.is_none())
        .chain(of_user)
        .collect();
    alerts.sort_by_key(|alert| alert.since);
    Ok(alerts)
}

async fn view(parts: &ServiceParts, enrolment: &Enrolment) -> Result<UserView, ApiError> {
    let key = &enrolment.key;
    let place = async { Ok((parts.schedule.status(key).await?, parts.schedule.now().await?)) };
    let (place, workers) = tokio::join!(
        status::ask(Code::ScheduleUnavailable, place),
        status::count_workers(parts)
    );
    let next = match &place {
        Ok((status, now)) => {
            let minimum = parts.settings.schedule.minimum_time_between_user_syncs;
            next_sync(status.as_ref(), workers, minimum, *now)
        }
        Err(_) => NextSync::Unknown,
    };
    let missing = place.as_ref().err().map(FailureView::from);
    let alerts = alerts_of(parts, key).await?;
    let journal = parts.registry.journal_of(key, JOURNAL_SHOWN).await?;
    let state = state_of(parts, key).await?;
    let names = state.as_ref().and_then(|state| state.as_ref().ok());
    let of_user = |alert: &&Alert| alert.user.as_ref() == Some(&key.user);
    let held: Vec<Alert> = alerts.iter().filter(of_user).cloned().collect();
    Ok(UserView {
        names: names_of_held(&held, names),
        tasks: state.as_ref().map(TasksView::of),
        enrolment: enrolment.into(),
        next_sync: next,
        schedule: place
            .ok()
            .and_then(|(status, _)| status.as_ref().map(ScheduleEntryView::from)),
        missing,
        alerts: alerts.iter().map(AlertView::from).collect(),
        journal: journal
            .iter()
            .map(|entry| JournalView::of(entry, names))
            .collect(),
    })
}
