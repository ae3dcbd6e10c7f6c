//! Many users at once: opt-in of a whole department without a request for each of its people.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tasksync_common::error::Failure;
use tasksync_common::model::{MailboxAddress, UserId, UserKey};
use tasksync_common::registry::{Enrolment, EnrolmentResult, EnrolmentState, enable};

use super::error::ApiError;
use super::extract::{JsonBody, NoParams, QueryParams, TenantPath, check_text, check_time_zone};
use super::tenants::require_tenant;
use super::{ApiState, enrolment};

/// Most users of one request.
const MAXIMUM_USERS: usize = 1_000;

/// Body of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    users: Vec<ImportedPerson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportedPerson {
    user: UserId,
    source_login: String,
    mailbox: MailboxAddress,
    #[serde(default)]
    time_zone: Option<String>,
}

/// What became of an import.
#[derive(Serialize)]
pub(super) struct ImportResult {
    added: usize,
    updated: usize,
    refused: Vec<RefusedPerson>,
    scheduled: bool,
}

#[derive(Serialize)]
struct RefusedPerson {
    user: UserId,
    code: &'static str,
    detail: String,
}

pub(super) async fn import(
    State(api): State<ApiState>,
    TenantPath(tenant): TenantPath,
    _: QueryParams<NoParams>,
    JsonBody(body): JsonBody<Import>,
) -> Result<Json<ImportResult>, ApiError> {
    let parts = &api.parts;
    if body.users.len() > MAXIMUM_USERS {
        return Err(ApiError::bad_request(format!(
            "users: {} are too many for one request; at most {MAXIMUM_USERS} are allowed",
            body.users.len()
        )));
    }
    let tenant = require_tenant(parts, &tenant).await?;
    let now = parts.clock.now();
    let mut enrolments = Vec::with_capacity(body.users.len());
    for (at, person) in body.users.into_iter().enumerate() {
        check_text(&format!("users[{at}].source_login"), &person.source_login, 256)?;
        if let Some(zone) = &person.time_zone {
            check_time_zone(&format!("users[{at}].time_zone"), zone)?;
        }
        enrolments.push(Enrolment {
            key: UserKey::new(tenant.id.clone(), person.user),
            source_login: person.source_login,
            mailbox: person.mailbox,
            time_zone: person.time_zone,
            opted_in_at: now,
            state: EnrolmentState::Enabled,
        });
    }
    let answers = parts.registry.enrol_many(&enrolments).await?;
    let mut result = ImportResult {
        added: 0,
        updated: 0,
        refused: Vec::new(),
        scheduled: tenant.enabled,
    };
    let (mut added, mut updated) = (Vec::new(), Vec::new());
    for (enrolment, answer) in enrolments.into_iter().zip(answers) {
        if let Some((code, detail)) = enrolment::refusal(&enrolment, &answer) {
            result.refused.push(RefusedPerson {
                user: enrolment.key.user,
                code: code.as_str(),
                detail,
            });
        } else if answer == EnrolmentResult::Added {
            added.push(enrolment.key.user);
        } else {
            updated.push(enrolment.key);
        }
    }
    (result.added, result.updated) = (added.len(), updated.len());
    tracing::info!(
        tenant = %tenant.id,
        added = result.added,
        updated = result.updated,
        refused = result.refused.len(),
        "users imported"
    );
    let done = async {
        for key in &updated {
            enable(&*parts.registry, key).await?;
        }
        if tenant.enabled {
            enrolment::enrol(parts, &tenant.id, &added).await?;
            for key in &updated {
                enrolment::make_due(parts, key).await?;
            }
        }
        Ok::<_, Failure>(())
    };
    done.await
        .map_err(|failure| failure.within("the users are enrolled, but not all are in the schedule yet"))?;
    Ok(Json(result))
}
