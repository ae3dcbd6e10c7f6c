//! Pauses that a tenant's servers asked for, and how an operator ends them.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::fleet::ServerName;
use tasksync_common::model::{TenantId, UserKey};
use tasksync_common::registry::Tenant;
use tasksync_common::schedule::UserStatus;

use crate::parts::ServiceParts;

/// Users read per page, and looked up at a time.
const PAGE: usize = 500;
const AT_ONCE: usize = 16;

/// A server that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TenantPause {
    /// Host and port.
    pub(crate) server: String,
    /// The service on it, as metrics name it.
    pub(crate) service: &'static str,
    /// The account whose requests are paused.
    pub(crate) account: String,
    /// When the server asked for the pause; `None` if a worker of an earlier build reported it.
    pub(crate) since: Option<Timestamp>,
    /// No request is sent before this time.
    pub(crate) until: Timestamp,
    /// The tenant whose request got this answer. It can be another one where two tenants share the account.
    pub(crate) met_by: Option<TenantId>,
    /// The server's answer.
    pub(crate) why: Option<String>,
}

/// Returns the tenant's servers that are paused now.
///
/// # Errors
/// The fleet store's failure when it does not answer.
pub(crate) async fn pauses_of_tenant(
    parts: &ServiceParts,
    tenant: &Tenant,
) -> Result<Vec<TenantPause>, Failure> {
    let servers = ServerName::of_tenant(tenant);
    let pauses = parts.fleet.pauses(&servers).await?;
    Ok(servers
        .into_iter()
        .zip(pauses)
        .filter_map(|(server, pause)| {
            let pause = pause?;
            Some(TenantPause {
                service: server.service(),
                server: server.host,
                account: server.account,
                since: pause.since,
                until: pause.until,
                met_by: pause.tenant,
                why: pause.why,
            })
        })
        .collect())
}

/// What ending pauses did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct EndedPauses {
    /// Pauses that were ended.
    pub(crate) ended: usize,
    /// Users who were put off because of them and are due now.
    pub(crate) due: u64,
}

/// Ends the pauses of these servers, and makes all users of the tenant due who were put off because of one.
///
/// # Errors
/// A store's failure when it does not answer. Pauses that were ended stay ended.
pub(crate) async fn end_pauses(
    parts: &ServiceParts,
    tenant: &TenantId,
    servers: &[ServerName],
) -> Result<EndedPauses, Failure> {
    let ended = parts.fleet.end_pauses(servers).await?;
    if ended == 0 {
        return Ok(EndedPauses { ended, due: 0 });
    }
    // Every worker learns of the end with its next exchange. A user tried before that would be put off until the old
    // end.
    tokio::time::sleep(parts.settings.schedule.heartbeat_interval * 2).await;
    let due = make_waiting_due(parts, tenant).await?;
    Ok(EndedPauses { ended, due })
}

/// Makes all users of the tenant due whom a pause put off. Returns how many.
async fn make_waiting_due(parts: &ServiceParts, tenant: &TenantId) -> Result<u64, Failure> {
    let schedule = &*parts.schedule;
    let mut due = 0;
    let mut after = None;
    loop {
        let page = schedule.users(tenant, after.as_ref(), PAGE).await?;
        let made_due: Vec<bool> = futures::stream::iter(page.names)
            .map(|user| {
                let key = UserKey::new(tenant.clone(), user);
                async move {
                    match schedule.status(&key).await? {
                        Some(status) if was_put_off(&status) => schedule.make_due(&key).await,
                        Some(_) | None => Ok(false),
                    }
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        due += made_due.into_iter().filter(|made_due| *made_due).count() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(due);
        }
    }
}

/// Returns true if the user's last attempt met a pause.
fn was_put_off(status: &UserStatus) -> bool {
    let class = status.last_failure.as_ref().map(|failure| &failure.class);
    !status.claimed && matches!(class, Some(ErrorClass::Throttled { .. }))
}
