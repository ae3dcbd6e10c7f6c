//! Carrying a plan out, one action at a time. `plan::Pass` decides what follows from each result.

use std::collections::BTreeMap;

use tasksync_common::clock::Clock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::model::{Field, FieldSet, LocationKey, Percent, SourceKey, Status, Task, UserKey};
use tasksync_common::plan::{Action, ActionResult, Pass, Plan, Removal, Side};
use tasksync_common::random::unique_id;
use tasksync_common::state::LocationState;
use tokio::time::Instant;

use super::keeper::Keeper;
use super::load::UnnamedMarkers;
use super::read_back::{UnprovenDeletion, UnprovenWrite};
use crate::mailbox::{FolderId, ItemChanges, ItemRef, Mailbox, NewItem, Owner};
use crate::source::{Location, Person, Source, TaskChanges, TaskPresence};
use crate::work::SyncReport;

/// Number of writes after which progress is saved, so that little is read again after a crash.
const SAVE_EVERY: u32 = 25;

const PROGRESS: FieldSet = FieldSet::EMPTY.with(Field::Progress);

/// The largest number that tasksync appends to a folder name that is taken.
const LARGEST_NUMBER: u32 = 20;

/// The effect of an action that succeeded.
enum Effect {
    /// A new item, which has to be read back.
    Created(ItemRef),
    /// An item that was deleted, which has to be proved.
    Deleted(ItemRef, ActionResult),
    /// An effect that needs no proof before it is recorded.
    Done(ActionResult),
}

/// Carries out the plan of one user.
pub(super) struct Writer<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) mailbox: &'a dyn Mailbox,
    pub(super) user: &'a UserKey,
    pub(super) owner: &'a Owner,
    pub(super) person: &'a Person,
    pub(super) locations: &'a BTreeMap<LocationKey, Location>,
    pub(super) keeper: &'a mut Keeper,
    pub(super) pass: &'a mut Pass,
    pub(super) report: &'a mut SyncReport,
    pub(super) deadline: Instant,
    /// The id that this pass writes on every item it writes.
    pub(super) write_id: String,
    pub(super) clock: &'a dyn Clock,
}

impl Writer<'_> {
    /// Returns a new id for the writes of one pass.
    pub(super) fn new_write_id() -> String {
        unique_id().simple().to_string()
    }

    pub(super) async fn carry_out(mut self, plan: Plan, unnamed: UnnamedMarkers) -> Result<(), Failure> {
        let without_folder = self.create_folders(&plan.folders).await;
        self.rename_folders().await;
        self.complete_markers(unnamed).await;
        self.pass.apply_memos(plan.agreed);
        let actions: Vec<Action> = plan.actions.into_iter().map(|(_, action)| action).collect();
        if self.pass.record_planned_writes(&actions, &self.write_id) {
            self.keeper.save(self.pass).await?;
        }
        let mut writes = 0_u32;
        let mut to_read_back = Vec::new();
        let mut deleted = Vec::new();
        for action in actions {
            let late = monotonic() >= self.deadline;
            if self.pass.skips(&action) || late {
                self.report.unfinished |= late;
                self.pass.postpone_action(&action);
                continue;
            }
            if matches!(action, Action::CreateInMailbox { .. })
                && let Some(why) = without_folder.get(&action.key().location())
            {
                match why {
                    Some(failure) => self.pass.record_without_folder(&action, failure.clone()),
                    None => self.pass.postpone_action(&action),
                }
                continue;
            }
            let at = self.clock.now();
            let result = self.perform(&action).await;
            writes += 1;
            match action.side() {
                Side::Source => self.report.source_writes += 1,
                Side::Mailbox => self.report.mailbox_writes += 1,
            }
            match result {
                Ok(Effect::Created(item)) => to_read_back.push(UnprovenWrite::created(action, item, at)),
                Ok(Effect::Deleted(item, done)) => deleted.push(UnprovenDeletion::new(action, item.id, done)),
                Ok(Effect::Done(done)) => {
                    to_read_back.extend(UnprovenWrite::updated(&action, &done, at));
                    self.pass.record_success(&action, done);
                }
                Err(failure) => self.record_failed(&action, failure),
            }
            if writes >= SAVE_EVERY {
                writes = 0;
                self.read_back(std::mem::take(&mut to_read_back)).await;
                self.prove_deleted(std::mem::take(&mut deleted)).await;
                self.keeper.save(self.pass).await?;
            }
        }
        self.read_back(to_read_back).await;
        self.prove_deleted(deleted).await;
        self.pass.finish();
        Ok(())
    }

    pub(super) fn record_failed(&mut self, action: &Action, failure: Failure) {
        self.report.items_failed += 1;
        tracing::info!(tenant = %self.user.tenant, user = %self.user.user, task = %action.key(),
            code = %failure.code, class = failure.class.name(), detail = %failure.detail,
            "a task could not be written");
        self.pass.record_failure(action, failure);
    }

    /// Makes folders for new locations. Returns the locations that have none, with the failure if there was
    /// one. Their tasks have to wait.
    async fn create_folders(&mut self, folders: &[LocationKey]) -> BTreeMap<LocationKey, Option<Failure>> {
        let mut without = BTreeMap::new();
        for location in folders {
            let Some(described) = self.locations.get(location) else {
                without.insert(location.clone(), None);
                continue;
            };
            self.report.mailbox_writes += 1;
            match self
                .mailbox
                .create_folder(self.owner, &described.name, location)
                .await
            {
                Ok(folder) => self.pass.record_folder(
                    location,
                    LocationState {
                        name: described.name.clone(),
                        name_read_from_folder: false,
                        holds: described.holds,
                        folder: folder.0,
                        cursor: None,
                        signs: None,
                    },
                ),
                Err(failure) => {
                    without.insert(location.clone(), Some(failure.clone()));
                    self.pass.record_folder_failure(location, failure);
                }
            }
        }
        without
    }

    /// Renames folders whose lists were renamed. A rename that fails is tried again when the list is reported
    /// next.
    async fn rename_folders(&mut self) {
        for (location, described) in self.locations {
            let Some(stored) = self.pass.state.locations.get_mut(location) else {
                continue;
            };
            stored.holds = described.holds;
            if stored.name == described.name
                || (stored.name_read_from_folder && is_numbered(&stored.name, &described.name))
            {
                continue;
            }
            self.report.mailbox_writes += 1;
            let folder = FolderId(stored.folder.clone());
            match self
                .mailbox
                .rename_folder(self.owner, &folder, &described.name)
                .await
            {
                Ok(()) => {
                    stored.name.clone_from(&described.name);
                    stored.name_read_from_folder = false;
                }
                Err(failure) => tracing::debug!(user = %self.user, %failure, "folder not renamed"),
            }
        }
    }

    /// Adds the owner to markers that earlier builds wrote. A failure is tried again when the marker is read
    /// next.
    async fn complete_markers(&mut self, unnamed: UnnamedMarkers) {
        if !unnamed.folders.is_empty()
            && let Err(failure) = self
                .mailbox
                .complete_folder_markers(self.owner, &unnamed.folders)
                .await
        {
            tracing::debug!(user = %self.user, %failure, "markers of folders not completed");
        }
        let (keys, items): (Vec<SourceKey>, Vec<ItemRef>) = unnamed.items.into_iter().unzip();
        if items.is_empty() {
            return;
        }
        match self.mailbox.complete_item_markers(self.owner, &items).await {
            Ok(completed) => {
                for ((key, before), after) in keys.iter().zip(&items).zip(completed) {
                    if let Ok(after) = after {
                        self.pass
                            .record_version(key, &before.change_key, after.change_key);
                    }
                }
            }
            Err(failure) => tracing::debug!(user = %self.user, %failure, "markers of items not completed"),
        }
    }

    async fn perform(&self, action: &Action) -> Result<Effect, Failure> {
        let item_ref = |id: &str, change_key: &str| ItemRef {
            id: id.to_owned(),
            change_key: change_key.to_owned(),
        };
        match action {
            Action::CreateInMailbox {
                key, task, web_url, ..
            } => {
                let item = NewItem {
                    key,
                    task,
                    web_link: Some(web_url),
                    write_id: &self.write_id,
                };
                self.create(&item).await.map(Effect::Created)
            }
            Action::RemoveFromMailbox {
                item,
                change_key,
                removal,
                ..
            } => {
                let item = item_ref(item, change_key);
                self.remove(&item, *removal).await?;
                Ok(match removal {
                    Removal::Delete => Effect::Deleted(item, ActionResult::Deleted),
                    Removal::Complete | Removal::Leave => Effect::Done(ActionResult::Deleted),
                })
            }
            Action::RemoveTwin { item, change_key, .. } => {
                let item = item_ref(item, change_key);
                self.mailbox.delete(self.owner, &item).await?;
                Ok(Effect::Deleted(item, ActionResult::Twin))
            }
            Action::DisownTwin { item, change_key, .. } => {
                self.mailbox
                    .disown(self.owner, &item_ref(item, change_key))
                    .await?;
                Ok(Effect::Done(ActionResult::Twin))
            }
            Action::DeleteAtSource { key, version, .. } => {
                self.source.delete(key, version).await?;
                Ok(Effect::Done(ActionResult::Deleted))
            }
            Action::UpdateSource {
                key,
                version,
                task,
                fields,
                ..
            } => self
                .update_source(key, version, task, *fields)
                .await
                .map(Effect::Done),
            Action::CompleteAtSource {
                key, version, task, ..
            } => self
                .update_source(key, version, task, PROGRESS)
                .await
                .map(Effect::Done),
            Action::UpdateMailbox {
                item,
                change_key,
                task,
                fields,
                ..
            } => {
                let changes = ItemChanges {
                    task: (**task).clone(),
                    fields: *fields,
                    write_id: self.write_id.clone(),
                };
                let item = item_ref(item, change_key);
                self.item_is_unchanged(&item).await?;
                self.mailbox
                    .update(self.owner, &item, &changes)
                    .await
                    .map(|item| Effect::Done(write_result(item)))
            }
        }
    }

    async fn update_source(
        &self,
        key: &SourceKey,
        version: &str,
        task: &Task,
        fields: FieldSet,
    ) -> Result<ActionResult, Failure> {
        let changes = TaskChanges {
            task: task.clone(),
            fields,
        };
        self.task_is_unchanged(key, version).await?;
        let written = self.source.update(key, version, &changes).await?;
        Ok(ActionResult::Version(written.version))
    }

    /// Ends the sync of a copy. A copy that is completed or left loses its marker last, so that an
    /// interrupted removal starts again.
    async fn remove(&self, item: &ItemRef, removal: Removal) -> Result<(), Failure> {
        match removal {
            Removal::Delete => self.mailbox.delete(self.owner, item).await,
            Removal::Complete => {
                let changes = ItemChanges {
                    task: Task {
                        status: Status::Completed,
                        percent: Percent::DONE,
                        ..Task::default()
                    },
                    fields: PROGRESS,
                    write_id: self.write_id.clone(),
                };
                self.item_is_unchanged(item).await?;
                let completed = self.mailbox.update(self.owner, item, &changes).await?;
                self.mailbox.disown(self.owner, &completed).await.map(|_| ())
            }
            Removal::Leave => self.mailbox.disown(self.owner, item).await.map(|_| ()),
        }
    }

    /// Reads the task just before it is written, if the source does not compare versions itself.
    async fn task_is_unchanged(&self, key: &SourceKey, version: &str) -> Result<(), Failure> {
        if self.source.capabilities().conditional_writes {
            return Ok(());
        }
        let answers = self.source.tasks(self.person, std::slice::from_ref(key)).await?;
        match answers.into_iter().find(|(answered, _)| answered == key) {
            Some((_, TaskPresence::Present(item))) if item.version == version => Ok(()),
            Some((_, TaskPresence::Unreadable(failure))) => Err(failure),
            Some((_, TaskPresence::Present(_) | TaskPresence::Absent(_))) | None => {
                Err(changed_meanwhile(key.as_str()))
            }
        }
    }

    /// Reads the item just before it is written, if the mailbox does not compare versions itself.
    async fn item_is_unchanged(&self, item: &ItemRef) -> Result<(), Failure> {
        if self.mailbox.capabilities().conditional_writes {
            return Ok(());
        }
        let answers = self
            .mailbox
            .items(self.owner, std::slice::from_ref(&item.id))
            .await?;
        match answers.into_iter().next() {
            Some(Ok(found)) if found.item == *item => Ok(()),
            Some(Err(failure)) => Err(failure),
            Some(Ok(_)) | None => Err(changed_meanwhile(&item.id)),
        }
    }

    /// Creates the item. If the outcome is unknown, searches for the item, so that it is not created twice.
    async fn create(&self, item: &NewItem<'_>) -> Result<ItemRef, Failure> {
        let key = item.key;
        let Some(stored) = self.pass.state.locations.get(&key.location()) else {
            return Err(Failure::new(
                ErrorClass::Gone,
                Code::AnswersDisagree,
                format!("{key} has no folder in {}", self.owner.mailbox),
            ));
        };
        let folder = FolderId(stored.folder.clone());
        let created = match self.mailbox.create(self.owner, &folder, item).await {
            Err(failure) if failure.class == ErrorClass::OutcomeUnknown => {
                let found = self.mailbox.find(self.owner, &[folder], key).await?;
                found.into_iter().next().ok_or(failure)?
            }
            other => other?,
        };
        // An id that belongs to another task means that the answer belongs to another request.
        if let Some(other) = self
            .pass
            .state
            .linked_to(&created.id)
            .filter(|other| *other != key)
        {
            return Err(Failure::new(
                ErrorClass::OutcomeUnknown,
                Code::AnswersDisagree,
                format!("the item created for {key} has the id of the copy of {other}"),
            )
            .about(Scope::Item));
        }
        Ok(created)
    }
}

fn changed_meanwhile(what: &str) -> Failure {
    Failure::new(
        ErrorClass::Conflict,
        Code::AnswersDisagree,
        format!("{what} changed between reading and writing"),
    )
}

pub(super) fn write_result(item: ItemRef) -> ActionResult {
    ActionResult::Item {
        id: item.id,
        change_key: item.change_key,
    }
}

/// Returns whether `name` is `wanted` with a number that tasksync adds when a name is taken: `Tasks (2)` up
/// to `Tasks (20)`.
fn is_numbered(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted)
        .and_then(|rest| rest.strip_prefix(" ("))
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|number| number.parse::<u32>().ok())
        .is_some_and(|number| (2..=LARGEST_NUMBER).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_that_tasksync_adds_is_no_difference() {
        assert!(is_numbered("Project Alpha (2)", "Project Alpha"));
        assert!(is_numbered("Project Alpha (20)", "Project Alpha"));
        for other in [
            "Project Alpha (2025)",
            "Project Alpha (1)",
            "Project Alpha (b)",
            "Project Alpha",
            "Project",
        ] {
            assert!(!is_numbered(other, "Project Alpha"), "{other}");
        }
    }
}
