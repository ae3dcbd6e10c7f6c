//! Copies that were deleted while a write of tasksync was cut off.

use std::collections::BTreeSet;

use tasksync_common::error::{ErrorClass, Failure, Stops};
use tasksync_common::model::SourceKey;
use tasksync_common::state::{SyncState, Writing};

use super::mailbox_reader::MailboxReader;
use super::mailbox_reading::MailboxReading;
use super::markers::{Whose, whose};

impl MailboxReader<'_> {
    /// For interrupted writes whose item is missing, looks in the deleted items: finding the write's id there proves that the
    /// item was written and then deleted by the person.
    pub(super) async fn find_deleted(&mut self) -> Result<(), Failure> {
        let missed: BTreeSet<SourceKey> = missed(self.state, &self.reading, self.full)
            .into_iter()
            .cloned()
            .collect();
        if missed.is_empty() || !self.mailbox.capabilities().deleted_items {
            return Ok(());
        }
        let found = match self.mailbox.deleted(self.owner).await {
            Ok(found) => found,
            // Where tasksync may not look, nothing is known: the copy is made again.
            Err(failure) if failure.class == ErrorClass::Refused && failure.stops() != Stops::Tenant => {
                tracing::info!(mailbox = %self.owner.mailbox, code = %failure.code, detail = %failure.detail,
                    "the deleted items cannot be read; a copy that was deleted while tasksync was cut off is made again");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        for item in found {
            let ours = !matches!(whose(&item.marker, self.owner), Whose::Foreign(_));
            if ours && missed.contains(&item.marker.key) {
                self.reading
                    .deleted
                    .entry(item.marker.key)
                    .or_default()
                    .push(item.write_id);
            }
        }
        Ok(())
    }
}

/// Tasks of which a write into the mailbox was cut off and whose item is not where it should be. Refused writes are left alone
/// until their tasks are looked at again.
fn missed<'a>(state: &'a SyncState, reading: &MailboxReading, full: bool) -> BTreeSet<&'a SourceKey> {
    let is_there = |key: &SourceKey| {
        let linked = state.links.get(key);
        reading.items.contains_key(key)
            || linked.is_some_and(|link| !link.has_lost_its_folder() && !reading.gone.contains(key))
    };
    state
        .writing
        .iter()
        .filter(|(key, _)| full || !state.parked.contains_key(*key))
        .filter(|(key, writing)| match writing {
            Writing::Source { .. } => false,
            Writing::Mailbox { .. } => !is_there(key),
        })
        .map(|(key, _)| key)
        .collect()
}
