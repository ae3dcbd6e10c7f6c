//! The end of a trial with wrong answers, once the servers are honest: queries each user's full check, and requests
//! syncs for disabled users.

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::Value;

use super::fleet::Fleet;
use crate::trial::Farm;

/// Number of users queried at once.
const ASKED_AT_ONCE: usize = 8;

/// A user as the API shows them.
struct QueriedUser {
    tenant: String,
    user: String,
    disabled: bool,
    full_check: Option<Timestamp>,
}

async fn query_users(fleet: &Fleet, farm: &Farm) -> Vec<QueriedUser> {
    let people = farm.population.tenants.iter().flat_map(|tenant| {
        let person = move |person| (tenant.slug.clone(), Farm::user_name(person));
        tenant.people.iter().map(person)
    });
    let shown = futures::stream::iter(people).map(|(tenant, user)| async move {
        let person = fleet.person(&tenant, &user).await.unwrap_or_default();
        let full_check = person.pointer("/tasks/full_check_at").and_then(Value::as_str);
        let state = person.pointer("/enrolment/state").and_then(Value::as_str);
        QueriedUser {
            disabled: state == Some("disabled"),
            full_check: full_check.and_then(|time| time.parse().ok()),
            tenant,
            user,
        }
    });
    shown.buffer_unordered(ASKED_AT_ONCE).collect().await
}

/// Returns how many users had no full check since `from`.
pub(super) async fn count_unchecked(fleet: &Fleet, farm: &Farm, from: Timestamp) -> u64 {
    let users = query_users(fleet, farm).await;
    let unchecked = |person: &&QueriedUser| person.full_check.is_none_or(|check| check < from);
    u64::try_from(users.iter().filter(unchecked).count()).unwrap_or(u64::MAX)
}

/// Requests a sync for every disabled user, as an operator does after an outage. Returns how many users were disabled.
pub(super) async fn request_disabled_syncs(fleet: &Fleet, farm: &Farm) -> u64 {
    let mut disabled = 0;
    for person in query_users(fleet, farm).await {
        if person.disabled {
            disabled += 1;
            let path = format!("/tenants/{}/users/{}/sync", person.tenant, person.user);
            // If the request fails, the user stays disabled and the figures show it.
            fleet.call(reqwest::Method::POST, &path, None).await.ok();
        }
    }
    disabled
}
