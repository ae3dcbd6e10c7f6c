//! The alert about deletions that are held back.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record;
use tasksync_common::plan::{HeldDeletions, Side, held_digest};
use tasksync_common::registry::{Alert, DeletionPermit, Registry};

use super::load::Loaded;

/// Raises the alert for held deletions, or ends it if nothing is held any more.
pub(super) async fn raise_or_end_alert(
    registry: &dyn Registry,
    loaded: &Loaded,
    held_deletions: &[HeldDeletions],
) -> Result<(), Failure> {
    let user = &loaded.user;
    if held_deletions.is_empty() {
        if !loaded.pass.saved().held.is_empty() {
            registry
                .end_alert(&user.tenant, Some(&user.user), Code::GuardHeld)
                .await?;
        }
        return Ok(());
    }
    record::guard_refusal();
    for deletions in held_deletions {
        let side = match deletions.side {
            Side::Source => record::Side::Source,
            Side::Mailbox => record::Side::Mailbox,
        };
        record::held_deletions(side, deletions.keys.len());
    }
    let permit = registry.deletion_permit(user).await?;
    let detail = alert_detail(
        held_deletions,
        permit.filter(|permit| permit.until > loaded.started).as_ref(),
    );
    tracing::warn!(tenant = %user.tenant, user = %user.user, code = %Code::GuardHeld, detail, "deletions held back");
    let alert = Alert {
        since: loaded.started,
        tenant: user.tenant.clone(),
        user: Some(user.user.clone()),
        location: None,
        failure: Failure::new(ErrorClass::Refused, Code::GuardHeld, detail),
        evidence: serde_json::to_value(held_deletions).ok(),
    };
    registry.raise_alert(&alert).await.map(|_| ())
}

/// Returns the alert's text: what is held, the plan's name, and why an existing permit does not release it.
fn alert_detail(held_deletions: &[HeldDeletions], permit: Option<&DeletionPermit>) -> String {
    let plan = held_digest(held_deletions);
    let sentences: Vec<String> = held_deletions.iter().map(describe).collect();
    let useless_permit = permit.map_or_else(String::new, |permit| {
        format!(
            "; the permit for plan {} released nothing, because other deletions are held now than it names",
            permit.plan
        )
    });
    format!("{}; plan {plan}{useless_permit}", sentences.join("; "))
}

fn describe(deletions: &HeldDeletions) -> String {
    let (count, of) = (deletions.keys.len(), deletions.of);
    let what = match deletions.side {
        Side::Source => {
            format!("{count} of {of} tasks are gone from the mailbox and would be deleted at the source")
        }
        Side::Mailbox => {
            format!("{count} of {of} tasks are gone from the source and would be removed from the mailbox")
        }
    };
    if deletions.emptied.is_empty() {
        what
    } else {
        format!("{what}, which empties {} of its folders", deletions.emptied.len())
    }
}
