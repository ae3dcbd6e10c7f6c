//! Users: opt-in, opt-out, show, list, sync now, let deletions pass, journal.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasksync_common::error::Code;
use tasksync_common::model::{MailboxAddress, UserId, UserKey};
use tasksync_common::plan::{Held, held_digest};
use tasksync_common::queue::Reason;
use tasksync_common::registry::{DeletionPermit, Enrolled, Enrolment, EnrolmentState, Tenant, enable};
use tasksync_common::schedule::SavedStamp;
use tasksync_common::state::{StateError, SyncState};

use super::error::{ApiCode, ApiError};
use super::extract::{Body, Nothing, Page, Params, TenantPath, UserPath, check_text, check_time_zone, limit};
use super::task_views::TasksView;
use super::tenants::known;
use super::views::{AlertView, EnrolmentView, JournalView, OrderView, UserView, next_sync};
use super::{MAXIMUM_ALERTS, Parts, Shared, order};
use crate::Requested;
use crate::pauses;

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
    State(shared): State<Shared>,
    TenantPath(id): TenantPath,
    Params(page): Params<Page<UserId>>,
) -> Result<Json<UserList>, ApiError> {
    let (after, limit) = page.read()?;
    known(&shared.parts, &id).await?;
    let mut users = shared
        .parts
        .registry
        .enrolments(&id, after.as_ref(), limit + 1)
        .await?;
    let next = super::cut(&mut users, limit).map(|enrolment| enrolment.key.user.clone());
    let stamps = shared.parts.registry.stamps(&id, after.as_ref(), limit).await?;
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
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    _: Params<Nothing>,
) -> Result<Json<UserView>, ApiError> {
    let (_, enrolment) = enrolled(&shared.parts, &key).await?;
    view(&shared.parts, &enrolment).await.map(Json)
}

pub(super) async fn opt_in(
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    Params(params): Params<OptInParams>,
    Body(body): Body<OptIn>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &shared.parts;
    check_text("source_login", &body.source_login, 256)?;
    if let Some(zone) = &body.time_zone {
        check_time_zone("time_zone", zone)?;
    }
    let tenant = known(parts, &key.tenant).await?;
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
    let added = match parts.registry.enrol(&enrolment).await? {
        Enrolled::Added => true,
        Enrolled::Updated => {
            // A disabled user whose cause was mended comes back by opting in again.
            enable(&*parts.registry, &key).await?;
            false
        }
        Enrolled::MailboxTaken(other) => {
            return Err(ApiError::new(
                ApiCode::MailboxTaken,
                format!("{} belongs to {other}", enrolment.mailbox),
            ));
        }
    };
    tracing::info!(user = %key, added, unchecked = params.unchecked, "user opted in");
    if tenant.enabled {
        order::make_due(parts, &key)
            .await
            .map_err(|failure| failure.within("the user is enrolled, but not in the order of work yet"))?;
    }
    let (status, result) = if added {
        (StatusCode::CREATED, "added")
    } else {
        (StatusCode::OK, "updated")
    };
    // As stored: a second opt-in keeps the time of the first.
    let (_, stored) = enrolled(parts, &key).await?;
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
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    _: Params<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let parts = &shared.parts;
    let removed = parts.registry.withdraw(&key).await?;
    // Also when the registry had none: an earlier opt-out may have stopped between the two stores.
    parts.schedule.withdraw(&key).await?;
    if !removed {
        known(parts, &key.tenant).await?;
        return Err(unknown(&key));
    }
    tracing::info!(user = %key, "user opted out");
    Ok(Json(json!({ "result": "removed" })))
}

pub(super) async fn sync_now(
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    _: Params<Nothing>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &shared.parts;
    let (tenant, enrolment) = enrolled(parts, &key).await?;
    if !tenant.enabled {
        return Err(ApiError::new(
            ApiCode::TenantDisabled,
            format!("{} is disabled", key.tenant),
        ));
    }
    let result = match parts.requests.sync_now(&key, Reason::Requested).await? {
        Requested::Sent => "sent",
        Requested::Due => "due",
        // Enrolled, but not in the order of work: it was lost or is being rebuilt.
        Requested::NotEnrolled => {
            order::make_due(parts, &key).await?;
            "due"
        }
        Requested::TooMany(wait) => {
            return Err(ApiError::new(
                ApiCode::TooManyRequests,
                format!("{}: try again in {} s", key.tenant, wait.as_secs() + 1),
            ));
        }
    };
    tracing::info!(user = %key, result, "sync asked for");
    // Asked after the request was taken: it stands, whatever is known of pauses.
    let pauses = match pauses::of_tenant(parts, &tenant).await {
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
async fn held_of(parts: &Parts, key: &UserKey) -> Result<Vec<Held>, ApiError> {
    let nothing = || ApiError::new(ApiCode::NothingHeld, format!("{key}: nothing is held back"));
    let alerts = parts.registry.alerts(Some(&key.tenant), MAXIMUM_ALERTS).await?;
    let alert = alerts
        .into_iter()
        .find(|alert| alert.user.as_ref() == Some(&key.user) && alert.failure.code == Code::GuardHeld)
        .ok_or_else(nothing)?;
    alert
        .evidence
        .and_then(|evidence| serde_json::from_value(evidence).ok())
        .ok_or_else(nothing)
}

pub(super) async fn allow_deletions(
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    Params(params): Params<AllowParams>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let parts = &shared.parts;
    let (tenant, _) = enrolled(parts, &key).await?;
    let held = held_of(parts, &key).await?;
    let plan = held_digest(&held);
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
        return Err(unknown(&key));
    }
    let deletions: usize = held.iter().map(|held| held.keys.len()).sum();
    tracing::info!(user = %key, plan = permit.plan, deletions, "held deletions may pass");
    if tenant.enabled {
        order::make_due(parts, &key).await?;
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
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    _: Params<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let parts = &shared.parts;
    let (tenant, _) = enrolled(parts, &key).await?;
    if !tenant.enabled {
        return Err(ApiError::new(
            ApiCode::TenantDisabled,
            format!("{} is disabled", key.tenant),
        ));
    }
    Ok(Json(parts.checks.preview(&key).await?))
}

pub(super) async fn journal(
    State(shared): State<Shared>,
    UserPath(key): UserPath,
    Params(params): Params<JournalParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(params.limit, 50, 500)?;
    let entries = shared.parts.registry.journal_of(&key, limit).await?;
    // The journal outlives an opt-out, so only a user with neither is unknown.
    if entries.is_empty() {
        enrolled(&shared.parts, &key).await?;
    }
    let state = state_of(&shared.parts, &key).await?.and_then(Result::ok);
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| JournalView::of(entry, state.as_ref()))
        .collect();
    Ok(Json(json!({ "journal": entries })))
}

async fn ask_servers(parts: &Parts, tenant: &Tenant, enrolment: &Enrolment) -> Result<(), ApiError> {
    let found = parts.checks.check_user(tenant, enrolment).await;
    found
        .person
        .map_err(|failure| failure.within(format!("person {}", enrolment.source_login)))?;
    found
        .mailbox
        .map_err(|failure| failure.within(format!("mailbox {}", enrolment.mailbox)))?;
    Ok(())
}

async fn enrolled(parts: &Parts, key: &UserKey) -> Result<(Tenant, Enrolment), ApiError> {
    let tenant = known(parts, &key.tenant).await?;
    let enrolment = parts.registry.enrolment(key).await?.ok_or_else(|| unknown(key))?;
    Ok((tenant, enrolment))
}

fn unknown(key: &UserKey) -> ApiError {
    ApiError::new(
        ApiCode::NotFound,
        format!("there is no user \"{}\" in tenant \"{}\"", key.user, key.tenant),
    )
}

/// Returns a user's saved sync state; `None` before the first sync.
async fn state_of(parts: &Parts, key: &UserKey) -> Result<Option<Result<SyncState, StateError>>, ApiError> {
    let stored = parts.registry.sync_state(key).await?;
    Ok(stored.map(|stored| SyncState::decode(&stored.blob)))
}

async fn view(parts: &Parts, enrolment: &Enrolment) -> Result<UserView, ApiError> {
    let key = &enrolment.key;
    let status = parts.schedule.status(key).await?;
    let now = parts.schedule.now().await?;
    let alerts = parts.registry.alerts(Some(&key.tenant), MAXIMUM_ALERTS).await?;
    let journal = parts.registry.journal_of(key, JOURNAL_SHOWN).await?;
    let state = state_of(parts, key).await?;
    let names = state.as_ref().and_then(|state| state.as_ref().ok());
    Ok(UserView {
        tasks: state.as_ref().map(TasksView::of),
        enrolment: enrolment.into(),
        next_sync: next_sync(
            status.as_ref(),
            parts.settings.schedule.minimum_time_between_user_syncs,
            now,
        ),
        schedule: status.as_ref().map(OrderView::from),
        alerts: alerts
            .iter()
            // Lists that this person cannot read stand with the tasks.
            .filter(|alert| alert.location.is_none())
            .filter(|alert| alert.user.as_ref().is_none_or(|user| user == &key.user))
            .map(AlertView::from)
            .collect(),
        journal: journal
            .iter()
            .map(|entry| JournalView::of(entry, names))
            .collect(),
    })
}
