//! People who were synced by the build before markers had owners, then by this build, and by both in turn.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tasksync_common::contract::earlier;
use tasksync_common::registry::SaveResult;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId};

use crate::rig::{Rig, Spec};

const OWNER: &str = "TaskSyncOwner";

/// Identities of all objects in every mailbox and of every task at the source, with values that reveal a move or
/// duplication.
type Inventory = BTreeMap<String, String>;

struct Upgrade {
    rig: Rig,
    list: ListId,
    items: Vec<ItemId>,
    people: usize,
}

impl Upgrade {
    /// Syncs all people and leaves everything in the form of the earlier build.
    async fn new(people: usize) -> Self {
        let mut rig = Rig::new(Spec {
            people,
            ..Spec::default()
        })
        .await;
        let list = rig.tasks_list("Plan");
        let items = (0..people)
            .map(|person| rig.add_task(list, person, &format!("Task of {person}")))
            .collect();
        // Twice: the second cycle confirms the writes of the first.
        for _ in 0..2 {
            rig.cycle_all().await;
        }
        let upgrade = Self {
            rig,
            list,
            items,
            people,
        };
        upgrade.save_as_the_earlier_build().await;
        upgrade.rig.farm.exchange.forget_property(OWNER);
        upgrade
    }

    /// Reads and saves every state as the earlier build does.
    async fn save_as_the_earlier_build(&self) {
        for person in 0..self.people {
            let user = self.rig.user(person);
            let (enrolment, stored) = self
                .rig
                .registry
                .enrolment_with_state(&user)
                .await
                .unwrap()
                .unwrap();
            let stored = stored.unwrap();
            let fingerprint = earlier::fingerprint(&stored.fingerprint).unwrap();
            let state = earlier::state(&stored.blob).unwrap();
            let saved = self
                .rig
                .registry
                .save_sync_state(&enrolment, stored.version, &fingerprint, &state);
            assert_eq!(saved.await.unwrap(), SaveResult::Stored(stored.version + 1));
        }
    }

    fn inventory(&self) -> Inventory {
        let exchange = &self.rig.farm.exchange;
        let mut all = Inventory::new();
        for person in 0..self.people {
            let smtp = self.rig.smtp(person);
            for folder in exchange.folders(smtp) {
                all.insert(folder.id, format!("{:?} {}", folder.parent, folder.display_name));
            }
            for item in exchange.items(smtp) {
                all.insert(item.id, format!("{} {}", item.folder_id, item.subject));
            }
        }
        for item in self
            .rig
            .farm
            .sharepoint
            .items(self.rig.site(), self.list)
            .unwrap()
        {
            all.insert(
                format!("{:?}", item.id),
                format!("{} {}", item.title, item.recycled),
            );
        }
        all
    }

    /// Returns the number of our folders and items, and how many of them name their owner.
    fn markers(&self) -> (usize, usize) {
        let exchange = &self.rig.farm.exchange;
        let (mut marked, mut named) = (0, 0);
        for person in 0..self.people {
            let smtp = self.rig.smtp(person);
            let folders = exchange.folders(smtp).into_iter().map(|folder| folder.named);
            let items = exchange.items(smtp).into_iter().map(|item| item.named);
            for properties in folders.chain(items) {
                let is_ours = ["TaskSyncLocation", "TaskSyncSourceKey"]
                    .iter()
                    .any(|name| properties.contains_key(*name));
                marked += usize::from(is_ours);
                named += usize::from(properties.contains_key(OWNER));
            }
        }
        (marked, named)
    }
}

/// Nothing is created, deleted or duplicated. The next full check completes each marker with one write. After that the
/// earlier build can continue with the states that this build saved.
#[tokio::test]
async fn a_hundred_synced_people_are_upgraded_without_a_trace() {
    let upgrade = Upgrade::new(100).await;
    let rig = &upgrade.rig;
    assert_eq!(upgrade.markers(), (200, 0));
    let (inventory, (mailbox_writes, source_writes)) = (upgrade.inventory(), rig.writes());

    // Idle users stay idle: the upgrade alone causes no work.
    rig.assert_idle().await;
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle_all().await;
    assert_eq!(upgrade.inventory(), inventory);
    assert_eq!(upgrade.markers(), (200, 200));
    assert_eq!(rig.writes(), (mailbox_writes + 200, source_writes));
    assert_eq!(rig.journal(0).await, <[&str; 0]>::default());

    upgrade.save_as_the_earlier_build().await;
    rig.assert_settled().await;
    assert_eq!(upgrade.inventory(), inventory);
    assert_eq!(rig.writes(), (mailbox_writes + 200, source_writes));
}

/// Edits and deletions made during the upgrade are carried over as usual, before and after the markers are completed.
#[tokio::test]
async fn edits_and_deletions_during_an_upgrade_travel() {
    let upgrade = Upgrade::new(14).await;
    let (rig, list, items) = (&upgrade.rig, upgrade.list, &upgrade.items);
    for (round, first) in [("before", 0), ("after", 10)] {
        rig.retitle_copy(first, list, items[first], round);
        rig.retitle_original(list, items[first + 1], round);
        rig.delete_copy(first + 2, list, items[first + 2]);
        rig.delete_original(list, items[first + 3]);
        for person in first..first + 4 {
            rig.cycle(person).await.report();
        }
        assert_eq!(rig.original(list, items[first]).title, round);
        assert_eq!(rig.copy(first + 1, list, items[first + 1]).subject, round);
        assert!(rig.original(list, items[first + 2]).recycled);
        assert!(rig.copies(first + 3, list, items[first + 3]).is_empty());
        rig.pass_time(SignedDuration::from_hours(7));
        rig.cycle_all().await;
    }
    rig.assert_settled().await;
    let (marked, named) = upgrade.markers();
    // Copies that the person deleted are in Deleted Items with the markers they had.
    assert!(named == marked || named + 2 >= marked, "{named} of {marked}");
}
