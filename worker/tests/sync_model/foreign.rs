//! Folders and items with the marker of another owner are left alone.

use tasksync_common::error::Code;
use tasksync_common::plan::Policy;
use tasksync_worker::mailbox::{MailboxCapabilities, MarkedFor};

use crate::engine::{Stage, SyncCircumstances};
use crate::faults::Fault;
use crate::world::{Act, Item, World, location};

/// Returns the owners of a colleague's marker, of another installation's marker, and of an unreadable marker.
fn owners() -> [MarkedFor; 3] {
    let of = |text: &str| MarkedFor::Owner(text.parse().unwrap());
    [
        of("6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ben"),
        of("7a1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"),
        MarkedFor::Unreadable("half a mark".to_owned()),
    ]
}

const FULL: SyncCircumstances = SyncCircumstances {
    full: true,
    ..SyncCircumstances::PLAIN
};

/// Adds a folder of another owner that contains an item for a task of the person.
fn foreign_folder(world: &mut World, owner: &MarkedFor) -> (u32, u32) {
    world.act(&Act::Create(0));
    let folder = world.next();
    world.folders.insert(folder, location(0));
    world.owners.insert(folder, owner.clone());
    (folder, foreign_item(world, folder, owner))
}

/// Adds another owner's item for the task that was edited last.
fn foreign_item(world: &mut World, folder: u32, owner: &MarkedFor) -> u32 {
    let key = world.source_log.last().unwrap().clone();
    let task = world.source[&key].task.clone();
    let item = world.add_item(Item {
        key: Some(key),
        folder,
        task,
        change_key: 0,
        modified: world.now,
        created: world.now,
        private: false,
        write_id: None,
    });
    world.owners.insert(item, owner.clone());
    item
}

#[test]
fn a_folder_of_a_colleague_is_neither_adopted_nor_written_nor_removed() {
    for owner in [owners()[0].clone(), owners()[2].clone()] {
        let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
        let (folder, item) = foreign_folder(&mut stage.shared_world.world(), &owner);
        let before = stage.shared_world.world().items[&item].clone();
        assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&FULL));
        let world = stage.shared_world.world();
        assert_eq!(world.items[&item].change_key, before.change_key);
        let saved = world.saved.clone().unwrap();
        let own_folders: Vec<u32> = saved
            .locations
            .values()
            .map(|stored| stored.folder.parse().unwrap())
            .collect();
        assert!(
            own_folders.len() == 1 && own_folders[0] != folder,
            "{own_folders:?}"
        );
        assert!(saved.foreign.contains_key(location(0).as_str()));
        // The person's own copy was created beside it, once.
        assert_eq!(saved.links.len(), 1);
        assert!(saved.links.values().all(|link| link.item != item.to_string()));
    }
}

#[test]
fn a_mailbox_of_another_installation_is_left_alone_and_reported() {
    let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
    foreign_folder(&mut stage.shared_world.world(), &owners()[1]);
    assert!(!stage.sync(&SyncCircumstances::PLAIN));
    assert_eq!(stage.failure(), Some(Code::MailboxOfAnotherInstallation));
    let world = stage.shared_world.world();
    assert_eq!(world.all_writes, 0);
    assert_eq!(world.source.len(), 1);
}

#[test]
fn an_item_of_another_owner_in_our_folder_stays_as_it_is() {
    for owner in owners() {
        let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
        stage.shared_world.world().act(&Act::Create(0));
        assert!(stage.sync(&SyncCircumstances::PLAIN));
        let item = {
            let mut world = stage.shared_world.world();
            let folder = *world.folders.keys().next().unwrap();
            let item = foreign_item(&mut world, folder, &owner);
            world.touch_item(item);
            item
        };
        let (before, writes) = {
            let world = stage.shared_world.world();
            (world.items[&item].change_key, world.all_writes)
        };
        assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&FULL));
        let world = stage.shared_world.world();
        assert_eq!(
            (world.items[&item].change_key, world.all_writes),
            (before, writes)
        );
    }
}

/// Another owner's item for the same task, in the folder or in the archive, proves nothing about the person's copy: its
/// deletion reaches the source.
#[test]
fn a_copy_deleted_beside_another_owners_item_was_deleted() {
    for (owner, archived) in owners()
        .into_iter()
        .flat_map(|owner| [(owner.clone(), false), (owner, true)])
    {
        let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
        stage.shared_world.world().act(&Act::Create(0));
        assert!(stage.sync(&SyncCircumstances::PLAIN));
        {
            let mut world = stage.shared_world.world();
            if archived {
                world.archive = world.source.keys().cloned().collect();
                world.archive_owner = owner.clone();
            } else {
                let folder = *world.folders.keys().next().unwrap();
                let item = foreign_item(&mut world, folder, &owner);
                world.touch_item(item);
            }
        }
        assert!(stage.sync(&SyncCircumstances::PLAIN));
        stage.shared_world.world().act(&Act::DeleteItem(0));
        assert!(stage.sync(&SyncCircumstances::PLAIN));
        let world = stage.shared_world.world();
        assert!(world.source.is_empty(), "{owner:?}, archived {archived}");
    }
}

/// After a creation without an answer, another owner's item with the same key is not taken for the new item.
#[test]
fn a_creation_without_an_answer_is_not_linked_to_another_owners_item() {
    for owner in owners() {
        // The model's search by key fails at every second state of its counter.
        for numbers in 0..2 {
            let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
            stage.shared_world.world().act(&Act::Create(0));
            assert!(stage.sync(&SyncCircumstances::PLAIN));
            {
                let mut world = stage.shared_world.world();
                world.counter += numbers;
                world.act(&Act::Create(0));
                let folder = *world.folders.keys().next().unwrap();
                let item = foreign_item(&mut world, folder, &owner);
                world.touch_item(item);
            }
            stage.sync(&SyncCircumstances {
                fault: Fault::LostAnswer(1),
                ..SyncCircumstances::PLAIN
            });
            assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&FULL));
            let world = stage.shared_world.world();
            let links = &world.saved.as_ref().unwrap().links;
            let copies: Vec<String> = world.copies().map(|(item, _, _)| item.to_string()).collect();
            assert_eq!((links.len(), copies.len()), (2, 2), "{owner:?}");
            assert!(
                links.values().all(|link| copies.contains(&link.item)),
                "{links:?}"
            );
        }
    }
}
