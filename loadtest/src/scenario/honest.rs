//! What a trial does once its servers are honest again: it waits until everybody was checked, and asks for those who were given up.

use futures::StreamExt as _;
use jiff::Timestamp;

use super::fleet::Fleet;
use crate::trial::Farm;

/// People asked about at once.
const ASKED_AT_ONCE: usize = 8;

/// The time of the machine, by which tasksync notes its full checks.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with times that another process took"
)]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// A person as the service shows them.
struct Shown {
    tenant: String,
    user: String,
    disabled: bool,
    full_check: Option<Timestamp>,
}

async fn everybody(fleet: &Fleet, farm: &Farm) -> Vec<Shown> {
    let people = farm.population.tenants.iter().flat_map(|tenant| {
        let person = move |person| (tenant.slug.clone(), Farm::user_name(person));
        tenant.people.iter().map(person)
    });
    let shown = futures::stream::iter(people).map(|(tenant, user)| async move {
        let person = fleet.person(&tenant, &user).await.unwrap_or_default();
        let full_check = person["tasks"]["full_check_at"].as_str();
        Shown {
            disabled: person["enrolment"]["state"] == "disabled",
            full_check: full_check.and_then(|time| time.parse().ok()),
            tenant,
            user,
        }
    });
    shown.buffer_unordered(ASKED_AT_ONCE).collect().await
}

/// Returns how many people had no full check since `from`.
pub(super) async fn unchecked(fleet: &Fleet, farm: &Farm, from: Timestamp) -> u64 {
    let everybody = everybody(fleet, farm).await;
    let unchecked = |person: &&Shown| person.full_check.is_none_or(|check| check < from);
    u64::try_from(everybody.iter().filter(unchecked).count()).unwrap_or(u64::MAX)
}

/// Has everybody synced who is disabled, as an operator does after an outage; returns how many they are.
pub(super) async fn sync_disabled(fleet: &Fleet, farm: &Farm) -> u64 {
    let mut disabled = 0;
    for person in everybody(fleet, farm).await {
        if person.disabled {
            disabled += 1;
            let path = format!("/tenants/{}/users/{}/sync", person.tenant, person.user);
            // Who cannot be asked for stays disabled, and the figures say so.
            fleet.call(reqwest::Method::POST, &path, None).await.ok();
        }
    }
    disabled
}
