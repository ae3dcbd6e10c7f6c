//! One sync over the in-memory sides, step by step as the worker does it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{Field, FieldSet, LocationKey, SourceKey, Task};
use tasksync_common::plan::{
    Absence, Action, Agreed, Limits, MailboxSide, MailboxValue, Pair, Plan, Rules, SourceSide, SourceValue,
    assemble, guard,
};
use tasksync_common::state::{Link, LocationState, Parked, SyncState};

use crate::world::{Act, Item, World, holds};

/// What goes wrong, at which write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The process ends right after the write.
    Crash(u32),
    /// The write happens, its answer does not arrive.
    LostAnswer(u32),
    /// The write does not happen; the server is busy.
    Busy(u32),
    /// The server refuses this write for good.
    Refused(u32),
    /// The time is used up before this write.
    Late(u32),
}

/// How one sync goes.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) fault: Fault,
    /// Everything is compared.
    pub(crate) full: bool,
    /// The folders' cursors are not valid any more.
    pub(crate) relist: bool,
    /// What a person does after the first folder was read.
    pub(crate) while_reading: Option<Act>,
    /// What a person does between reading and writing.
    pub(crate) before_writing: Option<Act>,
}

impl Way {
    pub(crate) const PLAIN: Self = Self {
        fault: Fault::None,
        full: false,
        relist: false,
        while_reading: None,
        before_writing: None,
    };
}

/// Saves happen every so many writes: more often than in earnest, so that crashes meet them.
const SAVE_EVERY: u32 = 2;

const RULES: Rules = Rules {
    mailbox_holds: FieldSet::ALL,
};

/// The process ended.
struct Crashed;

pub(crate) struct Loaded {
    pub(crate) state: SyncState,
    pub(crate) pairs: Vec<Pair>,
    source_cursor: usize,
    folders: BTreeMap<LocationKey, usize>,
}

#[derive(Default)]
struct Reading {
    items: BTreeMap<SourceKey, Vec<(u32, Item)>>,
    gone: BTreeSet<SourceKey>,
    folder_vanished: bool,
    places: BTreeMap<u32, u32>,
    reached: BTreeMap<LocationKey, usize>,
}

fn id(text: &str) -> u32 {
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
    let gone = |state: &SyncState, world: &World| -> Vec<LocationKey> {
        let lost = state
            .locations
            .iter()
            .filter(|(_, place)| !world.folders.contains_key(&id(&place.folder)));
        lost.map(|(location, _)| location.clone()).collect()
    };
    if full || unknown_folder || !gone(state, world).is_empty() {
        for location in gone(state, world) {
            reading.folder_vanished = true;
            state.forget_folder(&location);
        }
        for (folder, location) in &world.folders {
            state
                .locations
                .entry(location.clone())
                .or_insert_with(|| place(location, *folder));
        }
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
    if (missed || twice) && state.locations.len() > 1 {
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

fn place(location: &LocationKey, folder: u32) -> LocationState {
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
        reading.folder_vanished = true;
        let places = &reading.places;
        for items in reading.items.values_mut() {
            items.retain(|(item, _)| places.get(item) != Some(&folder));
        }
        reading.items.retain(|_, items| !items.is_empty());
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
    for items in reading.items.values_mut() {
        items.retain(|(item, _)| !gone.contains(item));
    }
    reading.items.retain(|_, items| !items.is_empty());
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
    for items in reading.items.values_mut() {
        items.retain(|(item, _)| !ids.contains(item));
    }
    reading.items.retain(|_, items| !items.is_empty());
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
        parked: state.parked.get(key).cloned(),
        source_holds: holds(&key.location()),
        source: source.get(key).cloned().unwrap_or(SourceSide::Unchanged),
        mailbox,
        twins: items,
    }
}

/// Plans with a guard that lets everything pass.
pub(crate) fn plan(loaded: &Loaded) -> Plan {
    let folders = loaded.state.locations.keys().cloned().collect();
    let limits = Limits {
        deletions: usize::MAX,
        percent: 100,
        emptied_from: usize::MAX,
    };
    let (plan, held) = guard(
        assemble(&loaded.pairs, &folders, RULES),
        &loaded.state.links,
        limits,
    );
    assert!(held.is_empty());
    plan
}

/// A sync: what changed while it was written is looked at again, once.
pub(crate) fn sync(world: &mut World, way: &Way) {
    let mut way = way.clone();
    let mut writer = Writer {
        writes: 0,
        fault: way.fault,
    };
    for _ in 0..2 {
        let mut loaded = load(world, &way);
        let plan = plan(&loaded);
        if let Some(act) = way.before_writing.take() {
            world.act(&act);
        }
        match writer.apply(world, &mut loaded, plan) {
            Err(Crashed) => return,
            Ok((again, twin_left)) => {
                commit(world, loaded, twin_left);
                if !again {
                    return;
                }
            }
        }
        way = Way::PLAIN;
    }
}

fn commit(world: &mut World, loaded: Loaded, twin_left: bool) {
    let mut state = loaded.state;
    state.source_cursor = Some(loaded.source_cursor.to_string());
    for (location, reached) in loaded.folders {
        if let Some(place) = state.locations.get_mut(&location)
            && !twin_left
        {
            place.cursor = Some(reached.to_string());
        }
    }
    save(world, &state);
}

/// Through bytes, as in earnest.
fn save(world: &mut World, state: &SyncState) {
    world.saved = Some(SyncState::decode(&state.encode().unwrap()).unwrap());
}

struct Writer {
    writes: u32,
    fault: Fault,
}

enum Done {
    Linked(Link),
    Unlinked,
    Nothing,
}

impl Writer {
    /// Lets a write happen, or not.
    fn before(&mut self) -> Result<(), ErrorClass> {
        self.writes += 1;
        match self.fault {
            Fault::Busy(at) if at == self.writes => Err(ErrorClass::Transient),
            Fault::Refused(at) if at == self.writes => Err(ErrorClass::ItemPermanent),
            _ => Ok(()),
        }
    }

    fn after(&self) -> Result<(), ErrorClass> {
        if self.fault == Fault::LostAnswer(self.writes) {
            return Err(ErrorClass::OutcomeUnknown);
        }
        Ok(())
    }

    fn crashed(&self) -> Result<(), Crashed> {
        match self.fault {
            Fault::Crash(at) if at <= self.writes => Err(Crashed),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, world: &mut World, loaded: &mut Loaded, plan: Plan) -> Result<(bool, bool), Crashed> {
        for (_, action) in &plan.actions {
            world.oracle.journal(action);
        }
        let mut without = BTreeSet::new();
        for location in &plan.folders {
            if self.before().is_err() {
                without.insert(location.clone());
                continue;
            }
            let folder = world.next();
            world.folders.insert(folder, location.clone());
            self.crashed()?;
            if self.after().is_err() {
                without.insert(location.clone());
                continue;
            }
            loaded
                .state
                .locations
                .insert(location.clone(), place(location, folder));
        }
        let known = world.saved.clone().unwrap_or_default().locations;
        let mut noted = loaded.state.locations != known;
        for (_, action) in &plan.actions {
            if let Action::RemoveFromMailbox { key, .. } = action
                && let Some(link) = loaded.state.links.get_mut(key)
            {
                noted |= !link.removing;
                link.removing = true;
            }
        }
        if noted {
            save(world, &loaded.state);
        }
        let (mut unfinished, mut again, mut twin_left, mut unsaved) = (BTreeSet::new(), false, false, 0);
        for (_, action) in plan.actions {
            let key = action.key().clone();
            let twin = matches!(action, Action::RemoveTwin { .. } | Action::DisownTwin { .. });
            let remembers = matches!(action, Action::Remember { .. } | Action::Forget { .. });
            let late = matches!(self.fault, Fault::Late(at) if at <= self.writes + 1);
            let homeless =
                matches!(action, Action::CreateInMailbox { .. }) && without.contains(&key.location());
            let result = if !remembers && (late || homeless) {
                Err(ErrorClass::Transient)
            } else {
                self.perform(world, loaded, &action)
            };
            self.crashed()?;
            match result {
                Ok(done) => {
                    let state = &mut loaded.state;
                    match done {
                        Done::Linked(link) => drop(state.links.insert(key.clone(), link)),
                        Done::Unlinked => drop(state.links.remove(&key)),
                        Done::Nothing => continue,
                    }
                    state.parked.remove(&key);
                }
                // A copy that can never be removed stays for ever; here it is only removed later.
                Err(ErrorClass::ItemPermanent) if !twin => {
                    let parked = refused(&loaded.state, &action);
                    world.oracle.refused.insert(key.clone());
                    loaded.state.parked.insert(key, parked);
                }
                Err(class) => {
                    again |= matches!(class, ErrorClass::Conflict | ErrorClass::Gone);
                    twin_left |= twin;
                    loaded.state.pending.insert(key.clone());
                    unfinished.insert(key);
                }
            }
            unsaved += 1;
            if unsaved == SAVE_EVERY {
                unsaved = 0;
                save(world, &loaded.state);
            }
        }
        loaded.state.pending = unfinished;
        Ok((again, twin_left))
    }

    fn perform(&mut self, world: &mut World, loaded: &Loaded, action: &Action) -> Result<Done, ErrorClass> {
        match action {
            Action::Remember { link, .. } => return Ok(Done::Linked((**link).clone())),
            Action::Forget { .. } => return Ok(Done::Unlinked),
            _ => self.before()?,
        }
        let done = match action {
            Action::Remember { .. } | Action::Forget { .. } => Done::Nothing,
            Action::CreateInMailbox {
                key,
                task,
                version,
                source_progress,
                ..
            } => {
                let home = loaded
                    .state
                    .locations
                    .get(&key.location())
                    .ok_or(ErrorClass::Gone)?;
                let folder = id(&home.folder);
                if !world.folders.contains_key(&folder) {
                    return Err(ErrorClass::Gone);
                }
                let item = create(world, folder, key, task);
                // A lost answer is looked for at once; half the time that fails too.
                if item.is_multiple_of(2) {
                    self.after()?;
                }
                return Ok(Done::Linked(Link {
                    version: version.clone(),
                    agreed: Agreed::of(task),
                    source_progress: *source_progress,
                    ..Link::found(
                        &item.to_string(),
                        &world.items[&item].change_key.to_string(),
                        None,
                    )
                }));
            }
            Action::RemoveFromMailbox {
                item,
                change_key,
                key,
                ..
            } => {
                remove(world, key, item, change_key);
                Done::Unlinked
            }
            Action::RemoveTwin {
                item,
                change_key,
                key,
            } => {
                remove(world, key, item, change_key);
                Done::Nothing
            }
            Action::DisownTwin { item, change_key, .. } => {
                check_item(world, item, change_key)?;
                let found = world.items.get_mut(&id(item)).ok_or(ErrorClass::Gone)?;
                found.key = None;
                world.touch_item(id(item));
                Done::Nothing
            }
            Action::DeleteAtSource { key, version, .. } => {
                if let Some(found) = world.source.get(key) {
                    if found.version.to_string() != *version {
                        return Err(ErrorClass::Conflict);
                    }
                    world
                        .oracle
                        .recycles(key, &found.task, world.copies_of(key).len());
                    world.source.remove(key);
                    world.source_log.push(key.clone());
                }
                Done::Unlinked
            }
            Action::UpdateSource {
                key,
                version,
                task,
                fields,
                link,
                ..
            } => {
                let found = world.source.get_mut(key).ok_or(ErrorClass::Gone)?;
                if found.version.to_string() != *version {
                    return Err(ErrorClass::Conflict);
                }
                assert!(
                    fields.except(holds(&key.location())).is_empty(),
                    "{key}: a field the source lacks"
                );
                found.task.take(task, *fields);
                let now = found.task.clone();
                world.oracle.sent(key, now);
                let version = world.touch_task(key).to_string();
                Done::Linked(Link {
                    version,
                    ..(**link).clone()
                })
            }
            Action::UpdateMailbox {
                item,
                change_key,
                task,
                fields,
                link,
                key,
                ..
            } => {
                assert!(
                    fields.except(holds(&key.location())).is_empty(),
                    "{key}: a field the source lacks"
                );
                check_item(world, item, change_key)?;
                let change_key = world.write_item(id(item), task, *fields).to_string();
                Done::Linked(Link {
                    change_key,
                    ..(**link).clone()
                })
            }
        };
        self.after()?;
        Ok(done)
    }
}

fn create(world: &mut World, folder: u32, key: &SourceKey, task: &Task) -> u32 {
    world.oracle.created(key);
    let now = world.now + world.skew;
    let item = world.add_item(Item {
        key: Some(key.clone()),
        folder,
        task: Task::default(),
        change_key: 0,
        modified: now,
        created: now,
        private: false,
    });
    world.write_item(item, task, FieldSet::ALL.without(Field::Categories));
    item
}

/// Mailboxes delete whatever the version. One that was edited in that moment is found in the deleted items.
fn remove(world: &mut World, key: &SourceKey, item: &str, change_key: &str) {
    if let Some(found) = world.remove_item(id(item))
        && found.change_key.to_string() != change_key
    {
        world.oracle.raced(key, &found.task);
    }
}

fn check_item(world: &World, item: &str, change_key: &str) -> Result<(), ErrorClass> {
    let found = world.items.get(&id(item)).or_else(|| world.binned.get(&id(item)));
    match found {
        None => Err(ErrorClass::Gone),
        Some(found) if found.change_key.to_string() != change_key => Err(ErrorClass::Conflict),
        Some(_) => Ok(()),
    }
}

fn refused(state: &SyncState, action: &Action) -> Parked {
    let link = state.links.get(action.key());
    let (linked_version, linked_key) = (
        link.map(|link| link.version.clone()),
        link.map(|link| link.change_key.clone()),
    );
    let (version, change_key) = match action {
        Action::CreateInMailbox { version, .. } | Action::DeleteAtSource { version, .. } => {
            (Some(version.clone()), linked_key)
        }
        Action::UpdateMailbox {
            version, change_key, ..
        }
        | Action::UpdateSource {
            version, change_key, ..
        } => (Some(version.clone()), Some(change_key.clone())),
        Action::RemoveFromMailbox { change_key, .. }
        | Action::RemoveTwin { change_key, .. }
        | Action::DisownTwin { change_key, .. } => (linked_version, Some(change_key.clone())),
        Action::Remember { .. } | Action::Forget { .. } => (linked_version, linked_key),
    };
    Parked {
        version,
        change_key,
        failure: Failure::new(ErrorClass::ItemPermanent, Code::ExchangeItemRefused, "refused"),
    }
}
