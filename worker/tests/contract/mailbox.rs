//! The contract of a `Mailbox`.

use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_worker::mailbox::{Mailbox, Owner};

/// A mailbox server with one person, and that person's actions.
#[async_trait]
pub(crate) trait MailboxBench: Sync {
    fn mailbox(&self) -> Arc<dyn Mailbox>;
    fn owner(&self) -> Owner;
    /// Gives an item another title, as the person.
    async fn retitle(&self, item: &str, title: &str);
    /// Deletes an item, as the person.
    async fn delete(&self, item: &str);
}

fn location() -> LocationKey {
    LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-00000000000a")
}

fn key() -> SourceKey {
    location().task(7)
}

pub(crate) mod checks {
    use jiff::civil::date;
    use tasksync_common::error::ErrorClass;
    use tasksync_common::model::{Field, FieldSet, Percent, Status, Task};
    use tasksync_worker::mailbox::{
        FolderId, FolderPresence, ItemChange, ItemChanges, ItemRef, NewItem, ProbeRequest, Probed,
        Whereabouts,
    };

    use super::{MailboxBench, key, location};

    async fn folder(bench: &impl MailboxBench) -> FolderId {
        let made = bench
            .mailbox()
            .create_folder(&bench.owner(), "Plan", &location())
            .await;
        made.unwrap()
    }

    fn plan() -> Task {
        Task {
            title: "Plan".to_owned(),
            due: Some(date(2026, 3, 9)),
            ..Task::default()
        }
    }

    async fn item(bench: &impl MailboxBench, folder: &FolderId, task: &Task) -> ItemRef {
        let new = NewItem {
            key: &key(),
            task,
            web_link: None,
            write_id: "first",
        };
        bench
            .mailbox()
            .create(&bench.owner(), folder, &new)
            .await
            .unwrap()
    }

    async fn cursor(bench: &impl MailboxBench, folder: &FolderId) -> String {
        let page = bench.mailbox().changes(&bench.owner(), folder, None).await;
        page.unwrap().cursor
    }

    async fn changes(bench: &impl MailboxBench, folder: &FolderId, cursor: Option<&str>) -> Vec<ItemChange> {
        let page = bench.mailbox().changes(&bench.owner(), folder, cursor).await;
        page.unwrap().changes
    }

    async fn task(bench: &impl MailboxBench, item: &ItemRef) -> Task {
        let ids = [item.id.clone()];
        let read = bench.mailbox().items(&bench.owner(), &ids).await.unwrap().pop();
        read.unwrap().unwrap().task
    }

    pub(crate) async fn a_new_folder_is_listed_with_its_marker(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let made = folder(bench).await;
        let listed = mailbox.folders(&owner).await.unwrap();
        let found: Vec<_> = listed.iter().filter(|folder| folder.id == made).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].marker.as_ref().unwrap().key, location());
        let asked = [made.clone(), FolderId("AAMkNoSuchFolder=".to_owned())];
        let presence = mailbox.folders_exist(&owner, &asked).await.unwrap();
        assert_eq!(presence[0], Ok(FolderPresence::Exists));
        assert_ne!(presence[1], Ok(FolderPresence::Exists));
    }

    pub(crate) async fn a_new_item_is_found_by_every_way_of_looking(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        assert_eq!(
            changes(bench, &folder, None).await,
            [ItemChange::Present(made.clone())]
        );
        let ids = [made.id.clone()];
        let read = mailbox.items(&owner, &ids).await.unwrap().pop().unwrap().unwrap();
        assert_eq!(
            (read.item, read.write_id.as_deref()),
            (made.clone(), Some("first"))
        );
        assert_eq!(read.marker.unwrap().key, key());
        assert_eq!(read.task.title, "Plan");
        let found = mailbox.find(&owner, std::slice::from_ref(&folder), &key()).await;
        assert_eq!(found.unwrap(), std::slice::from_ref(&made));
        if mailbox.capabilities().search_by_key {
            let marked = mailbox
                .list_marked(&owner, std::slice::from_ref(&folder))
                .await
                .unwrap();
            assert_eq!(marked.len(), 1);
            assert_eq!(
                (&marked[0].item, &marked[0].folder),
                (&made, &Some(folder.clone()))
            );
        }
        let whereabouts = mailbox.whereabouts(&owner, &ids).await.unwrap();
        assert_eq!(whereabouts, [Ok(Whereabouts::In(folder))]);
    }

    pub(crate) async fn only_written_fields_change_and_the_version_moves(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        let changes = ItemChanges {
            task: Task {
                title: "Another".to_owned(),
                ..Task::default()
            },
            fields: FieldSet::of(&[Field::Title]),
            write_id: "second".to_owned(),
        };
        let written = mailbox.update(&owner, &made, &changes).await.unwrap();
        assert_eq!(written.id, made.id);
        assert_ne!(written.change_key, made.change_key);
        let now = task(bench, &made).await;
        assert_eq!((now.title.as_str(), now.due), ("Another", plan().due));
    }

    pub(crate) async fn values_are_read_back_in_their_canonical_form(bench: &impl MailboxBench) {
        let mailbox = bench.mailbox();
        let folder = folder(bench).await;
        let day = |day| Some(date(2026, 3, day));
        for (start, due, status, percent) in [
            (None, None, Status::NotStarted, 0.0),
            (day(3), None, Status::InProgress, 50.0),
            (None, day(4), Status::Completed, 100.0),
            (day(3), day(4), Status::Deferred, 20.0),
            (day(5), day(4), Status::WaitingOnOthers, 0.0),
        ] {
            let wanted = Task {
                title: "Plan".to_owned(),
                start,
                due,
                status,
                percent: Percent::from_percent(percent),
                ..Task::default()
            };
            let made = item(bench, &folder, &wanted).await;
            let (read, canonical) = (task(bench, &made).await, mailbox.canonical(&wanted, None));
            assert_eq!(
                (read.start, read.due, read.status, read.percent),
                (
                    canonical.start,
                    canonical.due,
                    canonical.status,
                    canonical.percent
                ),
                "{wanted:?}"
            );
        }
    }

    pub(crate) async fn a_write_to_another_version_is_a_conflict(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        bench.retitle(&made.id, "Edited").await;
        let changes = ItemChanges {
            task: plan(),
            fields: FieldSet::of(&[Field::Title]),
            write_id: "second".to_owned(),
        };
        let written = mailbox.update(&owner, &made, &changes).await;
        if mailbox.capabilities().conditional_writes {
            assert_eq!(written.unwrap_err().class, ErrorClass::Conflict);
            assert_eq!(task(bench, &made).await.title, "Edited");
        }
    }

    pub(crate) async fn the_actions_of_a_person_are_reported_once(bench: &impl MailboxBench) {
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        let before = cursor(bench, &folder).await;
        assert_eq!(changes(bench, &folder, Some(&before)).await, []);
        bench.retitle(&made.id, "Edited").await;
        let reported = changes(bench, &folder, Some(&before)).await;
        assert!(
            matches!(&reported[..], [ItemChange::Present(item)] if item.id == made.id && *item != made),
            "{reported:?}"
        );
        let after = cursor(bench, &folder).await;
        assert_eq!(changes(bench, &folder, Some(&after)).await, []);
        bench.delete(&made.id).await;
        let reported = changes(bench, &folder, Some(&after)).await;
        assert_eq!(reported, [ItemChange::Gone { id: made.id }]);
    }

    pub(crate) async fn a_deleted_item_is_found_by_no_way_of_looking(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        bench.delete(&made.id).await;
        assert_eq!(changes(bench, &folder, None).await, []);
        let ids = [made.id.clone()];
        let whereabouts = mailbox.whereabouts(&owner, &ids).await.unwrap();
        assert!(matches!(
            whereabouts[..],
            [Ok(Whereabouts::NotFound | Whereabouts::Deleted)]
        ));
        if mailbox.capabilities().search_by_key {
            assert_eq!(mailbox.list_marked(&owner, &[folder]).await.unwrap(), []);
        }
        if mailbox.capabilities().deleted_items {
            let deleted = mailbox.list_deleted(&owner).await.unwrap();
            assert!(
                deleted
                    .iter()
                    .any(|item| item.marker.key == key() && item.write_id == "first")
            );
        }
        mailbox.delete(&owner, &made).await.unwrap();
    }

    pub(crate) async fn signs_move_with_every_change(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        let probe = || async {
            let request = ProbeRequest {
                mailbox: owner.mailbox.clone(),
                folders: vec![folder.clone()],
            };
            mailbox
                .probe(&[request])
                .await
                .pop()
                .unwrap()
                .unwrap()
                .pop()
                .unwrap()
        };
        let before = probe().await;
        if !mailbox.capabilities().signs {
            assert_eq!(before, Probed::Unknown);
            return;
        }
        assert_eq!(probe().await, before);
        bench.retitle(&made.id, "Edited").await;
        let edited = probe().await;
        assert_ne!(edited, before);
        bench.delete(&made.id).await;
        assert_ne!(probe().await, edited);
    }

    pub(crate) async fn a_disowned_item_bears_no_key(bench: &impl MailboxBench) {
        let (mailbox, owner) = (bench.mailbox(), bench.owner());
        let folder = folder(bench).await;
        let made = item(bench, &folder, &plan()).await;
        let disowned = mailbox.disown(&owner, &made).await.unwrap();
        let ids = [disowned.id];
        let read = mailbox.items(&owner, &ids).await.unwrap().pop().unwrap().unwrap();
        assert_eq!((read.marker, read.task.title.as_str()), (None, "Plan"));
    }
}
