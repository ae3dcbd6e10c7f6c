//! Actions of people in Outlook on folders and items, apart from edits.

use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;

use crate::rig::Rig;

/// A person who deletes our folder only tidies up. This deletes no task: the folder and its copies come back.
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
    rig.assert_settled().await;
}

/// A person may choose the name of a folder. It stays until the list is renamed.
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
    rig.assert_settled().await;
    assert_eq!(rig.our_folders(0).pop().unwrap().display_name, "My work");
}

/// An item that is moved to another of our folders still represents the same task, for edits and deletions there.
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
    rig.assert_settled().await;
    rig.retitle_copy(0, list, items[0], "Edited there");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[0]).title, "Edited there");
    rig.retitle_original(list, items[0], "Edited at home");
    rig.cycle(0).await;
    rig.assert_settled().await;
    // The folder that it came from is deleted: the moved item is not created a second time.
    rig.farm
        .exchange
        .person_deletes_folder(rig.smtp(0), &home)
        .unwrap();
    rig.pass_time(jiff::SignedDuration::from_hours(7));
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.delete_copy(0, list, items[0]);
    rig.cycle(0).await;
    assert!(rig.original(list, items[0]).recycled);
    rig.assert_settled().await;
}

/// An item that is moved to the person's own tasks is not deleted. It stays linked wherever it is, until it is
/// deleted.
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
    rig.assert_sides_agree();
    // The signs of that folder are not watched, so the user is never idle. Edits still travel in both directions.
    rig.retitle_copy(0, list, items[0], "Edited in my tasks");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Edited in my tasks");
    rig.retitle_original(list, items[0], "Edited by a colleague");
    rig.cycle(0).await.report();
    rig.assert_sides_agree();
    let before = rig.writes();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    // The saved state is lost: the item is found there again and not created anew.
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    rig.assert_sides_agree();
    // Moved back: idle again.
    moved(&home);
    rig.cycle(0).await;
    rig.assert_settled().await;
    // Moved away again, and deleted there.
    moved(&own);
    rig.cycle(0).await;
    rig.delete_copy(0, list, items[0]);
    let report = rig.cycle(0).await.report();
    assert_eq!(report.source_writes, 1);
    assert!(rig.original(list, items[0]).recycled);
    rig.assert_settled().await;
}

/// A task folder may be anywhere in the mailbox. A copy that a person moves to one stays linked. A folder in Deleted
/// Items does not count.
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
    rig.assert_sides_agree();
    rig.retitle_copy(0, list, items[1], "Edited far away");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[1]).title, "Edited far away");
    rig.farm
        .exchange
        .person_deletes_folder(rig.smtp(0), &beside)
        .unwrap();
    rig.cycle(0).await;
    rig.assert_sides_agree();
}

/// A moved item is removed if its task is removed at the source. A move together with an edit is an edit.
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
    rig.assert_settled().await;
}

/// A second copy of a task becomes the person's own if it differs, and is removed if it does not: one task has one
/// linked item.
#[tokio::test]
async fn of_several_copies_one_represents_the_task() {
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
        rig.assert_settled().await;
    }
    let items = rig.farm.exchange.items(rig.smtp(0));
    let own = items.iter().find(|item| item.subject == "My version").unwrap();
    assert!(!own.in_deleted_items && !own.named.contains_key("TaskSyncSourceKey"));
}

/// A private copy keeps its text. A recurring copy keeps its dates and progress.
#[tokio::test]
async fn private_items_keep_their_text_and_recurring_ones_their_dates() {
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
    rig.assert_no_more_writes().await;
}
