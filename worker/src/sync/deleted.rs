//! Finding copies that the person deleted while a write of tasksync was interrupted.

use std::collections::BTreeSet;

use tasksync_common::error::{ErrorClass, Failure, Stops};
use tasksync_common::model::SourceKey;
use tasksync_common::state::Writing;

use super::mailbox_reader::MailboxReader;
use super::markers::{MarkerOwnership, ownership_of};
use crate::mailbox::DeletedItem;

impl MailboxReader<'_> {
    /// For interrupted writes whose item is missing, looks in the deleted items: finding the write's id there
    /// proves that the item was written and then deleted by the person.
    pub(super) async fn find_deleted(&mut self) -> Result<(), Failure> {
        let missed: BTreeSet<SourceKey> = self.interrupted_and_missing().into_iter().cloned().collect();
        if missed.is_empty() || !self.mailbox.capabilities().deleted_items {
            return Ok(());
        }
        // Ask a second time for what one answer leaves out or refuses.
        for _ in 0..2 {
            match self.mailbox.list_deleted(self.owner).await {
                Ok(found) => self.note_deleted(found, &missed),
                // Without access to the deleted items nothing is proved: the copy is made again.
                Err(failure) if failure.class == ErrorClass::Refused && failure.stops() != Stops::Tenant => {
                    tracing::info!(mailbox = %self.owner.mailbox, code = %failure.code, detail = %failure.detail,
                        "the deleted items cannot be read; a copy that the user deleted during an interrupted write is made again");
                }
                Err(failure) => return Err(failure),
            }
            if missed.iter().all(|key| self.reading.deleted.contains_key(key)) {
                break;
            }
        }
        Ok(())
    }

    /// Records the write ids of the deleted copies of these tasks.
    fn note_deleted(&mut self, found: Vec<DeletedItem>, missed: &BTreeSet<SourceKey>) {
        for item in found {
            let is_ours = !matches!(
                ownership_of(&item.marker, self.owner),
                MarkerOwnership::Foreign(_)
            );
            if is_ours && missed.contains(&item.marker.key) {
                self.reading
                    .deleted
                    .entry(item.marker.key)
                    .or_default()
                    .push(item.write_id);
            }
        }
    }

    /// Returns the tasks whose write into the mailbox was interrupted and whose item is not where it should
    /// be. A parked task is skipped, except in a full check or when either side reports it.
    fn interrupted_and_missing(&self) -> BTreeSet<&SourceKey> {
        let (state, reading) = (&*self.state, &self.reading);
        let is_there = |key: &SourceKey| {
            let linked = state.links.get(key);
            reading.items.contains_key(key)
                || linked.is_some_and(|link| {
                    !link.has_lost_its_folder() && !reading.missing_from_folder.contains(key)
                })
        };
        let is_looked_at = |key: &SourceKey| {
            self.full
                || !state.parked.contains_key(key)
                || reading.missing_from_folder.contains(key)
                || self.source.tasks.contains_key(key)
        };
        state
            .writing
            .iter()
            .filter(|(key, writing)| match writing {
                Writing::Source { .. } => false,
                Writing::Mailbox { .. } => is_looked_at(key) && !is_there(key),
            })
            .map(|(key, _)| key)
            .collect()
    }
}
