//! Telling people about lists and sites that cannot be read: one alert for each, however many people have tasks there.

use std::collections::BTreeSet;

use tasksync_common::error::{Code, Failure};
use tasksync_common::model::{LocationKey, TenantId};
use tasksync_common::registry::{Alert, Registry};
use tasksync_common::state::SyncState;

use super::load::Loaded;

/// Raises the alerts for what this pass could not read. What was unread before is raised again only in a full check, so that
/// an alert costs one write per person and full check.
pub(super) async fn tell(registry: &dyn Registry, loaded: &Loaded) -> Result<(), Failure> {
    let (reached, before) = (loaded.pass.reached(), &loaded.pass.saved().unread);
    for (location, failure) in &reached.unread {
        if !reached.full && before.contains_key(location) {
            continue;
        }
        let detail = naming(loaded, location, failure);
        tracing::warn!(tenant = %loaded.user.tenant, user = %loaded.user.user, %location, %failure, "a list cannot be read");
        let alert = Alert {
            since: loaded.started,
            tenant: loaded.user.tenant.clone(),
            user: None,
            location: Some(location.clone()),
            failure: Failure::new(failure.class, Code::ListUnreadable, detail),
            evidence: None,
        };
        registry.raise_alert(&alert).await?;
    }
    Ok(())
}

/// Ends the alerts about what a person of the tenant could not read `before` the pass and can read now. The first pass of anybody who
/// reads it ends it.
pub(super) async fn end(
    registry: &dyn Registry,
    tenant: &TenantId,
    before: &BTreeSet<LocationKey>,
    state: &SyncState,
) -> Result<(), Failure> {
    for location in before
        .iter()
        .filter(|location| !state.unread.contains_key(location))
    {
        registry.end_location_alert(tenant, location).await?;
    }
    Ok(())
}

/// Returns the failure in words, with the name of the list where it is remembered and the source did not say it.
fn naming(loaded: &Loaded, location: &LocationKey, failure: &Failure) -> String {
    let text = failure.to_string();
    match loaded.pass.state.locations.get(location) {
        Some(place) if !text.contains(&place.name) => format!("the list \"{}\": {text}", place.name),
        Some(_) | None => text,
    }
}
