//! The contract of a `Source`.

use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::model::SourceKey;
use tasksync_worker::source::{Person, Source};

/// A source with one person, and the actions of people there.
#[async_trait]
pub(crate) trait SourceBench: Sync {
    fn source(&self) -> Arc<dyn Source>;
    fn person(&self) -> Person;
    /// Creates a task of the person.
    async fn create(&self, title: &str) -> SourceKey;
    /// Gives a task another title, as the person.
    async fn retitle(&self, key: &SourceKey, title: &str);
    /// Deletes a task, as the person.
    async fn delete(&self, key: &SourceKey);
}

pub(crate) mod checks {
    use std::collections::BTreeSet;

    use tasksync_common::error::ErrorClass;
    use tasksync_common::model::{Field, FieldSet, SourceKey, Task};
    use tasksync_worker::source::{Absence, SourceChanges, SourceItem, TaskChanges, TaskPresence};

    use super::SourceBench;

    async fn read(bench: &impl SourceBench, key: &SourceKey) -> TaskPresence {
        let keys = [key.clone()];
        let answers = bench.source().tasks(&bench.person(), &keys).await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, *key);
        answers[0].1.clone()
    }

    async fn present(bench: &impl SourceBench, key: &SourceKey) -> SourceItem {
        match read(bench, key).await {
            TaskPresence::Present(item) => *item,
            other @ (TaskPresence::Absent(_) | TaskPresence::Unreadable(_)) => panic!("{other:?}"),
        }
    }

    async fn since(bench: &impl SourceBench, cursor: &str, linked: &[&SourceKey]) -> SourceChanges {
        let source = bench.source();
        source.refresh(&[cursor]).await.unwrap();
        let linked: BTreeSet<SourceKey> = linked.iter().map(|key| (*key).clone()).collect();
        source.changes(&bench.person(), cursor, &linked).await.unwrap()
    }

    pub(crate) async fn a_listing_is_complete_and_agrees_with_reads_by_id(bench: &impl SourceBench) {
        let keys = [bench.create("One").await, bench.create("Two").await];
        let all = bench.source().everything(&bench.person()).await.unwrap();
        assert!(all.complete && all.unread.is_empty());
        let listed: BTreeSet<&SourceKey> = all.tasks.iter().map(|(key, _)| key).collect();
        assert_eq!(listed, keys.iter().collect());
        for (key, listed) in &all.tasks {
            assert_eq!(read(bench, key).await, *listed);
            let location = bench.source().location(&key.location()).await.unwrap();
            assert_eq!(location.unwrap().key, key.location());
        }
    }

    pub(crate) async fn an_edit_is_reported_and_nothing_else(bench: &impl SourceBench) {
        let (one, two) = (bench.create("One").await, bench.create("Two").await);
        let cursor = bench.source().everything(&bench.person()).await.unwrap().cursor;
        assert_eq!(since(bench, &cursor, &[&one, &two]).await.tasks, []);
        let before = present(bench, &one).await;
        bench.retitle(&one, "Edited").await;
        let changes = since(bench, &cursor, &[&one, &two]).await;
        assert!(!changes.complete);
        assert_eq!(changes.tasks.len(), 1);
        let now = present(bench, &one).await;
        assert_eq!(
            changes.tasks[0],
            (one, TaskPresence::Present(Box::new(now.clone())))
        );
        assert_eq!(now.task.title, "Edited");
        assert_ne!(now.version, before.version);
        assert!(now.modified >= before.modified);
    }

    pub(crate) async fn what_goes_is_reported_and_absent_by_its_id(bench: &impl SourceBench) {
        let (one, two) = (bench.create("One").await, bench.create("Two").await);
        let cursor = bench.source().everything(&bench.person()).await.unwrap().cursor;
        bench.delete(&one).await;
        let changes = since(bench, &cursor, &[&one, &two]).await;
        assert_eq!(
            changes.tasks,
            [(one.clone(), TaskPresence::Absent(Absence::Deleted))]
        );
        assert_eq!(read(bench, &one).await, TaskPresence::Absent(Absence::Deleted));
        // Deleting a task that is already gone succeeds.
        bench.source().delete(&one, "1").await.unwrap();
        let all = bench.source().everything(&bench.person()).await.unwrap();
        assert!(all.tasks.iter().all(|(key, _)| *key == two));
    }

    fn titled(title: &str) -> TaskChanges {
        TaskChanges {
            task: Task {
                title: title.to_owned(),
                ..Task::default()
            },
            fields: FieldSet::of(&[Field::Title]),
        }
    }

    pub(crate) async fn a_write_answers_the_version_that_is_read_back(bench: &impl SourceBench) {
        let one = bench.create("One").await;
        let before = present(bench, &one).await;
        let changes = titled("Written");
        let written = bench.source().update(&one, &before.version, &changes).await;
        let now = present(bench, &one).await;
        assert_eq!(now.version, written.unwrap().version);
        assert_eq!(
            now.task,
            Task {
                title: "Written".to_owned(),
                ..before.task
            }
        );
    }

    pub(crate) async fn a_write_to_another_version_changes_nothing(bench: &impl SourceBench) {
        let one = bench.create("One").await;
        let before = present(bench, &one).await;
        bench.retitle(&one, "Edited").await;
        let source = bench.source();
        if source.capabilities().conditional_writes {
            let written = source.update(&one, &before.version, &titled("Written")).await;
            assert_eq!(written.unwrap_err().class, ErrorClass::Conflict);
            let deleted = source.delete(&one, &before.version).await;
            assert_eq!(deleted.unwrap_err().class, ErrorClass::Conflict);
            assert_eq!(present(bench, &one).await.task.title, "Edited");
        }
    }
}
