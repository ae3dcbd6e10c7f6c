//! Reading one user's side of the source.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::state::SyncState;

use crate::source::{Location, Person, Source, SourceChanges, TaskPresence};

/// The source's side, filled step by step while it is read.
#[derive(Default)]
pub(super) struct SourceReading {
    pub(super) tasks: BTreeMap<SourceKey, TaskPresence>,
    pub(super) locations: BTreeMap<LocationKey, Location>,
    pub(super) cursor: String,
    /// Lists and sites that could not be read.
    pub(super) unread: BTreeMap<LocationKey, Failure>,
    /// Tasks about which two answers disagree, or that could not be read.
    pub(super) undecided: BTreeMap<SourceKey, Failure>,
    /// The keys of a complete listing, once one was made.
    listed: Option<BTreeSet<SourceKey>>,
}

impl SourceReading {
    /// Returns the tasks that exist and are the person's.
    pub(super) fn present(&self) -> impl Iterator<Item = &SourceKey> {
        self.tasks
            .iter()
            .filter(|(_, presence)| matches!(presence, TaskPresence::Present(_)))
            .map(|(key, _)| key)
    }

    /// Returns the lists and sites that could not be read before and were read now: one of their tasks was
    /// read, or everything was listed.
    pub(super) fn read_again(&self, state: &SyncState) -> BTreeSet<LocationKey> {
        let read: BTreeSet<LocationKey> = self.present().map(SourceKey::location).collect();
        let again = |location: &&LocationKey| {
            !self.unread.contains_key(*location) && (self.listed.is_some() || read.contains(*location))
        };
        state.unread.keys().filter(again).cloned().collect()
    }

    fn is_unread(&self, key: &SourceKey) -> bool {
        self.unread
            .keys()
            .any(|location| key.as_str().starts_with(location.as_str()))
    }
}

/// Reads the source for one person.
pub(super) struct SourceReader<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) person: &'a Person,
}

impl SourceReader<'_> {
    /// Reads what changed since the stored cursor, or everything; then looks up by key the tasks that must be
    /// read in any case.
    pub(super) async fn read(
        &self,
        state: &mut SyncState,
        surveyed: Option<(String, SourceChanges)>,
        full: bool,
    ) -> Result<SourceReading, Failure> {
        let changes = match (&state.source_cursor, surveyed) {
            _ if full => self.source.everything(self.person).await?,
            // The survey used the stored cursor, so its answer is the one needed here.
            (Some(stored), Some((asked, changes))) if *stored == asked => changes,
            (Some(stored), _) => self.changes_since(state, stored).await?,
            (None, _) => self.source.everything(self.person).await?,
        };
        let complete = changes.complete;
        let mut reading = SourceReading {
            cursor: changes.cursor.clone(),
            ..SourceReading::default()
        };
        if changes.identity.is_some() {
            state.identity.clone_from(&changes.identity);
        }
        take_changes(state, &mut reading, changes);
        let mut questions: BTreeSet<SourceKey> = state.pending.iter().chain(&state.held).cloned().collect();
        let unsettled = state.links.iter().filter(|(_, link)| link.is_unsettled());
        questions.extend(unsettled.map(|(key, _)| key.clone()));
        if complete {
            // A task that is missing from a listing may still exist: each is looked up by its key.
            questions.extend(state.links.keys().chain(state.let_go.keys()).cloned());
        }
        // Tasks that the feed reports as absent are looked up by key, too.
        questions.retain(|key| !matches!(reading.tasks.get(key), Some(TaskPresence::Present(_))));
        self.ask(state, &questions, &mut reading).await?;
        Ok(reading)
    }

    async fn changes_since(&self, state: &SyncState, cursor: &str) -> Result<SourceChanges, Failure> {
        let linked: BTreeSet<SourceKey> = state.links.keys().cloned().collect();
        let changes = match self.source.refresh(&[cursor]).await {
            Ok(()) => self.source.changes(self.person, cursor, &linked).await,
            Err(failure) => Err(failure),
        };
        match changes {
            Err(failure) if failure.class == ErrorClass::CursorInvalid => {
                self.source.everything(self.person).await
            }
            other => other,
        }
    }

    /// Reads tasks by their keys. A task counts as absent only if the feed or a listing agrees.
    pub(super) async fn ask(
        &self,
        state: &mut SyncState,
        keys: &BTreeSet<SourceKey>,
        reading: &mut SourceReading,
    ) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let asked: Vec<SourceKey> = keys.iter().cloned().collect();
        let answers = self.source.tasks(self.person, &asked).await?;
        let mut absent = BTreeSet::new();
        for (key, presence) in answers {
            // Ignore answers about tasks that were not asked for.
            if !keys.contains(&key) {
                continue;
            }
            match &presence {
                TaskPresence::Present(_) => {
                    state.left_source.remove(&key);
                }
                TaskPresence::Absent(_) => {
                    absent.insert(key.clone());
                }
                TaskPresence::Unreadable(failure) => {
                    reading.undecided.insert(key.clone(), failure.clone());
                    // If the list itself was not found, the list is unread, like one whose items cannot be
                    // listed.
                    if failure.scope == Scope::Container {
                        reading.unread.insert(key.location(), failure.clone());
                    }
                }
            }
            reading.tasks.insert(key, presence);
        }
        for key in keys.iter().filter(|key| !reading.tasks.contains_key(*key)) {
            reading.undecided.insert(key.clone(), unanswered(key));
        }
        self.confirm(state, &absent, reading).await
    }

    /// Looks for a second answer about the tasks that a read by key calls absent.
    async fn confirm(
        &self,
        state: &mut SyncState,
        absent: &BTreeSet<SourceKey>,
        reading: &mut SourceReading,
    ) -> Result<(), Failure> {
        let unconfirmed = |state: &SyncState| -> BTreeSet<SourceKey> {
            absent
                .iter()
                .filter(|key| !state.left_source.contains(*key))
                .cloned()
                .collect()
        };
        if unconfirmed(state).is_empty() {
            return Ok(());
        }
        if reading.listed.is_none() {
            let listing = self.source.everything(self.person).await?;
            note_listing(reading, &listing);
        }
        let listed = reading.listed.clone().unwrap_or_default();
        for key in unconfirmed(state) {
            if listed.contains(&key) || reading.is_unread(&key) {
                reading.tasks.remove(&key);
                reading.undecided.insert(key.clone(), contradiction(&key));
            } else {
                state.left_source.insert(key);
            }
        }
        Ok(())
    }
}

/// Records what the feed or a listing reports. A task that it calls absent is looked up by its key before it
/// counts.
fn take_changes(state: &mut SyncState, reading: &mut SourceReading, changes: SourceChanges) {
    note_listing(reading, &changes);
    for location in changes.locations {
        reading.locations.insert(location.key.clone(), location);
    }
    for (key, presence) in changes.tasks {
        match &presence {
            TaskPresence::Present(_) => {
                state.left_source.remove(&key);
            }
            TaskPresence::Absent(_) => {
                state.left_source.insert(key.clone());
            }
            TaskPresence::Unreadable(failure) => {
                reading.undecided.insert(key.clone(), failure.clone());
            }
        }
        reading.tasks.insert(key, presence);
    }
}

fn note_listing(reading: &mut SourceReading, changes: &SourceChanges) {
    let unread = changes.unread.iter();
    reading
        .unread
        .extend(unread.map(|unread| (unread.key.clone(), unread.failure.clone())));
    if changes.complete {
        // A task that cannot be read was still listed.
        let listed = changes.tasks.iter().filter(|(_, presence)| match presence {
            TaskPresence::Present(_) | TaskPresence::Unreadable(_) => true,
            TaskPresence::Absent(_) => false,
        });
        reading.listed = Some(listed.map(|(key, _)| key.clone()).collect());
    }
}

fn contradiction(key: &SourceKey) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::AnswersDisagree,
        format!(
            "a read of {key} by its id says that the task is not the person's, and the listing says that it is"
        ),
    )
}

fn unanswered(key: &SourceKey) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::AnswersDisagree,
        format!("{key} was requested by its id and is missing from the answer"),
    )
}
