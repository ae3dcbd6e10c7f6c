//! The bookkeeping of one pass while its plan is carried out: what is remembered of each result, and what follows from it.
//! Pure: the worker carries actions out and saves; every decision about the state is made here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::action::{Action, Kind, Memo};
use super::failed_writes::{FailedWrites, GivenUp};
use super::sides::Side;
use crate::error::{ErrorClass, Failure, Scope, Stops};
use crate::model::{FieldSet, LocationKey, SourceKey, Status, Task};
use crate::state::{LetGo, LetGoReason, Link, LocationState, Parked, Signs, SyncState};

/// A source cursor that did not move is stored again after this time, so that it does not seem too old.
const CURSOR_REST: SignedDuration = SignedDuration::from_mins(30);

/// What a successful action leaves to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The item was created or written: its id and version.
    Item {
        /// Id of the item.
        id: String,
        /// Version of the item.
        change_key: String,
    },
    /// The task was written at the source under this version.
    Version(String),
    /// The task or its copy was deleted.
    Deleted,
    /// A second item was dealt with; nothing is remembered of it.
    Twin,
}

/// How far both sides were read. Stored after everything it covers was carried out or written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// The source's cursor.
    pub source_cursor: String,
    /// Cursor and signs of each folder that was read.
    pub folders: BTreeMap<LocationKey, (String, Option<Signs>)>,
    /// Fresh copies that their folder showed, or that were looked for by id.
    pub confirmed: BTreeSet<SourceKey>,
    /// Lists and sites that could not be read.
    pub unread: BTreeMap<LocationKey, Failure>,
    /// Lists and sites that could not be read before and were read now.
    pub read_again: BTreeSet<LocationKey>,
    /// Of each location that was read: why its dates are neither read nor written, or `None` where they are.
    pub without_dates: BTreeMap<LocationKey, Option<Failure>>,
    /// Tasks of which nothing was decided, because one side could not be read or two answers contradict each other.
    pub undecided: BTreeMap<SourceKey, Failure>,
    /// Both sides were listed from the start.
    pub full: bool,
}

/// One pass while it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The state as it will be saved; its cursors are the old ones until [`Pass::commit`].
    pub state: SyncState,
    /// The state as it is stored.
    saved: SyncState,
    reached: Reached,
    started: Timestamp,
    /// Tasks that the next pass looks at again, whatever the cursors say, with the reason where there is one.
    unfinished: BTreeMap<SourceKey, Option<Failure>>,
    /// The same of tasks with a second copy that was not dealt with.
    unfinished_twins: BTreeMap<SourceKey, Option<Failure>>,
    again: bool,
    stopped_by: Option<Failure>,
    failed: FailedWrites,
}

impl Pass {
    /// Returns a pass over `state` that began at `started`; `saved` is what is stored.
    #[must_use]
    pub fn new(state: SyncState, saved: SyncState, reached: Reached, started: Timestamp) -> Self {
        let unfinished = reached
            .undecided
            .iter()
            .map(|(key, failure)| (key.clone(), Some(failure.clone())))
            .collect();
        Self {
            state,
            saved,
            reached,
            started,
            unfinished,
            unfinished_twins: BTreeMap::new(),
            again: false,
            stopped_by: None,
            failed: FailedWrites::default(),
        }
    }

    /// Remembers what is agreed. Nothing is written outside for it.
    pub fn agree(&mut self, memos: Vec<Memo>) {
        for memo in memos {
            match memo {
                Memo::Remember { key, link } => self.link(&key, *link),
                Memo::LetGo { key, let_go } => self.let_go(&key, *let_go),
                Memo::Forget { key } => self.unlink(&key),
            }
        }
    }

    /// Writes the actions down before the first of them begins; returns whether that must be saved first.
    ///
    /// Own removals, creations and updates are written down so that they are never taken for a person's wish. Folders are
    /// saved before anything is put into them, so that it is found again even if its task goes meanwhile. What is pending
    /// stays so until all is done, and so does what is planned: a pass that is cut off must not forget it.
    pub fn begin<'a>(&mut self, actions: impl IntoIterator<Item = &'a Action>, write_id: &str) -> bool {
        let mut noted = self.state.locations != self.saved.locations;
        for action in actions {
            let key = action.key();
            self.state.pending.insert(key.clone());
            if matches!(action, Action::RemoveFromMailbox { .. })
                && let Some(link) = self.state.links.get_mut(key)
            {
                link.removing = true;
                noted |= self.saved.links.get(key).is_none_or(|link| !link.removing);
            }
            if let Some(writing) = action.writing(write_id) {
                self.state.writing.insert(key.clone(), writing);
                noted = true;
            }
        }
        noted
    }

    /// Remembers a folder that was made for a location.
    pub fn folder_made(&mut self, location: &LocationKey, place: LocationState) {
        self.state.locations.insert(location.clone(), place);
    }

    /// Remembers that tasksync itself gave an item a new version without touching its values.
    pub fn version_moved(&mut self, key: &SourceKey, before: &str, after: String) {
        if let Some(link) = self
            .state
            .links
            .get_mut(key)
            .filter(|link| link.change_key == before)
        {
            link.change_key = after;
        }
    }

    /// Remembers the result of an action.
    pub fn done(&mut self, action: &Action, done: Done) {
        self.failed.answered();
        let key = action.key();
        match (action, done) {
            (Action::CreateInMailbox { link, .. }, Done::Item { id, change_key }) => {
                self.reached.confirmed.remove(key);
                self.state.fresh.insert(key.clone());
                self.link(
                    key,
                    Link {
                        item: id,
                        change_key,
                        ..(**link).clone()
                    },
                );
            }
            (Action::UpdateMailbox { link, .. }, Done::Item { id, change_key }) => {
                // The person's own edits are sent in a pass of their own.
                self.again |= link.unsent;
                self.link(
                    key,
                    Link {
                        item: id,
                        change_key,
                        ..(**link).clone()
                    },
                );
            }
            (Action::UpdateSource { link, .. }, Done::Version(version)) => self.link(
                key,
                Link {
                    version,
                    ..(**link).clone()
                },
            ),
            (Action::CompleteAtSource { link, .. }, Done::Version(version)) => {
                let link = Link {
                    version,
                    ..(**link).clone()
                };
                let why = LetGoReason::Completed;
                self.let_go(key, LetGo { link, why });
            }
            (Action::RemoveFromMailbox { .. } | Action::DeleteAtSource { .. }, _) => self.unlink(key),
            (Action::RemoveTwin { .. } | Action::DisownTwin { .. }, _) => {}
            // A result of another kind says nothing about this action.
            (
                Action::CreateInMailbox { .. }
                | Action::UpdateMailbox { .. }
                | Action::UpdateSource { .. }
                | Action::CompleteAtSource { .. },
                Done::Item { .. } | Done::Version(_) | Done::Deleted | Done::Twin,
            ) => self.put_off(action, None),
        }
    }

    /// Sorts a failed action: back into the line, aside, or the whole pass stops. Its record stays: one answer that calls a write
    /// refused is no proof that it was not done.
    pub fn failed(&mut self, action: &Action, failure: Failure) {
        match failure.class {
            // Both sides are read again at once, and show whether it was done.
            ErrorClass::Conflict | ErrorClass::Gone | ErrorClass::CursorInvalid => {
                self.failed.answered();
                self.attempted(action, &failure);
                self.put_off(action, Some(failure));
                self.again = true;
            }
            ErrorClass::Refused if failure.stops() == Stops::Part => {
                self.failed.answered();
                // A second copy that cannot be dealt with is no reason to leave the task alone.
                if action.kind() != Kind::ConcernsTwin {
                    self.park(action, failure);
                }
            }
            ErrorClass::Transient | ErrorClass::OutcomeUnknown => {
                self.attempted(action, &failure);
                self.put_off(action, Some(failure.clone()));
                if self
                    .failed
                    .count(action.side(), &action.key().location(), &failure)
                {
                    // Several in a row are more than one item's.
                    self.stopped_by.get_or_insert(failure.at_least(Scope::Person));
                }
            }
            ErrorClass::Throttled { .. } | ErrorClass::Refused => {
                self.put_off(action, Some(failure.clone()));
                self.stopped_by.get_or_insert(failure);
            }
        }
    }

    /// A write into the mailbox was answered as done, and the item, still at the version of that answer, shows other values in
    /// `fields`. They count as never written: tried again in the next pass, then refused and shown.
    pub fn not_kept(&mut self, action: &Action, shown: &Task, fields: FieldSet, failure: Failure) {
        let key = action.key();
        let Some(link) = self.state.links.get_mut(key) else {
            return;
        };
        link.agreed.take(shown, fields);
        link.not_kept = fields;
        if self.state.reasons.get(key) == Some(&failure) {
            let change_key = link.change_key.clone();
            self.park(
                action,
                Failure {
                    class: ErrorClass::Refused,
                    ..failure
                },
            );
            if let Some(parked) = self.state.parked.get_mut(key) {
                parked.change_key = Some(change_key);
            }
        } else {
            self.put_off(action, Some(failure));
        }
    }

    /// Sorts creations of which a failed reading left open whether they happened. What cannot be read now is no reason to
    /// write on: the pass stops.
    pub fn unproven(&mut self, actions: &[Action], failure: Failure) {
        for action in actions {
            self.put_off(action, Some(failure.clone()));
        }
        self.stopped_by.get_or_insert(failure);
    }

    /// Sorts the failure of making the folder of a list: what concerns more than this list stops the pass.
    pub fn folder_failed(&mut self, location: &LocationKey, failure: Failure) {
        match failure.class {
            ErrorClass::Refused if failure.stops() == Stops::Part => {}
            ErrorClass::Refused | ErrorClass::Throttled { .. } => {
                self.stopped_by.get_or_insert(failure);
            }
            ErrorClass::Transient
            | ErrorClass::OutcomeUnknown
            | ErrorClass::Conflict
            | ErrorClass::Gone
            | ErrorClass::CursorInvalid => {
                if self.failed.count(Side::Mailbox, location, &failure) {
                    self.stopped_by.get_or_insert(failure.at_least(Scope::Person));
                }
            }
        }
    }

    /// A new copy that was not begun, because its folder could not be made.
    pub fn without_folder(&mut self, action: &Action, failure: Failure) {
        self.not_written(action);
        self.attempted(action, &failure);
        self.put_off(action, Some(failure));
    }

    /// An action that was not begun: its task is planned anew the next time.
    pub fn not_begun(&mut self, action: &Action) {
        self.not_written(action);
        self.put_off(action, None);
    }

    /// Returns whether this action is left for the next pass: the pass is stopped, or too many writes in its list failed.
    #[must_use]
    pub fn leaves(&self, action: &Action) -> bool {
        self.stopped_by.is_some() || self.failed.leaves(action)
    }

    /// Ends the carrying out: what is pending from now on is what was left. A task whose write fails in pass after pass is
    /// refused, unless the pass was stopped: then the failures say nothing about single tasks.
    pub fn finish(&mut self) {
        if self.stopped_by.is_none() {
            let state = &mut self.state;
            for GivenUp { key, refusal, kind } in self.failed.give_up(&mut state.failing, &state.parked) {
                match kind {
                    Kind::ConcernsTwin => {
                        self.unfinished_twins.remove(&key);
                    }
                    Kind::WritesValues | Kind::Deletes => {
                        self.unfinished.remove(&key);
                        let failure = Failure {
                            class: ErrorClass::Refused,
                            ..refusal.failure
                        };
                        state.parked.insert(key, Parked { failure, ..refusal });
                    }
                }
            }
        }
        let twins = self.unfinished_twins.clone();
        let unfinished: BTreeMap<_, _> = twins
            .into_iter()
            .chain(std::mem::take(&mut self.unfinished))
            .collect();
        self.state.failing.retain(|key, _| unfinished.contains_key(key));
        self.state.pending = unfinished.keys().cloned().collect();
        self.state.reasons = unfinished
            .into_iter()
            .filter_map(|(key, reason)| Some((key, reason?)))
            .collect();
    }

    /// Moves the cursors to where reading ended; returns whether anything differs from what is stored.
    ///
    /// What the cursors cover was carried out, or is written down as pending, held or parked in the same save.
    pub fn commit(&mut self) -> bool {
        let now = self.started;
        let Reached {
            source_cursor,
            folders,
            confirmed,
            unread,
            read_again,
            without_dates,
            undecided: _,
            full,
        } = std::mem::take(&mut self.reached);
        let state = &mut self.state;
        // Nothing but its folder's changes tells of a second copy, so they have to be read again.
        if self.unfinished_twins.is_empty() {
            for (location, (cursor, signs)) in folders {
                if let Some(place) = state.locations.get_mut(&location) {
                    place.cursor = Some(cursor);
                    place.signs = signs;
                }
            }
        }
        for key in confirmed {
            state.fresh.remove(&key);
        }
        let links = &state.links;
        state.fresh.retain(|key| links.contains_key(key));
        state.left_folder.retain(|key| links.contains_key(key));
        state.left_source.retain(|key| links.contains_key(key));
        if state.source_cursor.as_ref() != Some(&source_cursor) || state.source_cursor_at.is_none() {
            state.source_cursor = Some(source_cursor);
            state.source_cursor_at = Some(now);
        } else if let Some(stored) = state.source_cursor_at
            && now.duration_since(stored) > CURSOR_REST
        {
            state.source_cursor_at = Some(now);
        }
        if full {
            state.full_check_at = Some(now);
            state.without_dates.clear();
            state.unread = unread;
        } else {
            state.unread.retain(|location, _| !read_again.contains(location));
            state.unread.extend(unread);
        }
        for (location, reason) in without_dates {
            match reason {
                Some(failure) => state.without_dates.insert(location, failure),
                None => state.without_dates.remove(&location),
            };
        }
        self.is_unsaved()
    }

    /// Returns whether the state differs from what is stored.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.state != self.saved
    }

    /// The state was stored as it is now.
    pub fn stored(&mut self) {
        self.saved.clone_from(&self.state);
    }

    /// Returns how far both sides were read; nothing once it was committed.
    #[must_use]
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Returns the state as it is stored.
    #[must_use]
    pub fn saved(&self) -> &SyncState {
        &self.saved
    }

    /// Returns how the pass ended: whether something changed meanwhile and should be looked at again, or the failure that
    /// stopped it. Then the rest is pending.
    ///
    /// # Errors
    /// The failure that concerns more than one task.
    pub fn outcome(self) -> Result<bool, Failure> {
        match self.stopped_by {
            Some(failure) => Err(failure),
            None => Ok(self.again),
        }
    }

    fn link(&mut self, key: &SourceKey, mut link: Link) {
        let known = self.state.links.get(key).and_then(|link| link.completed_at);
        let is_completed = link.agreed.progress().status == Status::Completed;
        link.completed_at = is_completed.then(|| known.unwrap_or(self.started));
        self.state.links.insert(key.clone(), link);
        self.state.let_go.remove(key);
        self.settled(key);
    }

    fn unlink(&mut self, key: &SourceKey) {
        self.state.links.remove(key);
        self.state.let_go.remove(key);
        self.settled(key);
    }

    fn let_go(&mut self, key: &SourceKey, let_go: LetGo) {
        self.state.links.remove(key);
        self.state.let_go.insert(key.clone(), let_go);
        self.settled(key);
    }

    fn settled(&mut self, key: &SourceKey) {
        self.state.parked.remove(key);
        self.state.writing.remove(key);
        self.state.left_folder.remove(key);
        self.state.left_source.remove(key);
    }

    fn put_off(&mut self, action: &Action, reason: Option<Failure>) {
        self.state.pending.insert(action.key().clone());
        let unfinished = match action.kind() {
            Kind::ConcernsTwin => &mut self.unfinished_twins,
            Kind::WritesValues | Kind::Deletes => &mut self.unfinished,
        };
        unfinished.insert(action.key().clone(), reason);
    }

    /// Notes a failure of this action that may be its task's own.
    fn attempted(&mut self, action: &Action, failure: &Failure) {
        let refusal = self.refusal(action, failure.clone());
        self.failed.attempted(action, refusal);
    }

    /// Removes the record of a write that was not begun.
    fn not_written(&mut self, action: &Action) {
        if action.writing("").is_some() {
            self.state.writing.remove(action.key());
        }
    }

    fn park(&mut self, action: &Action, failure: Failure) {
        let refusal = self.refusal(action, failure);
        self.state.parked.insert(action.key().clone(), refusal);
    }

    /// Returns the entry in `parked` of the action's task.
    fn refusal(&self, action: &Action, failure: Failure) -> Parked {
        let (version, change_key) = action.based_on(self.state.links.get(action.key()));
        Parked {
            version,
            change_key,
            failure,
        }
    }
}

#[cfg(test)]
mod tests;
