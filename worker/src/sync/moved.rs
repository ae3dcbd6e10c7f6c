//! Items the person moved out of their folders: looked for by their key before anything is believed gone.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::Failure;
use tasksync_common::model::SourceKey;
use tasksync_common::state::SyncState;

use super::mailbox_side::{MailboxReading, lost_with_their_folder};
use super::source_side::SourceReading;
use super::{SyncEngine, TenantContext};
use crate::mailbox::{FolderId, Owner, PlacedItem};
use crate::source::Presence;

/// Stands for the mailbox's own task folder where a folder's id is remembered; no real id is this short.
const TASKS_FOLDER: &str = "tasks";

impl SyncEngine {
    /// Looks in every task folder for items whose whereabouts are not known: reported as gone, moved earlier, or, in a
    /// full comparison, of tasks that have no link. What lies in the deleted items is not found, and so is gone.
    pub(super) async fn find_moved(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &mut SyncState,
        source: &SourceReading,
        full: bool,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let missing = missing(state, source, full, reading);
        if missing.is_empty() {
            return Ok(());
        }
        let mailbox = &context.connections.mailbox;
        let folders: Vec<FolderId> = match reading.task_folders.take() {
            Some(folders) => folders,
            None => mailbox
                .folders(owner)
                .await?
                .into_iter()
                .map(|folder| folder.id)
                .collect(),
        };
        let mut found: BTreeMap<SourceKey, Vec<PlacedItem>> = BTreeMap::new();
        for item in mailbox.ours(owner, &folders).await? {
            found.entry(item.marker.key.clone()).or_default().push(item);
        }
        let mut unread = Vec::new();
        for key in missing {
            let places = found.remove(&key).unwrap_or_default();
            unread.extend(settle(state, reading, &key, &places, &folders));
        }
        self.read_items(context, owner, state, &unread, reading).await
    }
}

/// Tasks whose item is to be looked for.
fn missing(
    state: &SyncState,
    source: &SourceReading,
    full: bool,
    reading: &MailboxReading,
) -> BTreeSet<SourceKey> {
    let mut missing: BTreeSet<SourceKey> = reading
        .gone
        .iter()
        .chain(lost_with_their_folder(state))
        .filter(|key| !reading.items.contains_key(*key))
        .chain(state.outside())
        .cloned()
        .collect();
    if full {
        // After a loss of state a moved item would otherwise be created a second time.
        let unlinked = source.tasks.iter().filter(|(key, presence)| {
            matches!(presence, Presence::Present(_))
                && !state.links.contains_key(*key)
                && !reading.items.contains_key(*key)
        });
        missing.extend(unlinked.map(|(key, _)| key.clone()));
    }
    missing
}

/// Enters what the search said of one task; returns the ids to be read.
fn settle(
    state: &mut SyncState,
    reading: &mut MailboxReading,
    key: &SourceKey,
    places: &[PlacedItem],
    folders: &[FolderId],
) -> Vec<String> {
    let folder_of = |place: &PlacedItem| {
        place
            .folder
            .as_ref()
            .map_or_else(|| TASKS_FOLDER.to_owned(), |folder| folder.0.clone())
    };
    let found = places
        .iter()
        .map(|place| (place.item.id.clone(), folder_of(place)));
    reading.places.extend(found);
    let Some(link) = state.links.get_mut(key) else {
        return places.iter().map(|place| place.item.id.clone()).collect();
    };
    if let Some(place) = places.iter().find(|place| place.item.id == link.item) {
        reading.gone.remove(key);
        let changed = place.item.change_key != link.change_key;
        return changed.then(|| place.item.id.clone()).into_iter().collect();
    }
    // A folder that went says nothing about the wishes for the tasks in it.
    let folder_went = link
        .elsewhere
        .as_ref()
        .is_some_and(|folder| folder != TASKS_FOLDER && !folders.iter().any(|known| known.0 == *folder));
    if folder_went {
        link.lose_folder();
    } else if !link.has_lost_its_folder() {
        reading.gone.insert(key.clone());
    }
    places.iter().map(|place| place.item.id.clone()).collect()
}
