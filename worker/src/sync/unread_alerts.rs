//! Alerts about lists and sites that cannot be read, or whose dates cannot be read. There is one alert for
//! each list, however many people have tasks in it.

use std::collections::BTreeSet;

use tasksync_common::error::{Code, Failure};
use tasksync_common::model::{LocationKey, TenantId};
use tasksync_common::registry::{Alert, Registry};
use tasksync_common::state::SyncState;

use super::load::Loaded;

/// Raises the alerts for what this pass could not read. A failure that the person's state already holds is
/// raised again only in a full check, so that an alert costs one write per person and full check.
pub(super) async fn raise_alerts(registry: &dyn Registry, loaded: &Loaded) -> Result<(), Failure> {
    let (reached, before) = (loaded.pass.read_progress(), loaded.pass.saved());
    for (location, failure) in &reached.unread {
        if reached.full || !before.unread.contains_key(location) {
            tracing::warn!(tenant = %loaded.user.tenant, user = %loaded.user.user, %location, %failure, "a list cannot be read");
            raise_alert(registry, loaded, location, failure, Code::ListUnreadable).await?;
        }
    }
    for (location, reason) in &reached.without_dates {
        let Some(failure) = reason.as_ref().filter(|_| !reached.unread.contains_key(location)) else {
            continue;
        };
        let is_new = !before.without_dates.contains_key(location) || before.unread.contains_key(location);
        if reached.full || is_new {
            tracing::warn!(tenant = %loaded.user.tenant, user = %loaded.user.user, %location, %failure, "the dates of a list are not synced");
            raise_alert(registry, loaded, location, failure, Code::ListWithoutDates).await?;
        }
    }
    Ok(())
}

async fn raise_alert(
    registry: &dyn Registry,
    loaded: &Loaded,
    location: &LocationKey,
    failure: &Failure,
    code: Code,
) -> Result<(), Failure> {
    let alert = Alert {
        since: loaded.started,
        tenant: loaded.user.tenant.clone(),
        user: None,
        location: Some(location.clone()),
        failure: Failure::new(failure.class, code, failure_text(loaded, location, failure)),
        evidence: None,
    };
    registry.raise_alert(&alert).await.map(drop)
}

/// Returns the lists and sites about which an alert may exist, according to one person's state.
pub(super) fn alerted_locations(state: &SyncState) -> BTreeSet<LocationKey> {
    state
        .unread
        .keys()
        .chain(state.without_dates.keys())
        .cloned()
        .collect()
}

/// Ends the alerts about lists that the person could not read `before` the pass and can read now. The first
/// pass that reads a list, of any person, ends its alert.
pub(super) async fn end_alerts(
    registry: &dyn Registry,
    tenant: &TenantId,
    before: &BTreeSet<LocationKey>,
    state: &SyncState,
) -> Result<(), Failure> {
    for location in before.difference(&alerted_locations(state)) {
        registry.end_location_alert(tenant, location).await?;
    }
    Ok(())
}

/// Returns the failure as text, with the name of the list if it is known and the failure does not contain it.
fn failure_text(loaded: &Loaded, location: &LocationKey, failure: &Failure) -> String {
    let text = failure.to_string();
    let remembered = loaded.pass.state.locations.get(location);
    let name = remembered
        .map(|stored| &stored.name)
        .or_else(|| loaded.locations.get(location).map(|described| &described.name));
    match name {
        Some(name) if !text.contains(name.as_str()) => format!("the list \"{name}\": {text}"),
        Some(_) | None => text,
    }
}
