//! Reading the source's side of one user.

use std::collections::{BTreeMap, BTreeSet};

use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::state::SyncState;

use super::{SyncEngine, TenantContext};
use crate::source::{Location, Person, Presence, SourceChanges};

/// The source's side as far as it was read.
pub(super) struct SourceReading {
    pub(super) tasks: BTreeMap<SourceKey, Presence>,
    pub(super) locations: BTreeMap<LocationKey, Location>,
    pub(super) cursor: String,
}

impl SyncEngine {
    /// What changed since the stored cursor, or everything; then what has to be looked at whatever changed.
    pub(super) async fn read_source(
        &self,
        context: &TenantContext,
        person: &Person,
        state: &SyncState,
        surveyed: Option<(String, SourceChanges)>,
        full: bool,
    ) -> Result<SourceReading, Failure> {
        let changes = match (&state.source_cursor, surveyed) {
            _ if full => context.connections.source.everything(person).await?,
            // The survey asked with the cursor that is stored: its answer is the one needed here.
            (Some(stored), Some((asked, changes))) if *stored == asked => changes,
            (Some(stored), _) => self.changes_since(context, person, state, stored).await?,
            (None, _) => context.connections.source.everything(person).await?,
        };
        let complete = changes.complete;
        let mut reading = SourceReading {
            tasks: changes.tasks.into_iter().collect(),
            locations: changes
                .locations
                .into_iter()
                .map(|location| (location.key.clone(), location))
                .collect(),
            cursor: changes.cursor,
        };
        let unsettled = state
            .links
            .iter()
            .filter(|(_, link)| link.is_unsettled())
            .map(|(key, _)| key);
        let mut questions: BTreeSet<SourceKey> = state
            .pending
            .iter()
            .chain(&state.held)
            .chain(unsettled)
            .cloned()
            .collect();
        if complete {
            // Not in a listing is not the same as gone: each is asked for by its key.
            questions.extend(state.links.keys().cloned());
        }
        questions.retain(|key| !reading.tasks.contains_key(key));
        self.ask_about(context, person, &questions, &mut reading).await?;
        Ok(reading)
    }

    async fn changes_since(
        &self,
        context: &TenantContext,
        person: &Person,
        state: &SyncState,
        cursor: &str,
    ) -> Result<SourceChanges, Failure> {
        let source = &context.connections.source;
        let linked: BTreeSet<SourceKey> = state.links.keys().cloned().collect();
        let changes = match source.refresh(&[cursor]).await {
            Ok(()) => source.changes(person, cursor, &linked).await,
            Err(failure) => Err(failure),
        };
        match changes {
            Err(failure) if failure.class == ErrorClass::CursorInvalid => source.everything(person).await,
            other => other,
        }
    }

    /// Asks the source about tasks by their keys.
    pub(super) async fn ask_about(
        &self,
        context: &TenantContext,
        person: &Person,
        keys: &BTreeSet<SourceKey>,
        reading: &mut SourceReading,
    ) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<SourceKey> = keys.iter().cloned().collect();
        reading
            .tasks
            .extend(context.connections.source.tasks(person, &keys).await?);
        Ok(())
    }
}
