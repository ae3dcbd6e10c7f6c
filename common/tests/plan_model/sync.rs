//! One sync over the in-memory sides: planning and applying, step by step as the worker does it.

use std::collections::BTreeSet;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{Field, FieldSet, SourceKey, Task};
use tasksync_common::plan::{Action, Limits, Plan, Rules, assemble, guard};
use tasksync_common::state::{Link, Parked, SyncState};

use crate::reading::{Loaded, id, load, place};
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
    Linked(Box<Link>),
    Unlinked,
    Nothing,
}

impl Writer {
    /// Lets a write happen, or not.
    fn before(&mut self) -> Result<(), ErrorClass> {
        self.writes += 1;
        match self.fault {
            Fault::Busy(at) if at == self.writes => Err(ErrorClass::Transient),
            Fault::Refused(at) if at == self.writes => Err(ErrorClass::Refused),
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
            let links = &mut loaded.state.links;
            match action {
                Action::Remember { key, link } => drop(links.insert(key.clone(), (**link).clone())),
                Action::Forget { key } => drop(links.remove(key)),
                _ => continue,
            }
            loaded.state.parked.remove(action.key());
            loaded.state.writing.remove(action.key());
        }
        let write_id = world.next().to_string();
        for (_, action) in &plan.actions {
            let remembers = matches!(action, Action::Remember { .. } | Action::Forget { .. });
            if !remembers {
                loaded.state.pending.insert(action.key().clone());
            }
            if let Action::RemoveFromMailbox { key, .. } = action
                && let Some(link) = loaded.state.links.get_mut(key)
            {
                let saved = world.saved.as_ref().and_then(|saved| saved.links.get(key));
                noted |= saved.is_none_or(|link| !link.removing);
                link.removing = true;
            }
            if let Some(writing) = action.writing(&write_id) {
                noted = true;
                loaded.state.writing.insert(action.key().clone(), writing);
            }
        }
        if noted {
            save(world, &loaded.state);
        }
        let (mut unfinished, mut again, mut twin_left, mut unsaved) = (BTreeSet::new(), false, false, 0);
        for (_, action) in plan.actions {
            if matches!(action, Action::Remember { .. } | Action::Forget { .. }) {
                continue;
            }
            let key = action.key().clone();
            let twin = matches!(action, Action::RemoveTwin { .. } | Action::DisownTwin { .. });
            let late = matches!(self.fault, Fault::Late(at) if at <= self.writes + 1);
            let homeless =
                matches!(action, Action::CreateInMailbox { .. }) && without.contains(&key.location());
            let result = if late || homeless {
                Err(ErrorClass::Transient)
            } else {
                self.perform(world, loaded, &action, &write_id)
            };
            self.crashed()?;
            if result
                .as_ref()
                .is_err_and(|class| *class != ErrorClass::OutcomeUnknown)
                && action.writing(&write_id).is_some()
            {
                loaded.state.writing.remove(&key);
            }
            match result {
                Ok(done) => {
                    let state = &mut loaded.state;
                    match done {
                        Done::Linked(link) => drop(state.links.insert(key.clone(), *link)),
                        Done::Unlinked => drop(state.links.remove(&key)),
                        Done::Nothing => continue,
                    }
                    state.parked.remove(&key);
                    state.writing.remove(&key);
                }
                // A copy that can never be removed stays for ever; here it is only removed later.
                Err(ErrorClass::Refused) if !twin => {
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

    fn perform(
        &mut self,
        world: &mut World,
        loaded: &Loaded,
        action: &Action,
        write_id: &str,
    ) -> Result<Done, ErrorClass> {
        match action {
            Action::Remember { link, .. } => return Ok(Done::Linked(link.clone())),
            Action::Forget { .. } => return Ok(Done::Unlinked),
            _ => self.before()?,
        }
        let done = match action {
            Action::Remember { .. } | Action::Forget { .. } => Done::Nothing,
            Action::CreateInMailbox { key, task, link, .. } => {
                let home = loaded
                    .state
                    .locations
                    .get(&key.location())
                    .ok_or(ErrorClass::Gone)?;
                let folder = id(&home.folder);
                if !world.folders.contains_key(&folder) {
                    return Err(ErrorClass::Gone);
                }
                let item = create(world, folder, key, task, write_id);
                // A lost answer is looked for at once; half the time that fails too.
                if item.is_multiple_of(2) {
                    self.after()?;
                }
                return Ok(Done::Linked(Box::new(Link {
                    item: item.to_string(),
                    change_key: world.items[&item].change_key.to_string(),
                    ..(**link).clone()
                })));
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
                Done::Linked(Box::new(Link {
                    version,
                    ..(**link).clone()
                }))
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
                let change_key = world.write_item(id(item), task, *fields, write_id).to_string();
                Done::Linked(Box::new(Link {
                    change_key,
                    ..(**link).clone()
                }))
            }
        };
        self.after()?;
        Ok(done)
    }
}

fn create(world: &mut World, folder: u32, key: &SourceKey, task: &Task, write_id: &str) -> u32 {
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
        write_id: None,
    });
    world.write_item(item, task, FieldSet::ALL.without(Field::Categories), write_id);
    item
}

/// Mailboxes delete whatever the version. One that was edited in that moment is found in the deleted items.
fn remove(world: &mut World, key: &SourceKey, item: &str, change_key: &str) {
    if let Some(found) = world.delete_item(id(item))
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
        failure: Failure::new(ErrorClass::Refused, Code::ExchangeItemRefused, "refused"),
    }
}
