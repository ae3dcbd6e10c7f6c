//! Reading both sides for one sync, step by step as the worker does it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::plan::{Absence, MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
use tasksync_common::state::{Link, LocationState, SyncState, Writing};

use crate::sync::Way;
use crate::world::{Item, World, holds};

/// Both sides as they were read.
pub(crate) struct Loaded {
    pub(crate) state: SyncState,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) source_cursor: usize,
    pub(crate) folders: BTreeMap<LocationKey, usize>,
}

#[derive(Default)]
struct Reading {
    items: BTreeMap<SourceKey, Vec<(u32, Item)>>,
    gone: BTreeSet<SourceKey>,
    deleted: BTreeMap<SourceKey, Vec<String>>,
    folder_vanished: bool,
    places: BTreeMap<u32, u32>,
    reached: BTreeMap<LocationKey, usize>,
}

impl Reading {
    fn drop_folder(&mut self, folder: u32) {
        self.folder_vanished = true;
        let places = self.places.clone();
        self.drop_items(|item| places.get(&item) == Some(&folder));
    }

    fn drop_items(&mut self, dropped: impl Fn(u32) -> bool) {
        for items in self.items.values_mut() {
            items.retain(|(item, _)| !dropped(*item));
        }
        self.items.retain(|_, items| !items.is_empty());
    }
}

/// Ids and folders are numbers here; an empty one is none.
pub(crate) fn id(text: &str) -> u32 {
    text.parse().unwrap_or(u32::MAX)
}

fn presence(world: &World, key: &SourceKey) -> SourceSide {
    match world.source.get(key) {
        Some(found) if found.assigned => SourceSide::Present(Box::new(SourceValue {
            version: found.version.to_string(),
            task: found.task.clone(),
            modified: Timestamp::from_second(found.modified).unwrap(),
            web_url: String::new(),
        })),
        Some(_) => SourceSide::Absent(Absence::NotAssigned),
        None => SourceSide::Absent(Absence::Deleted),
    }
}

/// Reads both sides.
pub(crate) fn load(world: &mut World, way: &Way) -> Loaded {
    let mut state = world.saved.clone().unwrap_or_default();
    let full = way.full || state.source_cursor.is_none();
    let source_cursor = world.source_log.len();
    let mut source: BTreeMap<SourceKey, SourceSide> = BTreeMap::new();
    if full {
        let assigned = world.source.iter().filter(|(_, task)| task.assigned);
        source.extend(assigned.map(|(key, _)| (key.clone(), presence(world, key))));
        source.extend(state.links.keys().map(|key| (key.clone(), presence(world, key))));
    } else {
        let from: usize = state.source_cursor.as_deref().unwrap().parse().unwrap();
        for key in &world.source_log[from..] {
            let side = presence(world, key);
            if matches!(side, SourceSide::Present(_)) || state.links.contains_key(key) {
                source.insert(key.clone(), side);
            }
        }
    }
    let unsettled = state.links.iter().filter(|(_, link)| link.is_unsettled());
    let unsettled: Vec<&SourceKey> = unsettled.map(|(key, _)| key).collect();
    for key in state.pending.iter().chain(&state.held).chain(unsettled) {
        source.insert(key.clone(), presence(world, key));
    }

    let mut reading = read_mailbox(world, way, full, &source, &mut state);

    let open = |key: &&SourceKey| !state.links.contains_key(*key) || state.parked.contains_key(*key);
    let lost = state.links.iter().filter(|(_, link)| link.has_lost_its_folder());
    let lost: BTreeSet<SourceKey> = lost.map(|(key, _)| key.clone()).collect();
    let questions = reading
        .items
        .keys()
        .filter(open)
        .chain(&reading.gone)
        .chain(&lost);
    for key in questions.cloned().collect::<Vec<_>>() {
        let side = presence(world, &key);
        source.entry(key).or_insert(side);
    }
    let keys: BTreeSet<SourceKey> = source
        .keys()
        .chain(reading.items.keys())
        .chain(&reading.gone)
        .chain(&lost)
        .chain(&state.pending)
        .chain(&state.held)
        .cloned()
        .collect();
    let pairs = keys
        .into_iter()
        .map(|key| pair(&key, &state, &source, &mut reading))
        .collect();
    Loaded {
        state,
        pairs,
        source_cursor,
        folders: reading.reached,
    }
}

fn read_mailbox(
    world: &mut World,
    way: &Way,
    full: bool,
    source: &BTreeMap<SourceKey, SourceSide>,
    state: &mut SyncState,
) -> Reading {
    let mut reading = Reading::default();
    let present = source
        .iter()
        .filter(|(_, side)| matches!(side, SourceSide::Present(_)))
        .map(|(key, _)| key);
    let unknown_folder = present
        .chain(&state.pending)
        .any(|key| !state.locations.contains_key(&key.location()));
    let folder_gone = state
        .locations
        .values()
        .any(|place| !world.folders.contains_key(&id(&place.folder)));
    if full || unknown_folder || folder_gone {
        find_folders(world, state, &mut reading);
    }
    if way.relist {
        for place in state.locations.values_mut() {
            place.cursor = None;
        }
    }
    let mut meanwhile = way.while_reading.as_ref();
    for (location, place) in state.locations.clone() {
        read_folder(world, state, &location, &place, &mut reading);
        if let Some(act) = meanwhile.take() {
            world.act(act);
        }
    }
    let missed = reading.gone.iter().any(|key| !reading.items.contains_key(key));
    let twice = reading.items.values().any(|items| items.len() > 1);
    if missed || twice {
        find_folders(world, state, &mut reading);
        for (location, mut place) in state.locations.clone() {
            if let Some(reached) = reading.reached.get(&location) {
                place.cursor = Some(reached.to_string());
            }
            read_folder(world, state, &location, &place, &mut reading);
        }
    }
    let wanted: Vec<u32> = state
        .links
        .iter()
        .filter(|(key, link)| {
            let reported = state.parked.contains_key(*key) && source.contains_key(*key);
            let another = reading.items.contains_key(*key);
            reported
                || another
                || state.pending.contains(*key)
                || state.held.contains(*key)
                || link.is_unsettled()
        })
        .filter(|(key, link)| {
            let read = reading.items.get(*key);
            !link.has_lost_its_folder()
                && !reading.gone.contains(*key)
                && !read.is_some_and(|items| items.iter().any(|(item, _)| *item == id(&link.item)))
        })
        .map(|(_, link)| id(&link.item))
        .collect();
    read_items(world, state, &wanted, &mut reading);
    find_deleted(world, state, &mut reading);
    if reading.folder_vanished {
        reading.gone.retain(|key| {
            let met = reading.items.contains_key(key);
            if !met && let Some(link) = state.links.get_mut(key) {
                link.lose_folder();
            }
            met
        });
    }
    reading
}

fn find_deleted(world: &World, state: &SyncState, reading: &mut Reading) {
    for (key, writing) in &state.writing {
        let linked = state.links.get(key);
        let linked = linked.is_some_and(|link| !link.has_lost_its_folder() && !reading.gone.contains(key));
        if matches!(writing, Writing::Mailbox { .. }) && !linked && !reading.items.contains_key(key) {
            let found = world.deleted.iter().filter(|(of, _)| of == key);
            let ids = found.map(|(_, id)| id.clone()).collect();
            reading.deleted.insert(key.clone(), ids);
        }
    }
}

fn find_folders(world: &World, state: &mut SyncState, reading: &mut Reading) {
    let lost: Vec<(LocationKey, u32)> = state
        .locations
        .iter()
        .filter(|(_, place)| !world.folders.contains_key(&id(&place.folder)))
        .map(|(location, place)| (location.clone(), id(&place.folder)))
        .collect();
    for (location, folder) in lost {
        state.forget_folder(&location);
        reading.drop_folder(folder);
    }
    for (folder, location) in &world.folders {
        state
            .locations
            .entry(location.clone())
            .or_insert_with(|| place(location, *folder));
    }
}

pub(crate) fn place(location: &LocationKey, folder: u32) -> LocationState {
    LocationState {
        name: String::new(),
        holds: holds(location),
        folder: folder.to_string(),
        cursor: None,
        signs: None,
    }
}

fn read_folder(
    world: &World,
    state: &mut SyncState,
    location: &LocationKey,
    place: &LocationState,
    reading: &mut Reading,
) {
    let folder = id(&place.folder);
    if !world.folders.contains_key(&folder) {
        state.forget_folder(location);
        reading.drop_folder(folder);
        return;
    }
    let (mut present, mut gone) = (BTreeMap::new(), BTreeSet::new());
    let here = |item: u32| world.items.get(&item).filter(|found| found.folder == folder);
    if let Some(cursor) = &place.cursor {
        let from: usize = cursor.parse().unwrap();
        for (_, item) in world.mailbox_log[from..].iter().filter(|(of, _)| *of == folder) {
            match here(*item) {
                Some(found) => drop(present.insert(*item, found.change_key)),
                None => drop(gone.insert(*item)),
            }
        }
    } else {
        let all = world.items.iter().filter(|(_, item)| item.folder == folder);
        present.extend(all.map(|(item, found)| (*item, found.change_key)));
    }
    reading.drop_items(|item| gone.contains(&item));
    reading.places.retain(|item, _| !gone.contains(item));
    reading.places.extend(present.keys().map(|item| (*item, folder)));
    let linked: BTreeMap<u32, (&SourceKey, &str)> = state
        .links
        .iter()
        .map(|(key, link)| (id(&link.item), (key, link.change_key.as_str())))
        .collect();
    let left = gone.iter().filter_map(|item| linked.get(item));
    reading.gone.extend(left.map(|(key, _)| (*key).clone()));
    let unread: Vec<u32> = present
        .iter()
        .filter(|(item, change_key)| {
            linked
                .get(item)
                .is_none_or(|(_, agreed)| *agreed != change_key.to_string())
        })
        .map(|(item, _)| *item)
        .collect();
    read_items(world, state, &unread, reading);
    if place.cursor.is_none() {
        let missing: Vec<u32> = state
            .links_in(location, &place.folder)
            .filter(|(_, link)| !link.has_lost_its_folder() && !present.contains_key(&id(&link.item)))
            .map(|(_, link)| id(&link.item))
            .collect();
        read_items(world, state, &missing, reading);
    }
    reading.reached.insert(location.clone(), world.mailbox_log.len());
}

fn read_items(world: &World, state: &SyncState, ids: &[u32], reading: &mut Reading) {
    reading.drop_items(|item| ids.contains(&item));
    for item in ids {
        let link = state.links.iter().find(|(_, link)| id(&link.item) == *item);
        let link = link.map(|(key, _)| key.clone());
        match world.items.get(item).or_else(|| world.binned.get(item)) {
            Some(found) => {
                if let Some(key) = found.key.clone().or(link) {
                    reading.items.entry(key).or_default().push((*item, found.clone()));
                }
            }
            None => reading.gone.extend(link),
        }
    }
}

fn pair(
    key: &SourceKey,
    state: &SyncState,
    source: &BTreeMap<SourceKey, SourceSide>,
    reading: &mut Reading,
) -> Pair {
    let link = state.links.get(key).cloned();
    let home = state
        .locations
        .get(&key.location())
        .map(|place| id(&place.folder));
    let mut items: Vec<MailboxValue> = Vec::new();
    for (item, found) in reading.items.remove(key).unwrap_or_default() {
        let elsewhere = match (reading.places.get(&item), &link) {
            (Some(folder), _) => (home != Some(*folder)).then(|| folder.to_string()),
            (None, Some(link)) if link.item == item.to_string() => link.elsewhere.clone(),
            (None, _) => None,
        };
        items.push(MailboxValue {
            id: item.to_string(),
            change_key: found.change_key.to_string(),
            task: found.task,
            modified: Timestamp::from_millisecond(found.modified).unwrap(),
            created: Timestamp::from_millisecond(found.created).unwrap(),
            recurring: false,
            private: found.private,
            elsewhere,
            write_id: found.write_id,
        });
    }
    items.sort_by_key(|item| (item.created, id(&item.id)));
    items.dedup_by(|one, other| one.id == other.id);
    let missing = if link.as_ref().is_some_and(Link::has_lost_its_folder) {
        MailboxSide::FolderGone
    } else if reading.gone.contains(key) {
        MailboxSide::Gone
    } else {
        MailboxSide::Unchanged
    };
    let linked = link.as_ref().map(|link| link.item.as_str());
    let found = linked.and_then(|linked| items.iter().position(|item| item.id == linked));
    let chosen = match (found, linked, &missing) {
        (Some(at), _, _) => Some(at),
        (None, Some(_), MailboxSide::Unchanged) => None,
        (None, _, _) => (!items.is_empty()).then_some(0),
    };
    let mailbox = chosen.map_or(missing, |at| MailboxSide::Present(Box::new(items.remove(at))));
    Pair {
        key: key.clone(),
        link,
        writing: state.writing.get(key).cloned(),
        deleted: reading.deleted.remove(key).unwrap_or_default(),
        parked: state.parked.get(key).cloned(),
        source_holds: holds(&key.location()),
        source: source.get(key).cloned().unwrap_or(SourceSide::Unchanged),
        mailbox,
        twins: items,
    }
}
