//! Copies a person deleted before what tasksync wrote into them was remembered: looked for in the deleted items.

use std::collections::BTreeSet;

use tasksync_common::error::{ErrorClass, Failure, Stops};
use tasksync_common::model::SourceKey;
use tasksync_common::state::{SyncState, Writing};

use super::mailbox_side::MailboxReading;
use super::{SyncEngine, TenantContext};
use crate::mailbox::Owner;

impl SyncEngine {
    /// Looks in the deleted items for what was being written when a pass was cut off and is not where it should be. Only there
    /// does it show that it was written at all, and so that its absence is the person's wish.
    pub(super) async fn find_deleted(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let missed = missed(state, reading);
        if missed.is_empty() {
            return Ok(());
        }
        let found = match context.connections.mailbox.deleted(owner).await {
            Ok(found) => found,
            // Where tasksync may not look, nothing is known: the copy is made again.
            Err(failure) if failure.class == ErrorClass::Refused && failure.stops() != Stops::Tenant => {
                tracing::info!(mailbox = %owner.mailbox, code = %failure.code, detail = %failure.detail,
                    "the deleted items cannot be read; a copy that was deleted while tasksync was cut off is made again");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        for item in found.into_iter().filter(|item| missed.contains(&item.marker.key)) {
            reading
                .deleted
                .entry(item.marker.key)
                .or_default()
                .push(item.write_id);
        }
        Ok(())
    }
}

/// Tasks of which a write into the mailbox was cut off and whose item is not where it should be.
fn missed<'a>(state: &'a SyncState, reading: &MailboxReading) -> BTreeSet<&'a SourceKey> {
    let is_there = |key: &SourceKey| {
        let linked = state.links.get(key);
        reading.items.contains_key(key)
            || linked.is_some_and(|link| !link.has_lost_its_folder() && !reading.gone.contains(key))
    };
    state
        .writing
        .iter()
        .filter(|(key, writing)| match writing {
            Writing::Source { .. } => false,
            Writing::Mailbox { .. } => !is_there(key),
        })
        .map(|(key, _)| key)
        .collect()
}
