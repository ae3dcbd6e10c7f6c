//! The bookkeeping of one pass while its plan is carried out: what the state records of each result, and what
//! happens next. It is pure: the worker carries out actions and saves; every decision about the state is made
//! here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::action::{Action, ActionKind, Memo};
use super::failed_writes::{FailedWrites, GivenUpTask};
use super::sides::Side;
use crate::error::{ErrorClass, Failure, Scope, Stops};
use crate::model::{FieldSet, LocationKey, SourceKey, Status, Task};
use crate::state::{LetGo, LetGoReason, Link, LocationState, Parked, Signs, SyncState};

/// A source cursor that did not move is stored again after this time, so that it does not look too old.
const CURSOR_REST: SignedDuration = SignedDuration::from_mins(30);

/// The result of a successful action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionResult {
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
    /// A second item was handled; the state records nothing about it.
    Twin,
}

/// How far both sides were read. It is stored after everything it covers was carried out or written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadProgress {
    /// The source's cursor.
    pub source_cursor: String,
    /// Cursor and signs of each folder that was read, by location.
    pub folders: BTreeMap<LocationKey, (String, Option<Signs>)>,
    /// Fresh copies that their folder showed, or that were read by id.
    pub confirmed: BTreeSet<SourceKey>,
    /// Lists and sites that could not be read, with the failure.
    pub unread: BTreeMap<LocationKey, Failure>,
    /// Lists and sites that could not be read earlier and were read now.
    pub read_again: BTreeSet<LocationKey>,
    /// For each location that was read: why its dates are neither read nor written, or `None` if they are.
    pub without_dates: BTreeMap<LocationKey, Option<Failure>>,
    /// Tasks without a decision, because one side could not be read or two answers contradict each other.
    pub undecided: BTreeMap<SourceKey, Failure>,
    /// Whether both sides were listed from the start.
    pub full: bool,
}

/// One pass while it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The state to be saved. Until [`Pass::commit`] its cursors are the old ones.
    pub state: SyncState,
    /// The state as stored.
    saved: SyncState,
    read_progress: ReadProgress,
    started: Timestamp,
    /// Tasks that the next pass looks at again, whatever the cursors say, each with the failure that is the
    /// reason, if any.
    unfinished: BTreeMap<SourceKey, Option<Failure>>,
    /// The same for tasks whose second copy was not handled.
    unfinished_twins: BTreeMap<SourceKey, Option<Failure>>,
    /// Whether both sides should be read again soon, because something changed meanwhile.
    needs_another: bool,
    stopped_by: Option<Failure>,
    failed_writes: FailedWrites,
}

impl Pass {
    /// Returns a pass over `state` that began at `started`; `saved` is the stored state.
    #[must_use]
    pub fn new(state: SyncState, saved: SyncState, read_progress: ReadProgress, started: Timestamp) -> Self {
        let unfinished = read_progress
            .undecided
            .iter()
            .map(|(key, failure)| (key.clone(), Some(failure.clone())))
            .collect();
        Self {
            state,
            saved,
            read_progress,
            started,
            unfinished,
            unfinished_twins: BTreeMap::new(),
            needs_another: false,
            stopped_by: None,
            failed_writes: FailedWrites::default(),
        }
    }

    /// Records what is agreed. This writes to neither side.
    pub fn apply_memos(&mut self, memos: Vec<Memo>) {
        for memo in memos {
            match memo {
                Memo::Remember { key, link } => self.link(&key, *link),
                Memo::LetGo { key, let_go } => self.let_go(&key, *let_go),
                Memo::Forget { key } => self.unlink(&key),
            }
        }
    }

    /// Records the actions before the first of them begins. Returns whether the state must be saved first.
    ///
    /// Removals, creations and updates by tasksync are recorded so that the next sync never takes them for a
    /// person's edit or deletion. A new folder is saved before anything is put into it, so that it is found
    /// again even if its task goes meanwhile. Planned tasks, and those that are pending already, stay pending
    /// until the pass ends, so that an interrupted pass does not forget them.
    pub fn record_planned_writes<'a>(
        &mut self,
        actions: impl IntoIterator<Item = &'a Action>,
        write_id: &str,
    ) -> bool {
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

    /// Records a folder that was created for a location.
    pub fn record_folder(&mut self, location: &LocationKey, folder: LocationState) {
        self.state.locations.insert(location.clone(), folder);
    }

    /// Records that tasksync itself gave an item a new version without changing its values.
    pub fn record_version(&mut self, key: &SourceKey, before: &str, after: String) {
        if let Some(link) = self
            .state
            .links
            .get_mut(key)
            .filter(|link| link.change_key == before)
        {
            link.change_key = after;
        }
    }

    /// Records the result of a successful action.
    pub fn record_success(&mut self, action: &Action, done: ActionResult) {
        self.failed_writes.reset_counts();
        let key = action.key();
        match (action, done) {
            (Action::CreateInMailbox { link, .. }, ActionResult::Item { id, change_key }) => {
                self.read_progress.confirmed.remove(key);
                self.state.unconfirmed_copies.insert(key.clone());
                self.link(
                    key,
                    Link {
                        item: id,
                        change_key,
                        ..(**link).clone()
                    },
                );
            }
            (Action::UpdateMailbox { link, .. }, ActionResult::Item { id, change_key }) => {
                // The person's edits are sent to the source in another pass.
                self.needs_another |= link.unsent;
                self.link(
                    key,
                    Link {
                        item: id,
                        change_key,
                        ..(**link).clone()
                    },
                );
            }
            (Action::UpdateSource { link, .. }, ActionResult::Version(version)) => self.link(
                key,
                Link {
                    version,
                    ..(**link).clone()
                },
            ),
            (Action::CompleteAtSource { link, .. }, ActionResult::Version(version)) => {
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
                ActionResult::Item { .. }
                | ActionResult::Version(_)
                | ActionResult::Deleted
                | ActionResult::Twin,
            ) => self.keep_pending(action, None),
        }
    }

    /// Decides what follows from a failed action: the task is retried, the task is parked, or the whole pass
    /// stops. The record of the write stays, because an answer that calls a write refused does not prove that
    /// it was not done.
    pub fn record_failure(&mut self, action: &Action, failure: Failure) {
        match failure.class {
            // Both sides are read again at once, which shows whether the write was done.
            ErrorClass::Conflict | ErrorClass::Gone | ErrorClass::CursorInvalid => {
                self.failed_writes.reset_counts();
                self.record_attempt(action, &failure);
                self.keep_pending(action, Some(failure));
                self.needs_another = true;
            }
            ErrorClass::Refused if failure.stops() == Stops::Part => {
                self.failed_writes.reset_counts();
                // The task is not parked because of a second copy that cannot be handled.
                if action.kind() != ActionKind::ConcernsTwin {
                    self.park(action, failure);
                }
            }
            ErrorClass::Transient | ErrorClass::OutcomeUnknown => {
                self.record_attempt(action, &failure);
                self.keep_pending(action, Some(failure.clone()));
                if self
                    .failed_writes
                    .count(action.side(), &action.key().location(), &failure)
                {
                    // Several failures in a row are not the fault of one item.
                    self.stopped_by.get_or_insert(failure.at_least(Scope::Person));
                }
            }
            ErrorClass::Throttled { .. } | ErrorClass::Refused => {
                self.keep_pending(action, Some(failure.clone()));
                self.stopped_by.get_or_insert(failure);
            }
        }
    }

    /// Handles a mailbox write that was answered with success although the item, still at the version of that
    /// answer, shows other values in `fields`. These values count as not written. The next pass writes them
    /// again; if the same failure returns, the task is parked and shown.
    pub fn record_unkept_fields(
        &mut self,
        action: &Action,
        shown: &Task,
        fields: FieldSet,
        failure: Failure,
    ) {
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
            self.keep_pending(action, Some(failure));
        }
    }

    /// Handles creations whose outcome is unknown because reading them back failed. The pass stops: while
    /// nothing can be read, nothing more is written.
    pub fn record_unconfirmed(&mut self, actions: &[Action], failure: Failure) {
        for action in actions {
            self.keep_pending(action, Some(failure.clone()));
        }
        self.stopped_by.get_or_insert(failure);
    }

    /// Handles a failure to create the folder of a list. A failure that concerns more than this list stops
    /// the pass.
    pub fn record_folder_failure(&mut self, location: &LocationKey, failure: Failure) {
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
                if self.failed_writes.count(Side::Mailbox, location, &failure) {
                    self.stopped_by.get_or_insert(failure.at_least(Scope::Person));
                }
            }
        }
    }

    /// Records a new copy that was not created because its folder could not be created.
    pub fn record_without_folder(&mut self, action: &Action, failure: Failure) {
        self.forget_writing(action);
        self.record_attempt(action, &failure);
        self.keep_pending(action, Some(failure));
    }

    /// Records an action that was not begun; the next pass plans its task anew.
    pub fn postpone_action(&mut self, action: &Action) {
        self.forget_writing(action);
        self.keep_pending(action, None);
    }

    /// Returns whether this action is left for the next pass, because the pass is stopped or too many writes
    /// in its list failed.
    #[must_use]
    pub fn skips(&self, action: &Action) -> bool {
        self.stopped_by.is_some() || self.failed_writes.skips(action)
    }

    /// Ends the writing: from now on the unfinished tasks are the pending ones. A task whose write fails in
    /// pass after pass is refused, unless the pass was stopped: then the failures say nothing about single
    /// tasks.
    pub fn finish(&mut self) {
        if self.stopped_by.is_none() {
            let state = &mut self.state;
            for GivenUpTask { key, refusal, kind } in
                self.failed_writes.give_up(&mut state.failing, &state.parked)
            {
                match kind {
                    ActionKind::ConcernsTwin => {
                        self.unfinished_twins.remove(&key);
                    }
                    ActionKind::WritesValues | ActionKind::Deletes => {
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

    /// Moves the cursors to where reading ended. Returns whether the state differs from the stored one.
    ///
    /// Everything the cursors cover was carried out, or is recorded as pending, held or parked in the same
    /// save.
    pub fn commit(&mut self) -> bool {
        let now = self.started;
        let ReadProgress {
            source_cursor,
            folders,
            confirmed,
            unread,
            read_again,
            without_dates,
            undecided: _,
            full,
        } = std::mem::take(&mut self.read_progress);
        let state = &mut self.state;
        // A second copy shows only in the changes of its folder, so these changes must be read again.
        if self.unfinished_twins.is_empty() {
            for (location, (cursor, signs)) in folders {
                if let Some(location_state) = state.locations.get_mut(&location) {
                    location_state.cursor = Some(cursor);
                    location_state.signs = signs;
                }
            }
        }
        for key in confirmed {
            state.unconfirmed_copies.remove(&key);
        }
        let links = &state.links;
        state.unconfirmed_copies.retain(|key| links.contains_key(key));
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

    /// Records that the present state was stored.
    pub fn stored(&mut self) {
        self.saved.clone_from(&self.state);
    }

    /// Returns how far both sides were read; empty after [`Pass::commit`].
    #[must_use]
    pub fn read_progress(&self) -> &ReadProgress {
        &self.read_progress
    }

    /// Returns the stored state.
    #[must_use]
    pub fn saved(&self) -> &SyncState {
        &self.saved
    }

    /// Returns whether both sides should be read again soon, because something changed meanwhile.
    ///
    /// # Errors
    /// The failure that stopped the pass; the remaining tasks are pending.
    pub fn outcome(self) -> Result<bool, Failure> {
        match self.stopped_by {
            Some(failure) => Err(failure),
            None => Ok(self.needs_another),
        }
    }

    fn link(&mut self, key: &SourceKey, mut link: Link) {
        let earlier_completion = self.state.links.get(key).and_then(|link| link.completed_at);
        let is_completed = link.agreed.progress().status == Status::Completed;
        link.completed_at = is_completed.then(|| earlier_completion.unwrap_or(self.started));
        self.state.links.insert(key.clone(), link);
        self.state.let_go.remove(key);
        self.clear_records(key);
    }

    fn unlink(&mut self, key: &SourceKey) {
        self.state.links.remove(key);
        self.state.let_go.remove(key);
        self.clear_records(key);
    }

    fn let_go(&mut self, key: &SourceKey, let_go: LetGo) {
        self.state.links.remove(key);
        self.state.let_go.insert(key.clone(), let_go);
        self.clear_records(key);
    }

    fn clear_records(&mut self, key: &SourceKey) {
        self.state.parked.remove(key);
        self.state.writing.remove(key);
        self.state.left_folder.remove(key);
        self.state.left_source.remove(key);
    }

    fn keep_pending(&mut self, action: &Action, reason: Option<Failure>) {
        self.state.pending.insert(action.key().clone());
        let unfinished = match action.kind() {
            ActionKind::ConcernsTwin => &mut self.unfinished_twins,
            ActionKind::WritesValues | ActionKind::Deletes => &mut self.unfinished,
        };
        unfinished.insert(action.key().clone(), reason);
    }

    /// Records a failure of this action whose cause may be its own task.
    fn record_attempt(&mut self, action: &Action, failure: &Failure) {
        let refusal = self.refusal(action, failure.clone());
        self.failed_writes.record_attempt(action, refusal);
    }

    /// Removes the record of a write that was not begun.
    fn forget_writing(&mut self, action: &Action) {
        if action.writing("").is_some() {
            self.state.writing.remove(action.key());
        }
    }

    fn park(&mut self, action: &Action, failure: Failure) {
        let refusal = self.refusal(action, failure);
        self.state.parked.insert(action.key().clone(), refusal);
    }

    /// Returns the entry of `parked` for the action's task.
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
