//! What people do to folders and items in Outlook besides editing them.

use tasksync_loadtest::exchange::ItemEdit as CopyEdit;

use crate::rig::Rig;

/// Somebody who deletes our folder tidies up; the tasks are not theirs to delete that way, and come back.
#[tokio::test]
async fn a_deleted_folder_comes_back_and_deletes_nothing() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let folder = rig.our_folders(0).pop().unwrap().id;
    rig.farm
        .exchange
        .person_deletes_folder(rig.smtp(0), &folder)
        .unwrap();
    rig.cycle(0).await;
    assert!(items.iter().all(|item| !rig.original(list, *item).recycled));
    assert_eq!(rig.our_folders(0).len(), 1);
    rig.calm().await;
}

/// A folder's name is the person's to choose until the list is renamed.
#[tokio::test]
async fn a_renamed_folder_stays_ours() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let folder = rig.our_folders(0).pop().unwrap().id;
    rig.farm
        .exchange
        .person_renames_folder(rig.smtp(0), &folder, "My work")
        .unwrap();
    rig.retitle_original(list, items[0], "New title");
    rig.cycle(0).await;
    rig.calm().await;
    assert_eq!(rig.our_folders(0).pop().unwrap().display_name, "My work");
}

/// An item moved into another of our folders is still the same task, there and when it is deleted there.
#[tokio::test]
async fn an_item_moved_between_our_folders_stays_the_task() {
    let (mut rig, list, items) = Rig::with_tasks(3).await;
    let other = rig.tasks_list("Other");
    rig.add_task(other, 0, "Elsewhere");
    rig.cycle(0).await;
    let home = rig.copy(0, list, items[0]).folder_id;
    let target = rig
        .our_folders(0)
        .into_iter()
        .find(|folder| folder.id != home)
        .unwrap()
        .id;
    let copy = rig.copy(0, list, items[0]);
    rig.farm
        .exchange
        .person_moves(rig.smtp(0), &copy.id, &target)
        .unwrap();
    rig.cycle(0).await;
    rig.calm().await;
    rig.retitle_copy(0, list, items[0], "Edited there");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[0]).title, "Edited there");
    rig.retitle_original(list, items[0], "Edited at home");
    rig.cycle(0).await;
    rig.calm().await;
    // The folder it came from goes: the moved one is not made a second time.
    rig.farm
        .exchange
        .person_deletes_folder(rig.smtp(0), &home)
        .unwrap();
    rig.pass_time(jiff::SignedDuration::from_hours(7));
    rig.cycle(0).await;
    rig.calm().await;
    rig.delete_copy(0, list, items[0]);
    rig.cycle(0).await;
    assert!(rig.original(list, items[0]).recycled);
    rig.calm().await;
}

/// An item moved to the person's own tasks is not deleted: it stays linked wherever it lies, until it is deleted.
#[tokio::test]
async fn an_item_moved_to_the_own_tasks_stays_linked() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let own = rig.own_folder(0).id;
    let home = rig.copy(0, list, items[0]).folder_id;
    let moved = |folder: &str| {
        let copy = rig.copy(0, list, items[0]);
        rig.farm
            .exchange
            .person_moves(rig.smtp(0), &copy.id, folder)
            .unwrap();
    };
    moved(&own);
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (0, 0));
    assert!(!rig.original(list, items[0]).recycled);
    rig.agrees();
    // Its folder's signs are not watched, so it is never idle; edits travel both ways all the same.
    rig.retitle_copy(0, list, items[0], "Edited in my tasks");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Edited in my tasks");
    rig.retitle_original(list, items[0], "Edited by a colleague");
    rig.cycle(0).await.report();
    rig.agrees();
    let before = rig.writes();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    // The saved state is lost: it is found there again, not made anew.
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    rig.agrees();
    // Back home: idle again.
    moved(&home);
    rig.cycle(0).await;
    rig.calm().await;
    // Away again, and deleted there.
    moved(&own);
    rig.cycle(0).await;
    rig.delete_copy(0, list, items[0]);
    let report = rig.cycle(0).await.report();
    assert_eq!(report.source_writes, 1);
    assert!(rig.original(list, items[0]).recycled);
    rig.calm().await;
}

/// A task folder need not lie below the mailbox's own one: wherever a person puts a copy, it stays linked. A folder in the
/// deleted items is none.
#[tokio::test]
async fn an_item_moved_to_a_task_folder_anywhere_stays_linked() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let folders = rig.farm.exchange.folders(rig.smtp(0));
    let top = folders
        .iter()
        .find(|folder| folder.distinguished == Some("msgfolderroot"));
    let make = |parent: &str, name: &str| {
        let made = rig
            .farm
            .exchange
            .person_creates_folder(rig.smtp(0), parent, name, "IPF.Task");
        made.unwrap()
    };
    let beside = make(&top.unwrap().id, "Beside the tasks");
    let below = make(&beside, "And below it");
    for (item, folder) in items.iter().zip([&beside, &below]) {
        let copy = rig.copy(0, list, *item);
        let moved = rig.farm.exchange.person_moves(rig.smtp(0), &copy.id, folder);
        moved.unwrap();
    }
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (0, 0));
    for item in &items[..2] {
        assert!(!rig.original(list, *item).recycled);
    }
    rig.agrees();
    rig.retitle_copy(0, list, items[1], "Edited far away");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[1]).title, "Edited far away");
    rig.farm
        .exchange
        .person_deletes_folder(rig.smtp(0), &beside)
        .unwrap();
    rig.cycle(0).await;
    rig.agrees();
}

/// A moved item whose task goes at the source goes with it; moved and edited in one go is an edit.
#[tokio::test]
async fn a_moved_item_follows_its_task() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let own = rig.own_folder(0).id;
    for item in &items[..2] {
        let copy = rig.copy(0, list, *item);
        rig.farm
            .exchange
            .person_moves(rig.smtp(0), &copy.id, &own)
            .unwrap();
    }
    rig.retitle_copy(0, list, items[0], "Moved and edited");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[0]).title, "Moved and edited");
    rig.delete_original(list, items[0]);
    rig.delete_original(list, items[1]);
    rig.cycle(0).await;
    rig.calm().await;
}

/// A copy of a task is the person's own once it differs, and goes when it does not: one task, one linked item.
#[tokio::test]
async fn of_copies_one_is_the_task() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    for (item, edited) in [(items[0], false), (items[1], true)] {
        let copy = rig.copy(0, list, item);
        let twin = rig
            .farm
            .exchange
            .person_copies(rig.smtp(0), &copy.id, None)
            .unwrap();
        if edited {
            let edit = CopyEdit {
                subject: Some("My version".into()),
                ..CopyEdit::default()
            };
            rig.farm
                .exchange
                .person_edits(rig.smtp(0), &twin.id, edit)
                .unwrap();
        }
        rig.cycle(0).await;
        assert_eq!(rig.copy(0, list, item).id, copy.id, "the linked item stays");
        rig.calm().await;
    }
    let items = rig.farm.exchange.items(rig.smtp(0));
    let own = items.iter().find(|item| item.subject == "My version").unwrap();
    assert!(!own.in_deleted_items && !own.named.contains_key("TaskSyncSourceKey"));
}

/// A private copy keeps its words; a recurring one its dates and progress.
#[tokio::test]
async fn private_and_recurring_items_keep_what_is_their_own() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let private = CopyEdit {
        subject: Some("Secret words".into()),
        importance: Some("High".into()),
        sensitivity: Some("Private".into()),
        ..CopyEdit::default()
    };
    rig.edit_copy(0, list, items[0], private);
    let recurring = CopyEdit {
        is_recurring: Some(true),
        percent: Some(50.0),
        ..CopyEdit::default()
    };
    rig.edit_copy(0, list, items[1], recurring);
    rig.cycle(0).await;
    let original = rig.original(list, items[0]);
    assert_eq!((original.title.as_str(), original.priority), ("Task 0", 1));
    assert!(rig.original(list, items[1]).percent.abs() < 0.001);
    rig.silent().await;
}
