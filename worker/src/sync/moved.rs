//! Items the person moved out of their folders: looked for by their key before anything is believed gone.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::Failure;
use tasksync_common::model::SourceKey;
use tasksync_common::state::SyncState;

use super::mailbox_side::MailboxReading;
use super::source_side::SourceReading;
use super::{SyncEngine, TenantContext};
use crate::mailbox::{FolderId, Owner, PlacedItem};
use crate::source::Presence;

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
            found.entry(item.key.clone()).or_default().push(item);
        }
        let mut unread = Vec::new();
        for key in missing {
            let places = found.remove(&key).unwrap_or_default();
            unread.extend(settle(state, reading, &key, &places, &folders));
        }
        self.read_items(context, owner, state, &unread, reading).await
    }
}

fn missing(
    state: &SyncState,
    source: &SourceReading,
    full: bool,
    reading: &MailboxReading,
) -> BTreeSet<SourceKey> {
    let moved = state
        .elsewhere
        .keys()
        .filter(|key| state.links.contains_key(*key));
    let mut missing: BTreeSet<SourceKey> = reading
        .gone
        .iter()
        .chain(&reading.folder_gone)
        .chain(moved)
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
    let link = state.links.get(key);
    let linked = link.and_then(|link| places.iter().find(|place| place.item.id == link.item));
    let unread = match (link, linked) {
        (Some(link), Some(place)) => {
            reading.gone.remove(key);
            reading.folder_gone.remove(key);
            let changed = place.item.change_key != link.change_key;
            changed.then(|| place.item.id.clone()).into_iter().collect()
        }
        (Some(_), None) => {
            // A folder that went says nothing about the wishes for the tasks in it.
            let folder_went = match state.elsewhere.get(key) {
                Some(Some(folder)) => !folders.iter().any(|known| known.0 == *folder),
                Some(None) | None => false,
            };
            if folder_went {
                reading.folder_gone.insert(key.clone());
            } else if !reading.folder_gone.contains(key) {
                reading.gone.insert(key.clone());
            }
            places.iter().map(|place| place.item.id.clone()).collect()
        }
        (None, _) => places.iter().map(|place| place.item.id.clone()).collect(),
    };
    // Of several the oldest stands for the task, unless one is linked.
    if let Some(place) = linked.or_else(|| places.first()) {
        let home = state
            .locations
            .get(&key.location())
            .map(|place| place.folder.as_str());
        let folder = place.folder.as_ref().map(|folder| folder.0.clone());
        if folder.is_some() && folder.as_deref() == home {
            state.elsewhere.remove(key);
        } else {
            state.elsewhere.insert(key.clone(), folder);
        }
    }
    unread
}
