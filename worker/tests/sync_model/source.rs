//! The world's source.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{ErrorClass, Failure};
use tasksync_common::facts::{PersonLookup, SiteCheck};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::plan::DeletionPolicy;
use tasksync_worker::source::{
    Absence, Location, Person, Source, SourceCapabilities, SourceChanges, SourceItem, TaskChanges,
    TaskPresence, WrittenTask,
};

use crate::engine::SharedWorld;
use crate::faults::{Answer, failure, refusal};
use crate::world::{World, holds, location};

/// A source over the world.
pub(crate) struct ModelSource {
    pub(crate) world: SharedWorld,
}

impl World {
    fn presence(&self, key: &SourceKey) -> TaskPresence {
        match self.source.get(key) {
            Some(found) if found.assigned => TaskPresence::Present(Box::new(SourceItem {
                key: key.clone(),
                version: found.version.to_string(),
                task: found.task.clone(),
                modified: Timestamp::from_second(found.modified).unwrap(),
                web_url: String::new(),
                writable: found.writable,
            })),
            Some(_) => TaskPresence::Absent(Absence::NotAssigned),
            None => TaskPresence::Absent(Absence::Deleted),
        }
    }

    /// Refuses a write to a task that the person may only read. If the engine knew this before, the write is a fault
    /// of the engine.
    fn check_right(&self, key: &SourceKey) -> Result<(), Failure> {
        if self.source.get(key).is_none_or(|task| task.writable) {
            return Ok(());
        }
        assert!(
            !self.read_only.contains(key),
            "{key} is written, and the person may only read it"
        );
        Err(refusal())
    }

    fn everything(&self) -> Vec<(SourceKey, TaskPresence)> {
        let assigned = self.source.iter().filter(|(_, task)| task.assigned);
        assigned
            .map(|(key, _)| (key.clone(), self.presence(key)))
            .collect()
    }

    fn changes(&self, tasks: Vec<(SourceKey, TaskPresence)>, complete: bool) -> SourceChanges {
        SourceChanges {
            tasks,
            locations: vec![location_of(&location(0)), location_of(&location(1))],
            unread: Vec::new(),
            cursor: self.source_log.len().to_string(),
            complete,
            identity: None,
        }
    }
}

fn location_of(key: &LocationKey) -> Location {
    Location {
        key: key.clone(),
        name: key.to_string(),
        web_url: String::new(),
        holds: holds(key),
        without_dates: None,
    }
}

#[async_trait]
impl Source for ModelSource {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities {
            conditional_writes: self.world.world().source_compares,
            time_precision: SignedDuration::from_secs(1),
        }
    }

    fn clock_offset(&self) -> Option<SignedDuration> {
        Some(SignedDuration::ZERO)
    }

    async fn refresh(&self, _: &[&str]) -> Result<(), Failure> {
        Ok(())
    }

    async fn changes(
        &self,
        _: &Person,
        cursor: &str,
        linked: &BTreeSet<SourceKey>,
    ) -> Result<SourceChanges, Failure> {
        let from: usize = cursor.parse().unwrap();
        self.world
            .read(|world, _| {
                let changed: BTreeSet<&SourceKey> = world.source_log[from..].iter().collect();
                let tasks = changed.into_iter().filter_map(|key| {
                    let presence = world.presence(key);
                    let is_reported = matches!(presence, TaskPresence::Present(_)) || linked.contains(key);
                    is_reported.then(|| (key.clone(), presence))
                });
                Ok(world.changes(tasks.collect(), false))
            })
            .await
    }

    async fn everything(&self, _: &Person) -> Result<SourceChanges, Failure> {
        self.world
            .read(|world, answer| {
                let mut tasks = world.everything();
                match answer {
                    Answer::Omission => drop(tasks.pop()),
                    Answer::Refusal => {
                        if let Some((_, presence)) = tasks.last_mut() {
                            *presence = TaskPresence::Unreadable(refusal());
                        }
                    }
                    Answer::Correct => {}
                }
                Ok(world.changes(tasks, true))
            })
            .await
    }

    async fn tasks(&self, _: &Person, keys: &[SourceKey]) -> Result<Vec<(SourceKey, TaskPresence)>, Failure> {
        self.world
            .read(|world, answer| {
                let mut answers: Vec<(SourceKey, TaskPresence)> = keys
                    .iter()
                    .map(|key| (key.clone(), world.presence(key)))
                    .collect();
                match (answers.first_mut(), answer) {
                    (Some((_, first)), Answer::Omission) => *first = TaskPresence::Absent(Absence::Deleted),
                    (Some((_, first)), Answer::Refusal) => *first = TaskPresence::Unreadable(refusal()),
                    (None, _) | (_, Answer::Correct) => {}
                }
                Ok(answers)
            })
            .await
    }

    async fn location(&self, key: &LocationKey) -> Result<Option<Location>, Failure> {
        self.world.read(|_, _| Ok(Some(location_of(key)))).await
    }

    async fn update(
        &self,
        key: &SourceKey,
        version: &str,
        changes: &TaskChanges,
    ) -> Result<WrittenTask, Failure> {
        self.world
            .write(|world| {
                world.check_right(key)?;
                let compares = world.source_compares;
                let found = world
                    .source
                    .get_mut(key)
                    .ok_or_else(|| failure(ErrorClass::Gone))?;
                if compares && found.version.to_string() != version {
                    return Err(failure(ErrorClass::Conflict));
                }
                assert!(
                    changes.fields.except(holds(&key.location())).is_empty(),
                    "{key}: a field the source lacks"
                );
                found.task.take(&changes.task, changes.fields);
                let now = found.task.clone();
                world.oracle.record_sent(key, now);
                Ok(WrittenTask {
                    version: world.touch_task(key).to_string(),
                })
            })
            .await
    }

    async fn delete(&self, key: &SourceKey, version: &str) -> Result<(), Failure> {
        self.world
            .write(|world| {
                world.check_right(key)?;
                if let Some(found) = world.source.get(key) {
                    if found.version.to_string() != version {
                        return Err(failure(ErrorClass::Conflict));
                    }
                    assert_eq!(world.policy.mailbox_deletions, DeletionPolicy::Propagate, "{key}");
                    world
                        .oracle
                        .recycles(key, &found.task, world.copies_of(key).len());
                    world.source.remove(key);
                    world.source_log.push(key.clone());
                }
                Ok(())
            })
            .await
    }

    async fn check(&self) -> Vec<SiteCheck> {
        Vec::new()
    }

    async fn check_person(&self, _: &Person, _: PersonLookup) -> Result<(), Failure> {
        Ok(())
    }
}
