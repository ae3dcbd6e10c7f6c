//! Reading the mailbox's side of one user.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::{FieldSet, LocationKey, SourceKey};
use tasksync_common::state::{LocationState, Signs, SyncState};
use tokio::time::Instant;

use super::source_side::SourceReading;
use super::{SyncEngine, TenantContext, in_time};
use crate::mailbox::{FolderId, ItemChange, MailboxItem, Owner, ProbeRequest, Probed};
use crate::source::Presence;

/// Most pages of changes read of one folder in one pass; at 512 items a page this is half a million items.
const MAXIMUM_PAGES: usize = 1_000;

/// How far a folder was read in this pass; stored when everything was applied.
pub(super) struct Reached {
    pub(super) cursor: String,
    pub(super) signs: Option<Signs>,
}

/// Whether a folder lies under another folder than before: perhaps in the deleted items, where it keeps its id.
fn moved_away(state: &SyncState, signs: &BTreeMap<String, Option<Signs>>) -> bool {
    state.locations.values().any(|place| {
        let now = signs.get(&place.folder).copied().flatten();
        matches!((now, place.signs), (Some(now), Some(before)) if now.parent != before.parent)
    })
}

/// The mailbox's side as far as it was read.
#[derive(Default)]
pub(super) struct MailboxReading {
    /// Items with our key that were read, by key.
    pub(super) items: BTreeMap<SourceKey, Vec<MailboxItem>>,
    /// Linked items that are not in their folder any more.
    pub(super) gone: BTreeSet<SourceKey>,
    /// Ids of tasksync's last writes into items that lie in the deleted items, by key, when they were looked for.
    pub(super) deleted: BTreeMap<SourceKey, Vec<String>>,
    /// A folder is gone.
    pub(super) folder_vanished: bool,
    /// Folders of the items that were listed, by the items' ids.
    pub(super) places: BTreeMap<String, String>,
    /// Fresh copies that were shown by their folder, or were looked for by id.
    pub(super) confirmed: BTreeSet<SourceKey>,
    /// Every task folder below the mailbox's own, when they were listed.
    pub(super) task_folders: Option<Vec<FolderId>>,
    /// How far each folder was read.
    pub(super) reached: BTreeMap<LocationKey, Reached>,
}

impl MailboxReading {
    /// Tasks something is known of.
    pub(super) fn keys(&self) -> impl Iterator<Item = &SourceKey> {
        self.items.keys().chain(&self.gone)
    }

    /// Tasks the source has to be asked about: unlinked copies, refused ones, and whatever is missing here.
    pub(super) fn questions_for_source(
        &self,
        state: &SyncState,
        known: &BTreeMap<SourceKey, Presence>,
    ) -> BTreeSet<SourceKey> {
        // Of a refused task the source may hold a change that was never carried over.
        let open = |key: &&SourceKey| !state.links.contains_key(*key) || state.parked.contains_key(*key);
        self.items
            .keys()
            .filter(open)
            .chain(&self.gone)
            .chain(lost_with_their_folder(state))
            .filter(|key| !known.contains_key(*key))
            .cloned()
            .collect()
    }

    /// Whether a linked item left its folder and was not met in another one, or one task was met twice: either may
    /// come from a move while the folders were read one after the other.
    fn is_doubtful(&self) -> bool {
        let missed = self.gone.iter().any(|key| !self.items.contains_key(key));
        missed || self.items.values().any(|items| items.len() > 1)
    }

    /// Items that are not in the folder any more in which they were read.
    fn drop_gone(&mut self, gone: &BTreeSet<String>) {
        for id in gone {
            self.places.remove(id);
        }
        self.drop_items(|id| gone.contains(id));
    }

    /// Items that were read in a folder that went since.
    fn drop_folder(&mut self, folder: &str) {
        self.folder_vanished = true;
        let places = std::mem::take(&mut self.places);
        self.drop_items(|id| places.get(id).is_some_and(|place| place == folder));
        self.places = places;
    }

    fn drop_items(&mut self, dropped: impl Fn(&String) -> bool) {
        for items in self.items.values_mut() {
            items.retain(|item| !dropped(&item.item.id));
        }
        self.items.retain(|_, items| !items.is_empty());
    }
}

/// Linked items whose folder is gone.
pub(super) fn lost_with_their_folder(state: &SyncState) -> impl Iterator<Item = &SourceKey> {
    state
        .links
        .iter()
        .filter(|(_, link)| link.has_lost_its_folder())
        .map(|(key, _)| key)
}

impl SyncEngine {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one fact the survey or the source found out"
    )]
    pub(super) async fn read_mailbox(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &mut SyncState,
        source: &SourceReading,
        mut signs: BTreeMap<String, Option<Signs>>,
        full: bool,
        folder_gone: bool,
        deadline: Instant,
    ) -> Result<MailboxReading, Failure> {
        let mut reading = MailboxReading::default();
        self.probe_unknown(context, owner, state, &mut signs).await?;
        let look_for_folders = full || folder_gone || moved_away(state, &signs);
        // A pending task may have a folder from a pass that was cut off before it was remembered.
        let present = source
            .tasks
            .iter()
            .filter(|(_, presence)| matches!(presence, Presence::Present(_)))
            .map(|(key, _)| key);
        let unknown_folder = present
            .chain(&state.pending)
            .any(|key| !state.locations.contains_key(&key.location()));
        if look_for_folders || unknown_folder {
            self.find_folders(context, owner, state, source, &mut reading)
                .await?;
        }
        self.probe_unknown(context, owner, state, &mut signs).await?;
        for (location, place) in state.locations.clone() {
            in_time(deadline)?;
            let now = signs.get(&place.folder).copied().flatten();
            let unmoved = now.is_some() && now == place.signs && place.cursor.is_some();
            if unmoved && !look_for_folders {
                continue;
            }
            self.read_folder(context, owner, state, &location, &place, now, &mut reading)
                .await?;
        }
        if reading.is_doubtful() {
            // Among all folders of ours, also one that a pass which was cut off left behind.
            self.find_folders(context, owner, state, source, &mut reading)
                .await?;
            self.look_again(context, owner, state, &signs, &mut reading, deadline)
                .await?;
        }
        self.read_by_id(context, owner, state, source, &mut reading)
            .await?;
        in_time(deadline)?;
        self.find_moved(context, owner, state, source, full, &mut reading)
            .await?;
        self.find_deleted(context, owner, state, &mut reading).await?;
        if reading.folder_vanished {
            // What is missing elsewhere may have been moved into that folder before.
            reading.gone.retain(|key| {
                let met = reading.items.contains_key(key);
                if !met && let Some(link) = state.links.get_mut(key) {
                    link.lose_folder();
                }
                met
            });
        }
        Ok(reading)
    }

    /// Reads what changed in the folders meanwhile.
    async fn look_again(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &mut SyncState,
        signs: &BTreeMap<String, Option<Signs>>,
        reading: &mut MailboxReading,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for (location, mut place) in state.locations.clone() {
            in_time(deadline)?;
            let mut before = signs.get(&place.folder).copied().flatten();
            if let Some(reached) = reading.reached.get(&location) {
                place.cursor = Some(reached.cursor.clone());
                before = reached.signs;
            }
            self.read_folder(context, owner, state, &location, &place, before, reading)
                .await?;
        }
        Ok(())
    }

    /// Lists our folders: finds those of known locations again by their marker, and notices those that are gone.
    async fn find_folders(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &mut SyncState,
        source: &SourceReading,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let mut found: BTreeMap<LocationKey, (String, String)> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let listed = context.connections.mailbox.folders(owner).await?;
        reading.task_folders = Some(listed.iter().map(|folder| folder.id.clone()).collect());
        for folder in listed {
            ids.insert(folder.id.0.clone());
            if let Some(location) = folder.marker.map(|marker| marker.key) {
                // Two folders with one marker: always the same one is taken.
                let candidate = (folder.id.0, folder.name);
                found
                    .entry(location)
                    .and_modify(|kept| *kept = candidate.clone().min(kept.clone()))
                    .or_insert(candidate);
            }
        }
        let lost: Vec<(LocationKey, String)> = state
            .locations
            .iter()
            .filter(|(_, place)| !ids.contains(&place.folder))
            .map(|(location, place)| (location.clone(), place.folder.clone()))
            .collect();
        for (location, folder) in lost {
            state.forget_folder(&location);
            reading.drop_folder(&folder);
        }
        for (location, (folder, name)) in found {
            let holds = source
                .locations
                .get(&location)
                .map_or(FieldSet::ALL, |known| known.holds);
            state.locations.entry(location).or_insert(LocationState {
                name,
                holds,
                folder,
                cursor: None,
                signs: None,
            });
        }
        Ok(())
    }

    /// Signs are taken before a folder is read, so that what happens meanwhile is noticed the next time.
    async fn probe_unknown(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        signs: &mut BTreeMap<String, Option<Signs>>,
    ) -> Result<(), Failure> {
        let folders: Vec<FolderId> = state
            .locations
            .values()
            .filter(|place| !signs.contains_key(&place.folder))
            .map(|place| FolderId(place.folder.clone()))
            .collect();
        if folders.is_empty() {
            return Ok(());
        }
        let request = ProbeRequest {
            mailbox: owner.mailbox.clone(),
            folders: folders.clone(),
        };
        let Some(answer) = context.connections.mailbox.probe(&[request]).await.pop() else {
            return Ok(());
        };
        for (folder, probed) in folders.into_iter().zip(answer?) {
            let now = match probed {
                Probed::Signs(now) => Some(now),
                Probed::Gone | Probed::Unknown => None,
            };
            signs.insert(folder.0, now);
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the folder, where it stands, and where the findings go"
    )]
    async fn read_folder(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &mut SyncState,
        location: &LocationKey,
        place: &LocationState,
        signs: Option<Signs>,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let folder = FolderId(place.folder.clone());
        let mut complete = place.cursor.is_none();
        let mut changes = self
            .all_changes(context, owner, &folder, place.cursor.clone())
            .await;
        if matches!(&changes, Err(failure) if failure.class == ErrorClass::CursorInvalid) {
            complete = true;
            changes = self.all_changes(context, owner, &folder, None).await;
        }
        let (present, gone, cursor) = match changes {
            Ok(changes) => changes,
            Err(failure) if failure.class == ErrorClass::Gone => {
                // The folder went between the probe and now.
                state.forget_folder(location);
                reading.drop_folder(&folder.0);
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        reading.drop_gone(&gone);
        let listed = present.keys().map(|id| (id.clone(), place.folder.clone()));
        reading.places.extend(listed);
        let linked: HashMap<&str, (&SourceKey, &str)> = state
            .links
            .iter()
            .map(|(key, link)| (link.item.as_str(), (key, link.change_key.as_str())))
            .collect();
        reading.gone.extend(
            gone.iter()
                .filter_map(|id| linked.get(id.as_str()))
                .map(|(key, _)| (*key).clone()),
        );
        let unread: Vec<String> = present
            .iter()
            .filter(|(id, change_key)| {
                linked
                    .get(id.as_str())
                    .is_none_or(|(_, agreed)| agreed != change_key)
            })
            .map(|(id, _)| id.clone())
            .collect();
        self.read_items(context, owner, state, &unread, reading).await?;
        if complete {
            self.missing_from_listing(context, owner, state, (location, &folder), &present, reading)
                .await?;
        } else {
            self.fresh_in_listing(context, owner, state, location, &present, reading)
                .await?;
        }
        let fresh = state.fresh.iter().filter(|key| key.location() == *location);
        reading.confirmed.extend(fresh.cloned());
        reading
            .reached
            .insert(location.clone(), Reached { cursor, signs });
        Ok(())
    }

    /// Every change of a folder: items present with their versions, ids gone, and the position reached.
    async fn all_changes(
        &self,
        context: &TenantContext,
        owner: &Owner,
        folder: &FolderId,
        mut cursor: Option<String>,
    ) -> Result<(BTreeMap<String, String>, BTreeSet<String>, String), Failure> {
        let (mut present, mut gone) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..MAXIMUM_PAGES {
            let page = context
                .connections
                .mailbox
                .changes(owner, folder, cursor.as_deref())
                .await?;
            for change in page.changes {
                match change {
                    ItemChange::Present(item) => {
                        gone.remove(&item.id);
                        present.insert(item.id, item.change_key);
                    }
                    ItemChange::Gone { id } => {
                        present.remove(&id);
                        gone.insert(id);
                    }
                }
            }
            if page.last {
                return Ok((present, gone, page.cursor));
            }
            if cursor.as_ref() == Some(&page.cursor) {
                break;
            }
            cursor = Some(page.cursor);
        }
        Err(Failure::new(
            ErrorClass::Transient,
            Code::ExchangeBadAnswer,
            format!(
                "the changes of a folder of {} do not come to an end",
                owner.mailbox
            ),
        ))
    }

    /// Linked items that a complete listing of their folder does not show are asked for by id.
    async fn missing_from_listing(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        (location, folder): (&LocationKey, &FolderId),
        present: &BTreeMap<String, String>,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let missing: Vec<String> = state
            .links_in(location, &folder.0)
            .filter(|(_, link)| !link.has_lost_its_folder() && !present.contains_key(&link.item))
            .map(|(_, link)| link.item.clone())
            .collect();
        self.read_items(context, owner, state, &missing, reading).await
    }

    /// Fresh copies that the changes of their folder do not show are asked for by id: they may be gone already.
    async fn fresh_in_listing(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        location: &LocationKey,
        present: &BTreeMap<String, String>,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let missing: Vec<String> = state
            .fresh
            .iter()
            .filter(|key| key.location() == *location && !reading.gone.contains(*key))
            .filter_map(|key| state.links.get(key))
            .filter(|link| !present.contains_key(&link.item))
            .map(|link| link.item.clone())
            .collect();
        self.read_items(context, owner, state, &missing, reading).await
    }

    /// Pending, held and unsettled tasks are looked at whatever the folders report; refused ones when the source
    /// reports them; and those of which another item turned up, which is a copy only if the linked one is still there.
    async fn read_by_id(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        source: &SourceReading,
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        let wanted = |key: &SourceKey| {
            state.pending.contains(key)
                || state.held.contains(key)
                || (state.parked.contains_key(key) && source.tasks.contains_key(key))
                || reading.items.contains_key(key)
        };
        let ids: Vec<String> = state
            .links
            .iter()
            .filter(|(key, link)| wanted(key) || link.is_unsettled())
            .filter(|(key, link)| !link.has_lost_its_folder() && !reading.gone.contains(*key))
            .filter(|(key, link)| {
                !reading
                    .items
                    .get(*key)
                    .is_some_and(|items| items.iter().any(|item| item.item.id == link.item))
            })
            .map(|(_, link)| link.item.clone())
            .collect();
        self.read_items(context, owner, state, &ids, reading).await
    }

    /// Reads items and sorts them by the task they stand for; the person's own are left alone.
    pub(super) async fn read_items(
        &self,
        context: &TenantContext,
        owner: &Owner,
        state: &SyncState,
        ids: &[String],
        reading: &mut MailboxReading,
    ) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let linked: HashMap<&str, &SourceKey> = state
            .links
            .iter()
            .map(|(key, link)| (link.item.as_str(), key))
            .collect();
        // Of an item that is read twice in one pass the later values count.
        let again: HashSet<&String> = ids.iter().collect();
        reading.drop_items(|id| again.contains(id));
        let answers = context.connections.mailbox.items(owner, ids).await?;
        for (id, answer) in ids.iter().zip(answers) {
            let link = linked.get(id.as_str()).map(|key| (*key).clone());
            match (answer, link) {
                (Ok(item), link) => {
                    // A linked item keeps its task even if somebody's program dropped the property.
                    if let Some(key) = item.marker.as_ref().map(|marker| marker.key.clone()).or(link) {
                        reading.items.entry(key).or_default().push(item);
                    }
                }
                (Err(failure), Some(key)) if failure.class == ErrorClass::Gone => {
                    reading.gone.insert(key);
                }
                (Err(failure), _) if failure.class == ErrorClass::Gone => {}
                (Err(failure), link)
                    if failure.class == ErrorClass::Refused && failure.stops() == Stops::Part =>
                {
                    // One damaged item must not stop the others; it is met again when it changes.
                    tracing::warn!(mailbox = %owner.mailbox, task = link.as_ref().map_or("", SourceKey::as_str),
                        code = %failure.code, detail = %failure.detail, "mailbox item cannot be read");
                }
                (Err(failure), _) => return Err(failure),
            }
        }
        Ok(())
    }
}
