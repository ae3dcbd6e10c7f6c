//! The alert about deletions that are held back.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record;
use tasksync_common::plan::{Held, Side, held_digest};
use tasksync_common::registry::{Alert, DeletionPermit, Registry};

use super::load::Loaded;

/// Raises the alert for held deletions, or ends it if nothing is held any more.
pub(super) async fn tell(registry: &dyn Registry, loaded: &Loaded, held: &[Held]) -> Result<(), Failure> {
    let user = &loaded.user;
    if held.is_empty() {
        if !loaded.pass.saved().held.is_empty() {
            registry
                .end_alert(&user.tenant, Some(&user.user), Code::GuardHeld)
                .await?;
        }
        return Ok(());
    }
    record::refusal();
    for held in held {
        let side = match held.side {
            Side::Source => record::Side::Source,
            Side::Mailbox => record::Side::Mailbox,
        };
        record::held(side, held.keys.len());
    }
    let permit = registry.deletion_permit(user).await?;
    let detail = detail(
        held,
        permit.filter(|permit| permit.until > loaded.started).as_ref(),
    );
    tracing::warn!(tenant = %user.tenant, user = %user.user, code = %Code::GuardHeld, detail, "deletions held back");
    let alert = Alert {
        since: loaded.started,
        tenant: user.tenant.clone(),
        user: Some(user.user.clone()),
        location: None,
        failure: Failure::new(ErrorClass::Refused, Code::GuardHeld, detail),
        evidence: serde_json::to_value(held).ok(),
    };
    registry.raise_alert(&alert).await.map(|_| ())
}

/// Returns the alert's text: what is held, the plan's name, and why an existing permit does not release it.
fn detail(held: &[Held], permit: Option<&DeletionPermit>) -> String {
    let plan = held_digest(held);
    let sentences: Vec<String> = held.iter().map(sentence).collect();
    let mut detail = format!("{}; plan {plan}", sentences.join("; "));
    if let Some(permit) = permit {
        detail.push_str(&format!(
            "; the permit for plan {} released nothing, because other deletions are held now than it names",
            permit.plan
        ));
    }
    detail
}

fn sentence(held: &Held) -> String {
    let (count, of) = (held.keys.len(), held.of);
    let what = match held.side {
        Side::Source => {
            format!("{count} of {of} tasks are gone from the mailbox and would be deleted at the source")
        }
        Side::Mailbox => {
            format!("{count} of {of} tasks are gone from the source and would be removed from the mailbox")
        }
    };
    if held.emptied.is_empty() {
        what
    } else {
        format!("{what}, which empties {} of its folders", held.emptied.len())
    }
}
