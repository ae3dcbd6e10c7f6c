//! Carrying the plan out, one action at a time, each with its own result. Makes no choices.

use std::collections::BTreeSet;

use tasksync_common::error::{ErrorClass, Failure, Scope, Stops};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::plan::{Action, Plan};
use tasksync_common::state::{Link, LocationState, Parked};
use tokio::time::Instant;
use uuid::Uuid;

use super::load::Loaded;
use super::{SyncEngine, TenantContext};
use crate::mailbox::{FolderId, ItemChanges, ItemRef, NewItem};
use crate::source::TaskChanges;
use crate::work::SyncReport;

/// Progress is saved after so many writes, so that little is read again after a crash.
const SAVE_EVERY: u32 = 25;

/// So many writes in a row that failed for reasons of the server end the pass.
const FAILURES_IN_A_ROW: u32 = 3;

/// How applying ended.
#[derive(Default)]
pub(super) struct Outcome {
    /// Something changed meanwhile and should be looked at again.
    pub(super) again: bool,
    /// A failure that concerns more than one task; the rest is pending.
    pub(super) stopped_by: Option<Failure>,
    /// A second copy was not dealt with. Nothing but its folder's changes tells of it, so they have to be read again.
    pub(super) twin_left: bool,
    /// Tasks whose actions were not carried out.
    unfinished: BTreeSet<SourceKey>,
}

/// What one action left to remember.
enum Done {
    Linked(Box<Link>),
    Unlinked,
    Nothing,
}

impl SyncEngine {
    pub(super) async fn apply(
        &self,
        context: &TenantContext,
        loaded: &mut Loaded,
        plan: Plan,
        deadline: Instant,
        report: &mut SyncReport,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        self.journal_before(loaded, &plan).await?;
        let without_folder = self
            .create_folders(context, loaded, &plan.folders, report, &mut outcome)
            .await;
        self.rename_folders(context, loaded, report).await;
        let actions = plan.actions.into_iter().map(|(_, action)| action);
        let (agreed, actions): (Vec<_>, Vec<_>) = actions.partition(remembers);
        let write_id = Uuid::new_v4().simple().to_string();
        for action in &agreed {
            let done = self.perform(context, loaded, action, &write_id).await?;
            remember(loaded, action.key(), done);
        }
        // What was pending stays so until all is done, and so does what is planned: a pass that is cut off must not forget it.
        let planned = actions.iter().map(|action| action.key().clone());
        loaded.state.pending.extend(planned);
        self.note_before_writing(loaded, &actions, &write_id).await?;
        let (mut writes, mut failures) = (0_u32, 0_u32);
        for action in actions {
            let key = action.key().clone();
            let late = Instant::now() >= deadline;
            let homeless =
                matches!(action, Action::CreateInMailbox { .. }) && without_folder.contains(&key.location());
            if outcome.stopped_by.is_some() || late || homeless {
                report.unfinished |= late;
                not_written(loaded, &action);
                put_off(loaded, &mut outcome, &action);
                continue;
            }
            let result = self.perform(context, loaded, &action, &write_id).await;
            writes += 1;
            count(&action, report);
            match result {
                Ok(done) => {
                    failures = 0;
                    if matches!(action, Action::CreateInMailbox { .. }) {
                        loaded.confirmed.remove(&key);
                        loaded.state.fresh.insert(key.clone());
                    }
                    remember(loaded, &key, done);
                }
                Err(failure) => {
                    failures = if is_of_the_server(failure.class) {
                        failures + 1
                    } else {
                        0
                    };
                    sort_failure(loaded, &action, failure, failures, report, &mut outcome);
                }
            }
            if writes >= SAVE_EVERY {
                writes = 0;
                self.save_progress(loaded).await?;
            }
        }
        loaded.state.pending = std::mem::take(&mut outcome.unfinished);
        Ok(outcome)
    }

    /// Folders for new locations. Tasks of locations that could not get one have to wait.
    async fn create_folders(
        &self,
        context: &TenantContext,
        loaded: &mut Loaded,
        folders: &[LocationKey],
        report: &mut SyncReport,
        outcome: &mut Outcome,
    ) -> BTreeSet<LocationKey> {
        let mut without = BTreeSet::new();
        for location in folders {
            let Some(known) = loaded.locations.get(location) else {
                without.insert(location.clone());
                continue;
            };
            report.mailbox_writes += 1;
            match context
                .connections
                .mailbox
                .create_folder(&loaded.owner, &known.name, location)
                .await
            {
                Ok(folder) => {
                    let place = LocationState {
                        name: known.name.clone(),
                        holds: known.holds,
                        folder: folder.0,
                        cursor: None,
                        signs: None,
                    };
                    loaded.state.locations.insert(location.clone(), place);
                }
                Err(failure) => {
                    without.insert(location.clone());
                    if !is_refused_in_part(&failure) {
                        outcome.stopped_by.get_or_insert(failure);
                    }
                }
            }
        }
        without
    }

    /// Folders follow the names of their lists; a failure here is tried again when the list is reported next.
    async fn rename_folders(&self, context: &TenantContext, loaded: &mut Loaded, report: &mut SyncReport) {
        for (location, known) in &loaded.locations {
            let Some(place) = loaded.state.locations.get_mut(location) else {
                continue;
            };
            place.holds = known.holds;
            // A number added because a name was taken is not a difference.
            if place.name == known.name || place.name.starts_with(&format!("{} (", known.name)) {
                continue;
            }
            report.mailbox_writes += 1;
            let folder = FolderId(place.folder.clone());
            match context
                .connections
                .mailbox
                .rename_folder(&loaded.owner, &folder, &known.name)
                .await
            {
                Ok(()) => place.name.clone_from(&known.name),
                Err(failure) => tracing::debug!(user = %loaded.user, %failure, "folder not renamed"),
            }
        }
    }

    /// Our own removals, creations and updates are written down before they happen, so that they are never taken for the
    /// person's wish; and folders before anything is put into them, so that it is found again even if its task went meanwhile.
    async fn note_before_writing(
        &self,
        loaded: &mut Loaded,
        actions: &[Action],
        write_id: &str,
    ) -> Result<(), Failure> {
        let state = &mut loaded.state;
        let mut noted = state.locations != loaded.before.locations;
        for action in actions {
            let key = action.key();
            if matches!(action, Action::RemoveFromMailbox { .. })
                && let Some(link) = state.links.get_mut(key)
            {
                link.removing = true;
                let saved = loaded.before.links.get(key);
                noted |= saved.is_none_or(|link| !link.removing);
            }
            if let Some(writing) = action.writing(write_id) {
                state.writing.insert(key.clone(), writing);
                noted = true;
            }
        }
        if noted {
            self.save_progress(loaded).await
        } else {
            Ok(())
        }
    }

    async fn perform(
        &self,
        context: &TenantContext,
        loaded: &Loaded,
        action: &Action,
        write_id: &str,
    ) -> Result<Done, Failure> {
        let (source, mailbox) = (&context.connections.source, &context.connections.mailbox);
        let owner = &loaded.owner;
        let item_ref = |id: &str, change_key: &str| ItemRef {
            id: id.to_owned(),
            change_key: change_key.to_owned(),
        };
        match action {
            Action::Remember { link, .. } => Ok(Done::Linked(link.clone())),
            Action::Forget { .. } => Ok(Done::Unlinked),
            Action::CreateInMailbox {
                key,
                task,
                web_url,
                link,
                ..
            } => {
                let item = NewItem {
                    key,
                    task,
                    web_link: Some(web_url),
                    write_id,
                };
                let item = self.create(context, loaded, &item).await?;
                Ok(linked_to(item, link))
            }
            Action::RemoveFromMailbox { item, change_key, .. }
            | Action::RemoveTwin { item, change_key, .. } => {
                mailbox.delete(owner, &item_ref(item, change_key)).await?;
                let twin = matches!(action, Action::RemoveTwin { .. });
                Ok(if twin { Done::Nothing } else { Done::Unlinked })
            }
            Action::DisownTwin { item, change_key, .. } => {
                mailbox.disown(owner, &item_ref(item, change_key)).await?;
                Ok(Done::Nothing)
            }
            Action::DeleteAtSource { key, version, .. } => {
                source.delete(key, version).await?;
                Ok(Done::Unlinked)
            }
            Action::UpdateSource {
                key,
                version,
                task,
                fields,
                link,
                ..
            } => {
                let changes = TaskChanges {
                    task: (**task).clone(),
                    fields: *fields,
                };
                let written = source.update(key, version, &changes).await?;
                let mut link = link.clone();
                link.version = written.version;
                Ok(Done::Linked(link))
            }
            Action::UpdateMailbox {
                item,
                change_key,
                task,
                fields,
                link,
                ..
            } => {
                let changes = ItemChanges {
                    task: (**task).clone(),
                    fields: *fields,
                    write_id: write_id.to_owned(),
                };
                let item = mailbox
                    .update(owner, &item_ref(item, change_key), &changes)
                    .await?;
                Ok(linked_to(item, link))
            }
        }
    }

    /// Creates the item; when the answer is lost it is looked for, so that it is not created twice.
    async fn create(
        &self,
        context: &TenantContext,
        loaded: &Loaded,
        item: &NewItem<'_>,
    ) -> Result<ItemRef, Failure> {
        let mailbox = &context.connections.mailbox;
        let key = item.key;
        let Some(place) = loaded.state.locations.get(&key.location()) else {
            return Err(Failure::new(
                ErrorClass::Gone,
                tasksync_common::error::Code::ExchangeFolderGone,
                format!("{key} has no folder in {}", loaded.owner.mailbox),
            ));
        };
        let folder = FolderId(place.folder.clone());
        match mailbox.create(&loaded.owner, &folder, item).await {
            Err(failure) if failure.class == ErrorClass::OutcomeUnknown => {
                let found = mailbox.find(&loaded.owner, &[folder], key).await?;
                found.into_iter().next().ok_or(failure)
            }
            other => other,
        }
    }
}

/// What is remembered once this item was written.
fn linked_to(item: ItemRef, link: &Link) -> Done {
    Done::Linked(Box::new(Link {
        item: item.id,
        change_key: item.change_key,
        ..link.clone()
    }))
}

/// An action that was not carried out is planned anew the next time.
fn put_off(loaded: &mut Loaded, outcome: &mut Outcome, action: &Action) {
    loaded.state.pending.insert(action.key().clone());
    outcome.unfinished.insert(action.key().clone());
    outcome.twin_left |= is_about_a_twin(action);
}

/// What was written down of a write that surely did not happen is forgotten.
fn not_written(loaded: &mut Loaded, action: &Action) {
    match action {
        Action::CreateInMailbox { key, .. }
        | Action::UpdateSource { key, .. }
        | Action::UpdateMailbox { key, .. } => {
            loaded.state.writing.remove(key);
        }
        Action::RemoveFromMailbox { .. }
        | Action::DeleteAtSource { .. }
        | Action::Remember { .. }
        | Action::Forget { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => {}
    }
}

fn is_about_a_twin(action: &Action) -> bool {
    match action {
        Action::RemoveTwin { .. } | Action::DisownTwin { .. } => true,
        Action::CreateInMailbox { .. }
        | Action::RemoveFromMailbox { .. }
        | Action::DeleteAtSource { .. }
        | Action::UpdateSource { .. }
        | Action::UpdateMailbox { .. }
        | Action::Remember { .. }
        | Action::Forget { .. } => false,
    }
}

fn remember(loaded: &mut Loaded, key: &SourceKey, done: Done) {
    let state = &mut loaded.state;
    match done {
        Done::Linked(link) => {
            state.links.insert(key.clone(), *link);
            state.parked.remove(key);
            state.writing.remove(key);
        }
        Done::Unlinked => {
            state.links.remove(key);
            state.parked.remove(key);
            state.writing.remove(key);
        }
        Done::Nothing => {}
    }
}

fn count(action: &Action, report: &mut SyncReport) {
    match action {
        Action::DeleteAtSource { .. } | Action::UpdateSource { .. } => report.source_writes += 1,
        Action::CreateInMailbox { .. }
        | Action::RemoveFromMailbox { .. }
        | Action::UpdateMailbox { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => report.mailbox_writes += 1,
        Action::Remember { .. } | Action::Forget { .. } => {}
    }
}

/// Whether an action writes nothing outside.
fn remembers(action: &Action) -> bool {
    matches!(action, Action::Remember { .. } | Action::Forget { .. })
}

fn is_refused_in_part(failure: &Failure) -> bool {
    failure.class == ErrorClass::Refused && failure.stops() == Stops::Part
}

fn is_of_the_server(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Transient | ErrorClass::OutcomeUnknown => true,
        ErrorClass::Throttled { .. }
        | ErrorClass::Conflict
        | ErrorClass::Gone
        | ErrorClass::Refused
        | ErrorClass::CursorInvalid => false,
    }
}

/// Where a task goes whose action failed: back into the line, aside, or the whole pass stops.
fn sort_failure(
    loaded: &mut Loaded,
    action: &Action,
    failure: Failure,
    failures_in_a_row: u32,
    report: &mut SyncReport,
    outcome: &mut Outcome,
) {
    let key = action.key().clone();
    report.items_failed += 1;
    if failure.class != ErrorClass::OutcomeUnknown {
        not_written(loaded, action);
    }
    tracing::info!(tenant = %loaded.user.tenant, user = %loaded.user.user, task = %key, code = %failure.code,
        class = failure.class.name(), detail = %failure.detail, "a task could not be written");
    match failure.class {
        ErrorClass::Conflict | ErrorClass::Gone | ErrorClass::CursorInvalid => {
            put_off(loaded, outcome, action);
            outcome.again = true;
        }
        // A second copy that cannot be dealt with is no reason to leave the task alone.
        ErrorClass::Refused if is_refused_in_part(&failure) && is_about_a_twin(action) => {}
        ErrorClass::Refused if is_refused_in_part(&failure) => {
            let (version, change_key) = versions(loaded, action);
            loaded.state.parked.insert(
                key,
                Parked {
                    version,
                    change_key,
                    failure,
                },
            );
        }
        ErrorClass::Transient | ErrorClass::OutcomeUnknown => {
            put_off(loaded, outcome, action);
            if failures_in_a_row >= FAILURES_IN_A_ROW {
                // Several in a row are more than one item's.
                outcome.stopped_by.get_or_insert(failure.at_least(Scope::Person));
            }
        }
        ErrorClass::Throttled { .. } | ErrorClass::Refused => {
            put_off(loaded, outcome, action);
            outcome.stopped_by.get_or_insert(failure);
        }
    }
}

/// The versions on both sides that the refused action was based on.
fn versions(loaded: &Loaded, action: &Action) -> (Option<String>, Option<String>) {
    let link = loaded.state.links.get(action.key());
    let linked_version = link.map(|link| link.version.clone());
    let linked_change_key = link.map(|link| link.change_key.clone());
    match action {
        Action::CreateInMailbox { version, .. } => (Some(version.clone()), linked_change_key),
        Action::UpdateMailbox {
            version, change_key, ..
        }
        | Action::UpdateSource {
            version, change_key, ..
        } => (Some(version.clone()), Some(change_key.clone())),
        Action::DeleteAtSource { version, .. } => (Some(version.clone()), linked_change_key),
        Action::RemoveFromMailbox { change_key, .. }
        | Action::RemoveTwin { change_key, .. }
        | Action::DisownTwin { change_key, .. } => (linked_version, Some(change_key.clone())),
        Action::Remember { .. } | Action::Forget { .. } => (linked_version, linked_change_key),
    }
}
